package trigger

import (
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

const alertToken = "al3rt"

var forPlan = Options{Plan: true, Allows: allowed.Allows, AllowsAlert: func(token string) bool { return token == alertToken }}

// alertTexts reads the samples of alerts by name.
func alertTexts(tb testing.TB) map[string]string {
	tb.Helper()
	files, err := filepath.Glob("../../../events/samples/alerts/*")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no samples of alerts: %v", err)
	}
	all := make(map[string]string, len(files))
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		all[strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))] = string(text)
	}
	return all
}

func planned(source events.Selection, topic, reason string) pushing.Delivery {
	r := asked()
	return pushing.Delivery{Alert: true, Plan: &events.Plan{
		InstanceID: r.InstanceID, GroupID: r.GroupID, Topic: topic, Source: source, Reason: "alert: " + reason,
	}}
}

// alertSamples says for each sample what it asks for, by what it is known (zero:
// the hash of its bytes), when it came (see clock), and how to end the alarm.
var alertSamples = map[string]struct {
	want []pushing.Delivery
	key  pushing.RequestKey
	at   string
	// old → calm makes its state one that asks for nothing.
	old, calm string
}{
	"cloudmonitor-webhook":           {want: cloudMonitorWebhook, at: none, old: "alertState=ALERT", calm: "alertState=OK"},
	"cloudmonitor-webhook-base64":    {want: cloudMonitorWebhook, at: none},
	"cloudmonitor-webhook-json":      {want: cloudMonitorWebhook, at: none, old: `"ALARM"`, calm: `"INSUFFICIENT_DATA"`},
	"cloudmonitor-webhook-json-text": {want: cloudMonitorWebhook, at: none, old: `"ALARM"`, calm: `"OK"`},
	"cloudmonitor-http-v1":           {want: cloudMonitorWebhook, at: none, old: "alertState=ALERT", calm: "alertState=INSUFFICIENT_DATA"},
	"cloudmonitor-http-v1-base64":    {want: cloudMonitorWebhook, at: none},
	"cloudmonitor-http-event":        {want: cloudMonitorWebhook, at: ".093", key: pushing.RequestKey{Source: "alerts.http", ID: "ac0d574c-EX"}, old: "alertState=ALERT", calm: "alertState=OK"},
	"cloudmonitor-mns-queue":         {want: cloudMonitorMNS, at: ".093", key: pushing.RequestKey{Source: "acs:mns:cn-hangzhou:111122223333:queues/alerts", ID: "C6DB60D1574661357FA227277445EX01"}, old: `\"curLevel\": \"WARN\"`, calm: `\"curLevel\": \"OK\"`},
	"cloudmonitor-mns-topic":         {want: cloudMonitorMNS, at: ".094", key: pushing.RequestKey{Source: "acs:mns:topics/alerts", ID: "3405CA51807661353B3EX"}, old: `\"curLevel\": \"WARN\"`, calm: `\"curLevel\": \"OK\"`},
	"cloudmonitor-mns-topic-stream":  {want: cloudMonitorMNS, at: none, old: `"curLevel": "WARN"`, calm: `"curLevel": "INSUFFICIENT_DATA"`},
	"alertmanager": {at: none, old: `"firing"`, calm: `"resolved"`, want: []pushing.Delivery{
		planned(events.DeadLetters, "orders", "SendDLQMessageCount of rule OrdersDeadLetters"),
		planned(events.Unconsumed, "", "rocketmq_group_diff of rule OrdersLag"),
		{Alert: true, Nothing: "nothing to do: the state is resolved; alert: SendDLQMessageCount of rule OrdersDeadLetters"},
	}},
	"alertmanager-watchdog": {at: none, want: []pushing.Delivery{
		{Alert: true, Nothing: "nothing to do: the metric is neither SendDLQMessageCount… nor ConsumerLag…; alert: Watchdog of rule Watchdog"},
	}},
	"arms":               {at: none, old: `"firing"`, calm: `"resolved"`, want: []pushing.Delivery{planned(events.DeadLetters, "orders", "SendDLQMessageCountPerGidTopic of orders of rule SendDLQMessageCountPerGidTopic of orders")}},
	"cloudwatch-sns":     {want: cloudWatchAlarm, at: ".302", key: snsKey, old: `\"NewStateValue\": \"ALARM\"`, calm: `\"NewStateValue\": \"OK\"`},
	"cloudwatch-sns-sqs": {want: cloudWatchAlarm, at: ".302", key: snsKey, old: `\\\"NewStateValue\\\": \\\"ALARM\\\"`, calm: `\\\"NewStateValue\\\": \\\"INSUFFICIENT_DATA\\\"`},
}

