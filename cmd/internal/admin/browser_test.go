package admin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/qkdmail/qkdmail/kmclient"
	"github.com/qkdmail/qkdmail/mailer"
)

// A browser is a tab of a real one. Anything written to its console fails the
// test, unless it is expected: a page that obeys its Content-Security-Policy
// writes nothing.
type browser struct {
	*testing.T
	ctx context.Context
}

func newBrowser(t *testing.T, expected ...string) *browser {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED: -short starts no browser")
	}
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			program = found
			break
		}
	}
	if program == "" {
		t.Skip("SKIPPED: chromium is not installed: no browser to test the status page in")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.UserDataDir(t.TempDir()))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // root can't have one
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	b := &browser{T: t, ctx: ctx}
	messages := chromedp.Console(ctx)
	quiet := make(chan struct{})
	go func() {
		defer close(quiet)
		for m, err := range messages {
			if err != nil {
				return
			}
			if !slices.ContainsFunc(expected, func(e string) bool { return strings.Contains(m.Text, e) }) {
				t.Errorf("the console says: %s (%s:%d)", m, m.URL, m.Line+1)
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-quiet })
	b.do(chromedp.Navigate("about:blank")) // starts it
	return b
}

func (b *browser) do(steps ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	if err := chromedp.Do(b.ctx, steps...); err != nil {
		b.Fatal(err)
	}
}

// eval returns the value of an expression on the page.
func eval[T any](b *browser, expression string) T {
	b.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.Fatalf("%s: %v", expression, err)
	}
	return v
}

// open shows a page in a window of this width, in the light or dark scheme.
func (b *browser) open(url string, width int64, scheme string) {
	b.Helper()
	b.do(chromedp.EmulateViewport(width, 800), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		return err
	}), chromedp.Navigate(url))
	b.Cleanup(func() { b.do(chromedp.Navigate("about:blank")) }) // before the server ends
	if dark := eval[bool](b, `matchMedia("(prefers-color-scheme: dark)").matches`); dark != (scheme == "dark") {
		b.Fatalf("the scheme is not %s", scheme)
	}
}

// The states in which the page is checked.
func pageStates() map[string]func(*rig) {
	return map[string]func(*rig){
		"healthy": func(r *rig) { r.aDay(120) },
		"keys-running-out": func(r *rig) {
			r.aDay(3000)
			r.Message(report(mailer.DirectionEncrypt, "site-c", mailer.OutcomeDeferred, "no key left"))
		},
		"km-down": func(r *rig) {
			r.aDay(120)
			r.set(func() {
				r.down = fmt.Errorf("status: %w: dial tcp 192.0.2.7:8443: connection refused", kmclient.ErrUnavailable)
			})
			for range 7 {
				r.Message(report(mailer.DirectionEncrypt, "site-b", mailer.OutcomeDeferred, "km unavailable"))
				r.pass(9 * time.Second)
			}
			r.check(context.Background())
		},
		"attack": func(r *rig) {
			r.aDay(120)
			r.set(func() { r.store.BoundRefused, r.store.ClosedRefused = 3, 1 })
			for _, reason := range []string{"key bound", "key bound", "key bound", "key closed", "not encrypted", "redirected", "redirected"} {
				r.Message(report(mailer.DirectionDecrypt, "site-b", mailer.OutcomeRefused, reason))
				r.pass(2 * time.Second)
			}
			r.note()
		},
	}
}

// TestBrowser checks the page in each state, in both schemes, on a desktop and on
// a phone. QKDMAIL_SCREENSHOTS names a folder for screenshots.
func TestBrowser(t *testing.T) {
	b := newBrowser(t)
	folder := os.Getenv("QKDMAIL_SCREENSHOTS")
	if folder == "" {
		folder = t.TempDir()
	}
	for name, make := range pageStates() {
		r := newRig(t)
		make(r)
		url := serve(t, r.Handler(), ServeOptions{})
		for _, width := range []int64{1280, 360} {
			for _, scheme := range []string{"light", "dark"} {
				t.Run(fmt.Sprintf("%s-%d-%s", name, width, scheme), func(t *testing.T) {
					b := &browser{T: t, ctx: b.ctx}
					b.open(url+"/", width, scheme)
					for _, open := range []bool{false, true} {
						b.fits(width)
						b.contrasts()
						file := fmt.Sprintf("%s-%d-%s.png", name, width, scheme)
						if open {
							file = "open-" + file
						}
						b.shoot(filepath.Join(folder, file))
						eval[int](b, `document.querySelectorAll("details").forEach(d => d.open = true), 0`)
					}
				})
			}
		}
	}
}

