package report

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// Fates of a request that has no result, beside the outcomes of those that have.
const (
	// InDoubt: begun, so that it may have reached the consumer.
	InDoubt events.Outcome = "in doubt"
	// NoResult: asked for and not begun, as far as the input tells.
	NoResult events.Outcome = "no result yet"
)

// Fates lists every outcome and what stands for it without a result: what a person
// has to look at first.
func Fates() []events.Outcome {
	return []events.Outcome{
		events.Unknown, InDoubt, events.Failed, events.Abandoned, events.Rejected, events.Expired, events.Cancelled, NoResult,
		events.Duplicate, events.Simulated, events.Pushed,
	}
}

// isProblem reports whether a fate needs a person.
func isProblem(o events.Outcome) bool {
	return o != events.Duplicate && o != events.Simulated && o != events.Pushed
}

// Options of a report.
type Options struct {
	// Title of the page; empty: "Repush report".
	Title string
	// QPS is the quota, pushes a second; 0: 10.
	QPS float64
	// Now is when the report is made; zero: now.
	Now time.Time
}

// Report is what [New] found out. It does not change any more.
type Report struct {
	Summary
	Title string
	Made  time.Time

	items     []item
	causes    []cause
	pushes    []time.Time // when they began, in order
	waits     []int64     // of those that were called, in order, in milliseconds
	calls     []int64
	leftovers []events.Requested
	unknowns  []events.Requested
	problems  []string
}

// item is one request and its fate.
type item struct {
	result
	Fate  events.Outcome
	Asked events.Requested
}

// cause is what requests with one fate and code have in common.
type cause struct {
	Fate          events.Outcome
	Code          string
	Count         int
	Message, Hint string // of one of them
	Others        int    // of them say something else
}

// New works out what there is to say. results may be used on.
func New(results *Results, o Options) Report {
	r := Report{Title: clean(cmp.Or(o.Title, "Repush report")), Made: cmp.Or(o.Now, time.Now()).UTC(), items: results.items(), problems: slices.Clone(results.Problems)}
	rank := make(map[events.Outcome]int)
	for i, fate := range Fates() {
		rank[fate] = i
	}
	slices.SortStableFunc(r.items, func(a, b item) int {
		return cmp.Or(cmp.Compare(rank[a.Fate], rank[b.Fate]), a.DecidedAt.Compare(b.DecidedAt))
	})
	r.findCauses()
	r.findLeftovers()
	r.summarise(cmp.Or(o.QPS, 10))
	r.PassedOver, r.Wrong = results.PassedOver, results.Wrong
	return r
}

// items joins requests and results.
func (r *Results) items() []item {
	answered := make(map[request]bool)
	for _, done := range r.results {
		answered[request{done.Request.Source, done.Request.ID}] = true
	}
	all := make([]item, 0, len(r.order))
	for _, one := range r.order {
		switch one := one.(type) {
		case *result:
			i := item{result: *one, Fate: one.Outcome, Asked: r.asked[request{one.Request.Source, one.Request.ID}]}
			if one.Request.Data != nil && (one.own || i.Asked.MsgID == "") {
				i.Asked = *one.Request.Data
			}
			all = append(all, i)
		case request:
			if answered[one] {
				continue
			}
			i := item{Fate: NoResult, Asked: r.asked[one]}
			i.Message, i.Hint = "asked for, and not begun", "resume the run, or inject the leftovers"
			if r.begun[one.id] {
				i.Fate, i.Message, i.Hint = InDoubt, "begun, and no answer came: it may have reached the consumer",
					"resume the run, or look in the consumer's log whether the message arrived before asking again with the next generation"
			}
			i.Request.ID, i.Request.Source = one.id, one.source
			all = append(all, i)
		}
	}
	return all
}

func (r *Report) findCauses() {
	at := make(map[[2]string]int)
	for _, i := range r.items {
		key := [2]string{string(i.Fate), i.Code}
		n, known := at[key]
		if !known {
			n, at[key] = len(r.causes), len(r.causes)
			r.causes = append(r.causes, cause{Fate: i.Fate, Code: i.Code, Message: i.Message, Hint: i.Hint})
		}
		c := &r.causes[n]
		c.Count++
		c.Hint = cmp.Or(c.Hint, i.Hint)
		if i.Message != c.Message || i.Hint != c.Hint {
			c.Others++
		}
	}
	slices.SortStableFunc(r.causes, func(a, b cause) int { // the fates are in order already
		if a.Fate == b.Fate {
			return cmp.Compare(b.Count, a.Count)
		}
		return 0
	})
}

