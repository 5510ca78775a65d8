package ledger

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/ledger/ledgertest"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/redis"
	"github.com/ons-repush/ons-repush/functions/internal/redis/redistest"
)

// readsClock is the one place of the script that knows the time.
const readsClock = "redis.call('TIME')"

// room is a key space of its own on a server, and perhaps a clock of its own.
type room struct {
	Scripts
	prefix string
	now    func() time.Time // nil: the server's clock
}

// newRoom panics when a script reads the clock in more places than one.
func newRoom(scripts Scripts, prefix string, now func() time.Time) room {
	if strings.Count(machine, readsClock) != 1 || strings.Count(documentsMachine, readsClock) != 1 {
		panic("a script reads the clock in more places than one")
	}
	return room{scripts, prefix, now}
}

func (s room) words(script string, keys []string, args []any) (string, []string, []any) {
	moved := make([]string, len(keys))
	for i, k := range keys {
		moved[i] = s.prefix + k
	}
	if s.now == nil {
		return script, moved, args
	}
	script = strings.Replace(script, readsClock, "{0, ARGV[#ARGV]}", 1)
	return script, moved, append(args[:len(args):len(args)], s.now().UnixMicro())
}

func (s room) Eval(ctx context.Context, script string, keys []string, args ...any) (any, error) {
	script, keys, args = s.words(script, keys, args)
	return s.Scripts.Eval(ctx, script, keys, args...)
}

func (s room) EvalLater(script string, keys []string, args []any, done func(any, error)) {
	script, keys, args = s.words(script, keys, args)
	s.Scripts.EvalLater(script, keys, args, done)
}

func openClient(tb testing.TB, server *redistest.Server) *redis.Client {
	tb.Helper()
	client, err := redis.Open(server.URL())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = client.Close() })
	return client
}

// grow makes the ledger so old that it has forgotten nothing.
func grow(tb interface {
	Context() context.Context
	Fatal(...any)
}, r *Redis, c *clock) {
	if _, err := r.everywhere(tb.Context(), "birth", arguments{}); err != nil {
		tb.Fatal(err)
	}
	c.advance(25 * time.Hour)
}

func conform(t *testing.T, server *redistest.Server) {
	client := openClient(t, server)
	ledgertest.Run(t, func(t *testing.T) ledgertest.Harness {
		clock := newClock()
		ledger := NewRedis(newRoom(client, t.Name(), clock.Now), time.Hour)
		grow(t, ledger, clock)
		return ledgertest.Harness{Ledger: ledger, Advance: clock.advance}
	})
}

func TestRedis(t *testing.T) {
	t.Parallel()
	conform(t, redistest.Start(t))
}

func TestRedisCluster(t *testing.T) {
	t.Parallel()
	conform(t, redistest.StartCluster(t, 3))
}

// TestRedisScriptSuitsProxies: Tair's proxy refuses a script that computes a
// command or the name of a key.
func TestRedisScriptSuitsProxies(t *testing.T) {
	t.Parallel()
	literal := regexp.MustCompile(`^redis\.p?call\('(TIME'\)|INFO', |[A-Z]+', KEYS\[[1-6]\][,)])`)
	for _, script := range []string{machine, documentsMachine} {
		calls := regexp.MustCompile(`redis\.p?call\(`).FindAllStringIndex(script, -1)
		if len(calls) == 0 {
			t.Fatal("no calls found")
		}
		for _, c := range calls {
			if call, _, _ := strings.Cut(script[c[0]:], "\n"); !literal.MatchString(call) {
				t.Errorf("%s: want a literal command and KEYS[n]", call)
			}
		}
	}
}

func newRedis(t *testing.T, server *redistest.Server) (*Redis, *clock) {
	clock := newClock()
	r := NewRedis(newRoom(openClient(t, server), "", clock.Now), time.Hour)
	grow(t, r, clock)
	return r, clock
}