// shoot saves a screenshot.
func (b *browser) shoot(file string) {
	b.Helper()
	picture, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(file, picture, 0o600); err != nil {
		b.Fatal(err)
	}
}

// fits checks that nothing is wider than the window.
func (b *browser) fits(width int64) {
	b.Helper()
	wide := eval[[]string](b, `[...document.querySelectorAll("body, body *")].filter(e => !e.closest(".vh, .skip, thead") &&
		(e.getBoundingClientRect().right > innerWidth + .5 || e.getBoundingClientRect().left < -.5)).map(e => e.tagName + "." + e.className + " " + e.textContent.trim().slice(0, 40))`)
	if len(wide) > 0 {
		b.Errorf("wider than %d: %q", width, wide)
	}
	if scrolls := eval[int64](b, `document.scrollingElement.scrollWidth`); scrolls > width {
		b.Errorf("the page scrolls to %d in a window of %d", scrolls, width)
	}
}

// contrasts checks that each text has a contrast of 4.5:1 with its background
// (WCAG 2.2, 1.4.3), or 3:1 for large text.
func (b *browser) contrasts() {
	b.Helper()
	const script = `(() => {
		const rgba = c => { const m = c.match(/[\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
		const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
		const ground = e => {
			let layers = [];
			for (; e; e = e.parentElement) layers.unshift(rgba(getComputedStyle(e).backgroundColor));
			return layers.reduce((under, top) => over(top, under), [255, 255, 255, 1]);
		};
		const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
		let seen = 0, bad = [];
		const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
		while (walk.nextNode()) {
			const text = walk.currentNode.textContent.trim(), e = walk.currentNode.parentElement;
			if (!text || e.closest(".vh, noscript, script") || !e.getClientRects().length) continue;
			const style = getComputedStyle(e), under = ground(e), ink = over(rgba(style.color), under);
			const [hi, lo] = [light(ink), light(under)].sort((a, b) => b - a);
			const ratio = (hi + .05) / (lo + .05), size = parseFloat(style.fontSize);
			const large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
			seen++;
			if (ratio < (large ? 3 : 4.5)) bad.push(ratio.toFixed(2) + " " + e.tagName + "." + e.className + " " + text.slice(0, 40));
		}
		return [String(seen), ...bad];
	})()`
	found := eval[[]string](b, script)
	if n := found[0]; len(n) < 2 { // fewer than ten texts
		b.Errorf("only %s texts were looked at", n)
	}
	for _, bad := range found[1:] {
		b.Errorf("too little contrast: %s", bad)
	}
}

