package functions_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// readCloudFormation parses a template. The short form of an intrinsic function
// becomes the long one; tags it does not know, keys that stand twice, aliases
// and dates (an unquoted 2012-10-17) are errors.
func readCloudFormation(text string) (map[string]any, error) {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil {
		return nil, err
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("not a mapping")
	}
	tree, err := fromYAML(document.Content[0])
	if err != nil {
		return nil, err
	}
	return tree.(map[string]any), nil
}

func fromYAML(n *yaml.Node) (any, error) {
	fail := func(format string, args ...any) (any, error) {
		return nil, fmt.Errorf("line %d: %s", n.Line, fmt.Sprintf(format, args...))
	}
	if tag, isShort := strings.CutPrefix(n.Tag, "!"); isShort && !strings.HasPrefix(tag, "!") {
		plain := *n
		switch plain.Tag = ""; n.Kind {
		case yaml.ScalarNode:
			plain.Tag = "!!str"
		case yaml.MappingNode:
			return fail("!%s of a mapping", tag)
		}
		argument, err := fromYAML(&plain)
		if err != nil {
			return nil, err
		}
		switch tag {
		case "Ref", "Condition":
			return map[string]any{tag: argument}, nil
		case "GetAtt", "Sub", "If", "Join", "Split", "Equals", "Not", "And", "Or":
			return map[string]any{"Fn::" + tag: argument}, nil
		}
		return fail("!%s is not a function this test knows", tag)
	}
	switch n.Kind {
	case yaml.MappingNode:
		fields := make(map[string]any)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if _, twice := fields[key.Value]; twice || key.Kind != yaml.ScalarNode {
				return fail("key %q stands twice, or is no text", key.Value)
			}
			value, err := fromYAML(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			fields[key.Value] = value
		}
		return fields, nil
	case yaml.SequenceNode:
		list := []any{}
		for _, element := range n.Content {
			value, err := fromYAML(element)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		return list, nil
	case yaml.ScalarNode:
		if !slices.Contains([]string{"!!str", "!!int", "!!bool", "!!float"}, n.Tag) {
			return fail("%q is read as %s: quote it", n.Value, n.Tag)
		}
		var value any
		err := n.Decode(&value)
		return value, err
	}
	return fail("aliases are not for templates")
}

// scope resolves the intrinsic functions of a template for values of its
// parameters. Parameters become their values; resources and their attributes,
// which only a deployment knows, become "${Name}" and "${Name.Attribute}".
type scope struct {
	parameters map[string]any
	conditions map[string]any
	resources  map[string]any // without those whose condition is false
	values     map[string]string
	used       map[string]bool
	problems   []string
}

// attributes are those that Fn::GetAtt returns (source: the pages "Return
// values" of the CloudFormation template reference).
var attributes = map[string][]string{
	"AWS::Serverless::Function": {"Arn"},
	"AWS::SQS::Queue":           {"Arn", "QueueName", "QueueUrl"},
	"AWS::SNS::Topic":           {"TopicArn", "TopicName"},
	"AWS::Events::Rule":         {"Arn"},
	"AWS::IAM::Role":            {"Arn", "RoleId"},
	"AWS::Logs::LogGroup":       {"Arn"},
}

// resolveTemplate returns the template as CloudFormation sees it after the
// intrinsic functions, and what is wrong with them.
func resolveTemplate(tree map[string]any, values map[string]string) (map[string]any, []string) {
	tree = withGlobals(tree)
	s := &scope{resources: make(map[string]any), values: maps.Clone(values), used: make(map[string]bool)}
	s.parameters, _ = tree["Parameters"].(map[string]any)
	s.conditions, _ = tree["Conditions"].(map[string]any)
	s.setParameters()
	declared, _ := tree["Resources"].(map[string]any)
	for _, name := range slices.Sorted(maps.Keys(declared)) {
		resource, _ := declared[name].(map[string]any)
		if condition, conditional := resource["Condition"].(string); !conditional || s.holds(map[string]any{"Condition": condition}) {
			s.resources[name] = resource
		}
	}
	out := maps.Clone(tree)
	out["Resources"], out["Outputs"] = s.resolve(s.resources), s.resolve(tree["Outputs"])
	for _, name := range slices.Sorted(maps.Keys(s.conditions)) {
		s.holds(s.conditions[name])
		if !s.used["condition "+name] {
			s.report("condition %s is never used", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.parameters)) {
		// what only a resource needs that is left out is used all the same
		if !s.used[name] && !strings.Contains(fmt.Sprint(declared), "map[Ref:"+name+"]") {
			s.report("parameter %s is never used", name)
		}
	}
	return out, s.problems
}

// withGlobals gives every function what SAM's Globals say: maps are merged, and
// what the function says itself wins (source: SAM "Globals section").
func withGlobals(tree map[string]any) map[string]any {
	globals, _ := tree["Globals"].(map[string]any)
	tree, resources := maps.Clone(tree), make(map[string]any)
	declared, _ := tree["Resources"].(map[string]any)
	for name, resource := range declared {
		if r, _ := resource.(map[string]any); r["Type"] == "AWS::Serverless::Function" && globals != nil {
			resource = merged(map[string]any{"Properties": globals["Function"]}, r)
		}
		resources[name] = resource
	}
	delete(tree, "Globals")
	tree["Resources"] = resources
	return tree
}

func merged(base, own map[string]any) map[string]any {
	all := maps.Clone(base)
	for name, value := range own {
		inner, isMap := value.(map[string]any)
		if beneath, both := all[name].(map[string]any); both && isMap {
			value = merged(beneath, inner)
		}
		all[name] = value
	}
	return all
}

func (s *scope) report(format string, args ...any) {
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// setParameters completes the values with defaults and holds them against the
// allowed patterns.
func (s *scope) setParameters() {
	for _, name := range slices.Sorted(maps.Keys(s.parameters)) {
		parameter, _ := s.parameters[name].(map[string]any)
		value, given := s.values[name]
		if !given {
			value, given = parameter["Default"].(string)
		}
		pattern, _ := parameter["AllowedPattern"].(string)
		allowed, err := regexp.Compile(pattern)
		switch {
		case !given:
			s.report("parameter %s has neither value nor default", name)
		case err != nil || !allowed.MatchString(value):
			s.report("parameter %s: %q does not match %q", name, value, pattern)
		}
		s.values[name] = value
	}
	for name := range s.values {
		if s.parameters[name] == nil {
			s.report("parameter %s is given and not declared", name)
		}
	}
}

var reference = regexp.MustCompile(`\$\{([^}]+)\}`)

func (s *scope) resolve(v any) any {
	switch v := v.(type) {
	case []any:
		list := []any{}
		for _, element := range v {
			if resolved := s.resolve(element); resolved != noValue {
				list = append(list, resolved)
			}
		}
		return list
	case map[string]any:
		if len(v) == 1 {
			for name, argument := range v {
				if name == "Ref" || strings.HasPrefix(name, "Fn::") {
					return s.call(name, argument)
				}
			}
		}
		fields := make(map[string]any)
		for name, value := range v {
			if strings.HasPrefix(name, "Fn::") {
				s.report("%s beside other keys", name)
			}
			if resolved := s.resolve(value); resolved != noValue {
				fields[name] = resolved
			}
		}
		return fields
	}
	return v
}

// noValue is what !Ref AWS::NoValue resolves to: it takes its place away.
const noValue = "${AWS::NoValue}"

// call evaluates a function that yields a value.
func (s *scope) call(name string, argument any) any {
	list, _ := argument.([]any)
	text, isText := argument.(string)
	switch {
	case name == "Ref" && isText:
		return s.ref(text)
	case name == "Fn::GetAtt" && isText:
		return s.attribute(text)
	case name == "Fn::Sub" && isText:
		return reference.ReplaceAllStringFunc(text, func(match string) string {
			inner := match[2 : len(match)-1]
			if strings.Contains(inner, ".") {
				return s.attribute(inner)
			}
			return s.ref(inner)
		})
	case name == "Fn::If" && len(list) == 3:
		yes, no := s.resolve(list[1]), s.resolve(list[2]) // both, so that both are checked
		if s.holds(map[string]any{"Condition": list[0]}) {
			return yes
		}
		return no
	case name == "Fn::Split" && len(list) == 2:
		parts := []any{}
		for part := range strings.SplitSeq(fmt.Sprint(s.resolve(list[1])), fmt.Sprint(list[0])) {
			parts = append(parts, part)
		}
		return parts
	case name == "Fn::Join" && len(list) == 2:
		if parts, ok := s.resolve(list[1]).([]any); ok {
			var words []string
			for _, part := range parts {
				words = append(words, fmt.Sprint(part))
			}
			return strings.Join(words, fmt.Sprint(list[0]))
		}
	}
	s.report("%s of %v is not a value this test understands", name, argument)
	return ""
}

func (s *scope) ref(name string) string {
	if _, declared := s.parameters[name]; declared {
		s.used[name] = true
		return s.values[name]
	}
	pseudo := map[string]string{"AWS::Region": "eu-west-1", "AWS::AccountId": "111122223333", "AWS::Partition": "aws", "AWS::URLSuffix": "amazonaws.com", "AWS::StackName": "ons-repush", "AWS::NoValue": noValue}
	if value, ok := pseudo[name]; ok {
		return value
	}
	if s.resources[name] == nil && !slices.Contains(s.generated(), name) {
		s.report("%s is neither a parameter nor a resource", name)
	}
	return "${" + name + "}"
}

// generated are the resources that SAM adds: a function's id followed by that
// of its event (source: SAM "Generated AWS CloudFormation resources").
func (s *scope) generated() (names []string) {
	for name, resource := range s.resources {
		properties, _ := resource.(map[string]any)["Properties"].(map[string]any)
		events, _ := properties["Events"].(map[string]any)
		for event := range events {
			names = append(names, name+event)
		}
	}
	return names
}

func (s *scope) attribute(path string) string {
	name, attribute, _ := strings.Cut(path, ".")
	resource, _ := s.resources[name].(map[string]any)
	if kind, _ := resource["Type"].(string); !slices.Contains(attributes[kind], attribute) {
		s.report("%s: no such resource, or it has no such attribute", path)
	}
	return "${" + path + "}"
}

// holds evaluates a condition.
func (s *scope) holds(v any) bool {
	fields, _ := v.(map[string]any)
	if name, ok := fields["Condition"].(string); ok && len(fields) == 1 && s.conditions[name] != nil {
		s.used["condition "+name] = true
		return s.holds(s.conditions[name])
	}
	for name, argument := range fields {
		list, _ := argument.([]any)
		switch {
		case name == "Fn::Equals" && len(list) == 2:
			return fmt.Sprint(s.resolve(list[0])) == fmt.Sprint(s.resolve(list[1]))
		case name == "Fn::Not" && len(list) == 1:
			return !s.holds(list[0])
		case name == "Fn::And" && len(list) >= 2:
			return !slices.ContainsFunc(list, func(c any) bool { return !s.holds(c) })
		case name == "Fn::Or" && len(list) >= 2:
			return slices.ContainsFunc(list, s.holds)
		}
	}
	s.report("%v is not a condition this test understands", v)
	return false
}

// TestResolveTemplate holds the reader itself: a function it resolves wrongly
// would make every check on the result worthless.
func TestResolveTemplate(t *testing.T) {
	t.Parallel()
	const head = `
Parameters: {P: {AllowedPattern: ^.*$, Default: p}, Q: {AllowedPattern: ^.*$}}
Globals: {Function: {Timeout: 1, Environment: {Variables: {A: a, B: b}}}}
Conditions: {Yes: !Equals [!Ref P, p], No: !Not [!Condition Yes], Both: !And [!Condition Yes, !Condition No], Any: !Or [!Condition Yes, !Condition No]}
Resources:
  Queue: {Type: AWS::SQS::Queue}
  F: {Type: AWS::Serverless::Function, Properties: {Handler: h, Environment: {Variables: {B: own}}}}
  Gone: {Type: AWS::SQS::Queue, Condition: Both}
  Here: {Type: AWS::SQS::Queue, Condition: Any}
Outputs: {Q: !Ref Q, X: `
	for name, test := range map[string]struct {
		expression string
		want       any
		wrong      string
	}{
		"a parameter":                  {expression: "!Ref P", want: "p"},
		"a resource":                   {expression: "!Ref Queue", want: "${Queue}"},
		"an attribute":                 {expression: "!GetAtt Queue.Arn", want: "${Queue.Arn}"},
		"the long form":                {expression: "{Ref: P}", want: "p"},
		"text with references":         {expression: `!Sub "${P}/${Queue.Arn}/${AWS::Region}"`, want: "p/${Queue.Arn}/eu-west-1"},
		"a choice":                     {expression: "!If [No, a, !Ref Q]", want: "q"},
		"a list joined":                {expression: `!Join ["-", [a, !Ref P]]`, want: "a-p"},
		"a text cut up":                {expression: `!Split [",", !Sub "a,${P}"]`, want: []any{"a", "p"}},
		"an element left out":          {expression: "[a, !Ref AWS::NoValue]", want: []any{"a"}},
		"a property left out":          {expression: "{A: a, B: !If [No, b, !Ref AWS::NoValue]}", want: map[string]any{"A": "a"}},
		"a resource whose turn it is":  {expression: "!Ref Here", want: "${Here}"},
		"one that is left out":         {expression: "!Ref Gone", want: "${Gone}", wrong: "Gone is neither a parameter nor a resource"},
		"nobody":                       {expression: "!Ref R", want: "${R}", wrong: "R is neither a parameter nor a resource"},
		"an attribute nobody has":      {expression: "!GetAtt Queue.Name", want: "${Queue.Name}", wrong: "Queue.Name: no such resource, or it has no such attribute"},
		"a condition nobody has":       {expression: "!If [Maybe, a, b]", want: "b", wrong: "map[Condition:Maybe] is not a condition this test understands"},
		"a misspelt reference in text": {expression: `!Sub "${PP}"`, want: "${PP}", wrong: "PP is neither a parameter nor a resource"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tree, err := readCloudFormation(head + test.expression + "}")
			if err != nil {
				t.Fatal(err)
			}
			resolved, problems := resolveTemplate(tree, map[string]string{"Q": "q"})
			if got := resolved["Outputs"].(map[string]any)["X"]; !cmp.Equal(got, test.want) {
				t.Errorf("= %v, want %v", got, test.want)
			}
			function := map[string]any{"Handler": "h", "Timeout": 1, "Environment": map[string]any{"Variables": map[string]any{"A": "a", "B": "own"}}}
			if got := resolved["Resources"].(map[string]any)["F"].(map[string]any)["Properties"]; !cmp.Equal(got, any(function)) {
				t.Errorf("the function is %v, want %v", got, function)
			}
			if got := strings.Join(problems, "; "); got != test.wrong {
				t.Errorf("problems = %q, want %q", got, test.wrong)
			}
		})
	}
	for name, text := range map[string]string{
		"an unknown tag":  "A: !Reff B",
		"a key twice":     "A: 1\nA: 2",
		"an alias":        "A: &a 1\nB: *a",
		"an unquoted day": "A: 2012-10-17",
		"no mapping":      "- A",
		"no YAML":         "A: [",
		"nothing":         "",
	} {
		if tree, err := readCloudFormation(text); err == nil {
			t.Errorf("%s: read as %v", name, tree)
		}
	}
}
