package functions_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/ons-repush/ons-repush/functions/internal/config"
)

// exported are the five names as "First deploy" exports them.
var exported = map[string]string{
	"REGION": "cn-hangzhou", "ACCOUNT": "1380156306793859", "INSTANCE": "MQ_INST_1380156306793859_BbXbx0Y4",
	"GROUP": "GID_billing", "TOPIC": "orders",
}

// shared is what has to be exported beside them for state in Redis.
var shared = map[string]string{
	"REPUSH_STATE": "redis://:secret@r-bp1.redis.rds.aliyuncs.com:6379", "REDIS_VPC": "vpc-bp1", "REDIS_VSWITCH": "vsw-bp1", "REDIS_SECURITY_GROUP": "sg-bp1",
}

// optional are names that have a default in s.yaml, and a value in these tests.
var optional = map[string]string{"REPUSH_WEBHOOK_TOKEN": "0123456789abcdef"}

// resources of s.yaml that stand for a whole function, by its name in the house.
var resources = map[string]string{"repush": config.Repush, "shared": config.Repush, "plan": config.Plan, "shared-plan": config.Plan}

// variable is what Serverless Devs replaces: ${vars.x}, ${env('X')} and
// ${env('X', 'otherwise')}.
var variable = regexp.MustCompile(`\$\{(?:vars\.(\w+)|env\('(\w+)'(, '([^']*)')?\))\}`)

// resolver replaces variables and keeps what it could not replace.
type resolver struct {
	vars  map[string]any
	wrong []string
}

func (r *resolver) value(v any) any {
	switch v := v.(type) {
	case string:
		return r.text(v)
	case map[string]any:
		for key := range v {
			v[key] = r.value(v[key])
		}
	case []any:
		for i := range v {
			v[i] = r.value(v[i])
		}
	}
	return v
}

func (r *resolver) text(text string) string {
	text = variable.ReplaceAllStringFunc(text, func(whole string) string {
		part := variable.FindStringSubmatch(whole)
		value, known := exported[part[2]]
		for _, more := range []map[string]string{shared, optional} {
			if !known {
				value, known = more[part[2]]
			}
		}
		switch {
		case part[1] != "":
			value, known = r.vars[part[1]].(string)
		case !known && part[3] != "":
			value, known = part[4], true
		}
		if !known {
			r.wrong = append(r.wrong, "nothing says what "+part[0][2:]+" is")
		}
		return value
	})
	if strings.Contains(text, "${") {
		r.wrong = append(r.wrong, text+": is no variable of Serverless Devs")
	}
	return text
}

// fc3 is the part of an s.yaml that tells the truth or not.
type fc3 struct {
	Resources map[string]struct{ Props fc3Props }
}

type fc3Props struct {
	Region, Code, FunctionName, Role         string
	CPU                                      float64
	MemorySize, Timeout, InstanceConcurrency int
	ConcurrencyConfig                        struct{ ReservedConcurrency int }
	VpcConfig                                any
	EnvironmentVariables                     map[string]string
	AsyncInvokeConfig                        struct {
		MaxAsyncRetryAttempts int
		DestinationConfig     struct{ OnSuccess, OnFailure struct{ Destination string } }
	}
	Triggers []fc3Trigger
}

type fc3Trigger struct {
	TriggerName, TriggerType, SourceArn string
	TriggerConfig                       struct {
		TriggerEnable, AsyncInvocationType, Enable bool
		EventRuleFilterPattern, Payload, AuthType  string
		AuthConfig                                 struct {
			TokenLookup []struct{ ParameterName string }
		}
		RunOptions struct {
			Mode, ErrorsTolerance string
			RetryStrategy         struct{ PushRetryStrategy string }
			DeadLetterQueue       struct{ Arn string }
			BatchWindow           struct{ CountBasedWindow int }
		}
		EventSourceConfig struct {
			EventSourceParameters struct {
				SourceMNSParameters      struct{ QueueName string }
				SourceRocketMQParameters struct{ InstanceID, Topic string }
			}
		}
	}
}

// arguments is the name under which a loader reports what the platform does not
// know.
const arguments = "arguments are the platform's"

