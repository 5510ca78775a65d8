package planning

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// unconsumed finds what the group's offsets have not passed yet: how much is left
// of each topic gives the windows, pages list what is in them, and the trace
// decides message by message.
func (s *selection) unconsumed(ctx context.Context) error {
	if !s.Begun {
		if err := s.windowsOfLag(ctx); err != nil {
			return err
		}
	}
	if err := s.readWindows(ctx); err != nil {
		return err
	}
	s.list()
	return nil
}

// lagMargin is how much earlier than what was consumed last is looked: messages
// of other queues may be behind, and clocks differ.
const lagMargin = 10 * time.Minute

func (s *selection) windowsOfLag(ctx context.Context) error {
	err := s.call(ctx, OpLag, func() (err error) {
		s.Left, err = s.ports.Watcher.Lag(ctx, s.plan.InstanceID, s.plan.GroupID)
		return err
	})
	if err != nil {
		return err
	}
	for _, lag := range s.Left {
		switch {
		case s.plan.Topic != "" && s.plan.Topic != lag.Topic:
		case !s.allows(lag.Topic):
			s.incomplete("%d messages of topic %s are left: it is not in REPUSH_ALLOW", lag.Messages, lag.Topic)
		default:
			s.look(lag.Topic, cmp.Or(s.plan.From, lag.Consumed.Add(-lagMargin)))
		}
	}
	s.Begun = true
	return nil
}

// list makes a candidate of every message that was read, and compares their
// number with what the group says it has left.
func (s *selection) list() {
	seen := make(map[string]bool)
	byTopic := make(map[string]int64)
	for _, m := range s.Found {
		key := m.Topic + "/" + strings.ToUpper(m.MsgID)
		if seen[key] {
			continue
		}
		seen[key] = true
		byTopic[m.Topic]++
		s.Candidates = append(s.Candidates, entryOf(m))
	}
	for _, lag := range s.Left {
		isMeant := s.allows(lag.Topic) && (s.plan.Topic == "" || s.plan.Topic == lag.Topic)
		if isMeant && s.plan.From.IsZero() && s.plan.To.IsZero() && byTopic[lag.Topic] < lag.Messages {
			s.incomplete("the group has %d messages of topic %s left, and %d were found", lag.Messages, lag.Topic, byTopic[lag.Topic])
		}
	}
}

// entryOf is a candidate that is no dead letter.
func entryOf(m Stored) candidate {
	c := candidate{Entry: events.Entry{Topic: m.Topic, MsgID: strings.ToUpper(m.MsgID), StoredAt: m.StoredAt, Generation: 1}}
	if !strings.EqualFold(m.OffsetID, m.MsgID) {
		c.OffsetID = m.OffsetID
	}
	return c
}

// trace says why a message is to be left out; empty: the group has not consumed
// it, as far as is known.
func (s *selection) trace(ctx context.Context, c *candidate) (reason string, err error) {
	var tracks map[string]string
	reason, err = s.ask(ctx, OpTrace, c.Topic, func() error {
		tracks, err = s.ports.Watcher.Trace(ctx, s.plan.InstanceID, c.Topic, c.MsgID)
		return err
	})
	if err != nil || reason != "" {
		return reason, err
	}
	track, follows := tracks[s.plan.GroupID]
	switch {
	case !follows && len(tracks) > 0:
		return outNotFollowed, nil
	case track == "NOT_CONSUME_YET", track == "NOT_ONLINE", track == "UNKNOWN":
		return "", nil
	case track == "CONSUMED":
		return outConsumed, nil
	case track == "CONSUMED_BUT_FILTERED":
		return outFiltered, nil
	}
	return outNoTrace, nil
}

