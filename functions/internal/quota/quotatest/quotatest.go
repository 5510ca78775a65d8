// Package quotatest is the conformance suite of quota.Store.
package quotatest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/quota"
)

// QPS is the rate of the quota that Conformance opens.
const QPS = 10

const (
	interval = time.Second / QPS
	first    = interval * 102 / 100 // the spacing at the start
	// slack is how much later than at once a store may learn of a report.
	slack = 90 * time.Millisecond
	// grain is what a store may round a time to.
	grain = 2 * time.Microsecond
)

// Conformance runs the suite, each test in a synctest bubble, so that a busy
// machine does not change what is seen. open returns the store of a quota of
// [QPS] calls a second that nobody has used, on the bubble's clock; every call
// must open another quota. The law behind the store is tested in package quota.
func Conformance(t *testing.T, open func(t *testing.T) quota.Store) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, quota.Store){
		"slots are one spacing apart":                testSpacing,
		"a late caller gets a slot at once":          testLateCaller,
		"nobody books beyond the horizon":            testHorizon,
		"nobody gets a slot after it is of use":      testWithin,
		"callers without a slot come back apart":     testApart,
		"an unused slot is given back":               testUnused,
		"a slot that was followed is not given back": testUnusedFollowed,
		"accepted calls close up to 1/QPS":           testAccepted,
		"a refusal moves the calls apart":            testRefused,
		"one change answers all calls under way":     testRefusedUnderWay,
		"two refusals in a row close the quota":      testClose,
		"refused probes come ever later":             testProbes,
		"no booking overtakes a report":              testOvertaking,
		"slots are counted by lane":                  testShares,
		"concurrent callers share no slot":           testConcurrent,
		"an ended context takes no slot":             testEnded,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { test(t, open(t)) })
		})
	}
}

func book(t *testing.T, s quota.Store) (quota.Booking, quota.Outlook) {
	t.Helper()
	b, o, err := s.Book(t.Context(), events.PriorityAlert, quota.Horizon)
	if err != nil {
		t.Fatalf("Book: %v", err)
	}
	return b, o
}

// take books and fails the test without a slot.
func take(t *testing.T, s quota.Store) quota.Booking {
	t.Helper()
	b, _ := book(t, s)
	if b.Seq == 0 {
		t.Fatalf("Book = %+v, want a slot", b)
	}
	return b
}

// takeIn books as soon as there is a slot.
func takeIn(t *testing.T, s quota.Store) quota.Booking {
	t.Helper()
	for {
		b, _ := book(t, s)
		if b.Seq > 0 {
			return b
		}
		wait(t, b.Wait-quota.Horizon)
	}
}

func report(t *testing.T, s quota.Store, b quota.Booking, v pushing.Verdict) quota.Outlook {
	t.Helper()
	learned := make(chan quota.Outlook, 2)
	s.Report(b, v, func(o quota.Outlook) { learned <- o })
	select {
	case o := <-learned:
		return o
	case <-time.After(10 * time.Second):
		t.Fatalf("Report(%+v, %v) taught nothing", b, v)
		return quota.Outlook{}
	}
}

func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal("the test ended")
	}
}

// near fails the test when got is not want, but for what a store may round.
func near(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if (got - want).Abs() > grain {
		t.Errorf("%s = %v, want %v", what, got, want)
	}
}

// about allows in addition for the time that the test itself took.
func about(t *testing.T, what string, got, want time.Duration) {
	t.Helper()
	if got > want+grain || got < want-slack {
		t.Errorf("%s = %v, want %v or up to %v less", what, got, want, slack)
	}
}

func testSpacing(t *testing.T, s quota.Store) {
	a, o := book(t, s)
	near(t, "the first wait", a.Wait, 0)
	near(t, "Outlook.Spacing", o.Spacing, first)
	about(t, "Outlook.Next", o.Next, first)
	b := take(t, s)
	near(t, "the distance of two slots", b.At-a.At, first)
	about(t, "the second wait", b.Wait, first)
	if a.Seq != 1 || b.Seq != 2 || o.Closed || a.Probe {
		t.Errorf("bookings %+v and %+v of an open quota, Outlook %+v", a, b, o)
	}
}

