package trigger

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

func wanted() events.Plan {
	r := asked()
	return events.Plan{InstanceID: r.InstanceID, GroupID: r.GroupID, Reason: "why", Source: events.DeadLetters}
}

func planData(t testing.TB) string { t.Helper(); return quote(t, wanted()) }

func planEvent(t testing.TB) string {
	t.Helper()
	return quote(t, events.Event{ID: event.ID, Source: event.Source, Type: events.TypePlanRequested, Data: json.RawMessage(planData(t))})
}

// In every envelope of a request a plan is read the same way, by functions/plan.
func TestEveryEnvelopeBringsAPlan(t *testing.T) {
	t.Parallel()
	checked := 0
	for name, text := range samples(t, "*") {
		compact, plan := quote(t, asked()), planData(t)
		bent := strings.ReplaceAll(text, events.TypeMessageRequested, events.TypePlanRequested)
		for range 4 { // strings in strings
			bent = strings.ReplaceAll(bent, compact, plan)
			compact, plan = quote(t, compact), quote(t, plan)
			compact, plan = compact[1:len(compact)-1], plan[1:len(plan)-1]
		}
		if !strings.Contains(bent, "dead-letter") {
			continue // in base64, or written with spaces
		}
		checked++
		d := one(t, bent, forPlan)
		if d.Err != nil || d.Alert || d.Silent || d.Request != envelopeSamples[name].key && d.Request.Source != SourceBare || d.Human != envelopeSamples[name].human {
			t.Errorf("%s: %+v", name, d)
		} else if diff := cmp.Diff(wanted(), *d.Plan); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if checked < 8 {
		t.Errorf("checked %d", checked)
	}
}

func TestWhatPlanTakes(t *testing.T) {
	t.Parallel()
	of := func(eventType, data string) string {
		return `{"specversion":"1.0","id":"1","source":"s","type":"` + eventType + `","data":` + data + `}`
	}
	again := strings.Replace(planData(t), "{", `{"again":true,`, 1)
	detail := func(eventType, data string) string {
		return `{"detail-type":"` + eventType + `","detail":` + data + `}`
	}
	const toRepush = "; send it to functions/repush"
	for name, c := range map[string]struct {
		body        string
		plan, sweep bool
		code, wrong string
		silent      bool
	}{
		"a plan":                       {body: of(events.TypePlanRequested, planData(t)), plan: true},
		"its data":                     {body: planData(t), plan: true},
		"as a detail":                  {body: detail(events.TypePlanRequested, planData(t)), plan: true},
		"a detail of data":             {body: detail("Ours", planData(t)), plan: true},
		"a sweep":                      {body: of(events.TypeSweepRequested, `{"limit":5}`), sweep: true, silent: true},
		"again, from a person":         {body: of(events.TypePlanRequested, again), plan: true},
		"again, its data":              {body: again, plan: true},
		"again, in a batch":            {body: "[" + again + "]", code: CodeNotTrusted, wrong: `not for "again"`},
		"again, in a message":          {body: detail(events.TypePlanRequested, again), code: CodeNotTrusted, wrong: "directly"},
		"again, by a bus":              {body: strings.Replace(of(events.TypePlanRequested, again), "{", `{"aliyunregionid":"r",`, 1), code: CodeNotTrusted, wrong: "directly"},
		"a request":                    {body: samples(t, "event")["event"], wrong: "type: must be \"repush:Plan:Requested\", \"repush:Sweep:Requested\" or an alert" + toRepush},
		"the data of one":              {body: bareData(t), wrong: "event: must be \"repush:Plan:Requested\", \"repush:Sweep:Requested\" or an alert" + toRepush},
		"an operation":                 {body: of(events.TypeOperationRequested, `{"action":"stop"}`), wrong: toRepush, silent: true},
		"an operation as a detail":     {body: detail(events.TypeOperationRequested, `{"action":"stop"}`), wrong: "detail-type: must be ", silent: true},
		"a detail of nothing":          {body: detail(events.TypeSweepRequested, "null"), code: CodeUnreadable, wrong: "no detail", silent: true},
		"a request as a detail":        {body: detail(events.TypeMessageRequested, bareData(t)), wrong: "detail-type: must be "},
		"another type":                 {body: of("t", "{}"), wrong: "or an alert"},
		"a result":                     {body: of(events.TypeMessageCompleted, "{}"), code: CodeLoop, wrong: "came back", silent: true},
		"a result of its own":          {body: of(events.TypePlanCompleted, "{}"), code: CodeLoop, wrong: "came back", silent: true},
		"a result's data":              {body: `{"request":{},"outcome":"pushed"}`, code: CodeLoop, wrong: "came back", silent: true},
		"a plan without a source":      {body: `{"instanceId":"i","groupId":"gg","reason":"r"}`, wrong: "source: is required"},
		"a plan that is wrong":         {body: strings.Replace(of(events.TypePlanRequested, again), `"why"`, `""`, 1), wrong: "reason: "},
		"a plan with wrong attributes": {body: strings.Replace(of(events.TypePlanRequested, planData(t)), `"1.0"`, `"2"`, 1), wrong: "specversion: "},
		"nothing known":                {body: `{"a":1}`, code: CodeUnreadable, wrong: "neither an event nor"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := one(t, c.body, forPlan)
			if (d.Plan != nil) != c.plan || (d.Sweep != nil) != c.sweep || d.Operation != nil || d.Silent != c.silent || d.Alert || d.Data != (events.Requested{}) {
				t.Errorf("%+v", d)
			}
			if codeOf(d.Err) != c.code || (d.Err != nil) != (c.wrong != "") || d.Err != nil && !strings.Contains(d.Err.Error(), c.wrong) {
				t.Errorf("Err = %v with code %q, want %q with %q", d.Err, codeOf(d.Err), c.wrong, c.code)
			}
		})
	}
}

