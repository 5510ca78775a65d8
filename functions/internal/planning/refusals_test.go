package planning_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// choosy refuses look-ups by what they are about.
type choosy struct {
	*broker
	refuses func(topic, name string) bool
}

func (b choosy) refusal(op, topic, name string) error {
	if !b.refuses(topic, name) {
		return nil
	}
	return &pushing.Error{Kind: pushing.Refused, Op: op, Code: "A_CODE", RequestID: "r"}
}

func (b choosy) ByID(ctx context.Context, i, topic, id string) ([]planning.Stored, error) {
	found, err := b.broker.ByID(ctx, i, topic, id)
	if refusal := b.refusal(planning.OpByID, topic, id); refusal != nil {
		return nil, refusal
	}
	return found, err
}

func (b choosy) ByKey(ctx context.Context, i, topic, key string) ([]planning.Stored, error) {
	found, err := b.broker.ByKey(ctx, i, topic, key)
	if refusal := b.refusal(planning.OpByKey, topic, key); refusal != nil {
		return nil, refusal
	}
	return found, err
}

func (b choosy) Trace(ctx context.Context, i, topic, id string) (map[string]string, error) {
	tracks, err := b.broker.Trace(ctx, i, topic, id)
	if refusal := b.refusal(planning.OpTrace, topic, id); refusal != nil {
		return nil, refusal
	}
	return tracks, err
}

// TestLookUpThatIsRefused leaves out what it was about, by name, and goes on with
// all others; where it is about everything, the plan ends with it, before thousands
// of calls.
func TestLookUpThatIsRefused(t *testing.T) {
	all := func(string, string) bool { return true }
	only := func(names ...string) func(string, string) bool {
		return func(_, name string) bool { return slices.Contains(names, name) }
	}
	deleted := func(topic, _ string) bool { return topic == "deleted" }
	named := func(n int) (list []string) {
		for i := range n {
			list = append(list, msgID(i))
		}
		return list
	}
	alert := func(source events.Selection) pushing.Delivery { return alarm(source) }
	for name, test := range map[string]struct {
		delivery pushing.Delivery
		dead     map[string]int // dead letters that look expired, by topic
		good     int
		refuses  func(topic, name string) bool
		want     int // requests
		leftOut  int // for the refusal
		says     string
		ends     bool
		calls    int // at most; of look-ups
	}{
		"an old dead letter of a topic that is gone": {alert(events.DeadLetters), map[string]int{"deleted": 1}, 50, deleted, 50, 1, "OnsMessageGetByMsgId refused to look up some of the messages: A_CODE", false, 1},
		"many of them":                       {alert(events.DeadLetters), map[string]int{"deleted": 500}, 50, deleted, 50, 500, "A_CODE", false, 64},
		"beside others that are delayed":     {alert(events.DeadLetters), map[string]int{"deleted": 500, topic: 5}, 50, deleted, 55, 500, "A_CODE", false, 69},
		"no permission, and few need it":     {alert(events.DeadLetters), map[string]int{topic: 5}, 50, all, 50, 5, "A_CODE", false, 5},
		"no permission, and all need it":     {alert(events.DeadLetters), map[string]int{topic: 900}, 0, all, 0, 0, "", true, 64},
		"one trace":                          {alert(events.Unconsumed), nil, 40, only(msgID(17)), 39, 1, "OnsMessageTrace refused to look up some of the messages: A_CODE", false, 40},
		"every trace":                        {alert(events.Unconsumed), nil, 900, all, 0, 0, "", true, 64},
		"one of some ids":                    {person("p", events.Plan{Source: events.ByIDs, Topic: topic, IDs: named(100)}), nil, 100, only(msgID(17)), 99, 1, "A_CODE", false, 100},
		"every id":                           {person("p", events.Plan{Source: events.ByIDs, Topic: topic, IDs: named(900)}), nil, 900, all, 0, 0, "", true, 64},
		"one id, and the other is not there": {person("p", events.Plan{Source: events.ByIDs, Topic: topic, IDs: named(2)}), nil, 0, only(msgID(1)), 0, 1, "A_CODE", false, 2},
		"the only id":                        {person("p", events.Plan{Source: events.ByIDs, Topic: topic, IDs: named(1)}), nil, 1, all, 0, 0, "", true, 1},
		"one of two keys":                    {person("p", events.Plan{Source: events.ByKeys, Topic: topic, Keys: []string{"03", "04"}}), nil, 9, only("03"), 1, 0, `the look-up of key "03" was refused: A_CODE`, false, 2},
		"every key":                          {person("p", events.Plan{Source: events.ByKeys, Topic: topic, Keys: []string{"03", "04"}}), nil, 9, all, 0, 0, "", true, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t, func(p *planning.Policy, _ *planning.Ports) {
				p.Allow, _ = pushing.ParseAllowList(instance + "/GID_*/*")
				p.PushLag = true
			})
			h.ports.Finder, h.ports.Watcher = choosy{h.broker, test.refuses}, choosy{h.broker, test.refuses}
			h.restart()
			h.tracks = map[string]string{}
			for n := range test.good {
				h.store(n, 20*time.Hour)
				h.tracks[msgID(n)] = "NOT_CONSUME_YET"
				h.bury(n, 20*time.Hour, time.Hour)
			}
			h.lags = []planning.Lag{{Topic: topic, Messages: int64(test.good)}}
			next := 5000
			for of, n := range test.dead {
				for range n {
					h.bury(next, 75*time.Hour, 70*time.Hour)
					h.dead[len(h.dead)-1].Origin.Topic = of
					h.store(next, 20*time.Hour)
					next++
				}
			}
			got := h.do(t, test.delivery)
			p := h.results.plans(t)[0]
			if sent := len(h.requested.requests(t)); sent != test.want || leftOut(p)["its look-up was refused"] != test.leftOut {
				t.Errorf("%s: %d requests, left out %v", name, sent, leftOut(p))
			}
			if !strings.Contains(p.Incomplete, test.says) || (p.Incomplete == "") != (test.says == "") {
				t.Errorf("%s: incomplete %q", name, p.Incomplete)
			}
			if ends := got.Outcome == events.Failed && got.Code == "A_CODE" && p.Code == "A_CODE"; ends != test.ends {
				t.Errorf("%s: %s, plan %s", name, got.Code, p.Code)
			}
			if n := h.calls[planning.OpByID] + h.calls[planning.OpByKey] + h.calls[planning.OpTrace]; n > test.calls {
				t.Errorf("%s: %d look-ups", name, n)
			}
		})
	}
}

