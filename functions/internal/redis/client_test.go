package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/redis/redistest"
)

const (
	count = `return redis.call('INCR', KEYS[1])`
	read  = `return redis.call('GET', KEYS[1])`
)

// open returns a client that is closed with the test.
func open(t testing.TB, url string) *Client {
	t.Helper()
	c, err := Open(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// must runs a script that must not fail.
func must(t testing.TB, c *Client, script string, keys []string, args ...any) any {
	t.Helper()
	v, err := c.Eval(t.Context(), script, keys, args...)
	if err != nil {
		t.Fatalf("Eval(%q): %v", script, err)
	}
	return v
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	c := open(t, redistest.Start(t).URL())
	got := must(t, c, `return {KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], 7, {'in'}, redis.status_reply('FINE')}`,
		[]string{"key"}, "text", []byte("bytes\r\n"), true, -1, int64(1)<<40, 2.5)
	want := []any{"key", "text", "bytes\r\n", "1", "-1", "1099511627776", "2.5", int64(7), []any{"in"}, "FINE"}
	if diff := cmp.Diff(any(want), got); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	for _, script := range []string{`return nil`, `return false`, ``} {
		if got := must(t, c, script, nil); got != nil {
			t.Errorf("%q = %v, want nil", script, got)
		}
	}
	if diff := cmp.Diff(any([]any{}), must(t, c, `return {}`, nil, "one")); diff != "" {
		t.Errorf("empty table (-want +got):\n%s", diff)
	}
	var own *pushing.Error
	if _, err := c.Eval(t.Context(), read, []string{"key"}, "a", []int{1}); !errors.As(err, &own) || own.Kind != pushing.Internal || !strings.Contains(err.Error(), "argument 2 of a script is a []int") {
		t.Errorf("an argument of a wrong type: %v", err)
	}
}

func TestScriptsSurviveAFlush(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := open(t, s.URL())
	for i, trips := range []int64{2, 1, 2, 1} {
		if i == 2 {
			s.Do("SCRIPT", "FLUSH")
		}
		before := c.RoundTrips()
		if got := must(t, c, count, []string{"n"}); got != int64(i+1) {
			t.Errorf("call %d = %v", i, got)
		}
		if got := c.RoundTrips() - before; got != trips {
			t.Errorf("call %d took %d round trips, want %d", i, got, trips)
		}
	}
}

func TestManyAtOnceShareRoundTrips(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := open(t, s.URL())
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if _, err := c.Eval(t.Context(), count, []string{"n"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got := s.Do("GET", "n"); got != "200" {
		t.Errorf("%s scripts ran", got)
	}
	if got := c.RoundTrips(); got > 50 {
		t.Errorf("%d round trips for 200 scripts", got)
	}
	if got := s.Do("CLIENT", "LIST", "TYPE", "normal"); strings.Count(got, "\n") != 2 {
		t.Errorf("more than one connection beside that of the question:\n%s", got)
	}
}

func TestLaterTravelsWithTheNext(t *testing.T) {
	t.Parallel()
	c := open(t, redistest.Start(t).URL())
	c.batches.later = time.Hour // however long this goroutine is kept waiting
	must(t, c, count, []string{"n"})
	answers := make(chan any, 3)
	done := func(v any, err error) {
		if err != nil {
			v = err
		}
		answers <- v
	}
	before := c.RoundTrips()
	c.EvalLater(count, []string{"n"}, nil, done)
	c.EvalLater(count, []string{"n"}, nil, nil)
	if got := must(t, c, count, []string{"n"}); got != int64(4) || c.RoundTrips() != before+1 {
		t.Errorf("answer %v after %d round trips, want 4 after 1", got, c.RoundTrips()-before)
	}
	if got := <-answers; got != int64(2) {
		t.Errorf("the later one's answer = %v", got)
	}
	// Alone, and done may wait for what it asks for itself.
	c.batches.later = laterWait
	c.EvalLater(count, []string{"n"}, nil, func(any, error) { done(c.Eval(context.Background(), count, []string{"n"})) })
	if got := <-answers; got != int64(6) || c.RoundTrips() != before+3 {
		t.Errorf("answer %v after %d round trips, want 6 after 3", got, c.RoundTrips()-before)
	}
}

// TestNeighboursOfAFailure: in one pipeline, each gets its own answer.
func TestNeighboursOfAFailure(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	primary.Do("SET", "n", "1")
	replica := redistest.Start(t, append([]string{"--replicaof"}, strings.Split(primary.Addr(), ":")...)...)
	eventually(t, "the replica", func() bool { return replica.Do("GET", "n") == "1" })
	cluster := redistest.StartCluster(t, 1)
	cluster.Do("SET", "n", "1")
	for name, tt := range map[string]struct{ url, first, code string }{
		"a script that fails":            {primary.URL(), `return redis.call('INCRBY', KEYS[1], 'x')`, ""},
		"a script that is none":          {primary.URL(), `return (`, ""},
		"a write on a replica":           {replica.URL(), count, StateReadOnly},
		"on a cluster":                   {cluster.URL(), `return {err = 'TRYAGAIN later'}`, StateLoading},
		"on a cluster, with a read-only": {cluster.URL(), `return {err = 'READONLY you see'}`, StateReadOnly},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := open(t, tt.url)
			c.batches.later = time.Hour // however long this goroutine is kept waiting
			failed := make(chan error, 1)
			for range 2 { // the second time the scripts are known
				before := c.RoundTrips()
				c.EvalLater(tt.first, []string{"n"}, nil, func(_ any, err error) { failed <- err })
				ran := make(chan any, 1)
				c.EvalLater(`return {redis.call('GET', KEYS[1])}`, []string{"n"}, nil, func(v any, _ error) { ran <- v })
				if got := must(t, c, read, []string{"n"}); got != "1" {
					t.Errorf("the neighbour's answer = %v", got)
				}
				if diff := cmp.Diff(any([]any{"1"}), <-ran); diff != "" {
					t.Errorf("the other neighbour's answer (-want +got):\n%s", diff)
				}
				var own *pushing.Error
				if err := <-failed; !errors.As(err, &own) || own.Code != tt.code {
					t.Errorf("error = %v, want code %q", err, tt.code)
				}
				if got := c.RoundTrips() - before; got > 3 {
					t.Errorf("%d round trips", got)
				}
			}
		})
	}
}

// TestNothingIsRunTwice: a script whose answer did not come in time may run, and
// is not sent again, not even by go-redis's cluster client.
func TestNothingIsRunTwice(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*redistest.Server{"single": redistest.Start(t), "cluster": redistest.StartCluster(t, 1)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := open(t, s.URL())
			must(t, c, read, []string{"n"})
			s.Do("SCRIPT", "LOAD", count)
			s.Freeze()
			failed := make(chan error, 1)
			go func() {
				_, err := c.Eval(context.Background(), count, []string{"n"})
				failed <- err
			}()
			select {
			case err := <-failed:
				if err == nil || !strings.Contains(err.Error(), "no answer in time") {
					t.Errorf("error = %v", err)
				}
				s.Thaw()
			case <-time.After(timeout + 500*time.Millisecond):
				// A busy machine; or else it was sent again, which would succeed now.
				s.Thaw()
				<-failed
			}
			eventually(t, "the script to run", func() bool { return s.Do("GET", "n") != "" })
			if got := s.Do("GET", "n"); got != "1" {
				t.Errorf("it ran %s times", got)
			}
		})
	}
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func TestContextEndsTheWaiting(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := open(t, s.URL())
	must(t, c, count, []string{"n"})
	sent, goOn := make(chan struct{}), make(chan struct{})
	c.batches.send = func(batch []*call) {
		close(sent)
		<-goOn
		c.batches.send = c.send
		c.send(batch)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-sent; cancel() }()
	if _, err := c.Eval(ctx, count, []string{"n"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Eval = %v", err)
	}
	close(goOn)
	// The pipeline went on, and the one behind it goes its way.
	if got := must(t, c, count, []string{"n"}); got != int64(3) {
		t.Errorf("answer = %v, want 3", got)
	}
	if _, err := c.Eval(ctx, count, []string{"n"}); !errors.Is(err, context.Canceled) {
		t.Errorf("Eval with a context that has ended = %v", err)
	}
	if got := must(t, c, count, []string{"n"}); got != int64(4) {
		t.Errorf("answer = %v, want 4: what nobody waits for was sent", got)
	}
}

// TestComesBack is not parallel: it counts goroutines.
func TestComesBack(t *testing.T) {
	s := redistest.Start(t)
	s.Stop()
	goroutines := runtime.NumGoroutine()
	c := open(t, s.URL())
	for round := range 3 {
		for range 10 {
			if _, err := c.Eval(t.Context(), count, []string{"n"}); err == nil || !strings.Contains(err.Error(), "refused") {
				t.Fatalf("round %d, away: %v", round, err)
			}
		}
		eventually(t, "go-redis to end its goroutines", func() bool { return runtime.NumGoroutine() <= goroutines })
		s.Restart()
		// The first call after the return already succeeds.
		if got := must(t, c, count, []string{"n"}); got != int64(1) {
			t.Errorf("round %d, back: %v", round, got)
		}
		if err := c.Check(t.Context()); err != nil {
			t.Errorf("round %d: Check = %v", round, err)
		}
		s.Stop()
		// A connection that died while it was idle is noticed before it is used.
		s.Restart()
		if _, err := c.Eval(t.Context(), count, []string{"n"}); err != nil {
			t.Errorf("round %d, after a restart: %v", round, err)
		}
		s.Stop()
	}
}

// TestDialsOnce: go-redis does not try again by itself.
func TestDialsOnce(t *testing.T) {
	t.Parallel()
	c := open(t, "redis://h")
	var dials atomic.Int64
	c.options.Dialer = func(context.Context, string, string) (net.Conn, error) {
		dials.Add(1)
		return nil, syscall.ECONNREFUSED
	}
	for i := range int64(20) {
		if _, err := c.Eval(t.Context(), count, []string{"n"}); err == nil || dials.Load() != i+1 {
			t.Fatalf("call %d: %v after %d dials", i+1, err, dials.Load())
		}
	}
}

// TestFailover: the host name leads to another server, while the old one still
// answers, and the first script of a pipeline is one it takes.
func TestFailover(t *testing.T) {
	t.Parallel()
	primary := redistest.Start(t)
	replica := redistest.Start(t, append([]string{"--replicaof"}, strings.Split(primary.Addr(), ":")...)...)
	for _, script := range []string{count, read} {
		replica.Do("SCRIPT", "LOAD", script)
	}
	c := open(t, "redis://h")
	var addr atomic.Value
	addr.Store(replica.Addr())
	c.options.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, addr.Load().(string))
	}
	must(t, c, read, []string{"n"})
	c.EvalLater(read, []string{"n"}, nil, nil)
	if _, err := c.Eval(t.Context(), count, []string{"n"}); err == nil || !strings.Contains(err.Error(), StateReadOnly) {
		t.Errorf("a write on the replica: %v", err)
	}
	addr.Store(primary.Addr())
	c.EvalLater(read, []string{"n"}, nil, nil)
	if got := must(t, c, count, []string{"n"}); got != int64(1) {
		t.Errorf("answer = %v, want 1", got)
	}
}

