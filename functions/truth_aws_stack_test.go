package functions_test

import (
	"encoding/json"
	"strings"
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

func (s awsStack) function() awsFunction {
	return all[awsFunction](s, "Serverless::Function")["Repush"]
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
