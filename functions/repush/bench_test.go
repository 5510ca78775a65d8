package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/ledger"
	"github.com/ons-repush/ons-repush/functions/internal/ons"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/redis/redistest"
	"github.com/ons-repush/ons-repush/functions/internal/trigger"
	"github.com/ons-repush/ons-repush/infra/local/fcd"
	"github.com/ons-repush/ons-repush/infra/local/onsd"
)

// instant is every port at once, and takes no time.
type instant struct{}

func (instant) Push(context.Context, pushing.Target) (string, error) { return "r", nil }
func (instant) Online(context.Context, string, string) ([]string, error) {
	return []string{"10.0.0.1@1#a"}, nil
}
func (instant) Turn(context.Context, events.Priority) (pushing.Turn, error) { return instant{}, nil }
func (instant) Book(context.Context) (pushing.Slot, error)                  { return instant{}, nil }
func (instant) Release()                                                    {}
func (instant) Report(pushing.Verdict)                                      {}
func (instant) Send(context.Context, ...events.Event) error                 { return nil }

// BenchmarkDecide is one 1 KB event from bytes to answer over ports that take no
// time. Aim: at most 25 µs and 120 allocations.
func BenchmarkDecide(b *testing.B) {
	allow, err := pushing.ParseAllowList("MQ_INST_*/GID_*/orders")
	if err != nil {
		b.Fatal(err)
	}
	policy := pushing.Policy{
		Allow: allow, Concurrency: 150, OnUnknown: events.Hold, MaxPushes: 3,
		GiveUpAfter: time.Hour, MaxAge: time.Hour, PushTimeout: 15 * time.Second,
	}
	service := pushing.NewService(policy, instant{}, pushing.NewClients(instant{}, instant{}), instant{}, ledger.NewMemory(time.Hour, nil), instant{})
	payload := request("id-00000000", 0, func(r *events.Requested) {
		r.Reason, r.RequestedBy = strings.Repeat("because ", 30), strings.Repeat("me", 60)
		r.OperationID, r.ClientID = strings.Repeat("o", 100), strings.Repeat("c", 200)
	})
	idAt, msgAt := bytes.Index(payload, []byte("00000000")), bytes.Index(payload, []byte(msgID(0)))
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		copy(payload[idAt:], fmt.Sprintf("%08d", i))
		copy(payload[msgAt:], fmt.Sprintf("%08d", i))
		batch := trigger.Decode(payload, trigger.Options{})
		results := service.Handle(ctx, "bench", batch.Deliveries)
		if results[0].Outcome != events.Pushed {
			b.Fatalf("%+v", results[0])
		}
		_ = batch.Answer(results)
	}
}

// BenchmarkQuota pushes 400 messages through the whole function against the
// stand-in, in real time, and reports the share of the quota that was used from
// the first to the last call and the share of calls that were throttled. Aims:
// 98 % and 0.5 % with 5 ms of jitter, 94 % with 50 ms, 93 % with a listener that
// takes 4 s; with 4 processes on one Redis a point less, with 20 two, and at
// most 4 round trips to Redis a push. Beside a neighbour who calls twice a
// second, after the first minute: at most 4 % of our calls are throttled, and
// less than 5 % of theirs. With -short it pushes a fifth of that, beside no
// neighbour.
func BenchmarkQuota(b *testing.B) {
	jitter := func(d *onsd.Data) { d.Network.Jitter = 5 * time.Millisecond }
	runs := map[string]quotaRun{
		"sliding":                {change: jitter},
		"fixed":                  {change: func(d *onsd.Data) { jitter(d); setQuota(d, "fixed") }},
		"sliding 50ms":           {change: func(d *onsd.Data) { d.Network.Jitter = 50 * time.Millisecond }},
		"listener takes 4s":      {change: func(d *onsd.Data) { jitter(d); slow(d, 4*time.Second) }},
		"1 process on Redis":     {change: jitter, processes: 1},
		"4 processes":            {change: jitter, processes: 4},
		"20 processes":           {change: jitter, processes: 20},
		"4 processes, neighbour": {change: jitter, processes: 4, requests: 800, neighbour: true},
	}
	if testing.Short() { // it is judged after its first minute
		delete(runs, "4 processes, neighbour")
	}
	// All at once, each in a world of its own: they do little but wait.
	measured := make(map[string]map[string]float64)
	var mu sync.Mutex
	var all sync.WaitGroup
	for name, run := range runs {
		all.Go(func() {
			got := run.measure(b)
			mu.Lock()
			defer mu.Unlock()
			measured[name] = got
		})
	}
	all.Wait()
	for _, name := range slices.Sorted(maps.Keys(measured)) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				continue
			}
			b.ReportMetric(0, "ns/op")
			for unit, value := range measured[name] {
				b.ReportMetric(value, unit)
			}
		})
	}
}