// TestLogsNothing runs itself again as a process: go-redis logs to the standard
// error it found when it was loaded, and it logs addresses.
func TestLogsNothing(t *testing.T) {
	t.Parallel()
	if raw := os.Getenv("REDIS_URL"); raw != "" {
		if _, err := open(t, raw).Eval(t.Context(), count, []string{"n"}); err == nil {
			t.Error("no error")
		}
		return
	}
	s := redistest.Start(t)
	s.Stop()
	cmd := exec.Command(os.Args[0], "-test.run=^TestLogsNothing$")
	cmd.Env = []string{"REDIS_URL=" + s.URL()}
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "127.0.0.1") || strings.Contains(string(out), "redis:") {
		t.Errorf("%v:\n%s", err, out)
	}
}

// TestEveryConnectionIsChecked: a server that turns bad is refused when it is
// connected to again, and by Check at once.
func TestEveryConnectionIsChecked(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*redistest.Server{"single": redistest.Start(t), "cluster": redistest.StartCluster(t, 1)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := open(t, s.URL())
			must(t, c, count, []string{"n"})
			s.Do("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
			must(t, c, count, []string{"n"})
			refused := func(err error) {
				t.Helper()
				var own *pushing.Error
				if !errors.As(err, &own) || own.Code != StateEvicting || !strings.Contains(err.Error(), "maxmemory-policy is volatile-lru") || !strings.Contains(err.Error(), "set maxmemory-policy to noeviction") {
					t.Errorf("error = %v", err)
				}
			}
			refused(c.Check(t.Context()))
			s.Do("CLIENT", "KILL", "TYPE", "normal")
			_, err := c.Eval(t.Context(), count, []string{"n"})
			refused(err)
			s.Do("CONFIG", "SET", "maxmemory-policy", "noeviction")
			if got := must(t, c, count, []string{"n"}); got != int64(3) {
				t.Errorf("answer = %v, want 3", got)
			}
		})
	}
}

