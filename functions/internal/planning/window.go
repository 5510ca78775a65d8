package planning

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// window is a span of time whose messages are read page by page. What the service
// promises about pages read one after the other is not documented (source:
// ons-openapi.md 1.3), so nothing is taken for granted: a repeated message, a
// short or missing page in the middle, a task that is not known any more, or in the
// end another number of pages or another first page mean that something may have
// been missed, and the window is read again.
type window struct {
	Topic    string `json:",omitempty"` // empty: dead letters of the group
	From, To time.Time
	// Task is that of the pages, Next the one to read next; 0: none yet.
	Task  string `json:",omitempty"`
	Next  int    `json:",omitempty"`
	Pages int    `json:",omitempty"`
	// Begin is where the messages of the task begin in scan.Found, First how many
	// of them were on the first page.
	Begin int `json:",omitempty"`
	First int `json:",omitempty"`
	// Again counts how often it was begun anew.
	Again int `json:",omitempty"`
}

const (
	// readings is how often a window that changes under the reader is read.
	readings = 4
	// edge is the end of a message's life: what is deleted while it is read moves
	// all pages, so that others are not read with it.
	edge = 10 * time.Minute
	// maxFound bounds a selection, and with it memory and what is kept of it: a
	// message takes some 350 bytes.
	maxFound = 20_000
)

// errShifted says that the pages of a window were not those of one moment.
var errShifted = errors.New("the pages changed while they were read")

// readWindows reads what is left of the windows, the last one first, until all is
// read or ctx ends.
func (s *selection) readWindows(ctx context.Context) error {
	for len(s.Windows) > 0 {
		last := len(s.Windows) - 1
		w := s.Windows[last]
		s.Windows = s.Windows[:last]
		rest, err := s.readWindow(ctx, &w)
		var e *pushing.Error
		switch {
		case errors.Is(err, errShifted):
			w.Again++
			if w.Again < readings {
				s.Windows = append(s.Windows, window{Topic: w.Topic, From: w.From, To: w.To, Again: w.Again})
				continue
			}
			s.incomplete("what was stored from %s to %s changed whenever it was read", w.From.UTC().Format(time.RFC3339), w.To.UTC().Format(time.RFC3339))
		case w.Topic != "" && errors.As(err, &e) && e.Kind == pushing.Refused: // others may be permitted, or exist
			s.refusal = e
			s.incomplete("%s refused to list topic %s: %s", e.Op, w.Topic, e.Code)
			s.Windows = slices.DeleteFunc(s.Windows, func(other window) bool { return other.Topic == w.Topic })
		case err != nil:
			s.Windows = append(s.Windows, w)
			return err
		}
		s.Windows = append(s.Windows, rest...)
		if len(s.Found) > maxFound {
			s.Windows = nil
			s.incomplete("more than %d messages: narrow it with topic, from and to", maxFound)
		}
		if err := s.checkpoint(ctx, false); err != nil {
			return err
		}
	}
	return nil
}

// readWindow reads the pages of w from its next one. rest are the windows to read
// instead when it holds more than one task can show.
func (s *selection) readWindow(ctx context.Context, w *window) (rest []window, err error) {
	if w.Next == 0 {
		page, err := s.page(ctx, *w, 1)
		if err != nil || page.Pages == 0 {
			return nil, err
		}
		if page.Pages >= MaxPages {
			if half := w.To.Sub(w.From).Truncate(2*time.Millisecond) / 2; half > 0 {
				middle := w.From.Add(half)
				return []window{
					{Topic: w.Topic, From: middle.Add(time.Millisecond), To: w.To, Again: w.Again},
					{Topic: w.Topic, From: w.From, To: middle, Again: w.Again},
				}, nil
			}
			s.incomplete("more than %d messages were stored at %s, and no more can be listed", MaxPages*PageSize, w.From.UTC().Format(time.RFC3339Nano))
		}
		w.Task, w.Pages, w.Next, w.Begin, w.First = page.TaskID, page.Pages, 2, len(s.Found), len(page.Messages)
		s.Found = append(s.Found, page.Messages...)
	}
	for ; w.Next <= w.Pages; w.Next++ {
		page, err := s.page(ctx, *w, w.Next)
		if refused := new(pushing.Error); errors.As(err, &refused) && refused.Kind == pushing.Refused && !refused.Denied {
			return nil, errShifted // the task has expired
		}
		if err != nil {
			return nil, err
		}
		isShort := w.Next < w.Pages && len(page.Messages) != w.First
		isShifted := isShort || len(page.Messages) == 0 || s.repeats(w.Begin, page.Messages)
		s.Found = append(s.Found, page.Messages...)
		if isShifted {
			return nil, errShifted
		}
		if err := s.checkpoint(ctx, false, *w); err != nil {
			return nil, err
		}
	}
	if w.Pages == 1 {
		return nil, nil
	}
	again, err := s.page(ctx, window{Topic: w.Topic, From: w.From, To: w.To}, 1)
	if err != nil {
		return nil, err
	}
	if again.Pages != w.Pages || !slices.EqualFunc(again.Messages, s.Found[w.Begin:w.Begin+w.First], func(a, b Stored) bool { return a.copyKey() == b.copyKey() }) {
		s.Found = append(s.Found, again.Messages...)
		return nil, errShifted
	}
	return nil, nil
}

