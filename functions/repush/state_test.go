package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/config"
	"github.com/ons-repush/ons-repush/functions/internal/redis/redistest"
	"github.com/ons-repush/ons-repush/functions/internal/wiring"
	"github.com/ons-repush/ons-repush/infra/local/onsd"
)

// answer is the return value, as far as these tests read it.
type answer struct {
	Results []struct {
		EventID string          `json:"eventId"`
		Outcome events.Outcome  `json:"outcome"`
		Code    string          `json:"code"`
		Message string          `json:"message"`
		Report  json.RawMessage `json:"report"`
	} `json:"results"`
	Deferred int `json:"deferred"`
}

// call is one invocation of a function in this process.
func call(t *testing.T, f wiring.Function, within time.Duration, payload []byte) (a answer, givenBack bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	got := f.Handle(ctx, platformCall, payload)
	if err := json.Unmarshal(got.Body, &a); err != nil {
		t.Fatalf("answer %s: %v", got.Body, err)
	}
	return a, got.GiveBack
}

func requests(from, n int, change ...func(*events.Requested)) [][]byte {
	var all [][]byte
	for i := from; i < from+n; i++ {
		all = append(all, request(fmt.Sprint("event-", i), i, change...))
	}
	return all
}

// onceEach fails the test unless each of n messages reached a consumer once.
func onceEach(t *testing.T, server *onsd.Server, n int) {
	t.Helper()
	delivered := server.Deliveries().ByMessage
	for i := range n {
		if delivered[msgID(i)] != 1 {
			t.Errorf("message %d reached a consumer %d times", i, delivered[msgID(i)])
		}
	}
}

// TestTwoInstancesGetTheSameBatchAtTheSameMoment a hundred times.
func TestTwoInstancesGetTheSameBatchAtTheSameMoment(t *testing.T) {
	t.Parallel()
	const rounds, size = 100, 4
	server, endpoint := world(t, rounds*size)
	state := "REPUSH_STATE=" + redistest.Start(t).URL()
	var instances [2]wiring.Function
	for i := range instances {
		instances[i], _ = inProcess(t, endpoint, state, "REPUSH_QPS=1000")
		t.Cleanup(instances[i].State.Close)
	}
	for round := range rounds {
		batch := arrayOf(requests(round*size, size)...)
		var both sync.WaitGroup
		for _, f := range instances {
			both.Go(func() {
				if _, givenBack := call(t, f, 20*time.Second, batch); givenBack {
					t.Errorf("round %d: given back, with a shared ledger", round)
				}
			})
		}
		both.Wait()
	}
	onceEach(t, server, rounds*size)
}

// TestRedisStoppedInTheMiddle for ten seconds of a run of 300 requests.
func TestRedisStoppedInTheMiddle(t *testing.T) {
	t.Parallel()
	const n = 300
	server, endpoint := world(t, n, func(d *onsd.Data) { slow(d, 200*time.Millisecond) })
	store := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	// Leases that outlive the outage by far, on a busy machine too.
	f, out := inProcess(t, endpoint, "REPUSH_STATE="+store.URL(), "REPUSH_QPS=50", "REPUSH_PUSH_TIMEOUT=1m")
	defer f.State.Close()
	left := requests(0, n)
	var outage sync.WaitGroup
	outage.Go(func() {
		time.Sleep(2 * time.Second)
		store.Stop()
		time.Sleep(10 * time.Second)
		store.Restart()
	})
	defer outage.Wait()
	codes := make(map[string]int)
	for begin := time.Now(); len(left) > 0; {
		if time.Since(begin) > 3*time.Minute {
			t.Fatalf("%d requests are not taken", len(left))
		}
		got, givenBack := call(t, f, 30*time.Second, arrayOf(left...))
		var again [][]byte
		for i, r := range got.Results {
			if r.Outcome == "" {
				codes[r.Code]++
			}
			if givenBack && r.Outcome == "" {
				again = append(again, left[i])
			}
		}
		if left = again; len(left) > 0 {
			time.Sleep(time.Second)
		}
	}
	sweepUntil(t, f, n, out)
	onceEach(t, server, n)
	if codes["LedgerUnavailable"]+codes["LimiterUnavailable"] == 0 {
		t.Errorf("codes of what waited = %v, want one that names the outage among them", codes)
	}
	outcomes := make(map[events.Outcome]int)
	for _, c := range out.results(t) {
		outcomes[c.Outcome]++
	}
	// About ten were under way. Where the machine is so busy that a call is cut with its
	// invocation, that one is unknown.
	const busy = 3
	if outcomes[events.Pushed] < n-busy || outcomes[events.Pushed]+outcomes[events.Unknown] != n {
		t.Errorf("outcomes = %v, want all pushed: answers that came during the outage are written after it", outcomes)
	}
}

