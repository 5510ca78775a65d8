package events

import "time"

// Plan is the data of a repush:Plan:Requested event: find the messages of a
// consumer group that need a push, write them down, and ask for their pushes.
type Plan struct {
	InstanceID string `json:"instanceId,omitempty"`
	GroupID    string `json:"groupId,omitempty"`
	// Reason says why, for the record.
	Reason string    `json:"reason,omitempty"`
	Source Selection `json:"source,omitempty"`
	// Topic narrows the selection to one topic; empty means all that the group
	// may be given. Ids and keys need it.
	Topic string `json:"topic,omitempty"`
	// From and To bound when messages, or dead letters, were stored; zero means
	// as long ago as messages are kept, and now.
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	// IDs are message ids, for the selection ids: 1 to 1,000. Keys are message
	// keys, for the selection key: 1 to 100.
	IDs  []string `json:"ids,omitempty"`
	Keys []string `json:"keys,omitempty"`
	// Limit bounds the messages, below REPUSH_PLAN_LIMIT; 0 means that one.
	Limit int `json:"limit,omitempty"`
	// DryRun ends with the manifest.
	DryRun bool `json:"dryRun,omitempty"`
	// Again selects messages that were pushed before, too, under their next
	// generation. It is a person's to say: honoured for single events by direct
	// invoke or with the token.
	Again       bool   `json:"again,omitempty"`
	RequestedBy string `json:"requestedBy,omitempty"`
}

// Selection says where a plan's messages come from.
type Selection string

// Selections.
const (
	// DeadLetters of the group.
	DeadLetters Selection = "dead-letter"
	// Unconsumed: what the group's offsets have not passed yet.
	Unconsumed Selection = "unconsumed"
	// ByIDs and ByKeys: what a person names.
	ByIDs  Selection = "ids"
	ByKeys Selection = "key"
)

// Planned is the data of a repush:Plan:Completed event: one part of a manifest,
// the frozen list of messages whose pushes are asked for. Its parts agree in all
// but Part, Entries and the message ids of LeftOut.
type Planned struct {
	// OperationID is that of the requests; it follows from the incident and
	// SHA256. Empty when there is no manifest, or when the incident has ended and
	// not all of its manifest was asked for; Code and Message then say why.
	OperationID string `json:"operationId,omitempty"`
	IncidentID  string `json:"incidentId,omitempty"`
	InstanceID  string `json:"instanceId,omitempty"`
	GroupID     string `json:"groupId,omitempty"`
	// Topic is the one that was asked for; empty: all.
	Topic       string    `json:"topic,omitempty"`
	Source      Selection `json:"source,omitempty"`
	Reason      string    `json:"reason,omitempty"`
	RequestedBy string    `json:"requestedBy,omitempty"`
	Code        string    `json:"code,omitempty"`
	Message     string    `json:"message,omitempty"`
	// CutOff is when the list was frozen: what died later is not in it.
	CutOff time.Time `json:"cutOff,omitzero"`
	// Count is the number of entries in all parts, and SHA256 the hash of their
	// canonical form: a line "topic/msgId/generation\n" each, in their order, msgId in
	// upper case.
	Count  int    `json:"count"`
	SHA256 string `json:"sha256,omitempty"`
	// LeftOut says what was found and is not in the list, and why: at most 16
	// reasons.
	LeftOut []LeftOut `json:"leftOut,omitempty"`
	// Incomplete says why there may be more than was found; empty: there is not.
	Incomplete string   `json:"incomplete,omitempty"`
	Estimate   Estimate `json:"estimate"`
	// Calls counts the API calls that the selection cost, by operation: at most 20.
	Calls map[string]int `json:"calls,omitempty"`
	// DryRun: no requests follow.
	DryRun bool `json:"dryRun"`
	// Part counts from 1 to Parts.
	Part    int     `json:"part"`
	Parts   int     `json:"parts"`
	Entries []Entry `json:"entries,omitempty"`
}

// Entry is one message of a manifest.
type Entry struct {
	Topic string `json:"topic"`
	MsgID string `json:"msgId"`
	// OffsetID is the message's other id; empty when not known.
	OffsetID string `json:"offsetId,omitempty"`
	// StoredAt is the message's own store time, not that of its dead letter;
	// zero means not known.
	StoredAt   time.Time `json:"storedAt,omitzero"`
	Generation int       `json:"generation"`
	// Copies counts its dead letters: how often it died. 0 for what is none.
	Copies int `json:"copies,omitempty"`
}

// LeftOut is what one reason kept out of a manifest.
type LeftOut struct {
	// Reason has at most 128 characters.
	Reason string `json:"reason"`
	// Count is over all parts, MsgIDs are those of this part: each is named in
	// one of them.
	Count  int      `json:"count"`
	MsgIDs []string `json:"msgIds,omitempty"`
}

// Estimate says what will become of a manifest's requests, if nothing else is in
// the way.
type Estimate struct {
	// Seconds until the last push, at the quota and behind what waits already.
	Seconds int `json:"seconds"`
	// Expiring is how many messages will be gone before their turn.
	Expiring int `json:"expiring"`
}

var selectionRule = rule{oneOf: []string{string(DeadLetters), string(Unconsumed), string(ByIDs), string(ByKeys)}, says: "dead-letter, unconsumed, ids or key"}

// planFields is in the order of the contract.
var planFields = []field[Plan]{
	{name: "instanceId", required: true, rule: instanceRule, at: func(p *Plan) any { return &p.InstanceID }},
	{name: "groupId", required: true, rule: groupRule, at: func(p *Plan) any { return &p.GroupID }},
	{name: "reason", required: true, rule: proseRule, at: func(p *Plan) any { return &p.Reason }},
	{name: "source", required: true, rule: selectionRule, at: func(p *Plan) any { return (*string)(&p.Source) }},
	{name: "topic", rule: topicRule, at: func(p *Plan) any { return &p.Topic }},
	{name: "from", at: func(p *Plan) any { return &p.From }},
	{name: "to", at: func(p *Plan) any { return &p.To }},
	{name: "ids", rule: msgIDRule.upTo(1000), at: func(p *Plan) any { return &p.IDs }},
	{name: "keys", rule: keyRule.upTo(100), at: func(p *Plan) any { return &p.Keys }},
	{name: "limit", rule: partRule, at: func(p *Plan) any { return &p.Limit }},
	{name: "dryRun", at: func(p *Plan) any { return &p.DryRun }},
	{name: "again", at: func(p *Plan) any { return &p.Again }},
	{name: "requestedBy", rule: proseRule, at: func(p *Plan) any { return &p.RequestedBy }},
}

// agrees returns what is wrong between the fields of a plan.
func (p *Plan) agrees(members []Member) []Problem {
	problems := append(
		when(p.Source != ByIDs, members, "must stand with source ids, and only there", "ids"),
		when(p.Source != ByKeys, members, "must stand with source key, and only there", "keys")...)
	if p.Source == ByIDs || p.Source == ByKeys {
		problems = append(problems, when(false, members, "is required with source ids and key", "topic")...)
	}
	if !p.From.IsZero() && !p.To.IsZero() && !p.From.Before(p.To) {
		problems = append(problems, Problem{"from", "must be before to"})
	}
	return problems
}

// DecodePlan reads the data of a plan as strictly as [DecodeRequested] reads that
// of a request.
func DecodePlan(data []byte) (p Plan, err error) {
	err = decode(&p, planFields, data, p.agrees)
	return p, err
}

// Validate checks a plan made in Go as [Requested.Validate] does a request.
func (p Plan) Validate() error { return validate(p, DecodePlan) }
