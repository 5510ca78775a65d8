package trigger

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	cloudevents "github.com/cloudevents/sdk-go/v2"
	"github.com/google/go-cmp/cmp"

	contract "github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

func bareData(t testing.TB) string {
	t.Helper()
	return samples(t, "bare")["bare"]
}

func quote(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func deadLetter() contract.Requested {
	r := asked()
	return contract.Requested{
		InstanceID: r.InstanceID, Topic: r.Topic, GroupID: r.GroupID, MsgID: r.MsgID,
		Reason: "dead letter", OffsetID: "C0000207000078BF00000000001F0A11",
	}
}

func TestADeadLetterAsksForItsOrigin(t *testing.T) {
	t.Parallel()
	for name, text := range samples(t, "deadletter/*") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := one(t, text, Options{})
			if d.Err != nil || d.Human || d.Silent {
				t.Fatalf("Err = %v, Human = %v, Silent = %v", d.Err, d.Human, d.Silent)
			}
			if diff := cmp.Diff(deadLetter(), d.Data); diff != "" {
				t.Errorf("Data (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDeadLetterProperties(t *testing.T) {
	t.Parallel()
	const offset = "C0000207000078BF00000000001F0A11"
	base := samples(t, "deadletter/*")["driven-subject"]
	for name, c := range map[string]struct {
		old, new string
		want     func(*contract.Requested)
		wrong    string // of the error
	}{
		"the id of the origin when there is no UNIQ_KEY": {
			old: `"UNIQ_KEY"`, new: `"UNIQ_KEY_"`,
			want: func(r *contract.Requested) { r.MsgID, r.OffsetID = offset, "" },
		},
		"a copy's topic is passed over": {
			old: `"DLQ_ORIGIN_TOPIC": "orders"`, new: `"DLQ_ORIGIN_TOPIC": "%RETRY%GID_orders", "RETRY_TOPIC": "orders"`,
			want: func(*contract.Requested) {},
		},
		"DLQ_ORIGIN_TOPIC before REAL_TOPIC before RETRY_TOPIC": {
			old: `"DLQ_ORIGIN_TOPIC": "orders"`, new: `"RETRY_TOPIC": "third", "DLQ_ORIGIN_TOPIC": "orders", "REAL_TOPIC": "second"`,
			want: func(*contract.Requested) {},
		},
		"REAL_TOPIC before RETRY_TOPIC": {
			old: `"DLQ_ORIGIN_TOPIC": "orders"`, new: `"RETRY_TOPIC": "third", "REAL_TOPIC": "orders"`,
			want: func(*contract.Requested) {},
		},
		"system before user properties": {
			old: `"TAGS"`, new: `"DLQ_ORIGIN_TOPIC": "payments", "TAGS"`,
			want: func(r *contract.Requested) { r.Topic = "payments" },
		},
		"no topic":            {old: `"DLQ_ORIGIN_TOPIC"`, new: `"TOPIC"`, wrong: "no origin"},
		"only a copy's topic": {old: `"DLQ_ORIGIN_TOPIC": "orders"`, new: `"DLQ_ORIGIN_TOPIC": "%RETRY%GID_orders"`, wrong: "no origin"},
		"no id":               {old: `_KEY`, new: `_KE`, wrong: "no origin"},
		"no instance":         {old: `acs:mq:cn-hangzhou:111122223333:MQ_INST_111122223333_EXAMPLEx%`, new: "", wrong: "instanceId: "},
		"no group":            {old: `%DLQ%GID_orders`, new: `%DLQ%`, wrong: "groupId: "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := strings.ReplaceAll(base, c.old, c.new)
			if name == "no id" {
				text = strings.ReplaceAll(text, "DLQ_ORIGIN_MESSAGE_ID", "MESSAGE_ID")
			}
			d := one(t, text, Options{})
			if c.want == nil {
				if d.Err == nil || !strings.Contains(d.Err.Error(), c.wrong) {
					t.Fatalf("Err = %v, want something with %q", d.Err, c.wrong)
				}
				if wantCode := c.wrong == "no origin"; (codeOf(d.Err) == CodeNoOrigin) != wantCode {
					t.Errorf("code %q", codeOf(d.Err))
				}
				return
			}
			want := deadLetter()
			c.want(&want)
			if diff := cmp.Diff(want, d.Data); diff != "" || d.Err != nil {
				t.Errorf("Err = %v, Data (-want +got):\n%s", d.Err, diff)
			}
		})
	}
}

func TestADeadLetterInSomebodysBodyIsNotBelieved(t *testing.T) {
	t.Parallel()
	raw := samples(t, "deadletter/*")["raw"]
	whole := samples(t, "deadletter/*")["stream"]
	mns := samples(t, "mns-queue-raw")["mns-queue-raw"]
	for name, inner := range map[string]string{"the data alone": raw, "the whole element": whole} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := strings.Index(mns, `"messageBody": `) + len(`"messageBody": `)
			d := one(t, mns[:at]+quote(t, inner)+"}]", Options{})
			if d.Err == nil || d.Data.GroupID != "" {
				t.Errorf("believed: %+v", d.Data)
			}
		})
	}
}

