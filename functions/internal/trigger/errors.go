package trigger

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ons-repush/ons-repush/events"
)

// Codes of deliveries that are rejected for more than their fields. They become
// the code of the result.
const (
	// CodeUnauthorized: an HTTP request inside an event without the token.
	CodeUnauthorized = "Unauthorized"
	// CodeLoop: one of our own results came back as a request.
	CodeLoop = "Loop"
	// CodeNoOrigin: a dead letter that does not say where it came from.
	CodeNoOrigin = "NoOrigin"
	// CodeTooLarge: more bytes or more events than allowed.
	CodeTooLarge = "TooLarge"
	// CodeNotTrusted: an operation that came neither by direct invoke nor with
	// the token, or not alone.
	CodeNotTrusted = "NotTrusted"
	// CodeUnreadable: no event at all.
	CodeUnreadable = "Unreadable"
)

// Error says why a delivery is rejected. Its text never quotes the payload.
type Error struct{ code, text string }

// Error returns what is wrong and, where it helps, what to do.
func (e *Error) Error() string { return e.text }

// Code returns one of the codes of this package.
func (e *Error) Code() string { return e.code }

func refused(code, format string, args ...any) *Error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

func errLoop() *Error {
	return refused(CodeLoop, "a result of ons-repush came back as a request: let REPUSH_RESULTS and this trigger use different topics, or let only type %s through", events.TypeMessageRequested)
}

func errNotTrusted() *Error {
	return refused(CodeNotTrusted, `whoever may write to this trigger may ask for pushes, and not for operations: invoke the function directly with this one event, or send it alone over HTTP with "Authorization: Bearer <token>", the value of REPUSH_HTTP_TOKEN`)
}

// codeOf is the code of one of our errors, or "".
func codeOf(err error) string {
	if e, is := errors.AsType[*Error](err); is {
		return e.code
	}
	return ""
}

// isControl: no result event may answer an event of this type.
func isControl(eventType string) bool {
	return eventType == events.TypeSweepRequested || eventType == events.TypeOperationRequested
}

// checkType returns why an event of this type is none for us, or nil. field is
// where the envelope keeps the type.
func checkType(field, eventType string) error {
	switch {
	case eventType == events.TypeMessageRequested || isControl(eventType):
		return nil
	case strings.HasPrefix(eventType, "repush:") && strings.HasSuffix(eventType, ":Completed"):
		return errLoop()
	}
	rule := fmt.Sprintf("must be %q, %q or %q", events.TypeMessageRequested, events.TypeSweepRequested, events.TypeOperationRequested)
	return &events.ValidationError{Problems: []events.Problem{{Field: field, Rule: rule}}}
}

// join makes one list of the problems of an event and of its data.
func join(errs ...error) error {
	var problems []events.Problem
	for _, err := range errs {
		if e, is := errors.AsType[*events.ValidationError](err); is {
			problems = append(problems, e.Problems...)
		}
	}
	if problems == nil {
		return nil
	}
	return &events.ValidationError{Problems: problems}
}
