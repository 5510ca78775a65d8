package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/infra/local/onsd"
)

// TestFunctionErrorsAreInDoubt: a function that ended in the middle may have pushed. Only
// one that says that it gave the request back is asked again by the same run.
func TestFunctionErrorsAreInDoubt(t *testing.T) {
	for name, test := range map[string]struct {
		body  string
		says  string
		calls int32
	}{
		"timed out":  {`{"errorMessage":"Function timed out after 60 seconds"}`, "1 in doubt", 1},
		"panicked":   {`{"errorMessage":"internal error","errorType":"Panic"}`, "1 in doubt", 1},
		"no JSON":    {`killed`, "1 in doubt", 1},
		"given back": {`{"errorMessage":"1 deferred","errorType":"GivenBack"}`, "1 not asked for, or given back", 2},
	} {
		t.Run(name, func(t *testing.T) {
			withKeys(t, testKey, testSecret, testToken, "ALIBABA_CLOUD_ACCOUNT_ID=123456789012")
			var calls atomic.Int32
			p := startPlatform(t, func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				w.Header().Set("X-Fc-Error-Type", "FunctionTimeout")
				fmt.Fprint(w, test.body)
			})
			status, stdout, stderr := repush(t.Context(), "", injecting(csvOf(t, []string{"C0000000000000000000000000000001"}),
				"--to", "fc://repush", "--endpoint", p.URL, "--go", "--wait", "900ms")...)
			if n := calls.Load(); status == exitDone || !strings.Contains(stdout, test.says) || n < test.calls || test.calls == 1 && n > 1 {
				t.Errorf("status %d, %d calls\n%s\n%s", status, n, stdout, stderr)
			}
		})
	}
}

// TestPageInBetween: a login page that answers 200 to everything has taken nothing.
func TestPageInBetween(t *testing.T) {
	withKeys(t, "", "", "")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>please log in</html>") }))
	defer server.Close()
	status, stdout, stderr := repush(t.Context(), "", injecting(csvOf(t, []string{"C0000000000000000000000000000001"}), "--to", server.URL, "--go")...)
	if status == exitDone || strings.Contains(stdout, "handed over") || !strings.Contains(stderr, "is not that of functions/repush") {
		t.Errorf("status %d\n%s\n%s", status, stdout, stderr)
	}
}

// TestQPSOfALocalRun is what was typed.
func TestQPSOfALocalRun(t *testing.T) {
	api, ids := crowd(t, 6, onsd.Quota{Kind: "none"}, onsd.Client{})
	began := time.Now()
	status, _, stderr := repush(t.Context(), "", injecting(csvOf(t, ids), "--to", "local", "--ons", api.URL, "--bin", built(t), "--go", "--qps", "2")...)
	calls := api.Calls("OnsMessagePush").List
	if len(calls) != 6 || status != exitDone || calls[5].At.Sub(calls[0].At) < 2400*time.Millisecond {
		t.Errorf("status %d, %d calls in %s\n%s", status, len(calls), time.Since(began), stderr)
	}
}

