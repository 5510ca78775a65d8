package quota_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/quota"
	"github.com/ons-repush/ons-repush/functions/internal/redis/redistest"
)

func BenchmarkPacer(b *testing.B) {
	call := func(b *testing.B, p *quota.Pacer) {
		mustBook(b, p).Report(pushing.Accepted)
	}
	b.Run("uncontended", func(b *testing.B) {
		p := quota.NewPacer(instantStore{}, nil)
		b.ReportAllocs()
		for b.Loop() {
			call(b, p)
		}
	})
	b.Run("150 callers", func(b *testing.B) {
		p := quota.NewPacer(instantStore{}, nil)
		b.SetParallelism(75)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				call(b, p)
			}
		})
	})
}

// BenchmarkSlot is one slot, from the turn to the report, of a quota of 100,000
// a second.
func BenchmarkSlot(b *testing.B) {
	for _, callers := range []int{1, 150} {
		b.Run(fmt.Sprintf("memory, callers %d", callers), func(b *testing.B) {
			benchSlot(b, quota.NewMemory(quota.MaxQPS, nil), callers)
		})
		b.Run(fmt.Sprintf("Redis, callers %d", callers), func(b *testing.B) {
			c := connect(b, redistest.Start(b))
			benchSlot(b, quota.NewRedis(c, "bench", quota.MaxQPS), callers)
			b.ReportMetric(float64(c.RoundTrips())/float64(b.N), "roundtrips/slot")
		})
	}
}

func benchSlot(b *testing.B, s quota.Store, callers int) {
	store := &countingStore{Store: s}
	p := quota.NewPacer(store, nil)
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				mustBook(b, p).Report(pushing.Accepted)
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(store.bookings())/float64(b.N), "bookings/slot")
}

func BenchmarkMemory(b *testing.B) {
	clock := time.Unix(0, 0)
	m := quota.NewMemory(10, func() time.Time { return clock })
	b.ReportAllocs()
	for b.Loop() {
		clock = clock.Add(spacing)
		booking, _, err := m.Book(b.Context(), events.PriorityAlert, quota.Horizon)
		if err != nil || booking.Seq == 0 {
			b.Fatal(booking, err)
		}
		m.Report(booking, pushing.Accepted, nil)
	}
}
