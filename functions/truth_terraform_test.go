package functions_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/ons-repush/ons-repush/functions/internal/config"
)

// terraformFiles are the module and its examples, by path below infra/terraform.
func terraformFiles(t *testing.T) map[string]string {
	t.Helper()
	files := make(map[string]string)
	for _, pattern := range []string{"*.tf", "examples/*/*.tf"} {
		names, err := filepath.Glob(filepath.Join("../infra/terraform", pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(names), err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			short, _ := filepath.Rel("../infra/terraform", name)
			files[filepath.ToSlash(short)] = string(text)
		}
	}
	return files
}

// scenarios are what the module is evaluated with, beside what the example
// gives: nothing, everything in memory, and shared state made here and elsewhere.
var scenarios = map[string]string{
	"as in the example": `{}`,
	"in memory": `{"http_jwks": "{\"keys\":[{\"kty\":\"RSA\"}]}", "http_token": "${var.http_token}", "webhook_token": "${var.webhook_token}", "redrive": true, "rocketmq_passwords": {"five": "${password}"},
		"rocketmq": {"four": {"instance": "MQ_INST_1_B", "topic": "repush", "group": "GID_repush"},
			"five": {"instance": "rmq-cn-1", "topic": "repush", "group": "GID_repush", "instance_type": "Cloud_5", "endpoint": "rmq-cn-1-vpc.example:8080", "username": "repush"}}}`,
	"shared": `{"state": "tair", "tair": {"zone_id": "cn-hangzhou-h"}, "tair_password": "Secret+0",
		"vpc": {"vpc_id": "vpc-1", "vswitch_id": "vsw-1", "security_group_id": "sg-1"}}`,
	"shared by TLS": `{"state": "redis", "redis_url": "rediss://repush:secret@redis.example:6380/1"}`,
}

// terraformTruth loads the example in a scenario.
func terraformTruth(t *testing.T, list map[string]map[string]any, files map[string]string, scenario string) (repush, plan deployment, report []string) {
	t.Helper()
	kind, err := ctyjson.ImpliedType([]byte(scenarios[scenario]))
	if err != nil {
		t.Fatal(err)
	}
	inputs, err := ctyjson.Unmarshal([]byte(scenarios[scenario]), kind)
	if err != nil {
		t.Fatal(err)
	}
	root := terraform{allowed: list, files: files, inputs: inputs.AsValueMap(), report: &report}
	root.load("examples/first", nil)
	if root.child == nil {
		t.Fatalf("the example uses no module: %q", report)
	}
	repush, plan = root.child.deployment(config.Repush), root.child.deployment(config.Plan)
	root.child.alarmed(plan)
	return repush, plan, report
}

func TestTerraform(t *testing.T) {
	t.Parallel()
	list, files := allowed(t), terraformFiles(t)
	for scenario := range scenarios {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			repush, plan, wrong := terraformTruth(t, list, files, scenario)
			for _, w := range wrong {
				t.Errorf("%s: %s", arguments, w)
			}
			checkBoth(t, repush, plan)
		})
	}
}

// TestTerraformFormat: the files are as "terraform fmt" writes them.
func TestTerraformFormat(t *testing.T) {
	t.Parallel()
	for name, text := range terraformFiles(t) {
		if want := string(hclwrite.Format([]byte(text))); text != want {
			t.Errorf("%s: run terraform fmt:\n%s", name, cmp.Diff(text, want))
		}
	}
}

