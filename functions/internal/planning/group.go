package planning

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// stage is how far an incident has come.
type stage string

const (
	selecting  stage = "selecting"  // also while nobody is online
	announcing stage = "announcing" // the manifest is frozen
	sending    stage = "sending"
	closed     stage = "closed"
)

const (
	// budgetTime is what the budgets of a group count.
	budgetTime = 24 * time.Hour
	// plansPerDay bounds the plans of a group without a person in budgetTime.
	plansPerDay = 4
	// haltTime: a group that used up its budget on two days of so many gets no
	// plans any more, until a person makes one.
	haltTime = 7 * 24 * time.Hour
	// maxIncidents bounds what is kept of a group: the oldest that are closed go.
	maxIncidents = 200
)

// group is what is remembered of a consumer group. Its methods decide by the
// moment they are given and do no I/O.
type group struct {
	Incidents []*incident
	// Spent is what was asked for without a person.
	Spent []spending
	// Exhausted is when alerts asked for more than the budget, once a day.
	Exhausted []time.Time
}

// spending is what one incident may ask for.
type spending struct {
	At         time.Time
	IncidentID string
	Requests   int
}

// incident is one case: an alert and its repeats, or one request for a plan.
type incident struct {
	ID string
	// Key tells which alerts or requests belong to it.
	Key  string
	Plan events.Plan
	// Alert: a monitor opened it. Person: who asked is a person, and so no budget
	// applies.
	Alert  bool
	Person bool
	// Request is the event that opened it.
	Request  pushing.RequestKey
	OpenedAt time.Time
	// Repeats counts the alerts, or redeliveries, that joined.
	Repeats int
	Stage   stage
	// Due is when to look at it again, LeaseUntil how long somebody is at it, and
	// Fence the number of the one who is.
	Due        time.Time
	LeaseUntil time.Time
	Fence      int64

	// OperationID names the manifest, once there is one.
	OperationID string         `json:",omitempty"`
	Manifest    ManifestReport `json:",omitzero"`
	// Announced: the manifest's events have left. Done counts the entries that
	// are dealt with, Requests those that were asked for.
	Announced bool `json:",omitempty"`
	Done      int  `json:",omitempty"`
	Requests  int  `json:",omitempty"`
	ClosedAt  time.Time
	Code      string `json:",omitempty"`
	Message   string `json:",omitempty"`
}

// sends reports whether requests follow the manifest.
func (in *incident) sends(p Policy) bool {
	return !in.Plan.DryRun && (!in.Alert || in.Plan.Source != events.Unconsumed || p.PushLag)
}

// hash is hex of SHA-256 over the parts, which hold no line feed, cut to 32.
func hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:16])
}

// keyOf tells an alert by what it is about, whoever sent it, and everything else
// by its event.
func keyOf(d pushing.Delivery) string {
	if d.Alert {
		return hash("alert", string(d.Plan.Source), d.Plan.InstanceID, d.Plan.GroupID, d.Plan.Topic)
	}
	return hash("request", d.Request.Source, d.Request.ID)
}

// open returns the incident that a delivery belongs to, a new one if need be.
func (g *group) open(d pushing.Delivery, p Policy, now time.Time) (in *incident, isNew bool) {
	key := keyOf(d)
	for _, in := range slices.Backward(g.Incidents) {
		// An alert's ends with its cooldown, a request's never.
		if in.Key == key && (!d.Alert || in.Stage != closed || now.Before(in.ClosedAt.Add(p.Cooldown))) {
			in.Repeats++
			return in, false
		}
	}
	in = &incident{
		ID: hash("incident", key, now.UTC().Format(time.RFC3339Nano)), Key: key, Plan: *d.Plan, Alert: d.Alert, Person: d.Human && !d.Alert,
		Request: d.Request, OpenedAt: now, Due: now, Stage: selecting,
	}
	if !d.Alert {
		in.ID = hash("incident", key)
	}
	if code, message := g.refuses(in, p, now); code != "" {
		in.end(code, message, now)
	}
	if in.Person && in.sends(p) {
		g.Exhausted = nil
	}
	g.Incidents = append(g.Incidents, in)
	return in, true
}