// loadServerlessDevs reads an s.yaml, as "s RESOURCE deploy" does, and the policy
// of its function's role.
func loadServerlessDevs(text, policy, resource string) (deployment, []string) {
	var file map[string]any
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		return deployment{}, []string{err.Error()}
	}
	r := resolver{}
	r.vars, _ = file["vars"].(map[string]any)
	r.value(r.vars)
	r.value(file)
	raw, err := json.Marshal(file)
	if err != nil {
		return deployment{}, append(r.wrong, err.Error())
	}
	wrong := append(r.wrong, violations("testdata/fc3.schema.json", raw)...)
	var parsed fc3
	if err := json.Unmarshal(raw, &parsed); err != nil {
		return deployment{}, append(wrong, err.Error())
	}
	function := parsed.Resources[resource].Props
	triggers := function.Triggers
	for name, other := range parsed.Resources {
		if other.Props.FunctionName != function.FunctionName {
			continue
		}
		if diff := cmp.Diff(function.unshared(), other.Props.unshared()); diff != "" {
			wrong = append(wrong, "resources are not the same function: "+diff)
		}
		if resources[name] == "" { // more ways in
			triggers = slices.Concat(triggers, other.Props.Triggers)
		}
	}
	grants, policyWrong := loadPolicy(policy)
	d := function.deployment(triggers)
	d.function, d.role = resources[resource], function.Role
	for _, g := range grants {
		d.actions = append(d.actions, g.action)
		if parts := strings.SplitN(g.resource, ":", 5); len(parts) == 5 { // without region and account
			d.grants = append(d.grants, grant{g.action, parts[4]})
		}
	}
	return d, slices.Concat(wrong, policyWrong, function.sizes())
}

// unshared is the function without what its state decides.
func (p fc3Props) unshared() fc3Props {
	p.EnvironmentVariables = maps.Clone(p.EnvironmentVariables)
	delete(p.EnvironmentVariables, "REPUSH_STATE")
	p.VpcConfig, p.Triggers, p.ConcurrencyConfig.ReservedConcurrency = nil, nil, 0
	return p
}

// sizes: CPU in steps of 0.05 between memory in GB and a quarter of it (source:
// FC "Limits"), and one instance takes as many events as it may push at a time.
func (p fc3Props) sizes() (wrong []string) {
	gb := float64(p.MemorySize) / 1024
	if steps := p.CPU / 0.05; p.CPU > gb || p.CPU < gb/4 || math.Abs(steps-math.Round(steps)) > 1e-9 {
		wrong = append(wrong, fmt.Sprintf("cpu %g does not go with %d MB", p.CPU, p.MemorySize))
	}
	if _, plans := p.EnvironmentVariables["REPUSH_REQUESTS"]; plans {
		return wrong // it pushes nothing
	}
	if inFlight := p.EnvironmentVariables["REPUSH_CONCURRENCY"]; inFlight != strconv.Itoa(p.InstanceConcurrency) {
		wrong = append(wrong, fmt.Sprintf("an instance takes %d events, REPUSH_CONCURRENCY is %s", p.InstanceConcurrency, inFlight))
	}
	return wrong
}

func (p fc3Props) deployment(triggers []fc3Trigger) deployment {
	d := deployment{
		settings: p.EnvironmentVariables, timeout: time.Duration(p.Timeout) * time.Second,
		instances: p.ConcurrencyConfig.ReservedConcurrency, perInstance: p.InstanceConcurrency,
		network: p.VpcConfig != nil,
	}
	d.results, d.requests = placesOf(p.EnvironmentVariables["REPUSH_RESULTS"]), placesOf(p.EnvironmentVariables["REPUSH_REQUESTS"])
	async := p.AsyncInvokeConfig
	queued := source{
		name: "asynchronous invocations", kind: "async", enabled: true, batch: 1, tolerates: true,
		retries: async.MaxAsyncRetryAttempts > 0, deadLetter: placeOfQueue(async.DestinationConfig.OnFailure.Destination),
	}
	if success := placeOfQueue(async.DestinationConfig.OnSuccess.Destination); success != "" {
		d.results = append(d.results, success)
	}
	for _, t := range triggers {
		d.triggers = append(d.triggers, t.source(queued))
	}
	d.triggers = append(d.triggers, queued)
	return d
}

