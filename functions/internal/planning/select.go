package planning

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// scan is a selection under way, as it is kept from one invocation to the next.
type scan struct {
	CutOff time.Time
	// Begun: the windows, or the names to look up, are known.
	Begun   bool
	Windows []window `json:",omitempty"`
	// Left is how much the group has left of each topic, by its own account.
	Left []Lag `json:",omitempty"`
	// Found is what was read; Named counts the names that were looked up.
	Found []Stored `json:",omitempty"`
	Named int      `json:",omitempty"`
	// Listed: the candidates are all there. Compared and Judged count those that
	// were.
	Listed     bool        `json:",omitempty"`
	Candidates []candidate `json:",omitempty"`
	Compared   int         `json:",omitempty"`
	Judged     int         `json:",omitempty"`
	// Out are the message ids that are left out, by reason.
	Out        map[string][]string `json:",omitempty"`
	Incomplete []string            `json:",omitempty"`
	Calls      map[string]int      `json:",omitempty"`
}

// candidate is a message that may be pushed.
type candidate struct {
	events.Entry
	// DiedAt is when its newest dead letter was stored; zero: it has none.
	DiedAt time.Time `json:",omitzero"`
	// Out: it was left out. Chosen: it was judged, and is in.
	Out    bool `json:",omitempty"`
	Chosen bool `json:",omitempty"`
}

// selection is the work on a scan. One goroutine owns it; count is for all.
type selection struct {
	scan
	ports  Ports
	policy Policy
	plan   events.Plan
	alert  bool
	person bool
	// save keeps the scan; the last time it did was savedAt.
	save    func(ctx context.Context, s scan) error
	savedAt time.Time
	now     func() time.Time

	mu sync.Mutex
	// refused counts the look-ups in each topic that were refused, refusal is the
	// last of them, or of the topics' listings, and answered: one look-up was not.
	refused  map[string]int
	refusal  *pushing.Error
	answered bool
}

// Reasons for which what was found is left out: at most 16 in one manifest, of which
// those of traces are not those of names.
const (
	outRefused     = "its look-up was refused"
	outNoOrigin    = "no origin: the dead letter does not say which message it is a copy of"
	outNotAllowed  = "not allowed: instance, group and topic are not in REPUSH_ALLOW"
	outExpired     = "origin expired: resend only"
	outGone        = "no such message in this topic"
	outOutside     = "stored before from, or after to"
	outOpen        = "asked for before and not decided yet"
	outPushed      = "pushed before"
	outUnknown     = "may have been pushed before (unknown)"
	outMaxPushes   = "pushed as often as allowed (REPUSH_MAX_PUSHES)"
	outUnreadable  = "its record in the ledger cannot be read"
	outConsumed    = "consumed"
	outNoTrace     = "the trace does not say whether it was consumed"
	outFiltered    = "consumed but filtered"
	outNotFollowed = "the group does not subscribe"
	outLimit       = "over the limit of one plan"
	outBudget      = "over the budget of the group (REPUSH_GROUP_BUDGET, four plans a day)"
)

// checkpointEvery is how much work a crash costs.
const checkpointEvery = 15 * time.Second

// workers is how many messages are looked at at a time.
const workers = 32

// checkpoint keeps the scan, if it is time or must be. reading is the window in
// the middle of which it is.
func (s *selection) checkpoint(ctx context.Context, must bool, reading ...window) error {
	if !must && s.now().Sub(s.savedAt) < checkpointEvery {
		return nil
	}
	kept := s.scan
	kept.Windows = slices.Concat(s.Windows, reading)
	if len(reading) > 0 {
		kept.Windows[len(kept.Windows)-1].Next++
	}
	s.savedAt = s.now()
	return s.save(ctx, kept)
}

func (s *selection) count(op string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Calls == nil {
		s.Calls = make(map[string]int)
	}
	s.Calls[op]++
}

func (s *selection) leaveOut(reason, msgID string) {
	if s.Out == nil {
		s.Out = make(map[string][]string)
	}
	s.Out[reason] = append(s.Out[reason], strings.ToUpper(msgID))
	if reason == outRefused {
		s.incomplete("%s refused to look up some of the messages: %s", s.refusal.Op, s.refusal.Code)
	}
}

