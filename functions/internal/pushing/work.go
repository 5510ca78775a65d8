package pushing

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// work is one request on its way through the service. One goroutine owns it.
type work struct {
	*Service
	invocationID string
	silent       bool
	ask          Ask
	arrived      time.Time
	bounds       bounds
	outbox       *outbox
	// start ends when no push may be begun any more; nil for work that pushes
	// nothing.
	start context.Context
	// leaseEnd is when the claim that was taken or renewed last is no longer ours,
	// on this process's clock.
	leaseEnd time.Time

	clientID  string
	requestID string // the API's, of the last call
	attempts  int
	callBegan time.Time
	call      time.Duration
	err       error
}

func (w *work) lane() events.Priority {
	switch p := w.ask.Data.Priority; {
	case p == "", p == events.PriorityHuman && !w.ask.Human:
		return events.PriorityAlert
	default:
		return p
	}
}

// startBy is the last moment at which a push may begin. No call takes longer than
// its time-out.
func (w *work) startBy() time.Time {
	return w.bounds.callsEnd.Add(-max(needMin, min(2*w.calls.p95(w.Now()), w.policy.PushTimeout)))
}

// lease covers one push that begins now.
func (w *work) lease() time.Duration {
	return min(w.bounds.deadline.Sub(w.Now()), w.policy.PushTimeout) + leaseMargin
}

// endOf is when a lease that is asked for now is no longer relied on, on this
// process's clock: half the margin before the ledger's.
func (w *work) endOf(lease time.Duration) time.Time {
	return w.Now().Add(lease - leaseMargin/2)
}

func (w *work) wait() time.Duration {
	return max(0, cmp.Or(w.callBegan, w.Now()).Sub(w.arrived))
}

// run takes a valid request from its turn to its result.
func (w *work) run(ctx context.Context) Result {
	final := w.unlessPushable()
	if final != nil {
		return w.resolve(ctx, nil, final)
	}
	cancel := w.untilStart(ctx)
	defer cancel()
	turn, err := w.pacer.Turn(w.start, w.lane())
	if err != nil {
		return w.unclaimed(ctx, err)
	}
	defer turn.Release()
	return w.resolve(ctx, turn, nil)
}

// untilStart sets w.start, which ends when no push may be begun any more.
func (w *work) untilStart(ctx context.Context) context.CancelFunc {
	start, cancel := context.WithDeadline(ctx, w.startBy())
	w.start = start
	if w.Draining == nil {
		return cancel
	}
	stop := context.AfterFunc(w.Draining, cancel)
	return func() { stop(); cancel() }
}

// tooLate says why no push may be begun any more.
func (w *work) tooLate() (code, message string) {
	if w.Draining != nil && w.Draining.Err() != nil {
		return codeStopping, "this instance is being stopped"
	}
	return codeTooShort, "too little time is left in this invocation to begin a push"
}

// unclaimed defers a request whose turn did not come in time.
func (w *work) unclaimed(ctx context.Context, cause error) Result {
	code, message := w.tooLate()
	if noSlot("OnsMessagePush", cause).Code == codeLimiter {
		w.err = cause
		code, message = codeLimiter, "the quota's state cannot be reached, so nothing is pushed"
	}
	var c Claim
	err := w.persist(ctx, w.Now().Add(claimPatience), func(ctx context.Context) (err error) {
		c, err = w.ledger.Receive(ctx, w.ask, code)
		return err
	})
	if err != nil {
		return w.ledgerDown(err)
	}
	if final := w.unlessDue(Claim{Age: c.Age, Code: code}); final != nil {
		return w.resolve(ctx, nil, final)
	}
	return w.parked(code, message, time.Second)
}

// How long a ledger that does not answer is asked again: a claim is soon given
// back, but what happened to a push must not be forgotten.
const (
	claimPatience  = time.Second
	recordPatience = time.Minute
)

