package pushing

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// How often and how long one invocation tries again what is unavailable before
// it gives the request back: a paid instance is not held for more.
const (
	unavailableTries = 4
	firstDelay       = 200 * time.Millisecond
	lastDelay        = time.Second
)

// attempt is the pushing of one claimed request.
type attempt struct {
	*work
	turn   Turn
	claim  Claim
	target Target
	began  time.Time
	// sending: marked as such, and not taken back.
	sending bool
	// unresolved is how the request ends when an earlier push of it stays
	// unknown; nil when there was none.
	unresolved *ending
	failures   int // in a row that were Unavailable
}

func newAttempt(w *work, turn Turn, c Claim) *attempt {
	d := c.Data
	return &attempt{
		work: w, turn: turn, claim: c, began: w.Now(),
		target: Target{Message: Message{d.InstanceID, d.Topic, d.GroupID, d.MsgID}, ClientID: d.ClientID},
	}
}

// run pushes until the request is decided or has to wait.
func (a *attempt) run(ctx context.Context) Result {
	for {
		err := a.once(ctx)
		if err == nil {
			a.breakers.passed(ctx, a.ledger, a.claim)
			return a.decide(ctx, a.claim, ending{outcome: events.Pushed, code: youngCode(a.claim)})
		}
		if result, done := a.after(ctx, err); done {
			return result
		}
	}
}

// once makes one push: client, slot, mark, call.
func (a *attempt) once(ctx context.Context) error {
	select {
	case a.inFlight <- struct{}{}:
		defer func() { <-a.inFlight }()
	case <-a.start.Done():
		code, message := a.tooLate()
		return &Error{Kind: Unavailable, Op: "OnsMessagePush", Code: code, Err: errors.New(message)}
	}
	if a.claim.Data.ClientID == "" {
		id, err := a.clients.Choose(a.start, a.claim.Message(), a.lane())
		if err != nil {
			return err
		}
		a.target.ClientID = id
	}
	slot, err := a.book()
	if err != nil {
		return noSlot("OnsMessagePush", err)
	}
	if a.claim.Data.ClientID == "" {
		a.target.ClientID = a.clients.Replace(a.claim.Message(), a.target.ClientID)
	}
	verdictOf := Unused
	defer func() { slot.Report(verdictOf) }()

	a.claim.Lease = a.lease()
	leaseEnd := a.endOf(a.claim.Lease)
	if err := a.markSending(ctx); err != nil {
		return err
	}
	a.sending, a.leaseEnd = true, leaseEnd
	a.claim.Pushes++
	a.claim.Attempts++
	if !before(a.Now(), a.leaseEnd) || !before(a.Now(), a.bounds.callsEnd) {
		return &Error{Kind: Unavailable, Op: "OnsMessagePush", Code: codeTooShort, Err: errors.New("the process slept past its lease or deadline before the call")}
	}
	err = a.doCall(ctx)
	if verdictOf = Accepted; err != nil {
		verdictOf = verdict(asError(err))
	}
	return err
}

func (a *attempt) markSending(ctx context.Context) error {
	err := a.ledger.MarkSending(ctx, a.claim)
	if answered(err) {
		return err
	}
	return &Error{Kind: Unavailable, Op: "mark sending", Code: cmp.Or(asError(err).Code, codeLedger), Err: err}
}

// book takes a slot that comes while the claim is ours and a push may begin.
func (a *attempt) book() (Slot, error) {
	if begin, limited := a.start.Deadline(); limited && begin.Before(a.leaseEnd) {
		return a.turn.Book(a.start)
	}
	ctx, cancel := context.WithDeadline(a.start, a.leaseEnd)
	defer cancel()
	return a.turn.Book(ctx)
}

// doCall is the call itself, with its time taken.
func (a *attempt) doCall(ctx context.Context) error {
	callCtx, cancel := context.WithTimeout(ctx, min(a.policy.PushTimeout, a.bounds.callsEnd.Sub(a.Now())))
	defer cancel()
	a.clientID = a.target.ClientID
	a.callBegan = a.Now()
	a.attempts++
	requestID, err := a.pusher.Push(callCtx, a.target)
	a.call = a.Now().Sub(a.callBegan)
	a.calls.add(a.call, a.callBegan.Add(a.call))
	if a.requestID = requestID; err != nil {
		a.requestID = asError(err).RequestID
	}
	return err
}

// before compares by the monotonic and by the wall clock: after a freeze either
// may have stood still.
func before(now, end time.Time) bool {
	return now.Before(end) && now.Round(0).Before(end.Round(0))
}

