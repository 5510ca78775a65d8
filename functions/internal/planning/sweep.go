package planning

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// Swept is the report of a sweep.
type Swept struct {
	// Taken counts the incidents that the sweep went on with, Closed those of
	// them that are done, Open the groups with incidents that are not.
	Taken  int `json:"taken"`
	Closed int `json:"closed"`
	Open   int `json:"openGroups"`
	// Problems are why some did not get on.
	Problems []string `json:"problems,omitempty"`
}

// sweep goes on with the incidents that are due, as far as time allows. problems are
// those of its report: nobody reads what a timer's invocation returns.
func (s *Service) sweep(ctx context.Context, invocationID string, want events.Sweep) (result pushing.Result, problems error) {
	var report Swept
	const groups = 100
	keys, _, err := s.docs.Due(ctx, groups)
	switch {
	case isRecord(ctx, err) && len(keys) > 0:
		problems = err
	case err != nil:
		return s.stateDown(err), err
	}
	for _, key := range keys {
		for ctx.Err() == nil && (want.Limit == 0 || report.Taken < want.Limit) {
			w := s.newWork(ctx, key)
			taken, err := w.next(ctx)
			if err != nil {
				problems = errors.Join(problems, err)
			}
			if !taken || err != nil {
				break
			}
			report.Taken++
			result, err := w.run(ctx)
			if w.incident.Stage == closed {
				report.Closed++
			}
			s.Log(Line{
				InvocationID: invocationID, Request: w.incident.Request, Plan: w.incident.Plan, Report: w.report(),
				Outcome: result.Outcome, Parked: w.incident.Stage != closed, Err: err,
			})
		}
	}
	// What was done is reported even when the invocation is over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTime)
	defer cancel()
	if _, report.Open, err = s.docs.Due(ctx, 0); err != nil && !isRecord(ctx, err) {
		return s.stateDown(err), err
	}
	if problems != nil {
		report.Problems = strings.Split(problems.Error(), "\n")
	}
	return pushing.Result{Code: CodeDone, Report: report, Message: fmt.Sprintf("%d incidents taken up, %d closed, %d groups with open ones", report.Taken, report.Closed, report.Open)}, problems
}

// next takes the incident of the group that is due longest, so that a long one does
// not hold up the others; false: there is none.
func (w *work) next(ctx context.Context) (taken bool, err error) {
	err = w.update(ctx, w.key, func(g *group) error {
		byDue := func(a, b *incident) int { return a.Due.Compare(b.Due) }
		for _, in := range slices.SortedStableFunc(slices.Values(g.Incidents), byDue) {
			if in.wait(w.Now()) == 0 && in.take(w.lease, w.Now()) {
				w.incident = *in
				return nil
			}
		}
		return errLost
	})
	if errors.Is(err, errLost) {
		return false, nil
	}
	return err == nil, err
}
