package functions_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/ons-repush/ons-repush/functions/internal/config"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
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

// TestRunbook: the operations that the documents send are operations, of the
// action that their file is named after, a shell reads the commands, what is
// exported for Redis is what s.yaml takes, and every code of Redis trouble, and
// of plans that wait for somebody, is explained.
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
		planning.CodeNoClient, planning.CodeBudget, planning.CodeHalted, planning.CodeLag, planning.CodeGoesOn, planning.CodeInProgress,
		redis.StateReadOnly, redis.StateFull, redis.StateDenied, redis.StateLoading, redis.StateEvicting, redis.StateTooOld,
	} {
		if !strings.Contains(runbook, "`"+code+"`") {
			t.Errorf("infra/README.md does not explain %s", code)
		}
	}
}

// TestPackage: s.yaml takes the zips that build.sh makes.
func TestPackage(t *testing.T) {
	t.Parallel()
	made := make(map[string]bool)
	for _, function := range []string{config.Repush, config.Plan} {
		pattern := strings.NewReplacer("<function>", function, "<os>", "linux", "<arch>", "amd64").Replace(contents(t, "../scripts/build.sh"))
		for _, zip := range strings.FieldsFunc(pattern, func(r rune) bool { return strings.ContainsRune(" ,\n", r) }) {
			made[zip] = true
		}
	}
	codes := regexp.MustCompile(`code: (\S+\.zip)`).FindAllStringSubmatch(contents(t, "../infra/fc/s.yaml"), -1)
	if len(codes) != 2 || codes[0][1] == codes[1][1] {
		t.Fatalf("s.yaml names the code %v, want one for each function", codes)
	}
	for _, code := range codes {
		if zip := filepath.Join("infra/fc", code[1]); !made[zip] {
			t.Errorf("s.yaml takes %s, build.sh makes %v", zip, made)
		}
	}
}
