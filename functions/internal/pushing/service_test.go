package pushing_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/ledger"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

func TestPushedCarriesTheWholeStory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.takes, h.pacer.line = 120*time.Millisecond, 2*time.Second
		got := h.one(t, delivery("a", 1, func(r *events.Requested) { r.OperationID = "op-1" }))
		if diff := cmp.Diff(pushing.Result{EventID: "a", MsgID: fmt.Sprintf("%032X", 1), Outcome: events.Pushed}, got); diff != "" {
			t.Errorf("result (-want +got):\n%s", diff)
		}
		if len(h.mail.sent) != 1 || h.mail.sent[0].ID != events.ResultID("test", "a", false) {
			t.Fatalf("sent %v, want one event with the id of the request", h.mail.sent)
		}
		c := h.mail.last(t)
		now := time.Now().UTC()
		data := delivery("a", 1).Data
		data.OperationID = "op-1"
		want := events.Completed{
			Request: events.RequestRef{ID: "a", Source: "test", Data: &data},
			Outcome: events.Pushed, RequestID: "request 1", InvocationID: "invocation", ClientID: "10.0.0.1@1#a",
			Attempts: 1, Pushes: 1, ReceivedAt: now.Add(-2120 * time.Millisecond), DecidedAt: now, WaitMs: 2000, CallMs: 120,
		}
		if diff := cmp.Diff(want, c); diff != "" {
			t.Errorf("result event (-want +got):\n%s", diff)
		}
		if l := h.lines[0]; len(h.lines) != 1 || l.Result != got || l.RequestID != "request 1" || l.Attempts != 1 || l.WaitMs != 2000 || l.CallMs != 120 || l.InvocationID != "invocation" || l.Err != nil {
			t.Errorf("log lines = %+v", h.lines)
		}
	})
}

