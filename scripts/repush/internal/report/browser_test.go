package report

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// browser is a headless Chromium that is driven over its DevTools protocol, on a pipe
// (source: chromedevtools.github.io, flag --remote-debugging-pipe: messages end with a
// NUL, it reads from descriptor 3 and writes to 4).
type browser struct {
	t       testing.TB
	in      *os.File
	out     *bufio.Reader
	last    int
	session string
	events  []devtools
}

type devtools struct {
	ID     int
	Method string
	Params json.RawMessage
	Result json.RawMessage
	Error  *struct{ Message string }
}

// startBrowser opens an empty page. The browser ends with the test.
func startBrowser(t testing.TB) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		path, err = exec.LookPath("chromium-browser")
	}
	if err != nil {
		if os.Getenv("TEST_REQUIRE") == "all" {
			t.Fatal("needs Chromium: apt-get install chromium")
		}
		t.Skip("needs Chromium: apt-get install chromium")
	}
	home := t.TempDir()
	theirIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
		"--remote-debugging-pipe", "--user-data-dir="+home, "about:blank")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_CONFIG_HOME=" + home, "XDG_CACHE_HOME=" + home}
	cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		_, _ = in.Close(), out.Close()
	})
	_, _ = theirIn.Close(), theirOut.Close()
	_ = out.SetReadDeadline(time.Now().Add(2 * time.Minute))
	b := &browser{t: t, in: in, out: bufio.NewReader(out)}
	var target struct{ TargetID, SessionID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	b.session = target.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.call(domain+".enable", nil, nil)
	}
	return b
}

// call waits for the answer and keeps what comes in between.
func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	b.last++
	message := map[string]any{"id": b.last, "method": method}
	if b.session != "" && !strings.HasPrefix(method, "Browser.") {
		message["sessionId"] = b.session
	}
	if params != nil {
		message["params"] = params
	}
	raw, err := json.Marshal(message)
	if err == nil {
		_, err = b.in.Write(append(raw, 0))
	}
	if err != nil {
		b.t.Fatal(err)
	}
	for {
		got := b.read()
		if got.ID != b.last {
			continue
		}
		if got.Error != nil {
			b.t.Fatalf("%s: %s", method, got.Error.Message)
		}
		if result != nil {
			if err := json.Unmarshal(got.Result, result); err != nil {
				b.t.Fatalf("%s: %v in %s", method, err, got.Result)
			}
		}
		return
	}
}

func (b *browser) read() (got devtools) {
	b.t.Helper()
	raw, err := b.out.ReadBytes(0)
	if err == nil {
		err = json.Unmarshal(bytes.TrimSuffix(raw, []byte{0}), &got)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	if got.Method != "" {
		b.events = append(b.events, got)
	}
	return got
}

// await returns the next event of this name, from those that came before first.
func (b *browser) await(method string) json.RawMessage {
	b.t.Helper()
	for {
		for i, e := range b.events {
			if e.Method == method {
				b.events = append(b.events[:i], b.events[i+1:]...)
				return e.Params
			}
		}
		b.read()
	}
}

// open shows a page of this size.
func (b *browser) open(path string, width, height int, scheme string, script bool) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 800}, nil)
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	b.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": !script}, nil)
	b.call("Page.navigate", map[string]any{"url": (&url.URL{Scheme: "file", Path: path}).String()}, nil)
	b.await("Page.loadEventFired")
}

// value is what an expression is in the page, as text.
func (b *browser) value(expression string) string {
	b.t.Helper()
	var got struct {
		Result           struct{ Value any }
		ExceptionDetails any
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &got)
	if got.ExceptionDetails != nil {
		b.t.Fatalf("%s: %v", expression, got.ExceptionDetails)
	}
	return fmt.Sprint(got.Result.Value)
}

// shoot writes a screenshot.
func (b *browser) shoot(path string) {
	b.t.Helper()
	var shot struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"format": "png"}, &shot)
	raw, err := base64.StdEncoding.DecodeString(shot.Data)
	if err == nil {
		err = os.WriteFile(path, raw, 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// complaints are console output, errors, violations of the policy, and requests for
// anything but the page.
func (b *browser) complaints(page string) (all []string) {
	for _, e := range b.events {
		var request struct{ Request struct{ URL string } }
		_ = json.Unmarshal(e.Params, &request)
		switch e.Method {
		case "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded":
			all = append(all, string(e.Params))
		case "Network.requestWillBeSent":
			if request.Request.URL != "file://"+page && request.Request.URL != "about:blank" {
				all = append(all, "request for "+request.Request.URL)
			}
		}
	}
	return all
}

// written is a report in a file.
func written(t testing.TB, input string) string {
	t.Helper()
	var results Results
	if err := results.Read(strings.NewReader(input), "results"); err != nil {
		t.Fatal(err)
	}
	var page bytes.Buffer
	if err := New(&results, Options{Title: "Group GID_billing, operation op-7", Now: began}).WriteHTML(&page); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(path, page.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
