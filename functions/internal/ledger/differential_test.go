package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/redis/redistest"
)

// twins are the machine in Go and the machine in Lua, at the same moments.
type twins struct {
	*rapid.T
	clock  *clock
	born   time.Time
	memory Memory
	redis  *Redis
	client Scripts
	prefix string
	// claims are all that were ever given away, of workers dead, slow or alive.
	claims []pushing.Claim
	tokens int
	last   pushing.Ask
	seen   map[string]int
}

const ages = 1000 * 24 * time.Hour // nothing is forgotten

func pick[T any](t *rapid.T, what string, from ...T) T { return rapid.SampledFrom(from).Draw(t, what) }

// homes are the messages. Those of one group are in one shard, because every
// shard lets a probe of its own through where memory has one for all.
var homes = func() (all [3]pushing.Message) {
	for home := range all {
		for n := 0; ; n++ {
			m := pushing.Message{InstanceID: "i", Topic: "t", GroupID: fmt.Sprint("g", home/2), MsgID: fmt.Sprintf("%d%030XA", home, n)}
			at, _ := recordOf(m)
			if first, _ := recordOf(all[0]); home != 1 || at.shard == first.shard {
				all[home] = m
				break
			}
		}
	}
	return all
}()

// some keeps failures small: the parts of what is asked are few.
func (tw *twins) some() pushing.Ask {
	n := pick(tw.T, "request", 0, 0, 0, 0, 3, 3, 3, 1, 2, 4, 5)
	home := pick(tw.T, "message", n%3, n%3, n%3, n%3, n%3, n%3, n%3, 0, 0, 1, 2) // another one contradicts
	tw.tokens++
	a := pushing.Ask{
		Request: pushing.RequestKey{Source: fmt.Sprint("source/", n%2), ID: fmt.Sprint("id \"", n, "\" é")},
		Data: events.Requested{
			InstanceID: "i", Topic: "t", GroupID: fmt.Sprint("g", home/2), MsgID: strings.ToLower(homes[home].MsgID),
			Reason:      pick(tw.T, "reason", "one", "another/ <\u2028>"),
			Generation:  pick(tw.T, "generation", 0, 1, 1, 2, 3),
			OperationID: []string{"", "op-1", "op-1", "op-2"}[n%4],
		},
		Human: n == 1,
		Lease: pick(tw.T, "lease", 200*time.Millisecond, 5*time.Second),
		Token: pick(tw.T, "token", "", fmt.Sprint("token ", tw.tokens), fmt.Sprint("token ", tw.tokens)),
		Time: pick(tw.T, "time", time.Time{}, tw.born.Add(-time.Hour), tw.born.Add(time.Minute-time.Millisecond),
			tw.born.Add(time.Minute), tw.born.Add(2*time.Hour), tw.born.Add(2*time.Hour)),
	}
	return a
}

func (tw *twins) isYoung(a pushing.Ask) bool {
	if a.Time.IsZero() {
		return tw.clock.Now().Sub(tw.born) < 24*time.Hour
	}
	return a.Time.Before(tw.born.Add(time.Minute))
}

// prepare tells the machine in Go of a request that is new and young, as far as
// it may know; it reports whether the twins can be asked.
func (tw *twins) prepare(a *pushing.Ask, code string, reading bool) (ok bool) {
	_ = tw.memory.shelves.do(true, func(s shelf) error {
		now, m := tw.clock.Now(), a.Message()
		owner, known := s.owner(a.Request)
		r, _ := s.record(m)
		isNew := r == nil || r.find(a.Request) == nil
		old := tw.born.Add(2 * time.Hour)
		switch {
		case known && owner != m:
			// A contradiction leaves no trace in Go. In Lua it leaves the
			// mark of a young request, and a dead worker is noticed.
			a.Time = old
			// Nor does it take the place of a probe.
			if standing, _ := s.orders(); standing.halfOpen(*a, now) > 0 {
				return nil
			}
			if r != nil && r.open() != nil {
				open := r.open()
				ok = open.Until.After(now) || open.State == sending && open.Probe == 0 // which Lua then forgets
				return nil
			}
		case isNew && tw.isYoung(*a) && reading:
			a.Time = old
		case isNew && tw.isYoung(*a):
			if r == nil {
				r = new(record)
			}
			r.add(*a, code, moment{now: now, young: true})
			_ = s.own(a.Request, m)
			_ = s.save(m, r)
			tw.seen["young"]++
		case !isNew:
			q := r.find(a.Request)
			wasDue := !q.Until.After(tw.born) || (q.State == claimed || q.State == sending) && !q.Until.After(now)
			if !q.isDecided() && q.Since.Before(tw.born) && wasDue {
				if reading { // which leaves no mark in Lua
					return nil
				}
				q.Young, r.Maybe = true, true
				tw.seen["doubted"]++
			}
		}
		ok = true
		return nil
	})
	return ok
}

