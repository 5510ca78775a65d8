package functions_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ons-repush/ons-repush/functions/internal/config"
)

// at walks plain data: at(v, "code", "zip_file"); lists of blocks count as their
// first.
func at(value any, names ...string) any {
	for _, name := range names {
		if list, is := value.([]any); is && len(list) > 0 {
			value = list[0]
		}
		object, _ := value.(map[string]any)
		value = object[name]
	}
	return value
}

func text(value any, names ...string) string {
	s, _ := at(value, names...).(string)
	return s
}

// queueOf is placeOfQueue for the endpoints of rules as well, which have no slash
// before queues.
func queueOf(arn string) string {
	return placeOfQueue(strings.Replace(arn, ":queues/", ":/queues/", 1))
}

// names of the functions in the example, by theirs in the house.
var terraformNames = map[string]string{config.Repush: "repush", config.Plan: "repush-plan"}

// deployment reads one function of a loaded module.
func (m *terraform) deployment(function string) (d deployment) {
	d.function = function
	functions := m.of("alicloud_fcv3_function", function)
	if len(functions) != 1 {
		m.wrong("", "%d functions are %s", len(functions), function)
		return d
	}
	f := functions[0]
	d.settings = make(map[string]string)
	settings, _ := at(f, "environment_variables").(map[string]any) // none when an expression is wrong
	for name, value := range settings {
		d.settings[name] = fmt.Sprint(value)
	}
	d.timeout = time.Duration(number(f["timeout"])) * time.Second
	d.perInstance = int(number(f["instance_concurrency"]))
	d.network = text(f, "vpc_config", "vpc_id") != ""
	for _, r := range m.resources["alicloud_redis_tair_instance"] {
		if text(r, "config", "maxmemory-policy") != "noeviction" || text(r, "config", "appendonly") != "yes" {
			m.wrong(text(r, "address"), "is a state that forgets: %v", r["config"])
		}
	}
	for _, c := range m.of("alicloud_fcv3_concurrency_config", function) {
		d.instances = int(number(c["reserved_concurrency"]))
	}
	async := m.async(function)
	for _, t := range m.of("alicloud_fcv3_trigger", function) {
		d.triggers = append(d.triggers, m.trigger(t, async))
	}
	d.triggers = append(d.triggers, m.feeders(d.triggers)...)
	d.triggers = append(d.triggers, async...)
	d.results, d.requests = placesOf(d.settings["REPUSH_RESULTS"]), placesOf(d.settings["REPUSH_REQUESTS"])
	for _, place := range d.results {
		m.comesBack(place, d.triggers)
	}
	d.role = text(f, "role")
	d.grants = m.grants(d.role)
	d.actions = []string{}
	for _, g := range d.grants {
		d.actions = append(d.actions, g.action)
	}
	return d
}

// of are the resources of a type that belong to a function.
func (m *terraform) of(kind, function string) (some []map[string]any) {
	for _, r := range m.resources[kind] {
		if text(r, "function_name") == terraformNames[function] {
			some = append(some, r)
		}
	}
	return some
}

// statistic is the only one of the RocketMQ metrics that count; CloudMonitor refuses
// rules with another since 15 Aug 2024 (sources: AlibabaCloudDocs/cms "Appendix 1:
// Metrics", RocketMQ; PutResourceMetricRule).
const statistic = "Sum"

// alarmed reports alarms that nobody who plans hears of, and that cannot be made.
func (m *terraform) alarmed(plan deployment) {
	found := false
	for _, alarm := range m.resources["alicloud_cms_alarm"] {
		arn := text(alarm, "targets", "arn")
		if given := cmp.Or(text(alarm, "escalations_warn", "statistics"), text(alarm, "escalations_critical", "statistics")); text(alarm, "project") == "acs_rocketmq" && given != statistic {
			m.wrong(text(alarm, "address"), "the metric has the statistic %s and no %s", statistic, given)
		}
		found = found || arn != "" && text(alarm, "metric") == "SendDLQMessageCountPerGid"
		if arn != "" && !slices.ContainsFunc(plan.triggers, func(s source) bool { return s.enabled && s.from == alarmQueue(arn) }) {
			m.wrong(text(alarm, "address"), "functions/plan does not read %s", arn)
		}
	}
	if !found {
		m.wrong("", "no alarm tells functions/plan of dead letters")
	}
}

