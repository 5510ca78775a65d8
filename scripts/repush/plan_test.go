package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/infra/local/onsd"
)

// planFor is a plan for the group of the sample data set.
func planFor(t *testing.T, api *standIn, more ...string) []string {
	return append([]string{"plan", "--instance", "MQ_INST_1380156306793859_BbXbx0Y4", "--group", "GID_billing", "--reason", "consumer was down",
		"--ons", api.URL, "--bin", builtPlan(t)}, more...)
}

// got is what came to a target, by the ids of the events.
type got struct {
	mu    sync.Mutex
	times map[string]int
	by    map[string]bool // operations
}

func (g *got) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.times)
}

// requestsTarget is a receiver of requests; before is called for each, nil: nothing.
func requestsTarget(t *testing.T, before func(n int) (status int)) (url string, g *got) {
	t.Helper()
	g = &got{times: make(map[string]int), by: make(map[string]bool)}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var e events.Event
		err := json.NewDecoder(r.Body).Decode(&e)
		asked, wrong := events.DecodeRequested(e.Data)
		if err != nil || wrong != nil || asked.OperationID == "" || e.Source != events.SourcePlan {
			t.Errorf("not a request: %+v, %v, %v", e, err, wrong)
		}
		if before != nil {
			if status := before(g.count()); status != http.StatusOK {
				w.WriteHeader(status)
				return
			}
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		g.times[e.ID]++
		g.by[asked.OperationID] = true
	}))
	t.Cleanup(server.Close)
	return server.URL, g
}