// TestKinds holds the table of section 5 of the design: what each kind of answer
// does, how often it was called, and what counts as pushed.
func TestKinds(t *testing.T) {
	t.Parallel()
	always := func(reached bool, err error) func(int, pushing.Target) (bool, error) {
		return func(int, pushing.Target) (bool, error) { return reached, err }
	}
	once := func(reached bool, err error) func(int, pushing.Target) (bool, error) {
		return func(call int, _ pushing.Target) (bool, error) {
			if call == 1 {
				return reached, err
			}
			return true, nil
		}
	}
	repeat := withPolicy(func(p *pushing.Policy) { p.OnUnknown = events.PushAgain })
	maybe := func() error {
		return &pushing.Error{Kind: pushing.Unavailable, Op: "OnsMessagePush", Code: "ServiceUnavailable", MaybeSent: true}
	}
	for name, test := range map[string]struct {
		answer   func(int, pushing.Target) (bool, error)
		option   option
		request  func(*events.Requested)
		outcome  events.Outcome
		code     string
		calls    int
		pushes   int
		maybe    bool
		verdicts []pushing.Verdict
	}{
		"refused for good":       {answer: always(false, failure(pushing.Refused, "BIZ_TOPIC_NOT_FOUND")), outcome: events.Failed, code: "BIZ_TOPIC_NOT_FOUND", calls: 1, verdicts: []pushing.Verdict{pushing.Accepted}},
		"our parameters refused": {answer: always(false, failure(pushing.Invalid, "")), outcome: events.Failed, code: "Invalid", calls: 1},
		"unknown is held":        {answer: always(true, failure(pushing.Unknown, "ONS_INVOKE_ERROR")), outcome: events.Unknown, code: "ONS_INVOKE_ERROR", calls: 1, pushes: 1},
		"unclassified is held":   {answer: always(true, errors.New("boom")), outcome: events.Unknown, code: "Internal", calls: 1, pushes: 1},
		"unknown is repeated once where the policy says so": {
			answer: always(true, failure(pushing.Unknown, "X")), option: repeat, outcome: events.Unknown, code: "X", calls: 2, pushes: 2, maybe: true},
		"unknown, then accepted": {answer: once(true, failure(pushing.Unknown, "X")), option: repeat, outcome: events.Pushed, calls: 2, pushes: 2, maybe: true},
		"unknown, then refused, is still unknown": {
			answer: func(call int, _ pushing.Target) (bool, error) {
				if call == 1 {
					return true, failure(pushing.Unknown, "X")
				}
				return false, failure(pushing.Refused, "BIZ_NO_MESSAGE")
			}, option: repeat, outcome: events.Unknown, code: "X", calls: 2, pushes: 1, maybe: true},
		"unknown, then nobody online, is still unknown": {
			answer: func(call int, _ pushing.Target) (bool, error) {
				if call == 1 {
					return true, failure(pushing.Unknown, "X")
				}
				return false, failure(pushing.NoClient, "BIZ_CONSUMER_NOT_ONLINE")
			}, option: repeat, outcome: events.Unknown, code: "X", calls: 3, pushes: 1, maybe: true},
		"a request can be stricter than the policy": {
			answer: always(true, failure(pushing.Unknown, "X")), option: repeat,
			request: func(r *events.Requested) { r.OnUnknown = events.Hold }, outcome: events.Unknown, code: "X", calls: 1, pushes: 1},
		"a request cannot be laxer than the policy": {
			answer:  always(true, failure(pushing.Unknown, "X")),
			request: func(r *events.Requested) { r.OnUnknown = events.PushAgain }, outcome: events.Unknown, code: "X", calls: 1, pushes: 1},
		"throttled, then accepted": {
			answer: once(false, failure(pushing.Throttled, "Throttling.User")), outcome: events.Pushed, calls: 2, pushes: 1,
			verdicts: []pushing.Verdict{pushing.Throttling, pushing.Accepted}},
		"unavailable, then accepted":   {answer: once(false, failure(pushing.Unavailable, "")), outcome: events.Pushed, calls: 2, pushes: 1},
		"probably not sent, then sent": {answer: once(false, maybe()), outcome: events.Pushed, calls: 2, pushes: 1, maybe: true},
		"unavailable for long":         {answer: always(false, failure(pushing.Unavailable, "DialError")), code: "DialError", calls: 4},
		"credentials":                  {answer: always(false, failure(pushing.Credentials, "InvalidSecurityToken.Expired")), code: "InvalidSecurityToken.Expired", calls: 1},
		"every client gone":            {answer: always(false, failure(pushing.NoClient, "BIZ_CONSUMER_NOT_ONLINE")), code: "NoClientOnline", calls: 2},
		"the named client gone": {
			answer:  always(false, failure(pushing.NoClient, "BIZ_CONSUMER_NOT_ONLINE")),
			request: func(r *events.Requested) { r.ClientID = "10.0.0.9@9" }, code: "BIZ_CONSUMER_NOT_ONLINE", calls: 1},
		"no message": {answer: always(false, failure(pushing.Refused, "BIZ_NO_MESSAGE")), outcome: events.Failed, code: "BIZ_NO_MESSAGE", calls: 1},
		"no message under one id, found under the other": {
			answer:  once(false, failure(pushing.Refused, "BIZ_NO_MESSAGE")),
			request: func(r *events.Requested) { r.OffsetID = strings.Repeat("F", 32) }, outcome: events.Pushed, calls: 2, pushes: 1},
		"another refusal does not try the other id": {
			answer:  always(false, failure(pushing.Refused, "BIZ_TOPIC_NOT_FOUND")),
			request: func(r *events.Requested) { r.OffsetID = strings.Repeat("F", 32) }, outcome: events.Failed, code: "BIZ_TOPIC_NOT_FOUND", calls: 1},
		"unknown is not repeated beyond the pushes allowed": {
			answer: always(true, failure(pushing.Unknown, "X")), option: withPolicy(func(p *pushing.Policy) { p.OnUnknown, p.MaxPushes = events.PushAgain, 1 }),
			outcome: events.Unknown, code: "X", calls: 1, pushes: 1},
		"no message under either id": {
			answer:  always(false, failure(pushing.Refused, "BIZ_NO_MESSAGE")),
			request: func(r *events.Requested) { r.OffsetID = strings.Repeat("F", 32) }, outcome: events.Failed, code: "BIZ_NO_MESSAGE", calls: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				options := []option{withPolicy(func(*pushing.Policy) {})}
				if test.option != nil {
					options = append(options, test.option)
				}
				h := newHouse(t, options...)
				h.answer = test.answer
				var change []func(*events.Requested)
				if test.request != nil {
					change = append(change, test.request)
				}
				got := h.one(t, delivery("a", 1, change...))
				if got.Outcome != test.outcome || got.Code != test.code || got.Deferred != (test.outcome == "") {
					t.Errorf("result = %+v, want outcome %q code %q", got, test.outcome, test.code)
				}
				if len(h.calls) != test.calls {
					t.Errorf("%d calls, want %d", len(h.calls), test.calls)
				}
				if test.verdicts != nil && !slices.Equal(h.pacer.verdicts, test.verdicts) {
					t.Errorf("verdicts = %v, want %v", h.pacer.verdicts, test.verdicts)
				}
				if test.outcome == "" {
					if len(h.mail.sent) != 0 {
						t.Errorf("a result was sent for deferred work")
					}
					return
				}
				c := h.mail.last(t)
				if c.Pushes != test.pushes || c.Attempts != test.calls || c.MaybeDuplicate != test.maybe || c.Outcome != test.outcome {
					t.Errorf("result event = %+v, want pushes %d, attempts %d, maybeDuplicate %v", c, test.pushes, test.calls, test.maybe)
				}
				if c.Outcome != events.Pushed && (c.Hint == "" || c.Message == "") {
					t.Errorf("hint %q, message %q: must not be empty", c.Hint, c.Message)
				}
			})
		})
	}
}

