package trigger

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// controlSample says what becomes of a sample.
type controlSample struct {
	want  pushing.Delivery // without Err, Silent and Time
	at    string           // see clock
	code  string           // of the error
	wrong string           // in the error
}

func controlSamples() map[string]controlSample {
	sweep := pushing.RequestKey{Source: "repush/timer", ID: "sweep"}
	operation := pushing.RequestKey{Source: "ops/anna", ID: "op-1"}
	detail := pushing.RequestKey{Source: "ops.schedule", ID: "53dc4d37-EX"}
	limited := &events.Sweep{Limit: 500}
	pause := &events.Operation{Action: events.Pause, OperationID: "op-7", Reason: "wait for the fix"}
	refused := controlSample{want: pushing.Delivery{Request: operation}, code: CodeNotTrusted, wrong: "directly"}
	detailRefused := refused
	detailRefused.want.Request = detail
	return map[string]controlSample{
		"sweep-timer":                      {want: pushing.Delivery{Request: sweep, Sweep: &events.Sweep{}}},
		"sweep-timer-invalid":              {want: pushing.Delivery{Request: sweep}, wrong: "limit: "},
		"sweep-timer-no-id":                {want: pushing.Delivery{Request: pushing.RequestKey{Source: "fc:timer/sweep", ID: "2026-01-02T04:00:00Z"}}, wrong: "id: is required"},
		"sweep-aws-constant-input":         {want: pushing.Delivery{Request: sweep, Sweep: limited, Human: true}, at: none},
		"sweep-aws-eventbridge-cloudevent": {want: pushing.Delivery{Request: sweep, Sweep: limited}},
		"sweep-aws-eventbridge-data":       {want: pushing.Delivery{Request: detail, Sweep: limited}},
		"sweep-aws-eventbridge-no-data":    {want: pushing.Delivery{Request: detail, Sweep: &events.Sweep{}}},
		"sweep-aws-sqs":                    {want: pushing.Delivery{Request: sweep, Sweep: limited}},
		"sweep-custom-bus":                 {want: pushing.Delivery{Request: sweep, Sweep: limited}, at: "01.1"},
		"sweep-http-v1":                    {want: pushing.Delivery{Request: sweep, Sweep: limited, Human: true}, at: none},

		"operation-direct":               {want: pushing.Delivery{Request: operation, Operation: pause, Human: true}},
		"operation-direct-string":        {want: pushing.Delivery{Request: operation, Operation: pause, Human: true}},
		"operation-http-v1":              {want: pushing.Delivery{Request: operation, Operation: pause, Human: true}},
		"operation-direct-invalid":       {want: pushing.Delivery{Request: operation, Human: true}, wrong: "action: must be"},
		"operation-batch":                refused,
		"operation-custom-bus":           refused,
		"operation-aws-sqs":              refused,
		"operation-timer":                refused,
		"operation-rocketmq":             refused,
		"operation-destination-record":   refused,
		"operation-aws-eventbridge-data": detailRefused,
	}
}