func TestOurOwnResultsAreNotAnswered(t *testing.T) {
	t.Parallel()
	now := asked().StoredAt
	done, err := contract.NewCompleted(contract.Completed{
		Request: contract.RequestRef{ID: "1", Source: "s"}, Outcome: contract.Pushed, ReceivedAt: now, DecidedAt: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := contract.NewPlanned(contract.Planned{Message: "why", Part: 1, Parts: 1}, "r", now)
	if err != nil {
		t.Fatal(err)
	}
	result := quote(t, done)
	driven := samples(t, "rocketmq-driven-object")["rocketmq-driven-object"]
	at := strings.Index(driven, `"body": `) + len(`"body": `)
	for name, body := range map[string]string{
		"alone":                   result,
		"in a batch":              "[" + result + "]",
		"in a RocketMQ body":      driven[:at] + quote(t, result) + "}}",
		"as RawData":              string(done.Data),
		"a manifest as RawData":   string(manifest.Data),
		"of another type of ours": `{"specversion":"1.0","id":"1","source":"s","type":"repush:Plan:Completed"}`,
		"as a detail":             `{"detail-type":"repush:Message:Completed","detail":` + string(done.Data) + `}`,
		"a record of success":     `{"requestContext":{},"requestPayload":` + bareData(t) + `,"responseContext":{"statusCode":200}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, o := range []Options{{}, forPlan} {
				d := one(t, body, o)
				var coded interface{ Code() string }
				if !errors.As(d.Err, &coded) || coded.Code() != CodeLoop || !d.Silent {
					t.Errorf("Plan: %v: Err = %v, Silent = %v", o.Plan, d.Err, d.Silent)
				}
			}
		})
	}
}

func TestOutsidersNeedTheToken(t *testing.T) {
	t.Parallel()
	v1 := samples(t, "http-v1-plain")["http-v1-plain"]
	for name, c := range map[string]struct {
		headers string
		o       Options
		in      bool
	}{
		"right":                  {`{"authorization":"Bearer t0ken"}`, allowed, true},
		"any case":               {`{"aUTHORIZATION":"Bearer t0ken"}`, allowed, true},
		"nobody is allowed":      {`{"authorization":"Bearer t0ken"}`, Options{}, false},
		"none":                   {`{}`, allowed, false},
		"no headers":             {`null`, allowed, false},
		"given twice":            {`{"authorization":"Bearer t0ken","Authorization":"Bearer t0ken"}`, allowed, false},
		"joined":                 {`{"authorization":"Bearer t0ken,Bearer other"}`, allowed, false},
		"a list":                 {`{"authorization":["Bearer t0ken"]}`, allowed, false},
		"the same name twice":    {`{"authorization":"x","authorization":"Bearer t0ken"}`, allowed, false},
		"forged platform header": {`{"x-fc-control-path":"/invoke","x-fc-access-key-id":"k"}`, allowed, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := strings.Index(v1, `"headers": {`)+len(`"headers": `), strings.Index(v1, `"queryParameters"`)
			d := one(t, v1[:from]+c.headers+","+v1[to:], c.o)
			if in := d.Err == nil; in != c.in || d.Silent == c.in || d.Human != c.in {
				t.Errorf("Err = %v, Silent = %v, Human = %v", d.Err, d.Silent, d.Human)
			}
			if !c.in && (codeOf(d.Err) != CodeUnauthorized || d.Data != contract.Requested{}) {
				t.Errorf("Err = %v, Data = %v", d.Err, d.Data)
			}
		})
	}
}

func TestABinaryEventInAnHTTPTriggerIsRefused(t *testing.T) {
	t.Parallel()
	v1 := samples(t, "http-v1-plain")["http-v1-plain"]
	binary := strings.Replace(v1, `"headers": {`, `"headers": {"ce-id": "7",`, 1)
	if d := one(t, binary, allowed); d.Err == nil || !strings.Contains(d.Err.Error(), "application/cloudevents+json") {
		t.Errorf("Err = %v", d.Err)
	}
	structured := strings.Replace(binary, `"application/json"`, `"application/cloudevents+json; charset=utf-8"`, 1)
	if d := one(t, structured, allowed); d.Err != nil {
		t.Errorf("structured: %v", d.Err)
	}
}

func TestOneBadElementIsRejectedAlone(t *testing.T) {
	t.Parallel()
	good := bareData(t)
	for name, c := range map[string]struct {
		bad string
		key pushing.RequestKey // zero: its hash
	}{
		"a number":                   {bad: "7"},
		"null":                       {bad: "null"},
		"an unknown object":          {bad: `{"a":1}`},
		"a name twice":               {bad: `{"a":1,"a":1}`},
		"nested too deep":            {bad: `{"a":` + strings.Repeat("[", 33) + strings.Repeat("]", 33) + `}`},
		"deep in an object":          {bad: `{"specversion":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`},
		"no UTF-8":                   {bad: strings.Replace(good, "consumer was", "consumer\xffwas", 1)},
		"another type":               {bad: `{"specversion":"1.0","id":"9","source":"s","type":"t"}`, key: pushing.RequestKey{Source: "s", ID: "9"}},
		"no id":                      {bad: `{"specversion":"1.0","source":"s","type":"t"}`},
		"an id of 513":               {bad: `{"specversion":"1.0","source":"s","type":"t","id":"` + strings.Repeat("i", 513) + `"}`},
		"an id with NUL":             {bad: `{"specversion":"1.0","source":"s","type":"t","id":"a\u0000b"}`},
		"an envelope without a body": {bad: `{"topic":"a","systemProperties":{},"body":null}`},
		"a record of nothing":        {bad: `{"requestContext":{},"requestPayload":null}`},
		"too many members":           {bad: wide(1001, 20)},
		"larger than 256 KB":         {bad: `{"msgId":"` + strings.Repeat("a", contract.MaxEventBytes) + `"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := Decode([]byte("["+good+","+c.bad+","+good+"]"), Options{})
			if len(b.Deliveries) != 3 || b.NotAnEvent {
				t.Fatalf("%d deliveries, NotAnEvent %v", len(b.Deliveries), b.NotAnEvent)
			}
			for i, d := range b.Deliveries {
				if bad := d.Err != nil; bad != (i == 1) {
					t.Errorf("%d: Err = %v", i, d.Err)
				}
			}
			want := c.key
			if want.ID == "" {
				want = origin{}.keyOf([]byte(c.bad))
			}
			if code := codeOf(b.Deliveries[1].Err); name == "larger than 256 KB" && code != CodeTooLarge {
				t.Errorf("code %q", code)
			}
			if got := b.Deliveries[1].Request; got != want {
				t.Errorf("Request = %v, want %v", got, want)
			}
		})
	}
}

func wide(members, width int) string {
	names := make([]string, members)
	for i := range names {
		names[i] = fmt.Sprintf(`"%0*d":1`, width, i)
	}
	return "{" + strings.Join(names, ",") + "}"
}

func TestElementsOfOneMessageHaveKeysOfTheirOwn(t *testing.T) {
	t.Parallel()
	timer := `{"triggerTime":"2026-01-02T04:00:00Z","triggerName":"n","payload":[` + bareData(t) + `,7]}`
	b := Decode([]byte(timer), Options{})
	if len(b.Deliveries) != 2 {
		t.Fatalf("%d deliveries", len(b.Deliveries))
	}
	for i, d := range b.Deliveries {
		if want := fmt.Sprintf("2026-01-02T04:00:00Z#%d", i); d.Request.ID != want || d.Request.Source != "fc:timer/n" {
			t.Errorf("Request = %v, want %s", d.Request, want)
		}
	}
}

func TestAMissingPartOfAnIDIsNoID(t *testing.T) {
	t.Parallel()
	text := samples(t, "kafka-text")["kafka-text"]
	d := one(t, strings.Replace(text, `\"partition\":9,`, "", 1), Options{})
	if want := (pushing.RequestKey{Source: "acs:alikafka", ID: "1cb591f9-EX"}); d.Request != want {
		t.Errorf("Request = %v, want that of the CloudEvent %v", d.Request, want)
	}
}

func TestTheLongestKeyFits(t *testing.T) {
	t.Parallel()
	name := strings.Repeat("n", maxKey-len("fc:timer/"))
	at := strings.Repeat("t", maxKey)
	timer := `{"triggerTime":"` + at + `","triggerName":"` + name + `","payload":` + bareData(t) + `}`
	if d := one(t, timer, Options{}); d.Request.ID != at || len(d.Request.Source) != maxKey {
		t.Errorf("Request = %v", d.Request)
	}
	for _, longer := range []string{
		strings.Replace(timer, "nnn", "nnnn", 1),
		strings.Replace(timer, `"payload":`, `"payload":[`, 1)[:len(timer)] + "]}",
	} {
		if d := one(t, longer, Options{}); d.Request != bare || d.Err != nil {
			t.Errorf("Request = %v, Err = %v", d.Request, d.Err)
		}
	}
}

func TestWhiteSpaceMakesNoOtherRequest(t *testing.T) {
	t.Parallel()
	spaced := one(t, "\n "+strings.ReplaceAll(bareData(t), ": ", "  :\t"), Options{})
	if spaced.Request != bare {
		t.Errorf("Request = %v, want %v", spaced.Request, bare)
	}
	other := one(t, strings.Replace(bareData(t), "consumer was", "consumer  was", 1), Options{})
	if other.Request == bare || other.Err != nil {
		t.Errorf("white space in a string: Request = %v, Err = %v", other.Request, other.Err)
	}
}

func TestABatchAboveTheLimitIsOneRejection(t *testing.T) {
	t.Parallel()
	many := func(n int) string { return "[" + strings.Repeat("7,", n-1) + "7]" }
	record := `{"receiptHandle":"r","messageId":"m","body":"[1,2]"}`
	for name, c := range map[string]struct {
		body  string
		want  int
		wrong string
	}{
		"the limit":            {many(1000), 1000, ""},
		"one more":             {many(1001), 1, "1000"},
		"nested":               {"[" + many(600) + "," + many(401) + "]", 1, "none was read"},
		"nested to the limit":  {"[" + many(600) + "," + many(400) + "]", 1000, ""},
		"records":              {`{"Records":[` + strings.Repeat(record+",", 500) + record + `]}`, 1, "none was read"},
		"records to the limit": {`{"Records":[` + strings.Repeat(record+",", 499) + record + `]}`, 1000, ""},
		"too many records":     {`{"Records":` + many(1001) + `}`, 1, "1000"},
		"too many and deep":    {"[" + strings.Repeat("7,", 1000) + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "]", 1, "1000"},
		"32 MB and one byte":   {strings.Repeat(" ", MaxBytes) + "1", 1, "smaller batches"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := Decode([]byte(c.body), Options{})
			if len(b.Deliveries) != c.want {
				t.Fatalf("%d deliveries, want %d", len(b.Deliveries), c.want)
			}
			if err := b.Deliveries[0].Err; c.wrong != "" && (!strings.Contains(err.Error(), c.wrong) || codeOf(err) != CodeTooLarge) {
				t.Errorf("Err = %v", err)
			}
		})
	}
}

func TestWrappingIsBounded(t *testing.T) {
	t.Parallel()
	body := bareData(t)
	for range maxLayers {
		body = quote(t, body)
	}
	if d := one(t, body, Options{}); d.Err != nil {
		t.Errorf("%d layers: %v", maxLayers, d.Err)
	}
	records, timers := bareData(t), bareData(t)
	for range maxLayers + 1 {
		records = `{"requestContext":{},"requestPayload":` + records + `}`
		timers = `{"triggerName":"n","triggerTime":"t","payload":` + timers + `}`
	}
	for name, deeper := range map[string]string{"strings": quote(t, body), "records": records, "timers": timers} {
		if d := one(t, deeper, Options{}); d.Err == nil || !strings.Contains(d.Err.Error(), "layers") {
			t.Errorf("%d %s: Err = %v", maxLayers+1, name, d.Err)
		}
	}
}

func TestWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body string
		want bool
	}{
		"nothing":            {"", true},
		"spaces":             {" \n", true},
		"words":              {"hello", true},
		"form fields":        {"alertName=x&alertState=ALERT", true},
		"a number":           {"7", true},
		"base64 of words":    {"aGVsbG8=", true},
		"an unknown object":  {`{"a":1}`, true},
		"cut":                {bareData(t)[:40], true},
		"NUL":                {"\x00", true},
		"only scalars":       {"[1,2]", true},
		"an empty array":     {"[]", false},
		"bad data":           {`{"msgId":1}`, false},
		"another type":       {`{"specversion":"1.0","type":"t","id":"1","source":"s"}`, false},
		"an event and words": {`[7,{"msgId":1}]`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if b := Decode([]byte(c.body), Options{}); b.NotAnEvent != c.want {
				t.Errorf("NotAnEvent = %v, deliveries %v", b.NotAnEvent, b.Deliveries)
			}
		})
	}
}

func TestEveryProblemIsReported(t *testing.T) {
	t.Parallel()
	d := one(t, `{"specversion":"1.0","id":"1","type":"repush:Message:Requested","data":{"topic":"t","msgId":"C0000207109218B4AAC24C2F8E4D0001"}}`, Options{})
	for _, field := range []string{"source: ", "instanceId: ", "topic: ", "groupId: ", "reason: "} {
		if !strings.Contains(d.Err.Error(), field) {
			t.Errorf("%q does not mention %s", d.Err, field)
		}
	}
	if d.Data.MsgID != asked().MsgID {
		t.Errorf("MsgID = %q: the rejection cannot name the message", d.Data.MsgID)
	}
}

func TestErrorsDoNotQuoteThePayload(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t-in-the-body"
	texts := samples(t, "*")
	for name, text := range texts {
		for _, old := range []string{"orders", "consumer was down", "1.0", "repush:Message:Requested", "eyJ", `"`} {
			bent := strings.ReplaceAll(text, old, secret)
			for _, d := range Decode([]byte(bent), Options{}).Deliveries {
				if d.Err != nil && strings.Contains(d.Err.Error(), secret) {
					t.Errorf("%s: %v", name, d.Err)
				}
			}
		}
	}
}

// What the SDKs of the platforms write is read.
func TestSDKTypes(t *testing.T) {
	t.Parallel()
	whole := cloudevents.NewEvent()
	whole.SetID(event.ID)
	whole.SetSource(event.Source)
	whole.SetType(contract.TypeMessageRequested)
	whole.SetExtension("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if err := whole.SetData(cloudevents.ApplicationJSON, asked()); err != nil {
		t.Fatal(err)
	}
	data := json.RawMessage(bareData(t))
	request := events.LambdaFunctionURLRequest{Version: "2.0", Body: quote(t, whole), Headers: map[string]string{"authorization": token}}
	for name, v := range map[string]any{
		"CloudEvents":       whole,
		"CloudEvents batch": []cloudevents.Event{whole},
		"SQS":               events.SQSEvent{Records: []events.SQSMessage{{MessageId: "m", Body: quote(t, whole), EventSource: "aws:sqs", EventSourceARN: "arn"}}},
		"SNS":               events.SNSEvent{Records: []events.SNSEventRecord{{EventSource: "aws:sns", SNS: events.SNSEntity{MessageID: "m", TopicArn: "arn", Message: string(data)}}}},
		"EventBridge":       events.EventBridgeEvent{ID: "e", Source: "s", DetailType: contract.TypeMessageRequested, Detail: data},
		"function URL":      request,
		"API Gateway v2":    events.APIGatewayV2HTTPRequest{Body: quote(t, whole), Headers: request.Headers},
		"API Gateway v1":    events.APIGatewayProxyRequest{Body: string(data), Headers: request.Headers},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := one(t, quote(t, v), allowed)
			if diff := cmp.Diff(asked(), d.Data); diff != "" || d.Err != nil {
				t.Errorf("Err = %v, Data (-want +got):\n%s", d.Err, diff)
			}
		})
	}
}
