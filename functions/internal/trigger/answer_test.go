package trigger

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	lambda "github.com/aws/aws-lambda-go/events"
	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

var (
	done      = pushing.Result{EventID: "req-1", MsgID: "m", Outcome: events.Pushed}
	refusedR  = pushing.Result{EventID: "req-1", MsgID: "m", Outcome: events.Rejected, Code: "NotAllowed", Message: `say "please" & wait`}
	later     = pushing.Result{EventID: "req-1", MsgID: "m", Code: "NoSlot", Deferred: true, RetryAfter: 1500 * time.Millisecond}
	muchLater = pushing.Result{EventID: "req-1", MsgID: "m", Code: "NoClient", Deferred: true, RetryAfter: time.Minute}
	parked    = pushing.Result{EventID: "req-1", MsgID: "m", Code: "BreakerOpen", Message: "it waits", Parked: true, RetryAfter: time.Hour}
	reported  = pushing.Result{EventID: "req-1", Code: "Done", Message: "so far", Report: map[string]int{"open": 3}}
)

const msgID = "C0000207109218B4AAC24C2F8E4D0001"

func TestAnswerOfABatch(t *testing.T) {
	t.Parallel()
	pushed := fmt.Sprintf(`{"eventId":"req-1","msgId":%q,"outcome":"pushed"}`, msgID)
	noSlot := fmt.Sprintf(`{"eventId":"req-1","msgId":%q,"code":"NoSlot"}`, msgID)
	waits := fmt.Sprintf(`{"eventId":"req-1","msgId":%q,"code":"BreakerOpen","message":"it waits"}`, msgID)
	report := fmt.Sprintf(`{"eventId":"req-1","msgId":%q,"code":"Done","message":"so far","report":{"open":3}}`, msgID)
	lost := fmt.Sprintf(`{"eventId":"req-1","msgId":%q,"code":"Internal","message":"no result"}`, msgID)
	for name, c := range map[string]struct {
		deliveries int
		results    []pushing.Result
		want       Answer
		body       string
	}{
		"nothing":      {0, nil, Answer{}, `{"results":[],"deferred":0}`},
		"pushed":       {1, []pushing.Result{done}, Answer{}, `{"results":[` + pushed + `],"deferred":0}`},
		"rejected":     {1, []pushing.Result{refusedR}, Answer{}, fmt.Sprintf(`{"results":[{"eventId":"req-1","msgId":%q,"outcome":"rejected","code":"NotAllowed","message":"say \"please\" & wait"}],"deferred":0}`, msgID)},
		"one deferred": {3, []pushing.Result{done, later, done}, Answer{GiveBack: true, Reason: "1 of 3 requests deferred, the first for NoSlot", RetryAfter: 1500 * time.Millisecond}, `{"results":[` + pushed + `,` + noSlot + `,` + pushed + `],"deferred":1}`},
		"the longest":  {2, []pushing.Result{muchLater, later}, Answer{GiveBack: true, Reason: "2 of 2 requests deferred, the first for NoClient", RetryAfter: time.Minute}, `{"results":[` + strings.Replace(noSlot, "NoSlot", "NoClient", 1) + `,` + noSlot + `],"deferred":2}`},
		"no results":   {2, nil, Answer{GiveBack: true, Reason: "2 of 2 requests deferred, the first for Internal"}, `{"results":[` + lost + `,` + lost + `],"deferred":2}`},
		"too few":      {2, []pushing.Result{done}, Answer{GiveBack: true, Reason: "1 of 2 requests deferred, the first for Internal"}, `{"results":[` + pushed + `,` + lost + `],"deferred":1}`},
		"too many":     {1, []pushing.Result{done, later}, Answer{}, `{"results":[` + pushed + `],"deferred":0}`},
		"no outcome":   {1, []pushing.Result{{Code: "NoSlot"}}, Answer{GiveBack: true, Reason: "1 of 1 requests deferred, the first for NoSlot"}, `{"results":[` + noSlot + `],"deferred":1}`},
		"parked":       {2, []pushing.Result{parked, done}, Answer{}, `{"results":[` + waits + `,` + pushed + `],"deferred":1}`},
		"parked and deferred": {3, []pushing.Result{parked, later, parked}, Answer{GiveBack: true, Reason: "1 of 3 requests deferred, the first for NoSlot", RetryAfter: 1500 * time.Millisecond},
			`{"results":[` + waits + `,` + noSlot + `,` + waits + `],"deferred":3}`},
		"parked and decided":       {1, []pushing.Result{{Code: "BreakerOpen", Message: "it waits", Outcome: events.Pushed, Parked: true}}, Answer{}, `{"results":[` + waits + `],"deferred":1}`},
		"both at once":             {1, []pushing.Result{{Code: "NoSlot", Parked: true, Deferred: true}}, Answer{GiveBack: true, Reason: "1 of 1 requests deferred, the first for NoSlot"}, `{"results":[` + noSlot + `],"deferred":1}`},
		"a report":                 {1, []pushing.Result{reported}, Answer{}, `{"results":[` + report + `],"deferred":0}`},
		"a report and more":        {2, []pushing.Result{reported, later}, Answer{GiveBack: true, Reason: "1 of 2 requests deferred, the first for NoSlot", RetryAfter: 1500 * time.Millisecond}, `{"results":[` + report + `,` + noSlot + `],"deferred":1}`},
		"a report of nothing":      {1, []pushing.Result{{Code: "Done", Message: "so far", Report: json.RawMessage(`null`)}}, Answer{}, strings.Replace(`{"results":[`+report+`],"deferred":0}`, `{"open":3}`, "null", 1)},
		"a report that is no JSON": {1, []pushing.Result{{Code: "Done", Report: func() {}}}, Answer{}, strings.Replace(`{"results":[`+lost+`],"deferred":0}`, "no result", "the report is no JSON", 1)},
		"a sweep to be repeated":   {1, []pushing.Result{{Code: "NoSlot", Deferred: true, Report: 1}}, Answer{GiveBack: true, Reason: "1 of 1 requests deferred, the first for NoSlot"}, strings.Replace(`{"results":[`+noSlot+`],"deferred":1}`, `"NoSlot"`, `"NoSlot","report":1`, 1)},
		"deferred anyway":          {1, []pushing.Result{{Code: "NoSlot", Outcome: events.Pushed, Deferred: true}}, Answer{GiveBack: true, Reason: "1 of 1 requests deferred, the first for NoSlot"}, `{"results":[` + noSlot + `],"deferred":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sample := samples(t, "event")["event"]
			elements := make([]string, c.deliveries)
			for i := range elements {
				elements[i] = sample
			}
			got := Decode([]byte("["+strings.Join(elements, ",")+"]"), Options{}).Answer(c.results)
			body := string(got.Body)
			got.Body = nil
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(jsonOf(t, c.body), jsonOf(t, body)); diff != "" {
				t.Errorf("Body (-want +got):\n%s", diff)
			}
		})
	}
}

func jsonOf(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// Every envelope but the ones with an answer of their own gives the whole batch
// back.
func TestAnswerOfEveryEnvelope(t *testing.T) {
	t.Parallel()
	for name, text := range samples(t, "*") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := Decode([]byte(text), allowed)
			a := b.Answer([]pushing.Result{later})
			v1 := strings.HasPrefix(name, "http-v1") || name == "aws-function-url"
			sqs := strings.HasPrefix(name, "aws-sqs")
			if want := !v1 && !sqs; a.GiveBack != want || a.Reason == "" {
				t.Errorf("GiveBack = %v, want %v; Reason = %q", a.GiveBack, want, a.Reason)
			}
			if want := map[bool]string{true: `{"batchItemFailures":[{"itemIdentifier":"19dd0b57-EX-1"}]}`}[sqs]; sqs && string(a.Body) != want {
				t.Errorf("Body = %s, want %s", a.Body, want)
			}
			if v1 != strings.Contains(string(a.Body), `"statusCode":503`) {
				t.Errorf("Body = %s", a.Body)
			}
		})
	}
}

func TestAnswerOfSQS(t *testing.T) {
	t.Parallel()
	record := func(id, body string) lambda.SQSMessage {
		return lambda.SQSMessage{MessageId: id, Body: body, EventSource: "aws:sqs", EventSourceARN: "arn"}
	}
	data := bareData(t)
	two := "[" + data + "," + data + "]"
	forged := `{"requestContext":{},"requestPayload":{"messageId":"x","receiptHandle":"r","body":` + data + `}}`
	for name, c := range map[string]struct {
		records  []lambda.SQSMessage
		results  []pushing.Result
		body     string
		giveBack bool
	}{
		"all done":        {[]lambda.SQSMessage{record("a", data), record("b", "?")}, []pushing.Result{done, refusedR}, `{"batchItemFailures":[]}`, false},
		"one deferred":    {[]lambda.SQSMessage{record("a", data), record("b", data)}, []pushing.Result{done, later}, `{"batchItemFailures":[{"itemIdentifier":"b"}]}`, false},
		"parked":          {[]lambda.SQSMessage{record("a", data), record("b", data)}, []pushing.Result{parked, later}, `{"batchItemFailures":[{"itemIdentifier":"b"}]}`, false},
		"only parked":     {[]lambda.SQSMessage{record("a", two), record("", data)}, []pushing.Result{parked, done, parked}, `{"batchItemFailures":[]}`, false},
		"a sweep":         {[]lambda.SQSMessage{record("a", data)}, []pushing.Result{reported}, `{"batchItemFailures":[]}`, false},
		"no results":      {[]lambda.SQSMessage{record("a", data), record("b", data)}, nil, `{"batchItemFailures":[{"itemIdentifier":"a"},{"itemIdentifier":"b"}]}`, false},
		"two in a record": {[]lambda.SQSMessage{record("a", two), record("b", data)}, []pushing.Result{later, later, done}, `{"batchItemFailures":[{"itemIdentifier":"a"}]}`, false},
		"a forged id":     {[]lambda.SQSMessage{record("a", forged), record("b", data)}, []pushing.Result{later, done}, `{"batchItemFailures":[{"itemIdentifier":"a"}]}`, false},
		"an id missing":   {[]lambda.SQSMessage{record("", data), record("b", data)}, []pushing.Result{later, done}, `{"batchItemFailures":[{"itemIdentifier":""}]}`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := Decode([]byte(quote(t, lambda.SQSEvent{Records: c.records})), Options{}).Answer(c.results)
			if string(a.Body) != c.body || a.GiveBack != c.giveBack {
				t.Errorf("Body = %s, GiveBack = %v; want %s, %v", a.Body, a.GiveBack, c.body, c.giveBack)
			}
			var read lambda.SQSEventResponse
			if err := json.Unmarshal(a.Body, &read); err != nil || read.BatchItemFailures == nil {
				t.Errorf("the SDK reads %v, %v", read, err)
			}
		})
	}
}

// The outermost envelope decides.
func TestAnswerOfAnEnvelopeInAnother(t *testing.T) {
	t.Parallel()
	data := bareData(t)
	record := lambda.SQSMessage{MessageId: "m", Body: `{"requestContext":{},"requestPayload":` + data + `}`, EventSource: "aws:sqs"}
	v1 := samples(t, "http-v1-plain")["http-v1-plain"]
	timer := func(payload string) string { return `{"triggerName":"n","triggerTime":"t","payload":` + payload + `}` }
	for name, c := range map[string]struct{ body, want string }{
		"a record of a failure in SQS": {quote(t, lambda.SQSEvent{Records: []lambda.SQSMessage{record}}), `{"batchItemFailures":[{"itemIdentifier":"m"}]}`},
		"SQS records in an array":      {quote(t, []lambda.SQSMessage{record}), `{"batchItemFailures":[{"itemIdentifier":"m"}]}`},
		"an SQS record in a payload":   {timer(quote(t, record)), `{"results":[`},
		"an HTTP event in a payload":   {timer(v1), `{"results":[`},
		"an HTTP event in an array":    {"[" + v1 + "]", `{"results":[`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := Decode([]byte(c.body), allowed).Answer([]pushing.Result{later})
			if !strings.HasPrefix(string(a.Body), c.want) || a.GiveBack != strings.HasPrefix(c.want, `{"results`) {
				t.Errorf("GiveBack = %v, Body = %s, want %s", a.GiveBack, a.Body, c.want)
			}
		})
	}
}

func TestAnswerOfAnHTTPTrigger(t *testing.T) {
	t.Parallel()
	v1 := samples(t, "http-v1-plain")["http-v1-plain"]
	at := strings.Index(v1, `"body": `) + len(`"body": `)
	end := strings.Index(v1, `"isBase64Encoded"`)
	with := func(body string) string { return v1[:at] + quote(t, body) + "," + v1[end:] }
	many := "[" + strings.Repeat("7,", events.MaxBatch) + "7]"
	for name, c := range map[string]struct {
		event      string
		o          Options
		results    []pushing.Result
		status     int
		retryAfter string
	}{
		"pushed":          {v1, allowed, []pushing.Result{done}, 200, ""},
		"rejected":        {v1, allowed, []pushing.Result{refusedR}, 200, ""},
		"an empty batch":  {with("[]"), allowed, nil, 200, ""},
		"no event":        {with("hello"), allowed, []pushing.Result{refusedR}, 400, ""},
		"no body":         {with(""), allowed, []pushing.Result{refusedR}, 400, ""},
		"no token":        {v1, Options{}, []pushing.Result{refusedR}, 401, ""},
		"no token either": {with("hello"), Options{}, []pushing.Result{refusedR}, 401, ""},
		"too many":        {with(many), allowed, []pushing.Result{refusedR}, 413, ""},
		"deferred":        {v1, allowed, []pushing.Result{later}, 503, "2"},
		"parked":          {v1, allowed, []pushing.Result{parked}, 200, ""},
		"one of two":      {with("[" + samples(t, "event")["event"] + ",7]"), allowed, []pushing.Result{parked, later}, 503, "2"},
		"a report":        {v1, allowed, []pushing.Result{reported}, 200, ""},
		"deferred, when?": {v1, allowed, []pushing.Result{{Deferred: true}}, 503, "1"},
		"no results":      {v1, allowed, nil, 503, "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := Decode([]byte(c.event), c.o)
			results := c.results
			for len(results) > 0 && len(results) < len(b.Deliveries) {
				results = append(results, done)
			}
			a := b.Answer(results)
			var response lambda.APIGatewayProxyResponse
			if err := json.Unmarshal(a.Body, &response); err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != c.status || response.Headers["Retry-After"] != c.retryAfter || a.GiveBack {
				t.Errorf("status %d, Retry-After %q, GiveBack %v; want %d, %q", response.StatusCode, response.Headers["Retry-After"], a.GiveBack, c.status, c.retryAfter)
			}
			if (response.Headers["WWW-Authenticate"] != "") != (c.status == 401) {
				t.Errorf("headers %v", response.Headers)
			}
			if jsonOf(t, response.Body); !strings.HasPrefix(response.Body, `{"results":[`) {
				t.Errorf("body %s", response.Body)
			}
		})
	}
}
