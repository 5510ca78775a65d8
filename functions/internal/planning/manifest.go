package planning

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// ManifestReport is what the function's return value says of a manifest.
type ManifestReport struct {
	Count      int              `json:"count"`
	SHA256     string           `json:"sha256,omitempty"` // none where Count is 0
	LeftOut    []events.LeftOut `json:"leftOut,omitempty"`
	Incomplete string           `json:"incomplete,omitempty"`
}

// freeze makes the manifest of a selection that is done. room is how many requests
// the group's budget leaves. It is whole, in one part.
func (w *work) freeze(s *selection, room, open int) events.Planned {
	in, p := w.incident, w.head()
	p.CutOff, p.Calls, p.Incomplete, p.Code, p.Message = s.CutOff.UTC(), s.Calls, strings.Join(s.Incomplete, "; "), "", ""
	for i, c := range s.Candidates {
		switch {
		case c.Out:
		case i >= s.Judged || len(p.Entries) >= w.policy.limitOf(in.Plan):
			s.leaveOut(outLimit, c.MsgID)
		case len(p.Entries) >= room:
			s.leaveOut(outBudget, c.MsgID)
		default:
			p.Entries = append(p.Entries, c.Entry)
		}
	}
	p.Count = len(p.Entries)
	for _, reason := range slices.Sorted(maps.Keys(s.Out)) {
		ids := s.Out[reason]
		slices.Sort(ids)
		named := slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
			return requested(in.Plan, events.Entry{Topic: "any", MsgID: id}).Validate() != nil
		})
		p.LeftOut = append(p.LeftOut, events.LeftOut{Reason: reason, Count: len(ids), MsgIDs: named})
	}
	switch {
	case p.Count == 0 && len(s.Out[outBudget]) > 0:
		p.Code, p.Message = CodeBudget, budgetSpent
		return p
	case p.Count == 0:
		p.Code, p.Message = CodeNothing, "no message needs a push"
		if p.Incomplete != "" {
			p.Message = "nothing that was found needs a push, and there may be more: incomplete says why"
		}
		return p
	}
	p.SHA256 = events.ManifestHash(p.Entries)
	p.OperationID = "plan-" + hash(in.ID, p.SHA256)
	p.Estimate = w.estimate(p.Entries, open)
	if p.DryRun && !in.Plan.DryRun {
		p.Code, p.Message = CodeLag, "the queue will deliver these messages by itself once the group consumes: alerts about lag end here unless REPUSH_PLAN_LAG=push"
	}
	return p
}

// estimate is for entries whose requests go behind open others.
func (w *work) estimate(entries []events.Entry, open int) (e events.Estimate) {
	now := w.Now()
	for i, entry := range entries {
		turn := time.Duration(float64(open+i+1) / w.policy.QPS * float64(time.Second))
		e.Seconds = int((turn + time.Second - 1) / time.Second)
		if !entry.StoredAt.IsZero() && now.Add(turn).Sub(entry.StoredAt) >= w.policy.MaxAge {
			e.Expiring++
		}
	}
	return e
}

// limitOf is how many messages a plan may have.
func (p Policy) limitOf(plan events.Plan) int {
	return min(cmp.Or(plan.Limit, p.Limit), p.Limit)
}

// reportOf is the manifest in the return value.
func reportOf(p events.Planned) ManifestReport {
	r := ManifestReport{Count: p.Count, SHA256: p.SHA256, Incomplete: p.Incomplete}
	for _, out := range p.LeftOut {
		r.LeftOut = append(r.LeftOut, events.LeftOut{Reason: out.Reason, Count: out.Count})
	}
	return r
}

// Keys of documents.
func groupKey(p events.Plan) string        { return "group/" + p.InstanceID + "/" + p.GroupID }
func scanKey(incidentID string) string     { return "scan/" + incidentID }
func manifestKey(incidentID string) string { return "manifest/" + incidentID }

// keepManifest stores a manifest unless the incident has one, which is returned:
// whoever comes second uses the first one's.
func (w *work) keepManifest(ctx context.Context, p events.Planned) (events.Planned, error) {
	text, err := json.Marshal(p)
	if err != nil {
		return p, err
	}
	if _, err = w.docs.Save(ctx, manifestKey(p.IncidentID), 0, text, w.policy.MaxAge+budgetTime, -1); errors.Is(err, ErrConflict) {
		return w.manifest(ctx)
	}
	return p, err
}

// manifest is the stored one.
func (w *work) manifest(ctx context.Context) (p events.Planned, err error) {
	text, _, err := w.docs.Load(ctx, manifestKey(w.incident.ID))
	switch {
	case err != nil:
		return p, err
	case text == nil || json.Unmarshal(text, &p) != nil:
		return p, &pushing.Error{Kind: pushing.Internal, Op: "plan", Err: fmt.Errorf("the manifest of incident %s is gone or cannot be read: cancel its operation if it has one, and plan again", w.incident.ID)}
	}
	return p, nil
}
