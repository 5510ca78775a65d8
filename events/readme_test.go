package events

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestReadme: the events in the README are valid, one of each type that others
// send, and every field, outcome, action and selection is named.
func TestReadme(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	readme := string(raw)
	var shown []string
	for _, rest := range strings.Split(readme, "```json\n")[1:] {
		event, _, _ := strings.Cut(rest, "```")
		e, err := Decode([]byte(event))
		if err == nil {
			_, _, err = decodeAll(e.Type, []byte(event))
		}
		if err != nil {
			t.Errorf("an event in the README is refused: %v\n%s", err, event)
		}
		shown = append(shown, e.Type)
	}
	if diff := cmp.Diff([]string{TypeMessageRequested, TypeSweepRequested, TypeOperationRequested, TypePlanRequested}, shown); diff != "" {
		t.Errorf("events in the README (-want +got):\n%s", diff)
	}
	checked := 0
	for name, o := range objects(t) {
		if name == "envelope" {
			continue
		}
		for _, r := range o.rows {
			checked++
			if !strings.Contains(readme, "`"+r.name+"`") {
				t.Errorf("%s.%s is not in the README", name, r.name)
			}
		}
	}
	for _, o := range Outcomes() {
		checked++
		if !strings.Contains(readme, "`"+string(o)+"`") {
			t.Errorf("outcome %s is not in the README", o)
		}
	}
	for _, word := range slices.Concat(actionRule.oneOf, selectionRule.oneOf) {
		checked++
		if !strings.Contains(readme, "`"+word+"`") {
			t.Errorf("action or selection %s is not in the README", word)
		}
	}
	if checked == 0 {
		t.Error("nothing to look for")
	}
}
