package functions_test

import (
	"maps"
	"strings"
	"testing"
)

// TestLies changes one thing at a time, as a hand that slips would, and wants
// the rule that exists for it to say so.
func TestLies(t *testing.T) {
	t.Parallel()
	const deploy, policy, planPolicy = "fc/s.yaml", "ram/function.json", "ram/plan.json"
	for name, lie := range map[string]struct{ file, truth, lie, rule string }{
		"a misspelt setting":                {deploy, "REPUSH_QPS:", "REPUSH_QSP:", "settings set = settings read"},
		"a missing setting":                 {deploy, "        REPUSH_MAX_AGE: 72h\n", "", "settings set = settings read"},
		"a setting the start refuses":       {deploy, "REPUSH_ON_UNKNOWN: hold", "REPUSH_ON_UNKNOWN: skip", "settings are accepted"},
		"a time-out shorter than a push":    {deploy, "timeout: 60", "timeout: 15", "time-out holds a push and frees it within a minute"},
		"a time-out that blocks":            {deploy, "timeout: 60", "timeout: 300", "time-out holds a push and frees it within a minute"},
		"a time-out EventBridge cuts":       {deploy, "timeout: 60", "timeout: 600", "time-out of EventBridge triggers"},
		"a push longer than the time-out":   {deploy, "REPUSH_PUSH_TIMEOUT: 15s", "REPUSH_PUSH_TIMEOUT: 58s", "time-out holds a push and frees it within a minute"},
		"batches with memory":               {deploy, "CountBasedWindow: 1", "CountBasedWindow: 10", "memory state is one instance and single events"},
		"two instances with memory":         {deploy, "reservedConcurrency: 1", "reservedConcurrency: 2", "memory state is one instance and single events"},
		"a sweep without parked work":       {deploy, "enable: false", "enable: true", "what waits has a sweep"},
		"a sweep that nobody understands":   {deploy, `"id":"every-minute",`, "", "timers ask for a sweep"},
		"a timer that pushes":               {deploy, `"type":"repush:Sweep:Requested"}`, `"type":"repush:Message:Requested","data":{"instanceId":"MQ_INST_111122223333_EXAMPLEx","topic":"orders","groupId":"GID_orders","msgId":"C0000207109218B4AAC24C2F8E4D0001","reason":"every minute"}}`, "timers ask for a sweep"},
		"parked work that nobody takes up":  {deploy, "enable: true\n\n  # s plan", "enable: false\n\n  # s plan", "what waits has a sweep"},
		"a state nobody exported":           {deploy, "env('REPUSH_STATE', 'unset')", "env('STATE', 'unset')", "settings are accepted"},
		"a state in memory by default":      {deploy, "env('REPUSH_STATE', 'unset')", "env('STATE', 'memory')", "memory state is one instance and single events"},
		"a file that goes with its disk":    {deploy, "REPUSH_STATE: memory", "REPUSH_STATE: file:/tmp/ledger", "no state in a file"},
		"a password on the internet":        {deploy, "      vpcConfig: &redis-network # where Redis is; the way to the internet stays\n        vpcId: \"${env('REDIS_VPC', 'unset')}\"\n        vSwitchIds: [\"${env('REDIS_VSWITCH', 'unset')}\"]\n        securityGroupId: \"${env('REDIS_SECURITY_GROUP', 'unset')}\"\n", "      vpcConfig: &redis-network\n", "Redis is reached by TLS or in a private network"},
		"one instance with Redis":           {deploy, "reservedConcurrency: 4", "reservedConcurrency: 1", "shared state is several instances, but few"},
		"a batch without end":               {deploy, "CountBasedWindow: 32", "CountBasedWindow: 500", "a batch fits the time-out"},
		"a batch no dead letter holds":      {deploy, "CountBasedWindow: 32", "CountBasedWindow: 100", "a failed batch fits a dead letter"},
		"a shared function of its own":      {deploy, "      <<: *function\n      vpcConfig", "      <<: *function\n      timeout: 50\n      vpcConfig", arguments},
		"a typo in the network":             {deploy, "vSwitchIds:", "vswitchIds:", arguments},
		"no dead-letter queue":              {deploy, "              deadLetterQueue:\n                Arn: acs:mns:${vars.region}:${vars.account}:/queues/repush-dead-letters\n              # A batch", "              # A batch", "nobody is lost"},
		"a poison event that blocks":        {deploy, "errorsTolerance: ALL\n              retryStrategy:\n                # 176", "errorsTolerance: NONE\n              retryStrategy:\n                # 176", "nobody is lost"},
		"no asynchronous retries":           {deploy, "maxAsyncRetryAttempts: 8", "maxAsyncRetryAttempts: 0", "nobody is lost"},
		"dead letters back where they came": {deploy, "/queues/repush-buried", "/queues/repush-dead-letters", "dead letters do not come straight back"},
		"results to the request queue":      {deploy, "eventbridge://repush-results", "mns://repush-requests", "nothing comes back"},
		"results to the request bus":        {deploy, "eventbridge://repush-results", "eventbridge://repush-requests", "nothing comes back"},
		"results to the queue by host":      {deploy, "eventbridge://repush-results", "mns://1.mns.cn-hangzhou.aliyuncs.com/queues/repush-dead-letters", "nothing comes back"},
		"results nowhere":                   {deploy, "eventbridge://repush-results", "stdout", "results go somewhere"},
		"a bus without permission":          {deploy, "eventbridge://repush-results", "eventbridge://outcomes", "what is sent may be written"},
		"a foreign event type":              {deploy, `{"type":["repush:Message:Requested"]}`, `{"type":["repush:Message:Completed"]}`, "event types are ours"},
		"a filter that is no JSON":          {deploy, `{"type":["repush:Message:Requested"]}`, `{"type":}`, "event types are ours"},
		"a timer without event":             {deploy, "repush:Sweep:Requested", "repush:Sweep", "event types are ours"},
		"anonymous HTTP":                    {deploy, "authType: jwt", "authType: anonymous", "no anonymous way in"},
		"signed HTTP":                       {deploy, "authType: jwt", "authType: function", "callers can show the token"},
		"a JWT instead of the token":        {deploy, "parameterName: X-Repush-Jwt", "parameterName: Authorization", "callers can show the token"},
		"retries that see nothing":          {deploy, "asyncInvocationType: false", "asyncInvocationType: true", "one layer retries"},
		"given up later than the trigger":   {deploy, "REPUSH_GIVE_UP_AFTER: 23h", "REPUSH_GIVE_UP_AFTER: 24h", "abandoned before it is a dead letter"},
		"a typo in a trigger parameter":     {deploy, "GroupID:", "GroupId:", arguments},
		"a typo in the run options":         {deploy, "errorsTolerance: ALL", "errorTolerance: ALL", arguments},
		"a typo in the retry policy":        {deploy, "PushRetryStrategy: EXP", "pushRetryStrategy: EXP", arguments},
		"a policy that does not exist":      {deploy, "EXPONENTIAL_DECAY_RETRY", "EXPONENTIAL_RETRY", arguments},
		"a typo in the function":            {deploy, "memorySize:", "memory:", arguments},
		"a typo in a hook":                  {deploy, "preStop:", "preFreeze:", arguments},
		"a key twice":                       {deploy, "diskSize: 512", "diskSize: 512\n      timeout: 60", arguments},
		"a variable nobody sets":            {deploy, "${vars.group}", "${vars.groupId}", arguments},
		"a sixth name":                      {deploy, "vars:\n", "vars:\n  bus: results\n", arguments},
		"batches in event-driven mode":      {deploy, "mode: event-driven\n              errors", "mode: event-driven\n              batchWindow: {CountBasedWindow: 1, TimeBasedWindow: 0}\n              errors", arguments},
		"CPU that no instance has":          {deploy, "cpu: 0.2", "cpu: 0.5", arguments},
		"more pushes than events":           {deploy, "instanceConcurrency: 150", "instanceConcurrency: 10", arguments},
		"a missing permission":              {policy, "mq:QueryConsumerConnection", "mq:QueryConsumerStatus", "permissions granted = operations called"},
		"a permission too many":             {policy, `["mq:SUB"]`, `["mq:SUB", "mq:ResendDLQMessage"]`, "permissions granted = operations called"},
		"no permission to look up":          {policy, `"mq:OnsInstanceBaseInfo", `, "", "permissions granted = operations called"},
		"no permission for the results":     {policy, "eventbridge:PutEvents", "mns:PublishMessage", "what is sent may be written"},
		"no permission for dead letters":    {policy, "/queues/repush-dead-letters", "/queues/dead-letters", "what is sent may be written"},
		"a misspelt action":                 {policy, "log:PostLogStoreLogs", "log:PostLogstoreLogs", arguments},
		"a name nobody fills in":            {policy, "${TOPIC}", "${TOPICS}", arguments},
		"a plan setting missing":            {deploy, "        REPUSH_PLAN_LIMIT: '1000'\n", "", "settings set = settings read"},
		"a plan setting for repush":         {deploy, "        REPUSH_LOG_LEVEL: info\n", "        REPUSH_LOG_LEVEL: info\n        REPUSH_PLAN_LAG: push\n", "settings set = settings read"},
		"a plan setting out of range":       {deploy, "REPUSH_PLAN_COOLDOWN: 30m", "REPUSH_PLAN_COOLDOWN: 30s", "settings are accepted"},
		"a plan of another allow-list":      {deploy, "        REPUSH_PLAN_LAG: manifest", "        REPUSH_ALLOW: '*/*/*'\n        REPUSH_PLAN_LAG: manifest", both},
		"a plan that forgets what pushed":   {deploy, "REPUSH_STATE: *redis", "REPUSH_STATE: rediss://other.example", both},
		"requests that nobody reads":        {deploy, "mns://queues/repush-requests", "mns://queues/repush-buried", both},
		"requests to the log":               {deploy, "mns://queues/repush-requests", "stdout", both},
		"requests back to the plan":         {deploy, "mns://queues/repush-requests", "mns://queues/repush-alerts", "nothing comes back"},
		"requests without permission":       {planPolicy, "/queues/repush-requests", "/queues/requests", "what is sent may be written"},
		"alerts for repush":                 {deploy, "QueueName: repush-alerts", "QueueName: repush-requests", both},
		"alerts redriven to repush":         {deploy, "/queues/repush-buried", "/queues/repush-dead-letters", both},
		"a plan that pushes":                {planPolicy, "mq:QueryMessageTrace", "mq:SUB", "permissions granted = operations called"},
		"a push that reads":                 {policy, "mq:QueryConsumerConnection", "mq:QueryConsumerConnection\", \"mq:QueryDLQMessage", "permissions granted = operations called"},
		"a role for both":                   {deploy, "role/repush-plan", "role/repush-function", both},
		"a plan without a sweep":            {deploy, "            enable: true\n\n  # s shared-plan", "            enable: false\n\n  # s shared-plan", "what waits has a sweep"},
		"batches of alerts":                 {deploy, "              <<: *one-at-a-time\n              deadLetterQueue:", "              <<: *one-at-a-time\n              batchWindow: {CountBasedWindow: 2, TimeBasedWindow: 1}\n              deadLetterQueue:", "memory state is one instance and single events"},
		"a webhook without a lock":          {deploy, "        REPUSH_WEBHOOK_TOKEN: \"${env('REPUSH_WEBHOOK_TOKEN', '')}\"\n", "        REPUSH_WEBHOOK_TOKEN: ''\n", "no anonymous way in"},
		"a webhook that pushes":             {deploy, "      <<: *plan\n      triggers:", "      <<: *function\n      triggers:", "no anonymous way in"},
		"a plan of two minds":               {deploy, "      <<: *plan\n      vpcConfig", "      <<: *plan\n      timeout: 50\n      vpcConfig", arguments},
		"CPU that a plan has not":           {deploy, "cpu: 0.1", "cpu: 0.2 # of 128 MB", arguments},
		"a denial":                          {policy, `"Effect": "Allow"`, `"Effect": "Deny"`, arguments},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := make(map[string]string)
			for _, file := range []string{deploy, policy, planPolicy} {
				text[file] = contents(t, "../infra/"+file)
			}
			changed := strings.ReplaceAll(text[lie.file], lie.truth, lie.lie)
			if changed == text[lie.file] {
				t.Fatalf("infra/%s has no %q", lie.file, lie.truth)
			}
			text[lie.file] = changed
			found := make(map[string][]string)
			for repush, plan := range map[string]string{"repush": "plan", "shared": "shared-plan"} {
				pushes, wrong := loadServerlessDevs(text[deploy], text[policy], repush)
				plans, more := loadServerlessDevs(text[deploy], text[planPolicy], plan)
				maps.Copy(found, allProblems(pushes, plans))
				if wrong = append(wrong, more...); wrong != nil {
					found[arguments] = wrong
				}
			}
			if found[lie.rule] == nil {
				t.Errorf("%q says nothing; these do: %v", lie.rule, found)
			}
		})
	}
}