// TestBrowserKeyboard goes through the page with the Tab key: it reaches every
// control, in the order of the page, and the focus is visible.
func TestBrowserKeyboard(t *testing.T) {
	b := newBrowser(t)
	r := newRig(t)
	r.aDay(120)
	b.open(serve(t, r.Handler(), ServeOptions{})+"/", 1280, "light")
	const name = `(e => e.tagName + " " + (e.getAttribute("href") || e.id || e.textContent.trim().slice(0, 30)))`
	want := eval[[]string](b, `[...document.querySelectorAll("a[href], button:not([hidden]), summary")].map(`+name+`)`)
	var got []string
	for range len(want) {
		b.do(chromedp.KeyEvent(kb.Tab))
		got = append(got, eval[string](b, name+`(document.activeElement)`))
		seen := eval[string](b, `(() => { const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();
			if (s.outlineStyle == "none" || parseFloat(s.outlineWidth) < 2) return "has no outline";
			if (r.bottom <= 0 || r.top >= innerHeight || r.right <= 0) return "is out of sight";
			return ""; })()`)
		if seen != "" {
			b.Errorf("%s has the focus and %s", got[len(got)-1], seen)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("Tab reaches\n%q, want\n%q", got, want)
	}
	for _, landmark := range []string{"header", "main", "footer", "nav[aria-label]", "h1", "[role=status]"} {
		if n := eval[int](b, `document.querySelectorAll("`+landmark+`").length`); n != 1 {
			t.Errorf("%d of %s, want 1", n, landmark)
		}
	}
	if bad := eval[[]string](b, `[...document.querySelectorAll("table")].filter(t => !t.caption && !t.getAttribute("aria-labelledby")).map(t => t.outerHTML.slice(0, 80))`); len(bad) > 0 {
		t.Errorf("tables without a name: %q", bad)
	}
	if bad := eval[[]string](b, `[...document.querySelectorAll("th")].filter(h => !h.scope).map(h => h.textContent)`); len(bad) > 0 {
		t.Errorf("headings of tables without a scope: %q", bad)
	}
	if levels := eval[string](b, `[...document.querySelectorAll("h1, h2, h3")].map(h => h.tagName[1]).join("")`); strings.Contains(levels, "13") || !strings.HasPrefix(levels, "1") {
		t.Errorf("levels of the headings: %s", levels)
	}
}

// TestBrowserLive changes what is watched while the page is open.
func TestBrowserLive(t *testing.T) {
	b := newBrowser(t)
	r := newRig(t)
	r.aDay(120)
	b.open(serve(t, r.Handler(), ServeOptions{})+"/", 1280, "light")
	b.waitFor(`document.getElementById("headline").textContent == "Mail flows"`)
	eval[int](b, `document.querySelector("#hour + details").open = true, document.querySelector("#hour + details summary").focus(), 0`)
	r.set(func() { r.down = kmclient.ErrUnavailable })
	r.check(t.Context())
	b.waitFor(`document.getElementById("headline").textContent == "Mail waits" && document.title.startsWith("Mail waits")`)
	b.waitFor(`document.getElementById("announce").textContent == "Mail waits"`)
	if !eval[bool](b, `document.querySelector("#hour + details").open && document.activeElement.tagName == "SUMMARY"`) {
		t.Error("an update has closed the details, or taken the focus")
	}
	// A paused page asks for nothing, not even when it comes to the front.
	const front = `document.dispatchEvent(new Event("visibilitychange"))`
	eval[int](b, `window.asked = 0, window.really = fetch, window.fetch = (...a) => { asked++; return really(...a); }, document.getElementById("pause").click(), 0`)
	if got := eval[string](b, `document.getElementById("pause").getAttribute("aria-pressed")`); got != "true" {
		t.Errorf("paused, aria-pressed is %s", got)
	}
	r.set(func() { r.down = nil })
	r.check(t.Context())
	if n := eval[int](b, front+`, asked`); n != 0 {
		t.Errorf("paused, the page asks %d times", n)
	}
	eval[int](b, `document.getElementById("pause").click(), 0`)
	b.waitFor(`asked > 0 && document.getElementById("headline").textContent == "Mail flows"`)
	if n := eval[int](b, front+`, asked`); n < 2 {
		t.Error("a page that comes to the front waits for its next update")
	}
}

// TestBrowserLost: when the relay is gone, the page says that it is out of date.
func TestBrowserLost(t *testing.T) {
	b := newBrowser(t, "net::ERR_CONNECTION_REFUSED")
	r := newRig(t)
	r.aDay(120)
	t.Run("served", func(t *testing.T) { b.open(serve(t, r.Handler(), ServeOptions{})+"/", 1280, "light") })
	b.waitFor(`document.title.startsWith("No answer") && document.getElementById("announce").textContent.includes("does not answer")`)
}

// waitFor waits until an expression is true.
func (b *browser) waitFor(expression string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression))
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			b.Fatal(err)
		}
		if ok {
			return
		}
		select {
		case <-ctx.Done():
			b.Fatalf("it never became true: %s", expression)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// TestBrowserWithoutScript: everything is there without JavaScript too.
func TestBrowserWithoutScript(t *testing.T) {
	b := newBrowser(t)
	r := newRig(t)
	r.aDay(120)
	b.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}))
	b.open(serve(t, r.Handler(), ServeOptions{})+"/", 1280, "light")
	text := eval[string](b, `document.body.innerText`)
	for _, want := range []string{"Mail flows", "site-b", "reload the page"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(text, "Pause updates") {
		t.Error("there is a button that does nothing")
	}
}
