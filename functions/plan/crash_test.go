package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/redis/redistest"
	"github.com/ons-repush/ons-repush/infra/local/fcd"
	"github.com/ons-repush/ons-repush/infra/local/onsd"
)

// TestCrashes kills the real binary before and after every call that leaves
// something behind, and has the platform deliver the alert again: each request is
// sent, under one id, and there is one manifest.
func TestCrashes(t *testing.T) {
	t.Parallel()
	var points []string
	for call, times := range map[string][]int{"save": {1, 2, 3, 5}, "page": {1, 2, 4, 7}, "announce": {1}, "request": {1, 2, 3}} {
		for _, time := range times {
			points = append(points, fmt.Sprintf("before %s:%d", call, time), fmt.Sprintf("after %s:%d", call, time))
		}
	}
	for name, state := range map[string]func(t *testing.T) func() string{
		"file": func(t *testing.T) func() string {
			return func() string { return "file:" + filepath.Join(t.TempDir(), "ledger") }
		},
		"redis": func(t *testing.T) func() string { return redistest.Start(t).URL },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var died atomic.Int64
			where := state(t)
			var wg sync.WaitGroup
			gate := make(chan struct{}, 8) // they wait for leases most of the time
			for i, point := range points {
				wg.Go(func() {
					gate <- struct{}{}
					defer func() { <-gate }()
					crashed(t, fmt.Sprintf("MQ_INST_%d_crash", i), point, where(), &died)
				})
			}
			wg.Wait()
			if n := died.Load(); n < int64(len(points)*2/3) {
				t.Errorf("only %d of %d processes came to their point", n, len(points))
			}
			t.Logf("%d of %d processes died", died.Load(), len(points))
		})
	}
}

// crashed is one trial: a process that dies at the point, at most two more that
// die somewhere, and one that ends the work.
func crashed(t *testing.T, instance, point, state string, died *atomic.Int64) {
	t.Helper()
	const count = 300
	_, api := world(t, count, func(d *onsd.Data) { d.Instances[0].InstanceID = instance })
	in := newInbox(t)
	env := settings(api, in, "REPUSH_STATE="+state)
	var plans []events.Planned
	var reports []string
	deaths := []string{point, ""}
	if rand.IntN(2) == 0 {
		deaths = []string{point, "after request", ""}
	}
	for _, at := range deaths {
		begin := func() process {
			return start(t, crashBinary, fcd.FCGo1, 4*time.Second, append(slices.Clone(env), "CRASH_AT="+at), func(o *fcd.Options) {
				o.AccountID = instance // whose quotas no other trial shares
			})
		}
		p := begin()
		for range 20 { // until the lease of the dead is over
			response, _ := p.Invoke(context.Background(), alertOf(t, instance, "SendDLQMessageCountPerGid", ""))
			reports = append(reports, string(response.Payload))
			if response.FunctionError == fcd.ErrorExit {
				died.Add(1)
				break
			}
			if at == "" && response.FunctionError == fcd.ErrorTimeout { // on a busy machine; it was killed
				plans = append(plans, p.manifests(t)...)
				p = begin()
			}
			if at != "" || strings.Contains(string(response.Payload), `"code":"Joined"`) || strings.Contains(string(response.Payload), fmt.Sprintf(`"requests":%d`, count)) {
				break
			}
			time.Sleep(500 * time.Millisecond)
		}
		plans = append(plans, p.manifests(t)...)
	}
	requests, _ := in.requests(t)
	seen := make(map[string]bool)
	operations := make(map[string]bool)
	for _, r := range requests {
		if seen[r.MsgID] {
			t.Errorf("%s: %s is asked for under two ids", point, r.MsgID)
		}
		seen[r.MsgID], operations[r.OperationID] = true, true
	}
	for _, p := range plans {
		if p.SHA256 != plans[0].SHA256 || p.OperationID != plans[0].OperationID {
			t.Errorf("%s: two manifests", point)
		}
	}
	if len(seen) != count || len(operations) != 1 || len(plans) == 0 {
		t.Errorf("%s, %s: %d of %d messages, %d operations, %d manifests\n%s", point, state, len(seen), count, len(operations), len(plans), strings.Join(reports, "\n"))
	}
}