// named looks up what a person named.
func (s *selection) named(ctx context.Context) error {
	names, op, find := s.plan.IDs, OpByID, s.ports.Finder.ByID
	if s.plan.Source == events.ByKeys {
		names, op, find = s.plan.Keys, OpByKey, s.ports.Finder.ByKey
	}
	for s.Named < len(names) {
		batch := names[s.Named:min(len(names), s.Named+workers)]
		found, reasons := make([][]Stored, len(batch)), make([]string, len(batch))
		done, err := inOrder(len(batch), func(i int) (err error) {
			found[i], reasons[i], err = s.lookUp(ctx, op, find, s.plan.Topic, batch[i])
			return err
		})
		s.Named += done
		for i, messages := range found[:done] {
			if reasons[i] != "" {
				s.missing(batch[i], reasons[i])
			}
			for _, m := range messages {
				s.add(m)
			}
		}
		if err = errors.Join(err, s.checkpoint(ctx, false)); err != nil {
			return err
		}
	}
	return nil
}

// missing notes a name under which nothing was found. Keys are not message ids, and
// cannot stand where those do.
func (s *selection) missing(name, reason string) {
	switch {
	case s.plan.Source == events.ByIDs:
		s.leaveOut(reason, name)
	case reason == outGone:
		s.incomplete("no message of topic %s has the key %q", s.plan.Topic, name)
	default:
		s.incomplete("the look-up of key %q was refused: %s", name, s.refusal.Code)
	}
}

// add takes a message that a person named, once.
func (s *selection) add(m Stored) {
	c := entryOf(m)
	c.Topic = s.plan.Topic
	switch {
	case slices.ContainsFunc(s.Candidates, func(other candidate) bool { return other.MsgID == c.MsgID }):
	case !s.allows(c.Topic):
		s.leaveOut(outNotAllowed, c.MsgID)
	case s.isExpired(c.StoredAt):
		s.leaveOut(outExpired, c.MsgID)
	case c.StoredAt.Before(s.plan.From), !s.plan.To.IsZero() && c.StoredAt.After(s.plan.To):
		s.leaveOut(outOutside, c.MsgID)
	default:
		s.Candidates = append(s.Candidates, c)
	}
}

// compare leaves out what the ledger of pushes knows already, and finds the
// generation of what it does not.
func (s *selection) compare(ctx context.Context, c *candidate) (reason string, err error) {
	// What a broker says of itself need not keep our rules.
	if requested(s.plan, c.Entry).Validate() != nil {
		if c.OffsetID = ""; requested(s.plan, c.Entry).Validate() != nil {
			return outNoOrigin, nil
		}
	}
	h, err := s.ports.Histories.History(ctx, s.message(c.Entry))
	if isRecord(ctx, err) {
		return outUnreadable, nil
	}
	if err != nil {
		return "", err
	}
	c.Generation, reason = next(h, c.DiedAt, s.plan.Again && s.person, s.policy.MaxPushes)
	return reason, nil
}

// isRecord reports whether an error is about one record of the ledger, beside
// others that can be read; that it cannot be reached is a [*pushing.Error].
func isRecord(ctx context.Context, err error) bool {
	return err != nil && !errors.As(err, new(*pushing.Error)) && ctx.Err() == nil
}

func (s *selection) message(e events.Entry) pushing.Message {
	return pushing.Message{InstanceID: s.plan.InstanceID, GroupID: s.plan.GroupID, Topic: e.Topic, MsgID: e.MsgID}
}

// clockMargin is by how much the broker's clock may be ahead of ours. A message is
// delivered again after 10 s at the earliest (source: ons-openapi.md 4.4), so that
// one that dies of a push dies later.
const clockMargin = 5 * time.Second

// next is the generation in which a message may be pushed, or why it may not.
// diedAt is when it became a dead letter last; a person may want it again.
func next(h pushing.History, diedAt time.Time, again bool, maxPushes int) (generation int, reason string) {
	generation = 1
	var last pushing.Past
	for _, past := range h.Requests {
		if past.Outcome == "" {
			return 0, outOpen
		}
		if past.Outcome.Closes() && past.Generation >= generation {
			generation, last = past.Generation+1, past
		}
	}
	switch {
	case h.Pushes >= maxPushes || generation > events.MaxGeneration:
		return 0, outMaxPushes
	case last.Outcome == "" || again || diedAt.After(last.DecidedAt.Add(clockMargin)):
		return generation, ""
	case last.Outcome == events.Unknown:
		return 0, outUnknown
	}
	return 0, outPushed
}
