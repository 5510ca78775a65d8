package planning

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// Policy is what the operator decided.
type Policy struct {
	Allow pushing.AllowList
	// PushLag lets alerts about lag send requests.
	PushLag bool
	// Cooldown is how long after its end alerts still join an incident.
	Cooldown time.Duration
	// Limit bounds the messages of one plan; at least 1.
	Limit int
	// GroupBudget bounds what may be asked for in 24 h without a person, for each
	// group.
	GroupBudget int
	// MaxPushes, MaxAge and QPS are those of the function that pushes.
	MaxPushes int
	MaxAge    time.Duration
	QPS       float64
}

// Ports are what planning calls.
type Ports struct {
	Pager       Pager
	Finder      Finder
	Watcher     Watcher
	Connections pushing.Connections
	// Pacer is that of an operation's quota.
	Pacer     func(operation string) pushing.Pacer
	Histories Histories
	// Work is the ledger's open work and its orders.
	Work interface {
		pushing.Backlog
		Progress(ctx context.Context, operationID string) (pushing.Progress, error)
	}
	Documents Documents
	// Results takes the plans' events, Requests the requests.
	Results, Requests pushing.Emitter
}

// Codes of results, beside those of the API.
const (
	CodeDone          = "Done"
	CodeNothing       = "NothingToDo"
	CodeJoined        = "Joined"
	CodeBudget        = "BudgetSpent"
	CodeHalted        = "Halted"
	CodeLag           = "LagManifest"
	CodeNotAllowed    = "NotAllowed"
	CodeInvalid       = "Invalid"
	CodeContradicting = "Contradicting"
	CodeNoClient      = "NoClientOnline"
	CodeGoesOn        = "GoesOn"
	CodeInProgress    = "InProgress"
	CodeState         = "StateUnavailable"
	CodeSink          = "NotDelivered"
	CodeExpired       = "Expired"
)

