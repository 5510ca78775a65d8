package ledgertest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// on is ask for another message.
func on(msgID, id, operation string) pushing.Ask {
	a := ask(id, 1)
	a.Data.MsgID, a.Data.OperationID = msgID, operation
	return a
}

func number(i int) string { return fmt.Sprintf("%032X", 1000+i) }

// due is what a sweep finds, by request id.
func (s *suite) due(limit int) (ids []string) {
	s.Helper()
	work, _, err := s.Ledger.Due(s.Context(), limit)
	s.must(err)
	for _, item := range work {
		id := item.Ask.Request.ID
		if item.Decided {
			id += " decided"
		}
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func (s *suite) finds(want ...string) {
	s.Helper()
	if got := s.due(100); !slices.Equal(got, want) {
		s.Errorf("due = %q, want %q", got, want)
	}
}

// later is when everything that waits is due and what Due returned before may
// come again.
const later = time.Minute

// longest is more than any ledger's retention in these tests.
const longest = 2 * time.Hour

var backlogTests = map[string]func(*suite){
	"one token gets one claim, another token waits": func(s *suite) {
		a := ask("a", 1)
		a.Token = "token"
		first, err := s.Ledger.Claim(s.Context(), a)
		s.must(err)
		again, err := s.Ledger.Claim(s.Context(), a)
		s.must(err)
		if again.Found != pushing.Granted || again.Fence != first.Fence || again.Pushes != 0 || again.Data != a.Data {
			s.Errorf("the same token got %+v, first %+v", again, first)
		}
		a.Token = "other"
		if c, err := s.Ledger.Claim(s.Context(), a); err != nil || c.Found != pushing.Busy {
			s.Errorf("another token got %v, %v; want Busy", c.Found, err)
		}
	},
	"a token repeats what it found, closed and interrupted too": func(s *suite) {
		c := s.send(s.claim("a", 1, pushing.Granted))
		s.Advance(lease + time.Millisecond)
		b := ask("b", 1)
		for i, found := range []pushing.Found{pushing.Interrupted, pushing.Closed} {
			b.Token = fmt.Sprint("token ", i)
			one, err := s.Ledger.Claim(s.Context(), b)
			s.must(err)
			two, err := s.Ledger.Claim(s.Context(), b)
			s.must(err)
			if one.Found != found || two.Found != found || one.Fence != two.Fence || one.Request != two.Request || one.First != two.First {
				s.Errorf("%v: %+v, then %+v", found, one, two)
			}
			if found == pushing.Interrupted {
				s.decide(one, events.Unknown)
			}
		}
		_ = c
	},
	"every transition can be asked for again": func(s *suite) {
		c := s.claim("a", 1, pushing.Granted)
		for range 2 {
			s.must(s.Ledger.MarkSending(s.Context(), c))
		}
		c.Pushes++
		c.Attempts++
		for range 2 {
			s.must(s.Ledger.MarkNotSent(s.Context(), c, false))
		}
		c.Pushes--
		c = s.send(c)
		for range 2 {
			s.decide(c, events.Pushed)
		}
		for range 2 {
			s.must(s.Ledger.MarkEmitted(s.Context(), c.Ask))
		}
		if got := s.claim("a", 1, pushing.Repeated); got.Pushes != 1 || got.Attempts != 2 || got.First.Outcome != events.Pushed {
			s.Errorf("at the end %+v", got)
		}
		d := s.claim("b", 2, pushing.Granted)
		for range 2 {
			s.must(s.Ledger.Park(s.Context(), d, time.Second, "x"))
		}
		s.claim("b", 2, pushing.Busy)
	},
	"an answer that comes late takes back no later push": func(s *suite) {
		c := s.send(s.claim("a", 1, pushing.Granted))
		again := s.send(s.notSent(c, false))
		s.lost("MarkNotSent", s.Ledger.MarkNotSent(s.Context(), c, false))
		s.Advance(lease + time.Millisecond)
		if got := s.claim("a", 1, pushing.Interrupted); got.Pushes != 1 || got.Attempts != again.Attempts {
			s.Errorf("claim = %+v, want the second push", got)
		}
	},
	"a request that is not known is forgotten, not lost": func(s *suite) {
		c := s.claim("a", 1, pushing.Granted)
		c.Request.ID = "never asked"
		other := c
		other.Data.MsgID = number(1)
		for _, c := range []pushing.Claim{c, other} {
			for op, err := range map[string]error{
				"MarkSending": s.Ledger.MarkSending(s.Context(), c), "MarkNotSent": s.Ledger.MarkNotSent(s.Context(), c, false),
				"Park": s.Ledger.Park(s.Context(), c, 0, "x"), "Decide": s.Ledger.Decide(s.Context(), c, decision("a", events.Pushed)),
			} {
				if !errors.Is(err, pushing.ErrForgotten) {
					s.Errorf("%s = %v, want ErrForgotten", op, err)
				}
			}
		}
	},
	"parking takes back a mark whose answer got lost": func(s *suite) {
		c := s.claim("a", 1, pushing.Granted)
		s.must(s.Ledger.MarkSending(s.Context(), c))
		s.must(s.Ledger.Park(s.Context(), c, 0, "LedgerUnavailable"))
		if got := s.claim("a", 1, pushing.Granted); got.Pushes != 0 || got.MaybeDuplicate {
			s.Errorf("claim = %+v, want one that never sent", got)
		}
	},
	"the backlog is what nobody is at, once its time has come": func(s *suite) {
		s.finds()
		c := s.claim("a", 1, pushing.Granted)
		s.finds()
		s.must(s.Ledger.Park(s.Context(), c, time.Second, "NoClientOnline"))
		s.finds()
		s.Advance(time.Second + time.Millisecond)
		s.finds("a")
		c = s.send(s.claim("a", 1, pushing.Granted))
		s.Advance(lease - 10*time.Millisecond)
		s.finds()
		s.Advance(later)
		s.finds("a")
		s.decide(c, events.Pushed)
		s.finds()
		s.Advance(later)
		s.finds("a decided")
		s.must(s.Ledger.MarkEmitted(s.Context(), c.Ask))
		s.Advance(later)
		s.finds()
	},
	"the backlog gives the request back as it was asked": func(s *suite) {
		a := ask("a", 3)
		a.Human, a.Time = true, time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC)
		a.Data.Reason = "\"why\" \\ not/ é\u2028"
		a.Data.StoredAt = a.Time
		_, err := s.Ledger.Receive(s.Context(), a, "NoSlot")
		s.must(err)
		work, _, err := s.Ledger.Due(s.Context(), 10)
		s.must(err)
		if len(work) != 1 {
			s.Fatalf("due = %+v", work)
		}
		a.Lease = 0
		if got := work[0].Ask; got.Data != a.Data || got.Request != a.Request || !got.Human || !got.Time.Equal(a.Time) {
			s.Errorf("got %+v, want %+v", got, a)
		}
	},
	"while somebody is at the message, other requests for it wait": func(s *suite) {
		c := s.claim("a", 1, pushing.Granted)
		s.claim("b", 1, pushing.Busy)
		s.finds()
		s.must(s.Ledger.Park(s.Context(), c, time.Hour, "x"))
		s.finds("b")
	},
	"two sweeps share the work": func(s *suite) {
		const items = 40
		for i := range items {
			_, err := s.Ledger.Receive(s.Context(), on(number(i), fmt.Sprint(i), ""), "NoSlot")
			s.must(err)
		}
		seen := make(map[string]bool)
		for len(seen) < items {
			ids := s.due(15)
			for _, id := range ids {
				if seen[id] {
					s.Fatalf("%s was given twice", id)
				}
				seen[id] = true
			}
			if len(ids) == 0 || len(ids) > 15 {
				s.Fatalf("%d of %d items were given, %d of at most 15 last", len(seen), items, len(ids))
			}
		}
		s.finds()
		s.Advance(later)
		if got := s.due(100); len(got) != items {
			s.Errorf("a minute later %d items are due, want %d again", len(got), items)
		}
	},
	"the backlog is counted": func(s *suite) {
		for i := range 5 {
			c, err := s.Ledger.Claim(s.Context(), on(number(i), fmt.Sprint(i), ""))
			s.must(err)
			if i < 2 {
				s.must(s.Ledger.Park(s.Context(), c, time.Hour, "x"))
			}
			if i == 4 {
				s.decide(c, events.Failed)
				s.must(s.Ledger.MarkEmitted(s.Context(), c.Ask))
			}
		}
		s.Advance(lease + time.Millisecond)
		_, left, err := s.Ledger.Due(s.Context(), 0)
		s.must(err)
		if want := (pushing.Backlogged{Due: 2, Open: 4}); left != want {
			s.Errorf("left = %+v, want %+v", left, want)
		}
	},
}
