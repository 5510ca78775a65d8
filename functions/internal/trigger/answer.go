package trigger

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// Answer is what the platform is told.
type Answer struct {
	// Body is the return value, JSON.
	Body []byte
	// GiveBack: the invocation fails, so that the platform delivers everything
	// again. The ledger answers for what is done.
	GiveBack bool
	// Reason says why, in one line without payload; empty unless something has
	// to be delivered again.
	Reason string
	// RetryAfter is how long to wait before that: the longest that any request
	// asked for; zero means not known.
	RetryAfter time.Duration
	// Unauthorized: the sender may not send the one event that came.
	Unauthorized bool
}

// returnValue is the JSON of section 8 of the design. Deferred counts what is not
// decided, delivered again or parked.
type returnValue[R any] struct {
	Results  []R `json:"results"`
	Deferred int `json:"deferred"`
}

// Answer turns the results, in the order of the deliveries, into what the
// platform understands. A delivery without a result, or with one that is neither
// an outcome nor a report nor parked, counts as deferred: nobody knows that it
// was done. Results beyond the deliveries are ignored. SQS is told item by item,
// an HTTP trigger by status; every other platform knows nothing finer than the
// whole batch and gets it back when any request is deferred. A rejection is a
// success, and what is parked is the ledger's.
func (b Batch) Answer(results []pushing.Result) Answer {
	return b.answer(results, func(settled []pushing.Result, deferred int) any {
		value := returnValue[pushing.Result]{Results: []pushing.Result{}, Deferred: deferred}
		for i, r := range settled {
			value.Results = append(value.Results, resultOf(b.Deliveries[i], r))
		}
		return value
	})
}

// PlanAnswer is [Batch.Answer] for functions/plan. What is returned for a single
// delivery is its report, or why there is none; for several a list of these.
func (b Batch) PlanAnswer(results []pushing.Result) Answer {
	return b.answer(results, func(settled []pushing.Result, deferred int) any {
		value := returnValue[json.RawMessage]{Results: []json.RawMessage{}, Deferred: deferred}
		for _, r := range settled {
			value.Results = append(value.Results, reportOf(r))
		}
		if len(value.Results) == 1 {
			return value.Results[0]
		}
		return value
	})
}

// answer settles the results before they become a return value.
func (b Batch) answer(results []pushing.Result, returned func(settled []pushing.Result, deferred int) any) Answer {
	a := Answer{Unauthorized: len(b.Deliveries) == 1 && codeOf(b.Deliveries[0].Err) == CodeUnauthorized}
	var settled []pushing.Result
	deferred := 0
	var again []string // the items of what is deferred
	for i := range b.Deliveries {
		r := pushing.Result{Code: pushing.Internal.String(), Message: "no result", Deferred: true}
		if i < len(results) {
			r = results[i]
		}
		isDeferred := r.Deferred || r.Outcome == "" && r.Report == nil && !r.Parked
		if isDeferred || r.Parked {
			r.Outcome = ""
			deferred++
		}
		if isDeferred {
			a.RetryAfter = max(a.RetryAfter, r.RetryAfter)
			again = append(again, b.items[i])
			if len(again) == 1 {
				a.Reason = r.Code
			}
		}
		settled = append(settled, r)
	}
	if len(again) > 0 {
		a.Reason = fmt.Sprintf("%d of %d requests deferred, the first for %s", len(again), len(b.Deliveries), a.Reason)
	}
	value := encode(returned(settled, deferred))
	switch {
	case b.httpTrigger:
		a.Body = b.httpResponse(string(value), len(again) > 0, a.RetryAfter)
	case slices.ContainsFunc(b.items, func(item string) bool { return item != "" }):
		a.GiveBack = slices.Contains(again, "") // which cannot be named
		a.Body = itemFailures(again)
	default:
		a.Body, a.GiveBack = value, len(again) > 0
	}
	return a
}

// resultOf says in words when a report cannot be written: the event was obeyed,
// and to fail would deliver it again.
func resultOf(delivery pushing.Delivery, r pushing.Result) pushing.Result {
	r.EventID, r.MsgID = delivery.Request.ID, delivery.Data.MsgID
	report, err := json.Marshal(r.Report)
	if err != nil {
		r.Report, r.Code, r.Message = nil, pushing.Internal.String(), "the report is no JSON"
	} else if r.Report != nil {
		r.Report = json.RawMessage(report)
	}
	return r
}

// reportOf is the report of a result as JSON, or why there is none.
func reportOf(r pushing.Result) json.RawMessage {
	report, err := json.Marshal(r.Report)
	if err != nil {
		r.Code, r.Message = pushing.Internal.String(), "the report is no JSON"
	} else if r.Report != nil {
		return report
	}
	return encode(struct {
		Requests int    `json:"requests"`
		Code     string `json:"code,omitempty"`
		Message  string `json:"message,omitempty"`
	}{0, r.Code, r.Message})
}

// itemFailures names the messages SQS shall deliver again. The list must not be
// null, which would mean all of them (source: Lambda "Handling errors for an SQS
// event source").
func itemFailures(again []string) []byte {
	type failure struct {
		ItemIdentifier string `json:"itemIdentifier"`
	}
	failures := []failure{}
	for _, item := range slices.Compact(again) { // those of one record stand together
		failures = append(failures, failure{item})
	}
	return encode(map[string]any{"batchItemFailures": failures})
}

// httpResponse is the answer to a v1 event (source: fc-runtime-go-sdk
// events/http.go).
func (b Batch) httpResponse(body string, deferred bool, retryAfter time.Duration) []byte {
	status, headers := http.StatusOK, map[string]string{"Content-Type": "application/json"}
	code := ""
	if len(b.Deliveries) == 1 {
		code = codeOf(b.Deliveries[0].Err)
	}
	switch {
	case deferred:
		status = http.StatusServiceUnavailable
		seconds := (retryAfter + time.Second - 1) / time.Second
		headers["Retry-After"] = strconv.Itoa(max(1, int(seconds)))
	case b.NotAnEvent:
		status = http.StatusBadRequest
	case code == CodeUnauthorized:
		status = http.StatusUnauthorized
		headers["WWW-Authenticate"] = "Bearer"
	case code == CodeTooLarge:
		status = http.StatusRequestEntityTooLarge
	}
	return encode(map[string]any{"statusCode": status, "headers": headers, "isBase64Encoded": false, "body": body})
}

// encode cannot fail: it is given strings, numbers, maps, slices and JSON.
func encode(v any) []byte {
	body, _ := json.Marshal(v)
	return body
}