var sameClaim = cmp.Options{
	cmpopts.IgnoreFields(pushing.Ask{}, "Lease", "Token"),
	cmpopts.EquateEmpty(),
}

func (tw *twins) same(what string, want, got any, err1, err2 error) {
	tw.Helper()
	if err1 != nil || err2 != nil {
		tw.Fatalf("%s: %v, %v", what, err1, err2)
	}
	if d := cmp.Diff(want, got, sameClaim); d != "" {
		tw.Fatalf("%s (-go +lua):\n%s", what, d)
	}
}

func (tw *twins) claim() {
	if tw.last.Token == "" || rapid.IntRange(0, 4).Draw(tw.T, "again") > 0 {
		tw.last = tw.some()
	}
	tw.claimOf(tw.last)
}

func (tw *twins) claimOf(a pushing.Ask) {
	if !tw.prepare(&a, "", false) {
		return
	}
	want, err1 := tw.memory.Claim(tw.Context(), a)
	got, err2 := tw.redis.Claim(tw.Context(), a)
	tw.same(fmt.Sprintf("claim of %s for %s", a.Request.ID, a.Data.MsgID[:1]), want, got, err1, err2)
	if want.Fence > 0 {
		if got.Lease != a.Lease {
			tw.Fatalf("the lease is %v, want %v", got.Lease, a.Lease)
		}
		tw.claims = append(tw.claims, want)
	}
	tw.seen[fmt.Sprint("found ", want.Found)]++
	if want.Probe > 0 {
		tw.seen["probe"]++
	}
	if want.Code == pushing.CodePaused || want.Cancelled {
		tw.seen["order"]++
	}
}

func (tw *twins) receive() {
	a, code := tw.some(), pick(tw.T, "code", "", "NoSlot")
	if !tw.prepare(&a, code, false) {
		return
	}
	want, err1 := tw.memory.Receive(tw.Context(), a, code)
	got, err2 := tw.redis.Receive(tw.Context(), a, code)
	tw.same("receive", want, got, err1, err2)
}

func (tw *twins) read() {
	a := tw.some()
	if !tw.prepare(&a, "", true) {
		return
	}
	want, err1 := tw.memory.Read(tw.Context(), a)
	got, err2 := tw.redis.Read(tw.Context(), a)
	tw.same("read", want, got, err1, err2)
}

// held are the claims that are not lost.
func (tw *twins) held() (held []int) {
	_ = tw.memory.shelves.do(false, func(s shelf) error {
		for i, c := range tw.claims {
			r, _ := s.record(c.Message())
			if _, err := r.held(c); err == nil {
				held = append(held, i)
			}
		}
		return nil
	})
	return held
}