// run goes on with the selection until enough candidates are chosen: it lists
// them, compares them with the ledger of pushes, and judges what the broker knows
// of each.
func (s *selection) run(ctx context.Context) error {
	list, judge := s.deadLetters, s.ifAlive
	switch s.plan.Source {
	case events.Unconsumed:
		list, judge = s.unconsumed, s.trace
	case events.ByIDs, events.ByKeys:
		list, judge = s.named, func(context.Context, *candidate) (string, error) { return "", nil }
	}
	if !s.Listed {
		if err := list(ctx); err != nil {
			return err
		}
		s.Found, s.Listed = nil, true
		sortByExpiry(s.Candidates)
	}
	if err := s.each(ctx, &s.Compared, len(s.Candidates), s.compare); err != nil {
		return err
	}
	err := s.each(ctx, &s.Judged, s.policy.limitOf(s.plan), func(ctx context.Context, c *candidate) (string, error) {
		reason, err := judge(ctx, c)
		c.Chosen = reason == "" && err == nil
		return reason, err
	})
	if err == nil && s.refusal != nil && !s.answered && len(s.Candidates) <= len(s.Out[outRefused]) {
		return s.refusal
	}
	if err == nil {
		sortByExpiry(s.Candidates[:s.Judged])
	}
	return err
}

// each looks at candidates, some at a time, from the done-th until all were
// looked at or enough of them are chosen, and leaves those out for which look has
// a reason.
func (s *selection) each(ctx context.Context, done *int, enough int, look func(context.Context, *candidate) (reason string, err error)) error {
	for *done < len(s.Candidates) {
		missing := enough - s.chosen()
		if missing <= 0 {
			return nil
		}
		batch := s.Candidates[*done:min(len(s.Candidates), *done+min(workers, missing))]
		after, reasons := slices.Clone(batch), make([]string, len(batch))
		looked, err := inOrder(len(batch), func(i int) (err error) {
			if !batch[i].Out {
				reasons[i], err = look(ctx, &after[i])
			}
			return err
		})
		copy(batch, after[:looked])
		for i, reason := range reasons[:looked] {
			if reason != "" {
				batch[i].Out = true
				s.leaveOut(reason, batch[i].MsgID)
			}
		}
		*done += looked
		if err = errors.Join(err, s.checkpoint(ctx, false)); err != nil {
			return err
		}
	}
	return nil
}

// chosen counts those that are in whatever becomes of the others: the first of
// these may turn out to be stored later than it looks, but no earlier.
func (s *selection) chosen() (n int) {
	for _, c := range s.Candidates[:s.Judged] {
		if c.Chosen && (s.Judged == len(s.Candidates) || !c.StoredAt.After(s.Candidates[s.Judged].StoredAt)) {
			n++
		}
	}
	return n
}

// deadLetters finds the origins of the group's dead letters. Whether they were
// consumed is not asked: their offsets have passed in any case.
func (s *selection) deadLetters(ctx context.Context) error {
	if !s.Begun {
		s.look("", s.plan.From)
		s.Begun = true
	}
	if err := s.readWindows(ctx); err != nil {
		return err
	}
	s.fold()
	return nil
}

// nearEnd is how much of its life a message must look to have left, or it is looked
// up: as long as a request may wait for its push.
const nearEnd = 24 * time.Hour

// ifAlive leaves out what its broker has deleted, and finds out when the others
// will be. An origin that looks old by when it was made may have been delayed:
// messages count from their delivery (source: DOC Limits).
func (s *selection) ifAlive(ctx context.Context, c *candidate) (reason string, err error) {
	if !s.isGone(c.StoredAt, s.CutOff.Add(nearEnd)) {
		return "", nil
	}
	found, reason, err := s.lookUp(ctx, OpByID, s.ports.Finder.ByID, c.Topic, c.MsgID)
	if err != nil || reason == outRefused && s.isExpired(c.StoredAt) {
		return reason, err
	}
	if len(found) > 0 {
		c.StoredAt = found[0].StoredAt
	}
	if s.isExpired(c.StoredAt) {
		return outExpired, nil
	}
	return "", nil
}

// isGone reports whether what was stored then is deleted by now; zero is not known.
func (s *selection) isGone(storedAt, now time.Time) bool {
	return !storedAt.IsZero() && now.Sub(storedAt) >= s.policy.MaxAge
}

func (s *selection) isExpired(storedAt time.Time) bool { return s.isGone(storedAt, s.CutOff) }

