package events

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"slices"
	"time"
)

// Outcome is what became of one request. Outcomes are final.
type Outcome string

// Outcomes of a request.
const (
	// Pushed: accepted by the API. Accepted is not consumed.
	Pushed Outcome = "pushed"
	// Duplicate: another request was decided before; see Completed.First.
	Duplicate Outcome = "duplicate"
	// Rejected: cannot be right: malformed, not allowed, contradicting.
	Rejected Outcome = "rejected"
	// Failed: the API refused for good.
	Failed Outcome = "failed"
	// Unknown: may have reached the consumer.
	Unknown Outcome = "unknown"
	// Expired: too old to exist, or past the request's own NotAfter.
	Expired Outcome = "expired"
	// Abandoned: given up after the time allowed, or pushed as often as allowed.
	Abandoned Outcome = "abandoned"
	// Cancelled: its operation was cancelled.
	Cancelled Outcome = "cancelled"
	// Simulated: dry run; everything was looked up and nothing was pushed.
	Simulated Outcome = "simulated"
)

// Outcomes lists every outcome.
func Outcomes() []Outcome {
	return []Outcome{Pushed, Duplicate, Rejected, Failed, Unknown, Expired, Abandoned, Cancelled, Simulated}
}

// Closes reports whether the outcome closes its generation for good: the
// message reached a consumer, or may have.
func (o Outcome) Closes() bool { return o == Pushed || o == Unknown }

// Completed is the data of a repush:Message:Completed event. Its texts have at
// most 1024 characters; [NewCompleted] sees to it.
type Completed struct {
	Request RequestRef `json:"request"`
	Outcome Outcome    `json:"outcome"`
	// Code is the API's error code or one of ours; empty for a plain push.
	Code string `json:"code,omitempty"`
	// Message says what happened, Hint what to do next.
	Message string `json:"message,omitempty"`
	Hint    string `json:"hint,omitempty"`
	// RequestID is the API's id of the deciding call.
	RequestID    string `json:"requestId,omitempty"`
	InvocationID string `json:"invocationId,omitempty"`
	ClientID     string `json:"clientId,omitempty"`
	// Attempts counts the push calls made for this request, answered in
	// whatever way.
	Attempts int `json:"attempts"`
	// Pushes counts what reached a consumer or may have, over all generations
	// of the message, this request included.
	Pushes int `json:"pushes"`
	// MaybeDuplicate: the consumer may have been given this message more than
	// once by us.
	MaybeDuplicate bool `json:"maybeDuplicate"`
	// Durable is false when the ledger forgets with the process.
	Durable    bool      `json:"durable"`
	ReceivedAt time.Time `json:"receivedAt"`
	DecidedAt  time.Time `json:"decidedAt"`
	// WaitMs is from receipt to the deciding call, CallMs the call itself, in
	// milliseconds.
	WaitMs int64  `json:"waitMs"`
	CallMs int64  `json:"callMs"`
	First  *First `json:"first,omitempty"`
}

// RequestRef names the request a result answers, with its data as far as it
// keeps the rules. Data is nil when nothing could be read.
type RequestRef struct {
	ID     string     `json:"id"`
	Source string     `json:"source"`
	Data   *Requested `json:"data,omitempty"`
}

// First is the decision that a duplicate repeats.
type First struct {
	EventID   string    `json:"eventId"`
	Outcome   Outcome   `json:"outcome"`
	DecidedAt time.Time `json:"decidedAt"`
	// Late is the answer that came after Outcome was decided unknown; empty
	// when none did.
	Late string `json:"late,omitempty"`
}

// SourceRepush is the CloudEvents source of every result.
const SourceRepush = "ons-repush/repush"

// ResultID is the id of the result event of a request. It follows from the
// request alone, so that a result sent twice is recognised.
func ResultID(source, id string, dryRun bool) string {
	text := source + "\x00" + id + "\x00"
	if dryRun {
		text += "dry run"
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

// NewCompleted wraps a result into its event. A result must leave whatever the
// API or the request said: texts are clipped to their rule, and what breaks its
// rule in the data of the request is left out. The error means a result without
// a known outcome, its times or the id and source of its request.
func NewCompleted(c Completed) (Event, error) {
	if c.Request.ID == "" || c.Request.Source == "" || !slices.Contains(Outcomes(), c.Outcome) || c.ReceivedAt.IsZero() || c.DecidedAt.IsZero() {
		return Event{}, errors.New("events: a result needs an outcome, two times and its request's id and source")
	}
	c.clip()
	data, err := marshal(c)
	if err != nil {
		return Event{}, err
	}
	e := Event{Source: SourceRepush, Type: TypeMessageCompleted, Time: c.DecidedAt, Data: data}
	dryRun := false
	if r := c.Request.Data; r != nil {
		dryRun = r.DryRun
		e.Subject = r.InstanceID + "/" + r.GroupID + "/" + r.Topic + "/" + r.MsgID
	}
	e.ID = ResultID(c.Request.Source, c.Request.ID, dryRun)
	return e, nil
}

// clip makes everything fit that others have written.
func (c *Completed) clip() {
	c.WaitMs, c.CallMs = max(c.WaitMs, 0), max(c.CallMs, 0) // clocks go back
	texts := []*string{&c.Code, &c.Message, &c.Hint, &c.RequestID, &c.InvocationID, &c.ClientID}
	if c.First != nil {
		c.First = new(*c.First)
		texts = append(texts, &c.First.Late)
	}
	for _, text := range texts {
		*text = resultRule.clip(*text)
	}
	if c.Request.Data != nil && !c.Request.Data.keepsRules() {
		var kept Requested
		if data, err := marshal(c.Request.Data); err == nil {
			kept, _ = DecodeRequested(data) // the result says what is wrong
		}
		c.Request.Data = &kept
	}
}

// marshal is json.Marshal without the HTML escapes that turn a topic's "&" into
// six characters.
func marshal(v any) (json.RawMessage, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}