func TestThrottledDeferralKeepsNoPush(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.answer = func(int, pushing.Target) (bool, error) { return false, failure(pushing.Throttled, "Throttling.User") }
		h.takes = 100 * time.Millisecond
		if got := h.do(t, 5*time.Second, delivery("a", 1))[0]; !got.Deferred {
			t.Fatalf("result = %+v, want deferred", got)
		}
		h.answer = nil
		time.Sleep(10 * time.Second)
		if got := h.one(t, delivery("a", 1)); got.Outcome != events.Pushed {
			t.Errorf("redelivery = %+v, want pushed", got)
		}
		if c := h.mail.last(t); c.Pushes != 1 || c.MaybeDuplicate {
			t.Errorf("result = %+v, want one push and no doubt", c)
		}
	})
}

func TestRejections(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		delivery pushing.Delivery
		outcome  events.Outcome
		code     string
		message  string
		hint     string
	}{
		"malformed": {
			delivery: pushing.Delivery{Request: pushing.RequestKey{Source: "s", ID: "i"}, Err: &events.ValidationError{Problems: []events.Problem{{Field: "msgId", Rule: "is required"}}}},
			outcome:  events.Rejected, code: "Invalid", message: "msgId: is required"},
		"malformed with a code of its own": {
			delivery: pushing.Delivery{Request: pushing.RequestKey{Source: "s", ID: "i"}, Err: codedError{}}, outcome: events.Rejected, code: "Loop", message: "coded"},
		"not allowed prints the entry to add": {
			delivery: delivery("a", 1, func(r *events.Requested) { r.Topic = "payments" }), outcome: events.Rejected, code: "NotAllowed",
			hint: "to allow it, add MQ_INST_1_x/GID_x/payments to REPUSH_ALLOW"},
		"not after":      {delivery: delivery("a", 1, func(r *events.Requested) { r.NotAfter = time.Unix(1, 0) }), outcome: events.Expired, code: "NotAfter"},
		"stored too old": {delivery: delivery("a", 1, func(r *events.Requested) { r.StoredAt = time.Now().Add(-73 * time.Hour) }), outcome: events.Expired, code: "TooOld"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			got := h.one(t, test.delivery)
			if got.Outcome != test.outcome || got.Code != test.code || got.Deferred {
				t.Errorf("result = %+v, want %s %s", got, test.outcome, test.code)
			}
			if len(h.calls) != 0 || h.lookups != 0 {
				t.Errorf("%d pushes and %d look-ups were made", len(h.calls), h.lookups)
			}
			c := h.mail.last(t)
			if test.message != "" && c.Message != test.message {
				t.Errorf("message = %q, want %q", c.Message, test.message)
			}
			if test.hint != "" && c.Hint != test.hint || c.Hint == "" {
				t.Errorf("hint = %q, want %q", c.Hint, test.hint)
			}
			if test.delivery.Err != nil && c.Request.Data != nil {
				t.Errorf("a request that could not be read shows data %+v", c.Request.Data)
			}
		})
	}
}

type codedError struct{}

func (codedError) Error() string { return "coded" }
func (codedError) Code() string  { return "Loop" }

