package pushing

import (
	"errors"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// Delivery is one element of what a trigger delivered, as far as it could be
// read.
type Delivery struct {
	// Request identifies the event; it is set even when Err is.
	Request RequestKey
	Data    events.Requested
	// Time is the event's own time, or its envelope's; zero when it has none.
	Time time.Time
	// Sweep asks to finish what waits, Operation to steer or to report; such a
	// delivery has no Data, and the result a report instead of an outcome.
	Sweep     *events.Sweep
	Operation *events.Operation
	// Plan asks for a selection of messages. Alert: no person chose it, a monitor
	// did, and Nothing says why it is no reason to do anything; empty: it is one.
	Plan    *events.Plan
	Alert   bool
	Nothing string
	// Err says why this is no valid request, usually a
	// [*events.ValidationError]: its outcome is rejected.
	Err error
	// Silent: no result event may answer this. Set for our own results that
	// came back (a loop) and for outsiders without the token.
	Silent bool
	// Human: priority "human" is honoured. Set for single events by direct
	// invoke or with the token.
	Human bool
}

// RejectionCode is the code of a delivery that its Err rejects: the error's own, or
// that of an event whose fields are wrong.
func RejectionCode(cause error) string {
	var coded interface{ Code() string }
	if errors.As(cause, &coded) {
		return coded.Code()
	}
	return Invalid.String()
}

// Result is what became of one delivery, in the order of the deliveries. Its JSON is
// that of the function's return value (section 8 of the design).
type Result struct {
	EventID string `json:"eventId"`
	MsgID   string `json:"msgId"`
	// Outcome is empty while nothing is decided, and for control events.
	Outcome events.Outcome `json:"outcome,omitempty"`
	Code    string         `json:"code,omitempty"`
	Message string         `json:"message,omitempty"`
	// Report answers a control event; it is sent as JSON.
	Report any `json:"report,omitempty"`
	// Hint and MaybeDuplicate are those of the result event, as far as this is the
	// delivery that decided: what a person who asks directly must be told.
	Hint           string `json:"hint,omitempty"`
	MaybeDuplicate bool   `json:"maybeDuplicate,omitempty"`
	// Deferred: not decided, and the platform shall deliver the event again.
	Deferred bool `json:"-"`
	// Parked: not decided, and the ledger has it: the event is consumed and the
	// sweep goes on with it.
	Parked bool `json:"-"`
	// RetryAfter is how long to wait before that; zero means not known.
	RetryAfter time.Duration `json:"-"`
}