// source puts a trigger into the words of the rules. Timers are asynchronous
// and share the fate of what is queued (source: FC "Timer triggers").
func (t fc3Trigger) source(queued source) source {
	c := t.TriggerConfig
	switch t.TriggerType {
	case "timer":
		s := queued
		s.name, s.kind, s.enabled = t.TriggerName, "timer", c.Enable
		var event struct{ Type string }
		_ = json.Unmarshal([]byte(c.Payload), &event) // no JSON: no type
		s.delivers = timerEvent(c.Payload)
		s.eventTypes = []string{event.Type}
		return s
	case "http":
		s := source{name: t.TriggerName, kind: "http", enabled: true, batch: 1, anonymous: c.AuthType == "anonymous", signed: c.AuthType == "function"}
		for _, token := range c.AuthConfig.TokenLookup {
			s.signed = s.signed || strings.EqualFold(token.ParameterName, "authorization")
		}
		return s
	}
	s := source{
		name: t.TriggerName, kind: "bus", enabled: c.TriggerEnable, throughEventBridge: true,
		batch: max(1, c.RunOptions.BatchWindow.CountBasedWindow), tolerates: c.RunOptions.ErrorsTolerance == "ALL",
		retries: c.RunOptions.RetryStrategy.PushRetryStrategy == "EXPONENTIAL_DECAY_RETRY", retriesFor: exponentialDecay,
		deadLetter: placeOfQueue(c.RunOptions.DeadLetterQueue.Arn), handsOver: c.AsyncInvocationType,
	}
	parameters := c.EventSourceConfig.EventSourceParameters
	switch {
	case parameters.SourceMNSParameters.QueueName != "":
		s.kind, s.from = "mns-queue", "mns:queue/"+parameters.SourceMNSParameters.QueueName
	case parameters.SourceRocketMQParameters.Topic != "":
		s.kind, s.from = "rocketmq", "mq:"+parameters.SourceRocketMQParameters.InstanceID+"/"+parameters.SourceRocketMQParameters.Topic
	default:
		_, after, _ := strings.Cut(t.SourceArn, ":eventbus/")
		bus, _, _ := strings.Cut(after, "/")
		s.from = "bus/" + bus
	}
	var filter struct{ Type []string }
	if err := json.Unmarshal([]byte(c.EventRuleFilterPattern), &filter); err != nil {
		filter.Type = []string{err.Error()}
	}
	s.eventTypes = filter.Type
	return s
}

// timerEvent is what a timer of Function Compute delivers (source:
// fc-runtime-go-sdk README_TIMER).
func timerEvent(payload string) string {
	event, _ := json.Marshal(map[string]string{"triggerTime": "2026-01-02T04:00:00Z", "triggerName": "sweep", "payload": payload})
	return string(event)
}

// placeOfQueue names the queue of acs:mns:<region>:<account>:/queues/<name>.
func placeOfQueue(arn string) string {
	_, name, found := strings.Cut(strings.TrimSuffix(arn, "/messages"), ":/queues/")
	if !found {
		return ""
	}
	return "mns:queue/" + name
}

// placesOf names what a list of targets writes to.
func placesOf(targets string) (places []string) {
	for target := range strings.SplitSeq(targets, ",") {
		if place := placeOfTarget(strings.TrimSpace(target)); place != "" {
			places = append(places, place)
		}
	}
	return places
}

// placeOfTarget names what a target of REPUSH_RESULTS writes to, host or not;
// empty for the log and for HTTP.
func placeOfTarget(target string) string {
	scheme, rest, _ := strings.Cut(target, "://")
	parts := strings.Split(rest, "/")
	if strings.ContainsAny(parts[0], ".:") || parts[0] == "localhost" {
		parts = parts[1:]
	}
	switch {
	case scheme == "eventbridge":
		return "bus/" + strings.Join(parts, "/")
	case scheme == "mns" && parts[0] == "topics":
		return "mns:topic/" + strings.Join(parts[1:], "/")
	case scheme == "mns":
		return "mns:queue/" + strings.TrimPrefix(strings.Join(parts, "/"), "queues/")
	}
	return ""
}

// TestServerlessDevs holds both functions, in memory and with shared state.
func TestServerlessDevs(t *testing.T) {
	t.Parallel()
	for resource, plan := range map[string]string{"repush": "plan", "shared": "shared-plan"} {
		t.Run(resource, func(t *testing.T) {
			t.Parallel()
			checkBoth(t, checkServerlessDevs(t, resource, "rocketmq", "mns-queue", "bus", "timer", "http", "async"),
				checkServerlessDevs(t, plan, "mns-queue", "timer", "http", "async"))
		})
	}
}

func checkServerlessDevs(t *testing.T, resource string, wantKinds ...string) deployment {
	t.Helper()
	d, wrong := loadServerlessDevs(contents(t, "../infra/fc/s.yaml"), contents(t, policies[resources[resource]]), resource)
	for _, w := range wrong {
		t.Errorf("%s: %s: %s", resource, arguments, w)
	}
	if state := d.settings["REPUSH_STATE"]; (state == "memory") != (resource == d.function) {
		t.Errorf("%s: state %q", resource, state)
	}

	kinds := make(map[string]bool)
	back := make(map[string]bool)
	for _, s := range d.triggers {
		kinds[s.kind] = true
		back[s.from] = true
	}
	for _, kind := range wantKinds {
		if !kinds[kind] {
			t.Errorf("%s: there is no trigger of kind %s in %v", resource, kind, slices.Sorted(maps.Keys(kinds)))
		}
	}
	for _, s := range d.triggers { // an alert of yesterday is worth nothing, so nothing leads back to functions/plan
		if d.function == config.Repush && s.name != "dead-letters" && s.deadLetter != "" && !back[s.deadLetter] {
			t.Errorf("%s: nothing leads back from %s", s.name, s.deadLetter)
		}
	}
	return d
}

func contents(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
