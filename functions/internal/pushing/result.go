package pushing

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// Codes of our own, beside those of the API.
const (
	codeNotAllowed    = "NotAllowed"
	codeContradicting = "Contradicting"
	codeTooOld        = "TooOld"
	codeNotAfter      = "NotAfter"
	codeMaxPushes     = "MaxPushes"
	codeGaveUp        = "GaveUp"
	codeAlreadyDone   = "AlreadyDecided"
	codeInterrupted   = "Interrupted"
	codeTooShort      = "DeadlineTooShort"
	codeStopping      = "Stopping"
	codeNoSlot        = "NoSlot"
	codeInProgress    = "InProgress"
	codeUndelivered   = "ResultNotDelivered"
	codeLedger        = "LedgerUnavailable"
	codeLimiter       = "LimiterUnavailable"
	codeYoung         = "LedgerYoung"
	codeDone          = "Done"
)

// ending is an outcome with the words that go with it.
type ending struct {
	outcome events.Outcome
	code    string
	message string
	hint    string
	first   *events.First
}

// unlessPushable returns how a request ends that must not be pushed whatever
// the ledger says, or nil.
func (w *work) unlessPushable() *ending {
	d, now := w.ask.Data, w.Now()
	switch {
	case !w.policy.Allow.Allows(w.ask.Message()):
		return &ending{
			outcome: events.Rejected, code: codeNotAllowed,
			message: "this instance, group and topic are not on the allow-list",
			hint:    fmt.Sprintf("to allow it, add %s/%s/%s to REPUSH_ALLOW", d.InstanceID, d.GroupID, d.Topic),
		}
	case !d.NotAfter.IsZero() && now.After(d.NotAfter):
		return &ending{
			outcome: events.Expired, code: codeNotAfter,
			message: "the request's own notAfter has passed",
			hint:    "send a new request with a later notAfter if the push still makes sense",
		}
	case !d.StoredAt.IsZero() && now.Sub(d.StoredAt) > w.policy.MaxAge:
		return &ending{
			outcome: events.Expired, code: codeTooOld,
			message: fmt.Sprintf("stored more than %s ago: the broker has deleted the message", w.policy.MaxAge),
			hint:    "restore it from its producer; check REPUSH_MAX_AGE if the instance keeps messages longer",
		}
	}
	return nil
}

// unlessDue returns how a claimed request ends that was tried long or often
// enough, or nil.
func (w *work) unlessDue(c Claim) *ending {
	switch {
	case c.Pushes >= w.policy.MaxPushes:
		return &ending{
			outcome: events.Abandoned, code: codeMaxPushes,
			message: fmt.Sprintf("this message was pushed %d times, which is as often as allowed", c.Pushes),
			hint:    "find out why the consumer fails on it; REPUSH_MAX_PUSHES is the limit",
		}
	case c.Age > w.policy.GiveUpAfter:
		return &ending{
			outcome: events.Abandoned, code: codeGaveUp,
			message: fmt.Sprintf("not decided within %s; last reason: %s", w.policy.GiveUpAfter, cmp.Or(c.Code, "none")),
			hint:    "remove the reason and send a new request; REPUSH_GIVE_UP_AFTER is the limit",
		}
	}
	return nil
}

func duplicateOf(first events.First) *ending {
	return &ending{
		outcome: events.Duplicate, code: codeAlreadyDone, first: &first,
		message: fmt.Sprintf("event %s asked for this generation or a higher one and ended as %s", first.EventID, first.Outcome),
		hint:    "to push the message once more on purpose, ask for a higher generation",
	}
}

const cancelledHint = "if it is still wanted, ask under another operation; a message that was cancelled itself stays so: push it in the console"

func cancelled() *ending {
	return &ending{
		outcome: events.Cancelled, code: CodeCancelled,
		message: "its operation, or the message itself, was cancelled before it was pushed",
		hint:    cancelledHint,
	}
}

// youngCode says that the ledger may have forgotten a push of this message.
func youngCode(c Claim) string {
	if c.Young {
		return codeYoung
	}
	return ""
}

// completed builds the result of a request.
func (w *work) completed(c Claim, e ending) events.Completed {
	now := w.Now()
	received := w.arrived // a first claim is made when its turn comes
	if !c.ReceivedAt.IsZero() && c.ReceivedAt.Before(received) {
		received = c.ReceivedAt
	}
	done := events.Completed{
		Request: events.RequestRef{ID: c.Request.ID, Source: c.Request.Source, Data: new(c.Data)},
		Outcome: e.outcome, Code: e.code, Message: e.message, Hint: e.hint,
		RequestID: w.requestID, InvocationID: w.invocationID, ClientID: w.clientID,
		Attempts: c.Attempts, Pushes: c.Pushes, MaybeDuplicate: (c.MaybeDuplicate || c.Data.Unconsumed) && e.outcome.Closes(),
		Durable: w.ledger.Durable(), ReceivedAt: received.UTC(), DecidedAt: now.UTC(),
		CallMs: w.call.Milliseconds(), First: e.first,
	}
	done.WaitMs = max(0, cmp.Or(w.callBegan, now).Sub(received).Milliseconds())
	return done
}

// refuseUnread answers a delivery that is no valid request. It has no record:
// the same bytes are refused the same way every time.
func (w *work) refuseUnread(ctx context.Context, cause error) Result {
	e := ending{outcome: events.Rejected, code: RejectionCode(cause), message: cause.Error(), hint: "correct the event and send it under a new id"}
	return w.emitUnrecorded(ctx, e, "")
}

// emitUnrecorded sends a result that the ledger does not keep.
func (w *work) emitUnrecorded(ctx context.Context, e ending, idSuffix string) Result {
	result := Result{Outcome: e.outcome, Code: e.code, Message: e.message, Hint: e.hint}
	if w.silent {
		return result
	}
	done := w.completed(Claim{Ask: w.ask}, e)
	if w.ask.Data == (events.Requested{}) {
		done.Request.Data = nil
	}
	event, err := events.NewCompleted(done)
	if err == nil {
		if idSuffix != "" {
			event.ID = events.ResultID(w.ask.Request.Source, w.ask.Request.ID+"\x00"+idSuffix, false)
		}
		err = w.emitter.Send(ctx, event)
	}
	if err != nil {
		w.err = err
		return w.deferred(codeUndelivered, undeliveredMessage, 0)
	}
	return result
}

const undeliveredMessage = "decided, but the result event could not be delivered: it is sent again later"

// parked is the result of a request that is not decided yet and that the ledger
// knows: one that outlives this process has it done by the sweep.
func (w *work) parked(code, message string, retryAfter time.Duration) Result {
	if !w.ledger.Durable() {
		return w.deferred(code, message, retryAfter)
	}
	return Result{Code: code, Message: message, Parked: true, RetryAfter: retryAfter}
}

// deferred is the result of a request that is not decided yet and has to be
// delivered again.
func (w *work) deferred(code, message string, retryAfter time.Duration) Result {
	return Result{Code: code, Message: message, Deferred: true, RetryAfter: retryAfter}
}