// message is what is pushed, whoever asked.
type message struct{ instance, group, topic, id string }

func (i item) message() message {
	return message{i.Asked.InstanceID, i.Asked.GroupID, i.Asked.Topic, strings.ToUpper(i.Asked.MsgID)}
}

// generation is the one asked for, from 1.
func (i item) generation() int { return max(1, i.Asked.Generation) }

// reached tells what is known of the message itself: a duplicate tells of the
// request that was decided before.
func (i item) reached() events.Outcome {
	switch {
	case i.Fate == InDoubt:
		return events.Unknown
	case i.Fate != events.Duplicate || i.First == nil:
		return i.Fate
	case i.First.Outcome == events.Unknown && i.First.Late != "":
		return events.Outcome(i.First.Late)
	}
	return i.First.Outcome
}

// isLeft reports whether the request sent nothing and may be asked for once more.
func (i item) isLeft() bool {
	return isProblem(i.Fate) && i.Fate != InDoubt && !i.Fate.Closes() && (i.Fate != events.Expired || i.Code == "NotAfter") && !i.Asked.DryRun
}

// findLeftovers finds, of each message, the highest generation that is left, unless
// that one or a higher was or may have been pushed; and the next generation of what
// may have been, unless it was.
func (r *Report) findLeftovers() {
	pushed, unknown := make(map[message]int), make(map[message]int)
	for _, i := range r.items {
		if i.Asked.DryRun {
			continue
		}
		switch m := i.message(); i.reached() {
		case events.Pushed:
			pushed[m] = max(pushed[m], i.generation())
		case events.Unknown:
			unknown[m] = max(unknown[m], i.generation())
		}
	}
	left, doubtful := make(map[message]item), make(map[message]item)
	var inOrder []message
	for _, i := range r.items {
		m := i.message()
		if _, known := left[m]; i.isLeft() && i.generation() > max(pushed[m], unknown[m]) && (!known || i.generation() > left[m].generation()) {
			left[m], inOrder = i, append(inOrder, m)
		}
		if _, known := doubtful[m]; i.reached() == events.Unknown && !i.Asked.DryRun && !known && unknown[m] > pushed[m] {
			i.Asked.Generation = unknown[m] + 1
			doubtful[m], inOrder = i, append(inOrder, m)
		}
	}
	for _, m := range inOrder {
		for from, to := range map[*map[message]item]*[]events.Requested{&left: &r.leftovers, &doubtful: &r.unknowns} {
			i, is := (*from)[m]
			if delete(*from, m); !is {
				continue
			}
			if input, whole := i.input(); whole {
				*to = append(*to, input)
			} else {
				r.Unnamed++
			}
		}
	}
}

// input is the request as inject takes it. It keeps the rules of the contract, or it
// is none.
func (i item) input() (input events.Requested, whole bool) {
	q := i.Asked
	input = events.Requested{
		InstanceID: q.InstanceID, Topic: q.Topic, GroupID: q.GroupID, MsgID: q.MsgID, Reason: "checked without one", ClientID: q.ClientID,
		Generation: q.Generation, StoredAt: q.StoredAt, OnUnknown: q.OnUnknown, OffsetID: q.OffsetID, Unconsumed: q.Unconsumed,
	}
	whole = input.Validate() == nil
	input.Reason = ""
	return input, whole
}

// Leftovers are the requests that sent nothing and whose message is not known to
// have been pushed, as input for inject: without reason, operation, priority and
// notAfter. Those without a whole message are counted in Unnamed instead.
func (r Report) Leftovers() []events.Requested { return slices.Clone(r.leftovers) }

// Unknowns are the messages that may have reached the consumer, each under its next
// generation: to inject them pushes again, on purpose.
func (r Report) Unknowns() []events.Requested { return slices.Clone(r.unknowns) }
