package planning_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/ledger"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

const (
	instance = "MQ_INST_1_x"
	consumer = "GID_x"
	topic    = "orders"
)

// broker is what the API knows. Pages are computed when they are asked for, from
// what is stored then, so that what changes in between moves them.
type broker struct {
	mu      sync.Mutex
	dead    []planning.Stored
	stored  []planning.Stored
	tracks  map[string]string // by message id; none: CONSUMED
	lags    []planning.Lag
	offline bool
	// meddle changes an answer, or the broker, before page n (from 1) is answered.
	meddle func(n int, q planning.Query, p *planning.Page) error
	// fail makes the n-th call of any kind fail.
	fail  func(n int, op string) error
	calls map[string]int
	pages int
}

func (b *broker) called(op string) error {
	if b.calls == nil {
		b.calls = make(map[string]int)
	}
	b.calls[op]++
	n := 0
	for _, calls := range b.calls {
		n += calls
	}
	if b.fail != nil {
		return b.fail(n, op)
	}
	return nil
}

func (b *broker) page(op string, from []planning.Stored, q planning.Query) (p planning.Page, err error) {
	if err := b.called(op); err != nil {
		return p, err
	}
	var all []planning.Stored
	for _, m := range from {
		if !m.StoredAt.Before(q.From) && !m.StoredAt.After(q.To) && (q.Topic == "" || q.Topic == m.Topic) {
			all = append(all, m)
		}
	}
	slices.SortStableFunc(all, func(a, b planning.Stored) int { return a.StoredAt.Compare(b.StoredAt) })
	pages := slices.Collect(slices.Chunk(all, planning.PageSize))
	pages = pages[:min(len(pages), planning.MaxPages)]
	if q.Number <= len(pages) {
		p = planning.Page{TaskID: "task", Pages: len(pages), Messages: slices.Clone(pages[q.Number-1])}
	}
	b.pages++
	if b.meddle != nil {
		err = b.meddle(b.pages, q, &p)
	}
	return p, err
}

func (b *broker) DeadLetters(_ context.Context, q planning.Query) (planning.Page, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.page(planning.OpDeadLetters, b.dead, q)
}

func (b *broker) Messages(_ context.Context, q planning.Query) (planning.Page, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.page(planning.OpMessages, b.stored, q)
}

func (b *broker) ByID(_ context.Context, _, topic, msgID string) (found []planning.Stored, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.stored {
		if m.Topic == topic && m.MsgID == msgID && found == nil {
			found = []planning.Stored{m}
		}
	}
	return found, b.called(planning.OpByID)
}

func (b *broker) ByKey(_ context.Context, _, topic, key string) (found []planning.Stored, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.stored {
		if m.Topic == topic && strings.HasSuffix(m.MsgID, key) {
			found = append(found, m)
		}
	}
	return found, b.called(planning.OpByKey)
}

func (b *broker) Trace(_ context.Context, _, _, msgID string) (map[string]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	track, known := b.tracks[msgID]
	if !known {
		track = "CONSUMED"
	}
	if track == "" {
		return map[string]string{"GID_other": "CONSUMED"}, b.called(planning.OpTrace)
	}
	return map[string]string{consumer: track}, b.called(planning.OpTrace)
}

func (b *broker) Lag(context.Context, string, string) ([]planning.Lag, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lags, b.called(planning.OpLag)
}

func (b *broker) Online(context.Context, string, string) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.called(planning.OpOnline)
	if b.offline {
		return nil, &pushing.Error{Kind: pushing.NoClient, Op: planning.OpOnline, Code: "BIZ_CONSUMER_NOT_ONLINE"}
	}
	return []string{"client"}, err
}

func (b *broker) setOffline(is bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.offline = is
}

// open is a pacer that never makes anybody wait.
type open struct{}

func (open) Turn(ctx context.Context, _ events.Priority) (pushing.Turn, error) {
	return open{}, ctx.Err()
}
func (open) Book(ctx context.Context) (pushing.Slot, error) { return open{}, ctx.Err() }
func (open) Release()                                       {}
func (open) Report(pushing.Verdict)                         {}

// spaced is a pacer of so much time between two calls.
type spaced time.Duration