// trigger reads one trigger, strictly.
func (m *terraform) trigger(t map[string]any, async []source) source {
	s := source{name: text(t, "trigger_name"), batch: 1, tolerates: true}
	c := m.parsed(text(t, "address"), "trigger_config "+text(t, "trigger_type"), text(t, "trigger_config"))
	switch text(t, "trigger_type") {
	case "timer":
		s.kind = "timer"
		s.enabled, _ = c["enable"].(bool)
		var event map[string]any
		if err := json.Unmarshal([]byte(text(c, "payload")), &event); err != nil {
			m.wrong(s.name, "payload: %v", err)
		}
		s.eventTypes, s.delivers = []string{text(event, "type")}, timerEvent(text(c, "payload"))
		for _, queue := range async {
			s.retries, s.deadLetter = queue.retries, queue.deadLetter
		}
	case "http":
		s.kind, s.enabled, s.anonymous = "http", true, text(c, "authType") == "anonymous"
		s.signed = text(c, "authType") == "function" || strings.Contains(text(c, "authConfig"), "header:Authorization")
	case "eventbridge":
		s.throughEventBridge = true
		s.enabled, _ = c["triggerEnable"].(bool)
		run := c["runOptions"]
		s.batch = int(number(at(run, "batchWindow", "CountBasedWindow")))
		s.retries = text(run, "retryStrategy", "PushRetryStrategy") == "EXPONENTIAL_DECAY_RETRY"
		s.retriesFor = exponentialDecay
		s.tolerates = text(run, "errorsTolerance") == "ALL"
		s.deadLetter = queueOf(text(run, "deadLetterQueue", "Arn"))
		s.handsOver = c["asyncInvocationType"] != false
		parameters := at(c, "eventSourceConfig", "eventSourceParameters")
		switch text(c, "eventSourceConfig", "eventSourceType") {
		case "MNS":
			name := text(parameters, "sourceMNSParameters", "QueueName")
			s.kind, s.from = "mns-queue", "mns:queue/"+name
			for _, q := range m.resources["alicloud_message_service_queue"] {
				if q["queue_name"] == name {
					s.visibility = time.Duration(number(q["visibility_timeout"])) * time.Second
				}
			}
			if s.visibility == 0 {
				m.wrong(s.name, "reads %s, which is not made here", name)
			}
		case "RocketMQ":
			s.kind = "rocketmq"
			s.from = "mq:" + text(parameters, "sourceRocketMQParameters", "InstanceId") + "/" + text(parameters, "sourceRocketMQParameters", "Topic")
		}
	}
	if s.kind == "" {
		m.wrong(s.name, "a kind of trigger this test cannot read")
	}
	return s
}

// async is Function Compute's own queue of asynchronous calls.
func (m *terraform) async(function string) (queues []source) {
	for _, c := range m.of("alicloud_fcv3_async_invoke_config", function) {
		queues = append(queues, source{name: "asynchronous calls", kind: "async", enabled: true, batch: 1, tolerates: true,
			retries: number(c["max_async_retry_attempts"]) > 0, deadLetter: queueOf(text(c, "destination_config", "on_failure", "destination"))})
	}
	return queues
}

// feeders are the buses and topics whose events end in a queue of the triggers.
func (m *terraform) feeders(triggers []source) (more []source) {
	leads := func(queue string) bool {
		return slices.ContainsFunc(triggers, func(s source) bool { return s.from == queue && s.kind == "mns-queue" })
	}
	for _, r := range m.resources["alicloud_event_bridge_rule"] {
		if !leads(queueOf(text(r, "targets", "endpoint"))) {
			continue
		}
		s := source{name: "rule " + text(r, "rule_name"), kind: "bus", from: "bus/" + text(r, "event_bus_name"), batch: 1, throughEventBridge: true, tolerates: true,
			enabled: text(r, "status") == "ENABLE", retries: text(r, "targets", "push_retry_strategy") == "EXPONENTIAL_DECAY_RETRY",
			deadLetter: queueOf(text(r, "targets", "dead_letter_queue", "arn"))}
		var pattern struct{ Type []string }
		if err := json.Unmarshal([]byte(text(r, "filter_pattern")), &pattern); err != nil || pattern.Type == nil {
			m.wrong(s.name, "filter_pattern names no types: %v", err)
		}
		s.eventTypes = pattern.Type
		more = append(more, s)
	}
	for _, sub := range m.resources["alicloud_message_service_subscription"] {
		if leads("mns:queue/" + text(sub, "endpoint")) {
			more = append(more, source{name: "subscription " + text(sub, "subscription_name"), kind: "mns-topic", from: "mns:topic/" + text(sub, "topic_name"), enabled: true, batch: 1,
				tolerates: true, retries: text(sub, "notify_strategy") == "EXPONENTIAL_DECAY_RETRY", deadLetter: text(sub, "dlq_policy", "dead_letter_target_queue")})
		}
	}
	return more
}

// comesBack reports rules that lead results to where requests come from.
func (m *terraform) comesBack(place string, triggers []source) {
	for _, r := range m.resources["alicloud_event_bridge_rule"] {
		queue := queueOf(text(r, "targets", "endpoint"))
		if place == "bus/"+text(r, "event_bus_name") && slices.ContainsFunc(triggers, func(s source) bool { return s.from == queue }) {
			m.wrong("rule "+text(r, "rule_name"), "leads results back to %s", queue)
		}
	}
}

// grants are what the policies of a role allow, on resources without region and
// account. One on everything is an error.
func (m *terraform) grants(role string) []grant {
	all := []grant{}
	for _, a := range m.resources["alicloud_ram_role_policy_attachment"] {
		for _, r := range m.resources["alicloud_ram_role"] {
			if role != "${"+text(r, "address")+".arn}" || r["role_name"] != a["role_name"] {
				continue
			}
			for _, p := range m.resources["alicloud_ram_policy"] {
				if p["policy_name"] == a["policy_name"] {
					all = append(all, m.granted(p)...)
				}
			}
		}
	}
	return all
}

func (m *terraform) granted(policy map[string]any) (all []grant) {
	document := m.parsed(text(policy, "address"), "policy", text(policy, "policy_document"))
	statements, _ := document["Statement"].([]any)
	for _, s := range statements {
		actions, _ := at(s, "Action").([]any)
		on, _ := at(s, "Resource").([]any)
		if len(actions) == 0 || len(on) == 0 {
			m.wrong(text(policy, "address"), "a statement grants %v on %v", actions, on)
		}
		for _, action := range actions {
			for _, resource := range on {
				parts := strings.SplitN(fmt.Sprint(resource), ":", 5)
				if len(parts) < 5 || parts[4] == "*" || parts[4] == "" {
					m.wrong(text(policy, "address"), "%v is granted on %v", action, resource)
					continue
				}
				all = append(all, grant{fmt.Sprint(action), parts[4]})
			}
		}
	}
	return all
}