// Report is the function's return value for one delivery.
type Report struct {
	OperationID string          `json:"operationId,omitempty"`
	IncidentID  string          `json:"incidentId,omitempty"`
	Manifest    *ManifestReport `json:"manifest,omitempty"`
	// Requests counts those that were sent so far.
	Requests int `json:"requests"`
	// Open: the incident goes on.
	Open    bool   `json:"open,omitempty"`
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

// Line is what the log says of one delivery, or of an incident that a sweep went
// on with.
type Line struct {
	InvocationID string
	Request      pushing.RequestKey
	Plan         events.Plan
	Report       Report
	Outcome      events.Outcome
	Parked       bool
	Deferred     bool
	// Err is the error behind it, redacted; nil when there was none.
	Err error
}

// Service plans. Make one with [NewService]. Safe for concurrent use.
type Service struct {
	policy Policy
	ports  Ports
	docs   Documents

	// Log is told of every delivery. Set before use; safe for concurrent use.
	Log func(Line)
	// Draining ends when the process is about to stop; nil means never. Set
	// before use.
	Draining context.Context
	// Now is the clock. Set before use.
	Now func() time.Time
}

// NewService returns a service over its ports.
func NewService(p Policy, ports Ports) *Service {
	return &Service{policy: p, ports: ports, docs: ports.Documents, Log: func(Line) {}, Now: time.Now}
}

// Handle plans for the deliveries of one invocation and returns one result each.
// All are noted first, and then worked on one after the other, because they share
// the quotas. What does not fit into ctx's deadline goes on with the sweep, or is
// deferred where the documents do not outlive the process. A result's Report is a
// [Report], or a [Swept].
func (s *Service) Handle(ctx context.Context, invocationID string, deliveries []pushing.Delivery) []pushing.Result {
	ctx, cancel := s.untilStop(ctx)
	defer cancel()
	results := make([]pushing.Result, len(deliveries))
	jobs := make([]*job, len(deliveries))
	for i, d := range deliveries {
		jobs[i] = &job{Service: s, delivery: d, line: Line{InvocationID: invocationID, Request: d.Request}}
		jobs[i].guarded(func() { jobs[i].begin(ctx) })
	}
	for i, j := range jobs {
		if i > 0 && j.result.Code == CodeInProgress && ctx.Err() == nil { // maybe by another of these
			j.guarded(func() { j.begin(ctx) })
		}
		if j.goesOn {
			j.guarded(func() { j.result, j.line.Err = j.work.run(ctx) })
		}
		j.log()
		results[i] = j.result
	}
	return results
}

// job is what is done for one delivery.
type job struct {
	*Service
	delivery pushing.Delivery
	line     Line
	result   pushing.Result
	work     *work
	// goesOn: the work is ours to go on with; else the result is final.
	goesOn bool
}

// guarded answers a panic: the platform delivers again, and the documents know how
// far it came. Its value may be anything, and is not shown.
func (j *job) guarded(do func()) {
	defer func() {
		if p := recover(); p != nil {
			j.goesOn, j.line.Err = false, fmt.Errorf("panic of type %T", p)
			j.result = pushing.Result{Code: pushing.Internal.String(), Message: "an unexpected error in ons-repush; the event is given back", Deferred: true}
		}
	}()
	do()
}

// begin answers what needs no work, and notes what does.
func (j *job) begin(ctx context.Context) {
	d := j.delivery
	if d.Plan != nil {
		j.line.Plan = *d.Plan
	}
	switch {
	case d.Err != nil:
		j.result = j.refuse(ctx, d, Report{Code: pushing.RejectionCode(d.Err), Message: d.Err.Error()})
	case d.Sweep != nil:
		j.result, j.line.Err = j.sweep(ctx, j.line.InvocationID, *d.Sweep)
	case d.Nothing != "":
		j.result = answer(Report{Code: CodeNothing, Message: d.Nothing})
	case d.Plan == nil:
		j.result = j.refuse(ctx, d, Report{Code: CodeInvalid, Message: "not a plan"})
	case !j.policy.Allow.AllowsGroup(d.Plan.InstanceID, d.Plan.GroupID, d.Plan.Topic):
		j.result = j.refuse(ctx, d, Report{Code: CodeNotAllowed, Message: fmt.Sprintf("this group is not on the allow-list: to allow it, add %s/%s/%s to REPUSH_ALLOW", d.Plan.InstanceID, d.Plan.GroupID, cmp.Or(d.Plan.Topic, "TOPIC"))})
	default:
		j.work, j.goesOn, j.result, j.line.Err = j.join(ctx, d)
	}
}

func (j *job) log() {
	j.result.EventID = j.delivery.Request.ID
	report, isPlan := j.result.Report.(Report)
	if !isPlan {
		report = Report{Code: j.result.Code, Message: j.result.Message}
	}
	j.line.Report, j.line.Outcome, j.line.Parked, j.line.Deferred = report, j.result.Outcome, j.result.Parked, j.result.Deferred
	j.Log(j.line)
}

// saveTime is kept of every invocation to keep what was found.
const saveTime = 2 * time.Second

// untilStop ends the context when no call may be begun any more.
func (s *Service) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	cancelTime := context.CancelFunc(func() {})
	if deadline, limited := ctx.Deadline(); limited {
		ctx, cancelTime = context.WithDeadline(ctx, deadline.Add(-min(saveTime, deadline.Sub(s.Now())/4)))
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := func() bool { return true }
	if s.Draining != nil {
		if stop = context.AfterFunc(s.Draining, cancel); s.Draining.Err() != nil {
			cancel() // AfterFunc does so a little later
		}
	}
	return ctx, func() { stop(); cancel(); cancelTime() }
}

// answer is the result of what is done with.
func answer(r Report) pushing.Result {
	return pushing.Result{Code: r.Code, Message: r.Message, Report: r}
}

// refuse answers what cannot be right, by an event, too, where somebody asked for
// a plan: an alert has nobody who waits for one.
func (s *Service) refuse(ctx context.Context, d pushing.Delivery, r Report) pushing.Result {
	result := answer(r)
	result.Outcome = events.Rejected
	if d.Silent || d.Alert {
		return result
	}
	if d.Plan == nil {
		d.Plan = new(events.Plan)
	}
	none := incident{ID: hash("incident", requestKey(d), r.Code), Plan: *d.Plan, OpenedAt: s.Now(), Code: r.Code, Message: r.Message}
	if err := s.emit(ctx, (&work{Service: s, incident: none}).head()); err != nil {
		return pushing.Result{Code: CodeSink, Message: "the plan was refused, and the result event could not be delivered: " + err.Error(), Deferred: true}
	}
	return result
}

// emit sends a manifest, in as many parts as it needs. The error is a
// [*pushing.Error] when it can never be sent.
func (s *Service) emit(ctx context.Context, p events.Planned) error {
	var batch []events.Event
	for _, part := range events.Parts(p) {
		event, err := events.NewPlanned(part, part.IncidentID, s.Now())
		if err != nil { // and will be the next time
			return &pushing.Error{Kind: pushing.Invalid, Op: "plan", Err: err}
		}
		batch = append(batch, event)
	}
	return s.ports.Results.Send(ctx, batch...)
}

// keep is how long documents outlive their last change: longer than any message,
// cooldown and budget.
func (s *Service) keep() time.Duration { return s.policy.MaxAge + 2*haltTime }

// update changes the document of a group; change may be called more than once.
func (s *Service) update(ctx context.Context, key string, change func(*group) error) error {
	for {
		text, version, err := s.docs.Load(ctx, key)
		if err != nil {
			return err
		}
		g := new(group)
		if text != nil && json.Unmarshal(text, g) != nil {
			return &pushing.Error{Kind: pushing.Internal, Op: "plan", Err: fmt.Errorf("what is kept under %s cannot be read: restore it, or delete it, which forgets the group's incidents and budget", key)}
		}
		now := s.Now()
		if err := change(g); err != nil {
			return err
		}
		g.forget(s.policy.Cooldown, s.keep(), now)
		if text, err = json.Marshal(g); err != nil {
			return err
		}
		if _, err = s.docs.Save(ctx, key, version, text, s.keep(), g.due(now)); !errors.Is(err, ErrConflict) {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}
