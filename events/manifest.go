package events

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SourcePlan is the CloudEvents source of what functions/plan sends.
const SourcePlan = "ons-repush/plan"

// MaxPartBytes bounds one part as the event that [NewPlanned] makes of it: what
// fits into a message of MNS, which is 64 KB of base64, fits everywhere (sources:
// MNS and EventBridge "Limits", 64 KB each).
const MaxPartBytes = 48 << 10

// However texts are escaped, these leave a third of [MaxPartBytes] to the lists of a
// part. Those bounds are more than it holds.
var (
	sha256Rule   = rule{min: 64, max: 64, lengths: []int{64}, chars: digit + "abcdef", says: "64 hexadecimal digits in lower case"}
	leftOutRule  = textOf(128).upTo(16)
	listRule     = rule{most: 1500}
	callRule     = rule{min: 1, max: 40, most: 20, chars: word, says: "1 to 40 letters and digits"}
	partRule     = rule{min: 1, max: 10_000, says: "a whole number from 1 to 10000"}
	quantityRule = rule{min: 0, max: 1e9, says: "a whole number from 0 to 1000000000"}
)

// plannedFields, entryFields, leftOutFields and estimateFields are in the order
// of the contract.
var plannedFields = []field[Planned]{
	{name: "operationId", rule: operationRule, at: func(p *Planned) any { return &p.OperationID }},
	{name: "incidentId", rule: operationRule, at: func(p *Planned) any { return &p.IncidentID }},
	{name: "instanceId", rule: instanceRule, at: func(p *Planned) any { return &p.InstanceID }},
	{name: "groupId", rule: groupRule, at: func(p *Planned) any { return &p.GroupID }},
	{name: "topic", rule: topicRule, at: func(p *Planned) any { return &p.Topic }},
	{name: "source", rule: selectionRule, at: func(p *Planned) any { return (*string)(&p.Source) }},
	{name: "reason", rule: proseRule, at: func(p *Planned) any { return &p.Reason }},
	{name: "requestedBy", rule: proseRule, at: func(p *Planned) any { return &p.RequestedBy }},
	{name: "code", rule: proseRule, at: func(p *Planned) any { return &p.Code }},
	{name: "message", rule: resultRule, at: func(p *Planned) any { return &p.Message }},
	{name: "cutOff", at: func(p *Planned) any { return &p.CutOff }},
	{name: "count", required: true, rule: quantityRule, at: func(p *Planned) any { return &p.Count }},
	{name: "sha256", rule: sha256Rule, at: func(p *Planned) any { return &p.SHA256 }},
	{name: "leftOut", at: func(p *Planned) any {
		return listOf(&p.LeftOut, leftOutRule, func(l *LeftOut) any { return objectOf(l, leftOutFields) })
	}},
	{name: "incomplete", rule: resultRule, at: func(p *Planned) any { return &p.Incomplete }},
	{name: "estimate", required: true, at: func(p *Planned) any { return objectOf(&p.Estimate, estimateFields) }},
	{name: "calls", at: func(p *Planned) any { return p.readCalls }},
	{name: "dryRun", required: true, at: func(p *Planned) any { return &p.DryRun }},
	{name: "part", required: true, rule: partRule, at: func(p *Planned) any { return &p.Part }},
	{name: "parts", required: true, rule: partRule, at: func(p *Planned) any { return &p.Parts }},
	{name: "entries", at: func(p *Planned) any {
		return listOf(&p.Entries, listRule, func(e *Entry) any { return objectOf(e, entryFields) })
	}},
}

var entryFields = []field[Entry]{
	{name: "topic", required: true, rule: topicRule, at: func(e *Entry) any { return &e.Topic }},
	{name: "msgId", required: true, rule: msgIDRule, at: func(e *Entry) any { return &e.MsgID }},
	{name: "offsetId", rule: offsetIDRule, at: func(e *Entry) any { return &e.OffsetID }},
	{name: "storedAt", at: func(e *Entry) any { return &e.StoredAt }},
	{name: "generation", required: true, rule: generationRule, at: func(e *Entry) any { return &e.Generation }},
	{name: "copies", rule: quantityRule, at: func(e *Entry) any { return &e.Copies }},
}

