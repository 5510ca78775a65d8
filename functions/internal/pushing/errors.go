package pushing

import (
	"cmp"
	"errors"
	"fmt"
)

// Kind says what an error means for the message, and so what happens next.
type Kind int

// Kinds of error. For a push, all but Unknown and Internal say that the message
// was definitely not sent.
const (
	// Internal is our own fault or an error nobody classified.
	Internal Kind = iota
	// Invalid: the request cannot be right.
	Invalid
	// Refused: the API says no and will say so again.
	Refused
	// NoClient: the consumer is not online.
	NoClient
	// Throttled: the quota is used up.
	Throttled
	// Unavailable: not sent, may work later.
	Unavailable
	// Unknown: may have been sent.
	Unknown
	// Credentials: the credentials of this invocation are no good; the next
	// one brings others.
	Credentials
)

var kindNames = [...]string{"Internal", "Invalid", "Refused", "NoClient", "Throttled", "Unavailable", "Unknown", "Credentials"}

// String returns the name of the kind, which is also the code of an error that
// has none of its own.
func (k Kind) String() string {
	if k < 0 || int(k) >= len(kindNames) {
		return fmt.Sprintf("Kind(%d)", int(k))
	}
	return kindNames[k]
}

// CodeNoMessage is the API's code for an id, or a span of time, under which nothing
// is stored (source: ons-openapi.md 2.2).
const CodeNoMessage = "BIZ_NO_MESSAGE"

// Error is what every port returns when it fails. Its text carries no secret:
// whoever makes one redacts the cause first.
type Error struct {
	Kind Kind
	// Op is the operation that failed, for example "OnsMessagePush".
	Op string
	// Code is the API's error code; empty when there was no answer.
	Code string
	// RequestID is the API's id of the failed call; empty when there was none.
	RequestID string
	// MaybeSent: the kind says not sent, but only probably (a gateway that
	// was unavailable). The push that follows is marked maybeDuplicate.
	MaybeSent bool
	// Denied: refused because we are not permitted, whatever the message.
	Denied bool
	Err    error
}

// Error returns "op: code: cause".
func (e *Error) Error() string {
	text := e.Op
	if e.Code != "" {
		text += ": " + e.Code
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// code is the API's code, or the name of the kind when there was none.
func (e *Error) code() string { return cmp.Or(e.Code, e.Kind.String()) }

// asError finds the *Error in err, or makes an Internal one.
func asError(err error) *Error {
	if e, is := errors.AsType[*Error](err); is {
		return e
	}
	return &Error{Kind: Internal, Op: "repush", Err: err}
}
