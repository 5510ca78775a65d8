package planning_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// TestKilledInAWindow: a process that dies after it kept what it had read of a
// window loses none of its pages, and reads none of those again.
func TestKilledInAWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		for n := range 500 {
			h.bury(n, 20*time.Hour, 10*time.Hour-time.Duration(n)*time.Second)
		}
		ports := h.ports
		h.ports.Pacer = func(string) pushing.Pacer { return spaced(5 * time.Second) }
		h.ports.Documents = mortalDocuments{ports.Documents, &mortal{dies: 2, after: true}} // the incident, and what was read
		h.restart()
		h.do(t, alarm(events.DeadLetters))
		if n := h.calls[planning.OpDeadLetters]; n < 3 || n > 11 {
			t.Fatalf("it came to page %d of 10", n)
		}
		before := h.calls[planning.OpDeadLetters]
		h.ports = ports
		h.restart()
		time.Sleep(2 * time.Minute)
		h.sweep(t)
		p := h.results.plans(t)[0]
		if again := h.calls[planning.OpDeadLetters] - before; p.Count != 500 || p.Incomplete != "" || again > 9 {
			t.Errorf("%d of 500, incomplete %q, %d pages in the next life", p.Count, p.Incomplete, again)
		}
	})
}

// TestPageOnce: a page in the middle that is that of another moment, and one that is
// not permitted any more.
func TestPageOnce(t *testing.T) {
	for name, test := range map[string]struct {
		meddle func(h *house, p *planning.Page) error
		code   string
		count  int
		calls  int
	}{
		"repeats another": {func(h *house, p *planning.Page) error { p.Messages = h.dead[:50]; return nil }, planning.CodeDone, 150, 8},
		"is denied": {func(*house, *planning.Page) error {
			return &pushing.Error{Kind: pushing.Refused, Op: planning.OpDeadLetters, Code: "Forbidden.RAM", Denied: true}
		}, "Forbidden.RAM", 0, 3},
		"of a task that is over": {func(*house, *planning.Page) error {
			return &pushing.Error{Kind: pushing.Refused, Op: planning.OpDeadLetters, Code: "BIZ_FIELD_CHECK_INVALID"}
		}, planning.CodeDone, 150, 8},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			for n := range 150 {
				h.bury(n, 20*time.Hour, 10*time.Hour-time.Duration(n)*time.Second)
			}
			done := false
			h.meddle = func(_ int, q planning.Query, p *planning.Page) error {
				if done || q.Number != 2 {
					return nil
				}
				done = true
				return test.meddle(h, p)
			}
			got := h.report(t, alarm(events.DeadLetters))
			p := h.results.plans(t)[0]
			if got.Code != test.code || p.Count != test.count || p.Incomplete != "" || h.calls[planning.OpDeadLetters] > test.calls {
				t.Errorf("%s: %s, %d entries, incomplete %q, %d calls", name, got.Code, p.Count, p.Incomplete, h.calls[planning.OpDeadLetters])
			}
		})
	}
}

// TestDiedOfThePush: what became a dead letter so long after its push died of it,
// and not before, by a clock that is ahead.
func TestDiedOfThePush(t *testing.T) {
	for after, want := range map[time.Duration]int{time.Second: 0, 4 * time.Second: 0, 10 * time.Second: 1, time.Minute: 1} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			h.decide(t, 1, 1, events.Pushed)
			time.Sleep(after)
			h.bury(1, 20*time.Hour, 0)
			time.Sleep(time.Minute)
			if got := h.report(t, alarm(events.DeadLetters)); got.Requests != want {
				t.Errorf("after %v: %+v", after, got)
			}
		})
	}
}

// TestQueuesThatAreBehind: messages a little older than what was consumed last are
// looked at as well.
func TestQueuesThatAreBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := lagHouse(t, 0)
		h.lags[0].Messages = 1
		h.store(1, 2*time.Hour+5*time.Minute)
		h.tracks[msgID(1)] = "NOT_CONSUME_YET"
		if got := h.report(t, alarm(events.Unconsumed)); got.Requests != 1 {
			t.Errorf("report = %+v", got)
		}
	})
}

// many pages of dead letters, one a second until now, made when they are asked for.
type many struct {
	planning.Pager
	n     int
	until time.Time
}

func (m many) DeadLetters(_ context.Context, q planning.Query) (p planning.Page, err error) {
	at := func(i int) time.Time { return m.until.Add(-time.Duration(i+1) * time.Second) }
	first, all := 0, 0
	for i := range m.n {
		if at := at(i); !at.Before(q.From) && !at.After(q.To) {
			if all++; all == 1 {
				first = i
			}
		}
	}
	p = planning.Page{TaskID: "task", Pages: min(planning.MaxPages, (all+planning.PageSize-1)/planning.PageSize)}
	for i := first + (q.Number-1)*planning.PageSize; i < min(first+all, first+q.Number*planning.PageSize); i++ {
		p.Messages = append(p.Messages, planning.Stored{
			Topic: "%DLQ%" + consumer, MsgID: msgID(i), OffsetID: fmt.Sprintf("D%031X", i), StoredAt: at(i), BornAt: at(i), Origin: pushing.Origin{Topic: topic, MsgID: msgID(i)},
		})
	}
	return p, nil
}

// TestAsManyAsASelectionTakes: all of them, and a word if there may be more.
func TestAsManyAsASelectionTakes(t *testing.T) {
	t.Parallel()
	for n, incomplete := range map[int]string{19_900: "", 24_000: "more than 20000 messages"} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, func(p *planning.Policy, _ *planning.Ports) { p.Limit = 10_000 })
			h.ports.Pager = many{h.broker, n, time.Now()}
			h.restart()
			h.report(t, person("p", events.Plan{Source: events.DeadLetters, DryRun: true}))
			p := h.results.plans(t)[0]
			all := p.Count + leftOut(p)["over the limit of one plan"]
			if p.Count != 10_000 || all < min(n, 20_000) || all > 23_000 || (p.Incomplete == "") != (incomplete == "") || !strings.Contains(p.Incomplete, incomplete) {
				t.Errorf("of %d: %d entries of %d, incomplete %q", n, p.Count, all, p.Incomplete)
			}
		})
	}
}