func (p spaced) Turn(ctx context.Context, _ events.Priority) (pushing.Turn, error) {
	return p, ctx.Err()
}
func (p spaced) Book(ctx context.Context) (pushing.Slot, error) {
	select {
	case <-time.After(time.Duration(p)):
		return open{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
func (spaced) Release() {}

// mailbox is an Emitter that can refuse.
type mailbox struct {
	mu   sync.Mutex
	err  error
	sent []events.Event
	// batches counts the calls.
	batches int
}

func (m *mailbox) Send(_ context.Context, batch ...events.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.batches++
	if m.err == nil {
		m.sent = append(m.sent, batch...)
	}
	return m.err
}

func (m *mailbox) refuse(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.err = err
}

// plans reads what was told of plans, each once: a manifest, and why there is none,
// or not all of it was asked for.
func (m *mailbox) plans(t *testing.T) (plans []events.Planned) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	parts := make(map[string][]events.Planned)
	var order []string
	for _, e := range m.sent {
		p, err := events.DecodePlanned(e.Data)
		if err != nil {
			t.Fatalf("a plan's event breaks the contract: %v", err)
		}
		of := p.IncidentID + "/" + p.OperationID
		if parts[of] == nil {
			order = append(order, of)
		}
		parts[of] = append(parts[of], p)
	}
	for _, id := range order {
		p, err := events.Manifest(parts[id]...)
		if err != nil {
			t.Fatal(err)
		}
		plans = append(plans, p)
	}
	return plans
}

// requests reads the requests, each id once.
func (m *mailbox) requests(t *testing.T) (all []events.Requested) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := make(map[string]bool)
	for _, e := range m.sent {
		r, err := events.DecodeRequested(e.Data)
		if err != nil || e.Type != events.TypeMessageRequested {
			t.Fatalf("a request breaks the contract: %v", err)
		}
		if !seen[e.ID] {
			seen[e.ID] = true
			all = append(all, r)
		}
	}
	return all
}

// house is a service over fakes and the real ledger in memory.
type house struct {
	*planning.Service
	*broker
	policy             planning.Policy
	ports              planning.Ports
	ledger             ledger.Memory
	results, requested *mailbox
	// pushed counts the events that push has seen, and known are the ids of those.
	pushed int
	known  map[string]bool
}

func newHouse(t *testing.T, change ...func(*planning.Policy, *planning.Ports)) *house {
	t.Helper()
	allow, err := pushing.ParseAllowList(instance + "/GID_*/orders")
	if err != nil {
		t.Fatal(err)
	}
	h := &house{broker: new(broker), ledger: ledger.NewMemory(96*time.Hour, nil), results: new(mailbox), requested: new(mailbox), known: make(map[string]bool)}
	h.policy = planning.Policy{
		Allow: allow, Cooldown: 30 * time.Minute, Limit: 1000, GroupBudget: 1000, MaxPushes: 3, MaxAge: 72 * time.Hour, QPS: 10,
	}
	h.ports = planning.Ports{
		Pager: h.broker, Finder: h.broker, Watcher: h.broker, Connections: h.broker,
		Pacer:     func(string) pushing.Pacer { return open{} },
		Histories: h.ledger, Work: h.ledger, Documents: durable{h.ledger.Documents()}, Results: h.results, Requests: h.requested,
	}
	for _, c := range change {
		c(&h.policy, &h.ports)
	}
	h.restart()
	return h
}

// restart begins a new process over the same state.
func (h *house) restart() { h.Service = planning.NewService(h.policy, h.ports) }

// durable passes documents in memory off as some that outlive the process, which
// they do for who makes a new Service over them.
type durable struct{ planning.Documents }

func (durable) Durable() bool { return true }

// do handles one delivery, under a deadline.
func (h *house) do(t *testing.T, d pushing.Delivery) pushing.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return h.Handle(ctx, "invocation", []pushing.Delivery{d})[0]
}

func (h *house) report(t *testing.T, d pushing.Delivery) planning.Report {
	t.Helper()
	r, is := h.do(t, d).Report.(planning.Report)
	if !is {
		t.Fatal("no report")
	}
	return r
}

func (h *house) sweep(t *testing.T) planning.Swept {
	t.Helper()
	got := h.do(t, pushing.Delivery{Sweep: new(events.Sweep), Silent: true})
	r, is := got.Report.(planning.Swept)
	if !is {
		t.Fatalf("sweep = %+v", got)
	}
	return r
}

// alarm is an alert about the group.
func alarm(source events.Selection) pushing.Delivery {
	return pushing.Delivery{
		Request: pushing.RequestKey{Source: "acs:cms", ID: "alert"}, Alert: true,
		Plan: &events.Plan{InstanceID: instance, GroupID: consumer, Source: source, Reason: "alert: a rule"},
	}
}