// fold makes one candidate of all dead letters of one origin: each time it died
// there is one more.
func (s *selection) fold() {
	at := make(map[string]int)
	seen := make(map[string]bool)
	for _, m := range s.Found {
		if seen[m.copyKey()] {
			continue
		}
		seen[m.copyKey()] = true
		o := m.Origin
		switch {
		case o.Topic == "" || o.MsgID == "":
			s.leaveOut(outNoOrigin, m.MsgID)
			continue
		case s.plan.Topic != "" && s.plan.Topic != o.Topic:
			continue
		}
		key := o.Topic + "/" + strings.ToUpper(o.MsgID)
		i, known := at[key]
		if !known {
			i = len(s.Candidates)
			at[key] = i
			// The copy keeps when its origin was made (see ons.Stored), which but for
			// delayed messages is when it was stored.
			s.Candidates = append(s.Candidates, candidate{Entry: events.Entry{
				Topic: o.Topic, MsgID: strings.ToUpper(o.MsgID), OffsetID: o.OffsetID, StoredAt: m.BornAt, Generation: 1,
			}, Out: !s.allows(o.Topic)})
			if s.Candidates[i].Out {
				s.leaveOut(outNotAllowed, o.MsgID)
			}
		}
		c := &s.Candidates[i]
		c.Copies++
		if !m.BornAt.IsZero() && m.BornAt.Before(c.StoredAt) { // the other is a copy that a consumer made anew
			c.StoredAt = m.BornAt
		}
		if m.StoredAt.After(c.DiedAt) {
			c.DiedAt = m.StoredAt
		}
	}
}

func (s *selection) allows(topic string) bool {
	return s.policy.Allow.Allows(pushing.Message{InstanceID: s.plan.InstanceID, GroupID: s.plan.GroupID, Topic: topic})
}

// sortByExpiry puts first what expires first; what has no known store time before
// all.
func sortByExpiry(candidates []candidate) {
	slices.SortStableFunc(candidates, func(a, b candidate) int {
		if by := a.StoredAt.Compare(b.StoredAt); by != 0 {
			return by
		}
		return strings.Compare(a.Topic+"/"+a.MsgID, b.Topic+"/"+b.MsgID)
	})
}

// inOrder does n things, some at a time, and returns how many of the first were
// done when one failed, and how it did. A panic is one way to fail.
func inOrder(n int, do func(i int) error) (done int, err error) {
	for done < n {
		errs := make([]error, min(workers, n-done))
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				defer func() {
					if p := recover(); p != nil {
						errs[i] = &pushing.Error{Kind: pushing.Internal, Op: "plan", Err: fmt.Errorf("panic of type %T", p)}
					}
				}()
				errs[i] = do(done + i)
			})
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				return done, err
			}
			done++
		}
	}
	return done, nil
}

// lookUp finds messages by one name, or a reason why not.
func (s *selection) lookUp(ctx context.Context, op string, find func(ctx context.Context, instanceID, topic, name string) ([]Stored, error), topic, name string) (found []Stored, reason string, err error) {
	reason, err = s.ask(ctx, op, topic, func() error {
		found, err = find(ctx, s.plan.InstanceID, topic, name)
		return err
	})
	if err == nil && reason == "" && len(found) == 0 {
		reason = outGone
	}
	return found, reason, err
}

// ask makes the call for one look-up in a topic. What a refusal is about its code
// does not say: an odd id, a topic that was deleted, a right to one topic or to
// all. So it is a reason to leave out what was looked up, and no more. Where the
// first [workers] look-ups in a topic are refused, the topic's others are, without
// a call; and where that leaves out all that was found, the refusal is about
// everything: run ends with it.
func (s *selection) ask(ctx context.Context, op, topic string, do func() error) (reason string, err error) {
	s.mu.Lock()
	isRefused := s.refused[topic] >= workers
	s.mu.Unlock()
	if isRefused {
		return outRefused, nil
	}
	err = s.call(ctx, op, do)
	e := new(pushing.Error)
	isRefused = errors.As(err, &e) && e.Kind == pushing.Refused
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case isRefused && e.Code != pushing.CodeNoMessage:
		s.refused[topic]++
		s.refusal = e
		return outRefused, nil
	case isRefused:
		reason, err = outGone, nil
	}
	if err == nil {
		s.answered, s.refused[topic] = true, math.MinInt
	}
	return reason, err
}
