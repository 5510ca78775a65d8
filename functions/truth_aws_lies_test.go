package functions_test

import (
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// awsLie replaces what is there first; caught names who notices.
type awsLie struct{ old, new, caught string }

// TestAWSLies changes one thing at a time; the rule that is named must notice,
// or the strict reader ("template") with the words after the colon.
func TestAWSLies(t *testing.T) {
	t.Parallel()
	schema, text, values := awsSchema(t), awsText(t, awsTemplate), awsValues(t)
	for name, lie := range map[string]awsLie{
		"failures are not reported":           {"            FunctionResponseTypes: [ReportBatchItemFailures]\n", "", "memory state is one instance and single events"},
		"failures are reported misspelt":      {"[ReportBatchItemFailures]", "[ReportBatchItemFailure]", "template: FunctionResponseTypes"},
		"a sweep in memory":                   {"          Arn: !GetAtt Plan.Arn\n", "          Arn: !GetAtt Repush.Arn\n", `what waits has a sweep: state "memory", sweep timer enabled: true`},
		"a file that goes with the instance":  {"Default: memory", "Default: file:/tmp/ledger", "template: parameter State"},
		"a second instance":                   {"!If [Shared, 5, 1]", "!If [Shared, 5, 2]", "memory state is one instance and single events"},
		"as many instances as it takes":       {"      ReservedConcurrentExecutions: !If [Shared, 5, 1]\n", "", "template: ReservedConcurrentExecutions"},
		"messages come back too early":        {"VisibilityTimeout: 360", "VisibilityTimeout: 300", "visibility is six time-outs"},
		"a crash blocks for minutes":          {"    Timeout: 60\n", "    Timeout: 120\n", "time-out holds a push and frees it within a minute"},
		"no time for a push":                  {"    Timeout: 60\n", "    Timeout: 15\n", "time-out holds a push and frees it within a minute"},
		"a batch that never ends":             {"BatchSize: 100", "BatchSize: 1000", "a batch fits the time-out"},
		"a batch without a window":            {"            MaximumBatchingWindowInSeconds: 1\n", "", "template: MaximumBatchingWindowInSeconds"},
		"no dead letters for the queue":       {"      RedrivePolicy:\n        deadLetterTargetArn: !GetAtt DeadLetters.Arn\n", "      RedrivePolicyy:\n        deadLetterTargetArn: !GetAtt DeadLetters.Arn\n", "template: RedrivePolicyy"},
		"no dead letters for the rule":        {"          DeadLetterConfig: {Arn: !GetAtt DeadLetters.Arn}\n", "", "nobody is lost"},
		"no dead letters for the topic":       {"      RedrivePolicy: {deadLetterTargetArn: !GetAtt DeadLetters.Arn}", "     ", "nobody is lost"},
		"no on-failure destination":           {"          OnFailure:\n", "          OnSuccess:\n", "nobody is lost"},
		"dead letters are requests again":     {"        deadLetterTargetArn: !GetAtt DeadLetters.Arn\n", "        deadLetterTargetArn: !GetAtt Requests.Arn\n", "dead letters are kept"},
		"dead letters expire first":           {"MessageRetentionPeriod: 1209600", "MessageRetentionPeriod: 345600", "dead letters are kept"},
		"the rule does not retry":             {"MaximumRetryAttempts: 185", "MaximumRetryAttempts: 0", "nobody is lost"},
		"given up as a dead letter":           {"maxReceiveCount: 30", "maxReceiveCount: 10", "abandoned before it is a dead letter"},
		"a setting nobody reads":              {"REPUSH_MAX_AGE", "REPUSH_MAXIMUM_AGE", "settings set = settings read"},
		"a setting forgotten":                 {"        REPUSH_ON_UNKNOWN: hold\n", "", "settings set = settings read"},
		"a setting out of range":              {`REPUSH_QPS: "10"`, `REPUSH_QPS: "0"`, "settings are accepted"},
		"a typo in a property":                {"MaximumConcurrency: 2", "MaxConcurrency: 2", "template: MaxConcurrency"},
		"a typo in a rule's target":           {"MaximumEventAgeInSeconds: 86400", "MaximumEventAge: 86400", "template: MaximumEventAge"},
		"a retention nobody offers":           {"RetentionInDays: 30", "RetentionInDays: 31", "template: RetentionInDays"},
		"a reference to nothing":              {"Queue: !GetAtt Requests.Arn", "Queue: !GetAtt Request.Arn", "template: Request.Arn"},
		"a parameter nobody uses":             {"REPUSH_ALLOW: !Ref Allow", "REPUSH_ALLOW: i/g/t", "template: parameter Allow is never used"},
		"a tag nobody knows":                  {"!GetAtt Role.Arn", "!GetAttr Role.Arn", "template: !GetAttr"},
		"a date as the policy's version":      {`Version: "2012-10-17"` + "\n        Statement:\n          - Effect: Allow\n            Principal: {Service: sns", "Version: 2012-10-17\n        Statement:\n          - Effect: Allow\n            Principal: {Service: sns", "template: quote it"},
		"a secret in plain sight":             {`"{{resolve:secretsmanager:${AlibabaSecret}:SecretString:accessKeySecret::${AlibabaSecretVersion}}}"`, "EXAMPLEsecret", "secrets come from Secrets Manager"},
		"a secret as a parameter":             {`!Sub "{{resolve:secretsmanager:${AlibabaSecret}:SecretString:accessKeySecret::${AlibabaSecretVersion}}}"`, "!Ref AlibabaSecret", "secrets come from Secrets Manager"},
		"a secret without its version":        {"accessKeySecret::${AlibabaSecretVersion}", "accessKeySecret", "secrets come from Secrets Manager"},
		"a secret in a variable of ours":      {"        REPUSH_LOG_LEVEL: info\n", "        REPUSH_LOG_LEVEL: info\n        ALIBABA_CLOUD_SECURITY_TOKEN: x\n", "template: ALIBABA_CLOUD_SECURITY_TOKEN"},
		"a token in plain sight":              {`REPUSH_HTTP_TOKEN: ""`, "REPUSH_HTTP_TOKEN: 0123456789abcdef", "secrets come from Secrets Manager"},
		"results only in the log":             {`!If [HasResultStream, !Sub "${ResultTarget},stdout", !Ref ResultTarget]`, "stdout", "template: parameter ResultTarget is never used"},
		"results become requests":             {"          OnFailure:\n", "          OnSuccess: {Type: SNS, Destination: !Ref RequestsTopic}\n          OnFailure:\n", "nothing comes back"},
		"alarms become requests":              {"      AlarmActions: [!Ref Alarms]\n\nOutputs", "      AlarmActions: [!Ref RequestsTopic]\n\nOutputs", "nothing comes back"},
		"the rule lets results through":       {`["repush:Message:Requested"]`, `["repush:Message:Requested", "repush:Message:Completed"]`, "event types are ours"},
		"the rule may not send":               {"events.amazonaws.com", "sns.amazonaws.com", "who sends may send"},
		"the dead letters take from nobody":   {"Queues: [!Ref Requests, !Ref DeadLetters]", "Queues: [!Ref Requests]", "who sends may send"},
		"everybody may send":                  {`            Condition: {ArnEquals: {"aws:SourceArn": !Ref RequestsTopic}}` + "\n", "", "who sends may send"},
		"a permission missing":                {"sqs:DeleteMessage, ", "", "the role does what it must and no more"},
		"a permission too many":               {"sqs:DeleteMessage, ", "sqs:DeleteMessage, sqs:PurgeQueue, ", "the role does what it must and no more"},
		"a permission on everything":          {"                Resource: !GetAtt Log.Arn", `                Resource: "*"`, "the role does what it must and no more"},
		"nobody hears of dead letters":        {"Value: !GetAtt DeadLetters.QueueName", "Value: !GetAtt Requests.QueueName", "what goes wrong is heard"},
		"an outcome that does not exist":      {`$.outcome = "abandoned"`, `$.outcome = "given up"`, "the log is searched for what is logged"},
		"the zip of the other architecture":   {"Architectures: [arm64]", "Architectures: [x86_64]", "the package is what build.sh makes"},
		"pollers that starve one another":     {"MaximumConcurrency: 2", "MaximumConcurrency: 10", "no more pollers than needed"},
		"fewer pollers than there can be":     {"MaximumConcurrency: 2", "MaximumConcurrency: 1", "template: MaximumConcurrency"},
		"a plan setting missing":              {"          REPUSH_PLAN_LIMIT: \"1000\"\n", "", "settings set = settings read"},
		"a plan setting for both":             {"        REPUSH_LOG_LEVEL: info\n", "        REPUSH_LOG_LEVEL: info\n        REPUSH_PLAN_LIMIT: \"1000\"\n", "settings set = settings read"},
		"a plan setting out of range":         {"REPUSH_PLAN_COOLDOWN: 30m", "REPUSH_PLAN_COOLDOWN: 30s", "settings are accepted"},
		"a plan of another allow-list":        {"          REPUSH_PLAN_LAG: manifest", "          REPUSH_ALLOW: \"*/*/*\"\n          REPUSH_PLAN_LAG: manifest", both},
		"requests to nobody":                  {`RouteKey: !Sub "POST /${RequestsToken}"`, `RouteKey: POST /0123456789abcdef0123456789abcdefX`, both},
		"requests to everybody":               {`RouteKey: !Sub "POST /${RequestsToken}"`, `RouteKey: POST /`, "template: RouteKey"},
		"requests back to the plan":           {"QueueUrl: !Ref Requests", "QueueUrl: !Ref Alerts", "nothing comes back"},
		"a way in that may not send":          {"            Principal: {Service: apigateway.amazonaws.com}\n            Action: sts:AssumeRole\n      Policies:\n        - PolicyName: requests\n          PolicyDocument:\n            Version: \"2012-10-17\"\n            Statement:\n              - Effect: Allow\n                Action: sqs:SendMessage\n                Resource: !GetAtt Requests.Arn", "            Principal: {Service: apigateway.amazonaws.com}\n            Action: sts:AssumeRole\n      Policies:\n        - PolicyName: requests\n          PolicyDocument:\n            Version: \"2012-10-17\"\n            Statement:\n              - Effect: Allow\n                Action: sqs:SendMessage\n                Resource: !GetAtt Alerts.Arn", "who sends may send"},
		"the key of the one that pushes":      {"SecretString:planAccessKeyId:", "SecretString:accessKeyId:", both},
		"alerts that a redrive pushes":        {"            Destination: !GetAtt AlertDeadLetters.Arn", "            Destination: !GetAtt Requests.Arn", both},
		"a plan without a sweep":              {"          Arn: !GetAtt Plan.Arn\n", "          Arn: !GetAtt Alerts.Arn\n", "what waits has a sweep"},
		"a sweep the plan does not get":       {"      FunctionName: !Ref Plan\n      Principal", "      FunctionName: !Ref Repush\n      Principal", "who sends may send"},
		"a second instance that plans":        {"!If [Shared, 3, 1]", "3", "memory state is one instance and single events"},
		"nobody hears that the plan crashed":  {"Value: !Ref Plan}]", "Value: !Ref Repush}]", "what goes wrong is heard"},
		"the package of the other":            {".build/plan-linux-arm64.zip", ".build/repush-linux-arm64.zip", "the package is what build.sh makes"},
		"an optional resource is relied upon": {"    Value: !Ref Log\n", "    Value: !Ref ResultSubscription\n", "template: ResultSubscription is neither"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			caught(t, schema, text, lie, values)
		})
	}
}

