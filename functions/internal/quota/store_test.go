package quota_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/quota"
	"github.com/ons-repush/ons-repush/functions/internal/quota/quotatest"
	"github.com/ons-repush/ons-repush/functions/internal/redis/redistest"
)

func TestMemoryConforms(t *testing.T) {
	t.Parallel()
	quotatest.Conformance(t, func(*testing.T) quota.Store { return quota.NewMemory(quotatest.QPS, nil) })
}

func TestRedisConforms(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	quotatest.Conformance(t, func(t *testing.T) quota.Store {
		return quota.NewRedis(bubbleWire(t, server, 0), t.Name(), quotatest.QPS)
	})
}

// TestRedisServersClock: what Conformance shows on a clock of its own holds with
// the client of package redis on the server's, as far as a busy machine lets see.
func TestRedisServersClock(t *testing.T) {
	t.Parallel()
	r := quota.NewRedis(connect(t, redistest.Start(t)), t.Name(), quotatest.QPS)
	began := time.Now()
	book := func() (quota.Booking, quota.Outlook) {
		t.Helper()
		b, o, err := r.Book(t.Context(), events.PriorityAlert, quota.Horizon)
		if err != nil {
			t.Fatal(err)
		}
		return b, o
	}
	a, _ := book()
	b, o := book()
	if apart := b.At - a.At; a.Seq != 1 || b.Seq != 2 || apart < spacing-time.Microsecond || apart > spacing+time.Since(began) {
		t.Errorf("booked %+v and %+v, want a spacing of %v between them", a, b, spacing)
	}
	if now := time.Duration(time.Now().UnixNano()); (a.At - now).Abs() > time.Hour {
		t.Errorf("the first slot is at %v since 1970, now it is %v", a.At, now)
	}
	if o.Spacing != spacing || o.Closed {
		t.Errorf("%+v, want the spacing of the start", o)
	}
	r.Report(a, pushing.Throttling, nil)
	r.Report(b, pushing.Throttling, nil)
	if c, o := book(); !o.Closed && !c.Probe {
		t.Errorf("booked %+v, %+v after two refusals were reported, want a closed quota", c, o)
	}
}

// TestSharesInStatus: what an operator reads.
func TestSharesInStatus(t *testing.T) {
	t.Parallel()
	clock := time.Unix(0, 0)
	m := quota.NewMemory(10, func() time.Time { return clock })
	status := func(want string) {
		t.Helper()
		s, err := m.Shares(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := json.Marshal(s); err != nil || string(got) != want {
			t.Errorf("status %s, %v\nwant   %s", got, err, want)
		}
	}
	status(`{"lastMinute":{"alert":0,"bulk":0,"human":0},"thisMinute":{"alert":0,"bulk":0,"human":0},"spacingMs":102,"nextMs":0,"closed":false}`)
	var last [2]quota.Booking
	for _, lane := range []events.Priority{events.PriorityHuman, "", events.PriorityBulk, events.PriorityAlert, "unheard of"} {
		b, _, err := m.Book(t.Context(), lane, quota.Horizon)
		if err != nil {
			t.Fatal(err)
		}
		last[0], last[1] = last[1], b
	}
	status(`{"lastMinute":{"alert":0,"bulk":0,"human":0},"thisMinute":{"alert":3,"bulk":1,"human":1},"spacingMs":102,"nextMs":510,"closed":false}`)
	clock = clock.Add(time.Minute)
	for _, b := range last {
		m.Report(b, pushing.Throttling, nil)
	}
	status(`{"lastMinute":{"alert":3,"bulk":1,"human":1},"thisMinute":{"alert":0,"bulk":0,"human":0},"spacingMs":104,"nextMs":1000,"closed":true}`)
	clock = clock.Add(2 * time.Minute)
	status(`{"lastMinute":{"alert":0,"bulk":0,"human":0},"thisMinute":{"alert":0,"bulk":0,"human":0},"spacingMs":104,"nextMs":0,"closed":true}`)
}
