package quota_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/quota"
	"github.com/ons-repush/ons-repush/functions/internal/redis"
	"github.com/ons-repush/ons-repush/functions/internal/redis/redistest"
)

// countingStore counts what a remote store would be asked.
type countingStore struct {
	quota.Store
	books atomic.Int64
}

func (s *countingStore) Book(ctx context.Context, lane events.Priority, within time.Duration) (quota.Booking, quota.Outlook, error) {
	s.books.Add(1)
	return s.Store.Book(ctx, lane, within)
}

func (s *countingStore) bookings() int { return int(s.books.Load()) }

// mortalStore is the store of a process that may die: then it tells nobody
// anything any more.
type mortalStore struct {
	countingStore
	dead atomic.Bool
}

func (s *mortalStore) Report(b quota.Booking, v pushing.Verdict, learn func(quota.Outlook)) {
	if !s.dead.Load() {
		s.Store.Report(b, v, learn)
	}
}

// hookedStore runs a hook before it passes a booking on; the hook's error is
// the answer.
type hookedStore struct {
	quota.Store
	hook func() error

	mu      sync.Mutex
	reports []pushing.Verdict
}

func (s *hookedStore) Book(ctx context.Context, lane events.Priority, within time.Duration) (quota.Booking, quota.Outlook, error) {
	b, o, err := s.Store.Book(ctx, lane, within)
	if s.hook != nil && err == nil {
		err = s.hook()
	}
	return b, o, err
}

func (s *hookedStore) Report(b quota.Booking, v pushing.Verdict, learn func(quota.Outlook)) {
	s.mu.Lock()
	s.reports = append(s.reports, v)
	s.mu.Unlock()
	s.Store.Report(b, v, learn)
}

// instantStore always has a slot.
type instantStore struct{ quota.Store }

func (instantStore) Book(context.Context, events.Priority, time.Duration) (quota.Booking, quota.Outlook, error) {
	return quota.Booking{Seq: 1}, quota.Outlook{Spacing: 1}, nil
}

func (instantStore) Report(_ quota.Booking, _ pushing.Verdict, learn func(quota.Outlook)) {
	learn(quota.Outlook{Spacing: 1})
}

// skewedClock runs ahead by what it was told to: the clock of a process that
// was frozen while its timers stood still.
type skewedClock struct{ ahead atomic.Int64 }

func (c *skewedClock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *skewedClock) freeze(by time.Duration) { c.ahead.Add(int64(by)) }

// connect opens a connection of its own, as every process has.
func connect(tb testing.TB, server *redistest.Server) *redis.Client {
	tb.Helper()
	c, err := redis.Open(server.URL())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

func mustTurn(tb testing.TB, p *quota.Pacer, lane events.Priority) pushing.Turn {
	tb.Helper()
	turn, err := p.Turn(tb.Context(), lane)
	if err != nil {
		tb.Fatalf("Turn: %v", err)
	}
	return turn
}

// book takes a turn and a slot.
func book(ctx context.Context, p *quota.Pacer, lane events.Priority) (pushing.Slot, error) {
	turn, err := p.Turn(ctx, lane)
	if err != nil {
		return nil, err
	}
	defer turn.Release()
	return turn.Book(ctx)
}

func mustBook(tb testing.TB, p *quota.Pacer) pushing.Slot {
	tb.Helper()
	slot, err := book(tb.Context(), p, "")
	if err != nil {
		tb.Fatalf("Turn and Book: %v", err)
	}
	return slot
}

// closeQuota makes the quota of a pacer closed.
func closeQuota(tb testing.TB, p *quota.Pacer) {
	tb.Helper()
	a, b := mustBook(tb, p), mustBook(tb, p)
	a.Report(pushing.Throttling)
	b.Report(pushing.Throttling)
}
