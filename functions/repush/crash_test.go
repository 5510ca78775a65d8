package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/redis/redistest"
	"github.com/ons-repush/ons-repush/infra/local/fcd"
	"github.com/ons-repush/ons-repush/infra/local/onsd"
)

// crashes is how many processes TestCrashes kills for each kind of state: 1,000
// in all, fewer where the race detector makes a process start three times
// slower.
const crashes = 500

// perCrash is how many requests the process that is killed works on.
const perCrash = 3

// points are the places to die at, and what leads there: after is the fault or
// the state of the world.
var points = []struct {
	call string
	// group is that of the requests; GID_off comes online for the recovery.
	group string
	// throttled: the first push of the message is refused for want of quota.
	throttled bool
	// within is the invocation's time.
	within time.Duration
}{
	{call: "turn"}, {call: "claim"}, {call: "book"}, {call: "sending"}, {call: "push"}, {call: "decide"}, {call: "emit"}, {call: "emitted"},
	{call: "notsent", throttled: true}, {call: "sending", throttled: true}, {call: "online"},
	{call: "park", group: "GID_off"}, {call: "receive", within: 2 * time.Second},
}

// crashBinary builds the function with crash points, once.
var crashBinary = sync.OnceValues(func() (string, error) {
	if _, err := binary(); err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(functionPath()), "repush-crash")
	out, err := exec.Command("go", "build", "-tags", "lambda.norpc,crash", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

func functionPath() string { path, _ := binary(); return path }

// wreck is one state, the processes that worked on it, and what they printed.
type wreck struct {
	*testing.T
	binary string
	env    []string

	// spared counts the processes that did not come to the point to die at.
	spared atomic.Int64

	mu      sync.Mutex
	outputs []*bytes.Buffer
}

// run starts a process, hands it the payload, and kills it when told, or ends
// it. It has the quotas of one of some accounts: ten look-ups a second, which all
// that share a Redis would share, would be what the tests wait for.
func (w *wreck) run(payload []byte, within time.Duration, kill <-chan time.Time, env ...string) (fcd.Response, error) {
	var out bytes.Buffer // written to until the process has ended
	f, err := fcd.Start(context.Background(), fcd.Options{
		Binary: w.binary, Runtime: fcd.FCGo1, Env: slices.Concat(w.env, env), Timeout: within, Stdout: &out, AccountID: fmt.Sprint(rand.IntN(16)),
	})
	if err != nil {
		return fcd.Response{}, err
	}
	done := make(chan struct{})
	if kill != nil {
		go func() {
			select {
			case <-kill:
				f.Kill()
			case <-done:
			}
		}()
	}
	response, err := f.Invoke(context.Background(), payload)
	close(done)
	_ = f.Stop(context.Background()) // a killed one has stopped
	<-f.Exited()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outputs = append(w.outputs, &out)
	return response, err
}

// results are all result events, by the id of the request. A line that the kill
// cut in two is none.
func (w *wreck) results() map[string]map[string]events.Completed {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make(map[string]map[string]events.Completed)
	for _, out := range w.outputs {
		for line := range strings.Lines(out.String()) {
			var e events.Event
			var c events.Completed
			if json.Unmarshal([]byte(line), &e) != nil || json.Unmarshal(e.Data, &c) != nil {
				continue
			}
			if all[c.Request.ID] == nil {
				all[c.Request.ID] = make(map[string]events.Completed)
			}
			if old, again := all[c.Request.ID][e.ID]; again && old.Outcome != c.Outcome {
				w.Errorf("%s ended as %s and as %s under one id", c.Request.ID, old.Outcome, c.Outcome)
			}
			all[c.Request.ID][e.ID] = c
		}
	}
	return all
}

func arrayOf(requests ...[]byte) []byte {
	return append(append([]byte{'['}, bytes.Join(requests, []byte{','})...), ']')
}

func controlEvent(tb testing.TB, eventType string, data any) []byte {
	tb.Helper()
	raw, err := json.Marshal(data)
	if err != nil {
		tb.Fatal(err)
	}
	event, err := json.Marshal(events.Event{ID: "control", Source: "test", Type: eventType, Data: raw})
	if err != nil {
		tb.Fatal(err)
	}
	return event
}

// TestCrashes kills the real binary at every point between two steps of a
// request, and at random moments; then everything is delivered once more and
// swept. No message is lost, none is pushed twice, and every request has one
// result.
func TestCrashes(t *testing.T) {
	t.Parallel()
	n := crashes
	if raceEnabled || testing.Short() {
		n = crashes / 10
	}
	path, err := crashBinary()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("file", func(t *testing.T) {
		t.Parallel()
		const lanes = 4 // a file serves one process at a time
		for lane := range lanes {
			t.Run(fmt.Sprint(lane), func(t *testing.T) {
				t.Parallel()
				crashAndRecover(t, path, "file:"+filepath.Join(t.TempDir(), "ledger"), n/lanes, 1)
			})
		}
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		crashAndRecover(t, path, redistest.Start(t).URL(), n, 12)
	})
	t.Run("redis, unknown is pushed again", func(t *testing.T) {
		t.Parallel()
		crashAndRecover(t, path, redistest.Start(t).URL(), n/5, 4, "REPUSH_ON_UNKNOWN=push")
	})
}

func crashAndRecover(t *testing.T, path, state string, n, atOnce int, more ...string) {
	server, endpoint := world(t, n*perCrash, func(d *onsd.Data) {
		d.Instances[0].Groups = append(d.Instances[0].Groups, onsd.Group{GroupID: "GID_off", Clients: []onsd.Client{{ClientID: "10.0.0.9@9#z"}}})
	})
	server.SetOnline(instance, "GID_off", "10.0.0.9@9#z", false)
	more = append(more, "REPUSH_STATE="+state, "REPUSH_QPS=500", "REPUSH_PUSH_TIMEOUT=1s", "REPUSH_LOG_LEVEL=error")
	w := &wreck{T: t, binary: path, env: settings(endpoint, more...)}
	requests := make([][]byte, n*perCrash)
	now := time.Now()
	work := make(chan int)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for i := range work {
				w.crash(server, requests, i, now)
			}
		})
	}
	for i := range n {
		work <- i
	}
	close(work)
	workers.Wait()
	if spared := int(w.spared.Load()); spared > n/50 {
		t.Errorf("%d of %d processes did not die", spared, n)
	}
	server.SetOnline(instance, "GID_off", "10.0.0.9@9#z", true)
	w.recover(requests, atOnce)
	w.count(server, len(requests), slices.Contains(more, "REPUSH_ON_UNKNOWN=push"))
}

