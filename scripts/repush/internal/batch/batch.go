// Package batch reads what shall be pushed: CSV, JSON Lines, a JSON array or object of
// CloudEvents or their data, or the manifest of a plan. All of it is right, or the
// error names everything that is not. The format follows from the content, never from
// a name. The package does no I/O and has no clock.
package batch

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// Limits of what is read. A row, a line or an element of an array has at most
// [events.MaxEventBytes]; a manifest written by plan may be as large as its input.
const (
	MaxInputBytes = 64 << 20
	MaxMessages   = 100_000
)

// Input is what one file holds. Events of a batch may alias Data.
type Input struct {
	Name string // "" or "-": standard input
	Data []byte
}

// Options fill in what rows, data and manifests leave out; what they say wins.
// CloudEvents are sent as they are.
type Options struct {
	Defaults events.Requested // the fields that are not zero
	Now      time.Time        // of the events that are made
}

// Batch is what shall be pushed.
type Batch struct {
	// Items are in the order in which they expire, after [MaxAge] or their notAfter;
	// those of unknown age come last, as they were read.
	Items       []Item
	Plans       []events.Event // repush:Plan:Requested, of inputs that hold nothing else
	OperationID string         // that all items share; empty: there is none
	Incomplete  string         // why there may be more messages than in a manifest; empty: there are not
}

// Item is one message to push.
type Item struct {
	Place   string // "orders.csv line 17", "line 17", "event 3 of x.json", "entry 2 of plan.json"
	Event   events.Event
	Request events.Requested // the data of Event
}

// Problem is all that is wrong with one record, or with an input as such. It quotes no
// value but the names of columns and fields.
type Problem struct{ Place, Rule string }

// Problems is everything that is wrong, in the order of reading.
type Problems struct {
	Checked int // records, and inputs that could not be taken apart
	List    []Problem
}

// Error has one line with the count and one for each problem.
func (p *Problems) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%d of %d are wrong", len(p.List), p.Checked)
	for _, one := range p.List {
		fmt.Fprintf(&text, "\n  %s: %s", one.Place, one.Rule)
	}
	return text.String()
}

// Read reads the requests of all inputs. The error is a [*Problems], and the batch is
// then empty: nothing is half accepted. An input without requests is a problem.
func Read(inputs []Input, o Options) (Batch, error) {
	r := reading{Options: o, defaults: fieldsOf(o.Defaults), once: make(map[string]string)}
	if invalid, is := errors.AsType[*events.ValidationError](o.Defaults.Validate()); is {
		for _, p := range invalid.Problems {
			if p.Rule != "is required" { // or each row would say so
				r.wrong("the flags", errors.New(p.Field+": "+p.Rule))
			}
		}
	}
	if r.List != nil {
		return Batch{}, &r.Problems
	}
	for _, in := range inputs {
		r.read(in)
	}
	for _, m := range r.manifests {
		r.manifest(m)
	}
	if r.List != nil {
		return Batch{}, &r.Problems
	}
	r.finish()
	return r.batch, nil
}

type fields = map[string]json.RawMessage

// fieldsOf are the fields that are not zero.
func fieldsOf(a events.Requested) (f fields) {
	raw, _ := json.Marshal(a) // what fails lacks everything, which is found then
	_ = json.Unmarshal(raw, &f)
	return f
}

type reading struct {
	Options
	Problems
	batch     Batch
	defaults  fields
	manifests []manifest        // that come in parts
	once      map[string]string // the places of what may be there once
}

// record is one of what an input is made of.
type record struct {
	place   string
	err     error           // why it has nothing of the following
	fields  fields          // of a request
	raw     json.RawMessage // or any object, and its members
	members []events.Member
}

func (r *reading) wrong(place string, err error) {
	r.Checked++
	r.List = append(r.List, Problem{place, err.Error()})
}

func (r *reading) read(in Input) {
	plans, others := len(r.batch.Plans), len(r.batch.Items)+len(r.manifests)
	for rec := range in.records {
		if !r.take(in, rec) {
			return
		}
	}
	if len(r.batch.Plans) > plans && len(r.batch.Items)+len(r.manifests) > others {
		r.wrong(in.name(), errors.New("holds requests for plans beside others: put them into a file of their own"))
	}
}