// persist repeats an operation of the ledger that failed, up to a time. The
// operation ends with the invocation only, not with its caller.
func (w *work) persist(ctx context.Context, until time.Time, op func(context.Context) error) error {
	ctx = context.WithoutCancel(ctx)
	if w.bounds.deadline.Before(until) {
		until = w.bounds.deadline
	}
	for delay := firstDelay; ; delay = min(2*delay, lastDelay) {
		err := op(ctx)
		if answered(err) {
			return err
		}
		pause := delay/2 + time.Duration(w.Jitter()*float64(delay)/2)
		if !w.Now().Add(pause).Before(until) {
			return err
		}
		time.Sleep(pause)
	}
}

// answered reports whether an error of the ledger, or none, is its answer: any
// other says that it could not be reached.
func answered(err error) bool {
	return err == nil || errors.Is(err, ErrLost) || errors.Is(err, ErrForgotten) || errors.As(err, new(*Halted))
}

// record is persist for what must not be forgotten.
func (w *work) record(ctx context.Context, op func(context.Context) error) error {
	return w.persist(ctx, w.Now().Add(recordPatience), op)
}

// claim asks the ledger, under a token that is good for this one question.
func (w *work) claim(ctx context.Context) (c Claim, err error) {
	w.ask.Lease, w.ask.Token = w.lease(), strconv.FormatUint(rand.Uint64(), 36)
	w.leaseEnd = w.endOf(w.ask.Lease) // whichever try is the one that counts
	err = w.persist(ctx, w.Now().Add(claimPatience), func(ctx context.Context) (err error) {
		c, err = w.ledger.Claim(ctx, w.ask)
		return err
	})
	return c, err
}

// resolve claims the request and ends it: as final says, or by a push in turn.
func (w *work) resolve(ctx context.Context, turn Turn, final *ending) Result {
	for range 3 { // more interrupted workers than that are left to the next delivery
		c, err := w.claim(ctx)
		if err != nil {
			return w.ledgerDown(err)
		}
		switch c.Found {
		case Interrupted:
			if result := w.interrupted(ctx, turn, c); c.Request == w.ask.Request {
				return result
			}
		case Granted:
			if c.Cancelled {
				final = cancelled()
			}
			if final == nil {
				final = w.unlessDue(c)
			}
			if final != nil {
				return w.decide(ctx, c, *final)
			}
			return newAttempt(w, turn, c).run(ctx)
		case Closed:
			if final == nil || final.outcome != events.Rejected {
				final = duplicateOf(c.First)
			}
			return w.decide(ctx, c, *final)
		default:
			return w.answer(ctx, c)
		}
	}
	return w.parked(codeInProgress, "other requests for this message are being finished first", time.Second)
}

// answer is what a request gets that somebody else decides or has decided.
func (w *work) answer(ctx context.Context, c Claim) Result {
	switch c.Found {
	case Undelivered:
		return w.emit(ctx, c.Ask, c.Event, Result{Outcome: c.First.Outcome})
	case Repeated:
		return Result{
			Outcome: events.Duplicate, Code: "Redelivered",
			Message: "this event was decided before: " + string(c.First.Outcome),
		}
	case Contradicting:
		return w.emitUnrecorded(ctx, ending{
			outcome: events.Rejected, code: codeContradicting,
			message: "source and id of this event were used for another message before",
			hint:    "give every request an id of its own",
		}, w.ask.Message().Key())
	default:
		return w.parked(cmp.Or(c.Code, codeInProgress), "somebody is at this message, or it waits for its time", c.Wait)
	}
}

// interrupted decides a request whose worker died while sending: the fate of
// that push is unknown.
func (w *work) interrupted(ctx context.Context, turn Turn, c Claim) Result {
	if turn != nil && c.Request == w.ask.Request && w.repeats(c) {
		a := newAttempt(w, turn, c)
		a.unresolved, a.claim.MaybeDuplicate = interruptedEnding(), true
		return a.run(ctx)
	}
	return w.decide(ctx, c, *interruptedEnding())
}

func interruptedEnding() *ending {
	return &ending{
		outcome: events.Unknown, code: codeInterrupted,
		message: "the worker that pushed this message stopped before the answer came: it may have reached the consumer",
		hint:    "look at the consumer's own records; if the message is missing there, ask for the next generation",
	}
}

