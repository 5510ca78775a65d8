package functions_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/ons-repush/ons-repush/functions/internal/config"
)

const (
	awsTemplate = "../infra/aws/template.yaml"
	awsReadme   = "../infra/aws/README.md"
)

// awsSchema compiles our own schema of the template.
func awsSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	return compileSchema(t, "testdata/sam.schema.json")
}

func compileSchema(t *testing.T, file string) *jsonschema.Schema {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile(file)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// readAWS reads a template strictly.
func readAWS(schema *jsonschema.Schema, text string, values map[string]string) (awsStack, []string) {
	tree, err := readCloudFormation(text)
	if err != nil {
		return awsStack{}, []string{err.Error()}
	}
	resolved, problems := resolveTemplate(tree, values)
	raw, err := json.Marshal(resolved)
	if err != nil {
		return awsStack{}, []string{err.Error()}
	}
	problems = append(problems, refusals(schema, raw)...)
	var s awsStack
	if err := json.Unmarshal(raw, &s); err != nil {
		problems = append(problems, err.Error())
	}
	return s, problems
}

// violations holds JSON against a schema file.
func violations(file string, raw []byte) []string {
	schema, err := jsonschema.NewCompiler().Compile(file)
	if err != nil {
		return []string{err.Error()}
	}
	return refusals(schema, raw)
}

// refusals holds JSON against a schema.
func refusals(schema *jsonschema.Schema, raw []byte) []string {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err == nil {
		err = schema.Validate(value)
	}
	if err != nil {
		return []string{err.Error()}
	}
	return nil
}

// throttledReceives are those of a message that Lambda could not hand over,
// because the one instance was busy for a whole visibility time-out.
const throttledReceives = 5

// deployment is one function of the stack in the words of the common rules. SNS
// and EventBridge write into its queue, so that their batches are the queue's.
func (s awsStack) deployment(function string) deployment {
	f := s.function(function)
	d := deployment{function: function, role: f.Environment.Variables["ALIBABA_CLOUD_ACCESS_KEY_ID"], settings: make(map[string]string), timeout: time.Duration(f.Timeout) * time.Second, instances: f.ReservedConcurrentExecutions, perInstance: 1, network: f.VpcConfig.SubnetIds != nil}
	for name, value := range f.Environment.Variables {
		if strings.HasPrefix(name, "REPUSH_") {
			d.settings[name] = value
		}
	}
	for target := range strings.SplitSeq(d.settings["REPUSH_RESULTS"], ",") {
		if target != "stdout" {
			d.results = append(d.results, target)
		}
	}
	if place := s.through(d.settings["REPUSH_REQUESTS"]); place != "" {
		d.requests = []string{place}
	}
	d.results = append(d.results, s.named(f.EventInvokeConfig.DestinationConfig.OnSuccess.Destination))
	for _, alarm := range all[awsAlarm](s, "CloudWatch::Alarm") {
		for _, action := range alarm.AlarmActions {
			d.results = append(d.results, s.named(action))
		}
	}
	queues := all[awsQueue](s, "SQS::Queue")
	through := make(map[string]source) // what comes by each queue
	for name, event := range f.Events {
		in := event.Properties
		from := s.named(in.Queue)
		queue := queues[strings.TrimPrefix(from, "sqs/")]
		visibility := time.Duration(queue.VisibilityTimeout) * time.Second
		through[from] = source{
			name: name, kind: "sqs", from: from, enabled: in.Enabled == nil || *in.Enabled, batch: in.BatchSize,
			answersPerItem: slices.Contains(in.FunctionResponseTypes, "ReportBatchItemFailures"),
			retries:        true, deadLetter: s.named(queue.RedrivePolicy.DeadLetterTargetArn), tolerates: queue.RedrivePolicy.MaxReceiveCount > 0,
			visibility: visibility, retriesFor: time.Duration(queue.RedrivePolicy.MaxReceiveCount-throttledReceives) * visibility,
		}
		d.triggers = append(d.triggers, through[from])
	}
	for name, sub := range all[awsSubscription](s, "SNS::Subscription") {
		in, reads := through[s.named(sub.Endpoint)]
		if !reads {
			continue
		}
		in.name, in.kind, in.from, in.visibility = name, "sns", s.named(sub.TopicArn), 0
		in.deadLetter = s.named(sub.RedrivePolicy.DeadLetterTargetArn)
		d.triggers = append(d.triggers, in)
	}
	async := source{
		name: "EventInvokeConfig", kind: "async", enabled: true, batch: 1, tolerates: true,
		retries: f.EventInvokeConfig.MaximumRetryAttempts > 0, deadLetter: s.named(f.EventInvokeConfig.DestinationConfig.OnFailure.Destination),
	}
	d.triggers = append(d.triggers, async)
	for name, rule := range all[awsRule](s, "Events::Rule") {
		for _, target := range rule.Targets {
			if rule.ScheduleExpression != "" {
				if target.Arn != "${"+awsNames[function]+".Arn}" {
					continue
				}
				in := async
				in.name, in.kind, in.enabled, in.delivers = name, "timer", rule.State == "ENABLED", target.Input
				var event struct{ Type string }
				_ = json.Unmarshal([]byte(target.Input), &event) // no JSON: no type
				in.eventTypes = []string{event.Type}
				d.triggers = append(d.triggers, in)
				continue
			}
			in, reads := through[s.named(target.Arn)]
			if !reads {
				continue
			}
			in.name, in.kind, in.from, in.visibility = name, "eventbridge", "bus/"+rule.EventBusName, 0
			in.enabled = in.enabled && rule.State == "ENABLED"
			in.retries, in.deadLetter = in.retries && target.RetryPolicy.MaximumRetryAttempts > 0, s.named(target.DeadLetterConfig.Arn)
			in.eventTypes = rule.EventPattern.DetailType
			d.triggers = append(d.triggers, in)
		}
	}
	return d
}

// awsProblems reads a template and applies every rule, by name; what the strict
// reader finds is under "template".
func awsProblems(schema *jsonschema.Schema, text string, values map[string]string) map[string][]string {
	s, problems := readAWS(schema, text, values)
	if problems != nil {
		return map[string][]string{"template": problems}
	}
	repush, plan := s.deployment(config.Repush), s.deployment(config.Plan)
	found := allProblems(repush, plan)
	for name, rule := range awsRules {
		for _, d := range []deployment{repush, plan} {
			if wrong := rule(s, d); wrong != nil {
				found[name] = append(found[name], wrong...)
			}
		}
	}
	return found
}

// awsValues are the parameters of the command in the README.
func awsValues(t *testing.T) map[string]string {
	t.Helper()
	command := regexp.MustCompile(`(?s)--parameter-overrides (.*?)[^\\]\n`).FindString(awsText(t, awsReadme))
	values := make(map[string]string)
	for _, match := range regexp.MustCompile(`(\w+)='?([^'\s]+)'?`).FindAllStringSubmatch(command, -1) {
		values[match[1]] = match[2]
	}
	if len(values) < 3 {
		t.Fatalf("the README's command gives %v", values)
	}
	return values
}

func awsText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// withRedis are parameters for state in Redis, by TLS or in a network.
func withRedis(t *testing.T, url string) map[string]string {
	t.Helper()
	values := awsValues(t)
	values["State"] = url
	if strings.HasPrefix(url, "redis:") {
		values["SubnetIds"], values["SecurityGroupIds"] = "subnet-0a1,subnet-0b2", "sg-0c3"
	}
	return values
}

// TestAWSTemplate holds the template as the README deploys it, with the optional
// stream for results, and with shared state.
func TestAWSTemplate(t *testing.T) {
	t.Parallel()
	schema, text, values := awsSchema(t), awsText(t, awsTemplate), awsValues(t)
	withStream := maps.Clone(values)
	withStream["ResultStream"] = "arn:aws:firehose:eu-west-1:111122223333:deliverystream/results"
	withStream["ResultStreamRole"] = "arn:aws:iam::111122223333:role/results"
	for name, values := range map[string]map[string]string{
		"as in the README": values, "with a stream": withStream,
		"with Redis": withRedis(t, "redis://:secret@redis.example:6379"), "with Redis by TLS": withRedis(t, "rediss://repush:secret@redis.example:6380/1"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for rule, wrong := range awsProblems(schema, text, values) {
				t.Errorf("%s: %s", rule, strings.Join(wrong, "; "))
			}
			if s, problems := readAWS(schema, text, values); problems == nil {
				checkBoth(t, s.deployment(config.Repush), s.deployment(config.Plan))
			}
		})
	}
}