// end closes an incident.
func (in *incident) end(code, message string, now time.Time) {
	in.Stage, in.Code, in.Message, in.ClosedAt = closed, code, message, now
	in.Plan.IDs, in.Plan.Keys = nil, nil // long, and in the manifest
}

// take gives an open incident to one worker for the lease. It reports false when
// another one is at it.
func (in *incident) take(lease time.Duration, now time.Time) bool {
	if in.Stage == closed || now.Before(in.LeaseUntil) {
		return false
	}
	in.Fence = max(in.Fence+1, now.UnixMilli())
	in.LeaseUntil = now.Add(lease)
	return true
}

// room is how many requests may still be asked for without a person.
func (g *group) room(p Policy, now time.Time) (requests, plans int) {
	requests, plans = p.GroupBudget, plansPerDay
	for _, s := range g.Spent {
		if now.Sub(s.At) < budgetTime {
			requests -= s.Requests
			plans--
		}
	}
	return max(0, requests), max(0, plans)
}

// refuses says why an incident without a person must not send requests now; an
// empty code means that it may.
func (g *group) refuses(in *incident, p Policy, now time.Time) (code, message string) {
	if in.Person || !in.sends(p) {
		return "", ""
	}
	if g.isHalted(now) {
		return CodeHalted, "pushing again does not help this group: its budget was used up on two days; mend the consumer, then let a person plan (repush plan --go), which lets alerts plan again"
	}
	requests, plans := g.room(p, now)
	if requests > 0 && plans > 0 {
		return "", ""
	}
	if n := len(g.Exhausted); n == 0 || now.Sub(g.Exhausted[n-1]) >= budgetTime {
		g.Exhausted = append(g.Exhausted, now)
	}
	if plans == 0 {
		return CodeBudget, "alerts have made four plans for this group within 24 hours; a person may go on: repush plan --go"
	}
	return CodeBudget, budgetSpent
}

const budgetSpent = "what alerts may ask for within 24 hours for this group (REPUSH_GROUP_BUDGET) is used up; a person may go on: repush plan --go"

// reserve sets aside how much of the budget an incident may use of what it wants:
// once, however often it is asked.
func (g *group) reserve(in *incident, want int, p Policy, now time.Time) (requests int) {
	if in.Person || !in.sends(p) {
		return want
	}
	if at := slices.IndexFunc(g.Spent, func(s spending) bool { return s.IncidentID == in.ID }); at >= 0 {
		return g.Spent[at].Requests
	}
	requests, plans := g.room(p, now)
	if requests = min(requests, want); requests == 0 || plans == 0 {
		return 0
	}
	g.Spent = append(g.Spent, spending{now, in.ID, requests})
	return requests
}

func (g *group) isHalted(now time.Time) bool {
	n := 0
	for _, at := range g.Exhausted {
		if now.Sub(at) < haltTime {
			n++
		}
	}
	return n >= 2
}

// find returns the incident, or nil.
func (g *group) find(id string) *incident {
	if at := slices.IndexFunc(g.Incidents, func(in *incident) bool { return in.ID == id }); at >= 0 {
		return g.Incidents[at]
	}
	return nil
}

// forget drops what nothing depends on any more: an alert's incident after its
// cooldown, a request's after keep.
func (g *group) forget(cooldown, keep time.Duration, now time.Time) {
	g.Spent = slices.DeleteFunc(g.Spent, func(s spending) bool { return now.Sub(s.At) >= budgetTime })
	g.Exhausted = slices.DeleteFunc(g.Exhausted, func(at time.Time) bool { return now.Sub(at) >= haltTime })
	excess := len(g.Incidents) - maxIncidents
	g.Incidents = slices.DeleteFunc(g.Incidents, func(in *incident) bool {
		if in.Stage != closed {
			return false
		}
		excess--
		return excess >= 0 || now.Sub(in.ClosedAt) >= keep || in.Alert && now.Sub(in.ClosedAt) >= cooldown
	})
}

// due is how long until an incident wants to be looked at; negative: none does.
func (g *group) due(now time.Time) time.Duration {
	next := time.Duration(-1)
	for _, in := range g.Incidents {
		if in.Stage == closed {
			continue
		}
		wait := max(0, in.Due.Sub(now), in.LeaseUntil.Sub(now))
		if next < 0 || wait < next {
			next = wait
		}
	}
	return next
}
