package ledgertest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

func (s *suite) order(scope pushing.Scope, code string, lasts time.Duration) {
	s.Helper()
	s.must(s.Ledger.Order(s.Context(), scope, pushing.Order{Code: code, For: lasts}))
}

func (s *suite) halted(err error, code string) {
	s.Helper()
	var h *pushing.Halted
	if !errors.As(err, &h) || h.Code != code || h.Wait <= 0 && code != pushing.CodeCancelled {
		s.Errorf("MarkSending = %v, want halted by %s with a wait", err, code)
	}
}

var orderTests = map[string]func(*suite){
	"an order holds up its scope and nothing else": func(s *suite) {
		mine := on(message, "mine", "op-1")
		for i, scope := range []pushing.Scope{pushing.Everything, pushing.OfOperation("op-1"), pushing.OfMessage(mine.Message()), pushing.OfGroup(mine.Message())} {
			s.order(scope, pushing.CodePaused, 0)
			if c, err := s.Ledger.Claim(s.Context(), mine); err != nil || c.Found != pushing.Busy || c.Code != pushing.CodePaused || c.Wait <= 0 {
				s.Errorf("%s: claim = %+v, %v; want busy by order", scope, c, err)
			}
			other := on(number(i), fmt.Sprint("other ", i), "op-2")
			other.Data.GroupID = "GID_y"
			want := pushing.Granted
			if scope == pushing.Everything {
				want = pushing.Busy
			}
			if c, err := s.Ledger.Claim(s.Context(), other); err != nil || c.Found != want {
				s.Errorf("%s: another message's claim = %v, %v; want %v", scope, c.Found, err, want)
			}
			s.order(scope, "", 0)
		}
		if c, err := s.Ledger.Claim(s.Context(), mine); err != nil || c.Found != pushing.Granted {
			s.Errorf("after the orders: %v, %v; want granted at once", c.Found, err)
		}
	},
	"an order stops what is claimed before it is sent": func(s *suite) {
		c := s.claim("a", 1, pushing.Granted)
		s.order(pushing.Everything, pushing.CodeStopped, 0)
		s.halted(s.Ledger.MarkSending(s.Context(), c), pushing.CodeStopped)
		s.must(s.Ledger.Park(s.Context(), c, time.Second, pushing.CodeStopped))
		s.claim("a", 1, pushing.Busy)
		s.order(pushing.Everything, "", 0)
		if got := s.claim("a", 1, pushing.Granted); got.Pushes != 0 || got.Attempts != 0 {
			s.Errorf("claim = %+v", got)
		}
	},
	"what was sent is decided in spite of orders": func(s *suite) {
		c := s.send(s.claim("a", 1, pushing.Granted))
		s.order(pushing.Everything, pushing.CodeStopped, 0)
		s.decide(c, events.Pushed)
		s.claim("b", 1, pushing.Closed)
	},
	"an order comes before a mark that is asked for again": func(s *suite) {
		c := s.claim("a", 1, pushing.Granted)
		s.send(c) // the answer got lost
		s.order(pushing.Everything, pushing.CodeStopped, 0)
		s.halted(s.Ledger.MarkSending(s.Context(), c), pushing.CodeStopped)
		s.must(s.Ledger.Park(s.Context(), c, 0, pushing.CodeStopped))
		s.order(pushing.Everything, "", 0)
		if got := s.claim("a", 1, pushing.Granted); got.Pushes != 0 || got.MaybeDuplicate {
			s.Errorf("claim = %+v", got)
		}
	},
	"a cancellation is final": func(s *suite) {
		scope := pushing.OfOperation("op")
		s.order(scope, pushing.CodeCancelled, 0)
		s.order(scope, pushing.CodePaused, 0)
		s.order(scope, "", 0)
		if c, err := s.Ledger.Claim(s.Context(), on(message, "a", "op")); err != nil || !c.Cancelled {
			s.Errorf("claim = %+v, %v; want one to cancel", c, err)
		}
	},
	"a pause outlasts everything but its end": func(s *suite) {
		s.order(pushing.OfOperation("op"), pushing.CodePaused, 0)
		s.Advance(longest)
		s.order(pushing.OfOperation("other"), pushing.CodePaused, 0)
		if c, err := s.Ledger.Claim(s.Context(), on(message, "a", "op")); err != nil || c.Code != pushing.CodePaused {
			s.Errorf("claim = %+v, %v; want it paused", c, err)
		}
	},
	"stopped work does not age": func(s *suite) {
		s.order(pushing.Everything, pushing.CodeStopped, 0)
		s.claim("a", 1, pushing.Busy)
		s.Advance(later)
		if c := s.claim("a", 1, pushing.Busy); c.Age > later/2 {
			s.Errorf("age = %v while stopped", c.Age)
		}
		s.Advance(later)
		s.order(pushing.Everything, "", 0)
		c := s.claim("a", 1, pushing.Granted)
		if c.Age > later/2 {
			s.Errorf("age = %v after the stop", c.Age)
		}
		s.must(s.Ledger.Park(s.Context(), c, 0, "NoClientOnline"))
		s.Advance(later)
		if c := s.claim("a", 1, pushing.Granted); c.Age < later || c.Age > later*3/2 {
			s.Errorf("age = %v a minute after the stop", c.Age)
		}
	},
	"an order with an end ends": func(s *suite) {
		scope := pushing.OfGroup(ask("a", 1).Message())
		s.order(scope, pushing.CodeBreaker, time.Second)
		if c := s.claim("a", 1, pushing.Busy); c.Code != pushing.CodeBreaker || c.Wait <= 0 || c.Wait > time.Second {
			s.Errorf("claim = %+v", c)
		}
		s.Advance(time.Second + time.Millisecond)
		s.claim("a", 1, pushing.Granted)
	},
	"after a breaker one claim at a time finds out whether calls pass": func(s *suite) {
		scope := pushing.OfGroup(ask("a", 1).Message())
		s.order(scope, pushing.CodeBreaker, 2*time.Second)
		s.claim("a", 1, pushing.Busy)
		s.Advance(2*time.Second + time.Millisecond)
		a := ask("a", 1)
		a.Token = "token"
		for range 2 {
			c, err := s.Ledger.Claim(s.Context(), a)
			s.must(err)
			if c.Found != pushing.Granted || c.Probe != 2*time.Second {
				s.Fatalf("the probe's claim = %+v", c)
			}
			a.Lease = c.Lease
		}
		other, err := s.Ledger.Claim(s.Context(), on(message[:31]+"B", "other", ""))
		s.must(err)
		if other.Found == pushing.Granted && other.Probe == 0 || other.Found == pushing.Busy && other.Code != pushing.CodeBreaker {
			s.Errorf("beside the probe %+v, want it halted, or another shard's probe", other)
		}
		c, err := s.Ledger.Claim(s.Context(), a)
		s.must(err)
		sent := s.send(c)
		s.order(scope, "", 0)
		s.decide(sent, events.Pushed)
		if next, err := s.Ledger.Claim(s.Context(), on(number(3), "next", "")); err != nil || next.Found != pushing.Granted || next.Probe != 0 {
			s.Errorf("after the order was lifted %+v, %v", next, err)
		}
	},
	"the cancellation of an operation ends its requests": func(s *suite) {
		before := on(number(1), "before", "op")
		c, err := s.Ledger.Claim(s.Context(), before)
		s.must(err)
		s.order(pushing.Everything, pushing.CodeStopped, 0)
		s.order(pushing.OfOperation("op"), pushing.CodeCancelled, 0)
		s.halted(s.Ledger.MarkSending(s.Context(), c), pushing.CodeCancelled)
		s.decide(c, events.Cancelled)
		after, err := s.Ledger.Claim(s.Context(), on(message, "after", "op"))
		s.must(err)
		if after.Found != pushing.Granted || !after.Cancelled {
			s.Errorf("claim = %+v; want one to cancel, although everything is stopped", after)
		}
		s.decide(after, events.Cancelled)
	},
	"progress counts an operation by state and outcome": func(s *suite) {
		ends := []events.Outcome{events.Pushed, events.Pushed, events.Failed, "", ""}
		for i, o := range ends {
			c, err := s.Ledger.Claim(s.Context(), on(number(i), fmt.Sprint(i), "op"))
			s.must(err)
			switch {
			case o == events.Pushed:
				s.decide(s.send(c), o)
			case o != "":
				s.decide(c, o)
			case i == 3:
				s.must(s.Ledger.Park(s.Context(), c, time.Hour, "x"))
			}
			if i == 0 {
				s.must(s.Ledger.MarkEmitted(s.Context(), c.Ask))
			}
		}
		_, err := s.Ledger.Claim(s.Context(), on(number(99), "99", "another"))
		s.must(err)
		s.order(pushing.OfOperation("op"), pushing.CodePaused, 0)
		s.Advance(lease)
		got, err := s.Ledger.Progress(s.Context(), "op")
		s.must(err)
		want := pushing.Progress{
			States:   map[string]int{"emitted": 1, "decided": 2, "waiting": 1, "claimed": 1},
			Outcomes: map[events.Outcome]int{events.Pushed: 2, events.Failed: 1}, Orders: []string{pushing.CodePaused},
		}
		if got.OldestMs < lease.Milliseconds() || got.First.IsZero() || got.Last.Before(got.First) {
			s.Errorf("progress = %+v", got)
		}
		got.OldestMs, got.First, got.Last = 0, time.Time{}, time.Time{}
		if diff := cmp.Diff(want, got); diff != "" {
			s.Errorf("progress (-want +got):\n%s", diff)
		}
		if all, err := s.Ledger.Progress(s.Context(), ""); err != nil || all.States["claimed"] != 2 || all.Orders != nil {
			s.Errorf("progress of everything = %+v, %v", all, err)
		}
	},
	"a history shows every request and decision": func(s *suite) {
		first := s.send(s.claim("a", 1, pushing.Granted))
		s.Advance(lease + time.Millisecond)
		s.decide(s.claim("b", 1, pushing.Interrupted), events.Unknown)
		s.lost("Decide", s.Ledger.Decide(s.Context(), first, decision("a", events.Pushed)))
		s.must(s.Ledger.Park(s.Context(), s.claim("c", 2, pushing.Granted), time.Hour, "NoClientOnline"))
		h, err := s.Ledger.History(s.Context(), ask("a", 1).Message())
		s.must(err)
		if len(h.Requests) != 3 || h.Pushes != 1 {
			s.Fatalf("history = %+v", h)
		}
		at := func(id string) pushing.Past {
			return h.Requests[slices.IndexFunc(h.Requests, func(p pushing.Past) bool { return p.EventID == id })]
		}
		if a := at("a"); a.Outcome != events.Unknown || a.Late != "pushed" || a.State != "decided" || a.Source != "ledgertest" || a.ReceivedAt.IsZero() || a.DecidedAt.IsZero() {
			s.Errorf("a = %+v", a)
		}
		if c := at("c"); c.State != "waiting" || c.Code != "NoClientOnline" || c.Generation != 2 || c.DueInMs <= 0 || c.Outcome != "" {
			s.Errorf("c = %+v", c)
		}
		if none, err := s.Ledger.History(s.Context(), on(number(5), "x", "").Message()); err != nil || len(none.Requests) != 0 {
			s.Errorf("history of an unknown message = %+v, %v", none, err)
		}
	},
}