func mustClaim(t *testing.T, l pushing.Ledger, ask pushing.Ask) pushing.Claim {
	t.Helper()
	c, err := l.Claim(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestRedisForgets: what a server has forgotten is suspected in every request
// from before, and in none from later.
func TestRedisForgets(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]func(*redistest.Server){
		"a flush":   func(s *redistest.Server) { s.Do("FLUSHALL") },
		"a restart": func(s *redistest.Server) { s.Restart() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, "--appendonly", "yes")
			r, clock := newRedis(t, server)
			if c := mustClaim(t, r, askFor(1)); c.Young || c.MaybeDuplicate {
				t.Errorf("before: %+v", c)
			}
			forget(server)
			before := askFor(2)
			before.Time = clock.Now().Add(-time.Hour)
			var c pushing.Claim
			for end := time.Now().Add(10 * time.Second); ; { // the connection was cut
				var err error
				if c, err = r.Read(t.Context(), before); err == nil {
					break
				} else if time.Now().After(end) {
					t.Fatal(err)
				}
			}
			if !c.Young || server.Do("HGET", "ons-repush:{00}:birth", "at") == strconv.FormatInt(clock.Now().UnixMilli(), 10) {
				t.Errorf("reading: young %v; it must not move the birth mark", c.Young)
			}
			if c = mustClaim(t, r, before); !c.Young || !c.MaybeDuplicate {
				t.Errorf("a request from before: young %v, maybe %v", c.Young, c.MaybeDuplicate)
			}
			if c := mustClaim(t, r, askFor(3)); !c.Young {
				t.Error("a request of unknown time is not young")
			}
			clock.advance(2 * time.Minute)
			for i := range 100 { // in most shards
				later := askFor(10 + i)
				later.Time = clock.Now()
				if c := mustClaim(t, r, later); c.Young || c.MaybeDuplicate {
					t.Fatalf("request %d from later: %+v", i, c)
				}
			}
		})
	}
}

// TestRedisRealClock: leases end by the server's own clock.
func TestRedisRealClock(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r := NewRedis(openClient(t, server), time.Hour)
	a := askFor(1)
	a.Lease = 50 * time.Millisecond
	first := mustClaim(t, r, a)
	if d := time.Since(first.ReceivedAt); d < -time.Second || d > 20*time.Second {
		t.Errorf("received %v ago", d)
	}
	for {
		c := mustClaim(t, r, a)
		if c.Found == pushing.Granted {
			if c.Fence <= first.Fence || c.Age < a.Lease {
				t.Errorf("after the lease %+v", c)
			}
			break
		}
		if c.Found != pushing.Busy || c.Wait <= 0 || c.Wait > a.Lease {
			t.Fatalf("during the lease %+v", c)
		}
	}
}