// take reports whether there may be more.
func (r *reading) take(in Input, rec record) bool {
	has := func(name string) bool {
		return slices.ContainsFunc(rec.members, func(m events.Member) bool { return m.Name == name })
	}
	switch {
	case r.Checked >= MaxMessages:
		r.wrong(rec.place, fmt.Errorf("is more than %d in all: inject them in several runs", MaxMessages))
		return false
	case rec.err != nil:
		r.wrong(rec.place, rec.err)
	case rec.fields != nil:
		r.request(rec.place, rec.fields)
	case has("parts") && !has("specversion"):
		r.wholeManifest(in, rec)
	case len(rec.raw) > events.MaxEventBytes:
		r.wrong(rec.place, events.ErrTooLarge)
	case events.LooksRequested(rec.members):
		f := make(fields, len(rec.members))
		for _, m := range rec.members {
			f[m.Name] = m.Value
		}
		r.request(rec.place, f)
	default:
		r.event(in, rec)
	}
	return true
}

// request makes the event of a request. Its id follows from the run, whose name is the
// operation of the defaults, the message and the generation: what is injected again, a
// manifest too, is another request, so that what failed can be tried anew.
func (r *reading) request(place string, f fields) {
	all := maps.Clone(r.defaults)
	maps.Copy(all, f)
	raw, _ := json.Marshal(all) // values that were JSON before
	asked, err := events.DecodeRequested(raw)
	if err != nil {
		r.wrong(place, err)
		return
	}
	sum := sha256.Sum256([]byte(r.Defaults.OperationID + "\x00" + message(asked)))
	r.add(Item{Place: place, Request: asked, Event: events.Event{
		ID: "repush-" + hex.EncodeToString(sum[:16]), Source: "repush/inject/" + r.Defaults.RequestedBy,
		Type: events.TypeMessageRequested, Time: r.Now.UTC().Truncate(time.Second),
	}})
}

func (r *reading) event(in Input, rec record) {
	e, err := events.FromMembers(rec.members)
	it, part := Item{Place: rec.place, Event: e}, events.Planned{}
	switch {
	case err != nil:
	case e.Type == events.TypeMessageRequested:
		it.Request, err = events.DecodeRequested(e.Data)
	case e.Type == events.TypePlanRequested:
		_, err = events.DecodePlan(e.Data)
	case e.Type == events.TypePlanCompleted:
		part, err = events.DecodePlanned(e.Data)
	case e.Type == events.TypeMessageCompleted:
		err = errors.New("type: is a result, not a request: 'repush report --leftovers' makes requests of what is left")
	default:
		err = fmt.Errorf("type: must be %s, %s or %s", events.TypeMessageRequested, events.TypePlanRequested, events.TypePlanCompleted)
	}
	switch {
	case err != nil:
		r.wrong(rec.place, err)
	case e.Type == events.TypeMessageRequested:
		r.add(it)
	case e.Type == events.TypePlanCompleted:
		r.collect(in, rec.place, part)
	case r.first(rec.place, "source and id", e.Source+"\x00"+e.ID):
		r.Checked++
		r.batch.Plans = append(r.batch.Plans, e)
	}
}

func (r *reading) add(it Item) {
	if r.first(it.Place, "message and generation", message(it.Request)) && r.first(it.Place, "event id", it.Event.ID) {
		r.Checked++
		r.batch.Items = append(r.batch.Items, it)
	}
}

// first reports whether there was none such before.
func (r *reading) first(place, what, which string) bool {
	key := what + "\x00" + which
	before, again := r.once[key]
	if again {
		r.wrong(place, fmt.Errorf("the same %s as %s", what, before))
	} else {
		r.once[key] = place
	}
	return !again
}

// message names what is pushed once.
func message(a events.Requested) string {
	return strings.Join([]string{a.InstanceID, a.Topic, a.GroupID, strings.ToUpper(a.MsgID), strconv.Itoa(max(a.Generation, 1))}, "\x00")
}

// finish does what needs all items. A person waits for a few of them, not for many.
func (r *reading) finish() {
	items, priority, shared := r.batch.Items, events.PriorityHuman, len(r.batch.Items) > 0
	if len(items) > 20 {
		priority = events.PriorityBulk
	}
	for i := range items {
		it := &items[i]
		if it.Event.Data == nil {
			it.Request.Priority = cmp.Or(it.Request.Priority, priority)
			it.Event.Data, _ = json.Marshal(it.Request) // was decoded: cannot fail
		}
		shared = shared && it.Request.OperationID == items[0].Request.OperationID
	}
	if shared {
		r.batch.OperationID = items[0].Request.OperationID
	}
	slices.SortStableFunc(items, func(a, b Item) int { return expiry(a.Request, MaxAge).Compare(expiry(b.Request, MaxAge)) })
}
