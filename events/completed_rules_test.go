package events

import (
	"encoding/json"
	"slices"
	"strings"
)

// The rules of a result live here and not in the package: nobody of ours reads
// results, and NewCompleted makes them right by clipping. Readers elsewhere
// ignore what they do not know.
var countRule = rule{min: 0, max: 1<<53 - 1, says: "a whole number from 0 on"}

// refFields, firstFields and completedFields are in the order of the contract.
var refFields = []field[RequestRef]{
	{name: "id", required: true, rule: attributeRule, at: func(r *RequestRef) any { return &r.ID }},
	{name: "source", required: true, rule: attributeRule, at: func(r *RequestRef) any { return &r.Source }},
	{name: "data", at: func(r *RequestRef) any { return r.readData }},
}

var firstFields = []field[First]{
	{name: "eventId", required: true, rule: attributeRule, at: func(f *First) any { return &f.EventID }},
	{name: "outcome", required: true, rule: outcomeRule, at: func(f *First) any { return (*string)(&f.Outcome) }},
	{name: "decidedAt", required: true, at: func(f *First) any { return &f.DecidedAt }},
	{name: "late", rule: resultRule, at: func(f *First) any { return &f.Late }},
}

var completedFields = []field[Completed]{
	{name: "request", required: true, at: func(c *Completed) any { return objectOf(&c.Request, refFields) }},
	{name: "outcome", required: true, rule: outcomeRule, at: func(c *Completed) any { return (*string)(&c.Outcome) }},
	{name: "code", rule: resultRule, at: func(c *Completed) any { return &c.Code }},
	{name: "message", rule: resultRule, at: func(c *Completed) any { return &c.Message }},
	{name: "hint", rule: resultRule, at: func(c *Completed) any { return &c.Hint }},
	{name: "requestId", rule: resultRule, at: func(c *Completed) any { return &c.RequestID }},
	{name: "invocationId", rule: resultRule, at: func(c *Completed) any { return &c.InvocationID }},
	{name: "clientId", rule: resultRule, at: func(c *Completed) any { return &c.ClientID }},
	{name: "attempts", required: true, rule: countRule, at: func(c *Completed) any { return &c.Attempts }},
	{name: "pushes", required: true, rule: countRule, at: func(c *Completed) any { return &c.Pushes }},
	{name: "maybeDuplicate", required: true, at: func(c *Completed) any { return &c.MaybeDuplicate }},
	{name: "durable", required: true, at: func(c *Completed) any { return &c.Durable }},
	{name: "receivedAt", required: true, at: func(c *Completed) any { return &c.ReceivedAt }},
	{name: "decidedAt", required: true, at: func(c *Completed) any { return &c.DecidedAt }},
	{name: "waitMs", required: true, at: func(c *Completed) any { return readMs(&c.WaitMs) }},
	{name: "callMs", required: true, at: func(c *Completed) any { return readMs(&c.CallMs) }},
	{name: "first", at: func(c *Completed) any { return c.readFirst }},
}

var outcomeRule = outcomes()

func outcomes() (r rule) {
	for _, o := range Outcomes() {
		r.oneOf = append(r.oneOf, string(o))
	}
	r.says = "one of " + strings.Join(r.oneOf, ", ")
	return r
}

func readMs(to *int64) func(json.RawMessage) string {
	return func(raw json.RawMessage) string {
		var n int
		says := countRule.readInt(&n, raw)
		*to = int64(n)
		return says
	}
}

func (c *Completed) readFirst(raw json.RawMessage) []Problem {
	c.First = new(First)
	return objectOf(c.First, firstFields)(raw)
}

func (r *RequestRef) readData(raw json.RawMessage) []Problem {
	r.Data = new(Requested)
	problems := objectOf(r.Data, requestedFields)(raw)
	return slices.DeleteFunc(problems, func(p Problem) bool { return p.Rule == isRequired })
}

// decodeCompleted reads the data of a result as strictly as DecodeRequested
// reads a request.
func decodeCompleted(data []byte) (c Completed, err error) {
	err = decode(&c, completedFields, data)
	return c, err
}