// person is somebody's own plan.
func person(id string, p events.Plan) pushing.Delivery {
	p.InstanceID, p.GroupID, p.Reason = instance, consumer, "ticket 4711"
	return pushing.Delivery{Request: pushing.RequestKey{Source: "test", ID: id}, Plan: &p, Human: true}
}

func msgID(n int) string { return fmt.Sprintf("%032X", n) }

// bury adds a dead letter of message n, which was made age ago and died later.
func (b *broker) bury(n int, age, died time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.dead = append(b.dead, planning.Stored{
		Topic: "%DLQ%" + consumer, MsgID: msgID(n), OffsetID: fmt.Sprintf("D%031X", len(b.dead)), StoredAt: now.Add(-died), BornAt: now.Add(-age),
		Origin: pushing.Origin{Topic: topic, MsgID: msgID(n), OffsetID: fmt.Sprintf("A%031X", n)},
	})
}

// store adds message n to the topic.
func (b *broker) store(n int, age time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := time.Now().Add(-age)
	b.stored = append(b.stored, planning.Stored{Topic: topic, MsgID: msgID(n), OffsetID: fmt.Sprintf("A%031X", n), StoredAt: at, BornAt: at})
}

// decide lets the ledger of pushes know that a request for message n ended.
func (h *house) decide(t *testing.T, n, generation int, outcome events.Outcome) {
	t.Helper()
	if !h.claim(t, pushing.RequestKey{Source: "other", ID: fmt.Sprint(n, "/", generation, "/", outcome)}, outcome, events.Requested{
		InstanceID: instance, GroupID: consumer, Topic: topic, MsgID: msgID(n), Generation: generation, Reason: "r",
	}) {
		t.Fatal("it was decided before")
	}
}

// claim is what the ledger of pushes does with a request; no outcome leaves it
// undecided. It reports false for one that was decided before.
func (h *house) claim(t *testing.T, key pushing.RequestKey, outcome events.Outcome, r events.Requested) bool {
	t.Helper()
	c, err := h.ledger.Claim(t.Context(), pushing.Ask{Request: key, Lease: time.Minute, Data: r})
	if err != nil {
		t.Fatalf("claim: %v", err)
	}
	if c.Fence == 0 || outcome == "" {
		return c.Fence != 0
	}
	if err := h.ledger.MarkSending(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	c.Pushes++
	c.Attempts++
	if err := h.ledger.Decide(t.Context(), c, pushing.Decision{Outcome: outcome, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	return true
}

// push lets every request that was sent be pushed, and returns how many there are
// since it was called last, one of each id.
func (h *house) push(t *testing.T) (requests int) {
	t.Helper()
	h.requested.mu.Lock()
	sent := h.requested.sent[h.pushed:]
	h.pushed = len(h.requested.sent)
	h.requested.mu.Unlock()
	for _, e := range sent {
		if h.known[e.ID] {
			continue
		}
		h.known[e.ID] = true
		requests++
		r, err := events.DecodeRequested(e.Data)
		if err != nil {
			t.Fatal(err)
		}
		h.claim(t, pushing.RequestKey{Source: e.Source, ID: e.ID}, events.Pushed, r)
	}
	return requests
}

// counted is how many requests the group's incidents sent by their own account, and
// how many of its budget are spent.
func (h *house) counted(t *testing.T) (requests, spent int) {
	t.Helper()
	text, _, err := h.ports.Documents.Load(t.Context(), "group/"+instance+"/"+consumer)
	var g struct{ Incidents, Spent []struct{ Requests int } }
	if err = errors.Join(err, json.Unmarshal(text, &g)); err != nil {
		t.Fatal(err)
	}
	for _, in := range g.Incidents {
		requests += in.Requests
	}
	for _, s := range g.Spent {
		spent += s.Requests
	}
	return requests, spent
}

func ids(requests []events.Requested) (all []string) {
	for _, r := range requests {
		all = append(all, r.MsgID)
	}
	return all
}

// leftOut is the manifest's reasons and their counts, the words up to the colon.
func leftOut(p events.Planned) map[string]int {
	counts := make(map[string]int)
	for _, out := range p.LeftOut {
		reason, _, _ := strings.Cut(out.Reason, ":")
		counts[reason] += out.Count
	}
	return counts
}

var errAway = errors.New("connection refused")
