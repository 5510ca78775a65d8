package ledger

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/ledger/ledgertest"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// clock stands still until it is told to go on.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func TestMemory(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, func(*testing.T) ledgertest.Harness {
		clock := newClock()
		return ledgertest.Harness{Ledger: NewMemory(time.Hour, clock.Now), Advance: clock.advance}
	})
}

func askFor(i int) pushing.Ask {
	return pushing.Ask{
		Request: pushing.RequestKey{Source: "test", ID: fmt.Sprint(i)},
		Data:    events.Requested{InstanceID: "i", Topic: "t", GroupID: "g", MsgID: fmt.Sprintf("%032X", i)},
		Lease:   time.Second,
	}
}

func TestMemoryForgetsWhatIsOldAndFinished(t *testing.T) {
	t.Parallel()
	ctx, clock := context.Background(), newClock()
	l := NewMemory(time.Hour, clock.Now)
	for i := range 100 {
		c, _ := l.Claim(ctx, askFor(i))
		if i == 7 {
			continue // stays claimed
		}
		if err := l.Decide(ctx, c, pushing.Decision{Outcome: events.Failed}); err != nil {
			t.Fatal(err)
		}
		if err := l.MarkEmitted(ctx, c.Ask); err != nil {
			t.Fatal(err)
		}
	}
	clock.advance(59 * time.Minute)
	for i := range 100 {
		if c, _ := l.Claim(ctx, askFor(i)); c.Found != pushing.Repeated && i != 7 {
			t.Fatalf("request %d is forgotten before its time: %v", i, c.Found)
		}
	}
	clock.advance(2 * time.Hour)
	for i := range 60 {
		if _, err := l.Claim(ctx, askFor(1000+i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(l.shelves.(*memory).records); n > 62 {
		t.Errorf("%d records are kept, want the 60 new ones and the unfinished one", n)
	}
	if len(l.shelves.(*memory).owners) != len(l.shelves.(*memory).records) || len(l.shelves.(*memory).queue) != len(l.shelves.(*memory).records) {
		t.Errorf("%d records, %d requests, %d queued: they must agree", len(l.shelves.(*memory).records), len(l.shelves.(*memory).owners), len(l.shelves.(*memory).queue))
	}
	if c, _ := l.Claim(ctx, askFor(7)); c.Fence < 2 {
		t.Errorf("the unfinished record was forgotten")
	}
}

func BenchmarkMemory(b *testing.B) {
	ctx := context.Background()
	l := NewMemory(time.Hour, nil)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c, _ := l.Claim(ctx, askFor(i))
		_ = l.MarkSending(ctx, c)
		_ = l.Decide(ctx, c, pushing.Decision{Outcome: events.Pushed})
		_ = l.MarkEmitted(ctx, c.Ask)
	}
}
