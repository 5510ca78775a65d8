package pushing

import (
	"fmt"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// Scope is what an order is about: "everything", "operation/ID",
// "message/INSTANCE/GROUP/TOPIC/MSGID" or "group/INSTANCE/GROUP".
type Scope string

// Everything is the scope of all work.
const Everything Scope = "everything"

// OfOperation is the scope of the requests with this operationId.
func OfOperation(id string) Scope { return Scope("operation/" + id) }

// OfMessage is the scope of one message.
func OfMessage(m Message) Scope { return Scope("message/" + m.Key()) }

// OfGroup is the scope of the messages pushed to one group.
func OfGroup(m Message) Scope { return Scope("group/" + m.InstanceID + "/" + m.GroupID) }

// Scopes are all that a request is subject to, the first of two orders in force
// first.
func (a Ask) Scopes() [4]Scope {
	m := a.Message()
	scopes := [4]Scope{"", OfMessage(m), Everything, OfGroup(m)}
	if a.Data.OperationID != "" {
		scopes[0] = OfOperation(a.Data.OperationID)
	}
	return scopes
}

// Order tells the ledger to halt work or to let it go on.
type Order struct {
	// Code is one of the codes below; empty lifts the order in force.
	Code string
	// For is how long the order stands; zero means until it is lifted.
	For time.Duration
}

// Codes of orders. What waits under CodeStopped and CodePaused does not age. When
// a CodeBreaker ends, one claim of the group gets through every 20 s, as a probe,
// until the order is lifted, given again, or ten minutes have passed.
const (
	CodeStopped   = "Stopped"
	CodePaused    = "Paused"
	CodeCancelled = "Cancelled"
	CodeBreaker   = "BreakerOpen"
)

// Halted says that an order forbids a push.
type Halted struct {
	Code string
	// Wait is how long to leave the request alone.
	Wait time.Duration
}

// Error names the order.
func (h *Halted) Error() string { return fmt.Sprintf("halted by order: %s", h.Code) }

// Progress counts requests.
type Progress struct {
	// States counts by waiting, claimed, sending, decided (its event has not
	// left) and emitted; Outcomes those of the last two.
	States   map[string]int         `json:"states"`
	Outcomes map[events.Outcome]int `json:"outcomes"`
	// OldestMs is the age of the oldest request that is not decided.
	OldestMs int64 `json:"oldestMs,omitempty"`
	// First and Last are when the first and the last decision fell, by the
	// ledger's clock.
	First time.Time `json:"firstDecidedAt,omitzero"`
	Last  time.Time `json:"lastDecidedAt,omitzero"`
	// Orders in force on the operation, or on everything: their codes.
	Orders []string `json:"orders,omitempty"`
}

// History is what is known of one message.
type History struct {
	// Pushes counts the accepted and unknown ones.
	Pushes   int    `json:"pushes"`
	Requests []Past `json:"requests"`
	// Orders in force on the message, its operations not counted.
	Orders []string `json:"orders,omitempty"`
}

// Past is one request in a history.
type Past struct {
	Source     string    `json:"source"`
	EventID    string    `json:"eventId"`
	Generation int       `json:"generation"`
	State      string    `json:"state"`
	Code       string    `json:"code,omitempty"`
	Attempts   int       `json:"attempts"`
	ReceivedAt time.Time `json:"receivedAt"`
	// DueInMs is how long a waiting request is left alone, or how long the
	// lease of one that somebody is at still runs.
	DueInMs   int64          `json:"dueInMs,omitempty"`
	Outcome   events.Outcome `json:"outcome,omitempty"`
	DecidedAt time.Time      `json:"decidedAt,omitzero"`
	Late      string         `json:"late,omitempty"`
}