var (
	cloudMonitorWebhook = []pushing.Delivery{planned(events.DeadLetters, "", "SendDLQMessageCountPerGid of rule orders have dead letters")}
	cloudMonitorMNS     = []pushing.Delivery{planned(events.Unconsumed, "orders", "ConsumerLagPerGidTopic of rule orders lag behind")}
	cloudWatchAlarm     = []pushing.Delivery{planned(events.Unconsumed, "", "ConsumerLagLatencyPerGid of rule orders lag behind")}
	snsKey              = pushing.RequestKey{Source: "arn:aws:sns:eu-west-1:111122223333:alarms", ID: "95df01b4-EX"}
)

func TestEveryAlertIsRead(t *testing.T) {
	t.Parallel()
	texts := alertTexts(t)
	if len(texts) != len(alertSamples) {
		t.Errorf("%d samples, %d in the table", len(texts), len(alertSamples))
	}
	for name, c := range alertSamples {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := Decode([]byte(texts[name]), forPlan)
			if len(b.Deliveries) != len(c.want) || b.NotAnEvent {
				t.Fatalf("%d deliveries, want %d: %+v", len(b.Deliveries), len(c.want), b.Deliveries)
			}
			keys := map[pushing.RequestKey]bool{}
			for i, d := range b.Deliveries {
				if c.key.ID != "" && d.Request != c.key || d.Request.ID == "" || c.key.ID == "" && d.Request.Source != SourceBare || keys[d.Request] {
					t.Errorf("Request = %v, want %v", d.Request, c.key)
				}
				if got := clock(d.Time); got != c.at {
					t.Errorf("Time = %v, want %q", d.Time, c.at)
				}
				keys[d.Request] = true
				if again := Decode([]byte(texts[name]), forPlan).Deliveries[i]; again.Request != d.Request {
					t.Errorf("redelivered as %v, first as %v", again.Request, d.Request)
				}
				d.Request, d.Time = pushing.RequestKey{}, asked().NotAfter
				if diff := cmp.Diff(c.want[i], d); diff != "" {
					t.Errorf("%d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}

// Whatever the form: an alarm that has ended, and one of another metric, ask for
// nothing and say so; a state nobody knows, an instance or a group that is missing
// or cannot be one, is rejected with its field.
func TestAlertsThatPlanNothing(t *testing.T) {
	t.Parallel()
	const instance, group = "MQ_INST_111122223333_EXAMPLEx", "GID_orders"
	checked := map[string]int{}
	for name, text := range alertTexts(t) {
		c := alertSamples[name]
		if c.old == "" {
			continue // in base64, or a watchdog
		}
		lies := strings.NewReplacer("OK", "STRANGE", "INSUFFICIENT_DATA", "STRANGE", "resolved", "strange")
		metrics := strings.NewReplacer("SendDLQMessageCount", "SendMessageCount", "ConsumerLag", "Consumption", "rocketmq_group_diff", "up")
		for what, bend := range map[string]struct{ text, nothing, wrong string }{
			"calm":           {text: strings.ReplaceAll(text, c.old, c.calm), nothing: "nothing to do: the state is "},
			"foreign metric": {text: metrics.Replace(text), nothing: "nothing to do: the metric is neither "},
			"unknown state":  {text: strings.ReplaceAll(text, c.old, lies.Replace(c.calm)), wrong: "must be one of "},
			"no instance":    {text: strings.ReplaceAll(text, instance, ""), wrong: "instanceId: "},
			"bad instance":   {text: strings.ReplaceAll(text, instance, "s3cr3t/"), wrong: "instanceId: must be "},
			"no group":       {text: strings.ReplaceAll(text, group, ""), wrong: "groupId: "},
			"bad group":      {text: strings.ReplaceAll(text, group, "s3cr3t group"), wrong: "groupId: must be "},
		} {
			if bend.text == text {
				t.Fatalf("%s, %s: nothing changed", name, what)
			}
			checked[what]++
			d := Decode([]byte(bend.text), forPlan).Deliveries[0]
			if d.Plan != nil || !d.Alert || d.Human || d.Silent || !strings.HasPrefix(d.Nothing, bend.nothing) || (d.Nothing != "") != (bend.nothing != "") {
				t.Errorf("%s, %s: %+v", name, what, d)
			}
			if (d.Err != nil) != (bend.wrong != "") || d.Err != nil && (!strings.Contains(d.Err.Error(), bend.wrong) || strings.Contains(d.Err.Error(), "s3cr3t")) {
				t.Errorf("%s, %s: Err = %v, want %q", name, what, d.Err, bend.wrong)
			}
		}
	}
	if len(checked) != 7 || checked["calm"] < 10 {
		t.Errorf("checked %v", checked)
	}
}

func TestLabelsOfAnAlert(t *testing.T) {
	t.Parallel()
	const head = `{"alerts":[{"status":"firing","labels":{"alertname":"n",`
	for name, c := range map[string]struct{ labels, metric, instance, group, topic string }{
		"as CloudMonitor":         {`"metricName":"ConsumerLag","instanceId":"i","groupId":"gg","topic":"ttt"`, "ConsumerLag", "i", "gg", "ttt"},
		"as RocketMQ 5":           {`"metric_name":"rocketmq_consumer_lag_latency","instance_id":"i","consumer_group":"gg","topic":"ttt"`, "rocketmq_consumer_lag_latency", "i", "gg", "ttt"},
		"as the exporter":         {`"__name__":"rocketmq_group_get_latency_by_storetime","instance_id":"i","group":"gg","topic":"ttt"`, "rocketmq_group_get_latency_by_storetime", "i", "gg", "ttt"},
		"in camel case":           {`"metric":"ConsumerLag","InstanceId":"i","consumerGroup":"gg","topicName":"ttt"`, "ConsumerLag", "i", "gg", "ttt"},
		"the better name first":   {`"metric":"ConsumerLag","instanceId":"i","group":"job","consumer_group":"x-x","group_id":"gg","topic_name":"uuu","topic":"ttt"`, "ConsumerLag", "i", "gg", "ttt"},
		"with the instance":       {`"metric":"ConsumerLag","instanceId":"i","group":"i%gg","topic":"i%ttt"`, "ConsumerLag", "i", "gg", "ttt"},
		"a dead-letter topic":     {`"metric":"ConsumerLag","instanceId":"i","group":"gg","topic":"i%%DLQ%gg"`, "ConsumerLag", "i", "gg", ""},
		"what was scraped is not": {`"metric":"ConsumerLag","instance":"i","group":"gg"`, "", "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := one(t, head+c.labels+`}}],"status":"firing"}`, forPlan)
			if c.metric == "" {
				if d.Plan != nil || d.Err == nil || !strings.Contains(d.Err.Error(), "instanceId: ") {
					t.Errorf("%+v", d)
				}
				return
			}
			if d.Err != nil || d.Plan.InstanceID != c.instance || d.Plan.GroupID != c.group || d.Plan.Topic != c.topic || d.Plan.Reason != "alert: "+c.metric+" of rule n" {
				t.Errorf("Err = %v, Plan = %+v", d.Err, d.Plan)
			}
		})
	}
}

// The documented sample names less in resources than in metricData, which has all of
// the metric's dimensions; what resources says counts.
func TestAnAlertWhoseResourceIsNamedInPart(t *testing.T) {
	t.Parallel()
	text := alertTexts(t)["cloudmonitor-mns-topic-stream"]
	const whole = `"{\"userId\": \"111122223333\", \"instanceId\": \"MQ_INST_111122223333_EXAMPLEx\", \"groupId\": \"GID_orders\", \"topic\": \"orders\"}"`
	for resources, want := range map[string]string{
		`"{\"instanceId\": \"MQ_INST_111122223333_EXAMPLEx\"}"`: "MQ_INST_111122223333_EXAMPLEx GID_orders orders",
		`"{\"instanceId\": \"i\", \"groupId\": \"gg\"}"`:        "i gg orders",
	} {
		d := one(t, strings.Replace(text, whole, resources, 1), forPlan)
		if d.Plan == nil || d.Plan.InstanceID+" "+d.Plan.GroupID+" "+d.Plan.Topic != want {
			t.Errorf("%s: Err = %v, Plan = %+v, want %s", resources, d.Err, d.Plan, want)
		}
	}
}

func TestReasonOfAnAlertIsForPeople(t *testing.T) {
	t.Parallel()
	d := one(t, `{"alertState":"ALERT","metricName":"ConsumerLag#60","alertName":"a\n\u0000\ufffd`+strings.Repeat("名", 300)+`","dimensions":{"instanceId":"i","groupId":"gg"}}`, forPlan)
	if d.Err != nil {
		t.Fatal(d.Err)
	}
	if reason := []rune(d.Plan.Reason); len(reason) != 256 || !strings.HasPrefix(d.Plan.Reason, "alert: ConsumerLag of rule a   名") || reason[255] != '…' {
		t.Errorf("%d characters: %s", len(reason), d.Plan.Reason)
	}
	nameless := one(t, `{"alertState":"ALERT","rawMetricName":"null","metricName":"ConsumerLag","dimensions":"{instanceId=i,groupId=gg}"}`, forPlan)
	if nameless.Err != nil || nameless.Plan.Reason != "alert: ConsumerLag of rule ?" {
		t.Errorf("%+v", nameless)
	}
}

// Alarms without a metric of their own (source: Amazon CloudWatch User Guide, composite
// alarms and metric math) are alarms all the same.
func TestAlarmsWithoutAMetric(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"AlarmName":"both","AlarmArn":"a","NewStateValue":"ALARM","OldStateValue":"OK","AlarmRule":"ALARM(x) AND ALARM(y)"}`,
		`{"AlarmName":"both","NewStateValue":"ALARM","Trigger":{"Metrics":[{"Id":"e1","Expression":"m1+m2"}]}}`,
	} {
		if d := one(t, body, forPlan); d.Err != nil || !d.Alert || !strings.HasSuffix(d.Nothing, "; alert: ? of rule both") {
			t.Errorf("%+v", d)
		}
	}
}

func TestTheTestOfARMS(t *testing.T) {
	t.Parallel()
	if d := one(t, armsTest+"\n", forPlan); d.Err != nil || !d.Alert || !strings.HasPrefix(d.Nothing, "nothing to do: ") {
		t.Errorf("%+v", d)
	}
	if d := one(t, armsTest, allowed); codeOf(d.Err) != CodeUnreadable {
		t.Errorf("%+v", d)
	}
}

func TestFormsThatAreNoAlerts(t *testing.T) {
	t.Parallel()
	good := alertTexts(t)["cloudmonitor-webhook"]
	for name, body := range map[string]string{
		"a field twice":    good + "&alertState=OK",
		"bent":             strings.Replace(good, "%3D", "%3", 1),
		"no dimensions":    strings.Replace(good, "dimensions=", "dimension=", 1),
		"too large":        good + "&x=" + strings.Repeat("x", events.MaxEventBytes),
		"base64 of no one": base64.StdEncoding.EncodeToString([]byte("alertName=x")),
		"no list":          `{"alerts":{},"status":"firing"}`,
	} {
		d := one(t, body, forPlan)
		if code := codeOf(d.Err); d.Plan != nil || d.Nothing != "" || code != CodeUnreadable && (code != CodeTooLarge || name != "too large") {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

func TestAnAlertOfSeveralGroups(t *testing.T) {
	t.Parallel()
	old := alertTexts(t)["cloudmonitor-webhook-json"]
	two := strings.Replace(old, `"dimensions": [`, `"dimensions": [{"instanceId":"i","groupId":"gg"},`, 1)
	timer := `{"triggerName":"n","triggerTime":"t","payload":` + two + `}`
	b := Decode([]byte(timer), forPlan)
	if len(b.Deliveries) != 2 || b.Deliveries[0].Plan.GroupID != "gg" || b.Deliveries[1].Plan.GroupID != "GID_orders" {
		t.Fatalf("%+v", b.Deliveries)
	}
	for i, want := range []string{"t#0", "t#1"} {
		if got := b.Deliveries[i].Request.ID; got != want {
			t.Errorf("id %q, want %q", got, want)
		}
	}
	alone := Decode([]byte(two), forPlan)
	if alone.Deliveries[0].Request == alone.Deliveries[1].Request {
		t.Errorf("both are %v", alone.Deliveries[0].Request)
	}
	many := `{"alerts":[` + strings.Repeat("{},", events.MaxBatch) + `{}],"status":"firing"}`
	if d := one(t, many, forPlan); codeOf(d.Err) != CodeTooLarge {
		t.Errorf("%+v", d)
	}
}

// Whoever has the token for alerts, or was admitted for them, gets alerts in and
// nothing else, however it is wrapped.
func TestTheTokenForAlertsAdmitsAlertsOnly(t *testing.T) {
	t.Parallel()
	texts := alertTexts(t)
	v1 := func(body, headers, query string) string {
		return `{"version":"v1","headers":{` + headers + `},"queryParameters":{` + query + `},"requestContext":{},"body":` + quote(t, body) + `}`
	}
	const inHeader, inQuery = `"x-repush-TOKEN":"al3rt"`, `"token":"al3rt"`
	plan := planEvent(t)
	alert := texts["cloudmonitor-webhook"]
	sns := texts["cloudwatch-sns"]
	for name, c := range map[string]struct {
		body string
		in   bool
	}{
		"in the query":                       {v1(alert, "", inQuery), true},
		"in the header":                      {v1(alert, inHeader, ""), true},
		"beside a wrong one":                 {v1(alert, `"authorization":"Bearer x",`+inHeader, `"token":"x"`), true},
		"with the bearer token":              {v1(alert, `"authorization":"Bearer t0ken"`, ""), true},
		"by AWS":                             {strings.Replace(v1(alert, "", inQuery), "queryParameters", "queryStringParameters", 1), true},
		"an alert in another envelope":       {v1(sns, inHeader, ""), true},
		"none":                               {v1(alert, "", ""), false},
		"a wrong one":                        {v1(alert, "", `"token":"al3r"`), false},
		"as a bearer token":                  {v1(alert, `"authorization":"Bearer al3rt"`, ""), false},
		"a plan":                             {v1(plan, inHeader, ""), false},
		"the data of a plan":                 {v1(planData(t), inHeader, ""), false},
		"a sweep":                            {v1(samples(t, "control/sweep-aws-constant-input")["sweep-aws-constant-input"], inHeader, ""), false},
		"a request":                          {v1(samples(t, "event")["event"], inHeader, ""), false},
		"a foreign event":                    {v1(`{"specversion":"1.0","id":"1","source":"s","type":"t"}`, inHeader, ""), false},
		"a plan in the record of a failure":  {v1(`{"requestContext":{},"requestPayload":`+plan+`}`, inHeader, ""), false},
		"a plan in a record in an envelope":  {v1(`{"triggerName":"n","triggerTime":"t","payload":{"requestContext":{},"requestPayload":`+plan+`}}`, inHeader, ""), false},
		"a plan in a message":                {v1(strings.Replace(samples(t, "mns-queue-raw")["mns-queue-raw"], `"messageBody": "`, `"messageBody": `+quote(t, plan)+`, "x": "`, 1), inHeader, ""), false},
		"a plan that has the bearer, inside": {v1(v1(plan, `"authorization":"Bearer t0ken"`, ""), inHeader, ""), false},
		"a plan as a detail":                 {v1(`{"detail-type":"repush:Plan:Requested","detail":`+planData(t)+`}`, inHeader, ""), false},
		"a result":                           {v1(`{"specversion":"1.0","id":"1","source":"s","type":"repush:Plan:Completed"}`, inHeader, ""), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := one(t, c.body, forPlan)
			if c.in != (d.Err == nil && d.Alert && d.Plan != nil && !d.Silent && !d.Human) {
				t.Errorf("%+v", d)
			}
			if refused := codeOf(d.Err) == CodeUnauthorized && d.Silent && d.Plan == nil && d.Sweep == nil && !d.Human; c.in == refused {
				t.Errorf("%+v", d)
			}
			if !c.in && !strings.Contains(string(Decode([]byte(c.body), forPlan).PlanAnswer(nil).Body), `"statusCode":`) {
				t.Error("no HTTP answer")
			}
		})
	}
	admitted := forPlan
	admitted.AlertOnly = true
	for body, in := range map[string]bool{alert: true, texts["arms"]: true, plan: false, planData(t): false, v1(plan, `"authorization":"Bearer t0ken"`, ""): false} {
		if d := one(t, body, admitted); (d.Plan != nil) != in || d.Human || (codeOf(d.Err) == CodeUnauthorized) == in {
			t.Errorf("admitted for alerts: %+v", d)
		}
	}
	if d := one(t, "hello", admitted); codeOf(d.Err) != CodeUnreadable {
		t.Errorf("no event at all: %v", d.Err)
	}
	mixed := Decode([]byte(`[`+texts["arms"]+`,`+plan+`]`), admitted)
	if d := mixed.Deliveries; len(d) != 2 || d[0].Plan == nil || codeOf(d[1].Err) != CodeUnauthorized {
		t.Errorf("an alert and a plan: %+v", d)
	}
}

// An alert sent to functions/repush is told where alerts go.
func TestAlertsAreNotForRepush(t *testing.T) {
	t.Parallel()
	checked := 0
	for name, text := range alertTexts(t) {
		for _, d := range Decode([]byte(text), allowed).Deliveries {
			if d.Alert || d.Plan != nil || d.Err == nil {
				t.Errorf("%s: %+v", name, d)
			}
			if codeOf(d.Err) == CodeUnauthorized {
				continue // an outsider's
			}
			checked++
			var fields *events.ValidationError
			if !errors.As(d.Err, &fields) || !strings.Contains(d.Err.Error(), `must be "repush:Message:Requested"`) || !strings.HasSuffix(d.Err.Error(), "send it to functions/plan") {
				t.Errorf("%s: Err = %v", name, d.Err)
			}
		}
	}
	if checked < 10 {
		t.Errorf("checked %d", checked)
	}
}

// TestAlertsThatCouldMeanTwo: an alert is about one group, or refused.
func TestAlertsThatCouldMeanTwo(t *testing.T) {
	t.Parallel()
	for name, dimensions := range map[string]string{
		"two resources in text":     `"[{z=1, instanceId=MQ_INST_1_x, y=2}, {z=1, groupId=GID_other, w=1}]"`,
		"two objects in text":       `"{instanceId=MQ_INST_1_x, groupId=GID_a}, {instanceId=MQ_INST_2_x, groupId=GID_b}"`,
		"a group twice":             `"{instanceId=MQ_INST_1_x, groupId=GID_a, groupId=GID_b}"`,
		"an instance in two spells": `{"instanceId":"MQ_INST_1_x","instance_id":"MQ_INST_2_x","groupId":"GID_a"}`,
	} {
		batch := Decode([]byte(`{"alertState":"ALERT","metricName":"SendDLQMessageCount","dimensions":`+dimensions+`}`), Options{Plan: true})
		if len(batch.Deliveries) != 1 || batch.Deliveries[0].Plan != nil || batch.Deliveries[0].Err == nil {
			t.Errorf("%s: %+v", name, batch.Deliveries)
		}
	}
	one := `{"alertState":"ALERT","metricName":"SendDLQMessageCount","dimensions":"{instanceId=MQ_INST_1_x, groupId=GID_a}"}`
	list := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat(one+",", n), ",") + "]" }
	http := func(n int) string {
		return `{"rawPath":"/","headers":{},"queryParameters":{"token":"hook"},"body":` + quote(t, list(n)) + `,"requestContext":{}}`
	}
	event := func(n int) string {
		return `{"specversion":"1.0","id":"1","source":"s","type":"eventbridge:Events:HTTPEvent","data":{"httpMethod":"POST","headers":{"X-Repush-Token":"hook"},"body":` + list(n) + `}}`
	}
	outsider := Options{Plan: true, AllowsAlert: func(token string) bool { return token == "hook" }}
	for name, test := range map[string]struct {
		body string
		o    Options
		want []int // alerts; 0: one refusal in their place
	}{
		"the platform's own":           {list(101), Options{Plan: true}, []int{101}},
		"as many over HTTP":            {list(100), Options{Plan: true, AlertOnly: true}, []int{100}},
		"too many over HTTP":           {list(101), Options{Plan: true, AlertOnly: true}, []int{0}},
		"more than are read at all":    {list(1001), Options{Plan: true, AlertOnly: true}, []int{0}},
		"too many for an HTTP trigger": {http(101), outsider, []int{0}},
		"too many for a bus":           {event(101), outsider, []int{0}},
		"two requests beside them":     {`[` + event(60) + `,` + event(101) + `,` + event(60) + `]`, outsider, []int{60, 0, 60}},
	} {
		var got []int
		for _, d := range Decode([]byte(test.body), test.o).Deliveries {
			switch last := len(got) - 1; {
			case codeOf(d.Err) == CodeTooLarge:
				got = append(got, 0)
			case d.Plan == nil:
				got = append(got, -1)
			case last >= 0 && got[last] > 0:
				got[last]++
			default:
				got = append(got, 1)
			}
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	padded := strings.Replace(one, "SendDLQMessageCount", "SendDLQMessageCount"+strings.Repeat("x", 300<<10), 1)
	if got := Decode([]byte(padded), Options{Plan: true}).Deliveries; len(got) != 1 || codeOf(got[0].Err) != CodeTooLarge {
		t.Errorf("an alert of 300 KB: %+v", got)
	}
}