var leftOutFields = []field[LeftOut]{
	{name: "reason", required: true, rule: leftOutRule, at: func(l *LeftOut) any { return &l.Reason }},
	{name: "count", required: true, rule: quantityRule, at: func(l *LeftOut) any { return &l.Count }},
	{name: "msgIds", rule: msgIDRule.upTo(listRule.most), at: func(l *LeftOut) any { return &l.MsgIDs }},
}

var estimateFields = []field[Estimate]{
	{name: "seconds", required: true, rule: quantityRule, at: func(e *Estimate) any { return &e.Seconds }},
	{name: "expiring", required: true, rule: quantityRule, at: func(e *Estimate) any { return &e.Expiring }},
}

// readCalls reads a number for each name of an API operation.
func (p *Planned) readCalls(raw json.RawMessage) (problems []Problem) {
	members, err := Members(raw)
	if err != nil || len(members) == 0 || len(members) > callRule.most {
		return []Problem{{"", "must be an object with 1 to 20 operations of the API"}}
	}
	p.Calls = make(map[string]int, len(members))
	for _, m := range members {
		n := 0
		if quantityRule.readInt(&n, m.Value) != "" || !callRule.allows(m.Name) {
			problems = append(problems, Problem{printable(m.Name), "must be " + quantityRule.says + ", by a name of " + callRule.says})
			continue
		}
		p.Calls[m.Name] = n
	}
	return problems
}

// agrees returns what is wrong between the fields of a part.
func (p *Planned) agrees(members []Member) (problems []Problem) {
	if given(members, "operationId") {
		problems = when(false, members, "is required with operationId", "incidentId", "instanceId", "groupId", "source", "cutOff", "sha256")
	} else {
		problems = append(when(true, members, "must be absent without operationId", "sha256", "entries"),
			when(false, members, "is required without operationId: why is there no manifest?", "message")...)
	}
	if p.Parts > 0 && p.Part > p.Parts {
		problems = append(problems, Problem{"part", "must not be above parts"})
	}
	return problems
}

// DecodePlanned reads one part of a manifest as strictly as [DecodeRequested] reads
// a request. [Manifest] says whether parts make a manifest.
func DecodePlanned(data []byte) (p Planned, err error) {
	err = decode(&p, plannedFields, data, p.agrees)
	return p, err
}

// Validate checks a part made in Go as [Requested.Validate] does a request.
func (p Planned) Validate() error { return validate(p, DecodePlanned) }

// NewPlanned wraps one part, as [Parts] makes them, into its event. The id follows
// from Part and OperationID or, where there is none, request, which no other
// request has. The time is CutOff or, where that is zero, at. Texts but those of
// LeftOut are clipped to their rule. The error means a part that breaks another
// rule, whose event is larger than [MaxPartBytes], or that has neither operation
// nor request.
func NewPlanned(p Planned, request string, at time.Time) (Event, error) {
	p.clip()
	of := "request " + request
	if p.OperationID != "" {
		of = "operation " + p.OperationID
	}
	if !p.CutOff.IsZero() {
		at = p.CutOff
	}
	e := Event{ID: ResultID(of, strconv.Itoa(p.Part), false), Source: SourcePlan, Type: TypePlanCompleted, Subject: p.InstanceID + "/" + p.GroupID, Time: at}
	err := p.Validate()
	if err == nil {
		e.Data, err = marshal(p)
	}
	if err == nil && (of == "request " || size(e) > MaxPartBytes) {
		err = fmt.Errorf("it needs an operation or a request, and at most %d bytes, as Parts see to it", MaxPartBytes)
	}
	if err != nil {
		return Event{}, fmt.Errorf("events: part %d of a manifest: %w", p.Part, err)
	}
	return e, nil
}

