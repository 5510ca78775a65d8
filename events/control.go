package events

import "slices"

// Sweep is the data of a repush:Sweep:Requested event: finish what waits in the
// ledger and is due. The event needs no data.
type Sweep struct {
	// Limit is how many requests to take up at most, 1 to 100,000; 0 means as
	// many as time allows.
	Limit int `json:"limit,omitempty"`
}

// Operation is the data of a repush:Operation:Requested event: steer what is
// under way, or report on it. What it is about is an operation, a message (all
// of its four fields), or everything.
type Operation struct {
	Action      Action `json:"action,omitempty"`
	OperationID string `json:"operationId,omitempty"`
	InstanceID  string `json:"instanceId,omitempty"`
	Topic       string `json:"topic,omitempty"`
	GroupID     string `json:"groupId,omitempty"`
	MsgID       string `json:"msgId,omitempty"`
	// Reason and RequestedBy are for the record.
	Reason      string `json:"reason,omitempty"`
	RequestedBy string `json:"requestedBy,omitempty"`
}

// Action is what an [Operation] asks for.
type Action string

// Actions. Stop, start and describe are about everything; pause, continue and
// cancel about an operation or a message; status about any of the three.
const (
	Stop     Action = "stop"
	Start    Action = "start"
	Pause    Action = "pause"
	Continue Action = "continue"
	Cancel   Action = "cancel"
	Status   Action = "status"
	Describe Action = "describe"
)

var sweepFields = []field[Sweep]{
	{name: "limit", rule: rule{min: 1, max: 100_000, says: "a whole number from 1 to 100000"}, at: func(s *Sweep) any { return &s.Limit }},
}

var actionRule = rule{
	oneOf: []string{"stop", "start", "pause", "continue", "cancel", "status", "describe"},
	says:  "stop, start, pause, continue, cancel, status or describe",
}

// operationFields is in the order of the contract.
var operationFields = []field[Operation]{
	{name: "action", required: true, rule: actionRule, at: func(o *Operation) any { return (*string)(&o.Action) }},
	{name: "operationId", rule: operationRule, at: func(o *Operation) any { return &o.OperationID }},
	{name: "instanceId", rule: instanceRule, at: func(o *Operation) any { return &o.InstanceID }},
	{name: "topic", rule: topicRule, at: func(o *Operation) any { return &o.Topic }},
	{name: "groupId", rule: groupRule, at: func(o *Operation) any { return &o.GroupID }},
	{name: "msgId", rule: msgIDRule, at: func(o *Operation) any { return &o.MsgID }},
	{name: "reason", rule: proseRule, at: func(o *Operation) any { return &o.Reason }},
	{name: "requestedBy", rule: proseRule, at: func(o *Operation) any { return &o.RequestedBy }},
}

// given reports whether a field is there, right or wrong by itself.
func given(members []Member, name string) bool {
	return slices.ContainsFunc(members, func(m Member) bool { return m.Name == name })
}

// when says the same of every name that is given, or of every one that is not.
func when(isGiven bool, members []Member, says string, names ...string) (problems []Problem) {
	for _, name := range names {
		if given(members, name) == isGiven {
			problems = append(problems, Problem{name, says})
		}
	}
	return problems
}

// about returns what is wrong with what an operation is about.
func (o *Operation) about(members []Member) []Problem {
	all := []string{"operationId", "instanceId", "topic", "groupId", "msgId"}
	message := all[1:]
	switch {
	case o.Action == Stop || o.Action == Start || o.Action == Describe:
		return when(true, members, "must be absent: stop, start and describe are about everything", all...)
	case given(members, "operationId"):
		return when(true, members, "must not stand beside operationId", message...)
	case slices.ContainsFunc(message, func(name string) bool { return given(members, name) }):
		return when(false, members, "is required: a message is instanceId, topic, groupId and msgId", message...)
	case o.Action == Pause || o.Action == Continue || o.Action == Cancel:
		return when(false, members, "is required, or a message by instanceId, topic, groupId and msgId", "operationId")
	}
	return nil
}

// DecodeSweep reads the data of a sweep as strictly as [DecodeRequested] reads
// that of a request. No data means the zero Sweep.
func DecodeSweep(data []byte) (s Sweep, err error) {
	if len(data) > 0 {
		err = decode(&s, sweepFields, data)
	}
	return s, err
}

// DecodeOperation reads the data of an operation as strictly as
// [DecodeRequested] reads that of a request.
func DecodeOperation(data []byte) (o Operation, err error) {
	err = decode(&o, operationFields, data, o.about)
	return o, err
}

// Validate checks a sweep made in Go as [Requested.Validate] does a request.
func (s Sweep) Validate() error { return validate(s, DecodeSweep) }

// Validate checks an operation made in Go as [Requested.Validate] does a request.
func (o Operation) Validate() error { return validate(o, DecodeOperation) }