// quotaRun is one way to use the quota.
type quotaRun struct {
	change    func(*onsd.Data)
	processes int // 0: in this one, in memory
	requests  int // 0: 400
	neighbour bool
}

const perSecond = 10

// measure returns its figures by unit.
func (r quotaRun) measure(b *testing.B) map[string]float64 {
	count := cmp.Or(r.requests, 400)
	if testing.Short() { // it works, but says little
		count /= 5
	}
	api, endpoint := world(b, count+1, func(d *onsd.Data) {
		setQuota(d, "sliding")
		r.change(d)
	})
	theirs := func() (calls, throttled int) { return 0, 0 }
	if r.neighbour {
		theirs = neighbour(b, endpoint, count)
	}
	figures := make(map[string]float64)
	if r.processes == 0 {
		f, _ := inProcess(b, endpoint)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		if answer := f.Handle(ctx, platformCall, arrayOf(requests(0, count)...)); answer.GiveBack {
			b.Errorf("answer %.200s", answer.Body)
		}
	} else {
		figures["roundtrips/push"] = shareQuota(b, endpoint, r.processes, count)
	}
	if n := len(api.Deliveries().ByMessage); n < count {
		b.Errorf("%d messages of %d were pushed", n, count)
	}
	calls := api.Calls("OnsMessagePush").List
	slices.SortFunc(calls, func(x, y onsd.Call) int { return x.At.Compare(y.At) })
	first, last := calls[0].At, calls[len(calls)-1].At
	if r.neighbour { // what counts begins when the spacing is learned
		first = first.Add(time.Minute)
	}
	accepted, throttled := 0, 0
	for _, c := range calls {
		switch {
		case c.At.Before(first):
		case c.Code == "":
			accepted++
		default:
			throttled++
		}
	}
	if n, refused := theirs(); n > 0 {
		figures["%theirs-throttled"] = 100 * float64(refused) / float64(n)
		accepted, throttled = accepted-(n-refused), throttled-refused
	}
	figures["%quota"] = 100 * float64(accepted-1) / (perSecond * last.Sub(first).Seconds())
	figures["%throttled"] = 100 * float64(throttled) / float64(accepted+throttled)
	return figures
}

// neighbour calls twice a second, evenly, until the benchmark ends. What it
// returns counts its calls after the first minute.
func neighbour(b *testing.B, endpoint *onsd.Endpoint, message int) func() (calls, throttled int) {
	api, err := ons.New(ons.Config{
		Region: "cn-hangzhou", Endpoint: endpoint.URL, PushTimeout: 15 * time.Second, MaxInFlight: 10,
		Default: ons.Credentials{AccessKeyID: keyID, AccessKeySecret: secret},
	})
	if err != nil {
		b.Fatal(err)
	}
	target := pushing.Target{Message: pushing.Message{InstanceID: instance, Topic: "orders", GroupID: "GID_x", MsgID: msgID(message)}, ClientID: "10.0.0.1@1#a"}
	ctx, cancel := context.WithCancel(b.Context())
	var mu sync.Mutex
	calls, throttled := 0, 0
	var done sync.WaitGroup
	done.Go(func() {
		begin, ticker := time.Now(), time.NewTicker(500*time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
			_, err := api.Push(context.WithoutCancel(ctx), target)
			if time.Since(begin) < time.Minute {
				continue
			}
			mu.Lock()
			if calls++; err != nil {
				throttled++
			}
			mu.Unlock()
		}
	})
	return func() (int, int) {
		cancel()
		done.Wait()
		return calls, throttled
	}
}