// step applies one transition to one of the claims, with a count that may be
// that of an answer that got lost.
func (tw *twins) step(name string, count int, op func(pushing.Ledger, pushing.Claim) error) {
	if len(tw.claims) == 0 {
		return
	}
	i := rapid.IntRange(0, len(tw.claims)-1).Draw(tw.T, "claim")
	if held := tw.held(); len(held) > 0 && rapid.IntRange(0, 4).Draw(tw.T, "held") > 0 {
		i = rapid.SampledFrom(held).Draw(tw.T, "claim held")
	}
	c := tw.claims[i]
	off := pick(tw.T, "off by", 0, 0, 0, 0, 0, 0, -count, 1, -1)
	c.Pushes += off
	c.Attempts += pick(tw.T, "attempts off by", 0, 0, 0, 0, 0, 0, 0, -1)
	if name == "sending" && off < 0 {
		c.Attempts--
	}
	c.Lease = pick(tw.T, "lease", 200*time.Millisecond, 5*time.Second)
	want, got := op(tw.memory, c), op(tw.redis, c)
	var halted, haltedToo *pushing.Halted
	switch {
	case errors.As(want, &halted) && errors.As(got, &haltedToo) && *halted == *haltedToo:
		tw.seen["halted"]++
	case want == nil && got == nil:
		tw.claims[i].Pushes = c.Pushes + count
		if name == "sending" {
			tw.claims[i].Attempts = c.Attempts + 1
		}
		tw.seen[name]++
	case errors.Is(want, pushing.ErrLost) && errors.Is(got, pushing.ErrLost):
		tw.seen[name+" lost"]++
	case errors.Is(want, pushing.ErrForgotten) && errors.Is(got, pushing.ErrForgotten):
		tw.seen["forgotten"]++
	default:
		tw.Fatalf("%s of %s under fence %d, pushes %d: go %v, lua %v", name, c.Request.ID, c.Fence, c.Pushes, want, got)
	}
}

func (tw *twins) sending() {
	tw.step("sending", 1, func(l pushing.Ledger, c pushing.Claim) error { return l.MarkSending(tw.Context(), c) })
}

func (tw *twins) notSent() {
	maybe := rapid.IntRange(0, 5).Draw(tw.T, "maybe") == 0
	tw.step("not sent", -1, func(l pushing.Ledger, c pushing.Claim) error { return l.MarkNotSent(tw.Context(), c, maybe) })
}

func (tw *twins) park() {
	after := pick(tw.T, "after", 0, time.Millisecond, time.Second, time.Minute)
	code := pick(tw.T, "code", "", "NoClientOnline", pushing.CodeStopped, pushing.CodePaused, pushing.CodeBreaker)
	tw.step("park", 0, func(l pushing.Ledger, c pushing.Claim) error { return l.Park(tw.Context(), c, after, code) })
}

func (tw *twins) decide() {
	o := pick(tw.T, "outcome", append(events.Outcomes(), events.Pushed, events.Unknown, events.Unknown)...)
	at := tw.clock.Now().Add(time.Duration(rapid.IntRange(0, 999).Draw(tw.T, "ns")))
	event := events.Event{ID: "result", Source: "s", Type: "t", Data: []byte(`{"empty":[],"number":12345678901234567890,"text":"\\"}`)}
	tw.step("decide", 0, func(l pushing.Ledger, c pushing.Claim) error {
		return l.Decide(tw.Context(), c, pushing.Decision{Outcome: o, Event: event, At: at})
	})
}

func (tw *twins) emitted() {
	var asks []pushing.Ask
	for range rapid.IntRange(1, 3).Draw(tw.T, "events") {
		asks = append(asks, tw.some())
	}
	err1, err2 := tw.memory.MarkEmitted(tw.Context(), asks...), tw.redis.MarkEmitted(tw.Context(), asks...)
	tw.same("emitted", nil, nil, err1, err2)
}

func (tw *twins) order() {
	a := tw.some()
	scope := pick(tw.T, "scope", pushing.Everything, pushing.OfMessage(a.Message()), pushing.OfGroup(a.Message()), pushing.OfOperation("op-1"))
	o := pushing.Order{
		Code: pick(tw.T, "order", "", "", pushing.CodeStopped, pushing.CodePaused, pushing.CodeCancelled, pushing.CodeBreaker),
		For:  pick(tw.T, "for", 0, time.Millisecond, time.Second, time.Minute),
	}
	err1, err2 := tw.memory.Order(tw.Context(), scope, o), tw.redis.Order(tw.Context(), scope, o)
	tw.same("order", nil, nil, err1, err2)
}

// reborn: from now on another server answers, with all that the last one knew.
func (tw *twins) reborn() {
	var births []string
	for shard := range shards {
		births = append(births, tw.prefix+place{shard: shard}.keys()[3])
	}
	if _, err := tw.client.Eval(tw.Context(), "for _, key in ipairs(KEYS) do redis.call('HSET', key, 'run', 'gone') end", births); err != nil {
		tw.Fatal(err)
	}
	if _, err := tw.redis.everywhere(tw.Context(), "birth", arguments{}); err != nil {
		tw.Fatal(err)
	}
	tw.born = tw.clock.Now()
}