// repeats reports whether a push of unknown fate may be pushed once more.
func (w *work) repeats(c Claim) bool {
	return w.policy.OnUnknown == events.PushAgain && c.Data.OnUnknown != events.Hold && c.Pushes < w.policy.MaxPushes
}

// decide writes the outcome and its event, then sends the event.
func (w *work) decide(ctx context.Context, c Claim, e ending) Result {
	done := w.completed(c, e)
	event, err := events.NewCompleted(done)
	if err != nil {
		w.err = err
		return w.deferred("Internal", "the result could not be encoded", 0)
	}
	err = w.record(ctx, func(ctx context.Context) error {
		return w.ledger.Decide(ctx, c, Decision{Outcome: e.outcome, Event: event, At: w.Now()})
	})
	result := Result{Outcome: e.outcome, Code: e.code, Message: e.message, Hint: e.hint, MaybeDuplicate: done.MaybeDuplicate}
	switch {
	case errors.Is(err, ErrForgotten): // nobody else will tell
		if w.err = err; w.emitter.Send(ctx, event) != nil {
			return w.deferred(codeUndelivered, undeliveredMessage, 0)
		}
		return result
	case err != nil:
		return w.ledgerDown(err)
	}
	w.watch.ended(ctx, w.ledger, c.Data.OperationID, e.outcome, w.Now())
	return w.emit(ctx, c.Ask, event, result)
}

// emit sends a stored result. What is not marked as sent is sent once more
// under the same id, which is harmless.
func (w *work) emit(ctx context.Context, ask Ask, event events.Event, result Result) Result {
	if err := w.emitter.Send(ctx, event); err != nil {
		w.err = err
		return w.parked(codeUndelivered, undeliveredMessage, 0)
	}
	if err := w.outbox.sent(ctx, w.ledger, ask, w.Now()); err != nil {
		w.err = err
	}
	return result
}

// ledgerDown gives the request back: nothing is pushed without a claim.
func (w *work) ledgerDown(err error) Result {
	if errors.Is(err, ErrLost) {
		return w.parked(codeInProgress, "another worker has taken over this message", leaseMargin)
	}
	w.err = err
	code, message := codeLedger, "the ledger cannot be reached, so nothing is pushed"
	if e := asError(err); e.Code != "" {
		code, message = e.Code, message+": "+e.Error()
	}
	return w.deferred(code, message, time.Second)
}

// simulate is the dry run: it looks everything up and changes nothing.
func (w *work) simulate(ctx context.Context) Result {
	if final := w.unlessPushable(); final != nil {
		return w.emitUnrecorded(ctx, *final, "")
	}
	c, err := w.ledger.Read(ctx, w.ask)
	if err != nil {
		return w.ledgerDown(err)
	}
	e := ending{outcome: events.Simulated}
	switch final := w.unlessDue(c); {
	case c.Found == Busy:
		e.code, e.message = "WouldNotPush", "somebody is at this message, or it waits: "+c.Code
	case c.Cancelled:
		e.code, e.message = "WouldNotPush", cancelled().message
	case c.Found != Granted:
		e.code, e.message = "WouldNotPush", "the ledger knows this message already"
		if c.First.Outcome != "" {
			e.first = &c.First
		}
	case final != nil:
		e.code, e.message, e.hint = final.code, final.message, final.hint
	default:
		e = w.simulateClient(ctx)
	}
	return w.emitUnrecorded(ctx, e, "")
}

func (w *work) simulateClient(ctx context.Context) ending {
	e := ending{outcome: events.Simulated}
	named := w.ask.Data.ClientID
	id, err := w.clients.Choose(ctx, w.ask.Message(), w.lane())
	switch {
	case err != nil:
		failure := asError(err)
		e.code, e.message, e.hint = failure.code(), failure.Error(), w.hint(failure)
	case named != "" && !w.clients.Listed(w.ask.Message(), named):
		e.code, e.message = "ClientNotOnline", "the client that is named is not online; "+id+" is"
	default:
		w.clientID = cmp.Or(named, id)
		e.message = "would be pushed to " + w.clientID
	}
	return e
}