// TestPlanKnowsWhatWasPushed: with one Redis, plan leaves out what repush pushed,
// and what died again since goes into its next generation.
func TestPlanKnowsWhatWasPushed(t *testing.T) {
	t.Parallel()
	store := redistest.Start(t)
	server, api := world(t, 10)
	in := newInbox(t)
	state := "REPUSH_STATE=" + store.URL()
	plan := start(t, binary, fcd.FCCustom, 20*time.Second, settings(api, in, state, "REPUSH_PLAN_COOLDOWN=1m"))
	push := start(t, repushBinary, fcd.FCCustom, 20*time.Second, settings(api, in, state))
	first := plan.call(t, alert(t, "SendDLQMessageCountPerGid", ""))
	if first.Requests != 10 {
		t.Fatalf("first: %+v", first)
	}
	in.mu.Lock()
	asked := slices.Clone(in.events)
	in.mu.Unlock()
	for _, e := range asked[:9] {
		raw, err := e.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if response, err := push.Invoke(t.Context(), raw); err != nil || !strings.Contains(string(response.Payload), `"pushed"`) {
			t.Fatalf("push: %v %s", err, response.Payload)
		}
	}
	var r planning.Report
	for n := 0; r.Requests == 0 && n < 30; n++ { // until it is certain that it died after the push
		time.Sleep(500 * time.Millisecond)
		if !server.Bury(instance, "GID_x", "orders", msgID(3)) { // it died again
			t.Fatal("no dead letter was added")
		}
		if dry := plan.call(t, planEvent(t, fmt.Sprint("dry ", n), events.Plan{Source: events.DeadLetters, DryRun: true})); dry.Manifest.Count == 2 {
			r = plan.call(t, planEvent(t, "by hand", events.Plan{Source: events.DeadLetters}))
		}
	}
	requests, _ := in.requests(t)
	if r.Requests != 2 || len(requests) != 12 {
		t.Fatalf("second: %+v, %d requests", r, len(requests))
	}
	for _, q := range requests[10:] {
		if (q.MsgID == msgID(3)) != (q.Generation == 2) {
			t.Errorf("%s in generation %d", q.MsgID, q.Generation)
		}
	}
	if r := plan.call(t, planEvent(t, "again", events.Plan{Source: events.ByIDs, Topic: "orders", IDs: []string{msgID(1)}, Again: true})); r.Requests != 1 {
		t.Errorf("again: %+v", r)
	}
}

// TestScanOutlivesInvocations at the documented quotas, and in the sweep.
func TestScanOutlivesInvocations(t *testing.T) {
	t.Parallel()
	for name, state := range map[string]func(t *testing.T) string{
		"file":  func(t *testing.T) string { return "file:" + filepath.Join(t.TempDir(), "ledger") },
		"redis": func(t *testing.T) string { return redistest.Start(t).URL() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scanOutlivesInvocations(t, state(t))
		})
	}
}

func scanOutlivesInvocations(t *testing.T, state string) {
	t.Helper()
	const count = 1500
	server, api := world(t, count, func(d *onsd.Data) { d.Quotas = nil })
	in := newInbox(t)
	env := settings(api, in, "REPUSH_STATE="+state, "REPUSH_PLAN_LIMIT=2000", "REPUSH_GROUP_BUDGET=2000")
	p := start(t, binary, fcd.FCCustom, 3*time.Second, env)
	// Where the machine is too busy for an answer in time, the platform kills the
	// process and starts another, which reads again what was not kept.
	most := count/50 + 1 // and what the ends of invocations cut, not all of it in each
	invoke := func(payload []byte) (code string) {
		most += 5
		response, err := p.Invoke(t.Context(), payload)
		if err != nil || response.FunctionError != "" && response.FunctionError != fcd.ErrorTimeout {
			t.Fatalf("%v %s %s\n%s", err, response.FunctionError, response.Payload, p.log)
		}
		if response.FunctionError == fcd.ErrorTimeout {
			p, most = start(t, binary, fcd.FCCustom, 3*time.Second, env), most+count/50
			return "GoesOn"
		}
		var r planning.Report
		_ = json.Unmarshal(response.Payload, &r)
		return r.Code
	}
	if code := invoke(alert(t, "SendDLQMessageCountPerGid", "")); code != "GoesOn" {
		t.Fatalf("the first invocation ended with %s", code)
	}
	for range 200 { // after a kill, until the lease of the dead is over
		if requests, _ := in.requests(t); len(requests) == count {
			break
		}
		invoke(sweepEvent())
		time.Sleep(100 * time.Millisecond)
	}
	requests, total := in.requests(t)
	calls := server.Calls("OnsDLQMessagePageQueryByGroupId")
	// The end of an invocation may cut a call whose request arrived.
	if len(requests) != count || total > count+20 || calls.Throttled > 1 || calls.Accepted > most {
		t.Errorf("%d requests of %d events, %d calls, %d throttled", len(requests), total, calls.Accepted, calls.Throttled)
	}
}