// sweepUntil sweeps until n distinct requests have a result in one of the outputs.
func sweepUntil(t *testing.T, f wiring.Function, n int, outs ...*output) {
	t.Helper()
	sweep := controlEvent(t, events.TypeSweepRequested, events.Sweep{})
	for begin := time.Now(); ; {
		ids := make(map[string]bool)
		for _, out := range outs {
			for _, c := range out.results(t) {
				ids[c.Request.ID] = true
			}
		}
		if len(ids) >= n {
			return
		}
		if time.Since(begin) > 5*time.Minute {
			t.Fatalf("%d of %d requests have a result", len(ids), n)
		}
		got, _ := call(t, f, 20*time.Second, sweep)
		t.Logf("sweep: %s %s", got.Results[0].Code, got.Results[0].Report)
		time.Sleep(500 * time.Millisecond)
	}
}

// TestRedisFlushedInTheMiddle: what is forgotten is pushed again, and says so.
func TestRedisFlushedInTheMiddle(t *testing.T) {
	t.Parallel()
	const n = 60
	server, endpoint := world(t, n)
	store := redistest.Start(t)
	f, out := inProcess(t, endpoint, "REPUSH_STATE="+store.URL(), "REPUSH_QPS=1000")
	defer f.State.Close()
	batch := arrayOf(requests(0, n)...)
	call(t, f, 20*time.Second, batch)
	sweepUntil(t, f, n, out)
	store.Do("FLUSHALL")
	out.reset()
	call(t, f, 20*time.Second, batch)
	sweepUntil(t, f, n, out)
	onceEachTwice := server.Deliveries().ByMessage
	for _, c := range out.results(t) {
		if onceEachTwice[c.Request.Data.MsgID] != 2 || !c.MaybeDuplicate || c.Code != "LedgerYoung" {
			t.Errorf("%s: %d deliveries, %s %s, maybeDuplicate %v", c.Request.ID, onceEachTwice[c.Request.Data.MsgID], c.Outcome, c.Code, c.MaybeDuplicate)
		}
	}
}

// TestRedisFlushedDuringARun: what was between two steps is given back, or told.
func TestRedisFlushedDuringARun(t *testing.T) {
	t.Parallel()
	const n = 60
	server, endpoint := world(t, n)
	store := redistest.Start(t)
	f, out := inProcess(t, endpoint, "REPUSH_STATE="+store.URL(), "REPUSH_QPS=20")
	defer f.State.Close()
	var flush sync.WaitGroup
	flush.Go(func() {
		for server.Deliveries().Total < n/3 {
			time.Sleep(time.Millisecond)
		}
		store.Do("FLUSHALL")
	})
	left := requests(0, n)
	for begin := time.Now(); len(left) > 0 && time.Since(begin) < time.Minute; {
		got, givenBack := call(t, f, 20*time.Second, arrayOf(left...))
		var again [][]byte
		for i, r := range got.Results {
			if givenBack && r.Outcome == "" {
				again = append(again, left[i])
			}
		}
		left = again
	}
	flush.Wait()
	sweepUntil(t, f, n, out)
	pushed := server.Deliveries().ByMessage
	for _, c := range out.results(t) {
		if pushed[c.Request.Data.MsgID] > 1 && c.Outcome == events.Pushed && !c.MaybeDuplicate {
			t.Errorf("%s was pushed %d times and does not say so", c.Request.ID, pushed[c.Request.Data.MsgID])
		}
	}
}

