package planning

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// stage is how far an incident has come.
type stage string

const (
	refused    stage = "refused"    // by the budget: that is to be told
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
	// dueMost bounds how long an incident is left alone.
	dueMost = time.Hour
	// maxAlerts bounds the incidents of alerts that are open or in their cooldown,
	// and the open ones of requests that no person sent: whoever may send those may
	// name any topic, and a thousand ids each.
	maxAlerts = 20
)

// group is what is remembered of a consumer group. Its methods decide by the
// moment they are given and do no I/O.
type group struct {
	Incidents []*incident
	// Spent is what was asked for without a person.
	Spent []*spending
	// Exhausted is when alerts used the budget up, or asked for more, once a day: the
	// second time in haltTime stays until a person plans.
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
	// Key tells which alerts or requests belong to it, Asked what a request asked
	// for.
	Key   string
	Asked string `json:",omitempty"`
	Plan  events.Plan
	// Alert: a monitor opened it. Person: who asked is a person, and so no budget
	// applies.
	Alert  bool
	Person bool
	// Request is the event that opened it.
	Request  pushing.RequestKey
	OpenedAt time.Time
	Stage    stage
	// Due is when to look at it again, LeaseUntil how long somebody is at it, and
	// Fence the number of the one who is.
	Due        time.Time
	LeaseUntil time.Time
	Fence      int64

	// OperationID names the manifest, once there is one.
	OperationID string         `json:",omitempty"`
	Manifest    ManifestReport `json:",omitzero"`
	// Announced: somebody was told of it by an event. Done counts the entries that
	// are dealt with, Tried those up to the last whose request was handed over, be
	// it without an answer. Requests counts those that were asked for, Lost those
	// of which that will never be known.
	Announced bool `json:",omitempty"`
	Done      int  `json:",omitempty"`
	Tried     int  `json:",omitempty"`
	Requests  int  `json:",omitempty"`
	Lost      int  `json:",omitempty"`
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
	return requestKey(d)
}

// requestKey tells a request for a plan by its event, and one group's from
// another's, whose documents are others.
func requestKey(d pushing.Delivery) string {
	return hash("request", d.Plan.InstanceID, d.Plan.GroupID, d.Request.Source, d.Request.ID)
}

// askedFor tells one plan from another.
func askedFor(p events.Plan) string {
	text, _ := json.Marshal(p) // texts, numbers and times that were decoded
	return hash(string(text))
}

// open returns the incident that a delivery belongs to, a new one if need be. nil:
// there are too many that no person opened.
func (g *group) open(d pushing.Delivery, p Policy, now time.Time) *incident {
	key, others, isPerson := keyOf(d), 0, d.Human && !d.Alert
	for _, in := range slices.Backward(g.Incidents) {
		// An alert's ends with its cooldown, a request's never.
		isOver := in.Alert && in.Stage == closed && !now.Before(in.ClosedAt.Add(p.Cooldown))
		if in.Key == key && !isOver {
			return in
		}
		if in.Alert == d.Alert && !in.Person && !isOver && (in.Alert || in.Stage != closed) {
			others++
		}
	}
	if !isPerson && others >= maxAlerts {
		return nil
	}
	in := &incident{
		ID: hash("incident", key, now.UTC().Format(time.RFC3339Nano)), Key: key, Asked: askedFor(*d.Plan), Plan: *d.Plan, Alert: d.Alert, Person: isPerson,
		Request: d.Request, OpenedAt: now, Due: now, Stage: selecting,
	}
	if !d.Alert {
		in.ID = hash("incident", key)
	}
	if code, message := g.refuses(in, p, now); code != "" {
		in.Stage, in.Code, in.Message = refused, code, message
	}
	if in.Person && in.sends(p) {
		g.Exhausted = nil
	}
	g.Incidents = append(g.Incidents, in)
	return in
}

// end closes an incident, and gives back what it did not use of the budget for
// certain.
func (g *group) end(in *incident, code, message string, p Policy, now time.Time) {
	in.Stage, in.Code, in.Message, in.ClosedAt = closed, code, message, now
	in.Plan.IDs, in.Plan.Keys = nil, nil // long, and in the manifest
	if s := g.spending(in); s != nil {
		s.Requests = in.Requests + in.Lost
		if unanswered := in.Tried - in.Done; unanswered > 0 {
			s.Requests, s.At = s.Requests+unanswered, now
		}
		if left, _ := g.room(p, now); left == 0 {
			g.exhaust(now)
		}
	}
	g.Spent = slices.DeleteFunc(g.Spent, func(s *spending) bool { return s.Requests == 0 })
}

// isTaken reports whether somebody is at it. A lease that is longer than any was
// given by a clock that was wrong.
func (in *incident) isTaken(now time.Time) bool {
	left := in.LeaseUntil.Sub(now)
	return left > 0 && left <= leaseMost
}

