package ledger

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/redis/redistest"
)

// push is what the ledger sees of one push. Its event is as large as they come.
func push(ctx context.Context, l pushing.Ledger, a pushing.Ask, done events.Event) error {
	c, err := l.Claim(ctx, a)
	if err == nil {
		err = l.MarkSending(ctx, c)
	}
	if c.Pushes++; err == nil {
		err = l.Decide(ctx, c, pushing.Decision{Outcome: events.Pushed, Event: done, At: time.Now()})
	}
	if err == nil {
		err = l.MarkEmitted(ctx, a)
	}
	return err
}

func doneOf(tb testing.TB, a pushing.Ask) events.Event {
	tb.Helper()
	done, err := events.NewCompleted(events.Completed{
		Request: events.RequestRef{ID: a.Request.ID, Source: a.Request.Source, Data: &a.Data}, Outcome: events.Pushed,
		RequestID: "8A1B2C3D-1111-2222-3333-444455556666", InvocationID: "1-2345-6789", ClientID: "10.0.0.1@1234#567#890",
		ReceivedAt: a.Time, DecidedAt: a.Time,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return done
}

// BenchmarkRedisPush shows what one push costs on loopback, alone and beside 63
// others.
func BenchmarkRedisPush(b *testing.B) {
	for name, workers := range map[string]int{"alone": 1, "64 at once": 64} {
		b.Run(name, func(b *testing.B) {
			server := redistest.Start(b)
			client := openClient(b, server)
			r := NewRedis(client, time.Hour)
			if err := push(b.Context(), r, largeAsk(0), doneOf(b, largeAsk(0))); err != nil { // births
				b.Fatal(err)
			}
			wire := func() (n float64) {
				for line := range strings.Lines(server.Do("INFO", "stats")) {
					for _, field := range []string{"total_net_input_bytes:", "total_net_output_bytes:"} {
						if text, found := strings.CutPrefix(line, field); found {
							bytes, _ := strconv.ParseFloat(strings.TrimSpace(text), 64)
							n += bytes
						}
					}
				}
				return n
			}
			trips, bytes := client.RoundTrips(), wire()
			done := doneOf(b, largeAsk(0))
			var next atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			parallelBy(workers, b.N, func(int) {
				if err := push(b.Context(), r, largeAsk(int(next.Add(1))), done); err != nil {
					b.Error(err)
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(client.RoundTrips()-trips)/float64(b.N), "trips/op")
			b.ReportMetric((wire()-bytes)/float64(b.N), "wireB/op")
		})
	}
}

// BenchmarkFilePush shows what one push costs on the disk of os.TempDir.
func BenchmarkFilePush(b *testing.B) {
	l, err := OpenFile(filepath.Join(b.TempDir(), "ledger"), time.Hour, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	done := doneOf(b, largeAsk(0))
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := push(b.Context(), l, largeAsk(i), done); err != nil {
			b.Fatal(err)
		}
	}
}