// crash makes process number i die, at a point or, every tenth, at any moment.
func (w *wreck) crash(server *onsd.Server, requests [][]byte, i int, now time.Time) {
	p := points[i/2%len(points)]
	at := fmt.Sprintf("%s %s:%d", []string{"before", "after"}[i%2], p.call, 1+i/2/len(points)%perCrash)
	if p.call == "online" || p.call == "emitted" {
		at, _, _ = strings.Cut(at, ":") // passed once in a process
	}
	batch := requests[i*perCrash : (i+1)*perCrash]
	for j := range batch {
		number := i*perCrash + j
		batch[j] = request(fmt.Sprint("event-", number), number, func(r *events.Requested) {
			if p.group != "" {
				r.GroupID = p.group
			}
		})
		if p.throttled {
			fault := onsd.Fault{API: "OnsMessagePush", MsgID: msgID(number), Do: "error", Error: onsd.FaultError{Status: 503, Code: "Throttling.User", Message: "slow down"}}
			if err := server.AddFault(fault); err != nil {
				w.Error(err)
			}
		}
	}
	within, kill := max(p.within, 2*time.Second), (<-chan time.Time)(nil)
	if p.within == 0 {
		within = 30 * time.Second // a busy machine comes to the point, too
	}
	if i%10 == 9 {
		at = "never"
		kill = time.After(time.Duration(rand.IntN(120)) * time.Millisecond)
	}
	response, err := w.run(arrayOf(batch...), within, kill, "CRASH_AT="+at)
	if kill != nil || err == nil && response.FunctionError == fcd.ErrorExit {
		return
	}
	// Throttled calls of others may have closed the quota that all share.
	if w.spared.Add(1); !bytes.Contains(response.Payload, []byte(`"NoSlot"`)) {
		w.Errorf("the process did not die %s: %v %s %s", at, err, response.FunctionError, response.Payload)
	}
}