// TestStopByEvent: after it no push begins on any instance but what a second of the
// quota had on its way; start lets the rest follow.
func TestStopByEvent(t *testing.T) {
	t.Parallel()
	const n, qps = 300, 60
	server, endpoint := world(t, n)
	env := []string{"REPUSH_STATE=" + redistest.Start(t).URL(), fmt.Sprint("REPUSH_QPS=", qps)}
	one, first := inProcess(t, endpoint, env...)
	other, second := inProcess(t, endpoint, env...)
	defer one.State.Close()
	defer other.State.Close()
	var runs sync.WaitGroup
	deliver := func() {
		for i, f := range []wiring.Function{one, other} {
			runs.Go(func() {
				if _, givenBack := call(t, f, time.Minute, arrayOf(requests(i*n/2, n/2, func(r *events.Requested) { r.OperationID = "op" })...)); givenBack {
					t.Error("stopped work was given back")
				}
			})
		}
	}
	deliver()
	for server.Deliveries().Total < n/3 {
		time.Sleep(5 * time.Millisecond)
	}
	call(t, one, time.Minute, controlEvent(t, events.TypeOperationRequested, events.Operation{Action: events.Stop, Reason: "a test"}))
	stopped := server.Deliveries().Total
	runs.Wait()
	call(t, other, 20*time.Second, controlEvent(t, events.TypeSweepRequested, events.Sweep{}))
	before := server.Deliveries().Total
	if before > stopped+qps {
		t.Fatalf("%d pushes after the stop, at %d a second", before-stopped, qps)
	}
	status, _ := call(t, one, time.Minute, controlEvent(t, events.TypeOperationRequested, events.Operation{Action: events.Status, OperationID: "op"}))
	var report struct {
		Progress struct {
			States   map[string]int `json:"states"`
			Outcomes map[string]int `json:"outcomes"`
			Orders   []string       `json:"orders"`
		} `json:"progress"`
		Quota struct {
			LastMinute map[string]int `json:"lastMinute"`
			ThisMinute map[string]int `json:"thisMinute"`
		} `json:"quota"`
	}
	if err := json.Unmarshal(status.Results[0].Report, &report); err != nil {
		t.Fatalf("%s: %v", status.Results[0].Report, err)
	}
	if p := report.Progress; p.Outcomes["pushed"] != before || p.States["waiting"] != n-before || len(p.Orders) != 1 || p.Orders[0] != "Stopped" {
		t.Errorf("%d were pushed, status = %s", before, status.Results[0].Report)
	}
	if q := report.Quota; q.LastMinute["alert"]+q.ThisMinute["alert"] < before {
		t.Errorf("%d were pushed, the quota's shares are %+v", before, q)
	}
	call(t, other, time.Minute, controlEvent(t, events.TypeOperationRequested, events.Operation{Action: events.Start}))
	// Who delivers again need not wait for the sweep, which takes up after 30 s what
	// an order held up.
	deliver()
	runs.Wait()
	sweepUntil(t, other, n, first, second)
	onceEach(t, server, n)
	if got := len(first.results(t)) + len(second.results(t)); got != n {
		t.Errorf("%d results, want %d", got, n)
	}
}