// TestLocalFunctionDies in the middle: that is said, and the run goes on by resume.
func TestLocalFunctionDies(t *testing.T) {
	api, ids := crowd(t, 40, onsd.Quota{Kind: "none"}, onsd.Client{})
	pid := filepath.Join(t.TempDir(), "pid")
	bin := fileOf(t, "function", fmt.Sprintf("#!/bin/sh\n%s &\necho $! >%s\nwait $!\n", built(t), pid))
	if err := os.Chmod(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	go func() {
		for api.Deliveries().Total < 5 && pause(t.Context(), 5*time.Millisecond) {
		}
		raw, _ := os.ReadFile(pid)
		if n, err := strconv.Atoi(strings.TrimSpace(string(raw))); err == nil {
			if p, err := os.FindProcess(n); err == nil {
				_ = p.Kill()
			}
		}
	}()
	t.Setenv("REPUSH_PUSH_TIMEOUT", "2s") // leases end soon
	status, stdout, stderr := repush(t.Context(), "", injecting(csvOf(t, ids), "--to", "local", "--ons", api.URL, "--bin", bin, "--go", "--yes")...)
	if status != exitPartial || !strings.Contains(stderr, "repush: the function on this machine ended") {
		t.Errorf("status %d\n%s\n%s", status, stdout, stderr)
	}
	status, stdout, stderr = repush(t.Context(), "", "resume", stateOf(t, stdout), "--bin", built(t))
	if d := api.Deliveries(); status == exitFailed || d.Total != len(d.ByMessage) || strings.Contains(stdout, "go on with") {
		t.Errorf("status %d, %d deliveries\n%s\n%s", status, d.Total, stdout, stderr)
	}
}

// TestTwoTerminals: while one person is asked, another begins with the same file.
func TestTwoTerminals(t *testing.T) {
	api, ids := crowd(t, 30, onsd.Quota{Kind: "none"}, onsd.Client{Latency: onsd.Latency{Delay: 2 * time.Second}})
	url := deployed(t, api, "REPUSH_QPS=100")
	file := csvOf(t, ids)
	s := atTerminal(t, 120, nil, injecting(file, "--to", url, "--go")...)
	s.UntilText("[y/N]")
	other := selfCommand(injecting(file, "--to", url, "--go", "--yes")...)
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Wait() }()
	for deadline := time.Now().Add(20 * time.Second); api.Deliveries().Total == 0; {
		if !pause(t.Context(), 10*time.Millisecond) || time.Now().After(deadline) {
			t.Fatal("the other one does not push")
		}
	}
	s.Send("y\n")
	if screen := endsWith(t, s, exitFailed); !strings.Contains(screen, "right now") {
		t.Errorf("%s", screen)
	}
	_ = other.Wait()
	once(t, api, ids, onlyRun(t))
}

// TestStalledReader: outcomes that nobody reads hold neither the run nor its interrupt
// up.
func TestStalledReader(t *testing.T) {
	api, ids := crowd(t, 3000, onsd.Quota{Kind: "none"}, onsd.Client{})
	url := deployed(t, api, "REPUSH_QPS=2000")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := selfCommand(injecting(csvOf(t, ids), "--to", url, "--go", "--yes", "--qps", "2000", "--json")...)
	var said buffer
	cmd.Stdout, cmd.Stderr = w, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	for deadline := time.Now().Add(time.Minute); api.Deliveries().Total < len(ids); {
		if !pause(t.Context(), 10*time.Millisecond) || time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			t.Fatalf("%d of %d were pushed while nobody reads", api.Deliveries().Total, len(ids))
		}
	}
	for range 2 {
		_ = cmd.Process.Signal(os.Interrupt)
		pause(t.Context(), 200*time.Millisecond)
	}
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		_ = cmd.Process.Kill()
		t.Fatalf("two interrupts do not end it\n%s", said.String())
	}
}

// TestFullDisk: outcomes that cannot be printed are no success.
func TestFullDisk(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("there is no /dev/full: use Linux")
	}
	defer full.Close()
	api, ids := crowd(t, 5, onsd.Quota{Kind: "none"}, onsd.Client{})
	cmd := selfCommand(injecting(csvOf(t, ids), "--to", deployed(t, api), "--go", "--json")...)
	var said buffer
	cmd.Stdout, cmd.Stderr = full, &said
	_ = cmd.Run()
	if cmd.ProcessState.ExitCode() != exitPartial || !strings.Contains(said.String(), "cannot be printed") || api.Deliveries().Total != 5 {
		t.Errorf("%s, %d deliveries\n%s", cmd.ProcessState, api.Deliveries().Total, said.String())
	}
}

// TestInterruptWhileReading ends a command whose input does not come.
func TestInterruptWhileReading(t *testing.T) {
	withKeys(t, "", "", "")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	cmd := selfCommand(injecting("-", "--to", "https://repush.example", "--go")...)
	cmd.Stdin = r
	var said buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	for deadline := time.After(10 * time.Second); ; {
		_ = cmd.Process.Signal(syscall.SIGINT)
		select {
		case <-ended:
			return
		case <-time.After(100 * time.Millisecond):
		case <-deadline:
			_ = cmd.Process.Kill()
			t.Fatalf("it does not end\n%s", said.String())
		}
	}
}