func TestPlan(t *testing.T) {
	const one = "C000021112CD18B4AAC26E1A0B570001"
	file := filepath.Join(t.TempDir(), "ids")
	if err := os.WriteFile(file, []byte(one+"\n C000021112CD18B4AAC26E1A0B5E0002,\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args   []string
		env    string
		status int
		count  int
		says   string
	}{
		"dead letters":         {count: 23, says: "left out 1: origin expired: resend only"},
		"of one topic":         {args: []string{"--topic", "orders"}, count: 23, says: "may plan MQ_INST_1380156306793859_BbXbx0Y4/GID_billing/orders and nothing else"},
		"of another topic":     {args: []string{"--topic", "parcels"}, says: "no message needs a push"},
		"since an hour":        {args: []string{"--from", "1h"}, says: "no message needs a push"},
		"until an hour ago":    {args: []string{"--until", "1h"}, count: 23, says: "API calls 2 OnsDLQMessagePageQueryByGroupId"},
		"some":                 {args: []string{"--limit", "5"}, count: 5, says: "left out 18: over the limit"},
		"ids":                  {args: []string{"--source", "ids", "--topic", "orders", "--ids", one + "," + unknownMessage}, count: 1, says: "left out 1: no such message"},
		"ids of a file":        {args: []string{"--source", "ids", "--topic", "orders", "--ids", "@" + file}, count: 2, says: "GID_billing: 2 to push, by topic 2 orders"},
		"again":                {args: []string{"--again"}, status: exitUsage, says: "set REPUSH_STATE to its redis://, or use --at"},
		"unconsumed":           {args: []string{"--source", "unconsumed"}, says: "no message needs a push"},
		"a key nobody has":     {args: []string{"--source", "key", "--topic", "orders", "--keys", "k"}, status: exitPartial, says: "INCOMPLETE, there may be more: no message of topic orders has the key"},
		"not allowed":          {env: "REPUSH_ALLOW=a/b/c", status: exitFailed, says: "not on the allow-list"},
		"no permission":        {env: "denied", status: exitFailed, says: "Forbidden"},
		"without a ledger":     {args: []string{"--state", "memory"}, count: 23},
		"REPUSH_REQUESTS is":   {env: "REPUSH_REQUESTS=http://127.0.0.1:1/", count: 23, says: "dry: nothing was sent"},
		"results to a sink as": {env: "REPUSH_RESULTS=stdout", count: 23},
	} {
		t.Run(name, func(t *testing.T) {
			api := withAPI(t)
			if name, value, set := strings.Cut(test.env, "="); set {
				t.Setenv(name, value)
			} else if test.env == "denied" {
				api.SetDenied(api.data.Credentials[0].AccessKeyID, "OnsDLQMessagePageQueryByGroupId")
			}
			out := filepath.Join(t.TempDir(), "manifest.json")
			status, stdout, stderr := repush(t.Context(), "", planFor(t, api, append(test.args, "-o", out)...)...)
			if status != test.status || !strings.Contains(stdout+stderr, test.says) {
				t.Errorf("status %d, want %d and %q\n%s\n%s", status, test.status, test.says, stdout, stderr)
			}
			if p := manifestFile(t, out); p.Count != test.count || p.Count > 0 && !strings.Contains(stdout, p.SHA256) {
				t.Errorf("the manifest has %d\n%s", p.Count, stdout)
			}
			if n := api.Deliveries().Total; n > 0 || strings.Contains(stdout+stderr, api.data.Credentials[0].AccessKeySecret) {
				t.Errorf("%d deliveries, or a secret is shown:\n%s\n%s", n, stdout, stderr)
			}
			if left, _ := filepath.Glob(os.Getenv("HOME") + "/.local/state/ons-repush/plan-ledger-*"); left != nil {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// manifestFile reads and verifies what -o wrote; none is a manifest of nothing.
func manifestFile(t *testing.T, name string) (p events.Planned) {
	t.Helper()
	raw, err := os.ReadFile(name)
	if os.IsNotExist(err) {
		return p
	}
	if err != nil {
		t.Fatal(err)
	}
	if p, err = events.DecodePlanned(raw); err == nil {
		p, err = events.Manifest(p)
	}
	if err != nil {
		t.Errorf("%v in %s", err, raw)
	}
	return p
}

// TestPlanRefuses what cannot be right before anything starts.
func TestPlanRefuses(t *testing.T) {
	api := withAPI(t)
	taken := filepath.Join(t.TempDir(), "taken")
	if err := os.WriteFile(taken, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args   []string
		env    string
		status int
		says   string
	}{
		"a wrong group":         {args: []string{"--group", ""}, status: exitUsage, says: "--group: is required"},
		"a wrong source":        {args: []string{"--source", "all"}, status: exitUsage, says: "--source: must be dead-letter, unconsumed, ids or key"},
		"ids without a topic":   {args: []string{"--source", "ids", "--ids", stuckMessage}, status: exitUsage, says: "--topic: is required"},
		"ids without a source":  {args: []string{"--ids", stuckMessage}, status: exitUsage, says: "--ids: must stand with source ids"},
		"a wrong id":            {args: []string{"--source", "ids", "--topic", "orders", "--ids", stuckMessage + ",zz"}, status: exitUsage, says: "--ids 2: must be 32"},
		"no such file":          {args: []string{"--ids", "@/nonexistent"}, status: exitFailed, says: "/nonexistent"},
		"neither time nor age":  {args: []string{"--from", "yesterday"}, status: exitUsage, says: "--from: must be"},
		"the wrong way round":   {args: []string{"--from", "1h", "--until", "2h"}, status: exitUsage, says: "--from: must be before"},
		"no limit":              {args: []string{"--limit", "0"}, status: exitUsage, says: "--limit: must be"},
		"go where":              {args: []string{"--go"}, status: exitUsage, says: "--to: must be https"},
		"to a topic of its own": {args: []string{"--go", "--to", "kafka://topic"}, status: exitUsage, says: "--to: must be"},
		"a file that is there":  {args: []string{"-o", taken}, status: exitUsage, says: "exists, and no file is overwritten"},
		"no region":             {env: "REPUSH_REGION=", status: exitUsage, says: "--region"},
		"an argument":           {args: []string{"orders"}, status: exitUsage, says: "unexpected argument"},
	} {
		t.Run(name, func(t *testing.T) {
			if name, value, set := strings.Cut(test.env, "="); set {
				t.Setenv(name, value)
			}
			status, stdout, stderr := repush(t.Context(), "", planFor(t, api, test.args...)...)
			if status != test.status || !strings.Contains(stderr, test.says) || stdout != "" {
				t.Errorf("status %d, want %d and %q\n%s\n%s", status, test.status, test.says, stdout, stderr)
			}
		})
	}
	if raw, _ := os.ReadFile(taken); string(raw) != "mine" {
		t.Errorf("overwritten: %s", raw)
	}
}

// TestPlanGo: each message is asked for once, under one operation, and the settings
// name the target as well as the flag.
func TestPlanGo(t *testing.T) {
	for _, byFlag := range []bool{true, false} {
		api := withAPI(t)
		target, g := requestsTarget(t, nil)
		args := planFor(t, api, "--go", "--json")
		if byFlag {
			args = append(args, "--to", target)
		} else {
			t.Setenv("REPUSH_REQUESTS", target)
		}
		status, stdout, stderr := repush(t.Context(), "", args...)
		var said struct {
			Manifest       events.Planned
			Requests, Sent int
			Code           string
		}
		if err := json.Unmarshal([]byte(stdout), &said); err != nil || status != exitDone || said.Sent != 23 || said.Requests != 23 || said.Code != "Done" || said.Manifest.DryRun {
			t.Fatalf("status %d, %v\n%s\n%s", status, err, stdout, stderr)
		}
		for id, n := range g.times {
			if n != 1 {
				t.Errorf("%s came %d times", id, n)
			}
		}
		if len(g.times) != 23 || len(g.by) != 1 || !g.by[said.Manifest.OperationID] {
			t.Errorf("%d requests of operations %v", len(g.times), g.by)
		}
	}
}

// TestPlanEndToEnd: the function at the other end pushes them.
func TestPlanEndToEnd(t *testing.T) {
	api := withAPI(t)
	f, err := startHTTP(t.Context(), built(t), append([]string{"PATH=" + os.Getenv("PATH")}, api.env()...), &buffer{}, &buffer{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.stop()
	status, stdout, stderr := repush(t.Context(), "", planFor(t, api, "--go", "--to", f.URL)...)
	if status != exitPartial || !strings.Contains(stdout, "requests  23 handed over by this run; of these 1 unknown Unknown\n") || api.Deliveries().Total != 23 {
		t.Errorf("status %d, %d deliveries\n%s\n%s", status, api.Deliveries().Total, stdout, stderr)
	}
}

// TestPlanEndsBadly: what became of the requests is said, and is no success.
func TestPlanEndsBadly(t *testing.T) {
	for name, test := range map[string]struct {
		target func(api *standIn, g string) string
		status int
		says   []string
	}{
		"no permission any more": {func(api *standIn, target string) string {
			if err := api.AddFault(onsd.Fault{API: "OnsConsumerGetConnection", Nth: 2, Do: "error", Error: onsd.FaultError{Status: 403, Code: "Forbidden.RAM", Message: "not permitted"}}); err != nil {
				t.Fatal(err)
			}
			return target
		}, exitFailed, []string{"0 handed over", "Forbidden.RAM", "the same command plans anew"}},
		"all rejected":               {func(api *standIn, _ string) string { return deployed(t, api, "REPUSH_ALLOW=a/b/c") }, exitPartial, []string{"23 handed over by this run; of these 23 rejected NotAllowed"}},
		"what answers is not repush": {func(*standIn, string) string { return answering(t, http.StatusOK, "", `{"results":[]}`) }, exitFailed, []string{"0 requests were handed over", notRepush}},
	} {
		t.Run(name, func(t *testing.T) {
			api := withAPI(t)
			url, g := requestsTarget(t, nil)
			args := planFor(t, api, "--go", "--to", test.target(api, url))
			status, stdout, stderr := repush(t.Context(), "", args...)
			for _, says := range test.says {
				if status != test.status || !strings.Contains(stdout+stderr, says) {
					t.Errorf("status %d, want %d and %q\n%s\n%s", status, test.status, says, stdout, stderr)
				}
			}
			if !strings.HasPrefix(name, "no permission") { // which was given back by now
				return
			}
			if status, stdout, stderr := repush(t.Context(), "", args...); status != exitDone || g.count() != 23 || strings.Contains(stderr, "was interrupted") {
				t.Errorf("anew: status %d, %d requests\n%s\n%s", status, g.count(), stdout, stderr)
			}
		})
	}
}

// TestPlanGoesOn: what takes longer than an invocation goes on, and says so.
func TestPlanGoesOn(t *testing.T) {
	for _, state := range []string{"memory", filepath.Join(t.TempDir(), "ledger")} {
		api := withAPI(t)
		if err := api.AddFault(onsd.Fault{API: "OnsDLQMessagePageQueryByGroupId", Delay: 3 * time.Second}); err != nil { // the first time
			t.Fatal(err)
		}
		status, stdout, stderr := repush(t.Context(), "", planFor(t, api, "--timeout", "2s", "--state", state)...)
		if status != exitDone || !strings.Contains(stdout, "GID_billing: 23 to push") || !strings.Contains(stderr, "GoesOn") {
			t.Errorf("%s: status %d\n%s\n%s", state, status, stdout, stderr)
		}
	}
}

// TestPlanInterrupted: the command dies (SIGKILL) or is stopped while requests
// leave. The same command goes on with the same operation, says so, and in the end
// each message was asked for; the manifest is in the file all the while.
func TestPlanInterrupted(t *testing.T) {
	for name, signal := range map[string]os.Signal{"killed": os.Kill, "Ctrl-C": os.Interrupt} {
		t.Run(name, func(t *testing.T) {
			api := withAPI(t)
			stuck := make(chan struct{})
			target, g := requestsTarget(t, func(n int) int {
				if n >= 7 {
					<-stuck
				}
				return http.StatusOK
			})
			out := filepath.Join(t.TempDir(), "manifest.json")
			args := planFor(t, api, "--go", "--to", target, "-o", out, "--timeout", "4s")
			cmd := selfCommand(args...)
			var said buffer
			cmd.Stderr = &said
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			for deadline := time.Now().Add(30 * time.Second); g.count() < 7; time.Sleep(5 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("only %d requests\n%s", g.count(), said.String())
				}
			}
			_ = cmd.Process.Signal(signal)
			_ = cmd.Wait()
			close(stuck)
			if manifestFile(t, out).Count != 23 {
				t.Error("the manifest was not written before the requests left")
			}
			if signal == os.Interrupt && (cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(said.String(), "the same command goes on")) {
				t.Errorf("status %d\n%s", cmd.ProcessState.ExitCode(), said.String())
			}
			status, stdout, stderr := repush(t.Context(), "", args...)
			if status != exitDone || !strings.Contains(stderr, "the same command was interrupted") || g.count() != 23 || len(g.by) != 1 || !strings.Contains(stdout, "the manifest went out before this run") {
				t.Errorf("status %d, %d requests of %d operations\n%s\n%s", status, g.count(), len(g.by), stdout, stderr)
			}
			again, _, _ := repush(t.Context(), "", planFor(t, api)...)
			if again != exitDone {
				t.Errorf("a plan after it: status %d", again)
			}
		})
	}
}

// TestPlanTargetRefuses: the first refusal ends it, and nothing more is tried.
func TestPlanTargetRefuses(t *testing.T) {
	api := withAPI(t)
	var mu sync.Mutex
	tries := 0
	target, g := requestsTarget(t, func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		if n < 3 {
			return http.StatusOK
		}
		tries++
		return http.StatusUnauthorized
	})
	status, _, stderr := repush(t.Context(), "", planFor(t, api, "--go", "--to", target)...)
	if status != exitFailed || !strings.Contains(stderr, "the target refused a request: the target answered 401") || g.count() != 3 || tries != 1 {
		t.Errorf("status %d, %d requests, %d tries\n%s", status, g.count(), tries, stderr)
	}
}

// TestPlanTargetTakesNothing: that is said, and ends it after as long as a time-out.
func TestPlanTargetTakesNothing(t *testing.T) {
	api := withAPI(t)
	target, g := requestsTarget(t, func(n int) int {
		if n < 3 {
			return http.StatusOK
		}
		return http.StatusInternalServerError
	})
	status, _, stderr := repush(t.Context(), "", planFor(t, api, "--go", "--to", target, "--timeout", "3s")...)
	if status != exitFailed || !strings.Contains(stderr, "took no request for 3s: the target answered 500; 3 requests were handed over by this run; the same command goes on") || g.count() != 3 ||
		strings.Count(stderr, "does not take a request: the target answered 500") != 1 {
		t.Errorf("status %d, %d requests\n%s", status, g.count(), stderr)
	}
}

// TestReceiver takes each event once, and what is no event not at all.
func TestReceiver(t *testing.T) {
	t.Parallel()
	var seen []string
	r, err := receive(func(e events.Event) int {
		seen = append(seen, e.ID)
		if len(seen) == 1 {
			return http.StatusServiceUnavailable
		}
		return http.StatusAccepted
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for i, test := range []struct {
		url, body string
		status    int
	}{
		{r.URL, sampleEvent, http.StatusServiceUnavailable},
		{r.URL, sampleEvent, http.StatusAccepted},
		{r.URL, sampleEvent, http.StatusAccepted},
		{r.URL, "{}", http.StatusBadRequest},
		{r.URL, strings.Repeat("x", events.MaxEventBytes+1), http.StatusBadRequest},
		{r.URL[:strings.LastIndex(r.URL, "/")], sampleEvent, http.StatusNotFound},
	} {
		req, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, test.url, strings.NewReader(test.body))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != test.status {
			t.Errorf("%d: %s, want %d", i, resp.Status, test.status)
		}
	}
	if len(seen) != 2 || r.count() != 1 {
		t.Errorf("accepted %v, taken %d", seen, r.count())
	}
}

// TestPlanAtADeployedFunction: the plan is made there, and functions/plan refuses
// requests, which then count as not handed over.
func TestPlanAtADeployedFunction(t *testing.T) {
	api := withAPI(t)
	target, g := requestsTarget(t, nil)
	env := append(api.env(), "REPUSH_REQUESTS="+target, "REPUSH_HTTP_TOKEN=sesame-sesame-sesame")
	deployed, err := startHTTP(t.Context(), builtPlan(t), env, io.Discard, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer deployed.stop()
	t.Setenv("REPUSH_HTTP_TOKEN", "sesame-sesame-sesame")
	plan := func(more ...string) (int, string, string) {
		args := []string{"plan", "--instance", "MQ_INST_1380156306793859_BbXbx0Y4", "--group", "GID_billing", "--reason", "ticket 4711", "--region", "cn-hangzhou"}
		return repush(t.Context(), "", append(args, more...)...)
	}
	if err := api.AddFault(onsd.Fault{API: "OnsConsumerGetConnection", Nth: 4, Do: "error", Error: onsd.FaultError{Status: 403, Code: "Forbidden.RAM", Message: "not permitted"}}); err != nil {
		t.Fatal(err)
	}
	if status, stdout, stderr := plan("--at", deployed.URL); status != exitDone || g.count() != 0 || !strings.Contains(stdout, "0 requests") {
		t.Errorf("dry: status %d, %d requests\n%s\n%s", status, g.count(), stdout, stderr)
	}
	if status, stdout, stderr := plan("--at", deployed.URL, "--go"); status != exitDone || g.count() != 23 || !strings.Contains(stdout, "23 requests") {
		t.Errorf("status %d, %d requests\n%s\n%s", status, g.count(), stdout, stderr)
	}
	if status, stdout, stderr := plan("--at", deployed.URL, "--go"); status != exitPartial || !strings.Contains(stdout, "  failed  operation plan-") || !strings.Contains(stdout, "Forbidden.RAM") {
		t.Errorf("failed late: status %d\n%s\n%s", status, stdout, stderr)
	}
	if status, _, stderr := plan("--at", deployed.URL, "-o", "x"); status != exitUsage {
		t.Errorf("-o with --at: status %d\n%s", status, stderr)
	}
	file := filepath.Join(t.TempDir(), "plan.json")
	event := `{"specversion":"1.0","id":"by-hand","source":"test","type":"repush:Plan:Requested","data":{"instanceId":"MQ_INST_1380156306793859_BbXbx0Y4","groupId":"GID_other","reason":"r","source":"dead-letter"}}`
	if err := os.WriteFile(file, []byte(event), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, stdout, stderr := repush(t.Context(), "", "inject", file, "--to", deployed.URL, "--reason", "r", "--go"); status != exitPartial || !strings.Contains(stdout, "BIZ_SUBSCRIPTION_NOT_FOUND") && !strings.Contains(stdout, "allow-list") {
		t.Errorf("inject of a plan: status %d\n%s\n%s", status, stdout, stderr)
	}
	if status, _, stderr := repush(t.Context(), "", planFor(t, api, "--go", "--to", deployed.URL)...); status != exitFailed || !strings.Contains(stderr, "send it to functions/repush") {
		t.Errorf("requests to functions/plan: status %d\n%s", status, stderr)
	}
}