// TestStateThatCannotBeRight stops the start with a problem of REPUSH_STATE.
func TestStateThatCannotBeRight(t *testing.T) {
	t.Parallel()
	_, endpoint := world(t, 1)
	path := filepath.Join(t.TempDir(), "ledger")
	holder, _ := inProcess(t, endpoint, "REPUSH_STATE=file:"+path)
	t.Cleanup(holder.State.Close)
	locked := redistest.Start(t, "--requirepass", "sesame-password")
	for name, test := range map[string]struct{ state, says string }{
		"an evicting Redis":              {redistest.Start(t, "--maxmemory-policy", "allkeys-lru").URL(), "noeviction"},
		"a wrong password":               {"redis://:sesame-wrong@" + locked.Addr(), "password"},
		"no password":                    {"redis://" + locked.Addr(), "password"},
		"a file that another one has":    {"file:" + path, "another process"},
		"a file where there is a folder": {"file:" + t.TempDir(), "is a directory"},
		"a file that is none":            {"file:/dev/null/x", "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var stderr output
			env := settings(endpoint, "REPUSH_STATE="+test.state)
			p := wiring.Process{Function: config.Repush, Environ: env, Getenv: func(string) string { return "" }, Stdout: &output{}}
			status := wiring.Run(t.Context(), p, &stderr, build)
			if said := stderr.String(); status != wiring.ExitSettings || !strings.Contains(said, "REPUSH_STATE: ") || !strings.Contains(said, test.says) || strings.Contains(said, "sesame") {
				t.Errorf("exit %d, it says %s; want %d and %q", status, said, wiring.ExitSettings, test.says)
			}
		})
	}
}

// TestRedisAwayAtTheStart: requests are given back with a code until it comes.
func TestRedisAwayAtTheStart(t *testing.T) {
	t.Parallel()
	server, endpoint := world(t, 1)
	store := redistest.Start(t)
	store.Stop()
	f, _ := inProcess(t, endpoint, "REPUSH_STATE="+store.URL())
	defer f.State.Close()
	got, givenBack := call(t, f, 10*time.Second, request("event-0", 0))
	if !givenBack || got.Results[0].Code != "LedgerUnavailable" && got.Results[0].Code != "LimiterUnavailable" || server.Deliveries().Total != 0 {
		t.Errorf("without Redis: %+v, given back %v", got, givenBack)
	}
	described, _ := call(t, f, 10*time.Second, controlEvent(t, events.TypeOperationRequested, events.Operation{Action: events.Describe}))
	if said := string(described.Results[0].Report); !strings.Contains(said, `"ok":false`) || strings.Contains(said, store.Addr()) {
		t.Errorf("describe = %s", said)
	}
	store.Restart()
	for begin := time.Now(); server.Deliveries().Total == 0 && time.Since(begin) < 2*time.Minute; {
		call(t, f, 10*time.Second, request("event-0", 0))
	}
	onceEach(t, server, 1)
	described, _ = call(t, f, 10*time.Second, controlEvent(t, events.TypeOperationRequested, events.Operation{Action: events.Describe}))
	for _, part := range []string{`"ok":true`, `"kind":"redis"`, `"durable":true`, `"version":"`, `"REPUSH_STATE":"set"`, `"pingMs":`} {
		if said := string(described.Results[0].Report); !strings.Contains(said, part) {
			t.Errorf("describe = %s, want %s in it", said, part)
		}
	}
}

// TestAFileRemembers across processes.
func TestAFileRemembers(t *testing.T) {
	t.Parallel()
	server, endpoint := world(t, 2)
	state := "REPUSH_STATE=file:" + filepath.Join(t.TempDir(), "ledger")
	for round, want := range []events.Outcome{events.Pushed, events.Duplicate} {
		f, out := inProcess(t, endpoint, state)
		for i := range 2 {
			got, _ := call(t, f, 20*time.Second, request(fmt.Sprint(round, " ", i), i))
			if got.Results[0].Outcome != want {
				t.Errorf("round %d: %+v, want %s", round, got, want)
			}
		}
		if c := out.results(t); len(c) != 2 || !c[0].Durable {
			t.Errorf("results = %+v", c)
		}
		f.State.Close()
	}
	onceEach(t, server, 2)
}