// shareQuota gives every process its part of the requests and returns the round
// trips to Redis a push, by Redis' own count of reads.
func shareQuota(b *testing.B, endpoint *onsd.Endpoint, processes, count int) float64 {
	store := redistest.Start(b)
	env := settings(endpoint, "REPUSH_STATE="+store.URL(), "REPUSH_LOG_LEVEL=warn")
	functions := make([]*fcd.Function, processes)
	for i := range functions {
		f, err := fcd.Start(b.Context(), fcd.Options{Binary: functionBinary(b), Runtime: fcd.FCGo1, Env: env, Timeout: 10 * time.Minute, Stderr: os.Stderr})
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = f.Stop(context.Background()) }()
		functions[i] = f
	}
	before := reads(b, store)
	var all sync.WaitGroup
	for i, f := range functions {
		from, to := i*count/processes, (i+1)*count/processes
		all.Go(func() {
			if r, err := f.Invoke(b.Context(), arrayOf(requests(from, to-from)...)); err != nil || r.FunctionError != "" {
				b.Errorf("%v %s %.200s", err, r.FunctionError, r.Payload)
			}
		})
	}
	all.Wait()
	return float64(reads(b, store)-before) / float64(count)
}

func reads(b *testing.B, store *redistest.Server) (n int) {
	b.Helper()
	for line := range strings.Lines(store.Do("INFO", "stats")) {
		if _, err := fmt.Sscanf(line, "total_reads_processed:%d", &n); err == nil {
			return n
		}
	}
	b.Fatal("Redis does not count its reads")
	return 0
}

func setQuota(d *onsd.Data, kind string) {
	d.Quotas["OnsMessagePush"] = onsd.Quota{Kind: kind, Limit: perSecond, Window: time.Second}
}

func slow(d *onsd.Data, delay time.Duration) {
	for i := range d.Instances[0].Groups[0].Clients {
		c := &d.Instances[0].Groups[0].Clients[i]
		c.Behaviour, c.Delay = "slow", delay
	}
}

// BenchmarkColdStart reports the median time from process start to the first
// poll of the runtime API, and its ratio to a hello-world on the same SDK. Aim:
// at most 1.5.
func BenchmarkColdStart(b *testing.B) {
	_, endpoint := world(b, 1)
	for _, runtime := range []fcd.Runtime{fcd.FCGo1, fcd.Lambda} {
		hello := filepath.Join(b.TempDir(), "hello")
		source := map[fcd.Runtime]string{fcd.FCGo1: "./testdata/hello-go1", fcd.Lambda: "./testdata/hello-lambda"}[runtime]
		build := exec.Command("go", "build", "-tags", "lambda.norpc", "-o", hello, source)
		if out, err := build.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
		b.Run(string(runtime), func(b *testing.B) {
			ours, theirs := []time.Duration{}, []time.Duration{}
			for b.Loop() {
				for range 15 { // in turns, so that both see the same machine
					ours = append(ours, coldStart(b, runtime, functionBinary(b), settings(endpoint)))
					theirs = append(theirs, coldStart(b, runtime, hello, nil))
				}
			}
			slices.Sort(ours)
			slices.Sort(theirs)
			median := len(ours) / 2
			b.ReportMetric(float64(ours[median].Microseconds()), "µs/start")
			b.ReportMetric(float64(ours[median])/float64(theirs[median]), "×hello")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func coldStart(b *testing.B, runtime fcd.Runtime, binary string, env []string) time.Duration {
	b.Helper()
	f, err := fcd.Start(b.Context(), fcd.Options{Binary: binary, Runtime: runtime, Env: env, Stdout: io.Discard, Stderr: io.Discard})
	if err != nil {
		b.Fatal(err)
	}
	f.Kill()
	<-f.Exited()
	return f.ColdStart()
}

// BenchmarkResidentMemory sends 10,000 events to one process and reports its
// resident memory. Aim: at most 40 MB.
func BenchmarkResidentMemory(b *testing.B) {
	const count, workers = 10_000, 50
	for b.Loop() {
		_, endpoint := world(b, count)
		p := start(b, string(fcd.FCCustom), append(slices.DeleteFunc(settings(endpoint), func(s string) bool { return strings.HasPrefix(s, "REPUSH_LOG") }), "REPUSH_QPS=100000"))
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := w; i < count; i += workers {
					if body, failed := p.invoke(request(fmt.Sprint(i), i)); failed != "" {
						b.Errorf("%s %s", failed, body)
						return
					}
				}
			})
		}
		wg.Wait()
		b.ReportMetric(residentMB(b, p.fcd.PID()), "MB")
		b.ReportMetric(0, "ns/op")
		_ = p.stop()
	}
}

func residentMB(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Skipf("no /proc to read resident memory from: %v", err)
	}
	for line := range strings.Lines(string(status)) {
		var kb float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kb); n == 1 {
			return kb / 1024
		}
	}
	b.Fatal("no VmRSS in /proc/pid/status")
	return 0
}