func TestAPlanIsNotForRepush(t *testing.T) {
	t.Parallel()
	for _, body := range []string{planEvent(t), `{"detail-type":"repush:Plan:Requested","detail":` + planData(t) + `}`} {
		d := one(t, body, allowed)
		if d.Plan != nil || d.Err == nil || d.Silent || !strings.Contains(d.Err.Error(), `type: must be "repush:Message:Requested"`) || !strings.HasSuffix(d.Err.Error(), "; send it to functions/plan") {
			t.Errorf("%+v", d)
		}
	}
}

func TestAnswerOfPlan(t *testing.T) {
	t.Parallel()
	report := map[string]any{"operationId": "op", "manifest": map[string]any{"count": 3}, "requests": 3}
	sent := pushing.Result{Code: "Done", Report: report}
	const text = `{"manifest":{"count":3},"operationId":"op","requests":3}`
	const busy = `{"requests":0,"code":"NoSlot"}`
	event, v1 := planEvent(t), func(body string) string {
		return `{"headers":{"authorization":"Bearer t0ken"},"requestContext":{},"body":` + quote(t, body) + `}`
	}
	sqs := `{"Records":[{"messageId":"m","receiptHandle":"r","body":` + quote(t, event) + `},{"messageId":"n","receiptHandle":"r","body":` + quote(t, event) + `}]}`
	for name, c := range map[string]struct {
		body    string
		results []pushing.Result
		want    Answer
		text    string
	}{
		"a report":                 {event, []pushing.Result{sent}, Answer{}, text},
		"of one in a list":         {"[" + event + "]", []pushing.Result{sent}, Answer{}, text},
		"nothing to do":            {event, []pushing.Result{{Code: "Nothing", Message: "the state is OK", Outcome: events.Rejected}}, Answer{}, `{"requests":0,"code":"Nothing","message":"the state is OK"}`},
		"parked":                   {event, []pushing.Result{{Code: "InProgress", Parked: true}}, Answer{}, `{"requests":0,"code":"InProgress"}`},
		"deferred":                 {event, []pushing.Result{later}, Answer{GiveBack: true, Reason: "1 of 1 requests deferred, the first for NoSlot", RetryAfter: 1500 * time.Millisecond}, busy},
		"deferred with a report":   {event, []pushing.Result{{Code: "NoSlot", Deferred: true, Report: report}}, Answer{GiveBack: true, Reason: "1 of 1 requests deferred, the first for NoSlot"}, text},
		"no result":                {event, nil, Answer{GiveBack: true, Reason: "1 of 1 requests deferred, the first for Internal"}, `{"requests":0,"code":"Internal","message":"no result"}`},
		"a report that is no JSON": {event, []pushing.Result{{Report: func() {}}}, Answer{}, `{"requests":0,"code":"Internal","message":"the report is no JSON"}`},
		"several":                  {"[" + event + "," + event + "," + event + "]", []pushing.Result{sent, later, {Code: "InProgress", Parked: true}}, Answer{GiveBack: true, Reason: "1 of 3 requests deferred, the first for NoSlot", RetryAfter: 1500 * time.Millisecond}, `{"results":[` + text + `,` + busy + `,{"requests":0,"code":"InProgress"}],"deferred":2}`},
		"none":                     {"[]", nil, Answer{}, `{"results":[],"deferred":0}`},
		"SQS":                      {sqs, []pushing.Result{sent, later}, Answer{Reason: "1 of 2 requests deferred, the first for NoSlot", RetryAfter: 1500 * time.Millisecond}, `{"batchItemFailures":[{"itemIdentifier":"n"}]}`},
		"an HTTP trigger":          {v1(event), []pushing.Result{sent}, Answer{}, `{"body":` + quote(t, text) + `,"headers":{"Content-Type":"application/json"},"isBase64Encoded":false,"statusCode":200}`},
		"an HTTP trigger, later":   {v1(event), []pushing.Result{later}, Answer{Reason: "1 of 1 requests deferred, the first for NoSlot", RetryAfter: 1500 * time.Millisecond}, `{"body":` + quote(t, busy) + `,"headers":{"Content-Type":"application/json","Retry-After":"2"},"isBase64Encoded":false,"statusCode":503}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Decode([]byte(c.body), forPlan).PlanAnswer(c.results)
			if string(got.Body) != c.text {
				t.Errorf("Body = %s, want %s", got.Body, c.text)
			}
			got.Body = nil
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