// recover delivers everything again, as the trigger does after a failed
// invocation, and sweeps; processes go on dying meanwhile.
func (w *wreck) recover(requests [][]byte, atOnce int) {
	sweep := controlEvent(w, events.TypeSweepRequested, events.Sweep{})
	for range 10 {
		_, _ = w.run(sweep, 10*time.Second, time.After(time.Duration(rand.IntN(150))*time.Millisecond))
	}
	for begin := time.Now(); ; {
		var workers sync.WaitGroup
		done := w.results()
		var left [][]byte
		for i, r := range requests {
			if done[fmt.Sprint("event-", i)] == nil {
				left = append(left, r)
			}
		}
		if len(left) == 0 {
			break
		}
		if time.Since(begin) > 5*time.Minute {
			w.Fatalf("%d of %d requests have no result after %v", len(left), len(requests), time.Since(begin))
		}
		rand.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
		left = left[:min(len(left), 200*atOnce)]
		for len(left) > 0 {
			part := left[:min(len(left), 200)]
			left = left[len(part):]
			workers.Go(func() { _, _ = w.run(arrayOf(part...), 20*time.Second, nil) })
			workers.Go(func() {
				if atOnce > 1 {
					_, _ = w.run(sweep, 10*time.Second, nil)
				}
			})
		}
		workers.Wait()
		_, _ = w.run(sweep, 10*time.Second, nil)
	}
	// Once more: nothing may come of it.
	for i := 0; i < len(requests); i += 500 {
		if _, err := w.run(arrayOf(requests[i:min(len(requests), i+500)]...), 20*time.Second, nil); err != nil {
			w.Error(err)
		}
	}
}

// count holds the promises; pushesAgain: what may have been sent is sent again,
// and says so.
func (w *wreck) count(server *onsd.Server, n int, pushesAgain bool) {
	delivered := server.Deliveries().ByMessage
	outcomes := make(map[events.Outcome]int)
	results := w.results()
	for i := range n {
		id := fmt.Sprint("event-", i)
		if len(results[id]) != 1 {
			w.Errorf("%s has %d distinct result events, want 1", id, len(results[id]))
		}
		for _, c := range results[id] {
			outcomes[c.Outcome]++
			switch times := delivered[msgID(i)]; {
			case times > 2, times > 1 && !(pushesAgain && c.MaybeDuplicate):
				w.Errorf("%s was pushed %d times: %s, maybeDuplicate %v", id, times, c.Outcome, c.MaybeDuplicate)
			case c.Outcome == events.Pushed && times == 0:
				w.Errorf("%s ended as pushed and reached nobody", id)
			case c.Outcome != events.Pushed && c.Outcome != events.Unknown:
				w.Errorf("%s ended as %s %s: %s", id, c.Outcome, c.Code, c.Message)
			}
		}
	}
	if outcomes[events.Pushed] < n/2 || !pushesAgain && outcomes[events.Unknown] == 0 {
		w.Errorf("outcomes = %v, want most pushed and, unless it is pushed again, some unknown", outcomes)
	}
	w.Logf("%d requests, outcomes %v, %d processes", n, outcomes, len(w.outputs))
}