// take gives an open incident to one worker for the lease. It reports false when
// another one is at it.
func (in *incident) take(lease time.Duration, now time.Time) bool {
	if in.Stage == closed || in.isTaken(now) {
		return false
	}
	in.Fence = max(in.Fence+1, now.UnixMilli())
	in.LeaseUntil = now.Add(lease)
	return true
}

// exhaust notes that the budget is used up, once a day.
func (g *group) exhaust(now time.Time) {
	if n := len(g.Exhausted); n == 0 || now.Sub(g.Exhausted[n-1]) >= budgetTime {
		g.Exhausted = append(slices.DeleteFunc(g.Exhausted, func(at time.Time) bool { return now.Sub(at) >= haltTime }), now)
	}
}

// room is how many requests may still be asked for without a person.
func (g *group) room(p Policy, now time.Time) (requests, plans int) {
	requests, plans = p.GroupBudget, plansPerDay
	for _, s := range g.Spent {
		if g.counts(s, now) {
			requests -= s.Requests
			plans--
		}
	}
	return max(0, requests), max(0, plans)
}

// counts reports whether spending is within the budget's time. What an open incident
// has set aside does not lapse: it may still use it.
func (g *group) counts(s *spending, now time.Time) bool {
	in := g.find(s.IncidentID)
	return now.Sub(s.At) < budgetTime || in != nil && in.Stage != closed
}

func (g *group) spending(in *incident) *spending {
	if at := slices.IndexFunc(g.Spent, func(s *spending) bool { return s.IncidentID == in.ID }); at >= 0 {
		return g.Spent[at]
	}
	return nil
}

// spend notes what became of the next entries. One that was tried before and is not
// needed now may have been asked for.
func (g *group) spend(in *incident, fates []fate, now time.Time) {
	for _, f := range fates {
		switch {
		case f != dropped:
			in.Requests++
		case in.Done < in.Tried:
			in.Lost++
		}
		in.Done++
	}
	if s := g.spending(in); s != nil {
		s.At = now
	}
}

// refuses says why an incident without a person must not send requests now; an
// empty code means that it may.
func (g *group) refuses(in *incident, p Policy, now time.Time) (code, message string) {
	if in.Person || !in.sends(p) {
		return "", ""
	}
	if len(g.Exhausted) >= 2 {
		return CodeHalted, "pushing again does not help this group: its budget was used up on two days; mend the consumer, then let a person plan (repush plan --go --at fc://FUNCTION, which names this function): alerts then plan again"
	}
	requests, plans := g.room(p, now)
	if requests > 0 && plans > 0 {
		return "", ""
	}
	g.exhaust(now)
	return CodeBudget, budgetSpent
}

const budgetSpent = "what may be asked for without a person within 24 hours for this group, four plans and REPUSH_GROUP_BUDGET messages, is used up; a person may go on: repush plan --go --at fc://FUNCTION, which names this function"

// reserve sets aside how much of the budget an incident may use of what it wants:
// once, however often it is asked.
func (g *group) reserve(in *incident, want int, p Policy, now time.Time) (requests int) {
	if in.Person || !in.sends(p) {
		return want
	}
	if s := g.spending(in); s != nil {
		return s.Requests
	}
	requests, plans := g.room(p, now)
	if requests = min(requests, want); requests == 0 || plans == 0 {
		return 0
	}
	g.Spent = append(g.Spent, &spending{now, in.ID, requests})
	return requests
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
	g.Spent = slices.DeleteFunc(g.Spent, func(s *spending) bool { return !g.counts(s, now) })
	excess := len(g.Incidents) - maxIncidents
	g.Incidents = slices.DeleteFunc(g.Incidents, func(in *incident) bool {
		if in.Stage != closed {
			return false
		}
		excess--
		return excess >= 0 || now.Sub(in.ClosedAt) >= keep || in.Alert && now.Sub(in.ClosedAt) >= cooldown
	})
}

// wait is how long to leave it alone. A time that is further away than any was
// given by a clock that was wrong.
func (in *incident) wait(now time.Time) time.Duration {
	if left := in.Due.Sub(now); left > 0 && left <= dueMost {
		return left
	}
	return 0
}

// due is how long until an incident wants to be looked at; negative: none does.
func (g *group) due(now time.Time) time.Duration {
	next := time.Duration(-1)
	for _, in := range g.Incidents {
		if in.Stage == closed {
			continue
		}
		wait := in.wait(now)
		if in.isTaken(now) {
			wait = max(wait, in.LeaseUntil.Sub(now))
		}
		if next < 0 || wait < next {
			next = wait
		}
	}
	return next
}
