package batch

import (
	"cmp"
	"slices"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// MaxAge is how long a broker keeps messages by default (source: ApsaraMQ for RocketMQ
// "Limits": three days).
const MaxAge = 72 * time.Hour

// Quota is what the estimates of a [Summary] assume: that nothing else is in the way.
type Quota struct {
	PerSecond float64       // pushes; 0: not known, nothing is said of Seconds and Expiring
	MaxAge    time.Duration // of a message; 0 means [MaxAge]
	Now       time.Time     // when the first push begins
}

// Summary is what an operator decides on.
type Summary struct {
	Count      int          `json:"count"`
	Groups     []GroupCount `json:"groups"` // most first
	Again      int          `json:"again"`  // generations above 1
	Unconsumed int          `json:"unconsumed"`
	DryRun     int          `json:"dryRun"`
	Seconds    float64      `json:"seconds"`  // until the last push; what has expired by its turn takes none
	Expired    int          `json:"expired"`  // too old already, or past their notAfter
	Expiring   int          `json:"expiring"` // the same before their turn
	Undated    int          `json:"undated"`  // no storedAt: whether they exist is not known
}

// GroupCount is how many messages of a topic go to a consumer group.
type GroupCount struct {
	InstanceID string `json:"instanceId"`
	GroupID    string `json:"groupId"`
	Topic      string `json:"topic"`
	Count      int    `json:"count"`
}

// Summary sums the items up; their order is that of their turns.
func (b Batch) Summary(q Quota) Summary {
	s := Summary{Count: len(b.Items), Groups: []GroupCount{}}
	one, counts := map[bool]int{true: 1}, make(map[GroupCount]int)
	for _, it := range b.Items {
		a := it.Request
		counts[GroupCount{InstanceID: a.InstanceID, GroupID: a.GroupID, Topic: a.Topic}]++
		s.Again += one[a.Generation > 1]
		s.Unconsumed += one[a.Unconsumed]
		s.DryRun += one[a.DryRun]
		s.Undated += one[a.StoredAt.IsZero()]
		turn, left := s.Seconds, expiry(a, cmp.Or(q.MaxAge, MaxAge)).Sub(q.Now)
		if q.PerSecond > 0 {
			turn += 1 / q.PerSecond
		}
		switch {
		case left <= 0:
			s.Expired++
		case left.Seconds() <= turn:
			s.Expiring++
		default:
			s.Seconds = turn
		}
	}
	for g, n := range counts {
		g.Count = n
		s.Groups = append(s.Groups, g)
	}
	slices.SortFunc(s.Groups, func(a, b GroupCount) int {
		return cmp.Or(b.Count-a.Count, cmp.Compare(a.InstanceID, b.InstanceID), cmp.Compare(a.GroupID, b.GroupID), cmp.Compare(a.Topic, b.Topic))
	})
	return s
}

// never is after all times that an event may have.
var never = time.Unix(1<<40, 0)

// expiry is when a push stops making sense; never: not known.
func expiry(a events.Requested, maxAge time.Duration) time.Time {
	at := never
	if !a.StoredAt.IsZero() {
		at = a.StoredAt.Add(maxAge)
	}
	if !a.NotAfter.IsZero() && a.NotAfter.Before(at) {
		at = a.NotAfter
	}
	return at
}
