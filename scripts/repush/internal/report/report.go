package report

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// Fates of a request without a result, beside the outcomes of those that have one:
// begun, so that it may have reached the consumer; a function's or a queue's, which
// goes on with it; or none of that, as far as the input tells.
const (
	InDoubt  events.Outcome = "in doubt"
	UnderWay events.Outcome = "under way"
	NoResult events.Outcome = "no result yet"
)

// Fates lists all of them and every outcome: what a person has to look at first.
func Fates() []events.Outcome {
	return []events.Outcome{
		events.Unknown, InDoubt, events.Failed, events.Abandoned, events.Rejected, events.Expired, events.Cancelled, NoResult,
		UnderWay, events.Duplicate, events.Simulated, events.Pushed,
	}
}

// isProblem reports whether a fate needs a person.
func isProblem(o events.Outcome) bool {
	return o != UnderWay && o != events.Duplicate && o != events.Simulated && o != events.Pushed
}

// Options of a report.
type Options struct {
	Title string    // empty: the reason of the (first) run, or "Repush report"
	QPS   float64   // the quota, pushes a second; 0: that of the run (the highest), or 10
	Now   time.Time // when it is made; zero: now
}

// Report is what [New] found out. It does not change any more.
type Report struct {
	Summary
	Title string
	Made  time.Time

	items       []item // in the order of Fates, then of their decisions
	causes      []cause
	pushes      []time.Time // when they began, in order
	waits, ends []int64     // wait and call of those that were called, in milliseconds, in order
	problems    []string

	leftovers, unknowns []events.Requested
}

type item struct {
	result
	Fate  events.Outcome
	Asked events.Requested
}

// cause is what requests with one fate and code have in common.
type cause struct {
	Fate          events.Outcome
	Code          string
	Twice         bool // maybe given twice
	Count         int
	Message, Hint string // of one of them
	Others        int    // of them say something else
}

// New works out what there is to say. results may be used on.
func New(results *Results, o Options) Report {
	r := Report{Title: clean(cmp.Or(o.Title, results.reason, "Repush report")), Made: cmp.Or(o.Now, time.Now()), problems: slices.Clone(results.Problems), items: results.items()}
	slices.SortStableFunc(r.items, func(a, b item) int {
		return cmp.Or(cmp.Compare(slices.Index(Fates(), a.Fate), slices.Index(Fates(), b.Fate)), a.DecidedAt.Compare(b.DecidedAt))
	})
	r.summarise(cmp.Or(o.QPS, results.qps, 10))
	r.findCauses()
	r.findLeftovers()
	r.Left, r.Again, r.PassedOver, r.Wrong = len(r.leftovers), len(r.unknowns), results.PassedOver, results.Wrong
	return r
}

// items joins requests and results.
func (r *Results) items() []item {
	answered := make(map[request]bool)
	all := make([]item, 0, len(r.requests)+len(r.told))
	for _, one := range r.told {
		of := request{one.Request.Source, one.Request.ID}
		answered[of] = true
		i := item{result: *one, Fate: one.Outcome, Asked: r.asked[of]}
		if one.Request.Data != nil && (one.own || i.Asked.MsgID == "") {
			i.Asked = *one.Request.Data
		}
		if i.Fate == events.Pushed && i.MaybeDuplicate {
			i.Message = cmp.Or(i.Message, "the consumer may have it twice")
			i.Hint = cmp.Or(i.Hint, "compare with the consumer's own records, where a second delivery hurts")
		}
		i.Hint = cmp.Or(i.Hint, hint(i.Fate))
		all = append(all, i)
	}
	for _, one := range r.requests {
		if answered[one] {
			continue
		}
		i := item{Fate: cmp.Or(r.marks[one.id], NoResult), Asked: r.asked[one]}
		i.Message = map[events.Outcome]string{
			NoResult: "not begun, or given back",
			UnderWay: "waits in the function or its queue, which goes on with it",
			InDoubt:  "begun, and no answer came: it may have reached the consumer",
		}[i.Fate]
		i.Hint = hint(i.Fate)
		i.Request.ID, i.Request.Source = one.id, one.source
		all = append(all, i)
	}
	return all
}

