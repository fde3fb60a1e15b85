// Fetches the page again every few seconds and replaces what has changed. The
// focus and open details stay.
"use strict";

const every = 5000; // ms
const patience = 4000;
const pause = document.getElementById("pause");
const announce = document.getElementById("announce");
let paused = false;
let headline = document.getElementById("headline").textContent;
let lost = false;

function say(text) { announce.textContent = text; }

async function update() {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), patience);
  try {
    const answer = await fetch("/", { signal: abort.signal, credentials: "omit" });
    if (!answer.ok) throw new Error(answer.statusText);
    show(new DOMParser().parseFromString(await answer.text(), "text/html"));
    lost = false;
  } catch {
    if (!lost) {
      lost = true;
      document.getElementById("fresh").textContent = "The relay does not answer: this page is out of date";
      document.title = "No answer – qkdmail relay";
      say("The relay does not answer. This page is out of date.");
    }
  } finally {
    clearTimeout(timer);
  }
}

function show(page) {
  for (const old of document.querySelectorAll("[data-live]")) {
    const fresh = page.getElementById(old.id);
    if (fresh && fresh.innerHTML !== old.innerHTML) old.replaceChildren(...fresh.childNodes);
  }
  document.title = page.title;
  const now = document.getElementById("headline").textContent;
  if (now !== headline) say(now); // only a new headline is read out
  headline = now;
}

pause.hidden = false;
pause.addEventListener("click", () => {
  paused = !paused;
  pause.setAttribute("aria-pressed", String(paused));
  if (!paused) update();
});

async function live() {
  if (!paused && !document.hidden) await update();
  setTimeout(live, every);
}
setTimeout(live, every);
document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) update(); });
