package trigger

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// samples reads testdata/<pattern>.json by name.
func samples(tb testing.TB, pattern string) map[string]string {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", pattern+".json"))
	if err != nil || len(files) == 0 {
		tb.Fatalf("no samples in testdata/%s.json: %v", pattern, err)
	}
	all := make(map[string]string, len(files))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".json")] = string(text)
	}
	return all
}

const token = "Bearer t0ken"

var allowed = Options{Allows: func(authorization string) bool { return authorization == token }}

func one(t *testing.T, body string, o Options) pushing.Delivery {
	t.Helper()
	b := Decode([]byte(body), o)
	if len(b.Deliveries) != 1 {
		t.Fatalf("%d deliveries, want 1", len(b.Deliveries))
	}
	return b.Deliveries[0]
}

func asked() events.Requested {
	return events.Requested{
		InstanceID: "MQ_INST_111122223333_EXAMPLEx", Topic: "orders", GroupID: "GID_orders",
		MsgID: "C0000207109218B4AAC24C2F8E4D0001", Reason: "consumer was down", OperationID: "op-7",
		StoredAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

const (
	mq    = "acs:mq:cn-hangzhou:111122223333:MQ_INST_111122223333_EXAMPLEx%repush-requests"
	kafka = "acs:alikafka:alikafka_pre-cn-EX:topic:repush"
)

var (
	event = pushing.RequestKey{Source: "ops/console", ID: "req-1"}
	bare  = pushing.RequestKey{Source: SourceBare, ID: "0ccb2668ebcd8480f2d00ffa3f5ba97d"}
	uniq  = "AC1E0A0B0001B4AAC24C2F8E00000001"
)

// envelopeSamples says for every sample which request it is, whether it may call
// itself human, when it was asked, and how to bend it into something that must be
// refused.
var envelopeSamples = map[string]struct {
	key   pushing.RequestKey
	human bool
	// at is the seconds after four o'clock, or none; see clock.
	at string
	// old → new bends it; then the error of the only delivery contains wrong.
	old, new, wrong string
}{
	"rocketmq-stream":            {key: pushing.RequestKey{Source: mq, ID: uniq}, at: ".766", old: `"body": "{`, new: `"body": "{{`, wrong: "not valid JSON"},
	"rocketmq-driven-object":     {key: event, old: `"groupId": "GID_orders"`, new: `"groupId": "GID orders"`, wrong: "groupId: "},
	"rocketmq-base64":            {key: pushing.RequestKey{Source: "RocketMQ-repush-trigger", ID: "7F0A-EX-1"}, at: ".766", old: `"body": "e`, new: `"body": "!`, wrong: "neither JSON nor base64"},
	"rocketmq-raw":               {key: pushing.RequestKey{Source: "acs:mq", ID: uniq}, at: none, old: `"systemProperties"`, new: `"systemproperties"`, wrong: "neither an event nor"},
	"mns-queue-stream":           {key: pushing.RequestKey{Source: "acs:mns:cn-hangzhou:111122223333:queues/repush", ID: "C6DB60D1574661357FA227277445EX01"}, at: ".093", old: `"messageBody"`, new: `"messagebody"`, wrong: "no messageBody"},
	"mns-queue-driven-base64":    {key: event, old: "mns:Queue:SendMessage", new: "mns:Queue:Other", wrong: "type: "},
	"mns-queue-raw":              {key: pushing.RequestKey{Source: "acs:mns", ID: "C6DB60D1574661357FA227277445EX01"}, at: none, old: `\"msgId\"`, new: `\"msgid\"`, wrong: "msgId: is required"},
	"kafka-text":                 {key: pushing.RequestKey{Source: kafka, ID: "repush/9/3"}, at: ".377", old: `\"partition\":9`, new: `\"partition\":9,\"partition\":9`, wrong: "given twice"},
	"kafka-object":               {key: event, old: `\"specversion\":\"1.0\",\"id\"`, new: `\"specversion\":\"0.3\",\"id\"`, wrong: "specversion: "},
	"kafka-base64":               {key: pushing.RequestKey{Source: kafka, ID: "repush/9/3"}, at: ".377", old: `\"value\":\"`, new: `\"value\":\"b'`, wrong: "neither JSON nor base64"},
	"kafka-raw":                  {key: pushing.RequestKey{Source: "acs:alikafka", ID: "repush/9/3"}, at: ".377", old: `\"value\":\"{`, new: `\"value\":\"null`, wrong: "neither JSON nor base64"},
	"mns-topic-json":             {key: pushing.RequestKey{Source: "acs:mns:topics/repush", ID: "3405CA51807661353B3EX"}, at: ".094", old: `"Message": "{`, new: `"Message": "", "x": "{`, wrong: "empty"},
	"mns-topic-stream":           {key: event, human: true, old: `"data":{`, new: `"data":[{`, wrong: "not valid JSON"},
	"custom-bus":                 {key: event, old: "repush:Message:Requested", new: "repush:Plan:Requested", wrong: `type: must be "repush:Message:Requested"`},
	"http-v1-plain":              {key: event, human: true, old: "Bearer t0ken", new: "Bearer t0kem", wrong: "no valid token"},
	"http-v1-base64":             {key: bare, human: true, at: none, old: `"body": "e`, new: `"body": "{`, wrong: "the body is not base64"},
	"http-event-object":          {key: pushing.RequestKey{Source: "my.http", ID: "ac0d574c-EX"}, human: true, at: ".093", old: `"authorization"`, new: `"x-authorization"`, wrong: "no valid token"},
	"http-event-text":            {key: event, human: true, old: `"authorization": "Bearer t0ken"`, new: `"authorization": "Bearer t0ken,Bearer t0ken"`, wrong: "no valid token"},
	"timer":                      {key: pushing.RequestKey{Source: "fc:timer/every-morning", ID: "2026-01-02T04:00:00Z"}, old: `"payload": "{`, new: `"payload": "wake up", "x": "{`, wrong: "neither JSON nor base64"},
	"destination-record-text":    {key: pushing.RequestKey{Source: mq, ID: uniq}, at: ".766", old: `UnhandledInvocationError`, new: "", wrong: "came back"},
	"destination-record-object":  {key: event, old: `"requestPayload": {`, new: `"requestPayload": null, "x": {`, wrong: "no requestPayload"},
	"destination-record-queue":   {key: pushing.RequestKey{Source: kafka, ID: "repush/9/3"}, at: ".377", old: `requestPayload`, new: "requestpayload", wrong: "neither an event nor"},
	"aws-sqs":                    {key: event, old: `"receiptHandle"`, new: `"receipt"`, wrong: "neither an event nor"},
	"aws-sqs-sns":                {key: pushing.RequestKey{Source: "arn:aws:sns:eu-west-1:111122223333:repush", ID: "95df01b4-EX"}, at: ".302", old: `\"TopicArn\"`, new: `\"Topicarn\"`, wrong: "neither an event nor"},
	"aws-sqs-eventbridge":        {key: pushing.RequestKey{Source: "ops.console", ID: "53dc4d37-EX"}, old: `\"repush:Message:Requested\"`, new: `\"repush:Message:Completed\"`, wrong: "came back"},
	"aws-sns":                    {key: pushing.RequestKey{Source: "arn:aws:sns:eu-west-1:111122223333:repush", ID: "95df01b4-EX"}, at: ".302", old: `"Sns": {`, new: `"Sns": 1, "x": {`, wrong: "no Message"},
	"aws-eventbridge-data":       {key: pushing.RequestKey{Source: "ops.console", ID: "53dc4d37-EX"}, old: "repush:Message:Requested", new: "repush:Plan:Requested", wrong: "detail-type: "},
	"aws-eventbridge-cloudevent": {key: event, old: `"source": "ops/console"`, new: `"source": 7`, wrong: "source: must be a string"},
	"aws-function-url":           {key: event, human: true, old: "Bearer t0ken", new: "Basic t0ken", wrong: "no valid token"},
	"batch-events":               {key: event, old: `"id": "req-1",`, new: "", wrong: "id: is required"},
	"batch-data":                 {key: bare, at: none, old: `"topic": "orders"`, new: `"topic": "%DLQ%GID_orders"`, wrong: "topic: "},
	"event":                      {key: event, human: true, old: `"reason"`, new: `"Reason"`, wrong: "reason: is required"},
	"event-base64-data":          {key: event, human: true, old: `"data_base64": "`, new: `"data_base64": "!`, wrong: "data_base64: must be base64"},
	"bare":                       {key: bare, human: true, at: none, old: `"msgId": "C`, new: `"msgId": "G`, wrong: "msgId: "},
	"string-in-string":           {key: event, human: true, old: "1.0", new: "\x80", wrong: "not UTF-8"},
}

func TestEveryEnvelopeBringsTheSameRequest(t *testing.T) {
	t.Parallel()
	texts := samples(t, "*")
	if len(texts) != len(envelopeSamples) {
		t.Errorf("%d samples, %d in the table", len(texts), len(envelopeSamples))
	}
	for name, want := range envelopeSamples {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := one(t, texts[name], allowed)
			if d.Err != nil || d.Silent {
				t.Fatalf("Err = %v, Silent = %v", d.Err, d.Silent)
			}
			if diff := cmp.Diff(asked(), d.Data); diff != "" {
				t.Errorf("Data (-want +got):\n%s", diff)
			}
			if d.Request != want.key {
				t.Errorf("Request = %v, want %v", d.Request, want.key)
			}
			if d.Human != want.human {
				t.Errorf("Human = %v, want %v", d.Human, want.human)
			}
			if got := clock(d.Time); got != want.at {
				t.Errorf("Time = %v, want %q", d.Time, want.at)
			}
			if again := one(t, texts[name], allowed); again.Request != d.Request {
				t.Errorf("redelivered as %v, first as %v", again.Request, d.Request)
			}
		})
	}
}

const none = "none"

// clock is the seconds of a time after four o'clock: "" for none of them.
func clock(at time.Time) string {
	if at.IsZero() {
		return none
	}
	seconds := strings.TrimPrefix(at.UTC().Format("2006-01-02T15:04:05.999"), "2026-01-02T04:00:")
	return strings.TrimPrefix(seconds, "00")
}

func TestBentEnvelopesAreRejected(t *testing.T) {
	t.Parallel()
	texts := samples(t, "*")
	for name, bend := range envelopeSamples {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bent := strings.ReplaceAll(texts[name], bend.old, bend.new)
			if bent == texts[name] {
				t.Fatalf("%q is not in the sample", bend.old)
			}
			d := one(t, bent, allowed)
			if d.Err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(d.Err.Error(), bend.wrong) {
				t.Errorf("Err = %q, want something with %q", d.Err, bend.wrong)
			}
			if d.Request.ID == "" || d.Request.Source == "" {
				t.Errorf("Request = %v", d.Request)
			}
		})
	}
}
