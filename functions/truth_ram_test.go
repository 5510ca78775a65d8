package functions_test

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ons-repush/ons-repush/functions/internal/config"
)

// right is what RAM wants for one operation of the ONS OpenAPI: an action, on
// the topic or the group of the request.
type right struct{ action, on string }

// rights is the table of the API reference (source: the page of each operation,
// section "Authorization", as of Dec 2025; ons-openapi.md 1.1).
var rights = map[string]right{
	"OnsMessagePush":                  {"mq:SUB", "TOPIC"},
	"OnsConsumerGetConnection":        {"mq:QueryConsumerConnection", "GROUP"},
	"OnsConsumerStatus":               {"mq:QueryConsumerStatus", "GROUP"},
	"OnsConsumerAccumulate":           {"mq:QueryConsumerAccumulate", "GROUP"},
	"OnsGroupSubDetail":               {"mq:QueryGroupSubDetail", "GROUP"},
	"OnsMessageGetByMsgId":            {"mq:QueryMessage", "TOPIC"},
	"OnsMessageGetByKey":              {"mq:QueryMessage", "TOPIC"},
	"OnsMessagePageQueryByTopic":      {"mq:QueryMessage", "TOPIC"},
	"OnsMessageTrace":                 {"mq:QueryMessageTrace", "TOPIC"},
	"OnsDLQMessageGetById":            {"mq:QueryDLQMessage", "GROUP"},
	"OnsDLQMessagePageQueryByGroupId": {"mq:QueryDLQMessage", "GROUP"},
	"OnsDLQMessageResendById":         {"mq:ResendDLQMessage", "GROUP"},
}

// lookUp are the actions that every grant needs beside its own, on the
// instance: pages from 2024 on name the one, older pages the other.
var lookUp = []string{"mq:OnsInstanceBaseInfo", "mq:QueryInstanceBaseInfo"}

// otherActions are those of the other products that our policies may name
// (sources: the SMQ, EventBridge and FC pages "RAM authorization"; FC "Log",
// log:PostLogStoreLogs).
var otherActions = []string{
	"eventbridge:PutEvents", "mns:SendMessage", "mns:BatchSendMessage", "mns:PublishMessage", "log:PostLogStoreLogs",
	"fc:InvokeFunction", "fc:GetFunction", "fc:GetConcurrencyConfig", "fc:PutConcurrencyConfig",
}

// placeholder is a name in a policy that prepare.sh fills in.
var placeholder = regexp.MustCompile(`\$\{(\w+)\}`)

// loadPolicy returns what a policy allows, with the names filled in, and what
// is wrong with its text.
func loadPolicy(text string) (grants []grant, wrong []string) {
	text = placeholder.ReplaceAllStringFunc(text, func(p string) string {
		name := placeholder.FindStringSubmatch(p)[1]
		if exported[name] == "" {
			wrong = append(wrong, p+": prepare.sh fills in no such name")
		}
		return exported[name]
	})
	var policy struct {
		Version   string
		Statement []struct {
			Effect           string
			Action, Resource []string
		}
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&policy); err != nil {
		return nil, append(wrong, err.Error())
	}
	if policy.Version != "1" || len(text) > 6144 { // (source: Terraform alicloud_ram_policy)
		wrong = append(wrong, "want version 1 and 6,144 bytes at most")
	}
	for _, s := range policy.Statement {
		if s.Effect != "Allow" || len(s.Action) == 0 || len(s.Resource) == 0 {
			wrong = append(wrong, "a statement must allow actions on resources")
		}
		for _, action := range s.Action {
			known := slices.Contains(slices.Concat(lookUp, otherActions), action)
			for _, r := range rights {
				known = known || r.action == action
			}
			if !known {
				wrong = append(wrong, action+": no such action is known")
			}
			for _, resource := range s.Resource {
				if strings.Count(resource, ":") < 4 {
					wrong = append(wrong, resource+": want acs:product:region:account:name")
				}
				grants = append(grants, grant{action, resource})
			}
		}
	}
	return grants, wrong
}

// policies are those of the functions' roles.
var policies = map[string]string{config.Repush: "../infra/ram/function.json", config.Plan: "../infra/ram/plan.json"}

// TestFunctionPolicy: each operation a function calls is allowed on exactly the
// resources of its request, with and without namespace, and nothing else of mq.
func TestFunctionPolicy(t *testing.T) {
	t.Parallel()
	for function, file := range policies {
		t.Run(function, func(t *testing.T) {
			t.Parallel()
			checkFunctionPolicy(t, function, contents(t, file))
		})
	}
}

func checkFunctionPolicy(t *testing.T, function, policy string) {
	t.Helper()
	grants, wrong := loadPolicy(policy)
	for _, w := range wrong {
		t.Error(w)
	}
	account := exported["REGION"] + ":" + exported["ACCOUNT"]
	var want []grant
	operations, err := operationsCalled(function)
	if err != nil {
		t.Error(err)
	}
	for _, operation := range operations {
		r, known := rights[operation]
		if !known {
			continue // TestOperationsHaveActions says so
		}
		want = append(want, grant{r.action, "acs:mq:" + account + ":" + exported["INSTANCE"] + "%" + exported[r.on]},
			grant{r.action, "acs:mq:" + account + ":" + exported[r.on]})
	}
	for _, action := range lookUp {
		want = append(want, grant{action, "acs:mq:*:*:" + exported["INSTANCE"]})
	}
	for _, g := range want {
		if !slices.Contains(grants, g) {
			t.Errorf("missing: %s on %s", g.action, g.resource)
		}
	}
	for _, g := range grants {
		if strings.HasPrefix(g.action, "mq:") && !slices.Contains(want, g) {
			t.Errorf("never used: %s on %s", g.action, g.resource)
		}
	}
}

// TestPolicies: every policy is one that RAM takes, and the functions' roles are
// for Function Compute alone.
func TestPolicies(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../infra/ram/*.json")
	if err != nil || len(files) < 5 {
		t.Fatalf("found %v, error %v", files, err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "trust.json") {
			continue
		}
		grants, wrong := loadPolicy(contents(t, name))
		if len(grants) == 0 {
			t.Errorf("%s: allows nothing", name)
		}
		for _, w := range wrong {
			t.Errorf("%s: %s", name, w)
		}
	}
	var trust struct {
		Statement []struct{ Principal struct{ Service []string } }
	}
	if err := json.Unmarshal([]byte(contents(t, "../infra/ram/function-trust.json")), &trust); err != nil {
		t.Fatal(err)
	}
	if len(trust.Statement) != 1 || !slices.Equal(trust.Statement[0].Principal.Service, []string{"fc.aliyuncs.com"}) {
		t.Errorf("the functions' roles are trusted to %+v", trust.Statement)
	}
}
