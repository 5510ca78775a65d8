package quota_test

import (
	"fmt"
	"slices"
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

// BenchmarkSharedQuota pushes 400 messages from several processes that share 10
// calls a second in Redis, in real time. Aims: at most a point less of the quota
// than one process with memory (98 %), two with twenty processes; 0.5 %
// throttled.
func BenchmarkSharedQuota(b *testing.B) {
	sc := scenario{window: sliding10, calls: 400, jitter: 5 * time.Millisecond}
	for name, c := range map[string]struct{ pacers, dying int }{
		"1 process": {1, 0}, "4 processes": {4, 0}, "20 processes": {20, 0}, "4 processes, 2 die": {4, 2}, "20 processes, 2 die": {20, 2},
	} {
		b.Run(name, func(b *testing.B) {
			server := redistest.Start(b)
			for b.Loop() {
				sc.pacers, sc.dying = c.pacers, c.dying
				var clients []*redis.Client
				sc.open = func(qps float64) quota.Store {
					clients = append(clients, connect(b, server))
					return quota.NewRedis(clients[len(clients)-1], name, qps)
				}
				o := sc.play(b, 1)
				trips := int64(0)
				for _, c := range clients {
					trips += c.RoundTrips()
				}
				b.ReportMetric(100*o.ours.utilisation(sc.window), "%quota")
				b.ReportMetric(100*o.ours.throttled(), "%throttled")
				b.ReportMetric(float64(o.bookings)/float64(sc.calls), "bookings/push")
				b.ReportMetric(float64(trips)/float64(sc.calls), "roundtrips/push")
				b.ReportMetric(float64(slices.Min(o.byPacer[c.dying:])), "pushes/leastprocess")
				b.ReportMetric(float64(slices.Max(o.byPacer)), "pushes/mostprocess")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
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