func TestControlEvents(t *testing.T) {
	t.Parallel()
	texts := samples(t, "control/*")
	table := controlSamples()
	if len(texts) != len(table) {
		t.Errorf("%d samples, %d in the table", len(texts), len(table))
	}
	for name, c := range table {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := one(t, texts[name], allowed)
			if !d.Silent {
				t.Error("a result event would answer it")
			}
			if code := codeOf(d.Err); code != c.code || (d.Err != nil) != (c.wrong != "") || d.Err != nil && !strings.Contains(d.Err.Error(), c.wrong) {
				t.Errorf("Err = %v with code %q, want %q with %q", d.Err, code, c.wrong, c.code)
			}
			if got := clock(d.Time); got != c.at {
				t.Errorf("Time = %v, want %q", d.Time, c.at)
			}
			d.Err, d.Silent, d.Time = nil, false, time.Time{}
			if diff := cmp.Diff(c.want, d); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Every envelope of a request, with an operation in it: it is believed where
// "human" is, and nowhere else. With a sweep in it: it is read everywhere.
func TestOperationsAreBelievedWhereHumansAre(t *testing.T) {
	t.Parallel()
	texts := samples(t, "*")
	checked := map[bool]int{}
	for name, envelope := range envelopeSamples {
		with := func(event string) string {
			return strings.ReplaceAll(texts[name], events.TypeMessageRequested, event)
		}
		if with("") == texts[name] {
			continue // data alone, or in base64
		}
		checked[envelope.human]++
		d := one(t, with(events.TypeOperationRequested), allowed)
		if d.Operation != nil || !d.Silent || d.Err == nil || (codeOf(d.Err) == CodeNotTrusted) == envelope.human {
			t.Errorf("%s: Silent = %v, Err = %v; human %v", name, d.Silent, d.Err, envelope.human)
		}
		s := one(t, with(events.TypeSweepRequested), allowed)
		if codeOf(s.Err) != "" || !s.Silent || s.Err == nil || !strings.Contains(s.Err.Error(), "msgId: is not a field of this event") {
			t.Errorf("%s: Silent = %v, Err = %v", name, s.Silent, s.Err)
		}
	}
	if checked[true] < 5 || checked[false] < 5 {
		t.Errorf("checked %v", checked)
	}
}

func TestOutsidersCannotSteer(t *testing.T) {
	t.Parallel()
	texts := samples(t, "control/*-http-v1")
	for name, text := range texts {
		for _, o := range []Options{{}, {Allows: func(string) bool { return false }}} {
			d := one(t, text, o)
			if codeOf(d.Err) != CodeUnauthorized || !d.Silent || d.Sweep != nil || d.Operation != nil || d.Human {
				t.Errorf("%s: %+v", name, d)
			}
		}
	}
	twice := strings.Replace(texts["operation-http-v1"], `"body": "{`, `"body": "[{`, 1)
	twice = strings.Replace(twice, `}}",`, `}}]",`, 1)
	if d := one(t, twice, allowed); codeOf(d.Err) != CodeNotTrusted || !d.Silent {
		t.Errorf("a batch with the token: %+v", d)
	}
}

// An operation beside anything else is not obeyed; the others are not held up.
func TestOperationInABatch(t *testing.T) {
	t.Parallel()
	control := samples(t, "control/*")
	request := samples(t, "event")["event"]
	b := Decode([]byte("["+control["operation-direct"]+","+request+","+control["sweep-aws-constant-input"]+"]"), allowed)
	if len(b.Deliveries) != 3 {
		t.Fatalf("%d deliveries", len(b.Deliveries))
	}
	if d := b.Deliveries[0]; codeOf(d.Err) != CodeNotTrusted || !d.Silent || d.Operation != nil {
		t.Errorf("operation: %+v", d)
	}
	if d := b.Deliveries[1]; d.Err != nil || d.Silent || d.Data != asked() {
		t.Errorf("request: %+v", d)
	}
	if d := b.Deliveries[2]; d.Err != nil || !d.Silent || d.Sweep == nil {
		t.Errorf("sweep: %+v", d)
	}
}

// Whatever is wrong with it, a control event is answered by the return value
// alone; a request beside it is not kept silent.
func TestBrokenControlEventsAreSilent(t *testing.T) {
	t.Parallel()
	sweep := samples(t, "control/sweep-timer")["sweep-timer"]
	for name, c := range map[string]struct {
		body   string
		silent bool
	}{
		"attributes":             {`{"specversion":"0.3","id":"1","source":"s","type":"repush:Sweep:Requested"}`, true},
		"data is no object":      {`{"specversion":"1.0","id":"1","source":"s","type":"repush:Sweep:Requested","data":[]}`, true},
		"too large":              {`{"specversion":"1.0","id":"1","source":"s","type":"repush:Sweep:Requested","x":"` + strings.Repeat("x", events.MaxEventBytes) + `"}`, true},
		"a detail of nothing":    {`{"detail-type":"repush:Sweep:Requested","detail":null}`, true},
		"a detail of words":      {`{"detail-type":"repush:Operation:Requested","detail":"stop"}`, true},
		"a request in a detail":  {`{"detail-type":"repush:Sweep:Requested","detail":` + samples(t, "event")["event"] + `}`, false},
		"no type":                {strings.Replace(sweep, "type", "typ", 1), false},
		"another type":           {strings.Replace(sweep, "Sweep:Requested", "Sweep:Asked", 1), false},
		"somebody else's detail": {`{"detail-type":"Sweep","detail":{}}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := one(t, c.body, allowed)
			if d.Silent != c.silent || d.Sweep != nil || d.Operation != nil {
				t.Errorf("Silent = %v, want %v: %+v", d.Silent, c.silent, d)
			}
		})
	}
}

// The ledger asks how old a request is: the event's own time counts, else the
// envelope's, else nothing is known.
func TestTimeOfTheEnvelope(t *testing.T) {
	t.Parallel()
	const event = `{"specversion":"1.0","id":"1","source":"s","type":"repush:Message:Requested","data":{}}`
	own := strings.Replace(event, `"id"`, `"time":"2026-01-02T04:00:07Z","id"`, 1)
	for name, c := range map[string]struct{ envelope, at string }{
		"alone":               {`%`, none},
		"a string":            {`"%"`, none},
		"an array":            {`[%]`, none},
		"timer":               {`{"triggerTime":"2026-01-02T04:00:01Z","triggerName":"n","payload":"%"}`, "01"},
		"MNS topic":           {`{"TopicName":"t","MessageId":"m","PublishTime":1767326402000,"Message":"%"}`, "02"},
		"MNS queue":           {`[{"specversion":"1.0","type":"mns:Queue:SendMessage","id":"e","source":"s","time":"2026-01-02T04:00:03Z","data":{"messageId":"m","messageBody":"%"}}]`, "03"},
		"MNS queue, raw":      {`{"messageId":"m","messageBody":"%"}`, none},
		"RocketMQ":            {`{"specversion":"1.0","type":"mq:Topic:SendMessage","id":"e","source":"s","time":"2026-01-02T04:00:03Z","data":{"topic":"t","systemProperties":{},"body":"%"}}`, "03"},
		"RocketMQ, raw":       {`{"topic":"t","systemProperties":{},"body":"%"}`, none},
		"Kafka":               {`{"topic":"t","partition":0,"offset":1,"timestamp":1767326404000,"value":"%"}`, "04"},
		"Kafka in an event":   {`{"specversion":"1.0","type":"alikafka:Topic:Message","id":"e","source":"s","time":"2026-01-02T04:00:03Z","data":{"topic":"t","partition":0,"offset":1,"timestamp":1767326404000,"value":"%"}}`, "04"},
		"HTTP event":          {`{"specversion":"1.0","type":"eventbridge:Events:HTTPEvent","id":"e","source":"s","time":"2026-01-02T04:00:03Z","data":{"httpMethod":"POST","headers":{"authorization":"Bearer t0ken"},"body":"%"}}`, "03"},
		"HTTP trigger":        {`{"headers":{"authorization":"Bearer t0ken"},"requestContext":{"time":"2026-01-02T04:00:03Z"},"body":"%"}`, none},
		"SQS":                 {`{"Records":[{"messageId":"m","receiptHandle":"r","attributes":{"SentTimestamp":"1767326405000"},"body":"%"}]}`, "05"},
		"SNS":                 {`{"Records":[{"Sns":{"MessageId":"m","TopicArn":"t","Timestamp":"2026-01-02T04:00:06Z","Message":"%"}}]}`, "06"},
		"SNS in SQS":          {`{"Records":[{"messageId":"m","receiptHandle":"r","attributes":{"SentTimestamp":"1767326405000"},"body":{"Type":"Notification","MessageId":"m","TopicArn":"t","Timestamp":"2026-01-02T04:00:06Z","Message":"%"}}]}`, "06"},
		"AWS EventBridge":     {`{"id":"e","source":"s","time":"2026-01-02T04:00:06Z","detail-type":"Repush","detail":%}`, "06"},
		"record of a failure": {`{"timestamp":1767326409000,"requestContext":{},"requestPayload":{"triggerTime":"2026-01-02T04:00:01Z","triggerName":"n","payload":"%"}}`, "01"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for inner, at := range map[string]string{event: c.at, own: "07", bareData(t): c.at} {
				body := strings.Replace(c.envelope, "%", inner, 1)
				if strings.Contains(c.envelope, `"%"`) {
					body = strings.Replace(c.envelope, `"%"`, quote(t, inner), 1)
				}
				d := one(t, body, allowed)
				if codeOf(d.Err) != "" {
					t.Fatal(d.Err)
				}
				if got := clock(d.Time); got != at {
					t.Errorf("Time = %v, want %q", d.Time, at)
				}
			}
		})
	}
	bus := strings.Replace(event, `"id"`, `"aliyunpublishtime":"2026-01-02T04:00:08Z","id"`, 1)
	if d := one(t, bus, allowed); clock(d.Time) != "08" {
		t.Errorf("a bus: Time = %v", d.Time)
	}
}

func TestAnswerOfControlEvents(t *testing.T) {
	t.Parallel()
	texts := samples(t, "control/*")
	for name, want := range map[string]string{
		"operation-direct":  `{"results":[{"eventId":"op-1","msgId":"","code":"Done","message":"so far","report":{"open":3}}],"deferred":0}`,
		"sweep-timer":       `{"results":[{"eventId":"sweep","msgId":"","code":"Done","message":"so far","report":{"open":3}}],"deferred":0}`,
		"sweep-aws-sqs":     `{"batchItemFailures":[]}`,
		"operation-http-v1": `{"body":"{\"results\":[{\"eventId\":\"op-1\",\"msgId\":\"\",\"code\":\"Done\",\"message\":\"so far\",\"report\":{\"open\":3}}],\"deferred\":0}","headers":{"Content-Type":"application/json"},"isBase64Encoded":false,"statusCode":200}`,
	} {
		a := Decode([]byte(texts[name]), allowed).Answer([]pushing.Result{reported})
		if string(a.Body) != want || a.GiveBack || a.Reason != "" {
			t.Errorf("%s: %+v, body %s", name, a, a.Body)
		}
	}
}
