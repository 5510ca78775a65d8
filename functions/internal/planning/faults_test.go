package planning_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/quota"
)

type traceCode struct {
	*broker
	code string
}

func (g traceCode) Trace(context.Context, string, string, string) (map[string]string, error) {
	return nil, &pushing.Error{Kind: pushing.Refused, Op: planning.OpTrace, Code: g.code, RequestID: "r"}
}

func lagHouse(t *testing.T, n int) *house {
	h := newHouse(t, func(p *planning.Policy, _ *planning.Ports) { p.PushLag = true })
	h.tracks = map[string]string{}
	h.lags = []planning.Lag{{Topic: topic, Messages: int64(n), Consumed: time.Now().Add(-2 * time.Hour)}}
	for i := range n {
		h.store(i, time.Hour)
		h.tracks[msgID(i)] = "NOT_CONSUME_YET"
	}
	return h
}

func realPacers(qps map[string]float64) func(string) pushing.Pacer {
	m := map[string]pushing.Pacer{}
	for _, op := range []string{planning.OpDeadLetters, planning.OpMessages, planning.OpByID, planning.OpByKey, planning.OpTrace, planning.OpLag, planning.OpOnline} {
		q := qps[op]
		if q == 0 {
			q = 10
		}
		m[op] = quota.NewPacer(quota.NewMemory(q, nil), nil)
	}
	return func(op string) pushing.Pacer { return m[op] }
}

func invoke(t *testing.T, h *house, d pushing.Delivery, of time.Duration) pushing.Result {
	ctx, cancel := context.WithTimeout(t.Context(), of)
	defer cancel()
	return h.Handle(ctx, "i", []pushing.Delivery{d})[0]
}

var sweepIt = pushing.Delivery{Sweep: new(events.Sweep)}

func TestTraceThatIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := lagHouse(t, 20)
		h.ports.Watcher = traceCode{h.broker, "ActionUnauthorized"}
		h.restart()
		got := h.do(t, alarm(events.Unconsumed))
		p := h.results.plans(t)[0]
		if got.Outcome != events.Failed || p.Code != "ActionUnauthorized" {
			t.Errorf("%+v, plan %+v: it looks whole", got, p)
		}
	})
}

func TestSendingInShortInvocations(t *testing.T) {
	for _, n := range []int{60, 150} {
		synctest.Test(t, func(t *testing.T) {
			h := lagHouse(t, n)
			h.ports.Pacer = realPacers(map[string]float64{planning.OpMessages: 10. / 60})
			h.restart()
			invoke(t, h, alarm(events.Unconsumed), 10*time.Second)
			for range 30 {
				time.Sleep(50 * time.Second)
				invoke(t, h, sweepIt, 10*time.Second)
			}
			if sent, traces := len(h.requested.requests(t)), h.calls[planning.OpTrace]; sent != n || traces > 3*n {
				t.Errorf("%d of %d messages asked for, %d traces", sent, n, traces)
			}
		})
	}
}

// TestNoSlotLeft: a scan that the pages' quota cuts goes on, by the code for that.
func TestNoSlotLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := lagHouse(t, 600)
		h.ports.Pacer = realPacers(map[string]float64{planning.OpMessages: 10. / 60})
		h.restart()
		got := invoke(t, h, alarm(events.Unconsumed), 10*time.Second)
		time.Sleep(time.Minute)
		var lines []string
		h.Log = func(l planning.Line) { lines = append(lines, l.Report.Code) }
		invoke(t, h, sweepIt, 10*time.Second)
		if diff := cmp.Diff([]string{planning.CodeGoesOn, planning.CodeDone}, lines); diff != "" || got.Code != planning.CodeGoesOn {
			t.Errorf("%s: %s, lines of a sweep (-want +got):\n%s", got.Code, got.Message, diff)
		}
	})
}

func TestTracingInShortInvocations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := lagHouse(t, 150)
		h.ports.Pacer = realPacers(map[string]float64{planning.OpTrace: 3.3})
		h.restart()
		invoke(t, h, alarm(events.Unconsumed), 10*time.Second)
		for range 20 {
			time.Sleep(50 * time.Second)
			invoke(t, h, sweepIt, 10*time.Second)
		}
		if len(h.results.plans(t)) == 0 {
			t.Errorf("no manifest, %d traces", h.calls[planning.OpTrace])
		}
	})
}

func TestGenerationsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		for n := range 5 {
			h.bury(n, 2*time.Hour, time.Hour)
		}
		h.policy.MaxPushes = 1000
		h.restart()
		h.decide(t, 3, events.MaxGeneration, events.Pushed)
		time.Sleep(2 * time.Minute)
		h.bury(3, 2*time.Hour, 0)
		if got := h.report(t, alarm(events.DeadLetters)); got.Requests != 4 {
			t.Errorf("report = %+v", got)
		}
	})
}

func TestBudgetOfLateSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(p *planning.Policy, _ *planning.Ports) { p.GroupBudget, p.Limit = 100, 100 })
		for n := range 300 {
			h.bury(n, time.Hour, time.Minute)
		}
		h.results.refuse(errAway)
		h.do(t, alarm(events.DeadLetters))
		for range 25 * 4 {
			time.Sleep(15 * time.Minute)
			h.sweep(t)
		}
		h.results.refuse(nil)
		time.Sleep(time.Minute)
		h.sweep(t)
		n1 := len(h.requested.sent)
		for i := range h.requested.sent {
			r, _ := events.DecodeRequested(h.requested.sent[i].Data)
			h.decide(t, number(r.MsgID), 1, events.Pushed)
		}
		time.Sleep(31 * time.Minute)
		h.do(t, alarm(events.DeadLetters))
		if len(h.requested.sent) > 100 {
			t.Errorf("%d then %d requests within 32 min, budget 100", n1, len(h.requested.sent))
		}
	})
}

func TestAlertsOfMadeUpTopics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		allow, _ := pushing.ParseAllowList(instance + "/GID_*/*")
		h := newHouse(t, func(p *planning.Policy, _ *planning.Ports) { p.Allow = allow })
		h.bury(1, 20*time.Hour, time.Hour)
		h.offline = true
		for i := range 300 {
			d := alarm(events.DeadLetters)
			d.Plan.Topic = fmt.Sprintf("topic%d", i)
			h.do(t, d)
		}
		doc, _, _ := h.ports.Documents.Load(t.Context(), "group/"+instance+"/"+consumer)
		h.setOffline(false)
		time.Sleep(2 * time.Minute)
		if s, scans := h.sweep(t), h.calls[planning.OpDeadLetters]; s.Closed != 20 || scans > 100 {
			t.Errorf("300 topics: document of %d bytes, %d incidents, %d scans", len(doc), s.Closed, scans)
		}
		if got := h.report(t, alarm(events.DeadLetters)); got.Code != planning.CodeBudget {
			t.Errorf("in the cooldown of all of them: %+v", got)
		}
		time.Sleep(24 * time.Hour)
		if got := h.report(t, alarm(events.DeadLetters)); got.Requests != 1 {
			t.Errorf("the first alert after it: %+v", got)
		}
	})
}

// partly takes a few events of each batch, and then none until the invocation is
// over.
type partly struct {
	*mailbox
	takes int
}

func (p partly) Send(ctx context.Context, batch ...events.Event) error {
	n := min(p.takes, len(batch))
	if err := p.mailbox.Send(ctx, batch[:n]...); err != nil || n == len(batch) {
		return err
	}
	<-ctx.Done()
	return firstError(n)
}

type firstError int

func (e firstError) Error() string { return "the rest was not delivered" }
func (e firstError) First() int    { return int(e) }

// TestSlowSink: what was taken over is not sent again.
func TestSlowSink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.ports.Requests = partly{h.requested, 10}
		h.restart()
		for n := range 45 {
			h.bury(n, 20*time.Hour, time.Hour)
		}
		h.do(t, alarm(events.DeadLetters))
		for range 5 {
			h.sweep(t)
		}
		if all := len(h.requested.sent); all != 45 || len(h.requested.requests(t)) != 45 {
			t.Errorf("%d events for 45 requests", all)
		}
	})
}

type strict struct{ planning.Documents } // as Redis: an ended context is an error
func (s strict) Load(ctx context.Context, k string) ([]byte, int64, error) {
	if ctx.Err() != nil {
		return nil, 0, &pushing.Error{Kind: pushing.Unavailable, Op: "redis", Err: ctx.Err()}
	}
	return s.Documents.Load(ctx, k)
}

