package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/openapi"
)

// whyRetention is how long the broker keeps messages and dead letters, unless it
// runs out of space (source: help page "Limits").
const whyRetention = 72 * time.Hour

// whyRuns is how long after a push of unknown outcome its listener may be at it: as
// clients let it by default (consumeTimeout; source: apache/rocketmq
// DefaultMQPushConsumer).
const whyRuns = 15 * time.Minute

// whyTracks are the types of traces in words (sources: help page OnsMessageTrace;
// apache/rocketmq TrackType).
var whyTracks = map[string]string{
	"CONSUMED":              "the group's offset has passed it, whatever became of it",
	"CONSUMED_BUT_FILTERED": "filtered out, as the group does not subscribe to its tag",
	"NOT_CONSUME_YET":       "not consumed yet: the queue still delivers it by itself",
	"NOT_ONLINE":            "nobody of the group is online",
	"UNKNOWN":               "the broker does not know how far the group is",
	"PULL":                  "the group pulls: the broker does not know how far it is",
	"CONSUME_BROADCASTING":  "the group broadcasts: nothing is tried again, and there are no dead letters",
}

// whyOrders are the orders of a ledger in words, what to do before, and the command
// that ends or shows each.
var whyOrders = map[string]struct{ says, first, command string }{
	"Stopped":     {"all pushing is stopped", "ask who stopped it: start lets everything go on; then:", "start"},
	"Paused":      {"the message is paused", "", "continue"},
	"Cancelled":   {"the message was cancelled for good", "if it is still wanted, push it in the console: here it stays cancelled", "status"},
	"BreakerOpen": {"pushes to the group are held back, as they are not permitted", "give the function's role what infra/ram/function.json has: it goes on by itself within ten minutes", "status"},
}

// seen reports whether a read worked.
func (w *why) seen(name string) bool {
	_, failed := w.NotSeen[name]
	return !failed && (name != "ledger" || w.Ledger != nil)
}

// judge says why the message is stuck, what to do and what a push would do. What
// was not seen is no ground for anything.
func (w *why) judge() {
	parts, next := w.ours()
	brokers, steps := w.brokers()
	_, _, other := w.origin()
	if parts = append(parts, brokers...); other || next == nil {
		next = steps
	}
	w.Next, w.APush = next, w.aPush()
	var unseen []string
	for _, name := range []string{"message", "deadLetter", "trace", "online", "ledger"} {
		if f, failed := w.NotSeen[name]; failed {
			unseen = append(unseen, name)
			if !slices.Contains(w.Next, f.Next) {
				w.Next = append(w.Next, f.Next)
			}
		}
	}
	if unseen != nil {
		parts = append(parts, "not seen: "+strings.Join(unseen, ", "))
	}
	w.Verdict = strings.Join(parts, "; ")
}

// wrongName is the answer that a name is wrong; the zero value if none is.
func (w *why) wrongName() whyFailure {
	for _, name := range []string{"message", "online", "deadLetter", "trace"} {
		if f := w.NotSeen[name]; f.Kind == openapi.Names {
			return f
		}
	}
	return whyFailure{}
}

// generation is the highest that is closed, whether one is open, and until when a
// consumer may be at a push of unknown outcome: zero when that is over.
func (w *why) generation() (closed int, open bool, until time.Time) {
	if w.seen("ledger") {
		for _, r := range w.history.History.Requests {
			if open = open || r.Outcome == ""; r.Outcome.Closes() {
				closed = max(closed, r.Generation)
			}
			if ends := r.DecidedAt.Add(whyRuns); r.Outcome == events.Unknown && r.Late == "" && ends.After(w.At) && ends.After(until) {
				until = ends
			}
		}
	}
	return closed, open, until
}

// ours is what was ordered and decided before, and what to do if that decides it.
func (w *why) ours() (says, next []string) {
	if !w.seen("ledger") {
		return nil, nil
	}
	for _, order := range w.history.History.Orders {
		known := whyOrders[order]
		if known.first != "" {
			next = append(next, known.first)
		}
		says, next = append(says, cmp.Or(known.says, "ordered: "+order)), append(next, w.command(cmp.Or(known.command, "status"), w.Asked.Topic, w.Asked.MsgID))
	}
	closed, open, until := w.generation()
	last := ""
	for _, r := range w.history.History.Requests {
		switch at := whyTime(r.DecidedAt); {
		case r.Outcome == "" && r.Code != "":
			last = fmt.Sprintf("generation %d was asked for at %s and waits (%s)", r.Generation, whyTime(r.ReceivedAt), r.Code)
		case r.Outcome == "":
			last = fmt.Sprintf("a push of generation %d is under way", r.Generation)
		case open, closed > 0 && (r.Generation != closed || !r.Outcome.Closes()):
		case r.Outcome == events.Unknown:
			last = fmt.Sprintf("pushed by us at %s as generation %d, outcome unknown: it may have reached the consumer", at, closed)
		case r.Outcome == events.Pushed:
			last = fmt.Sprintf("pushed by us at %s as generation %d, which was accepted; that is not consumed", at, closed)
		default:
			last = fmt.Sprintf("our last request ended as %s at %s", r.Outcome, at)
			w.remedy = fmt.Sprintf("remove what ended it as %s (the result of request %s says what), then:", r.Outcome, r.EventID)
		}
	}
	if last != "" {
		says = append(says, last)
	}
	switch {
	case !until.IsZero():
		next = []string{"wait: a consumer may still be at it; look again after " + until.UTC().Format("15:04Z")}
	case w.Gone:
		next = nil
	case next != nil && w.remedy != "" && !slices.Contains(w.history.History.Orders, "Cancelled"):
		next = append(next, w.pushing()...) // what failed does not go on by itself
	case next != nil:
	case open && strings.HasSuffix(last, "(Paused)"):
		next = []string{strings.Replace(w.command("continue", "", ""), "continue", "continue OPERATION", 1)}
	case open && w.seen("online") && len(w.Online) == 0:
		next = []string{"start a consumer of the group: the request that waits goes on by itself then"}
	case open:
		next = []string{w.command("status", w.Asked.Topic, w.Asked.MsgID)}
	case closed > 0:
		next = w.pushing(whyLook)
	}
	return says, next
}

