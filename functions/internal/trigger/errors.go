package trigger

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ons-repush/ons-repush/events"
)

// Codes of deliveries that are rejected for more than their fields. They become
// the code of the result.
const (
	// CodeUnauthorized: an HTTP request inside an event without the token, or
	// with the one for alerts and something else.
	CodeUnauthorized = "Unauthorized"
	// CodeLoop: one of our own results came back as a request.
	CodeLoop = "Loop"
	// CodeNoOrigin: a dead letter that does not say where it came from.
	CodeNoOrigin = "NoOrigin"
	// CodeTooLarge: more bytes or more events than allowed.
	CodeTooLarge = "TooLarge"
	// CodeNotTrusted: an operation, or "again", that came neither by direct
	// invoke nor with the token, or not alone.
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
	return refused(CodeLoop, "a result of ons-repush came back as a request: let REPUSH_RESULTS and this trigger use different topics, or let only types repush:…:Requested through")
}

// errNotTrusted says what needs a person.
func errNotTrusted(what string) *Error {
	return refused(CodeNotTrusted, `whoever may write to this trigger may ask for pushes, and not for %s: invoke the function directly with this one event, or send it alone over HTTP with "Authorization: Bearer <token>", the value of REPUSH_HTTP_TOKEN`, what)
}

func errUnauthorized() *Error {
	return refused(CodeUnauthorized, `no valid token: send "Authorization: Bearer <token>" with the value of REPUSH_HTTP_TOKEN; functions/plan takes alerts, and nothing else, with that of REPUSH_WEBHOOK_TOKEN as query parameter "token" or header X-Repush-Token`)
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

// What the functions take.
var (
	repushTakes = []string{events.TypeMessageRequested, events.TypeSweepRequested, events.TypeOperationRequested}
	planTakes   = []string{events.TypePlanRequested, events.TypeSweepRequested}
)

// checkType returns why an event of this type is none for this function, or nil.
// field is where the envelope keeps the type.
func (d *decoder) checkType(field, eventType string) error {
	takes := repushTakes
	if d.Plan {
		takes = planTakes
	}
	switch {
	case slices.Contains(takes, eventType):
		return nil
	case strings.HasPrefix(eventType, "repush:") && strings.HasSuffix(eventType, ":Completed"):
		return errLoop()
	}
	return d.misdirected(field, slices.Contains(repushTakes, eventType) || slices.Contains(planTakes, eventType))
}

// misdirected says what the function takes. others: the other one takes this.
func (d *decoder) misdirected(field string, others bool) error {
	rule, other := fmt.Sprintf("must be %q, %q or %q", repushTakes[0], repushTakes[1], repushTakes[2]), "functions/plan"
	if d.Plan {
		rule, other = fmt.Sprintf("must be %q, %q or an alert", planTakes[0], planTakes[1]), "functions/repush"
	}
	if others {
		rule += "; send it to " + other
	}
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