func (s strict) Due(ctx context.Context, n int) ([]string, int, error) {
	if ctx.Err() != nil {
		return nil, 0, &pushing.Error{Kind: pushing.Unavailable, Op: "redis", Err: ctx.Err()}
	}
	return s.Documents.Due(ctx, n)
}

// longScan is a house whose scan takes longer than an invocation.
func longScan(t *testing.T) *house {
	t.Helper()
	h := newHouse(t)
	h.ports.Documents = strict{h.ports.Documents}
	h.ports.Pacer = realPacers(map[string]float64{planning.OpDeadLetters: 1})
	h.restart()
	for n := range 2000 {
		h.bury(n, 20*time.Hour, time.Hour)
	}
	return h
}

// TestSweepThatUsesItsTimeUp is none that failed: what it did is noted.
func TestSweepThatUsesItsTimeUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := longScan(t)
		invoke(t, h, alarm(events.DeadLetters), 10*time.Second)
		got := invoke(t, h, sweepIt, 10*time.Second)
		if r, _ := got.Report.(planning.Swept); got.Deferred || r.Taken == 0 || r.Closed != 0 || r.Open != 1 {
			t.Errorf("sweep = %+v", got)
		}
	})
}

func TestSecondDeliveryIsNoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := longScan(t)
		second := alarm(events.DeadLetters)
		second.Plan.GroupID = "GID_y"
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		got := h.Handle(ctx, "i", []pushing.Delivery{alarm(events.DeadLetters), second})
		if got[1].Deferred {
			t.Errorf("the second alert was not noted: %s", got[1].Message)
		}
	})
}

// TestRefusedPlanIsTold: what the budget refuses, too, whoever asked, once.
func TestRefusedPlanIsTold(t *testing.T) {
	byQueue := person("x", events.Plan{Source: events.DeadLetters})
	byQueue.Human = false
	for name, d := range map[string]pushing.Delivery{"a plan request": byQueue, "an alert": alarm(events.DeadLetters)} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, func(p *planning.Policy, _ *planning.Ports) { p.GroupBudget = 0 })
			h.bury(1, time.Hour, time.Minute)
			h.results.refuse(errAway)
			if got := h.do(t, d); !got.Parked || got.Code != planning.CodeSink {
				t.Errorf("%s, while nobody can be told: %+v", name, got)
			}
			h.results.refuse(nil)
			time.Sleep(time.Minute)
			h.sweep(t)
			want := planning.CodeBudget
			if d.Alert {
				want = planning.CodeJoined
			}
			if got := h.do(t, d); got.Code != want {
				t.Errorf("%s again: %+v", name, got)
			}
			if plans := h.results.plans(t); len(h.results.sent) != 1 || plans[0].Code != planning.CodeBudget || plans[0].Message == "" || len(h.calls) != 0 {
				t.Errorf("%s: events %+v, calls %v", name, plans, h.calls)
			}
		})
	}
}

func TestOneIDForTwoPlans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.bury(1, time.Hour, time.Minute)
		h.do(t, person("x", events.Plan{Source: events.DeadLetters}))
		other := person("x", events.Plan{Source: events.DeadLetters})
		other.Plan.GroupID = "GID_y"
		if got := h.report(t, other); got.Requests != 1 || h.requested.requests(t)[1].GroupID != "GID_y" {
			t.Errorf("the other group's: %+v", got)
		}
		if got := h.report(t, person("x", events.Plan{Source: events.DeadLetters, Limit: 1})); got.Code != planning.CodeContradicting {
			t.Errorf("another plan under the same id: %+v", got)
		}
	})
}

type badHistory struct{ planning.Histories }

func (b badHistory) History(ctx context.Context, m pushing.Message) (pushing.History, error) {
	if m.MsgID == msgID(3) {
		return pushing.History{}, errors.New("the record cannot be read: restore the file from a copy")
	}
	return b.Histories.History(ctx, m)
}

func TestOneUnreadableRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		for n := range 5 {
			h.bury(n, time.Hour, time.Minute)
		}
		h.ports.Histories = badHistory{h.ports.Histories}
		h.restart()
		h.do(t, alarm(events.DeadLetters))
		if len(h.requested.sent) != 4 {
			t.Errorf("%d requests", len(h.requested.sent))
		}
	})
}

