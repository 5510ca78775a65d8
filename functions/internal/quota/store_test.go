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
		return quota.NewRedis(connect(t, server), t.Name(), quotatest.QPS)
	})
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