// hint is what to do where no result says it.
func hint(o events.Outcome) string {
	return map[events.Outcome]string{
		events.Unknown:   "look in the consumer's log whether the message arrived before asking again with the next generation",
		InDoubt:          "resume the run first: the function's ledger tells what became of it, and a push of the next generation may be one too many",
		events.Failed:    "remove the cause, then inject the leftovers",
		events.Abandoned: "remove the reason, then inject the leftovers",
		events.Rejected:  "correct the request and send it under a new id",
		events.Expired:   "restore the message from its producer; if only its notAfter passed, inject the leftovers",
		events.Cancelled: "if it is still wanted, ask under another operation; a message that was cancelled itself stays so",
		events.Duplicate: "nothing; to push the message once more on purpose, ask for a higher generation",
		NoResult:         "resume the run, or inject the leftovers",
		UnderWay:         "resume the run later to take up its result, or give the function's results to this report as well",
	}[o]
}

func (r *Report) findCauses() {
	for _, i := range r.items {
		at := slices.IndexFunc(r.causes, func(c cause) bool { return c.Fate == i.Fate && c.Code == i.Code && c.Twice == i.MaybeDuplicate })
		if at < 0 {
			at = len(r.causes)
			r.causes = append(r.causes, cause{Fate: i.Fate, Code: i.Code, Twice: i.MaybeDuplicate, Message: i.Message, Hint: i.Hint})
		}
		c := &r.causes[at]
		c.Count++
		if c.Hint = cmp.Or(c.Hint, i.Hint); i.Message != c.Message || i.Hint != c.Hint {
			c.Others++
		}
	}
	slices.SortStableFunc(r.causes, func(a, b cause) int {
		return cmp.Or(cmp.Compare(slices.Index(Fates(), a.Fate), slices.Index(Fates(), b.Fate)), cmp.Compare(b.Count, a.Count))
	})
}

// message is what is pushed, whoever asked.
type message struct{ instance, group, topic, id string }

func (i item) message() message {
	return message{i.Asked.InstanceID, i.Asked.GroupID, i.Asked.Topic, strings.ToUpper(i.Asked.MsgID)}
}

// standing is what a request tells of its message: pushed, unknown (which it may have
// been), UnderWay (it is to be waited for, or its run resumed), NoResult (it was surely
// not, and may be asked for again), or nothing, as of what was cancelled on purpose, or
// pushed as often as is allowed.
func (i item) standing() events.Outcome {
	reached := i.Fate
	if reached == events.Duplicate && i.First != nil {
		reached = cmp.Or(events.Outcome(i.First.Late), i.First.Outcome)
	}
	switch {
	case i.Asked.DryRun:
	case reached.Closes(), reached == UnderWay:
		return reached
	case i.Fate == InDoubt: // a resumed run settles it without a push
		return UnderWay
	case isProblem(i.Fate) && i.Fate != events.Cancelled && i.Code != "MaxPushes" && (i.Fate != events.Expired || i.Code == "NotAfter"):
		return NoResult
	}
	return ""
}

// findLeftovers finds, of each message, the highest generation that is left, unless
// that one or a higher was, may have been or may yet be pushed; and the next generation of what
// may have been, unless it was or may yet be.
func (r *Report) findLeftovers() {
	left, waiting, unknown, pushed := make(map[message]int), make(map[message]int), make(map[message]int), make(map[message]int)
	highest := map[events.Outcome]map[message]int{NoResult: left, UnderWay: waiting, events.Unknown: unknown, events.Pushed: pushed}
	for _, i := range r.items {
		if of := highest[i.standing()]; of != nil {
			of[i.message()] = max(of[i.message()], i.Asked.Generation, 1)
		}
	}
	for _, i := range r.items {
		to, m, generation := &r.leftovers, i.message(), max(i.Asked.Generation, 1)
		switch standing := i.standing(); {
		case standing == NoResult && generation == left[m] && generation > max(pushed[m], unknown[m], waiting[m]):
			delete(left, m) // once
		case standing == events.Unknown && generation == unknown[m] && generation > max(pushed[m], waiting[m]):
			i.Asked.Generation, to = generation+1, &r.unknowns
			pushed[m] = generation // once
		default:
			continue
		}
		if input, whole := inputOf(i.Asked); whole {
			*to = append(*to, input)
		} else {
			r.Unnamed++
		}
	}
}

// inputOf is a request as inject takes it again. It keeps the rules of the contract,
// or it is not whole.
func inputOf(q events.Requested) (input events.Requested, whole bool) {
	input = events.Requested{
		InstanceID: q.InstanceID, Topic: q.Topic, GroupID: q.GroupID, MsgID: q.MsgID, Reason: "checked with one", ClientID: q.ClientID,
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
