package main

import (
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events"
)

// planFlags are the texts of a plan on the command line.
var planFlags = [...]struct{ flag, field, byDefault, doc string }{
	{"instance", "instanceId", "", "instance id"},
	{"group", "groupId", "", "consumer group whose messages are looked for, and that shall get them"},
	{"source", "source", string(events.DeadLetters), "dead-letter, unconsumed, ids or key"},
	{"topic", "topic", "", "one topic; empty means all of the group; ids and key need it"},
	{"reason", "reason", "", "why, for the record"},
	{"from", "from", "", "stored, or dead, since then: RFC 3339, or an age such as 26h"},
	{"until", "to", "", "stored, or dead, until then"},
	{"ids", "ids", "", "message ids, comma-separated, or @FILE (@- for standard input)"},
	{"keys", "keys", "", "message keys, comma-separated, or @FILE"},
}

func addPlanFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	for _, p := range planFlags {
		f.String(p.flag, p.byDefault, p.doc)
	}
	f.Int("limit", 0, "at most so many messages; 0 means REPUSH_PLAN_LIMIT")
	f.Bool("again", false, "also what was pushed before, once more on purpose")
}

// planOf reads the flags of a plan by the rules of the contract, as requestOf those
// of a request. typed is what was typed: the same for the same command.
func planOf(cmd *cobra.Command) (asked events.Plan, typed []byte, err error) {
	f := cmd.Flags()
	again, _ := f.GetBool("again")
	going, _ := f.GetBool("go")
	fields := map[string]any{"again": again, "dryRun": !going}
	flagOf := map[string]string{"limit": "--limit"}
	if limit, _ := f.GetInt("limit"); f.Changed("limit") {
		fields["limit"] = limit
	}
	for _, p := range planFlags {
		flagOf[p.field] = "--" + p.flag
		text, _ := f.GetString(p.flag)
		switch {
		case text == "":
		case p.field == "ids" || p.field == "keys":
			if fields[p.field], err = listOf(cmd, text); err != nil {
				return asked, nil, err
			}
		default:
			fields[p.field] = text
		}
	}
	typed = encoded(fields)
	for _, field := range []string{"from", "to"} {
		text, _ := fields[field].(string)
		if age, err := time.ParseDuration(text); err == nil {
			fields[field] = time.Now().Add(-age).UTC().Truncate(time.Second)
		}
	}
	asked, err = events.DecodePlan(encoded(fields))
	return asked, typed, flagErrors(err, flagOf)
}

// listOf reads names from the command line or a file, where spaces and line feeds
// part them too.
func listOf(cmd *cobra.Command, text string) ([]string, error) {
	between := func(c rune) bool { return c == ',' }
	if name, isFile := strings.CutPrefix(text, "@"); isFile {
		raw, err := readFile(name, cmd.InOrStdin(), maxPayload)
		if err != nil {
			return nil, err
		}
		text, between = string(raw), func(c rune) bool { return c == ',' || unicode.IsSpace(c) }
	}
	return strings.FieldsFunc(text, between), nil
}

// flagErrors names the flags of the fields that break a rule; nil for nil.
func flagErrors(err error, flagOf map[string]string) error {
	var invalid *events.ValidationError
	if !errors.As(err, &invalid) {
		return err
	}
	var problems []string
	for _, p := range invalid.Problems {
		field, element, _ := strings.Cut(p.Field, ".")
		if n, err := strconv.Atoi(element); err == nil {
			element = " " + strconv.Itoa(n+1)
		}
		problems = append(problems, flagOf[field]+element+": "+strings.Replace(p.Rule, "from 1 to 1000", "from 2 to 1000", 1))
	}
	return usage(errors.New(strings.Join(problems, "; ")))
}