// brokers is how the broker has it, and what to do.
func (w *why) brokers() (says, next []string) {
	a, nobody := w.Asked, w.seen("online") && len(w.Online) == 0
	group := fmt.Sprintf("nobody of %s is online", a.GroupID)
	if nobody {
		says, next = []string{group}, []string{"start a consumer of the group"}
	}
	add := func(text string, more ...string) ([]string, []string) {
		return append([]string{text}, says...), append(next, more...)
	}
	topic, msgID, other := w.origin()
	isDead, kind := w.DeadLetter.MsgID != "", w.track()
	what, instead := "this names a place in the store", "ask its producer for the message's id"
	if isDead {
		what, instead = "this names a dead letter, which is a copy", "resend it in the console (OnsDLQMessageResendById)"
	}
	switch {
	case other && msgID == "":
		return add(what+"; the origin's id is missing, or is not one", instead)
	case other:
		return []string{fmt.Sprintf("%s: the message to push is %s in %s", what, msgID, topic)}, []string{w.command("why", topic, msgID)}
	case w.wrongName().Code != "":
		return []string{"a name is wrong (" + w.wrongName().Code + ")"}, []string{w.wrongName().Next}
	case w.Gone && isDead:
		return add("the message does not exist any more, only its dead letter", "resend the dead letter in the console (OnsDLQMessageResendById)")
	case w.Gone:
		return []string{fmt.Sprintf("there is no such message in %s: it expired, as messages exist for three days, or it never was there (another topic, instance or region?)", a.Topic)},
			[]string{"check id, topic, instance and region; what has expired only its producer can send again"}
	case isDead:
		return add(fmt.Sprintf("a dead letter after %d retries", w.DeadLetter.ReconsumeTimes), w.pushing()...)
	case kind == "NOT_ONLINE" || kind == "" && nobody:
		return []string{group}, []string{"start a consumer of the group: what its queue still has needs no push"}
	case kind == "NOT_CONSUME_YET":
		return add(whyTracks[kind], "wait for the group, or find out what holds it up: a push is one more delivery")
	case kind == "CONSUMED" && w.seen("deadLetter"):
		return add("consumed already, skipped or being retried: the group's offset has passed it, and there is no dead letter", w.pushing(whyLook)...)
	case kind == "CONSUMED":
		return add("the group's offset has passed it: consumed, skipped or a dead letter")
	case kind == "CONSUMED_BUT_FILTERED":
		return add(whyTracks[kind], w.pushing("subscribe to the tag, then:")...)
	case kind == "PULL":
		return add(whyTracks[kind], "wait for the group: it fetches messages by itself")
	case kind != "":
		return add(cmp.Or(whyTracks[kind], "the trace says "+kind), w.pushing(whyLook)...)
	case w.seen("trace"):
		return add(fmt.Sprintf("%s does not subscribe to %s, as it has no trace of it", a.GroupID, a.Topic), "check the group and its subscriptions")
	case w.seen("deadLetter"):
		return add("it is no dead letter")
	}
	return says, next
}

// track is the type of the group's trace; empty when there is none.
func (w *why) track() string {
	for _, t := range w.Trace {
		if t.Group == w.Asked.GroupID {
			return t.Type
		}
	}
	return ""
}

// origin names the message that was found, or that the dead letter is a copy of:
// empty when none was, or when what its producer wrote is no id. other: it is not
// the one that was asked about.
func (w *why) origin() (topic, msgID string, other bool) {
	a, p := w.Asked, w.DeadLetter.Properties
	if w.Message.MsgID != "" {
		topic, msgID = a.Topic, cmp.Or(w.Message.Properties["UNIQ_KEY"], w.Message.MsgID)
	} else {
		for _, name := range []string{"DLQ_ORIGIN_TOPIC", "REAL_TOPIC", "RETRY_TOPIC"} { // copies of copies name %RETRY%…
			if plain := strings.TrimPrefix(p[name], a.InstanceID+"%"); topic == "" && !strings.HasPrefix(plain, "%") {
				topic = plain
			}
		}
		msgID = cmp.Or(p["UNIQ_KEY"], p["DLQ_ORIGIN_MESSAGE_ID"], p["ORIGIN_MESSAGE_ID"])
	}
	if (events.Requested{InstanceID: a.InstanceID, Topic: topic, GroupID: a.GroupID, MsgID: msgID, Reason: "why"}).Validate() != nil {
		topic, msgID = "", ""
	}
	return topic, msgID, w.found() && (topic != a.Topic || !strings.EqualFold(msgID, a.MsgID))
}

