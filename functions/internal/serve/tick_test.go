package serve

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestTick: a server without a platform calls its own handler every minute, as
// the platform would, until it stops; one call at a time.
func TestTick(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var calls []time.Duration
		began, takes := time.Now(), 90*time.Second
		s := newServer(ctx, Config{
			Getenv: func(string) string { return "" }, Tick: []byte("sweep"), Log: func(string, error, map[string]any) {}, DefaultTimeout: time.Hour,
		}, func(_ context.Context, in Invocation, body []byte) Answer {
			if !in.Platform || string(body) != "sweep" || in.ID == "" {
				t.Errorf("called with %+v, %s", in, body)
			}
			calls = append(calls, time.Since(began))
			time.Sleep(takes)
			return Answer{GiveBack: true, Reason: "the ledger is away"}
		})
		ended := make(chan struct{})
		go func() { s.tick(); close(ended) }()
		time.Sleep(5*time.Minute + time.Second)
		synctest.Wait()
		if len(calls) != 3 || calls[0] != time.Minute || calls[1] < 150*time.Second {
			t.Errorf("calls at %v, want one after a minute and then one after another", calls)
		}
		stop()
		<-ended
	})
}
