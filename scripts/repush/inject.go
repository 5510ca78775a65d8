package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events"
)

// targetOptions name a target, and how it is spoken to.
type targetOptions struct {
	to, account, region, endpoint string
	timeout                       time.Duration
	async, json, logs             bool
	dry                           bool // nothing will be sent: no credentials are looked for
}

// addTarget declares the flags that name a target but its region.
func (o *targetOptions) addTarget(cmd *cobra.Command, doc string) {
	f := cmd.Flags()
	f.StringVar(&o.to, "to", "", doc)
	f.StringVar(&o.account, "account", os.Getenv("ALIBABA_CLOUD_ACCOUNT_ID"), "account id; by default ALIBABA_CLOUD_ACCOUNT_ID")
	f.StringVar(&o.endpoint, "endpoint", "", "another host of the target: https, or http to loopback")
}

func (o *targetOptions) addRegion(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.region, "region", cmp.Or(os.Getenv("REPUSH_REGION"), os.Getenv("ALIBABA_CLOUD_REGION_ID")), "region; by default REPUSH_REGION or ALIBABA_CLOUD_REGION_ID")
}

func newInject() *cobra.Command {
	var o bulkOptions
	cmd := &cobra.Command{
		Use:   "inject [FILE…|-] --to TARGET --reason TEXT [--go]",
		Short: "Ask for the pushes of many messages, or of one",
		Long: `Ask for the pushes of the messages in FILEs (- is standard input): CSV with a header,
JSON Lines, a JSON array, CloudEvents, or a manifest of plan -o. Columns and fields
are those of repush:Message:Requested: instanceId, topic, groupId, msgId, storedAt …;
--instance, --topic, --group and --client fill in what a row leaves empty, --reason
where it gives none. CloudEvents are sent as they are.

Everything is checked first, and everything that is wrong is named with its line; then
nothing is sent. What is right is summed up: how many, of which groups, how long it
takes at the quota (--qps), what will expire before its turn. Nothing is sent without
--go (TARGET is looked at for its form alone then); more than 20 messages are asked
about first, unless --yes.

TARGET is one of
  local                                     the function, run on this machine against the
                                            ONS OpenAPI, with the ledger of push
  https://…                                 a CloudEvents receiver, such as the HTTP
                                            address of the function; bearer token from
                                            REPUSH_HTTP_TOKEN; http to loopback only
  fc://FUNCTION[?qualifier=ALIAS]           Function Compute 3.0, of --account or
                                            ALIBABA_CLOUD_ACCOUNT_ID
  fc2://SERVICE/FUNCTION[?qualifier=ALIAS]  Function Compute 2.0, one at a time
  eventbridge://BUS                         an EventBridge bus
  mns://QUEUE, mns://topics/TOPIC           an MNS (SMQ) queue or topic

A function answers with the outcome: as many are under way as keep the quota busy. With
--async, and from a bus or a queue, all that is known is that the request was handed
over. What the function parks or gives back is asked about again, until --wait is over.

Each step is written to a state file, in $XDG_STATE_HOME/ons-repush/runs or
~/.local/state/ons-repush/runs. Ctrl-C stops asking, waits for what is under way
and says how to go on with 'repush resume'; a second Ctrl-C leaves at once and names
what is in doubt. A message is asked for under one event id, so that asking once more
is the same request: the function's ledger answers it, as long as it lasts.

Without FILE one message is named by flags, and sent at once. The same command twice
pushes once: what the function's ledger knows as pushed is a duplicate, and so is what
may have been pushed (unknown), with exit status 3; what was rejected or failed is tried
anew, for its cause may be mended.

Exit status: 0 all handed over or answered well, 1 nothing was handed over,
3 in between.`,
		Example: `  repush inject stuck.csv --to fc://repush --region cn-hangzhou --reason "ticket 4711"
  repush inject stuck.csv --to fc://repush --region cn-hangzhou --reason "ticket 4711" --go --report report.html
  repush inject manifest.json --to local --region cn-hangzhou --reason "ticket 4711" --go --yes
  repush inject --instance MQ_INST_1380156306793859_BbXbx0Y4 --topic orders \
    --group GID_billing --msg C000021112CD18B4AAC26E1A0B570001 --reason "ticket 4711" \
    --to fc://repush --region cn-hangzhou --logs`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return o.inject(cmd, args)
			}
			return o.one(cmd)
		},
	}
	addRequestFlags(cmd, "2")
	o.addTarget(cmd, "target")
	o.addRegion(cmd)
	o.addBulk(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.async, "async", false, "fc and fc2: leave it to the function's queue, which takes an event once")
	f.BoolVar(&o.logs, "logs", false, "fc, fc2 and local: show the function's log")
	f.DurationVar(&o.timeout, "timeout", time.Minute, "how long one request may take")
	f.BoolVar(&o.json, "json", false, "print one JSON object; with --go one for each outcome, as JSON Lines")
	return cmd
}

func (o bulkOptions) one(cmd *cobra.Command) error {
	switch {
	case o.to == toLocal:
		return usage(errors.New("--to local: takes a FILE; one message is pushed from this machine by 'repush push'"))
	case o.report != "":
		return usage(errors.New("--report: is of a FILE: of one message all is printed"))
	}
	asked, err := requestOf(cmd)
	if err != nil {
		return err
	}
	return o.send(cmd, []events.Event{pushEvent(asked)})
}

// send sends a few events, one after the other, and prints what became of them.
func (o targetOptions) send(cmd *cobra.Command, batch []events.Event) error {
	send, err := o.open(cmd.Context())
	if err != nil {
		return err
	}
	all := send(cmd.Context(), batch)
	well, taken := true, false
	for _, d := range all {
		showLog(cmd.ErrOrStderr(), d)
		well = well && d.well()
		taken = taken || d.Status != refused && d.Status != notSent
	}
	if err := printDeliveries(cmd.OutOrStdout(), all, o.json); err != nil || well {
		return err
	}
	if taken {
		return errPartial
	}
	return fmt.Errorf("nothing was handed over: %s", all[0].Message)
}

func showLog(to io.Writer, d delivery) {
	if d.log != "" {
		fmt.Fprintf(to, "the end of the log of %s:\n%s\n", d.EventID, strings.TrimSpace(d.log))
	}
}

func printDeliveries(out io.Writer, all []delivery, asObject bool) error {
	if asObject {
		return indented(out).Encode(map[string]any{"deliveries": all})
	}
	w := tabwriter.NewWriter(printableLines(out), 0, 0, 2, ' ', 0)
	for _, d := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\n", printable(d.EventID), cmp.Or(string(d.Outcome), string(d.Status)), d.Message)
		if d.Status == unanswered || d.Status == givenBack {
			d.Hint = "the same command asks again; the function's ledger knows what was done"
		}
		if d.Hint != "" {
			fmt.Fprintf(w, "\tnext\t%s\n", d.Hint)
		}
	}
	return w.Flush()
}
