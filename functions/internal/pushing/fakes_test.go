package pushing_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/ledger"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// broker is Pusher and Connections: it answers as the script says and counts
// what reached a consumer.
type broker struct {
	mu       sync.Mutex
	online   []string
	lookups  int
	lookErr  error
	calls    []pushing.Target
	consumed map[string]int
	// answer decides one push; reached says whether the consumer got it.
	answer func(call int, t pushing.Target) (reached bool, err error)
	takes  time.Duration
}

func (b *broker) Push(ctx context.Context, t pushing.Target) (string, error) {
	b.mu.Lock()
	b.calls = append(b.calls, t)
	n := len(b.calls)
	b.mu.Unlock()
	if b.takes > 0 {
		select {
		case <-time.After(b.takes):
		case <-ctx.Done():
			b.reach(t)
			return "", &pushing.Error{Kind: pushing.Unknown, Op: "OnsMessagePush", Err: ctx.Err()}
		}
	}
	reached, err := true, error(nil)
	if b.answer != nil {
		reached, err = b.answer(n, t)
	}
	if reached {
		b.reach(t)
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprint("request ", n), nil
}

func (b *broker) reach(t pushing.Target) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.consumed == nil {
		b.consumed = make(map[string]int)
	}
	b.consumed[t.MsgID]++
}

func (b *broker) Online(context.Context, string, string) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lookups++
	if b.lookErr == nil && len(b.online) == 0 {
		return nil, &pushing.Error{Kind: pushing.NoClient, Op: "OnsConsumerGetConnection", Code: "BIZ_CONSUMER_NOT_ONLINE", RequestID: "r"}
	}
	return b.online, b.lookErr
}

// open is a pacer without a quota that notes the verdicts.
type open struct {
	line     time.Duration // until it is one's turn
	mu       sync.Mutex
	verdicts []pushing.Verdict
	lanes    []events.Priority
}

func (p *open) Turn(ctx context.Context, lane events.Priority) (pushing.Turn, error) {
	time.Sleep(p.line)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lanes = append(p.lanes, lane)
	return p, ctx.Err()
}
func (p *open) Book(ctx context.Context) (pushing.Slot, error) { return p, ctx.Err() }
func (p *open) Release()                                       {}
func (p *open) Report(v pushing.Verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.verdicts = append(p.verdicts, v)
}

// mailbox is an Emitter that can be closed.
type mailbox struct {
	mu   sync.Mutex
	err  error
	sent []events.Event
}

func (m *mailbox) Send(_ context.Context, batch ...events.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.sent = append(m.sent, batch...)
	}
	return m.err
}

func (m *mailbox) results(t *testing.T) []events.Completed {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []events.Completed
	for _, e := range m.sent {
		var c events.Completed
		if err := json.Unmarshal(e.Data, &c); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// last returns the newest result.
func (m *mailbox) last(t *testing.T) events.Completed {
	t.Helper()
	all := m.results(t)
	if len(all) == 0 {
		t.Fatal("no result event was sent")
	}
	return all[len(all)-1]
}

// house is a service over fakes and the real ledger in memory.
type house struct {
	*pushing.Service
	*broker
	mail  *mailbox
	pacer *open
	lines []pushing.Line
	mu    sync.Mutex
}

type option func(p *pushing.Policy, parts *parts)

type parts struct {
	pacer  pushing.Pacer
	ledger pushing.Ledger
	now    func() time.Time
	online func(*broker) pushing.Connections
}

func withPolicy(set func(*pushing.Policy)) option {
	return func(p *pushing.Policy, _ *parts) { set(p) }
}

func newHouse(t *testing.T, options ...option) *house {
	t.Helper()
	allow, err := pushing.ParseAllowList("MQ_INST_1_x/GID_*/orders")
	if err != nil {
		t.Fatal(err)
	}
	p := pushing.Policy{
		Allow: allow, Concurrency: 150, OnUnknown: events.Hold, MaxPushes: 3,
		GiveUpAfter: 24 * time.Hour, MaxAge: 72 * time.Hour, PushTimeout: 15 * time.Second,
	}
	h := &house{broker: &broker{online: []string{"10.0.0.1@1#a", "10.0.0.2@2#b"}}, mail: &mailbox{}, pacer: &open{}}
	with := parts{pacer: h.pacer, ledger: ledger.NewMemory(96*time.Hour, nil), now: time.Now}
	with.online = func(b *broker) pushing.Connections { return b }
	for _, o := range options {
		o(&p, &with)
	}
	clients := pushing.NewClients(with.online(h.broker), &open{})
	h.Service = pushing.NewService(p, h.broker, clients, with.pacer, with.ledger, h.mail)
	h.Now = with.now
	h.Hint = func(k pushing.Kind, code string) string { return "hint for " + k.String() + " " + code }
	h.Log = func(l pushing.Line) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.lines = append(h.lines, l)
	}
	return h
}

// do handles deliveries under a deadline.
func (h *house) do(t *testing.T, within time.Duration, deliveries ...pushing.Delivery) []pushing.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	return h.Handle(ctx, "invocation", deliveries)
}

// one handles a single delivery.
func (h *house) one(t *testing.T, d pushing.Delivery) pushing.Result {
	t.Helper()
	results := h.do(t, time.Minute, d)
	if len(results) != 1 {
		t.Fatalf("%d results for one delivery", len(results))
	}
	return results[0]
}

// delivery asks for message number msg under event id.
func delivery(id string, msg int, change ...func(*events.Requested)) pushing.Delivery {
	d := pushing.Delivery{
		Request: pushing.RequestKey{Source: "test", ID: id},
		Data: events.Requested{
			InstanceID: "MQ_INST_1_x", Topic: "orders", GroupID: "GID_x",
			MsgID: fmt.Sprintf("%032X", msg), Reason: "a test",
		},
	}
	for _, c := range change {
		c(&d.Data)
	}
	return d
}

func failure(kind pushing.Kind, code string) error {
	return &pushing.Error{Kind: kind, Op: "OnsMessagePush", Code: code, RequestID: "r-" + code}
}
