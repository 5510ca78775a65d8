package functions_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/ons-repush/ons-repush/events"
)

// awsRules are true of this format alone.
var awsRules = map[string]func(awsStack, deployment) []string{
	"secrets come from Secrets Manager": func(s awsStack, d deployment) (wrong []string) {
		dynamic := regexp.MustCompile(`^\{\{resolve:secretsmanager:[^:]+:SecretString:[A-Za-z]+::[A-Za-z0-9-]+\}\}$`)
		variables := s.function(d.function).Environment.Variables
		for _, name := range []string{"ALIBABA_CLOUD_ACCESS_KEY_ID", "ALIBABA_CLOUD_ACCESS_KEY_SECRET", "REPUSH_HTTP_TOKEN"} {
			if value := variables[name]; !dynamic.MatchString(value) && (name != "REPUSH_HTTP_TOKEN" || value != "") {
				wrong = append(wrong, name+" is no dynamic reference with a version")
			}
		}
		if variables["ALIBABA_CLOUD_ACCESS_KEY_ID"] == variables["ALIBABA_CLOUD_ACCESS_KEY_SECRET"] {
			wrong = append(wrong, "id and secret are the same key of the secret")
		}
		return wrong
	},
	"dead letters are kept": func(s awsStack, d deployment) (wrong []string) {
		queues := all[awsQueue](s, "SQS::Queue")
		for _, in := range d.triggers {
			dead, kept := strings.CutPrefix(in.deadLetter, "sqs/")
			if s.Resources[dead].DeletionPolicy != "Retain" || !kept {
				wrong = append(wrong, in.name+": the stack's end deletes its dead letters")
			}
			if in.kind == "sqs" && queues[dead].MessageRetentionPeriod <= queues[strings.TrimPrefix(in.from, "sqs/")].MessageRetentionPeriod {
				wrong = append(wrong, in.name+": dead letters are as old as the message and expire first")
			}
			if slices.ContainsFunc(d.triggers, func(other source) bool { return other.from != "" && other.from == in.deadLetter }) {
				wrong = append(wrong, in.name+": its dead letters are requests again")
			}
		}
		return wrong
	},
	"no more pollers than needed": func(s awsStack, d deployment) (wrong []string) {
		for name, event := range s.function(d.function).Events {
			if n := event.Properties.ScalingConfig.MaximumConcurrency; n > 2 {
				wrong = append(wrong, fmt.Sprintf("%s: %d pollers for one instance throttle each other into the dead letters", name, n))
			}
		}
		return wrong
	},
	"who sends may send": func(s awsStack, _ deployment) (wrong []string) {
		granted := make(map[string]bool)
		for _, policy := range all[awsPolicy](s, "SQS::QueuePolicy") {
			for _, statement := range policy.PolicyDocument.Statement {
				for _, queue := range policy.Queues {
					granted[statement.Principal.Service+" "+s.named(queue)+" "+statement.Condition.ArnEquals["aws:SourceArn"]] = statement.Effect == "Allow" && statement.Action == "sqs:SendMessage"
				}
			}
		}
		needs := make(map[string]bool)
		for _, sub := range all[awsSubscription](s, "SNS::Subscription") {
			needs["sns.amazonaws.com "+s.named(sub.Endpoint)+" "+sub.TopicArn] = true
			needs["sns.amazonaws.com "+s.named(sub.RedrivePolicy.DeadLetterTargetArn)+" "+sub.TopicArn] = true
		}
		for _, p := range all[awsPermission](s, "Lambda::Permission") {
			granted[p.Principal+" "+p.FunctionName+" "+p.SourceArn] = true
		}
		for name, rule := range all[awsRule](s, "Events::Rule") {
			for _, target := range rule.Targets {
				if rule.ScheduleExpression != "" {
					needs["events.amazonaws.com "+strings.TrimSuffix(target.Arn, ".Arn}")+"} ${"+name+".Arn}"] = true
					continue
				}
				needs["events.amazonaws.com "+s.named(target.Arn)+" ${"+name+".Arn}"] = true
				needs["events.amazonaws.com "+s.named(target.DeadLetterConfig.Arn)+" ${"+name+".Arn}"] = true
			}
		}
		for _, in := range all[awsIntegration](s, "ApiGatewayV2::Integration") {
			queue := "sqs:SendMessage ${" + strings.TrimPrefix(s.named(in.RequestParameters.QueueURL), "sqs/") + ".Arn}"
			wrong = append(wrong, difference(map[string]bool{queue: true}, s.may(in.CredentialsArn))...)
		}
		return append(wrong, difference(needs, granted)...)
	},
	"the role does what it must and no more": func(s awsStack, d deployment) []string {
		needs := make(map[string]bool)
		f := s.function(d.function)
		if f.VpcConfig.SubnetIds != nil {
			needs["arn:aws:iam::aws:policy/service-role/AWSLambdaENIManagementAccess"] = true
		}
		for _, event := range f.Events {
			for _, action := range []string{"ReceiveMessage", "DeleteMessage", "GetQueueAttributes"} {
				needs["sqs:"+action+" "+event.Properties.Queue] = true
			}
		}
		needs["sqs:SendMessage "+f.EventInvokeConfig.DestinationConfig.OnFailure.Destination] = true
		logs := strings.TrimSuffix(f.LoggingConfig.LogGroup, "}") + ".Arn}"
		needs["logs:CreateLogStream "+logs], needs["logs:PutLogEvents "+logs] = true, true
		return difference(needs, s.may(f.Role))
	},
	"what goes wrong is heard": func(s awsStack, _ deployment) []string {
		heard, needs := make(map[string]bool), make(map[string]bool)
		var triggers []source
		for function, name := range awsNames {
			needs["AWS/Lambda Errors ${"+name+"}"] = true
			triggers = append(triggers, s.deployment(function).triggers...)
		}
		for _, alarm := range all[awsAlarm](s, "CloudWatch::Alarm") {
			of := alarm.Namespace + " " + alarm.MetricName
			for _, dimension := range alarm.Dimensions {
				of += " " + dimension.Value
			}
			heard[of] = true
		}
		for _, in := range triggers {
			if in.deadLetter != "" {
				needs["AWS/SQS ApproximateNumberOfMessagesVisible ${"+strings.TrimPrefix(in.deadLetter, "sqs/")+".QueueName}"] = true
			}
			if in.kind == "sqs" {
				needs["AWS/SQS ApproximateAgeOfOldestMessage ${"+strings.TrimPrefix(in.from, "sqs/")+".QueueName}"] = true
			}
		}
		for _, filter := range all[awsFilter](s, "Logs::MetricFilter") {
			for _, metric := range filter.MetricTransformations {
				needs[metric.MetricNamespace+" "+metric.MetricName] = true
			}
		}
		return difference(needs, heard)
	},
	"the log is searched for what is logged": func(s awsStack, _ deployment) (wrong []string) {
		var counted []string
		for _, filter := range all[awsFilter](s, "Logs::MetricFilter") {
			for _, match := range regexp.MustCompile(`\$\.outcome = "(\w+)"`).FindAllStringSubmatch(filter.FilterPattern, -1) {
				counted = append(counted, match[1])
			}
		}
		for _, outcome := range []events.Outcome{events.Unknown, events.Failed, events.Abandoned} {
			if !slices.Contains(counted, string(outcome)) {
				wrong = append(wrong, string(outcome)+" results are not counted")
			}
		}
		for name, filter := range all[awsFilter](s, "Logs::SubscriptionFilter") {
			for _, kind := range []string{events.TypeMessageCompleted, events.TypePlanCompleted} {
				if !strings.Contains(filter.FilterPattern, `$.type = "`+kind+`"`) {
					wrong = append(wrong, name+" does not match "+kind)
				}
			}
		}
		return wrong
	},
	"the package is what build.sh makes": func(s awsStack, d deployment) (wrong []string) {
		f := s.function(d.function)
		if f.CodeURI != "../../.build/"+d.function+"-linux-"+f.Architectures[0]+".zip" || f.Handler != "bootstrap" {
			wrong = append(wrong, fmt.Sprintf("%s, handler %s, on %s", f.CodeURI, f.Handler, f.Architectures[0]))
		}
		return wrong
	},
}

// difference names what is needed and not there, and what is there for nothing.
func difference(needs, has map[string]bool) (wrong []string) {
	for _, need := range slices.Sorted(maps.Keys(needs)) {
		if !has[need] {
			wrong = append(wrong, need+" is missing")
		}
	}
	for _, one := range slices.Sorted(maps.Keys(has)) {
		if !needs[one] {
			wrong = append(wrong, one+" is there for nothing")
		}
	}
	return wrong
}
