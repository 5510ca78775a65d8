package main

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events"
)

// complete lets a shell fill in what can be known: kinds of targets, values that are
// a choice, and runs. What is a file stays the shell's.
func complete(root *cobra.Command) {
	const more = cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
	for _, cmd := range root.Commands() {
		for flag, choice := range map[string]struct {
			values    []cobra.Completion
			directive cobra.ShellCompDirective
		}{
			"to":      {targets(cmd), more},
			"at":      {[]cobra.Completion{"fc://", "fc2://", "https://"}, more},
			"source":  {[]cobra.Completion{string(events.DeadLetters), string(events.Unconsumed), string(events.ByIDs), string(events.ByKeys)}, cobra.ShellCompDirectiveNoFileComp},
			"runtime": {[]cobra.Completion{"fc", "fc-custom", "http", "lambda"}, cobra.ShellCompDirectiveNoFileComp},
		} {
			if cmd.Flags().Lookup(flag) != nil {
				_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(choice.values, choice.directive)) // fails when there is one already
			}
		}
		if cmd.Name() == "resume" || cmd.Name() == "report" {
			cmd.ValidArgsFunction = runs
		}
	}
}

func targets(cmd *cobra.Command) []cobra.Completion {
	kinds := []cobra.Completion{"fc://", "fc2://", "https://"}
	switch cmd.Name() {
	case "inject":
		return append(kinds, toLocal, "eventbridge://", "mns://")
	case "plan":
		return append(kinds, "eventbridge://", "mns://")
	}
	return kinds
}

// runs are the ids of those that this machine knows, beside files.
func runs(*cobra.Command, []string, string) (ids []cobra.Completion, directive cobra.ShellCompDirective) {
	found, _ := filepath.Glob(filepath.Join(defaultLedger("runs"), "*.jsonl")) // the pattern is well formed
	for _, path := range found {
		name := strings.TrimSuffix(filepath.Base(path), ".jsonl")
		if i := strings.LastIndex(name, "-"); i > 0 { // what comes behind it is the fingerprint
			ids = append(ids, name[:i])
		}
	}
	return ids, cobra.ShellCompDirectiveDefault
}