func TestSilentDeliveriesGetNoEvent(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	got := h.one(t, pushing.Delivery{Request: pushing.RequestKey{Source: "s", ID: "i"}, Err: codedError{}, Silent: true})
	if got.Outcome != events.Rejected || len(h.mail.sent) != 0 {
		t.Errorf("result %+v, %d events sent; want rejected and none", got, len(h.mail.sent))
	}
}

func TestDuplicates(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.one(t, delivery("a", 1))
	if got := h.one(t, delivery("a", 1)); got.Outcome != events.Duplicate || got.Code != "Redelivered" || !strings.Contains(got.Message, "pushed") {
		t.Errorf("redelivery = %+v", got)
	}
	if len(h.mail.sent) != 1 {
		t.Errorf("%d events after a redelivery, want 1", len(h.mail.sent))
	}
	if got := h.one(t, delivery("b", 1)); got.Outcome != events.Duplicate {
		t.Errorf("another request = %+v", got)
	}
	if c := h.mail.last(t); c.First == nil || c.First.EventID != "a" || c.First.Outcome != events.Pushed || c.First.DecidedAt.IsZero() || c.MaybeDuplicate {
		t.Errorf("duplicate = %+v, first %+v", c, c.First)
	}
	if got := h.one(t, delivery("c", 1, func(r *events.Requested) { r.Generation = 2 })); got.Outcome != events.Pushed {
		t.Errorf("generation 2 = %+v", got)
	}
	if c := h.mail.last(t); !c.MaybeDuplicate || c.Pushes != 2 {
		t.Errorf("second generation = %+v, want maybeDuplicate and 2 pushes", c)
	}
	if got := h.one(t, delivery("d", 1, func(r *events.Requested) { r.MsgID = strings.ToLower(r.MsgID) })); got.Outcome != events.Duplicate {
		t.Errorf("the id in lower case = %+v, want duplicate", got)
	}
	if got := h.one(t, delivery("a", 2)); got.Outcome != events.Rejected || got.Code != "Contradicting" {
		t.Errorf("same event id, other message = %+v", got)
	}
	if id := h.mail.sent[len(h.mail.sent)-1].ID; id == h.mail.sent[0].ID {
		t.Error("the contradicting request's result has the id of the first one's")
	}
	if h.consumed[fmt.Sprintf("%032X", 1)] != 2 || len(h.calls) != 2 {
		t.Errorf("%d calls, consumed %v", len(h.calls), h.consumed)
	}
}

func TestSameMessageInOneBatchIsPushedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.takes = time.Second
		var batch []pushing.Delivery
		for i := range 50 {
			batch = append(batch, delivery(fmt.Sprint(i), i%5))
		}
		counts := map[events.Outcome]int{}
		for _, r := range h.do(t, time.Minute, batch...) {
			counts[r.Outcome]++
		}
		if counts[events.Pushed] != 5 || counts[events.Duplicate] != 45 || len(h.calls) != 5 {
			t.Errorf("outcomes %v with %d calls, want 5 pushed and 45 duplicate", counts, len(h.calls))
		}
	})
}

// TestNoLongerAllowed: what was pushed and is asked for again after its entry
// left the allow-list is rejected, not answered from the ledger.
func TestNoLongerAllowed(t *testing.T) {
	t.Parallel()
	shared := ledger.NewMemory(time.Hour, nil)
	keep := func(_ *pushing.Policy, with *parts) { with.ledger = shared }
	newHouse(t, keep).one(t, delivery("a", 1))
	h := newHouse(t, keep, withPolicy(func(p *pushing.Policy) { p.Allow = pushing.AllowList{} }))
	if got := h.one(t, delivery("b", 1)); got.Outcome != events.Rejected || got.Code != "NotAllowed" {
		t.Errorf("result = %+v, want rejected", got)
	}
	if got := h.one(t, delivery("a", 1)); got.Outcome != events.Duplicate {
		t.Errorf("the first event again = %+v, want its own decision", got)
	}
}

func TestClientsLeaveOutWhoProvedOffline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &broker{online: []string{"a", "b"}}
		c := pushing.NewClients(b, &open{})
		m := pushing.Message{InstanceID: "i", GroupID: "g"}
		if _, err := c.Choose(t.Context(), m, events.PriorityAlert); err != nil {
			t.Fatal(err)
		}
		c.ProvedOffline(m, "a")
		for range 5 {
			if id, err := c.Choose(t.Context(), m, events.PriorityAlert); err != nil || id != "b" {
				t.Errorf("Choose = %q, %v, want b", id, err)
			}
		}
		time.Sleep(time.Minute)
		seen := map[string]bool{}
		for range 4 {
			id, _ := c.Choose(t.Context(), m, events.PriorityAlert)
			seen[id] = true
		}
		if !seen["a"] {
			t.Error("a client that is listed a minute later is still left out")
		}
	})
}