func (tw *twins) report() {
	operation := pick(tw.T, "operation", "", "op-1", "op-2", "op-3")
	p1, err1 := tw.memory.Progress(tw.Context(), operation)
	p2, err2 := tw.redis.Progress(tw.Context(), operation)
	tw.same("progress of "+operation, p1, p2, err1, err2)
	for home := range 3 {
		m := homes[home]
		want, err1 := tw.memory.History(tw.Context(), m)
		got, err2 := tw.redis.History(tw.Context(), m)
		tw.same("history of "+m.MsgID[:1], want, got, err1, err2)
	}
	_, left1, err1 := tw.memory.Due(tw.Context(), 0)
	_, left2, err2 := tw.redis.Due(tw.Context(), 0)
	tw.same("backlog", left1, left2, err1, err2)
}

// sweep takes up everything that is due, as the last thing.
func (tw *twins) sweep() {
	tw.clock.advance(givenFor)
	want, left1, err1 := tw.memory.Due(tw.Context(), 1000)
	got, left2, err2 := tw.redis.Due(tw.Context(), 1000)
	order := func(a, b pushing.Work) int {
		return strings.Compare(a.Ask.Request.ID+a.Ask.Data.MsgID, b.Ask.Request.ID+b.Ask.Data.MsgID)
	}
	slices.SortFunc(want, order)
	slices.SortFunc(got, order)
	tw.same("due", want, got, err1, err2)
	tw.same("backlog", left1, left2, nil, nil)
	for _, item := range want {
		item.Ask.Lease = time.Second
		tw.claimOf(item.Ask)
		tw.seen["due"]++
	}
	tw.clock.advance(givenFor)
	tw.report()
}

// TestRedisIsTheSameMachine: whatever workers, dead, slow or alive, operators
// and sweeps do to a ledger, redis.lua answers as record.go does.
func TestRedisIsTheSameMachine(t *testing.T) {
	t.Parallel()
	client := openClient(t, redistest.Start(t))
	var rooms atomic.Int64
	seen := make(map[string]int)
	rapid.Check(t, func(t *rapid.T) {
		tw := &twins{T: t, clock: newClock(), seen: seen, client: client, prefix: fmt.Sprint("twins", rooms.Add(1))}
		tw.born, tw.memory = tw.clock.Now(), NewMemory(ages, tw.clock.Now)
		tw.redis = NewRedis(newRoom(client, tw.prefix, tw.clock.Now), ages)
		grow(t, tw.redis, tw.clock)
		tw.clock.advance(pick(t, "age", 0, -time.Hour-time.Millisecond, -time.Hour, -2*time.Hour))
		actions := map[string]func(){
			"claim": tw.claim, "receive": tw.receive, "read": tw.read, "sending": tw.sending, "not sent": tw.notSent, "park": tw.park,
			"decide": tw.decide, "emitted": tw.emitted, "order": tw.order, "report": tw.report, "reborn": tw.reborn,
		}
		often := []string{"claim", "claim", "claim", "claim", "claim", "sending", "sending", "sending", "sending", "sending", "not sent", "park", "decide", "decide", "order", "order"}
		names := append(slices.Sorted(maps.Keys(actions)), often...)
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			tw.clock.advance(pick(t, "later", 0, 0, 0, 0, 0, 0, 0, 0, time.Millisecond, 199*time.Millisecond, 200*time.Millisecond, 201*time.Millisecond,
				time.Second, 5*time.Second, haltedFor-time.Millisecond, emitGrace, time.Minute))
			actions[pick(t, "action", names...)]()
		}
		tw.report()
		tw.sweep()
	})
	// Not "probe", which one run in some does not come to: ledgertest has it.
	for _, what := range []string{
		"found 0", "found 1", "found 2", "found 3", "found 4", "found 5", "found 6", "sending", "sending lost", "not sent", "not sent lost",
		"park", "park lost", "decide", "decide lost", "halted", "young", "doubted", "order", "due",
	} {
		if seen[what] == 0 {
			t.Errorf("%q never happened", what)
		}
	}
	t.Log(seen)
}