// ManifestHash is the SHA256 of a manifest with these entries, in hexadecimal: over
// a line "topic/msgId/generation\n" each, in their order, msgId in upper case.
func ManifestHash(entries []Entry) string {
	sum := sha256.New()
	for _, e := range entries {
		fmt.Fprintf(sum, "%s/%s/%d\n", e.Topic, strings.ToUpper(e.MsgID), e.Generation)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// clip makes texts fit.
func (p *Planned) clip() {
	p.Reason, p.RequestedBy, p.Code = proseRule.clip(p.Reason), proseRule.clip(p.RequestedBy), proseRule.clip(p.Code)
	p.Message, p.Incomplete = resultRule.clip(p.Message), resultRule.clip(p.Incomplete)
}

// head is what all parts of a manifest have in common.
func (p Planned) head() Planned {
	p.Part, p.Entries, p.LeftOut = 0, nil, slices.Clone(p.LeftOut)
	for i := range p.LeftOut {
		p.LeftOut[i].MsgIDs = nil
	}
	return p
}

// size is what v takes as JSON; 0 for what [NewPlanned] refuses.
func size(v any) int {
	raw, _ := marshal(v)
	return len(raw)
}

// Parts splits a manifest that is whole, with all entries and all message ids of
// what was left out, into one or more parts that keep [MaxPartBytes]: the entries
// first, in their order, then the ids, each once for a reason. It sets Part and
// Parts, clips texts as [NewPlanned] does and leaves p alone. The same manifest is split
// in the same way every time.
func Parts(p Planned) []Planned {
	p.clip()
	const around = 1024 // more than is around the head and the lists in an event
	room := MaxPartBytes - around - size(p.head())
	parts, left := []Planned{p.head()}, room
	with := func(one any) *Planned {
		cost := size(one) + len(`,`)
		if left -= cost; left < 0 {
			parts, left = append(parts, p.head()), room-cost
		}
		return &parts[len(parts)-1]
	}
	for _, e := range p.Entries {
		part := with(e)
		part.Entries = append(part.Entries, e)
	}
	for i, out := range p.LeftOut {
		named := make(map[string]bool, len(out.MsgIDs))
		for _, id := range out.MsgIDs {
			if upper := strings.ToUpper(id); !named[upper] {
				named[upper] = true
				ids := &with(id).LeftOut[i].MsgIDs
				*ids = append(*ids, id)
			}
		}
	}
	for i := range parts {
		parts[i].Part, parts[i].Parts = i+1, len(parts)
	}
	return parts
}

// Manifest puts the parts of a manifest together again, in whatever order and how
// often they arrived, and checks that all are there, of one manifest, and hold the
// messages that it counts and hashes. The result is what [Parts] took; its Part and
// Parts are 0. Each part must have passed [DecodePlanned]. After an error, collect
// the parts again, or plan anew.
func Manifest(parts ...Planned) (whole Planned, err error) {
	parts = slices.SortedStableFunc(slices.Values(parts), func(a, b Planned) int { return cmp.Compare(a.Part, b.Part) })
	parts = slices.CompactFunc(parts, func(a, b Planned) bool { return reflect.DeepEqual(a, b) })
	for i, part := range parts {
		if i == 0 {
			whole = part.head()
		}
		if part.Part != i+1 || !reflect.DeepEqual(part.head(), parts[0].head()) {
			return Planned{}, fmt.Errorf("manifest: part %d of %d is missing, there twice with a difference, or of another manifest", i+1, part.Parts)
		}
		whole.Entries = append(whole.Entries, part.Entries...)
		for of, out := range part.LeftOut {
			whole.LeftOut[of].MsgIDs = append(whole.LeftOut[of].MsgIDs, out.MsgIDs...)
		}
	}
	switch hash := ManifestHash(whole.Entries); {
	case len(parts) == 0 || len(parts) != whole.Parts:
		err = fmt.Errorf("manifest: %d of its %d parts are there", len(parts), whole.Parts)
	case len(whole.Entries) != whole.Count:
		err = fmt.Errorf("manifest: it says that it has %d messages, and has %d", whole.Count, len(whole.Entries))
	case whole.OperationID != "" && hash != whole.SHA256:
		err = fmt.Errorf("manifest: its messages are not those that were planned: their hash is %s, and it says %s", hash, whole.SHA256)
	}
	whole.Parts = 0
	return whole, err
}