func TestThrottledLookUpsTakeAnotherSlot(t *testing.T) {
	t.Parallel()
	pacer := &open{}
	b := &broker{online: []string{"a"}, lookErr: failure(pushing.Throttled, "Throttling.User")}
	_, err := pushing.NewClients(b, pacer).Choose(t.Context(), pushing.Message{}, events.PriorityAlert)
	var e *pushing.Error
	if !errors.As(err, &e) || e.Kind != pushing.Throttled {
		t.Errorf("error = %v", err)
	}
	if want := []pushing.Verdict{pushing.Throttling, pushing.Throttling, pushing.Throttling}; !slices.Equal(pacer.verdicts, want) || b.lookups != 3 {
		t.Errorf("verdicts = %v after %d look-ups, want %v", pacer.verdicts, b.lookups, want)
	}
}

func TestRefusedIsOpenForAnotherEvent(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.answer = func(call int, _ pushing.Target) (bool, error) {
		if call == 1 {
			return false, failure(pushing.Refused, "Forbidden.RAM")
		}
		return true, nil
	}
	if got := h.one(t, delivery("a", 1)); got.Outcome != events.Failed {
		t.Fatalf("without permission = %+v", got)
	}
	if got := h.one(t, delivery("a", 1)); got.Outcome != events.Duplicate {
		t.Errorf("the same event again = %+v, want duplicate", got)
	}
	if got := h.one(t, delivery("b", 1)); got.Outcome != events.Pushed {
		t.Errorf("permission given, a new event = %+v, want pushed", got)
	}
	if c := h.mail.last(t); c.Pushes != 1 || c.MaybeDuplicate {
		t.Errorf("result = %+v", c)
	}
}

func TestMaxPushes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for g := 1; g <= 3; g++ {
		if got := h.one(t, delivery(fmt.Sprint(g), 1, func(r *events.Requested) { r.Generation = g })); got.Outcome != events.Pushed {
			t.Fatalf("generation %d = %+v", g, got)
		}
	}
	if got := h.one(t, delivery("4", 1, func(r *events.Requested) { r.Generation = 4 })); got.Outcome != events.Abandoned || got.Code != "MaxPushes" {
		t.Errorf("fourth push = %+v, want abandoned", got)
	}
	if len(h.calls) != 3 {
		t.Errorf("%d calls", len(h.calls))
	}
}

func TestGivesUp(t *testing.T) {
	t.Parallel()
	for name, within := range map[string]time.Duration{"with time to claim": time.Minute, "without": time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHouse(t)
				h.online = nil
				for range 24 {
					if got := h.do(t, within, delivery("a", 1))[0]; !got.Deferred {
						t.Fatalf("result = %+v, want deferred", got)
					}
					time.Sleep(time.Hour)
				}
				time.Sleep(time.Minute)
				if got := h.do(t, within, delivery("a", 1))[0]; got.Outcome != events.Abandoned || got.Code != "GaveUp" {
					t.Errorf("after a day = %+v, want abandoned", got)
				}
			})
		})
	}
}

func TestUndeliveredResultIsSentByTheRedelivery(t *testing.T) {
	t.Parallel()
	for name, d := range map[string]pushing.Delivery{
		"pushed":   delivery("a", 1),
		"rejected": {Request: pushing.RequestKey{Source: "test", ID: "a"}, Err: codedError{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.mail.err = errors.New("sink is down")
			got := h.one(t, d)
			if !got.Deferred || got.Code != "ResultNotDelivered" {
				t.Fatalf("result = %+v, want given back", got)
			}
			calls := len(h.calls)
			h.mail.err = nil
			if got := h.one(t, d); got.Deferred || got.Outcome == "" {
				t.Errorf("redelivery = %+v", got)
			}
			if len(h.calls) != calls || len(h.mail.sent) != 1 || h.mail.sent[0].ID != events.ResultID("test", "a", false) {
				t.Errorf("%d further calls, sent %v", len(h.calls)-calls, h.mail.sent)
			}
		})
	}
}

