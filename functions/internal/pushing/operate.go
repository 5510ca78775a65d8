package pushing

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// StatusReport answers the action status.
type StatusReport struct {
	// Progress is that of an operation or of everything, History that of a
	// message; the other one is nil.
	Progress *Progress `json:"progress,omitempty"`
	History  *History  `json:"history,omitempty"`
	// Rate is in decisions a second since the first one; ETASeconds how long
	// the rest takes at that rate. Zero means not known.
	Rate       float64 `json:"perSecond,omitempty"`
	ETASeconds int64   `json:"etaSeconds,omitempty"`
	// Quota is how the quota is shared.
	Quota any `json:"quota,omitempty"`
}

// operate obeys an operator, or answers a question.
func (w *work) operate(ctx context.Context, op events.Operation) Result {
	m := Message{op.InstanceID, op.Topic, op.GroupID, strings.ToUpper(op.MsgID)}
	scope := Everything
	switch {
	case op.OperationID != "":
		scope = OfOperation(op.OperationID)
	case op.MsgID != "":
		scope = OfMessage(m)
	}
	switch op.Action {
	case events.Stop:
		return w.order(ctx, op, scope, CodeStopped)
	case events.Pause:
		return w.unlessCancelled(ctx, op, scope, m, CodePaused)
	case events.Cancel:
		return w.order(ctx, op, scope, CodeCancelled)
	case events.Start:
		return w.order(ctx, op, scope, "")
	case events.Continue:
		return w.unlessCancelled(ctx, op, scope, m, "")
	case events.Describe:
		return Result{Code: codeDone, Report: w.Describe(ctx)}
	}
	report, err := w.status(ctx, op, m)
	if err != nil {
		return w.ledgerDown(err)
	}
	return Result{Code: codeDone, Report: report}
}

// order gives or lifts an order. Its message is for the log: who asked, and why.
func (w *work) order(ctx context.Context, op events.Operation, s Scope, code string) Result {
	if err := w.ledger.Order(ctx, s, Order{Code: code}); err != nil {
		return w.ledgerDown(err)
	}
	return Result{
		Code: codeDone, Report: map[string]string{"scope": string(s), "order": code},
		Message: fmt.Sprintf("%s %s; asked by %s: %s", op.Action, s, cmp.Or(op.RequestedBy, "nobody named"), cmp.Or(op.Reason, "no reason given")),
	}
}

// unlessCancelled gives or lifts an order, but after a cancellation, which is
// final.
func (w *work) unlessCancelled(ctx context.Context, op events.Operation, s Scope, m Message, code string) Result {
	report, err := w.status(ctx, op, m)
	if err != nil {
		return w.ledgerDown(err)
	}
	if slices.Contains(report.orders(), CodeCancelled) {
		return Result{Code: CodeCancelled, Message: "it was cancelled, which is final; " + cancelledHint, Report: report}
	}
	return w.order(ctx, op, s, code)
}

func (r StatusReport) orders() []string {
	if r.History != nil {
		return r.History.Orders
	}
	return r.Progress.Orders
}

func (w *work) status(ctx context.Context, op events.Operation, m Message) (r StatusReport, err error) {
	if op.MsgID != "" {
		history, err := w.ledger.History(ctx, m)
		return StatusReport{History: &history}, err
	}
	p, err := w.ledger.Progress(ctx, op.OperationID)
	if err != nil {
		return r, err
	}
	r.Progress = &p
	decisions := p.States["decided"] + p.States["emitted"]
	if took := p.Last.Sub(p.First); decisions > 1 && took >= time.Second {
		r.Rate = float64(decisions-1) / took.Seconds()
		open := p.States["waiting"] + p.States["claimed"] + p.States["sending"]
		r.ETASeconds = int64(float64(open)/r.Rate + 0.5)
	}
	r.Quota = w.Shares(ctx)
	return r, nil
}
