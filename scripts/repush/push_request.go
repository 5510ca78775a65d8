package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events"
)

// requestFlags are the texts of a request on the command line.
var requestFlags = [...]struct{ flag, field, doc string }{
	{"instance", "instanceId", "instance id of the message"},
	{"topic", "topic", "its original topic"},
	{"group", "groupId", "consumer group that shall get it"},
	{"msg", "msgId", "message id"},
	{"reason", "reason", "why, for the record"},
	{"client", "clientId", "client id to push to; empty means any that is online"},
	{"stored-at", "storedAt", "when the broker stored it (RFC 3339): what is too old to exist is not tried"},
}

// nextGeneration is what --again says without a number.
const nextGeneration = "next"

// addRequestFlags declares them; alone says what --again means without a number.
func addRequestFlags(cmd *cobra.Command, alone string) {
	f := cmd.Flags()
	for _, r := range requestFlags {
		f.String(r.flag, "", r.doc)
	}
	f.String("again", "", "push once more on purpose, as generation `N` (written --again=N; --again alone: "+alone+")")
	f.Lookup("again").NoOptDefVal = nextGeneration
	f.Bool("dry-run", false, "look everything up and push nothing")
}

// requestOf reads the flags of a request by the rules of the contract; the error
// names every flag that breaks one. The generation of --again alone is 2.
func requestOf(cmd *cobra.Command) (events.Requested, error) {
	f := cmd.Flags()
	again, _ := f.GetString("again")
	dryRun, _ := f.GetBool("dry-run")
	fields := map[string]any{"priority": events.PriorityHuman, "dryRun": dryRun}
	flagOf := map[string]string{"generation": "--again"}
	readTexts(cmd, fields, flagOf)
	switch generation, _ := strconv.Atoi(again); {
	case again == nextGeneration:
		fields["generation"] = 2
	case generation == 1: // the first push is not "again"
		fields["generation"] = 0
	case f.Changed("again"):
		fields["generation"] = generation
	}
	raw, _ := json.Marshal(fields) // cannot fail
	asked, err := events.DecodeRequested(raw)
	return asked, flagErrors(err, flagOf)
}

// readTexts reads those of requestFlags that the command has, and says which flag a
// field is of.
func readTexts(cmd *cobra.Command, fields map[string]any, flagOf map[string]string) {
	for _, r := range requestFlags {
		flagOf[r.field] = "--" + r.flag
		if text, _ := cmd.Flags().GetString(r.flag); text != "" {
			fields[r.field] = text
		}
	}
}

// wrap makes the event of what by asks for. Its id follows from the request: sent
// again it is the same request, unless its generation or reason is another.
func wrap(asked events.Requested, by string, now time.Time) (events.Event, error) {
	if asked.RequestedBy == "" {
		asked.RequestedBy = by
	}
	data, err := json.Marshal(asked)
	sum := sha256.Sum256(data)
	return events.Event{
		ID: "push-" + hex.EncodeToString(sum[:16]), Source: "repush/push/" + by, Type: events.TypeMessageRequested,
		Time: now.UTC().Truncate(time.Second), Data: data,
	}, err
}

// operator is who sits at the keyboard, as far as this machine knows.
func operator() string {
	u, err := user.Current()
	if err != nil || u.Username == "" {
		return "unknown"
	}
	return strings.ToValidUTF8(u.Username[:min(len(u.Username), 64)], "_")
}

// usage marks an error of the command line.
func usage(err error) error { return fmt.Errorf("%w%w", errUsage, err) }

// noArgs says how the number of --again is written, which looks like an argument
// otherwise.
func noArgs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected argument %q (a number is written --again=N)", args[0])
	}
	return nil
}