// found reports whether the message or its dead letter was seen: without, the id
// asked about may be a second one of a message that the ledger knows by the first.
func (w *why) found() bool { return w.Message.MsgID != "" || w.DeadLetter.MsgID != "" }

// aPush says what a push would do now.
func (w *why) aPush() string {
	closed, open, until := w.generation()
	var orders []string
	if w.seen("ledger") {
		orders = w.history.History.Orders
	}
	says := ""
	_, msgID, other := w.origin()
	switch {
	case w.wrongName().Code != "":
		return "would fail: a name is wrong"
	case other:
		return "would be one more delivery of " + cmp.Or(msgID, "its origin")
	case slices.Contains(orders, "Cancelled"):
		return "would end as cancelled"
	case len(orders) > 0:
		return "would wait until that order is lifted"
	case open:
		return "would wait for the request that is open"
	case closed > 0:
		says = fmt.Sprintf("would answer duplicate, because generation %d is closed", closed)
		if w.found() && !w.Gone && until.IsZero() {
			says += fmt.Sprintf("; --again=%d pushes once more, if REPUSH_MAX_PUSHES allows", closed+1)
		}
		return says
	case w.Gone:
		return "would fail, for there is no such message"
	case !w.Message.StoredAt.IsZero() && w.At.After(w.Message.StoredAt.Add(whyRetention)):
		return "would expire: the message is older than three days"
	case !w.found():
		return "not known: the message was not seen"
	case !w.seen("online"):
		return "not known: who is online was not seen"
	case len(w.Online) == 0:
		says = "is refused now, because nobody is online; a ledger that lasts tries again when somebody is"
	default:
		says = "would be accepted for " + w.Online[0].ClientID
	}
	switch kind := w.track(); {
	case kind == "NOT_CONSUME_YET":
		says += "; maybe a duplicate, because the queue still delivers it"
	case w.DeadLetter.MsgID == "" && (kind == "UNKNOWN" || kind == "NOT_ONLINE" || !w.seen("trace")):
		says += "; maybe a duplicate, because the queue may still deliver it"
	case w.DeadLetter.MsgID == "" && kind == "":
		says += "; but the group does not subscribe to it"
	case kind == "PULL":
		says += "; but a client that pulls may not take it"
	case kind == "CONSUME_BROADCASTING":
		says += "; no other client of the group gets it"
	}
	if !w.seen("ledger") {
		says += "; whether it was pushed before is not known"
	}
	return says
}

// whyLook goes before a push of what may have been consumed.
const whyLook = "look for it in the consumer's own records; if it is missing there:"

// pushing are steps that end in a push: through the function whose ledger knows, if
// it is named, else from this machine, whose ledger knows nothing of a function's.
func (w *why) pushing(before ...string) []string {
	if !w.found() {
		return nil
	}
	if w.remedy != "" {
		before = slices.Insert(before, 0, w.remedy)
	}
	verb, more, a := "inject", ` --reason "WHY"`, w.Asked
	if w.where.to == "" {
		verb = "push"
		before = append(slices.Insert(before, 0, w.command("why", a.Topic, a.MsgID)+" --to TARGET"), "only if no function has pushed it:")
	}
	if closed, _, _ := w.generation(); closed > 0 {
		more += fmt.Sprintf(" --again=%d", closed+1)
	}
	return append(before, w.command(verb, a.Topic, a.MsgID)+more)
}

// command is a command line about a message, quoted for a shell. What stands behind
// the "?" of an address may be a secret.
func (w *why) command(verb, topic, msgID string) string {
	o, line := w.where, "repush "+verb
	var flags [][2]string
	if verb == "push" || verb == "inject" || verb == "why" || verb == "status" || verb == "continue" && msgID != "" {
		flags = [][2]string{{"instance", w.Asked.InstanceID}, {"topic", topic}, {"group", w.Asked.GroupID}, {"msg", msgID}}
	}
	flags = append(flags, [2]string{"region", o.region})
	if verb == "push" || verb == "why" {
		flags = append(flags, [2]string{"ons", o.ons})
	}
	if address, _, more := strings.Cut(o.to, "?"); more && strings.HasPrefix(address, "http") {
		o.to = address + "?…"
	}
	if verb != "push" {
		flags = append(flags, [2]string{"to", o.to}, [2]string{"account", o.account}, [2]string{"endpoint", o.endpoint})
	}
	for _, f := range flags {
		if f[1] != "" {
			line += " --" + f[0] + " " + quoted(f[1])
		}
	}
	return line
}

// quoted is text as one word of a shell's.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
