package main

import (
	"bufio"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/qkdmail/qkdmail/cmd/internal/kmsim"
	"github.com/qkdmail/qkdmail/cmd/internal/messagecmd"
	"github.com/qkdmail/qkdmail/cmd/internal/terminal"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"qkdmail": main})
}

// TestScripts runs the program as a user would, script by script.
func TestScripts(t *testing.T) {
	dir := filepath.Join("testdata", "script")
	scripts, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil || len(scripts) < 8 {
		t.Fatalf("%d scripts in %s, %v; want more", len(scripts), dir, err)
	}
	testscript.Run(t, params(dir))
}

// params returns the parameters for the scripts in a folder.
func params(dir string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		Setup:               keyManagers,
		RequireExplicitExec: true,
		Condition: func(name string) (bool, error) {
			if name != "root" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			return os.Getuid() == 0, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits,
			"flip":  flip,
			"cut":   cut,
			"mode":  mode,
			"serve": serveKM,
			"stops": stops,
			"big":   big,
			"form":  form,

			"keyid":   keyID,
			"deliver": deliver,
			"receive": receive,
			"sql":     runSQL,
			"spoil":   spoil,
		},
	}
}

// keyManagers starts key managers for a script. KM_HTTP and KM_HTTPS, whose CA is in $CA,
// work; the others are down or empty, refuse the client, hand out one key again and
// again, or answer nonsense.
func keyManagers(e *testscript.Env) error {
	km, err := kmsim.NewQMail(kmsim.Options{})
	if err != nil {
		return err
	}
	answer := func(status int, contentType, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		})
	}
	for name, h := range map[string]http.Handler{
		"KM_HTTP":    km,
		"KM_CUT":     cutAfter(km, 1),
		"KM_KEEPS":   keepsSecond(km),
		"KM_DOWN":    answer(503, "text/html", "<html>maintenance</html>"),
		"KM_EMPTY":   answer(503, "application/json", `{"message":"no more keys available"}`),
		"KM_FEW":     answer(400, "application/json", `{"message":"The requested key amount exceeds the generated key count. Try again later."}`),
		"KM_LIMIT":   answer(400, "application/json", `{"message":"number exceeds the maximum per request","details":[{"key":"q83vEjRWeJCrze8SNFZ4kA=="}]}`),
		"KM_AGAIN":   answer(200, "application/json", `{"keys":[{"key_ID":"again","key":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}]}`),
		"KM_REFUSES": answer(401, "text/html", "<html>who are you?</html>"),
		"KM_REAL":    answer(200, "application/json", `{"status":"operational","qkd_link_status":"active","available_keys":1523,"queue_length":42}`),
		"KM_LINK":    answer(200, "application/json", `{"status":"Operational","qkd_link_status":"Standby","available_keys":0}`),
		"KM_SILENT":  answer(200, "application/json", `{}`),
		"KM_HTML":    answer(200, "text/html", "<html>hello</html>"),
	} {
		s := httptest.NewServer(h)
		e.Defer(s.Close)
		e.Setenv(name, s.URL)
	}
	s := httptest.NewTLSServer(km)
	e.Defer(s.Close)
	e.Setenv("KM_HTTPS", s.URL)
	e.Setenv("LONG", strings.Repeat("x", 250))
	e.Setenv("STORE_KEY", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
	e.Setenv("XDG_STATE_HOME", filepath.Join(e.WorkDir, "state"))
	e.Setenv("CA", filepath.Join(e.WorkDir, "ca.pem"))
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return os.WriteFile(filepath.Join(e.WorkDir, "ca.pem"), ca, 0o600)
}

// serveKM runs "qkdmail km serve" in the background until the script ends, and puts the
// URL of each key manager NAME into $URL_NAME.
func serveKM(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("usage: serve ARGUMENTS…")
	}
	program := filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], "qkdmail")
	cmd := exec.Command(program, append([]string{"km", "serve"}, args...)...)
	cmd.Dir = ts.MkAbs(".")
	stderr, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	stopped := make(chan error, 1)
	ts.Defer(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := <-stopped; err != nil {
			ts.Logf("km serve: %v", err)
		}
	})
	lines := bufio.NewScanner(stderr)
	want := 1
	if slices.Contains(args, "etsi014") {
		want = 2 // KMEs
	}
	for want > 0 && lines.Scan() {
		if m := regexp.MustCompile(`^simulated key manager (.+) at (https?://\S+)`).FindStringSubmatch(lines.Text()); m != nil {
			ts.Setenv("URL_"+strings.Fields(m[1])[0], m[2])
			want--
		} else {
			ts.Logf("km serve: %s", lines.Text())
		}
	}
	go func() {
		for lines.Scan() { // the access log
		}
		stopped <- cmd.Wait()
	}()
	if want > 0 {
		ts.Fatalf("km serve did not start")
	}
}

