package events

import (
	"slices"
	"time"
)

// Requested is the data of a repush:Message:Requested event: push this message
// once more to a consumer of this group.
type Requested struct {
	InstanceID string `json:"instanceId,omitempty"`
	// Topic is the original topic of the message.
	Topic   string `json:"topic,omitempty"`
	GroupID string `json:"groupId,omitempty"`
	MsgID   string `json:"msgId,omitempty"`
	// Reason says why, for the record: 1 to 256 characters.
	Reason string `json:"reason,omitempty"`
	// ClientID names the consumer to push to; empty means any that is online.
	ClientID    string   `json:"clientId,omitempty"`
	RequestedBy string   `json:"requestedBy,omitempty"`
	OperationID string   `json:"operationId,omitempty"`
	Priority    Priority `json:"priority,omitempty"`
	// Generation counts intended pushes of one message; 0 means 1. A message
	// that was pushed, or may have been, is pushed again only under a higher
	// generation.
	Generation int `json:"generation,omitempty"`
	// StoredAt is when the broker stored the message; zero means not known.
	StoredAt time.Time `json:"storedAt,omitzero"`
	// NotAfter is when the push stops making sense; zero means never.
	NotAfter time.Time `json:"notAfter,omitzero"`
	// DryRun looks everything up and pushes nothing.
	DryRun bool `json:"dryRun,omitempty"`
	// OnUnknown makes REPUSH_ON_UNKNOWN stricter for this request; empty means
	// as configured.
	OnUnknown OnUnknown `json:"onUnknown,omitempty"`
	// OffsetID is the message's other id (broker address and commit-log
	// offset), tried only when the broker knows no message under MsgID.
	OffsetID string `json:"offsetId,omitempty"`
	// Unconsumed: the group's offset has not passed the message, so that its queue
	// delivers it as well; a push of it is marked maybeDuplicate.
	Unconsumed bool `json:"unconsumed,omitempty"`
}

// Priority orders requests that compete for the quota.
type Priority string

// Priorities, most urgent first. Empty means PriorityAlert. PriorityHuman is
// honoured only for single events by direct invoke or with the token.
const (
	PriorityHuman Priority = "human"
	PriorityAlert Priority = "alert"
	PriorityBulk  Priority = "bulk"
)

// OnUnknown says what to do when nobody knows whether a push arrived.
type OnUnknown string

// Policies for a push of unknown fate.
const (
	// Hold reports the outcome "unknown" and does not push again.
	Hold OnUnknown = "hold"
	// PushAgain pushes once more within the deadline and marks the result
	// maybeDuplicate.
	PushAgain OnUnknown = "push"
)

// MaxGeneration bounds Requested.Generation.
const MaxGeneration = 1000

// requestedFields is in the order of the contract.
var requestedFields = []field[Requested]{
	{name: "instanceId", required: true, rule: instanceRule, at: func(r *Requested) any { return &r.InstanceID }},
	{name: "topic", required: true, rule: topicRule, at: func(r *Requested) any { return &r.Topic }},
	{name: "groupId", required: true, rule: groupRule, at: func(r *Requested) any { return &r.GroupID }},
	{name: "msgId", required: true, rule: msgIDRule, at: func(r *Requested) any { return &r.MsgID }},
	{name: "reason", required: true, rule: proseRule, at: func(r *Requested) any { return &r.Reason }},
	{name: "clientId", rule: clientRule, at: func(r *Requested) any { return &r.ClientID }},
	{name: "requestedBy", rule: proseRule, at: func(r *Requested) any { return &r.RequestedBy }},
	{name: "operationId", rule: operationRule, at: func(r *Requested) any { return &r.OperationID }},
	{name: "priority", rule: priorityRule, at: func(r *Requested) any { return (*string)(&r.Priority) }},
	{name: "generation", rule: generationRule, at: func(r *Requested) any { return &r.Generation }},
	{name: "storedAt", at: func(r *Requested) any { return &r.StoredAt }},
	{name: "notAfter", at: func(r *Requested) any { return &r.NotAfter }},
	{name: "dryRun", at: func(r *Requested) any { return &r.DryRun }},
	{name: "onUnknown", rule: unknownRule, at: func(r *Requested) any { return (*string)(&r.OnUnknown) }},
	{name: "offsetId", rule: offsetIDRule, at: func(r *Requested) any { return &r.OffsetID }},
	{name: "unconsumed", at: func(r *Requested) any { return &r.Unconsumed }},
}

var (
	priorityRule   = rule{oneOf: []string{string(PriorityHuman), string(PriorityAlert), string(PriorityBulk)}, says: "human, alert or bulk"}
	unknownRule    = rule{oneOf: []string{string(Hold), string(PushAgain)}, says: "hold or push"}
	generationRule = rule{min: 1, max: MaxGeneration, says: "a whole number from 1 to 1000"}
)

func closed(string) string { return "is not a field of this event" }

// DecodeRequested reads the data of a request strictly. The error is a
// [*ValidationError] with every problem; the value then holds the fields that
// keep their rule, so that a rejection can name the message.
func DecodeRequested(data []byte) (Requested, error) {
	var r Requested
	err := decode(&r, requestedFields, data)
	return r, err
}

// decode is what all kinds of data have in common. across finds what is wrong
// between fields.
func decode[T any](to *T, fields []field[T], data []byte, across ...func([]Member) []Problem) error {
	if len(data) == 0 {
		return invalid("data", isRequired)
	}
	members, err := Members(data)
	if err != nil {
		return broken("data", err)
	}
	problems := read(to, fields, members, closed)
	for _, find := range across {
		problems = append(problems, find(members)...)
	}
	if problems != nil {
		return &ValidationError{Problems: problems}
	}
	return nil
}

// Validate checks a value made in Go by the rules of [DecodeRequested], which
// has done so already for what it returns. The error is a [*ValidationError].
func (r Requested) Validate() error { return validate(r, DecodeRequested) }

func validate[T any](value T, decode func([]byte) (T, error)) error {
	data, err := marshal(value)
	if err != nil {
		return broken("data", err)
	}
	_, err = decode(data)
	return err
}

// keepsRules reports what Validate would, but for fields that are missing. It
// does not go through JSON.
func (r *Requested) keepsRules() bool {
	return !slices.ContainsFunc(requestedFields, func(f field[Requested]) bool {
		switch at := f.at(r).(type) {
		case *string:
			return *at != "" && !f.rule.allows(*at)
		case *int:
			return *at != 0 && (*at < f.rule.min || *at > f.rule.max)
		case *time.Time:
			return !at.IsZero() && (at.UTC().Year() < 1970 || at.UTC().Year() > 9999)
		}
		return false
	})
}

// LooksRequested reports whether members look like the data of a request rather
// than an envelope: one of them is a message id or an instance id.
func LooksRequested(members []Member) bool {
	return slices.ContainsFunc(members, func(m Member) bool { return m.Name == "msgId" || m.Name == "instanceId" })
}