func TestClientsAreSpreadAndTheDeadOnesLeftOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.online = []string{"a", "b", "c"}
		h.answer = func(_ int, t pushing.Target) (bool, error) {
			if t.ClientID == "b" {
				return false, failure(pushing.NoClient, "BIZ_CONSUMER_NOT_ONLINE")
			}
			return true, nil
		}
		var batch []pushing.Delivery
		for i := range 30 {
			batch = append(batch, delivery(fmt.Sprint(i), i))
		}
		for _, r := range h.do(t, time.Minute, batch...) {
			if r.Outcome != events.Pushed {
				t.Fatalf("result = %+v", r)
			}
		}
		tried := map[string]int{}
		for _, c := range h.calls {
			tried[c.ClientID]++
		}
		if tried["a"] < 10 || tried["c"] < 10 {
			t.Errorf("spread = %v", tried)
		}
		if h.lookups != 1 {
			t.Errorf("%d look-ups for one batch", h.lookups)
		}
		before := tried["b"]
		h.one(t, delivery("x", 100))
		h.one(t, delivery("y", 101))
		if after := len(slices.DeleteFunc(slices.Clone(h.calls), func(c pushing.Target) bool { return c.ClientID != "b" })); after != before {
			t.Errorf("the client that proved offline was tried again")
		}
		time.Sleep(11 * time.Second)
		h.one(t, delivery("z", 102))
		if h.lookups != 2 {
			t.Errorf("%d look-ups after 11 s, want 2: what is online is believed for 10 s", h.lookups)
		}
	})
}

func TestNobodyOnlineIsAskedLessAndLess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.online = nil
		start := time.Now()
		for i := 0; time.Since(start) < 2*time.Minute; i++ {
			h.one(t, delivery(fmt.Sprint(i), i))
			time.Sleep(100 * time.Millisecond)
		}
		// 1, 2, 4, 8, 16, 30, 30, 30 s
		if h.lookups < 8 || h.lookups > 9 {
			t.Errorf("%d look-ups in two minutes, want 8 or 9", h.lookups)
		}
	})
}

func TestPriorityHumanNeedsAHuman(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	human := func(r *events.Requested) { r.Priority = events.PriorityHuman }
	h.one(t, delivery("a", 1, human))
	d := delivery("b", 2, human)
	d.Human = true
	h.one(t, d)
	h.one(t, delivery("c", 3, func(r *events.Requested) { r.Priority = events.PriorityBulk }))
	if want := []events.Priority{events.PriorityAlert, events.PriorityHuman, events.PriorityBulk}; !slices.Equal(h.pacer.lanes, want) {
		t.Errorf("lanes = %v, want %v", h.pacer.lanes, want)
	}
}

func TestPanicIsAnsweredAndTheFateOfThePushDecidedLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.answer = func(call int, _ pushing.Target) (bool, error) {
			if call == 1 {
				panic("out of luck")
			}
			return true, nil
		}
		if got := h.one(t, delivery("a", 1)); !got.Deferred || got.Code != "Internal" {
			t.Fatalf("result = %+v", got)
		}
		if err := h.lines[0].Err; err == nil || err.Error() != "panic of type string" {
			t.Errorf("logged error = %v", err)
		}
		if got := h.one(t, delivery("a", 1)); !got.Deferred || got.Code != "InProgress" || got.RetryAfter <= 0 {
			t.Errorf("while the lease runs = %+v", got)
		}
		time.Sleep(20 * time.Second)
		if got := h.one(t, delivery("b", 1)); got.Outcome != events.Duplicate {
			t.Errorf("another request after the lease = %+v", got)
		}
		all := h.mail.results(t)
		if len(all) != 2 || all[0].Outcome != events.Unknown || all[0].Code != "Interrupted" || all[0].Request.ID != "a" || all[0].Pushes != 1 {
			t.Fatalf("results = %+v, want unknown for a, then the duplicate", all)
		}
		if got := h.one(t, delivery("a", 1)); got.Outcome != events.Duplicate {
			t.Errorf("redelivery = %+v", got)
		}
	})
}