func emit(t testing.TB, l pushing.Ledger, asks ...pushing.Ask) {
	t.Helper()
	for _, a := range asks {
		c, err := l.Claim(t.Context(), a)
		if err == nil {
			err = l.MarkSending(t.Context(), c)
		}
		if c.Pushes++; err == nil {
			err = l.Decide(t.Context(), c, pushing.Decision{Outcome: events.Pushed, At: time.Unix(1.8e9, 123456789)})
		}
		if err == nil {
			err = l.MarkEmitted(t.Context(), a)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestRedisKeepsWhatIsUnfinished: only what is emitted expires, with its counts.
func TestRedisKeepsWhatIsUnfinished(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r, clock := newRedis(t, server)
	a := askFor(1)
	a.Data.OperationID = "op"
	at, _ := recordOf(a.Message())
	ttl := func() int { n, _ := strconv.Atoi(server.Do("PTTL", at.key())); return n }
	mustClaim(t, r, a)
	if n := ttl(); n != -1 {
		t.Errorf("a claimed record expires in %d ms", n)
	}
	clock.advance(2 * time.Second)
	emit(t, r, a)
	if n := ttl(); n < 3500000 || n > 3600000 {
		t.Errorf("an emitted record expires in %d ms, want an hour", n)
	}
	if n, _ := strconv.Atoi(server.Do("PTTL", indexOf(a.Request).key())); n < 3500000 || n > 3600000 {
		t.Errorf("the index of an emitted request expires in %d ms, want an hour", n)
	}
	if p, err := r.Progress(t.Context(), "op"); err != nil || p.States["emitted"] != 1 {
		t.Errorf("progress %+v, %v", p, err)
	}
	again := a
	again.Request.ID = "again"
	clock.advance(2 * time.Hour)
	for i := 0; server.Do("HEXISTS", at.keys()[4], "op") == "1"; i++ { // one of two is looked at
		if i == 1000 {
			t.Fatal("the counts of an operation that is long over are never forgotten")
		}
		again.Request.ID = fmt.Sprint("again ", i)
		again.Data.OperationID = ""
		mustClaim(t, r, again)
	}
	if p, err := r.Progress(t.Context(), ""); err != nil || p.States["waiting"]+p.States["claimed"] == 0 {
		t.Errorf("progress of all %+v, %v", p, err)
	}
}

// TestRedisForgetsOrders: an order that nobody needs any more goes with the next.
func TestRedisForgetsOrders(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r, clock := newRedis(t, server)
	give := func(s pushing.Scope, code string, lasts time.Duration) {
		t.Helper()
		if err := r.Order(t.Context(), s, pushing.Order{Code: code, For: lasts}); err != nil {
			t.Fatal(err)
		}
	}
	kept := func() string { return server.Do("HKEYS", "ons-repush:{33}:orders") }
	give(pushing.Everything, pushing.CodeStopped, 0)
	give("operation/a", pushing.CodeCancelled, 0)
	give("operation/b", pushing.CodePaused, time.Second)
	if got := kept(); got != "[everything operation/a operation/b]" {
		t.Errorf("kept %s", got)
	}
	clock.advance(time.Second)
	give("operation/c", pushing.CodePaused, 0)
	if got := kept(); got != "[everything operation/a operation/c]" {
		t.Errorf("kept %s, want none that has ended", got)
	}
	clock.advance(time.Hour + time.Millisecond)
	give("operation/d", pushing.CodePaused, 0)
	if got := kept(); got != "[everything operation/c operation/d]" {
		t.Errorf("kept %s, want no cancellation that is older than retention", got)
	}
}

// TestRedisMeetsRubbish: a record that cannot be read is an error that says where
// it is, and keeps nobody from the others.
func TestRedisMeetsRubbish(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r, clock := newRedis(t, server)
	for name, rubbish := range map[string]string{
		"no JSON": "rubbish", "a number": "1", "null": "null", "an empty object": "{}", "an empty text": "", "deep": strings.Repeat("[", 2000),
		"no fence":               `{"p":0,"q":[]}`,
		"requests missing":       `{"f":1,"p":0,"q":1}`,
		"a request of text":      `{"f":1,"p":0,"q":["x"]}`,
		"a half request":         `{"f":1,"p":0,"q":[{"s":"s","i":"i","z":"waiting","g":1,"r":1}]}`,
		"null in a request":      `{"f":1,"p":0,"q":[{"s":"s","i":"i","z":"emitted","g":null,"r":1}]}`,
		"a request of a request": `{"f":1,"p":0,"q":[{"s":"test","i":"1","z":"waiting","g":1,"r":1,"u":1,"n":1,"k":"{"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			server.Do("FLUSHALL")
			fine := askFor(2)
			mustClaim(t, r, fine)
			bad := mustClaim(t, r, askFor(1))
			at, _ := recordOf(bad.Message())
			server.Do("SET", at.key(), rubbish)
			clock.advance(time.Minute)
			due, left, err := r.Due(t.Context(), 10)
			if err == nil || !strings.Contains(err.Error(), at.key()) || len(due) != 1 || due[0].Ask.Request != fine.Request || left.Due != 2 {
				t.Errorf("due = %v, %v, %v; want the one that can be read, and an error that names the other", due, left, err)
			}
			if name == "a request of a request" {
				return
			}
			_, err1 := r.Claim(t.Context(), askFor(1))
			_, err2 := r.Read(t.Context(), askFor(1))
			_, err3 := r.History(t.Context(), bad.Message())
			for _, err := range []error{err1, err2, err3, r.MarkSending(t.Context(), bad), r.MarkEmitted(t.Context(), bad.Ask)} {
				if err == nil || !strings.Contains(err.Error(), at.key()) || !strings.Contains(err.Error(), "delete it") {
					t.Errorf("%v, want an error that says where and what to do", err)
				}
			}
		})
	}
}

// TestRedisDropsWhatIsGone: a name in the index whose record is gone leaves it.
func TestRedisDropsWhatIsGone(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r, clock := newRedis(t, server)
	at, _ := recordOf(mustClaim(t, r, askFor(1)).Message())
	server.Do("DEL", at.key())
	clock.advance(time.Minute)
	for _, want := range []int{1, 0} {
		if due, left, err := r.Due(t.Context(), 10); err != nil || len(due) != 0 || left.Open != want {
			t.Errorf("due = %v, %+v, %v; want none, %d open", due, left, err, want)
		}
	}
}

// TestRedisContradictionLeavesNoTrace: neither the question nor its repetition,
// when the answer got lost, takes a claim away from another request.
func TestRedisContradictionLeavesNoTrace(t *testing.T) {
	t.Parallel()
	r, clock := newRedis(t, redistest.Start(t))
	mustClaim(t, r, askFor(1))
	c := mustClaim(t, r, askFor(2))
	if err := r.MarkSending(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	c.Pushes++
	c.Attempts++
	clock.advance(time.Minute) // its lease is over, and it wakes up
	contradicting := askFor(1)
	contradicting.Data.MsgID, contradicting.Token = c.Data.MsgID, "token"
	for _, step := range []func() error{
		func() error { return r.MarkNotSent(t.Context(), c, false) },
		func() error { c.Pushes--; return r.MarkSending(t.Context(), c) },
	} {
		if got := mustClaim(t, r, contradicting); got.Found != pushing.Contradicting {
			t.Fatalf("claim = %+v, want contradicting", got)
		}
		if err := step(); err != nil {
			t.Errorf("after a contradiction: %v", err)
		}
	}
	if got := mustClaim(t, r, askFor(2)); got.Found != pushing.Busy || got.Wait != c.Lease {
		t.Errorf("claim = %+v, want busy until the lease ends", got)
	}
	h, err := r.History(t.Context(), c.Message())
	if err != nil || len(h.Requests) != 1 {
		t.Errorf("history = %+v, %v; want the one request that was for this message", h, err)
	}
}

// TestRedisParkNeedsOneOpenSend: a park takes back the mark whose answer got
// lost, but not one of two.
func TestRedisParkNeedsOneOpenSend(t *testing.T) {
	t.Parallel()
	r, _ := newRedis(t, redistest.Start(t))
	c := mustClaim(t, r, askFor(1))
	for range 2 {
		if err := r.MarkSending(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		c.Pushes++
		c.Attempts++
	}
	c.Pushes--
	if err := r.Park(t.Context(), c, 0, "x"); !errors.Is(err, pushing.ErrLost) {
		t.Errorf("park = %v, want ErrLost", err)
	}
}

// odd answers everything with the same.
type odd struct{ answer any }

func (o odd) Eval(context.Context, string, []string, ...any) (any, error) { return o.answer, nil }

func (o odd) EvalLater(_ string, _ []string, _ []any, done func(any, error)) { go done(o.answer, nil) }

func TestRedisMeetsOddAnswers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]any{
		"nothing": nil, "a text": "x", "a number": int64(1), "an empty list": []any{}, "a list of a number": []any{int64(1)},
		"no JSON": []any{"x"}, "another type": []any{`{"found":"x"}`}, "another field": []any{`{"x":1}`}, "too much": []any{"{}", "", "", ""},
		"no request": []any{"{}", "x", ""}, "no event": []any{"{}", "", "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := NewRedis(odd{answer}, time.Hour)
			if c, err := r.Claim(t.Context(), askFor(1)); err == nil && c.Found != pushing.Contradicting {
				t.Errorf("claim = %+v", c)
			}
			if p, err := r.Progress(t.Context(), ""); err == nil {
				t.Errorf("progress = %+v", p)
			}
		})
	}
	failed := errors.New("away")
	if _, err := NewRedis(away{failed}, time.Hour).Claim(t.Context(), askFor(1)); !errors.Is(err, failed) {
		t.Errorf("claim = %v, want %v", err, failed)
	}
}

type away struct{ err error }

func (a away) Eval(context.Context, string, []string, ...any) (any, error) { return nil, a.err }

func (a away) EvalLater(_ string, _ []string, _ []any, done func(any, error)) { go done(nil, a.err) }

// TestRedisRoundTrips: a step is one exchange, also where it asks many shards.
func TestRedisRoundTrips(t *testing.T) {
	t.Parallel()
	client := openClient(t, redistest.Start(t))
	r := NewRedis(client, time.Hour)
	emit(t, r, askFor(0)) // sends the script, and births
	c := mustClaim(t, r, askFor(1))
	for name, step := range map[string]struct {
		want int64
		do   func() error
	}{
		"claim":    {1, func() error { _, err := r.Claim(t.Context(), askFor(2)); return err }},
		"sending":  {1, func() error { return r.MarkSending(t.Context(), c) }},
		"emitted":  {1, func() error { return r.MarkEmitted(t.Context(), c.Ask, askFor(2), askFor(3)) }},
		"order":    {1, func() error { return r.Order(t.Context(), pushing.OfOperation("x"), pushing.Order{}) }},
		"progress": {1, func() error { _, err := r.Progress(t.Context(), ""); return err }},
		"count":    {1, func() error { _, _, err := r.Due(t.Context(), 0); return err }},
	} {
		least := int64(1 << 60)
		for range 5 { // a busy machine may begin to send before all is queued
			before := client.RoundTrips()
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			least = min(least, client.RoundTrips()-before)
		}
		if least != step.want {
			t.Errorf("%s took %d round trips, want %d", name, least, step.want)
		}
	}
}

// largeAsk is as large as they come in practice.
func largeAsk(i int) pushing.Ask {
	return pushing.Ask{
		Request: pushing.RequestKey{Source: "acs:mns:cn-hangzhou:1234567890123456:queues/dead-letters", ID: fmt.Sprintf("%08x-1111-2222-3333-444455556666", i)},
		Data: events.Requested{
			InstanceID: "MQ_INST_1234567890123456_BXabcdef", Topic: "orders-payment", GroupID: "GID_orders_payment", MsgID: fmt.Sprintf("%032X", i),
			Reason: "consumer crashed on 2026-11-22, ticket 12345", RequestedBy: "operator@example.com", OperationID: "incident-2026-11-22",
			StoredAt: time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC),
		},
		Time: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC), Lease: time.Minute, Token: "0123456789abc",
	}
}

// TestRedisMemory: what the comment of [Redis] says of memory.
func TestRedisMemory(t *testing.T) {
	t.Parallel()
	const n = 5000
	server := redistest.Start(t)
	r := NewRedis(openClient(t, server), time.Hour)
	used := func() int {
		_, rest, _ := strings.Cut(server.Do("INFO", "memory"), "used_memory:")
		rest, _, _ = strings.Cut(rest, "\r")
		n, err := strconv.Atoi(rest)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	mustClaim(t, r, largeAsk(0)) // births
	done := doneOf(t, largeAsk(0))
	var asks []pushing.Ask
	claims := make([]pushing.Claim, n)
	empty := used()
	measure := func(what string, most int) {
		t.Helper()
		each := (used() - empty) / n
		if t.Logf("%s: %d bytes each", what, each); each > most || each <= 0 {
			t.Errorf("want at most %d", most)
		}
	}
	parallelBy(64, n, func(i int) {
		c, err := r.Claim(t.Context(), largeAsk(1+i))
		if err == nil {
			err = r.MarkSending(t.Context(), c)
		}
		claims[i] = c
		if err != nil {
			t.Error(err)
		}
	})
	measure("claimed and sending", 2000)
	parallelBy(64, n, func(i int) {
		c := claims[i]
		c.Pushes++
		c.Attempts++
		if err := r.Decide(t.Context(), c, pushing.Decision{Outcome: events.Pushed, Event: done, At: time.Now()}); err != nil {
			t.Error(err)
		}
	})
	measure("decided", 3500)
	for i := range n {
		asks = append(asks, largeAsk(1+i))
	}
	if err := r.MarkEmitted(t.Context(), asks...); err != nil {
		t.Fatal(err)
	}
	measure("emitted", 670)
}

// parallelBy runs n steps, by so many workers.
func parallelBy(workers, n int, step func(i int)) {
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for i := worker; i < n; i += workers {
				step(i)
			}
		})
	}
	wg.Wait()
}

// FuzzRedisRecord: whatever is stored in a record, the ledger answers or says
// that it cannot be read.
func FuzzRedisRecord(f *testing.F) {
	server := redistest.Start(f)
	client, err := redis.Open(server.URL())
	if err != nil {
		f.Fatal(err)
	}
	r := NewRedis(client, time.Hour)
	a := askFor(1)
	at, _ := recordOf(a.Message())
	emit(f, r, a)
	stored := server.Do("GET", at.key())
	for _, seed := range []string{stored, "", "{}", `{"f":1,"p":0,"q":{}}`, stored[:len(stored)/2], strings.Replace(stored, "emitted", "sending", 1)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, rubbish string) {
		_, err := client.Eval(t.Context(), "return redis.call('SET', KEYS[1], ARGV[1])", []string{at.key()}, rubbish)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			c, err := r.Claim(t.Context(), a)
			if err == nil && c.Request == (pushing.RequestKey{}) {
				t.Errorf("claim = %+v", c)
			}
			_, _, _ = r.Due(t.Context(), 10)
			_, _ = r.History(t.Context(), a.Message())
			_ = r.MarkSending(t.Context(), c)
			_ = r.Decide(t.Context(), c, pushing.Decision{Outcome: events.Failed})
		}
	})
}

// TestRedisFlushLeavesNobodyAlone: a claim from before the flush and one from
// after it, for one request, are never both good.
func TestRedisFlushLeavesNobodyAlone(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r, clock := newRedis(t, server)
	before := mustClaim(t, r, askFor(1))
	server.Do("FLUSHALL")
	if err := r.MarkSending(t.Context(), before); !errors.Is(err, pushing.ErrForgotten) {
		t.Errorf("after the flush: %v, want forgotten", err)
	}
	clock.advance(time.Millisecond)
	after := mustClaim(t, r, askFor(1))
	if err := r.MarkSending(t.Context(), before); !errors.Is(err, pushing.ErrLost) || !after.Young || !after.MaybeDuplicate {
		t.Errorf("the old claim: %v; the new one: %+v", err, after)
	}
	if err := r.MarkSending(t.Context(), after); err != nil {
		t.Errorf("the new claim: %v", err)
	}
}

// TestRedisOlderCopy: after a failover to a copy that missed a push, the
// request is pushed again, and says so.
func TestRedisOlderCopy(t *testing.T) {
	t.Parallel()
	for name, claims := range map[string]bool{"in which it waits": false, "in which it is claimed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			r, clock := newRedis(t, server)
			ask := askFor(1)
			if _, err := r.Receive(t.Context(), ask, "NoSlot"); err != nil {
				t.Fatal(err)
			}
			at, _ := recordOf(ask.Message())
			clock.advance(time.Second)
			older := server.Do("GET", at.key())
			c := mustClaim(t, r, ask)
			if claims {
				older = server.Do("GET", at.key())
			}
			if err := r.MarkSending(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			c.Pushes, c.Attempts = 1, 1
			if err := r.Decide(t.Context(), c, pushing.Decision{Outcome: events.Pushed, Event: events.Event{ID: "e"}}); err != nil {
				t.Fatal(err)
			}
			server.Do("SET", at.key(), older)
			server.Do("HSET", at.keys()[3], "run", "another")
			clock.advance(2 * time.Second)
			if again := mustClaim(t, r, ask); again.Found != pushing.Granted || !again.MaybeDuplicate || !again.Young {
				t.Errorf("claim = %+v, want one that says that it may be the second", again)
			}
		})
	}
}

// TestRedisStatisticsAreNoReasonToStop, whatever stands in them.
func TestRedisStatisticsAreNoReasonToStop(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r, _ := newRedis(t, server)
	at, _ := recordOf(askFor(1).Message())
	for _, rubbish := range []string{"rubbish", "{}", "[1]", `{"waiting":"x","at":{}}`} {
		server.Do("HSET", at.keys()[4], "", rubbish, "op", rubbish)
		server.Do("HSET", at.keys()[3], "at", rubbish)
		c := mustClaim(t, r, askFor(1))
		if err := r.Park(t.Context(), c, 0, "x"); err != nil {
			t.Errorf("%s: %v", rubbish, err)
		}
	}
}
