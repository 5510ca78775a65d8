package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/infra/local/fcd"
)

type pushOptions struct{ localFlags }

func newPush() *cobra.Command {
	var o pushOptions
	cmd := &cobra.Command{
		Use:   "push --instance ID --topic NAME --group GID --msg ID --reason TEXT",
		Short: "Push one message again from this machine, nothing deployed",
		Long: `Push one message again: run the real function binary as a child process on this
machine against the ONS OpenAPI (or --ons URL), print what became of it, and end.

Credentials come from the environment (ALIBABA_CLOUD_ACCESS_KEY_ID, …_SECRET,
ALIBABA_CLOUD_SECURITY_TOKEN), else from the profile of the Alibaba Cloud CLI
(~/.aliyun/config.json), else from ~/.alibabacloud/credentials, never from flags.
The REPUSH_… settings of this environment hold; without REPUSH_ALLOW the run may
push the one instance, group and topic named and nothing else.

The ledger is a file that lasts (see --state), for one command at a time. The same
command twice pushes once: the second answers duplicate (exit status 3 if the first
ended as unknown). --again pushes once more on purpose, as the generation that the
ledger says is next. What was rejected, failed or was not decided may be asked for
again by the same command, and is never pushed later by itself. A push that was
interrupted ends as unknown.`,
		Example: `  repush push --instance MQ_INST_1380156306793859_BbXbx0Y4 --topic orders \
    --group GID_billing --msg C000021112CD18B4AAC26E1A0B570001 \
    --reason "consumer was down over night" --region cn-hangzhou --dry-run
  repush push --instance MQ_INST_1380156306793859_BbXbx0Y4 --topic orders \
    --group GID_billing --msg C000021112CD18B4AAC26E1A0B570001 \
    --reason "the first copy was lost" --region cn-hangzhou --again`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	addRequestFlags(cmd, "the next one, by the ledger")
	o.add(cmd, pushLedger)
	return cmd
}

func (o pushOptions) run(cmd *cobra.Command) error {
	ctx, say := cmd.Context(), notes(cmd.ErrOrStderr())
	asked, err := requestOf(cmd)
	if err != nil {
		return err
	}
	keys, err := o.complete(ctx, pushLedger)
	if err != nil {
		return err
	}
	collected := new(results)
	f, end, err := o.start(cmd, repushFunction, asked.InstanceID+"/"+asked.GroupID+"/"+asked.Topic, collected, o.environment(keys)...)
	switch {
	case err != nil && ctx.Err() != nil:
		return errors.New("interrupted: nothing was pushed")
	case err != nil:
		return err
	}
	defer end()
	asked.NotAfter = time.Now().Add(o.timeout).UTC() // what is left undecided is never pushed by itself
	if again, _ := cmd.Flags().GetString("again"); again == nextGeneration {
		if asked.Generation, err = generationAfter(ctx, f, asked); err != nil {
			return fmt.Errorf("nothing was pushed: --again: %w", err)
		}
	}
	if asked.Generation > 0 {
		say("asking for generation %d", asked.Generation)
	}
	return o.push(ctx, f, collected, asked, cmd.OutOrStdout())
}

// generationAfter is the one after the last that was pushed or may have been. One
// that was begun and has no end is asked for once more, so that nothing is pushed
// before that one is settled.
func generationAfter(ctx context.Context, f *fcd.Function, asked events.Requested) (int, error) {
	payload := encoded(operationEvent("push", events.Operation{
		Action: events.Status, InstanceID: asked.InstanceID, Topic: asked.Topic, GroupID: asked.GroupID, MsgID: asked.MsgID,
	}))
	response, err := f.Invoke(ctx, payload)
	said := read(response.Payload)
	var status standing
	if err == nil && len(said.Results) > 0 {
		_ = json.Unmarshal(said.Results[0].Report, &status) // what cannot be read has no history
	}
	if status.History == nil {
		return 0, cmp.Or(err, errors.New("the ledger does not tell what was pushed before: "+said.reason()))
	}
	next := 2
	for _, past := range status.History.Requests {
		if past.Outcome.Closes() {
			next = max(next, past.Generation+1)
		}
	}
	return next, nil
}

// push hands the request to the function and prints what became of it. The result
// event counts even when the answer got lost.
func (o pushOptions) push(ctx context.Context, f *fcd.Function, collected *results, asked events.Requested, out io.Writer) error {
	event := pushEvent(asked)
	response, err := f.Invoke(ctx, encoded(event))
	err = errors.Join(err, f.Stop(context.WithoutCancel(ctx)))
	all, completed := collected.all()
	switch {
	case len(all) == 0 && ctx.Err() != nil:
		return errors.New("interrupted: the message may have been pushed")
	case len(all) == 0 && err != nil:
		return err
	}
	if err = verdict(response, completed); len(all) == 0 {
		err = errPartial
	}
	if o.json {
		return errors.Join(err, invocationOf(response, all).print(out, true))
	}
	printPushed(out, event.ID, response, completed)
	return err
}

// printPushed shows every result: beside that of the request, the one of a push
// that was interrupted before.
func printPushed(out io.Writer, id string, response fcd.Response, completed []events.Completed) {
	out = printableLines(out)
	said := read(response.Payload)
	open := events.Completed{
		Outcome: "no result, the message may have been pushed", Request: events.RequestRef{ID: id},
		Message: cmp.Or(said.reason(), "no reason given"), Hint: "the same command tells, once the ledger knows",
	}
	undecided := said.Deferred > 0 || response.FunctionError == "GivenBack" // the function's word for what it did not decide
	decided := slices.ContainsFunc(completed, func(c events.Completed) bool { return c.Request.ID == id })
	switch {
	case undecided && decided:
		open.Outcome, open.Hint = "the result has not reached every sink", ""
	case undecided:
		open.Outcome, open.Hint = "not decided, nothing was pushed by this command", "the same command asks again; this request is not pushed later"
	}
	if undecided || !decided {
		completed = append(completed, open)
	}
	for _, c := range completed {
		fmt.Fprintln(out, c.Outcome)
		for _, line := range [][2]string{
			{"request", c.Request.ID}, {"code", c.Code}, {"message", c.Message}, {"next", c.Hint}, {"client", c.ClientID}, {"API request", c.RequestID},
		} {
			if line[1] != "" {
				fmt.Fprintf(out, "  %-11s  %s\n", line[0], line[1])
			}
		}
	}
}

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
	fields := map[string]any{"priority": events.PriorityHuman, "dryRun": dryRun, "requestedBy": operator()}
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
	asked, err := events.DecodeRequested(encoded(fields))
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

// pushEvent is of one message. Its id is new every time, as an id is answered by its first
// outcome for ever: the ledger knows the message by its generation, which what was pushed,
// or may have been, closes, and what was rejected or failed may be tried again.
func pushEvent(asked events.Requested) events.Event {
	return newEvent("push", "push", events.TypeMessageRequested, asked)
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