// TestAWSParameters: what a newcomer fills in wrongly is refused before
// anything is created.
func TestAWSParameters(t *testing.T) {
	t.Parallel()
	schema, text := awsSchema(t), awsText(t, awsTemplate)
	for parameter, test := range map[string]struct{ good, bad []string }{
		"RocketMQRegion": {good: []string{"cn-hangzhou"}, bad: []string{"", "CN", "cn hangzhou", "cn-hangzhou.evil.example"}},
		"Allow":          {good: []string{"i/g/t", "i/*/t,i/g/*"}, bad: []string{"", "i/g", "i/g/t,", "i/g/t/x", "i/g/t, i/g/u"}},
		"ResultTarget": {
			good: []string{"https://h.example/x", "eventbridge://1.eventbridge.cn-hangzhou.aliyuncs.com/bus", "mns://1.mns.cn-hangzhou.aliyuncs.com/topics/results"},
			bad:  []string{"", "stdout", "http://h.example", "eventbridge://bus", "mns://queues/results", "https://h.example,stdout"},
		},
		"State": {
			good: []string{"memory", "redis://r.example", "rediss://u:p@r.example:6380/1"},
			bad:  []string{"", "file:/tmp/ledger", "redis", "redis://", "rediss://r.example?db=1", "rediss://r.example/a"},
		},
		"RequestsToken":        {good: []string{"0123456789abcdef0123456789abcdef"}, bad: []string{"", "short", "0123456789abcdef0123456789abcde/"}},
		"SubnetIds":            {good: []string{"", "subnet-0a1", "subnet-0a1,subnet-0b2"}, bad: []string{"0a1", "subnet-0a1,", "subnet-0a1, subnet-0b2"}},
		"SecurityGroupIds":     {good: []string{"", "sg-0a1,sg-0b2"}, bad: []string{"subnet-0a1", "sg-0a1,"}},
		"AlibabaSecret":        {good: []string{"ons-repush/alibaba"}, bad: []string{"", "a:b", "a}}b", "arn:aws:secretsmanager:eu-west-1:111122223333:secret:x"}},
		"AlibabaSecretVersion": {good: []string{"EXAMPLE1-90ab-cdef-fedc-ba987EXAMPLE"}, bad: []string{"", "AWSCURRENT", "}}"}},
		"AlarmEmail":           {good: []string{"a@b.example"}, bad: []string{"", "a", "a@b"}},
		"EventBusName":         {good: []string{"default", "orders-bus"}, bad: []string{"", "a b"}},
		"ResultStream":         {good: []string{"", "arn:aws:kinesis:eu-west-1:111122223333:stream/x"}, bad: []string{"arn:aws:lambda:eu-west-1:111122223333:function:repush", "x"}},
		"ResultStreamRole":     {good: []string{"", "arn:aws:iam::111122223333:role/x"}, bad: []string{"x"}},
	} {
		for _, value := range slices.Concat(test.good, test.bad) {
			values := awsValues(t)
			values[parameter] = value
			_, problems := readAWS(schema, text, values)
			refused := slices.ContainsFunc(problems, func(p string) bool { return strings.HasPrefix(p, "parameter "+parameter+": ") })
			if refused != slices.Contains(test.bad, value) {
				t.Errorf("%s=%q: refused %v (%v)", parameter, value, refused, problems)
			}
		}
	}
}

// TestAWSReadme: the commands are as many as promised, and what they and the
// text speak of is there.
func TestAWSReadme(t *testing.T) {
	t.Parallel()
	text := awsText(t, awsReadme)
	var commands int
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "    ") && !strings.HasPrefix(line, "     ") {
			commands++
		}
	}
	if commands == 0 || commands > 6 {
		t.Errorf("%d commands", commands)
	}
	for _, path := range regexp.MustCompile(`(?:infra|events|scripts)/[\w./-]+\w`).FindAllString(text, -1) {
		if _, err := os.Stat("../" + path); err != nil {
			t.Error(err)
		}
	}
	tree, err := readCloudFormation(awsText(t, awsTemplate))
	if err != nil {
		t.Fatal(err)
	}
	outputs := tree["Outputs"].(map[string]any)
	said := regexp.MustCompile(`(?:--queue-url|tail|-arn|--uuid) ([A-Z]\w+)`).FindAllStringSubmatch(text, -1)
	if len(said) < 5 {
		t.Errorf("only the outputs %v", said)
	}
	for _, match := range said {
		if outputs[match[1]] == nil {
			t.Errorf("%s is no output", match[1])
		}
	}
}