type badDue struct{ planning.Documents }

func (b badDue) Due(ctx context.Context, n int) ([]string, int, error) {
	k, o, _ := b.Documents.Due(ctx, n)
	return k, o, errors.New(`the document "scan/x" cannot be read`)
}

func TestOneUnreadableDocument(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.bury(1, time.Hour, time.Minute)
		h.offline = true
		h.do(t, alarm(events.DeadLetters))
		h.setOffline(false)
		h.ports.Documents = badDue{h.ports.Documents}
		h.restart()
		var line planning.Line
		h.Log = func(l planning.Line) { line = l }
		time.Sleep(2 * time.Minute)
		if got := h.do(t, sweepIt); len(h.requested.sent) != 1 || len(got.Report.(planning.Swept).Problems) != 1 || line.Err == nil {
			t.Errorf("%+v, logged with %v", got, line.Err)
		}
	})
}

type oneFailingScan struct {
	planning.Documents
	n *int
}

func (o oneFailingScan) Save(ctx context.Context, k string, v int64, doc []byte, keep, due time.Duration) (int64, error) {
	if strings.HasPrefix(k, "scan/") {
		if *o.n++; *o.n == 2 {
			return 0, errAway
		}
	}
	return o.Documents.Save(ctx, k, v, doc, keep, due)
}

func TestCheckpointAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.ports.Documents = oneFailingScan{h.ports.Documents, new(int)}
		h.ports.Pacer = realPacers(map[string]float64{planning.OpDeadLetters: .2})
		h.restart()
		for n := range 1000 {
			h.bury(n, 20*time.Hour, time.Hour)
		}
		if got := h.do(t, alarm(events.DeadLetters)); got.Code == planning.CodeInProgress {
			t.Errorf("%s", got.Message)
		}
	})
}

func TestClockThatJumped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.bury(1, time.Hour, time.Minute)
		h.Service.Now = func() time.Time { return time.Now().Add(48 * time.Hour) }
		h.offline = true
		invoke(t, h, alarm(events.DeadLetters), time.Minute)
		h.setOffline(false)
		h.restart()
		for range 10 {
			time.Sleep(time.Minute)
			h.sweep(t)
		}
		if len(h.requested.sent) == 0 {
			t.Error("not taken up")
		}
	})
}

func TestNoTimeToLookAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.meddle = func(_ int, q planning.Query, _ *planning.Page) error {
			if q.From.After(q.To) {
				return &pushing.Error{Kind: pushing.Refused, Op: planning.OpDeadLetters, Code: "BIZ_FIELD_CHECK_INVALID"}
			}
			return nil
		}
		for name, plan := range map[string]events.Plan{"too late": {To: time.Now().Add(-100 * time.Hour)}, "of another time zone": {From: time.Now().Add(time.Hour)}} {
			plan.Source = events.DeadLetters
			got := h.report(t, person(name, plan))
			if got.Code != planning.CodeNothing {
				t.Errorf("%s: asked for from > to", name)
			}
			if got.Manifest == nil || !strings.Contains(got.Manifest.Incomplete, "time zone") {
				t.Errorf("%s: it looks as if something was read: %+v", name, got)
			}
		}
	})
}

func TestOddOffsetID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.bury(1, time.Hour, time.Minute)
		h.dead[0].Origin.OffsetID = strings.Repeat("A", 34)
		h.do(t, alarm(events.DeadLetters))
		if got := h.requested.requests(t); len(got) != 1 || got[0].OffsetID != "" {
			t.Errorf("requests = %+v", got)
		}
	})
}

func TestOddTracks(t *testing.T) {
	for _, track := range []string{"PULL", "CONSUME_BROADCASTING", "SOMETHING_NEW"} {
		synctest.Test(t, func(t *testing.T) {
			h := lagHouse(t, 1)
			h.tracks[msgID(0)] = track
			h.do(t, alarm(events.Unconsumed))
			if p := h.results.plans(t)[0]; p.Count != 0 || leftOut(p)["the trace does not say whether it was consumed"] != 1 {
				t.Errorf("%s: %+v", track, p)
			}
		})
	}
}