// page asks for one page of a window.
func (s *selection) page(ctx context.Context, w window, number int) (page Page, err error) {
	q := Query{InstanceID: s.plan.InstanceID, GroupID: s.plan.GroupID, From: w.From, To: w.To, Number: number, TaskID: w.Task}
	op, read := OpDeadLetters, s.ports.Pager.DeadLetters
	if w.Topic != "" {
		q.GroupID, q.Topic = "", w.Topic
		op, read = OpMessages, s.ports.Pager.Messages
	}
	err = s.call(ctx, op, func() error {
		page, err = read(ctx, q)
		return err
	})
	return page, err
}

// repeats reports whether one of the messages was found since begin.
func (s *selection) repeats(begin int, messages []Stored) bool {
	known := make(map[string]bool, len(s.Found)-begin)
	for _, m := range s.Found[begin:] {
		known[m.copyKey()] = true
	}
	return slices.ContainsFunc(messages, func(m Stored) bool { return known[m.copyKey()] })
}

// copyKey tells one stored copy from every other.
func (m Stored) copyKey() string {
	if m.OffsetID != "" {
		return strings.ToUpper(m.OffsetID)
	}
	return fmt.Sprintf("%s/%s/%d", m.Topic, strings.ToUpper(m.MsgID), m.StoredAt.UnixMilli())
}

// look adds the windows of what of a plan's time is read of a topic, since then at the
// earliest. The edge is one of its own, which is read first, and once.
func (s *selection) look(topic string, since time.Time) {
	known, oldest := len(s.Windows), s.CutOff.Add(-s.policy.MaxAge)
	settled := oldest.Add(edge)
	for _, w := range []window{{From: settled, To: s.CutOff}, {From: oldest, To: settled, Again: readings - 1}} {
		w.Topic = topic
		if since.After(w.From) {
			w.From = since
		}
		if to := s.plan.To; !to.IsZero() && to.Before(w.To) {
			w.To = to
		}
		if w.From.Before(w.To) {
			s.Windows = append(s.Windows, w)
		}
	}
	if len(s.Windows) == known {
		s.incomplete("nothing was read: what was asked for lies outside of the last %s; look at from and to, and their time zones", s.policy.MaxAge)
	}
}

// incomplete notes why there may be more than was found.
func (s *selection) incomplete(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(s.Incomplete, text) {
		s.Incomplete = append(s.Incomplete, text)
	}
}

// call makes one call of the API in its quota's time, and counts it. What is
// unavailable is tried again, a little later each time.
func (s *selection) call(ctx context.Context, op string, do func() error) error {
	lane := events.PriorityBulk
	if s.alert {
		lane = events.PriorityAlert
	}
	for try := 1; ; try++ {
		err := pushing.Paced(ctx, s.ports.Pacer(op), lane, throttledTries, op, func() error {
			s.count(op)
			return do()
		})
		var e *pushing.Error
		if !errors.As(err, &e) || e.Kind != pushing.Unavailable || try == unavailableTries || ctx.Err() != nil {
			return err
		}
		if pushing.Sleep(ctx, firstDelay<<(try-1)) != nil {
			return err
		}
	}
}

// How often a call is made within one invocation before the sweep goes on.
const (
	throttledTries   = 10
	unavailableTries = 4
	firstDelay       = 200 * time.Millisecond
)
