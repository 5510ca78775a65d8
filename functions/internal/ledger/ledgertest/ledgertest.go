// Package ledgertest is the conformance suite that every ledger passes.
package ledgertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// Harness is one fresh ledger. Advance lets d pass on its clock.
type Harness struct {
	Ledger  pushing.Ledger
	Advance func(d time.Duration)
}

// lease of the claims made here. Ledgers on a real clock wait for it.
const lease = 200 * time.Millisecond

// Run runs the suite; open returns an empty ledger.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	t.Helper()
	all := maps.Clone(tests)
	maps.Copy(all, backlogTests)
	maps.Copy(all, orderTests)
	for name, test := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := open(t)
			test(&suite{T: t, Harness: h})
		})
	}
}

type suite struct {
	*testing.T
	Harness
}

var tests = map[string]func(*suite){
	"a new message is granted, sent, decided, delivered and then repeated": func(s *suite) {
		c := s.claim("a", 1, pushing.Granted)
		if c.Fence == 0 || c.Pushes != 0 || c.Attempts != 0 || c.MaybeDuplicate || c.ReceivedAt.IsZero() {
			s.Errorf("first claim = %+v", c)
		}
		c = s.send(c)
		s.decide(c, events.Pushed)
		got := s.claim("a", 1, pushing.Undelivered)
		if diff := cmp.Diff(event("a", events.Pushed), got.Event); diff != "" {
			s.Errorf("stored event (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(ask("a", 1).Data, got.Data); diff != "" {
			s.Errorf("stored request (-want +got):\n%s", diff)
		}
		s.must(s.Ledger.MarkEmitted(s.Context(), c.Ask))
		if got := s.claim("a", 1, pushing.Repeated); got.First.Outcome != events.Pushed || got.First.EventID != "a" {
			s.Errorf("repeated = %+v", got.First)
		}
	},
	"a claim keeps others away while its lease runs": func(s *suite) {
		s.claim("a", 1, pushing.Granted)
		for _, id := range []string{"a", "b"} {
			if c := s.claim(id, 1, pushing.Busy); c.Wait <= 0 || c.Wait > lease {
				s.Errorf("%s: Wait = %v, want within the lease", id, c.Wait)
			}
		}
	},
	"a claim whose lease is over goes to the next, under a higher fence": func(s *suite) {
		first := s.claim("a", 1, pushing.Granted)
		s.Advance(lease + time.Millisecond)
		second := s.claim("b", 1, pushing.Granted)
		if second.Fence <= first.Fence {
			s.Errorf("fence %d after %d", second.Fence, first.Fence)
		}
		s.lost("MarkSending", s.Ledger.MarkSending(s.Context(), first))
		s.lost("Park", s.Ledger.Park(s.Context(), first, 0, "x"))
		s.lost("Decide", s.Ledger.Decide(s.Context(), first, decision("a", events.Pushed)))
		second = s.send(second)
	},
	"a redelivery that takes over locks out the first worker": func(s *suite) {
		first := s.claim("a", 1, pushing.Granted)
		s.Advance(lease + time.Millisecond)
		second := s.claim("a", 1, pushing.Granted)
		s.lost("MarkSending", s.Ledger.MarkSending(s.Context(), first))
		second = s.send(second)
		s.lost("MarkNotSent", s.Ledger.MarkNotSent(s.Context(), first, false))
		s.lost("Decide", s.Ledger.Decide(s.Context(), first, decision("a", events.Failed)))
		s.decide(second, events.Pushed)
	},
	"a send whose lease is over is interrupted, for the request that sent": func(s *suite) {
		s.send(s.claim("a", 1, pushing.Granted))
		s.Advance(lease + time.Millisecond)
		c := s.claim("b", 1, pushing.Interrupted)
		if c.Request.ID != "a" || c.Data.Reason != "reason a" || c.Pushes != 1 || c.Attempts != 1 || c.MaybeDuplicate {
			s.Errorf("interrupted = %+v", c)
		}
		s.claim("a", 1, pushing.Busy)
		s.decide(c, events.Unknown)
		s.claim("b", 1, pushing.Closed)
	},
	"an answer after the decision unknown is kept as late": func(s *suite) {
		first := s.claim("a", 1, pushing.Granted)
		first = s.send(first)
		s.Advance(lease + time.Millisecond)
		s.decide(s.claim("b", 1, pushing.Interrupted), events.Unknown)
		s.lost("Decide", s.Ledger.Decide(s.Context(), first, decision("a", events.Pushed)))
		if c := s.claim("b", 1, pushing.Closed); c.First.Late != string(events.Pushed) || c.First.Outcome != events.Unknown {
			s.Errorf("first = %+v, want unknown with late pushed", c.First)
		}
	},
	"not sent takes the count back and keeps the claim": func(s *suite) {
		c := s.claim("a", 1, pushing.Granted)
		c = s.send(c)
		c = s.notSent(c, false)
		s.must(s.Ledger.Park(s.Context(), c, 0, "Throttling"))
		got := s.claim("a", 1, pushing.Granted)
		if got.Pushes != 0 || got.Attempts != 1 || got.MaybeDuplicate || got.Code != "Throttling" {
			s.Errorf("claim after not sent = %+v", got)
		}
	},
	"probably not sent marks every later push of the message": func(s *suite) {
		c := s.claim("a", 1, pushing.Granted)
		c = s.send(c)
		c = s.notSent(c, true)
		s.must(s.Ledger.Park(s.Context(), c, 0, "ServiceUnavailable"))
		if got := s.claim("b", 1, pushing.Granted); got.Pushes != 0 || !got.MaybeDuplicate {
			s.Errorf("claim = %+v, want maybeDuplicate with no pushes", got)
		}
	},
	"a repeated push that was not sent leaves the first one unknown": func(s *suite) {
		c := s.claim("a", 1, pushing.Granted)
		c = s.send(c)
		c = s.send(c)
		c = s.notSent(c, false)
		s.lost("Park", s.Ledger.Park(s.Context(), c, 0, "x"))
		s.Advance(lease + time.Millisecond)
		if got := s.claim("a", 1, pushing.Interrupted); got.Pushes != 1 || got.Attempts != 2 || got.MaybeDuplicate {
			s.Errorf("interrupted = %+v", got)
		}
	},
	"an outcome that sent nothing takes the count back": func(s *suite) {
		c := s.claim("a", 1, pushing.Granted)
		c = s.send(c)
		s.decide(c, events.Failed)
		if got := s.claim("b", 1, pushing.Granted); got.Pushes != 0 {
			s.Errorf("pushes = %d after failed", got.Pushes)
		}
	},
	"parked work waits for its time": func(s *suite) {
		c := s.claim("a", 1, pushing.Granted)
		s.must(s.Ledger.Park(s.Context(), c, time.Second, "NoClientOnline"))
		if got := s.claim("a", 1, pushing.Busy); got.Code != "NoClientOnline" || got.Wait <= 0 || got.Wait > time.Second {
			s.Errorf("parked = %+v", got)
		}
		s.Advance(time.Second + time.Millisecond)
		if got := s.claim("a", 1, pushing.Granted); got.ReceivedAt != c.ReceivedAt {
			s.Errorf("receivedAt moved from %v to %v", c.ReceivedAt, got.ReceivedAt)
		}
	},
	"a request that was only received ages from then": func(s *suite) {
		first, err := s.Ledger.Receive(s.Context(), ask("a", 1), "DeadlineTooShort")
		s.must(err)
		at := first.ReceivedAt
		s.Advance(lease)
		again, err := s.Ledger.Receive(s.Context(), ask("a", 1), "NoSlot")
		s.must(err)
		if !again.ReceivedAt.Equal(at) || again.Age < lease {
			s.Errorf("received again at %v, first at %v, age %v", again.ReceivedAt, at, again.Age)
		}
		if c := s.claim("a", 1, pushing.Granted); !c.ReceivedAt.Equal(at) || c.Code != "DeadlineTooShort" {
			s.Errorf("claim = %+v, want receivedAt %v", c, at)
		}
	},
	"pushed and unknown close the generation, a higher one is open": func(s *suite) {
		for i, closing := range []events.Outcome{events.Pushed, events.Unknown} {
			generation := i + 1
			c := s.claim(fmt.Sprint("first ", generation), generation, pushing.Granted)
			c = s.send(c)
			s.decide(c, closing)
			dup := s.claim(fmt.Sprint("second ", generation), generation, pushing.Closed)
			if dup.First.Outcome != closing || dup.First.EventID != c.Request.ID || dup.Pushes != generation {
				s.Errorf("duplicate of %s: %+v, pushes %d", closing, dup.First, dup.Pushes)
			}
			s.decide(dup, events.Duplicate)
		}
		if c := s.claim("low", 1, pushing.Closed); c.First.Outcome != events.Pushed {
			s.Errorf("generation 1 repeats %+v, want its own decision", c.First)
		}
	},
	"a lower generation after a higher one is closed": func(s *suite) {
		c := s.claim("high", 5, pushing.Granted)
		c = s.send(c)
		s.decide(c, events.Pushed)
		s.claim("low", 2, pushing.Closed)
	},
	"outcomes that sent nothing close only their own request": func(s *suite) {
		for _, o := range []events.Outcome{events.Failed, events.Expired, events.Abandoned, events.Rejected, events.Cancelled} {
			c := s.claim(string(o), 1, pushing.Granted)
			s.decide(c, o)
			s.must(s.Ledger.MarkEmitted(s.Context(), c.Ask))
			if got := s.claim(string(o), 1, pushing.Repeated); got.First.Outcome != o {
				s.Errorf("repeated %s = %+v", o, got.First)
			}
		}
		s.claim("next", 1, pushing.Granted)
	},
	"one request for two messages contradicts itself": func(s *suite) {
		s.claim("a", 1, pushing.Granted)
		other := ask("a", 1)
		other.Data.MsgID = "00000000000000000000000000000002"
		if c, err := s.Ledger.Claim(s.Context(), other); err != nil || c.Found != pushing.Contradicting {
			s.Errorf("claim = %+v, %v, want Contradicting", c, err)
		}
	},
	"a message id in another case is the same message": func(s *suite) {
		c := s.claim("a", 1, pushing.Granted)
		c = s.send(c)
		s.decide(c, events.Pushed)
		other := ask("b", 1)
		other.Data.MsgID = "0000000000000000000000000000000a"
		if c, err := s.Ledger.Claim(s.Context(), other); err != nil || c.Found != pushing.Closed {
			s.Errorf("claim = %v, %v, want Closed", c.Found, err)
		}
	},
	"reading finds what a claim would find and changes nothing": func(s *suite) {
		for range 2 {
			if c, err := s.Ledger.Read(s.Context(), ask("a", 1)); err != nil || c.Found != pushing.Granted {
				s.Fatalf("read = %v, %v, want Granted", c.Found, err)
			}
		}
		c := s.claim("a", 1, pushing.Granted)
		c = s.send(c)
		s.Advance(lease + time.Millisecond)
		if got, err := s.Ledger.Read(s.Context(), ask("b", 1)); err != nil || got.Found != pushing.Interrupted {
			s.Errorf("read = %v, %v, want Interrupted", got.Found, err)
		}
		s.decide(c, events.Pushed)
	},
	"of many at the same moment one is granted": func(s *suite) {
		const workers = 32
		found := make(chan pushing.Found, workers)
		var wg sync.WaitGroup
		for i := range workers {
			wg.Go(func() {
				c, err := s.Ledger.Claim(s.Context(), ask(fmt.Sprint(i), 1))
				if err != nil {
					s.Error(err)
				}
				found <- c.Found
			})
		}
		wg.Wait()
		close(found)
		granted := 0
		for f := range found {
			if f == pushing.Granted {
				granted++
			} else if f != pushing.Busy {
				s.Errorf("found %v", f)
			}
		}
		if granted != 1 {
			s.Errorf("%d workers were granted, want 1", granted)
		}
	},
}

// message is the record all tests work on; each has a ledger of its own.
const message = "0000000000000000000000000000000A"

func ask(id string, generation int) pushing.Ask {
	return pushing.Ask{
		Request: pushing.RequestKey{Source: "ledgertest", ID: id},
		Data: events.Requested{
			InstanceID: "MQ_INST_1_x", Topic: "orders", GroupID: "GID_x", MsgID: message,
			Reason: "reason " + id, Generation: generation,
		},
		Lease: lease,
	}
}

func event(id string, o events.Outcome) events.Event {
	data, _ := json.Marshal(map[string]string{"outcome": string(o)})
	return events.Event{ID: "result of " + id, Source: events.SourceRepush, Type: events.TypeMessageCompleted, Data: data}
}

func decision(id string, o events.Outcome) pushing.Decision {
	return pushing.Decision{Outcome: o, Event: event(id, o), At: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}
}

func (s *suite) claim(id string, generation int, want pushing.Found) pushing.Claim {
	s.Helper()
	c, err := s.Ledger.Claim(s.Context(), ask(id, generation))
	if err != nil || c.Found != want {
		s.Fatalf("claim %s = %v, %v, want %v", id, c.Found, err, want)
	}
	if c.Request == (pushing.RequestKey{}) {
		s.Fatalf("claim %s does not say which request it is for", id)
	}
	return c
}

// send marks the claim as sending and returns what its holder then knows.
func (s *suite) send(c pushing.Claim) pushing.Claim {
	s.Helper()
	s.must(s.Ledger.MarkSending(s.Context(), c))
	c.Pushes++
	c.Attempts++
	return c
}

func (s *suite) notSent(c pushing.Claim, maybe bool) pushing.Claim {
	s.Helper()
	s.must(s.Ledger.MarkNotSent(s.Context(), c, maybe))
	c.Pushes--
	return c
}

func (s *suite) decide(c pushing.Claim, o events.Outcome) {
	s.Helper()
	s.must(s.Ledger.Decide(context.WithoutCancel(s.Context()), c, decision(c.Request.ID, o)))
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) lost(op string, err error) {
	s.Helper()
	if !errors.Is(err, pushing.ErrLost) {
		s.Errorf("%s = %v, want ErrLost", op, err)
	}
}