// cutAfter returns a key manager that hangs up once it has found n keys.
func cutAfter(km http.Handler, n int32) http.Handler {
	var found atomic.Int32
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && !strings.HasSuffix(r.URL.Path, "/status") && found.Add(1) > n {
			panic(http.ErrAbortHandler)
		}
		km.ServeHTTP(w, r)
	})
}

// keepsSecond returns a key manager that fails to close the second key.
func keepsSecond(km http.Handler) http.Handler {
	var closed atomic.Int32
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodDelete && closed.Add(1) == 2 {
			http.Error(w, "no", http.StatusInternalServerError)
			return
		}
		km.ServeHTTP(w, r)
	})
}

// exits CODE COMMAND… checks the exit code of a command.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// flip FILE flips a bit in the middle of the payload of a message.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: flip FILE")
	}
	path := ts.MkAbs(args[0])
	b, err := os.ReadFile(path)
	ts.Check(err)
	ts.Check(os.WriteFile(path, messagecmd.FlipPayloadBit(b), 0o600))
}

// cut FILE BYTES removes bytes from the end of a file.
func cut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: cut FILE BYTES")
	}
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), info.Size()-n))
}

// stops [-hup] COMMAND… runs a command with a silent standard input and a standard output
// that is not read, sends it SIGTERM or SIGHUP, and checks that it exits with 75.
func stops(ts *testscript.TestScript, neg bool, args []string) {
	sig := syscall.SIGTERM
	if len(args) > 0 && args[0] == "-hup" {
		sig, args = syscall.SIGHUP, args[1:]
	}
	if neg || len(args) < 1 {
		ts.Fatalf("usage: stops [-hup] COMMAND…")
	}
	// Under nohup the program would inherit the ignored SIGHUP. A signal caught here gets
	// its default action there.
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, sig)
	defer signal.Stop(caught)
	cmd := exec.Command(filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], args[0]), args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	stdin, err := cmd.StdinPipe()
	ts.Check(err)
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	ts.Check(err)
	defer stdout.Close()
	ts.Check(cmd.Start())
	kill := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	waitUntilRead(stdin) // by then it has its signal handler
	ts.Check(cmd.Process.Signal(sig))
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != terminal.ExitTempFail {
		ts.Fatalf("exit code %d, want %d", code, terminal.ExitTempFail)
	}
}

// waitUntilRead writes to a pipe and waits until that is read, or for two seconds, as not
// all commands read their standard input.
func waitUntilRead(pipe io.WriteCloser) {
	_, _ = io.WriteString(pipe, "F")
	f, ok := pipe.(*os.File)
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok && unread(f) == 0 {
			return
		}
	}
}

// big FILE makes a message of 300,000 bytes.
func big(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: big FILE")
	}
	text := "From: a@example.org\n\n" + strings.Repeat("0123456789\n", 27_271)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// form TO FORM FROM converts a file to utf16 or utf16be, or to the line ends cr or crcrlf.
func form(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: form TO FORM FROM")
	}
	b, err := os.ReadFile(ts.MkAbs(args[2]))
	ts.Check(err)
	text := string(b)
	switch args[1] {
	case "utf16":
		text = "\xFF\xFE" + strings.Join(strings.Split(text, ""), "\x00") + "\x00"
	case "utf16be":
		text = "\x00" + strings.Join(strings.Split(text, ""), "\x00")
	case "cr":
		text = strings.ReplaceAll(text, "\n", "\r")
	case "crcrlf":
		text = strings.ReplaceAll(text, "\n", "\r\r\n")
	default:
		ts.Fatalf("no form %q", args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// mode MODE FILE checks the permissions of a file.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode MODE FILE")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}