func testLateCaller(t *testing.T, s quota.Store) {
	a := take(t, s)
	wait(t, 3*interval)
	b := take(t, s)
	near(t, "the wait after a pause", b.Wait, 0)
	if got := b.At - a.At; got < 3*interval-grain {
		t.Errorf("the slot after a pause of %v lies %v after the last one", 3*interval, got)
	}
}

func testHorizon(t *testing.T, s quota.Store) {
	begin := take(t, s)
	for {
		b, o, err := s.Book(t.Context(), events.PriorityAlert, time.Hour)
		if err != nil {
			t.Fatalf("Book: %v", err)
		}
		if b.Wait > quota.Horizon {
			if b.Seq != 0 || o.Next > b.Wait+first+grain || o.Next <= quota.Horizon-slack {
				t.Errorf("beyond the horizon: %+v, %+v; want Seq 0 and Next at most a spacing behind Wait", b, o)
			}
			return
		}
		if b.At-begin.At > time.Minute {
			t.Fatal("booked a minute ahead")
		}
	}
}

func testWithin(t *testing.T, s quota.Store) {
	a := take(t, s)
	b, _, err := s.Book(t.Context(), events.PriorityAlert, time.Millisecond)
	if err != nil || b.Seq != 0 {
		t.Fatalf("Book within 1 ms = %+v, %v; want no slot", b, err)
	}
	about(t, "Wait", b.Wait, first)
	near(t, "the slot that was not taken", take(t, s).At-a.At, first)
}

func testApart(t *testing.T, s quota.Store) {
	var waits []time.Duration
	for len(waits) < 4 {
		if b, _ := book(t, s); b.Seq == 0 {
			waits = append(waits, b.Wait)
		}
	}
	for i := range waits[1:] {
		about(t, "a wait after another", waits[i+1]-waits[i], first)
	}
}

func testUnused(t *testing.T, s quota.Store) {
	report(t, s, quota.Booking{}, pushing.Unused) // no slot
	if b := take(t, s); b.Seq != 1 {
		t.Errorf("the first slot has Seq %d, want 1", b.Seq)
	}
	a := take(t, s)
	report(t, s, a, pushing.Unused)
	b := take(t, s)
	near(t, "the distance to the slot given back", b.At-a.At, 0)
	if b.Seq != a.Seq {
		t.Errorf("Seq = %d, want %d again", b.Seq, a.Seq)
	}
}

func testUnusedFollowed(t *testing.T, s quota.Store) {
	a, b := take(t, s), take(t, s)
	report(t, s, a, pushing.Unused)
	near(t, "the distance of the next slot", take(t, s).At-b.At, first)
}

func testAccepted(t *testing.T, s quota.Store) {
	a := take(t, s)
	near(t, "the spacing after one", report(t, s, a, pushing.Accepted).Spacing, first-interval/10_000)
	var o quota.Outlook
	for range 300 {
		o = report(t, s, a, pushing.Accepted)
	}
	near(t, "the spacing after 301", o.Spacing, interval)
}

func testRefused(t *testing.T, s quota.Store) {
	var b quota.Booking
	for range 6 {
		b = takeIn(t, s)
	}
	near(t, "the spacing", report(t, s, b, pushing.Throttling).Spacing, first+interval/50)
}

func testRefusedUnderWay(t *testing.T, s quota.Store) {
	a, _, c := take(t, s), take(t, s), take(t, s)
	report(t, s, c, pushing.Throttling)
	o := report(t, s, a, pushing.Throttling)
	near(t, "the spacing after two", o.Spacing, first+interval/50)
	if o.Closed {
		t.Error("closed by two refusals that are not in a row")
	}
}

// closeQuota makes a quota closed and returns the outlook.
func closeQuota(t *testing.T, s quota.Store) quota.Outlook {
	t.Helper()
	a, b := take(t, s), take(t, s)
	report(t, s, a, pushing.Throttling)
	o := report(t, s, b, pushing.Throttling)
	if !o.Closed {
		t.Fatalf("after two refusals in a row: %+v, want closed", o)
	}
	return o
}

