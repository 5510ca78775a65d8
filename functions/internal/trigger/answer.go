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
type returnValue struct {
	Results  []any `json:"results"`
	Deferred int   `json:"deferred"`
}

// Answer turns the results, in the order of the deliveries, into what the
// platform understands. A delivery without a result, or with one that is neither
// an outcome nor a report nor parked, counts as deferred: nobody knows that it
// was done. Results beyond the deliveries are ignored. SQS is told item by item,
// an HTTP trigger by status; every other platform knows nothing finer than the
// whole batch and gets it back when any request is deferred. A rejection is a
// success, and what is parked is the ledger's.
func (b Batch) Answer(results []pushing.Result) Answer {
	return b.answer(results, resultOf, false)
}

// PlanAnswer is [Batch.Answer] for functions/plan. What is returned for a single
// delivery is its report, or why there is none; for several a list of these.
func (b Batch) PlanAnswer(results []pushing.Result) Answer {
	return b.answer(results, reportOf, true)
}

// answer settles the results and returns what shown makes of them. bare: a single one
// is returned without a list around it.
func (b Batch) answer(results []pushing.Result, shown func(pushing.Delivery, pushing.Result) any, bare bool) Answer {
	a := Answer{Unauthorized: len(b.Deliveries) == 1 && codeOf(b.Deliveries[0].Err) == CodeUnauthorized}
	value := returnValue{Results: []any{}}
	var again []string // the items of what is deferred
	for i, delivery := range b.Deliveries {
		r := pushing.Result{Code: pushing.Internal.String(), Message: "no result", Deferred: true}
		if i < len(results) {
			r = results[i]
		}
		isDeferred := r.Deferred || r.Outcome == "" && r.Report == nil && !r.Parked
		if isDeferred || r.Parked {
			r.Outcome = ""
			value.Deferred++
		}
		if isDeferred {
			a.RetryAfter = max(a.RetryAfter, r.RetryAfter)
			again = append(again, b.items[i])
			if len(again) == 1 {
				a.Reason = r.Code
			}
		}
		// The event was obeyed all the same, and to fail would deliver it again.
		if _, err := json.Marshal(r.Report); err != nil {
			r.Report, r.Code, r.Message = nil, pushing.Internal.String(), "the report is no JSON"
		}
		value.Results = append(value.Results, shown(delivery, r))
	}
	if len(again) > 0 {
		a.Reason = fmt.Sprintf("%d of %d requests deferred, the first for %s", len(again), len(b.Deliveries), a.Reason)
	}
	body := encode(value)
	if bare && len(value.Results) == 1 {
		body = encode(value.Results[0])
	}
	switch {
	case b.httpTrigger:
		a.Body = b.httpResponse(string(body), len(again) > 0, a.RetryAfter)
	case slices.ContainsFunc(b.items, func(item string) bool { return item != "" }):
		a.GiveBack = slices.Contains(again, "") // which cannot be named
		a.Body = itemFailures(again)
	default:
		a.Body, a.GiveBack = body, len(again) > 0
	}
	return a
}

func resultOf(delivery pushing.Delivery, r pushing.Result) any {
	r.EventID, r.MsgID = delivery.Request.ID, delivery.Data.MsgID
	return r
}

// reportOf is the report of a result, or why there is none.
func reportOf(_ pushing.Delivery, r pushing.Result) any {
	if r.Report != nil {
		return r.Report
	}
	return struct {
		Requests int    `json:"requests"`
		Code     string `json:"code,omitempty"`
		Message  string `json:"message,omitempty"`
	}{0, r.Code, r.Message}
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

// encode cannot fail: it is given strings, numbers, maps, slices and what is JSON.
func encode(v any) []byte {
	body, _ := json.Marshal(v)
	return body
}