func TestCheckWritesNothing(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--appendonly", "yes")
	c := open(t, s.URL())
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if got := s.Do("DBSIZE"); got != "0" {
		t.Errorf("%s keys", got)
	}
	if info := s.Do("INFO", "persistence"); field(info, "rdb_changes_since_last_save") != "0" || field(info, "aof_current_size") != field(info, "aof_base_size") {
		t.Errorf("something was written:\n%s", info)
	}
}

func TestCheckRefusesAReplicaThatTakesWrites(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--replicaof", "127.0.0.1", "1", "--replica-read-only", "no")
	if err := open(t, s.URL()).Check(t.Context()); err == nil || !strings.Contains(err.Error(), StateReadOnly) {
		t.Errorf("Check = %v", err)
	}
}

func TestInfo(t *testing.T) {
	t.Parallel()
	for mode, s := range map[string]*redistest.Server{"standalone": redistest.Start(t), "cluster": redistest.StartCluster(t, 1)} {
		got, err := open(t, s.URL()).Info(t.Context())
		if err != nil || got.Mode != mode || got.PingMs <= 0 || got.UsedMemory < 100_000 {
			t.Errorf("Info = %+v, %v", got, err)
		}
		if want := field(s.Do("INFO", "server"), "redis_version"); got.Version != want {
			t.Errorf("version = %q, want %q", got.Version, want)
		}
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := open(t, s.URL())
	must(t, c, count, []string{"n"})
	c.EvalLater(count, []string{"n"}, nil, nil)
	if err := c.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	if got := s.Do("GET", "n"); got != "2" {
		t.Errorf("what was queued was not sent: n = %s", got)
	}
	if err := c.Close(); err != nil {
		t.Errorf("second Close = %v", err)
	}
	late := make(chan error, 1)
	c.EvalLater(count, []string{"n"}, nil, func(_ any, err error) { late <- err })
	_, err := c.Eval(t.Context(), count, []string{"n"})
	for _, err := range []error{err, <-late, c.Check(t.Context())} {
		if err == nil || !strings.Contains(err.Error(), "the client is closed") {
			t.Errorf("after Close: %v", err)
		}
	}
	if err := open(t, s.URL()).Close(); err != nil {
		t.Errorf("Close of what was never used = %v", err)
	}
}

func TestCloseAnswersEveryCall(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := open(t, s.URL())
	must(t, c, count, []string{"n"})
	s.Freeze()
	const calls = 300 // more than two pipelines
	answers := make(chan error, calls)
	for range calls {
		c.EvalLater(count, []string{"n"}, nil, func(_ any, err error) { answers <- err })
	}
	if err := c.Close(); err == nil {
		t.Error("Close of a client that waits for a frozen server: no error")
	}
	closed := 0
	for range calls {
		if err := <-answers; err == nil {
			t.Error("an answer from a frozen server")
		} else if strings.Contains(err.Error(), "the client is closed") {
			closed++
		}
	}
	if closed < calls-2*maxBatch { // else each pipeline waited for its time-out
		t.Errorf("%d calls were answered because the client is closed", closed)
	}
}

func TestCluster(t *testing.T) {
	t.Parallel()
	s := redistest.StartCluster(t, 3)
	c := open(t, s.URL())
	var wg sync.WaitGroup
	for i := range 300 {
		wg.Go(func() {
			key := fmt.Sprintf("{%d}", i)
			if v, err := c.Eval(t.Context(), `redis.call('SET', KEYS[2], ARGV[1]) return redis.call('INCR', KEYS[1])`, []string{"n" + key, "v" + key}, i); err != nil || v != int64(1) {
				t.Errorf("key %d: %v, %v", i, v, err)
			}
		})
	}
	wg.Wait()
	if got := c.RoundTrips(); got > 100 {
		t.Errorf("%d round trips for 300 scripts", got)
	}
	moveSlot(t, s.Nodes(), "n{7}", func(state string) {
		v, err := c.Eval(t.Context(), count, []string{"n{7}"})
		if err != nil {
			t.Errorf("%s: %v", state, err)
		}
		t.Logf("%s: %v", state, v)
	})
	if got := must(t, c, read, []string{"n{7}"}); got != "5" {
		t.Errorf("n{7} = %v, want 5", got)
	}
	// The node of the URL goes away: the others are known, and not held up.
	lost := ""
	for i := 0; lost == "" || s.Do("CLUSTER", "COUNTKEYSINSLOT", s.Do("CLUSTER", "KEYSLOT", lost)) == "0"; i++ {
		lost = fmt.Sprintf("n{%d}", i)
	}
	s.Stop()
	failed := make(chan error, 1)
	c.EvalLater(count, []string{lost}, nil, func(_ any, err error) { failed <- err })
	if got := must(t, c, read, []string{"n{7}"}); got != "5" {
		t.Errorf("n{7} = %v, want 5", got)
	}
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a key of the node that is away: %v", err)
	}
}

