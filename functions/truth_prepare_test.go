package functions_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ons-repush/ons-repush/functions/internal/config"
)

// TestPrepare runs prepare.sh with a stand-in for the CLI: it makes every queue
// and bus that s.yaml names, the roles the functions take with what each needs,
// and policies with no name left open; what exists is left alone, and an error
// stops it.
func TestPrepare(t *testing.T) {
	t.Parallel()
	calls, out := prepare(t, `case "$*" in *CreateRole*) echo EntityAlreadyExists.Role >&2; exit 1 ;; esac`, 0)
	made := make(map[string]bool)
	documents, attached := make(map[string]string), make(map[string]string)
	for _, call := range calls {
		for i, word := range call {
			switch word {
			case "--QueueName":
				made["mns:queue/"+call[i+1]] = true
			case "--EventBusName":
				made["bus/"+call[i+1]] = true
			case "--PolicyDocument":
				documents[argument(call, "--PolicyName")] = call[i+1]
			case "--AssumeRolePolicyDocument":
				documents[argument(call, "--RoleName")+" is trusted to"] = call[i+1]
			case "AttachPolicyToRole":
				attached["role/"+argument(call, "--RoleName")] = argument(call, "--PolicyName")
			}
		}
	}
	for name, document := range documents {
		if !json.Valid([]byte(document)) || strings.Contains(document, "$") {
			t.Errorf("policy %s: %s", name, document)
		}
	}
	if len(documents) != 5 || strings.Count(out, "CreateRole: exists already") != 2 {
		t.Errorf("%d policies; output %s", len(documents), out)
	}
	for resource := range resources {
		d, _ := loadServerlessDevs(contents(t, "../infra/fc/s.yaml"), contents(t, policies[resources[resource]]), resource)
		wanted := slices.Concat(d.results, d.requests)
		for _, s := range d.triggers {
			wanted = append(wanted, s.deadLetter)
			if s.kind == "mns-queue" {
				wanted = append(wanted, s.from)
			}
		}
		for _, place := range wanted {
			if place != "" && !made[place] {
				t.Errorf("prepare.sh does not make %s; it makes %v", place, made)
			}
		}
		role := d.role[strings.LastIndex(d.role, ":")+1:]
		checkFunctionPolicy(t, d.function, documents[attached[role]])
	}
	joins := func(calls [][]string) bool {
		return slices.ContainsFunc(calls, func(c []string) bool { return slices.Contains(c, "AliyunECSNetworkInterfaceManagementAccess") })
	}
	if inVPC, _ := prepare(t, "", 0, "REDIS_VPC="+shared["REDIS_VPC"]); joins(calls) || !joins(inVPC) {
		t.Error("the role may join a network when REDIS_VPC is exported, and only then")
	}
	if _, out := prepare(t, "echo InvalidAccessKeyId.NotFound >&2; exit 1", 1); !strings.Contains(out, "CreateQueue") {
		t.Errorf("an error says %s", out)
	}
	if _, out := prepare(t, "echo QueueNotExist >&2; exit 1", 1); strings.Contains(out, "exists already") {
		t.Errorf("what does not exist: %s", out)
	}
}

// argument is what follows a flag, or nothing.
func argument(call []string, flag string) string {
	if i := slices.Index(call, flag); i >= 0 && i+1 < len(call) {
		return call[i+1]
	}
	return ""
}

// TestPrepareAlarm: the alarm is one that functions/plan understands, about the
// group, and goes to the queue it reads; without a contact group there is none.
func TestPrepareAlarm(t *testing.T) {
	t.Parallel()
	plan, _ := loadServerlessDevs(contents(t, "../infra/fc/s.yaml"), contents(t, policies[config.Plan]), "plan")
	calls, _ := prepare(t, "", 0, "CONTACT_GROUP=oncall")
	found := make(map[string][]string)
	for _, call := range calls {
		if len(call) > 1 && call[0] == "cms" {
			found[call[1]] = call
		}
	}
	rule, target := found["PutResourceMetricRule"], found["PutMetricRuleTargets"]
	var about []map[string]string
	if err := json.Unmarshal([]byte(argument(rule, "--Resources")), &about); err != nil || len(about) != 1 ||
		about[0]["groupId"] != exported["GROUP"] || about[0]["instanceId"] != exported["INSTANCE"] {
		t.Errorf("the alarm is about %v (%v)", about, err)
	}
	if metric := argument(rule, "--MetricName"); !strings.HasPrefix(metric, "SendDLQMessageCount") || argument(rule, "--RuleId") != argument(target, "--RuleId") {
		t.Errorf("metric %s; rule %q, target %q", metric, rule, target)
	}
	if given := argument(rule, "--Escalations.Critical.Statistics"); given != statistic {
		t.Errorf("the metric has the statistic %s and no %s", statistic, given)
	}
	arn := argument(target, "--Targets.1.Arn")
	if queue := alarmQueue(arn); !slices.ContainsFunc(plan.triggers, func(s source) bool { return s.enabled && s.from == queue }) {
		t.Errorf("functions/plan does not read %s", arn)
	}
	if calls, _ := prepare(t, "", 0); slices.ContainsFunc(calls, func(c []string) bool { return c[0] == "cms" }) {
		t.Error("an alarm nobody asked for")
	}
	if _, out := prepare(t, "", 1, "CONTACT_GROUP=on call"); !strings.Contains(out, "a name may have") {
		t.Errorf("a contact group of two words: %s", out)
	}
}

// alarmQueue names the queue of the target of an alarm, whose ARN ends in
// /message (source: CMS PutMetricRuleTargets, Jun 2026; its guide "Write alerts
// to MNS" says /messages).
func alarmQueue(arn string) string { return placeOfQueue(strings.TrimSuffix(arn, "/message")) }

// prepare runs prepare.sh with an aliyun that notes its arguments and then does
// what the script says.
func prepare(t *testing.T, script string, wantStatus int, more ...string) (calls [][]string, output string) {
	t.Helper()
	dir := t.TempDir()
	stub := "#!/bin/sh\nfor a in \"$@\"; do printf '%s\\0' \"$a\"; done >>\"$NOTES\"\nprintf '\\001' >>\"$NOTES\"\n" + script + "\n"
	for name, content := range map[string]string{"aliyun": stub, "notes": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(shell(t), "../infra/fc/prepare.sh")
	cmd.Env = append([]string{"PATH=" + dir + ":" + os.Getenv("PATH"), "NOTES=" + filepath.Join(dir, "notes")}, more...)
	for name, value := range exported {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	out, err := cmd.CombinedOutput()
	if status := cmd.ProcessState.ExitCode(); status != wantStatus {
		t.Fatalf("prepare.sh: status %d, want %d: %v\n%s", status, wantStatus, err, out)
	}
	for call := range strings.SplitSeq(contents(t, filepath.Join(dir, "notes")), "\x01") {
		calls = append(calls, strings.Split(call, "\x00"))
	}
	return calls, string(out)
}
