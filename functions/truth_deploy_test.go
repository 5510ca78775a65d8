package functions_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/redis"
	"github.com/ons-repush/ons-repush/functions/internal/trigger"
)

// firstDeploy are the commands of the section of that name.
func firstDeploy(t *testing.T) []string {
	t.Helper()
	_, section, _ := strings.Cut(contents(t, "../infra/README.md"), "\n## First deploy\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var commands []string
	for line := range strings.Lines(section) {
		if command, is := strings.CutPrefix(line, "    "); is {
			commands = append(commands, strings.TrimSpace(command))
		}
	}
	if len(commands) == 0 || len(commands) > 6 {
		t.Fatalf("infra/README.md: %d commands to deploy, want 1 to 6", len(commands))
	}
	return commands
}

// shell is the shell of the commands, or the test is skipped.
func shell(t *testing.T) string {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		if os.Getenv("TEST_REQUIRE") == "all" {
			t.Fatal("there is no sh: install any POSIX shell")
		}
		t.Skip("there is no sh: install any POSIX shell")
	}
	return sh
}

// TestFirstDeploy goes through the README's commands as far as they go without
// a cloud: a shell reads them, files and resources are there, the five names
// are those of s.yaml, and our own command line takes its flags.
func TestFirstDeploy(t *testing.T) {
	t.Parallel()
	sh := shell(t)
	var file struct{ Vars, Resources map[string]any }
	if err := yaml.Unmarshal([]byte(contents(t, "../infra/fc/s.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	checked := make(map[string]bool)
	for _, command := range firstDeploy(t) {
		if out, err := exec.Command(sh, "-n", "-c", command).CombinedOutput(); err != nil {
			t.Errorf("%s: %s", command, out)
		}
		words := strings.Fields(command)
		checked[words[0]] = true
		switch words[0] {
		case "export":
			checkNames(t, words[1:], file.Vars)
		case "sh":
			if out, err := exec.Command(sh, "-n", filepath.Join("..", words[1])).CombinedOutput(); err != nil {
				t.Errorf("%s: %v %s", command, err, out)
			}
		case "s":
			if _, is := file.Resources[words[1]]; !is || words[2] != "deploy" || !strings.HasSuffix(command, "-t infra/fc/s.yaml") {
				t.Errorf("%s: s.yaml has no such resource, or another file is meant", command)
			}
		case "go":
			checkOwnCommand(t, sh, command)
		default:
			t.Errorf("%s: nothing checks this command", command)
		}
	}
	for _, word := range []string{"export", "sh", "s", "go"} {
		if !checked[word] {
			t.Errorf("no command begins with %s", word)
		}
	}
}

// checkNames: what is exported are the variables of s.yaml, with values that
// the shape of this test's own have.
func checkNames(t *testing.T, assignments []string, vars map[string]any) {
	t.Helper()
	given := make(map[string]string)
	for _, a := range assignments {
		name, value, _ := strings.Cut(a, "=")
		given[name] = value
	}
	for name, value := range vars {
		upper := strings.ToUpper(name)
		if given[upper] == "" || value != "${env('"+upper+"')}" {
			t.Errorf("s.yaml takes %s from %v, the README exports %v", name, value, given)
		}
	}
	if len(given) != len(vars) || len(given) > 5 {
		t.Errorf("the README exports %d names, s.yaml has %d; five at most", len(given), len(vars))
	}
}

// checkOwnCommand lets our command line parse its own flags and stop at the
// help: it fails for a subcommand or a flag that does not exist.
func checkOwnCommand(t *testing.T, sh, command string) {
	t.Helper()
	cmd := exec.Command(sh, "-c", command+" --help")
	cmd.Dir = ".."
	cmd.Env = os.Environ()
	for name, value := range exported {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "repush inject") {
		t.Errorf("%s: %v\n%s", command, err, out)
	}
}

// TestPrepare runs prepare.sh with a stand-in for the CLI: it makes every queue
// and bus that s.yaml names, the role the function takes, and policies with no
// name left open; what exists is left alone, and an error stops it.
func TestPrepare(t *testing.T) {
	t.Parallel()
	d, _ := loadServerlessDevs(contents(t, "../infra/fc/s.yaml"), contents(t, "../infra/ram/function.json"), "repush")
	calls, out := prepare(t, `case "$*" in *CreateRole*) echo EntityAlreadyExists.Role >&2; exit 1 ;; esac`, 0)
	made := make(map[string]bool)
	policies := 0
	for _, call := range calls {
		for i, word := range call {
			switch word {
			case "--QueueName":
				made["mns:queue/"+call[i+1]] = true
			case "--EventBusName":
				made["bus/"+call[i+1]] = true
			case "--PolicyDocument", "--AssumeRolePolicyDocument":
				policies++
				if !json.Valid([]byte(call[i+1])) || strings.Contains(call[i+1], "$") {
					t.Errorf("policy %s", call[i+1])
				}
			}
		}
	}
	wanted := slices.Clone(d.results)
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
	if policies != 3 || !strings.Contains(out, "CreateRole: exists already") {
		t.Errorf("%d policies; output %s", policies, out)
	}
	if role := regexp.MustCompile(`role: acs:ram::\S+:role/(\S+)`).FindStringSubmatch(contents(t, "../infra/fc/s.yaml")); role == nil ||
		!slices.ContainsFunc(calls, func(c []string) bool {
			return slices.Contains(c, "CreateRole") && slices.Contains(c, role[1])
		}) {
		t.Errorf("prepare.sh does not make the role %v", role)
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

// prepare runs prepare.sh with an aliyun that notes its arguments and then does
// what the script says.
func prepare(t *testing.T, script string, wantStatus int, more ...string) (calls [][]string, output string) {
	t.Helper()
	dir := t.TempDir()
	stub := "#!/bin/sh\nfor a in \"$@\"; do printf '%s\\0' \"$a\"; done >>\"$NOTES\"\nprintf '\\001' >>\"$NOTES\"\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, "aliyun"), []byte(stub), 0o755); err != nil {
		t.Fatal(err)
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

// TestRunbook: the operations that the documents send are operations, of the
// action that their file is named after, a shell reads the commands, what is
// exported for Redis is what s.yaml takes, and every code of Redis trouble is
// explained.
func TestRunbook(t *testing.T) {
	t.Parallel()
	file := regexp.MustCompile(`(?:--event-file |file://)(events/samples/valid/repush-operation-requested\.(\w+)\.json)`)
	inline := regexp.MustCompile(`-e '(.*)'`)
	runbook := contents(t, "../infra/README.md")
	sent := make(map[string]bool)
	for _, text := range []string{runbook, contents(t, awsReadme)} {
		bodies := make(map[string]string) // by action
		for _, m := range file.FindAllStringSubmatch(text, -1) {
			bodies[m[2]] = contents(t, "../"+m[1])
		}
		for _, m := range inline.FindAllStringSubmatch(text, -1) {
			bodies["pause"] = m[1]
		}
		for action, body := range bodies {
			all := trigger.Decode([]byte(body), trigger.Options{}).Deliveries
			if len(all) != 1 || all[0].Operation == nil || string(all[0].Operation.Action) != action {
				t.Errorf("%s: %s is read as %+v", action, body, all)
			}
			sent[action] = true
		}
		if bodies["stop"] == "" {
			t.Error("nothing says how to stop")
		}
	}
	var names []string
	for _, command := range regexp.MustCompile(`(?m)^    (export|sh|s) .*$`).FindAllString(runbook, -1) {
		if out, err := exec.Command(shell(t), "-n", "-c", command).CombinedOutput(); err != nil {
			t.Errorf("%s: %s", command, out)
		}
		if strings.Contains(command, "REPUSH_STATE") {
			for _, m := range regexp.MustCompile(` ([A-Z_]+)=`).FindAllStringSubmatch(command, -1) {
				names = append(names, m[1])
			}
		}
	}
	if slices.Sort(names); !slices.Equal(names, slices.Sorted(maps.Keys(shared))) {
		t.Errorf("the README exports %v for Redis, s.yaml takes %v", names, shared)
	}
	if !sent["pause"] || !sent["describe"] {
		t.Errorf("only %v", sent)
	}
	for _, code := range []string{
		"LedgerUnavailable", "LimiterUnavailable", "LedgerYoung", pushing.CodeBreaker, pushing.CodeStopped, pushing.CodePaused,
		redis.StateReadOnly, redis.StateFull, redis.StateDenied, redis.StateLoading, redis.StateEvicting, redis.StateTooOld,
	} {
		if !strings.Contains(runbook, "`"+code+"`") {
			t.Errorf("infra/README.md does not explain %s", code)
		}
	}
}

// TestPackage: s.yaml takes the zip that build.sh makes.
func TestPackage(t *testing.T) {
	t.Parallel()
	code := regexp.MustCompile(`code: (\S+)`).FindStringSubmatch(contents(t, "../infra/fc/s.yaml"))
	if code == nil {
		t.Fatal("s.yaml names no code")
	}
	pattern := strings.NewReplacer("<function>", "repush", "<os>", "linux", "<arch>", "amd64").Replace(contents(t, "../scripts/build.sh"))
	if zip := filepath.Join("infra/fc", code[1]); !strings.Contains(pattern, " "+zip) {
		t.Errorf("s.yaml takes %s, build.sh makes:\n%s", zip, pattern)
	}
}