func TestInterruptedIsRepeatedWhereThePolicySaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, withPolicy(func(p *pushing.Policy) { p.OnUnknown = events.PushAgain }))
		h.answer = func(call int, _ pushing.Target) (bool, error) {
			if call == 1 {
				panic("killed")
			}
			return true, nil
		}
		h.one(t, delivery("a", 1))
		time.Sleep(20 * time.Second)
		if got := h.one(t, delivery("a", 1)); got.Outcome != events.Pushed {
			t.Errorf("result = %+v", got)
		}
		if c := h.mail.last(t); !c.MaybeDuplicate || c.Pushes != 2 || c.Attempts != 2 {
			t.Errorf("result event = %+v", c)
		}
	})
}

// sleeper is a ledger whose process freezes after the mark "sending".
type sleeper struct {
	pushing.Ledger
	asleep *time.Duration
}

func (l sleeper) MarkSending(ctx context.Context, c pushing.Claim) error {
	defer func() { *l.asleep += time.Minute }()
	return l.Ledger.MarkSending(ctx, c)
}

func TestAProcessThatSleptPastItsLeaseDoesNotPush(t *testing.T) {
	t.Parallel()
	var asleep time.Duration
	h := newHouse(t, func(_ *pushing.Policy, with *parts) {
		with.ledger = sleeper{with.ledger, &asleep}
		with.now = func() time.Time { return time.Now().Add(asleep) }
	})
	for _, within := range []time.Duration{30 * time.Second, time.Hour} { // past deadline and lease, past the lease alone
		if got := h.do(t, within, delivery(within.String(), int(within/time.Second)))[0]; !got.Deferred || len(h.calls) != 0 {
			t.Errorf("result %+v with %d calls, want deferred without a call", got, len(h.calls))
		}
		asleep = 0
	}
}

// broken is a ledger that cannot be reached.
type broken struct{ pushing.Ledger }

func (broken) Claim(context.Context, pushing.Ask) (pushing.Claim, error) {
	return pushing.Claim{}, errors.New("connection refused")
}

func TestNothingIsPushedWithoutAClaim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, func(_ *pushing.Policy, with *parts) { with.ledger = broken{with.ledger} })
		if got := h.one(t, delivery("a", 1)); !got.Deferred || got.Code != "LedgerUnavailable" || len(h.calls) != 0 {
			t.Errorf("result %+v with %d calls", got, len(h.calls))
		}
	})
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	dry := func(r *events.Requested) { r.DryRun = true }
	for name, test := range map[string]struct {
		prepare func(*testing.T, *house)
		change  func(*events.Requested)
		outcome events.Outcome
		code    string
		message string
	}{
		"would push":                  {outcome: events.Simulated, message: "would be pushed to 10.0.0.1@1#a"},
		"would push to the one named": {change: func(r *events.Requested) { r.ClientID = "10.0.0.2@2#b" }, outcome: events.Simulated, message: "would be pushed to 10.0.0.2@2#b"},
		"the one named is gone":       {change: func(r *events.Requested) { r.ClientID = "gone" }, outcome: events.Simulated, code: "ClientNotOnline"},
		"nobody online":               {prepare: func(_ *testing.T, h *house) { h.online = nil }, outcome: events.Simulated, code: "NoClientOnline"},
		"pushed before":               {prepare: func(t *testing.T, h *house) { h.one(t, delivery("first", 1)) }, outcome: events.Simulated, code: "WouldNotPush"},
		"not allowed":                 {change: func(r *events.Requested) { r.Topic = "other" }, outcome: events.Rejected, code: "NotAllowed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			if test.prepare != nil {
				test.prepare(t, h)
			}
			calls := len(h.calls)
			changes := []func(*events.Requested){dry}
			if test.change != nil {
				changes = append(changes, test.change)
			}
			got := h.one(t, delivery("a", 1, changes...))
			if got.Outcome != test.outcome || got.Code != test.code || test.message != "" && got.Message != test.message {
				t.Errorf("result = %+v, want %s %s %q", got, test.outcome, test.code, test.message)
			}
			if len(h.calls) != calls {
				t.Error("a dry run pushed")
			}
			if id := h.mail.sent[len(h.mail.sent)-1].ID; id != events.ResultID("test", "a", true) {
				t.Errorf("result id = %s, want that of a dry run", id)
			}
			if test.code == "" {
				if got := h.one(t, delivery("a", 1, changes[1:]...)); got.Outcome != events.Pushed {
					t.Errorf("the real request after the dry run = %+v, want pushed", got)
				}
			}
		})
	}
}