// TestAWSLiesOfRedis are those that show with shared state only.
func TestAWSLiesOfRedis(t *testing.T) {
	t.Parallel()
	schema, text := awsSchema(t), awsText(t, awsTemplate)
	clear, byTLS := withRedis(t, "redis://:secret@redis.example:6379"), withRedis(t, "rediss://:secret@redis.example:6380")
	outside := withRedis(t, "rediss://redis.example")
	outside["State"] = "redis://redis.example:6379"
	for name, lie := range map[string]struct {
		awsLie
		values map[string]string
	}{
		"a password on the internet":      {awsLie{"", "", "Redis is reached by TLS or in a private network"}, outside},
		"no sweep":                        {awsLie{"      State: ENABLED\n      Targets:\n        - Id: Plan", "      State: DISABLED\n      Targets:\n        - Id: Plan", "what waits has a sweep"}, byTLS},
		"a sweep of the queue":            {awsLie{"            Arn: !GetAtt Repush.Arn\n", "            Arn: !GetAtt Requests.Arn\n", "what waits has a sweep"}, byTLS},
		"a sweep nobody understands":      {awsLie{`"id":"every-minute",`, "", "timers ask for a sweep"}, byTLS},
		"a timer that pushes":             {awsLie{"repush:Sweep:Requested", "repush:Message:Requested", "timers ask for a sweep"}, byTLS},
		"a sweep that may not call":       {awsLie{"SourceArn: !GetAtt Sweep.Arn", "SourceArn: !GetAtt RequestsRule.Arn", "who sends may send"}, byTLS},
		"one instance":                    {awsLie{"!If [Shared, 5, 1]", "1", "shared state is several instances, but few"}, byTLS},
		"a network without interfaces":    {awsLie{"AWSLambdaENIManagementAccess", "AWSLambdaBasicExecutionRole", "the role does what it must and no more"}, clear},
		"a typo in the network":           {awsLie{"SecurityGroupIds: !Split", "SecurityGroups: !Split", "template: SecurityGroups"}, clear},
		"a sweep without its own content": {awsLie{"          Input: '", "          InputPath: '", "template: InputPath"}, byTLS},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			caught(t, schema, text, lie.awsLie, lie.values)
		})
	}
}

func caught(t *testing.T, schema *jsonschema.Schema, text string, lie awsLie, values map[string]string) {
	t.Helper()
	if !strings.Contains(text, lie.old) {
		t.Fatalf("the template does not say %q", lie.old)
	}
	found := awsProblems(schema, strings.Replace(text, lie.old, lie.new, 1), values)
	rule, words, _ := strings.Cut(lie.caught, ": ")
	if wrong := strings.Join(found[rule], "\n"); wrong == "" || !strings.Contains(wrong, words) {
		t.Errorf("not caught by %q: %v", lie.caught, found)
	}
}
