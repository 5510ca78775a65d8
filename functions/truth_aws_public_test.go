package functions_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// goformation carries AWS's own specification of every resource type, as a
// JSON Schema with closed objects; it is read, never linked.
const (
	goformation    = "github.com/awslabs/goformation/v7@v7.14.9"
	goformationSum = "h1:sZjjpTqXrcBDz4Fi07JWTT7zKM68XsQkW/7iLAJbA/M="
)

// publicSchema writes AWS's schema for the given types alone into a file: to
// compile all 1,200 takes 20 s.
func publicSchema(t *testing.T, kinds map[string]bool) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", goformation)
	cmd.Dir = t.TempDir() // outside of our module, which does not need it
	// Tests stay on this machine: what .ci/run has downloaded is found, and its
	// sum is compared below.
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOSUMDB=off")
	out, err := cmd.Output()
	var module struct{ Dir, Sum string }
	if err == nil {
		err = json.Unmarshal(out, &module)
	}
	if err != nil {
		if os.Getenv("TEST_REQUIRE") == "all" {
			t.Fatalf("go mod download %s: %v", goformation, err)
		}
		t.Skipf("AWS's schema is not in the module cache; get it, in any folder that is no module, with: go mod download %s", goformation)
	}
	if module.Sum != goformationSum {
		t.Fatalf("%s has the sum %s", goformation, module.Sum)
	}
	var schema map[string]any
	if err := json.Unmarshal([]byte(awsText(t, filepath.Join(module.Dir, "schema/cloudformation.schema.json"))), &schema); err != nil {
		t.Fatal(err)
	}
	definitions, wanted, anyOf := schema["definitions"].(map[string]any), make(map[string]any), []any{}
	for name, definition := range definitions {
		kind, _, _ := strings.Cut(name, ".")
		if kinds[kind] || name == "Tag" || name == "Parameter" {
			wanted[name] = definition
		}
	}
	for kind := range kinds {
		anyOf = append(anyOf, map[string]any{
			"if":   map[string]any{"properties": map[string]any{"Type": map[string]any{"const": kind}}},
			"then": map[string]any{"$ref": "#/definitions/" + kind},
		})
	}
	raw, err := json.Marshal(map[string]any{
		"$schema": "http://json-schema.org/draft-07/schema#", "definitions": wanted,
		"properties": map[string]any{"Resources": map[string]any{"additionalProperties": map[string]any{
			"properties": map[string]any{"Type": map[string]any{"enum": slices.Collect(maps.Keys(kinds))}}, "allOf": anyOf,
		}}},
	})
	file := filepath.Join(t.TempDir(), "cloudformation.schema.json")
	if err == nil {
		err = os.WriteFile(file, raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// expanded is the stack in the resource types of CloudFormation proper: what SAM
// makes of the function is a function, its event source mappings and the
// configuration of asynchronous calls (source: SAM "Generated AWS
// CloudFormation resources").
func expanded(t *testing.T, text string, values map[string]string) ([]byte, map[string]bool) {
	t.Helper()
	tree, err := readCloudFormation(text)
	if err != nil {
		t.Fatal(err)
	}
	resolved, _ := resolveTemplate(tree, values)
	resources := make(map[string]any)
	for name, resource := range resolved["Resources"].(map[string]any) {
		resource := resource.(map[string]any)
		properties, _ := resource["Properties"].(map[string]any)
		if resource["Type"] != "AWS::Serverless::Function" {
			resources[name] = resource
			continue
		}
		function := maps.Clone(properties)
		for _, own := range []string{"CodeUri", "Events", "EventInvokeConfig"} {
			delete(function, own)
		}
		function["Code"] = map[string]any{"S3Bucket": "b", "S3Key": "k"}
		resources[name] = map[string]any{"Type": "AWS::Lambda::Function", "Properties": function}
		for event, source := range properties["Events"].(map[string]any) {
			mapping := maps.Clone(source.(map[string]any)["Properties"].(map[string]any))
			mapping["EventSourceArn"], mapping["FunctionName"] = mapping["Queue"], name
			delete(mapping, "Queue")
			resources[name+event] = map[string]any{"Type": "AWS::Lambda::EventSourceMapping", "Properties": mapping}
		}
		invoke := maps.Clone(properties["EventInvokeConfig"].(map[string]any))
		invoke["FunctionName"], invoke["Qualifier"] = name, "$LATEST"
		destinations := make(map[string]any)
		for on, destination := range invoke["DestinationConfig"].(map[string]any) {
			destinations[on] = map[string]any{"Destination": destination.(map[string]any)["Destination"]}
		}
		invoke["DestinationConfig"] = destinations
		resources[name+"EventInvokeConfig"] = map[string]any{"Type": "AWS::Lambda::EventInvokeConfig", "Properties": invoke}
	}
	kinds := make(map[string]bool)
	for _, resource := range resources {
		kinds[resource.(map[string]any)["Type"].(string)] = true
	}
	raw, err := json.Marshal(map[string]any{"Resources": resources})
	if err != nil {
		t.Fatal(err)
	}
	return raw, kinds
}

// TestAWSPublicSchema holds the template against AWS's own specification, which
// knows nothing of our schema, and shows that it notices typing mistakes.
func TestAWSPublicSchema(t *testing.T) {
	t.Parallel()
	text, values := awsText(t, awsTemplate), withRedis(t, "redis://redis.example:6379")
	values["ResultStream"], values["ResultStreamRole"] = "arn:aws:kinesis:eu-west-1:111122223333:stream/x", "arn:aws:iam::111122223333:role/x"
	raw, kinds := expanded(t, text, values)
	if len(kinds) < 10 {
		t.Fatalf("only the types %v", kinds)
	}
	schema := compileSchema(t, publicSchema(t, kinds))
	if wrong := refusals(schema, raw); wrong != nil {
		t.Fatal(wrong)
	}
	for name, lie := range map[string]struct{ old, new string }{
		"a property of the function":  {"MemorySize: 256", "Memory: 256"},
		"a property of the trigger":   {"MaximumConcurrency: 2", "MaxConcurrency: 2"},
		"a property of the queue":     {"VisibilityTimeout: 360", "VisibilityTimeoutSeconds: 360"},
		"a property of the network":   {"SecurityGroupIds: !Split", "SecurityGroups: !Split"},
		"a property of the sweep":     {"ScheduleExpression:", "Schedule:"},
		"a property of a permission":  {"SourceArn: !GetAtt Sweep.Arn", "Source: !GetAtt Sweep.Arn"},
		"a property of a target":      {"DeadLetterConfig: {Arn:", "DeadLetterConfig: {TargetArn:"},
		"a property of an alarm":      {"EvaluationPeriods: 1", "EvaluationPeriod: 1"},
		"a required property missing": {"      DestinationArn: !Ref ResultStream\n", ""},
		"a number that is a text":     {"    Timeout: 60\n", "    Timeout: 60s\n"},
		"a property of the way in":    {"IntegrationSubtype:", "Subtype:"},
		"a type nobody has":           {"AWS::Logs::MetricFilter", "AWS::Logs::MetricsFilter"},
	} {
		if !strings.Contains(text, lie.old) {
			t.Errorf("%s: the template does not say %q", name, lie.old)
			continue
		}
		raw, _ := expanded(t, strings.Replace(text, lie.old, lie.new, 1), values)
		if wrong := refusals(schema, raw); wrong == nil {
			t.Errorf("%s: not caught", name)
		}
	}
}