// after decides what follows a failure: the end, waiting, or another try.
func (a *attempt) after(ctx context.Context, err error) (result Result, done bool) {
	if errors.Is(err, ErrLost) || errors.Is(err, ErrForgotten) {
		return a.ledgerDown(err), true
	}
	if halted, is := errors.AsType[*Halted](err); is {
		return a.halt(ctx, halted), true
	}
	e := asError(err)
	a.err = e
	wasSending := a.sending
	switch e.Kind {
	case Unknown, Internal:
		if wasSending {
			return a.afterUnknown(ctx, e)
		}
		return a.park(ctx, e.code(), e.Error(), lastDelay), true
	case Refused, Invalid:
		if a.usesOffsetID(e) {
			return a.takeBack(ctx, e)
		}
		return a.fail(ctx, e), true
	}
	if result, done := a.takeBack(ctx, e); done {
		return result, true
	}
	if a.goesOn(e, wasSending) {
		return Result{}, false
	}
	return a.park(ctx, e.code(), e.Error(), parkFor(e.Kind)), true
}

// goesOn reports whether a push that was not sent is tried again now.
func (a *attempt) goesOn(e *Error, called bool) bool {
	switch e.Kind {
	case Throttled:
		return called // a throttled look-up has waited for its own slots
	case NoClient:
		if !called || a.claim.Data.ClientID != "" {
			return false
		}
		a.clients.ProvedOffline(a.claim.Message(), a.target.ClientID)
		return true
	case Unavailable:
		if a.failures++; a.failures >= unavailableTries || a.start.Err() != nil || e.Code == codeNoSlot || e.Code == codeTooShort || e.Code == codeLimiter {
			return false
		}
		a.turn.Release() // others need not wait
		delay := min(firstDelay<<(a.failures-1), lastDelay)
		return Sleep(a.start, delay/2+time.Duration(a.Jitter()*float64(delay)/2)) == nil
	}
	return false
}

// takeBack uncounts a push that was definitely not sent.
func (a *attempt) takeBack(ctx context.Context, e *Error) (result Result, done bool) {
	if !a.sending {
		return Result{}, false
	}
	a.claim.Lease = a.lease()
	leaseEnd := a.endOf(a.claim.Lease)
	err := a.record(ctx, func(ctx context.Context) error { return a.ledger.MarkNotSent(ctx, a.claim, e.MaybeSent) })
	if err != nil {
		return a.ledgerDown(err), true
	}
	a.sending, a.leaseEnd = false, leaseEnd
	a.claim.Pushes--
	a.claim.MaybeDuplicate = a.claim.MaybeDuplicate || e.MaybeSent
	return Result{}, false
}

// usesOffsetID switches to the message's other id, once.
func (a *attempt) usesOffsetID(e *Error) bool {
	offset := a.claim.Data.OffsetID
	if e.Code != CodeNoMessage || offset == "" || a.target.MsgID == offset {
		return false
	}
	a.target.MsgID = offset
	return true
}

// afterUnknown repeats the push once where the policy allows it, and reports it
// as unknown otherwise.
func (a *attempt) afterUnknown(ctx context.Context, e *Error) (result Result, done bool) {
	first := a.unresolved == nil
	if first {
		a.unresolved = &ending{
			outcome: events.Unknown, code: e.code(),
			message: "nobody knows whether this push reached the consumer: " + e.Error(), hint: a.hint(e),
		}
	}
	if first && a.repeats(a.claim) && a.start.Err() == nil {
		a.sending, a.claim.MaybeDuplicate = false, true
		return Result{}, false
	}
	return a.decide(ctx, a.claim, *a.unresolved), true
}

// fail ends a request that the API refused for good.
func (a *attempt) fail(ctx context.Context, e *Error) Result {
	if a.unresolved != nil {
		if result, done := a.takeBack(ctx, e); done {
			return result
		}
		return a.decide(ctx, a.claim, *a.unresolved)
	}
	if a.sending {
		a.claim.Pushes--
	}
	switch {
	case e.Denied:
		a.breakers.denied(ctx, a.ledger, a.claim, a.began, a.Now())
	case a.sending: // permitted, whatever else was wrong
		a.breakers.passed(ctx, a.ledger, a.claim)
	}
	return a.decide(ctx, a.claim, ending{outcome: events.Failed, code: e.code(), message: e.Error(), hint: a.hint(e)})
}

// park gives the claim up until later; a push whose fate is unknown is decided
// instead.
func (a *attempt) park(ctx context.Context, code, message string, after time.Duration) Result {
	if a.unresolved != nil {
		return a.decide(ctx, a.claim, *a.unresolved)
	}
	err := a.record(ctx, func(ctx context.Context) error { return a.ledger.Park(ctx, a.claim, after, code) })
	if err != nil {
		return a.ledgerDown(err)
	}
	return a.parked(code, message, after)
}

// halt obeys an order.
func (a *attempt) halt(ctx context.Context, h *Halted) Result {
	if h.Code == CodeCancelled && a.unresolved == nil {
		return a.decide(ctx, a.claim, *cancelled())
	}
	return a.park(ctx, h.Code, h.Error(), h.Wait)
}

// parkFor is how long a request waits before it is worth another look.
func parkFor(k Kind) time.Duration {
	switch k {
	case NoClient:
		return 5 * time.Second
	case Throttled:
		return 2 * time.Second
	}
	return time.Second
}

func (w *work) hint(e *Error) string { return w.Hint(e.Kind, e.Code) }
