package ledger

import (
	"encoding/json"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// TestEveryInterleaving explores what two workers (one with a redelivery), a
// crash, workers that fall asleep at any step and come back late, a second
// request for the message and a sweep can do to one record, in every order. Two
// things hold everywhere: the message is pushed at most once, and from every
// state a sweep comes to exactly one result for every request.
func TestEveryInterleaving(t *testing.T) {
	t.Parallel()
	e := &explorer{t: t, seen: make(map[string]bool)}
	e.explore(world{Record: &record{}, Workers: [2]actor{{For: "a", Runs: 2}, {For: "b", Runs: 1}}, Crashes: 1, Ticks: 2, Refused: 1})
	if len(e.seen) < 10_000 {
		t.Errorf("%d states were explored, want tens of thousands", len(e.seen))
	}
	t.Logf("%d states", len(e.seen))
}

// step is where a worker stands.
type step int

const (
	idle step = iota
	isClaimed
	isSending
	isPushed
	isDecided
	isSent
	dead
)

// actor is one worker. It runs a few times: the first delivery and redeliveries
// or sweeps of the same request.
type actor struct {
	For    string
	Runs   int
	At     step
	Claim  pushing.Claim
	Ends   events.Outcome
	Closed bool
}

// world is all there is; it marshals to its identity.
type world struct {
	Record  *record
	Now     int // in leases
	Workers [2]actor
	Crashes int // that may still happen
	Ticks   int
	Refused int // answers not sent that may still come
	Pushed  int
	// Results are the outcomes that left, by request.
	Results map[string]events.Outcome
	Asked   map[string]bool
}

type explorer struct {
	t    *testing.T
	seen map[string]bool
}

var origin = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

const exploreLease = time.Second

func (w *world) moment() moment {
	return moment{now: origin.Add(time.Duration(w.Now) * (exploreLease + time.Millisecond))}
}

func exploreAsk(id string) pushing.Ask {
	return pushing.Ask{Request: pushing.RequestKey{Source: "s", ID: id}, Data: events.Requested{MsgID: "m"}, Lease: exploreLease}
}

func (w *world) clone() world {
	c := *w
	r := *w.Record
	r.Requests = nil
	for _, q := range w.Record.Requests {
		same := *q
		r.Requests = append(r.Requests, &same)
	}
	c.Record, c.Results, c.Asked = &r, maps.Clone(w.Results), maps.Clone(w.Asked)
	return c
}

func (e *explorer) explore(w world) {
	key, err := json.Marshal(w)
	if err != nil {
		e.t.Fatal(err)
	}
	if e.seen[string(key)] || e.t.Failed() {
		return
	}
	e.seen[string(key)] = true
	e.check(w)
	if w.Ticks > 0 {
		next := w.clone()
		next.Ticks--
		next.Now++
		e.explore(next)
	}
	for i := range w.Workers {
		a := w.Workers[i]
		if a.At == dead || a.At == idle && a.Runs == 0 {
			continue
		}
		if a.At != idle && w.Crashes > 0 {
			next := w.clone()
			next.Crashes--
			next.Workers[i].At = dead
			e.explore(next)
		}
		for choice := range w.choices(a.At) {
			next := w.clone()
			next.act(i, choice)
			e.explore(next)
		}
	}
}

// choices counts what may happen next to a worker.
func (w *world) choices(at step) int {
	switch at {
	case isClaimed:
		return 2 // send, or park
	case isSending:
		return 2 + w.Refused // pushed, refused for good, or marked as not sent
	}
	return 1
}

// act moves a worker one step.
func (w *world) act(i, choice int) {
	a, r, at := &w.Workers[i], w.Record, w.moment()
	stop := func() { *a = actor{For: a.For, Runs: a.Runs} }
	switch a.At {
	case idle:
		a.Runs--
		w.asked(a.For)
		c := r.claim(exploreAsk(a.For), at)
		a.Claim = c
		switch c.Found {
		case pushing.Granted:
			a.At = isClaimed
		case pushing.Interrupted:
			a.At, a.Ends = isPushed, events.Unknown
		case pushing.Closed:
			a.At, a.Ends = isPushed, events.Duplicate
		case pushing.Undelivered:
			a.At, a.Ends = isDecided, c.First.Outcome
		default:
			stop()
		}
	case isClaimed:
		if choice == 1 {
			_ = r.park(a.Claim, 0, "x", at)
			stop()
			return
		}
		if r.markSending(a.Claim, at) != nil {
			stop()
			return
		}
		a.Claim.Pushes++
		a.Claim.Attempts++
		a.At = isSending
	case isSending:
		switch choice {
		case 0: // however late it is
			w.Pushed++
			a.At, a.Ends = isPushed, events.Pushed
		case 1:
			a.At, a.Ends = isPushed, events.Failed
		default:
			if r.markNotSent(a.Claim, false, at) != nil {
				stop()
				return
			}
			a.Claim.Pushes--
			a.At = isClaimed
			w.Refused--
		}
	case isPushed:
		err := r.decide(a.Claim, pushing.Decision{Outcome: a.Ends, Event: events.Event{ID: string(a.Ends)}, At: at.now}, at)
		if err != nil && !errors.Is(err, pushing.ErrLost) {
			panic(err)
		}
		if a.At = isDecided; err != nil {
			stop()
		}
	case isDecided:
		w.emit(a.Claim.Request.ID, a.Ends)
		a.At = isSent
	case isSent:
		r.markEmitted(a.Claim.Request, at)
		stop()
	}
}

func (w *world) asked(id string) {
	if w.Asked == nil {
		w.Asked = make(map[string]bool)
	}
	w.Asked[id] = true
}

func (w *world) emit(id string, o events.Outcome) {
	if w.Results == nil {
		w.Results = make(map[string]events.Outcome)
	}
	if old, again := w.Results[id]; again && old != o {
		o = "two outcomes"
	}
	w.Results[id] = o
}

// check holds the two promises: now, and after a sweep without anybody else.
func (e *explorer) check(w world) {
	alone := w.clone()
	alone.Workers = [2]actor{{At: dead}, {At: dead}}
	for range 10 {
		alone.Now += 60
		for _, item := range alone.Record.work(alone.moment().now) {
			alone.Workers[0] = actor{For: item.Ask.Request.ID, Runs: 1}
			for a := &alone.Workers[0]; a.Runs > 0 || a.At != idle; {
				alone.act(0, 0)
			}
		}
	}
	switch {
	case w.Pushed > 1 || alone.Pushed > 1:
		e.fail(w, alone, "the message was pushed twice")
	case len(alone.Results) != len(w.Asked):
		e.fail(w, alone, "a sweep does not end every request")
	case !alone.Record.due().IsZero():
		e.fail(w, alone, "something is left after the sweep")
	}
	for id, o := range alone.Results {
		if o == "two outcomes" || o == events.Pushed && alone.Pushed == 0 || o == "" {
			e.fail(w, alone, "request "+id+" ended as "+string(o))
		}
	}
}

func (e *explorer) fail(w, after world, what string) {
	e.t.Helper()
	before, _ := json.Marshal(w)
	then, _ := json.Marshal(after)
	e.t.Errorf("%s\nfrom %s\nto   %s", what, before, then)
}