// moveSlot moves the slot of key to another node and calls visit at each state
// on the way.
func moveSlot(t *testing.T, nodes []*redistest.Server, key string, visit func(state string)) {
	t.Helper()
	slot := nodes[0].Do("CLUSTER", "KEYSLOT", key)
	var from, to *redistest.Server
	for _, n := range nodes {
		if n.Do("CLUSTER", "COUNTKEYSINSLOT", slot) != "0" {
			from = n
		} else {
			to = n
		}
	}
	fromID, toID := from.Do("CLUSTER", "MYID"), to.Do("CLUSTER", "MYID")
	visit("before")
	to.Do("CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
	from.Do("CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
	visit("on its way, not moved yet")
	host, port, _ := strings.Cut(to.Addr(), ":")
	keys := strings.Fields(strings.Trim(from.Do("CLUSTER", "GETKEYSINSLOT", slot, "10"), "[]"))
	from.Do(append([]string{"MIGRATE", host, port, "", "0", "5000", "KEYS"}, keys...)...)
	visit("on its way, moved (ASK)")
	for _, n := range []*redistest.Server{to, from} {
		n.Do("CLUSTER", "SETSLOT", slot, "NODE", toID)
	}
	visit("moved (MOVED)")
}

// TestClusterComesLater: away at the start, and single server at first.
func TestClusterComesLater(t *testing.T) {
	t.Parallel()
	s := redistest.StartCluster(t, 1, "--appendonly", "yes")
	s.Stop()
	c := open(t, s.URL())
	if err := c.Check(t.Context()); err == nil {
		t.Error("Check of what is away: no error")
	}
	s.Restart()
	eventually(t, "the cluster", func() bool { return c.Check(t.Context()) == nil })
	must(t, c, count, []string{"n"})
}

func BenchmarkEval(b *testing.B) {
	c := open(b, redistest.Start(b).URL())
	b.Run("one at a time", func(b *testing.B) {
		for b.Loop() {
			must(b, c, count, []string{"n"}, "some argument")
		}
	})
	b.Run("64 at once", func(b *testing.B) {
		b.SetParallelism(32)
		before := c.RoundTrips()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				must(b, c, count, []string{"n"}, "some argument")
			}
		})
		b.ReportMetric(float64(c.RoundTrips()-before)/float64(b.N), "trips/op")
	})
}