// TestTerraformExample: a newcomer fills in five values at most.
func TestTerraformExample(t *testing.T) {
	t.Parallel()
	files := terraformFiles(t)
	file, diags := hclsyntax.ParseConfig([]byte(files["examples/first/main.tf"]), "main.tf", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	values := 0
	for _, b := range file.Body.(*hclsyntax.Body).Blocks {
		if b.Type == "locals" {
			values += len(b.Body.Attributes)
		}
	}
	if values == 0 || values > 5 {
		t.Errorf("%d values to fill in, want 1 to 5", values)
	}
}

// TestTerraformLies changes one thing at a time, as a hand that slips would, and
// wants the rule that exists for it, or the words of the strict reader, to say
// so.
func TestTerraformLies(t *testing.T) {
	t.Parallel()
	list, files := allowed(t), terraformFiles(t)
	for name, lie := range map[string]struct{ scenario, file, truth, lie, caught string }{
		"a misspelt setting":               {"in memory", "function.tf", "REPUSH_QPS ", "REPUSH_QSP ", "settings set = settings read"},
		"a missing setting":                {"in memory", "function.tf", "    REPUSH_MAX_AGE       = var.max_age\n", "", "settings set = settings read"},
		"a setting the start refuses":      {"in memory", "function.tf", `"${var.push_timeout}s"`, `"${var.push_timeout}"`, "settings are accepted"},
		"a time-out shorter than a push":   {"in memory", "function.tf", "= var.timeout\n", "= 15\n", "time-out holds a push and frees it within a minute"},
		"a time-out that blocks":           {"in memory", "function.tf", "= var.timeout\n", "= 120\n", "time-out holds a push and frees it within a minute"},
		"a time-out EventBridge cuts":      {"in memory", "function.tf", "= var.timeout\n", "= 600\n", "time-out of EventBridge triggers"},
		"a short visibility":               {"in memory", "queues.tf", "6 * var.timeout", "3 * var.timeout", "visibility is six time-outs"},
		"two instances with memory":        {"in memory", "function.tf", "var.max_instances : 1", "var.max_instances : 2", "memory state is one instance and single events"},
		"no limit of instances":            {"in memory", "function.tf", "  reserved_concurrency = each.value.instances\n", "", "memory state is one instance and single events"},
		"batches with memory":              {"in memory", "triggers.tf", "CountBasedWindow = 1,", "CountBasedWindow = 10,", "memory state is one instance and single events"},
		"no sweep with shared state":       {"shared", "triggers.tf", `local.shared ? ["repush", "plan"] : ["plan"]`, `["plan"]`, "what waits has a sweep"},
		"a sweep that is off":              {"shared", "triggers.tf", "    enable         = true", "    enable         = false", "what waits has a sweep"},
		"a sweep that nobody understands":  {"shared", "triggers.tf", `id = "every-minute", `, "", "timers ask for a sweep"},
		"a timer that pushes":              {"shared", "triggers.tf", `"repush:Sweep:Requested"`, `"repush:Message:Requested"`, "timers ask for a sweep"},
		"one instance with Redis":          {"shared", "function.tf", "local.shared ? var.max_instances : 1", "1", "shared state is several instances, but few"},
		"a batch without end":              {"shared", "triggers.tf", "CountBasedWindow = 32", "CountBasedWindow = 500", "a batch fits the time-out"},
		"a batch no dead letter holds":     {"shared", "triggers.tf", "CountBasedWindow = 32", "CountBasedWindow = 100", "a failed batch fits a dead letter"},
		"Tair outside the network":         {"shared", "function.tf", "var.vpc == null ? [] : [var.vpc]", "[]", "Redis is reached by TLS or in a private network"},
		"a password on the internet":       {"as in the example", "examples/first/main.tf", "[local.contact_group]", "[local.contact_group]\n  state = \"redis\"\n  redis_url = \"redis://redis.example:6379\"", "redis:// sends its password in the clear"},
		"options in the URL":               {"as in the example", "examples/first/main.tf", "[local.contact_group]", "[local.contact_group]\n  state = \"redis\"\n  redis_url = \"rediss://redis.example?db=1\"", "redis_url is redis:// or rediss://"},
		"Redis without an address":         {"as in the example", "examples/first/main.tf", "[local.contact_group]", "[local.contact_group]\n  state = \"redis\"", "state redis needs redis_url"},
		"a file in the function":           {"as in the example", "examples/first/main.tf", "[local.contact_group]", "[local.contact_group]\n  state = \"file:/tmp/ledger\"", "state is memory, redis or tair"},
		"Tair that evicts":                 {"shared", "redis.tf", `"noeviction"`, `"allkeys-lru"`, "a state that forgets"},
		"Tair that writes nothing":         {"shared", "redis.tf", `"appendonly"       = "yes"`, `"appendonly"       = "no"`, "a state that forgets"},
		"a misspelt event type":            {"shared", "triggers.tf", "repush:Sweep:Requested", "repush:Sweep:Request", "event types are ours"},
		"a poison event that blocks":       {"in memory", "triggers.tf", `errorsTolerance = "ALL"`, `errorsTolerance = "NONE"`, "nobody is lost"},
		"three retries in a minute":        {"in memory", "triggers.tf", "EXPONENTIAL_DECAY_RETRY", "BACKOFF_RETRY", "nobody is lost"},
		"no dead-letter queue":             {"in memory", "triggers.tf", `merge(local.run_options, { deadLetterQueue = { Arn = local.queue_arn["dead-letters"] } })`, "local.run_options", "nobody is lost"},
		"a rule without dead letters":      {"in memory", "events.tf", "    dead_letter_queue {\n      arn = local.queue_arn[\"dead-letters\"]\n    }\n", "", "nobody is lost"},
		"a loop of dead letters":           {"in memory", "triggers.tf", `dead_letters = "buried"`, `dead_letters = "dead-letters"`, "dead letters do not come straight back"},
		"results to the bus of requests":   {"in memory", "function.tf", "event_bus.results.event_bus_name}\"\n", "event_bus.requests.event_bus_name}\"\n", "nothing comes back"},
		"results back by a rule":           {"in memory", "events.tf", `queues/${alicloud_message_service_queue.queue[each.key].queue_name}`, `queues/${alicloud_message_service_queue.queue["requests"].queue_name}`, "leads results back"},
		"results nowhere but to the log":   {"in memory", "function.tf", `"eventbridge://${alicloud_event_bridge_event_bus.results.event_bus_name}"`, `"stdout"`, "results go somewhere"},
		"results without the right":        {"in memory", "ram.tf", "eventbus/${alicloud_event_bridge_event_bus.results", "eventbus/${alicloud_event_bridge_event_bus.requests", "what is sent may be written"},
		"a filter that lets results in":    {"in memory", "events.tf", `{ type = ["repush:Message:Requested"] }`, `{ type = ["repush:Message:Requested", "repush:Message:Completed"] }`, "event types are ours"},
		"an open HTTP trigger":             {"in memory", "triggers.tf", `"jwt"`, `"anonymous"`, "no anonymous way in"},
		"a JWT where the token stands":     {"in memory", "triggers.tf", "header:X-Repush-Jwt", "header:Authorization", "callers can show the token"},
		"a missing permission":             {"in memory", "ram.tf", `"mq:OnsInstanceBaseInfo", `, "", "permissions granted = operations called"},
		"a permission too many":            {"in memory", "ram.tf", `["mq:SUB"]`, `["mq:SUB", "mq:PUB"]`, "permissions granted = operations called"},
		"a policy nobody has":              {"in memory", "ram.tf", "= alicloud_ram_policy.function[each.key].policy_name", "= \"other\"", "permissions granted = operations called"},
		"a grant on everything":            {"in memory", "ram.tf", "Resource = local.topics", `Resource = ["acs:mq:*:*:*"]`, "is granted on acs:mq:*:*:*"},
		"asynchronous beside EventBridge":  {"in memory", "triggers.tf", "asyncInvocationType    = false\n", "asyncInvocationType    = true\n", "one layer retries"},
		"given up after the dead letter":   {"in memory", "variables.tf", `"23h"`, `"48h"`, "abandoned before it is a dead letter"},
		"a typo in a trigger parameter":    {"in memory", "triggers.tf", "GroupID  ", "GroupId  ", "sourceRocketMQParameters.GroupId: is no argument of it"},
		"a trigger parameter missing":      {"in memory", "triggers.tf", "          QueueName      = alicloud_message_service_queue.queue[each.key].queue_name\n", "", "sourceMNSParameters.QueueName: is required and missing"},
		"a camel-case retry":               {"in memory", "triggers.tf", "PushRetryStrategy =", "pushRetryStrategy =", "pushRetryStrategy: is no argument of it"},
		"a misspelt argument":              {"in memory", "queues.tf", "visibility_timeout ", "visibility_timeuot ", "visibility_timeuot: is no argument of it"},
		"a misspelt block":                 {"in memory", "queues.tf", "    max_receive_count ", "    max_recieve_count ", "max_recieve_count: is no argument of it"},
		"a block as an argument":           {"in memory", "function.tf", "  code {", "  code = {", "is a block, not an argument"},
		"a required argument missing":      {"in memory", "function.tf", `  runtime              = "custom.debian12"` + "\n", "", "runtime: is required and missing"},
		"a runtime of another provider":    {"in memory", "function.tf", `"custom.debian12"`, `"provided.al2023"`, "want one of custom|"},
		"an alarm that repeats at once":    {"in memory", "alarms.tf", "silence = 300", "silence = 60", "silence_time: 60: want 300..86400"},
		"a retention the queue has not":    {"in memory", "queues.tf", "= 604800 ", "= 604801 ", "want 60..604800"},
		"a type of resource that is not":   {"in memory", "events.tf", `resource "alicloud_event_bridge_rule" "attention"`, `resource "alicloud_eventbridge_rule" "attention"`, "is not in the allow-list"},
		"a reference to nothing":           {"in memory", "alarms.tf", "threshold           = tostring(var.lag_threshold)", "threshold           = tostring(var.lag_treshold)", "var.lag_treshold is declared nowhere"},
		"an attribute of nothing":          {"in memory", "function.tf", "alicloud_ram_role.function[each.key].arn", "alicloud_ram_role.function[each.key].role_arn", "role_arn"},
		"a variable nobody uses":           {"in memory", "variables.tf", `variable "max_pushes" {`, "variable \"spare\" {\n  description = \"\"\n  type = bool\n  default = true\n}\n\nvariable \"max_pushes\" {", "var.spare: is declared and never used"},
		"a variable without a description": {"in memory", "variables.tf", "  description = \"REPUSH_MAX_PUSHES: pushes for each message over its lifetime, accepted and unknown ones.\"\n", "", "description: is required and missing"},
		"a default its own rule refuses":   {"in memory", "variables.tf", `  default     = "hold"`, `  default     = "skip"`, "on_unknown is hold or push"},
		"a value the example misspells":    {"in memory", "examples/first/main.tf", "  contact_groups =", "  contact_group =", "contact_group: is given and no variable"},
		"a plan setting missing":           {"in memory", "function.tf", "        REPUSH_PLAN_LIMIT    = tostring(var.plan_limit)\n", "", "settings set = settings read"},
		"a plan setting for repush":        {"in memory", "function.tf", "    REPUSH_LOG_LEVEL     = var.log_level\n", "    REPUSH_LOG_LEVEL     = var.log_level\n    REPUSH_PLAN_LAG      = var.plan_lag\n", "settings set = settings read"},
		"a cooldown out of range":          {"in memory", "variables.tf", `"30m"`, `"25h"`, "settings are accepted"},
		"a plan of another allow-list":     {"in memory", "function.tf", "      settings = merge(local.settings, {\n", "      settings = merge(local.settings, {\n        REPUSH_ALLOW = \"*/*/*\"\n", both},
		"requests that nobody reads":       {"in memory", "function.tf", "queue_name.requests", "queue_name.buried", both},
		"requests without the right":       {"in memory", "ram.tf", "mns:BatchSendMessage", "mns:ReceiveMessage", "what is sent may be written"},
		"alerts for repush":                {"in memory", "triggers.tf", `by = "plan"`, `by = "repush"`, "functions/plan does not read"},
		"a plan that pushes":               {"in memory", "ram.tf", `["mq:QueryMessage", "mq:QueryMessageTrace"]`, `["mq:QueryMessage", "mq:QueryMessageTrace", "mq:SUB"]`, "permissions granted = operations called"},
		"a push that reads":                {"in memory", "ram.tf", `["mq:SUB"]`, `["mq:SUB", "mq:QueryDLQMessage"]`, "permissions granted = operations called"},
		"a role for both":                  {"in memory", "function.tf", "alicloud_ram_role.function[each.key].arn", `alicloud_ram_role.function["plan"].arn`, both},
		"a plan without a sweep":           {"in memory", "triggers.tf", `: ["plan"])`, `: [])`, "what waits has a sweep"},
		"batches of alerts":                {"shared", "triggers.tf", `by = "plan", enabled = true, batch = local.single`, `by = "plan", enabled = true, batch = { CountBasedWindow = 1000, TimeBasedWindow = 1 }`, "a failed batch fits a dead letter"},
		"a webhook without a lock":         {"in memory", "function.tf", `local.webhook ? var.webhook_token : ""`, `""`, "no anonymous way in"},
		"a webhook that pushes":            {"in memory", "triggers.tf", `function["plan"]`, `function["repush"]`, "no anonymous way in"},
		"alarms to another queue":          {"in memory", "alarms.tf", "queue_arn.alerts", "queue_arn.buried", "functions/plan does not read"},
		"no alarm of dead letters":         {"in memory", "alarms.tf", `"SendDLQMessageCountPerGid"`, `"SendMessageCountPerGid"`, "no alarm tells functions/plan"},
		"a statistic the metric has not":   {"in memory", "alarms.tf", `"Sum"`, `"Maximum"`, "has the statistic Sum"},
		"an output that is not there":      {"in memory", "examples/first/main.tf", "module.repush.queues", "module.repush.queue", "queue"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if n := strings.Count(files[lie.file], lie.truth); n == 0 {
				t.Fatalf("%s does not say %q", lie.file, lie.truth)
			}
			changed := maps.Clone(files)
			changed[lie.file] = strings.ReplaceAll(files[lie.file], lie.truth, lie.lie)
			repush, plan, wrong := terraformTruth(t, list, changed, lie.scenario)
			broken := slices.Sorted(maps.Keys(allProblems(repush, plan)))
			if !slices.Contains(broken, lie.caught) && !slices.ContainsFunc(wrong, func(w string) bool { return strings.Contains(w, lie.caught) }) {
				t.Errorf("not caught by %q, but by %q and %q", lie.caught, broken, wrong)
			}
		})
	}
}