// TestTopicThatIsRefused is left out, and the others are listed; where it is all there
// is, the plan ends with it.
func TestTopicThatIsRefused(t *testing.T) {
	for lags, want := range map[string]string{topic: "", topic + " deleted": "OnsMessagePageQueryByTopic refused to list topic deleted: A_CODE", "deleted": ""} {
		synctest.Test(t, func(t *testing.T) {
			h := lagHouse(t, 60)
			h.policy.Allow, _ = pushing.ParseAllowList(instance + "/GID_*/*")
			h.restart()
			h.lags = nil
			for _, name := range strings.Fields(lags) {
				h.lags = append(h.lags, planning.Lag{Topic: name, Messages: 60})
			}
			h.meddle = func(_ int, q planning.Query, _ *planning.Page) error {
				if q.Topic == "deleted" {
					return &pushing.Error{Kind: pushing.Refused, Op: planning.OpMessages, Code: "A_CODE", Denied: true}
				}
				return nil
			}
			got := h.report(t, alarm(events.Unconsumed))
			p := h.results.plans(t)[0]
			ends := lags == "deleted"
			if !strings.Contains(p.Incomplete, want) || (p.Incomplete == "") != (want == "") || (p.Count == 60) == ends || (got.Code == "A_CODE") != ends {
				t.Errorf("%s: %s, %d entries, incomplete %q", lags, got.Code, p.Count, p.Incomplete)
			}
			if n := h.calls[planning.OpMessages]; strings.Contains(lags, "deleted") && n > 6 {
				t.Errorf("%s: %d pages", lags, n)
			}
		})
	}
}

// TestAnsweredTopicIsAsked on: however many of its look-ups are refused after that
// nothing is there.
func TestAnsweredTopicIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := lagHouse(t, 120)
		n := 0
		h.fail = func(_ int, op string) error {
			if op == planning.OpTrace {
				if n++; n <= 10 {
					return &pushing.Error{Kind: pushing.Refused, Op: op, Code: pushing.CodeNoMessage}
				} else if n <= 110 {
					return &pushing.Error{Kind: pushing.Refused, Op: op, Code: "A_CODE"}
				}
			}
			return nil
		}
		h.report(t, alarm(events.Unconsumed))
		if p := h.results.plans(t)[0]; p.Count != 10 || leftOut(p)["no such message in this topic"] != 10 || leftOut(p)["its look-up was refused"] != 100 {
			t.Errorf("%d entries, left out %v", p.Count, leftOut(p))
		}
	})
}

// TestTraceThatIsRefusedLater ends the incident, too: it does not pass for consumed.
func TestTraceThatIsRefusedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := lagHouse(t, 5)
		h.requested.refuse(errAway)
		h.do(t, alarm(events.Unconsumed))
		h.requested.refuse(nil)
		h.ports.Watcher = traceCode{h.broker, "A_CODE"}
		h.restart()
		var code string
		h.Log = func(l planning.Line) { code += l.Report.Code }
		time.Sleep(2 * time.Minute)
		h.sweep(t)
		if !strings.HasPrefix(code, "A_CODE") || len(h.requested.sent) != 0 {
			t.Errorf("%d requests, code %s", len(h.requested.sent), code)
		}
	})
}

// TestOrderIsNoReason: what needs its look-up only for its place goes without.
func TestOrderIsNoReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.bury(1, 60*time.Hour, time.Hour)
		h.bury(2, 61*time.Hour, time.Hour)
		h.ports.Finder = choosy{h.broker, func(string, string) bool { return true }}
		h.restart()
		h.report(t, alarm(events.DeadLetters))
		if diff := cmp.Diff([]string{msgID(2), msgID(1)}, ids(h.requested.requests(t))); diff != "" || h.results.plans(t)[0].Incomplete != "" {
			t.Errorf("incomplete %q, requests (-want +got):\n%s", h.results.plans(t)[0].Incomplete, diff)
		}
	})
}
