package functions_test

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ons-repush/ons-repush/functions/internal/config"
)

// awsStack is infra/aws/template.yaml as CloudFormation would see it, and what
// the rules look at in it.
type awsStack struct {
	Resources map[string]awsResource
}

type awsResource struct {
	Type           string
	DeletionPolicy string
	Properties     json.RawMessage
}

type awsFunction struct {
	Handler                      string
	CodeURI                      string `json:"CodeUri"`
	Architectures                []string
	Timeout                      int
	ReservedConcurrentExecutions int
	Environment                  struct{ Variables map[string]string }
	VpcConfig                    struct{ SubnetIds, SecurityGroupIds []string }
	Events                       map[string]struct{ Properties awsEvent }
	Role                         string
	LoggingConfig                struct{ LogGroup string }
	EventInvokeConfig            struct {
		MaximumRetryAttempts int
		DestinationConfig    struct{ OnSuccess, OnFailure struct{ Destination string } }
	}
}

type awsEvent struct {
	Queue                 string
	Enabled               *bool
	BatchSize             int
	FunctionResponseTypes []string
	ScalingConfig         struct{ MaximumConcurrency int }
}

type awsRedrive struct {
	DeadLetterTargetArn string
	MaxReceiveCount     int
}

type awsQueue struct {
	VisibilityTimeout, MessageRetentionPeriod int
	RedrivePolicy                             awsRedrive
}

type awsSubscription struct {
	TopicArn, Endpoint string
	RedrivePolicy      awsRedrive
}

type awsRule struct {
	EventBusName, ScheduleExpression, State string
	EventPattern                            struct {
		DetailType []string `json:"detail-type"`
	}
	Targets []struct {
		Arn, Input       string
		RetryPolicy      struct{ MaximumRetryAttempts int }
		DeadLetterConfig struct{ Arn string }
	}
}

type awsAlarm struct {
	Namespace, MetricName string
	Dimensions            []struct{ Value string }
	AlarmActions          []string
}

type awsFilter struct {
	FilterPattern, DestinationArn string
	MetricTransformations         []struct{ MetricNamespace, MetricName string }
}

type awsPermission struct{ FunctionName, Principal, SourceArn string }

type awsRoute struct {
	APIID            string `json:"ApiId"`
	RouteKey, Target string
}

type awsIntegration struct {
	CredentialsArn    string
	RequestParameters struct {
		QueueURL string `json:"QueueUrl"`
	}
}

type awsPolicy struct {
	Queues, ManagedPolicyArns []string
	PolicyDocument            awsPolicyDocument
	Policies                  []struct{ PolicyDocument awsPolicyDocument }
}

type awsPolicyDocument struct {
	Statement []struct {
		Effect    string
		Principal struct{ Service string }
		Action    any
		Resource  string
		Condition struct {
			ArnEquals map[string]string
		}
	}
}

// all returns the properties of every resource of a type, by its name.
func all[T any](s awsStack, kind string) map[string]T {
	found := make(map[string]T)
	for name, resource := range s.Resources {
		if resource.Type == "AWS::"+kind {
			var properties T
			if resource.Properties != nil {
				if err := json.Unmarshal(resource.Properties, &properties); err != nil {
					panic(err) // the schema has admitted it
				}
			}
			found[name] = properties
		}
	}
	return found
}

// awsNames are the functions of the template, by theirs in the house.
var awsNames = map[string]string{config.Repush: "Repush", config.Plan: "Plan"}

func (s awsStack) function(name string) awsFunction {
	return all[awsFunction](s, "Serverless::Function")[awsNames[name]]
}

// through is the queue that an API puts into what is posted to an address, named
// like source.from; empty when nothing of the stack takes it.
func (s awsStack) through(address string) string {
	for _, route := range all[awsRoute](s, "ApiGatewayV2::Route") {
		_, path, _ := strings.Cut(route.RouteKey, " ")
		integration := strings.Trim(strings.TrimPrefix(route.Target, "integrations/"), "${}")
		if strings.HasPrefix(address, "https://"+route.APIID+".execute-api.") && strings.HasSuffix(address, ".amazonaws.com"+path) {
			return s.named(all[awsIntegration](s, "ApiGatewayV2::Integration")[integration].RequestParameters.QueueURL)
		}
	}
	return ""
}

// may are the actions that a role allows, each with its resource, and its
// managed policies.
func (s awsStack) may(role string) map[string]bool {
	granted := make(map[string]bool)
	properties := all[awsPolicy](s, "IAM::Role")[strings.TrimSuffix(strings.Trim(role, "${}"), ".Arn")]
	for _, managed := range properties.ManagedPolicyArns {
		granted[managed] = true
	}
	for _, policy := range properties.Policies {
		for _, statement := range policy.PolicyDocument.Statement {
			actions, several := statement.Action.([]any)
			if !several {
				actions = []any{statement.Action}
			}
			for _, action := range actions {
				granted[fmt.Sprint(action, " ", statement.Resource)] = statement.Effect == "Allow"
			}
		}
	}
	return granted
}

// named returns the resource that a resolved reference is to: "sqs/Requests" for
// "${Requests.Arn}".
func (s awsStack) named(reference string) string {
	name, _, _ := strings.Cut(strings.Trim(reference, "${}"), ".")
	service := map[string]string{"AWS::SQS::Queue": "sqs/", "AWS::SNS::Topic": "sns/"}[s.Resources[name].Type]
	if service == "" {
		return ""
	}
	return service + name
}
