package functions_test

import (
	"slices"
	"testing"

	"github.com/ons-repush/ons-repush/functions/internal/config"
)

// together is what is wrong between the two functions of one deployment.
func together(repush, plan deployment) (wrong []string) {
	if repush.role == "" || repush.role == plan.role {
		wrong = append(wrong, "both have the role "+repush.role+": what reads could push")
	}
	for _, s := range config.Settings() {
		if s.Only == "" && repush.settings[s.Name] != plan.settings[s.Name] {
			wrong = append(wrong, s.Name+" is not the same for both")
		}
	}
	if len(plan.requests) == 0 {
		wrong = append(wrong, "requests of functions/plan go nowhere")
	}
	for _, place := range plan.requests {
		if !slices.ContainsFunc(repush.triggers, func(s source) bool { return s.enabled && s.from == place }) {
			wrong = append(wrong, "functions/repush does not read "+place+", where functions/plan sends requests")
		}
	}
	for _, s := range plan.triggers {
		reads := func(other source) bool {
			return other.from != "" && (other.from == s.from || other.from == s.deadLetter)
		}
		if slices.ContainsFunc(repush.triggers, reads) {
			wrong = append(wrong, s.name+": what is for functions/plan reaches functions/repush, which rejects it")
		}
	}
	return wrong
}

// both is the name of what [together] finds.
const both = "both functions fit together"

// checkBoth holds every rule for each function, and what is between them.
func checkBoth(t *testing.T, repush, plan deployment) {
	t.Helper()
	checkTruth(t, repush)
	checkTruth(t, plan)
	for _, w := range together(repush, plan) {
		t.Errorf("%s: %s", both, w)
	}
}

// allProblems are those of both functions, and what is between them.
func allProblems(repush, plan deployment) map[string][]string {
	found := repush.problems()
	for name, wrong := range plan.problems() {
		found[name] = append(found[name], wrong...)
	}
	if wrong := together(repush, plan); wrong != nil {
		found[both] = wrong
	}
	return found
}