func testClose(t *testing.T, s quota.Store) {
	closed := closeQuota(t, s)
	about(t, "the first probe", closed.Next, time.Second)
	if b, _ := book(t, s); b.Seq != 0 {
		t.Fatalf("booked %+v in a closed quota", b)
	}
	probe := takeIn(t, s)
	if !probe.Probe {
		t.Fatalf("booked %+v, want a probe", probe)
	}
	if b, o := book(t, s); b.Seq != 0 || !o.Closed {
		t.Fatalf("booked %+v beside the probe", b)
	}
	o := report(t, s, probe, pushing.Accepted)
	if o.Closed || o.Spacing != closed.Spacing {
		t.Errorf("after an accepted probe %+v, want open with the spacing of %+v", o, closed)
	}
	if b := take(t, s); b.Probe {
		t.Errorf("booked %+v in an open quota", b)
	}
}

func testOvertaking(t *testing.T, s quota.Store) {
	a, b := take(t, s), take(t, s)
	s.Report(a, pushing.Throttling, nil)
	s.Report(b, pushing.Throttling, nil)
	if b, o := book(t, s); b.Seq != 0 || !o.Closed {
		t.Errorf("booked %+v, %+v after two refusals were reported, want a closed quota", b, o)
	}
}

func testShares(t *testing.T, s quota.Store) {
	for _, lane := range []events.Priority{events.PriorityHuman, events.PriorityBulk, "", events.PriorityBulk} {
		if b, _, err := s.Book(t.Context(), lane, quota.Horizon); err != nil || b.Seq == 0 {
			t.Fatalf("Book = %+v, %v, want a slot", b, err)
		}
	}
	got, err := s.Shares(t.Context())
	if err != nil || got.Closed || got.SpacingMs != 102 {
		t.Fatalf("Shares = %+v, %v of an open quota whose spacing is 102 ms", got, err)
	}
	for lane, want := range map[events.Priority]int64{events.PriorityHuman: 1, events.PriorityAlert: 1, events.PriorityBulk: 2} {
		// A minute may have ended meanwhile.
		if n := got.LastMinute[lane] + got.ThisMinute[lane]; n != want {
			t.Errorf("%d slots of lane %s, want %d", n, lane, want)
		}
	}
	wait(t, 4*first) // until there is room for two more
	closed := closeQuota(t, s)
	if got, err = s.Shares(t.Context()); err != nil || !got.Closed {
		t.Fatalf("Shares = %+v, %v of a closed quota", got, err)
	}
	about(t, "the time to the probe", time.Duration(got.NextMs)*time.Millisecond, closed.Next)
}

func testProbes(t *testing.T, s quota.Store) {
	closeQuota(t, s)
	a := takeIn(t, s)
	o := report(t, s, a, pushing.Throttling)
	b := takeIn(t, s)
	near(t, "the distance of the second probe", b.At-a.At, 2*time.Second)
	if !o.Closed || !b.Probe {
		t.Errorf("after a refused probe %+v, then %+v; want closed and a probe", o, b)
	}
}

func testConcurrent(t *testing.T, s quota.Store) {
	var mu sync.Mutex
	taken := map[int64]time.Duration{}
	var callers sync.WaitGroup
	for range 50 {
		callers.Go(func() {
			b, _, err := s.Book(t.Context(), events.PriorityAlert, quota.Horizon)
			mu.Lock()
			defer mu.Unlock()
			if _, twice := taken[b.Seq]; err != nil || twice && b.Seq > 0 {
				t.Errorf("Book = %+v, %v", b, err)
			}
			taken[b.Seq] = b.At
		})
	}
	callers.Wait()
	delete(taken, 0)
	if len(taken) < 5 {
		t.Errorf("50 callers got %d slots, want at least 5", len(taken))
	}
	for seq, at := range taken {
		if before, ok := taken[seq-1]; ok && at-before < interval-grain {
			t.Errorf("slots %d and %d are %v apart", seq-1, seq, at-before)
		}
	}
}

func testEnded(t *testing.T, s quota.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if b, _, err := s.Book(ctx, events.PriorityAlert, quota.Horizon); !errors.Is(err, context.Canceled) || b.Seq != 0 {
		t.Errorf("Book = %+v, %v; want no slot and the context's error", b, err)
	}
	if b := take(t, s); b.Seq != 1 {
		t.Errorf("the first slot has Seq %d, want 1", b.Seq)
	}
}
