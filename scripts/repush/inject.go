package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/events/sink"
)

type injectOptions struct {
	to, account, region, endpoint string
	timeout                       time.Duration
	async, json, logs             bool
}

func newInject() *cobra.Command {
	var o injectOptions
	cmd := &cobra.Command{
		Use:   "inject [FILE|-] --to TARGET",
		Short: "Send requests to a deployed function, a bus or a queue",
		Long: `Send requests to a deployed function, a bus or a queue: one event, an array or
JSON Lines from FILE, at most 100, or one made of --instance, --topic, --group,
--msg and --reason as push makes it. Nothing is sent before all are found right.

TARGET is one of
  https://…                                 a CloudEvents receiver, such as the HTTP
                                            address of the function; bearer token from
                                            REPUSH_HTTP_TOKEN; http to loopback only
  fc://FUNCTION[?qualifier=ALIAS]           Function Compute 3.0
  fc2://SERVICE/FUNCTION[?qualifier=ALIAS]  Function Compute 2.0
  eventbridge://BUS                         an EventBridge bus
  mns://QUEUE, mns://topics/TOPIC           an MNS (SMQ) queue or topic

A function answers with the outcome. With --async, and from a bus or a queue, all
that is known is that the event was handed over. Sending an event again is the
same request, for its id decides. Credentials as for push.

Exit status: 0 all handed over or answered well, 1 nothing was handed over,
3 in between.`,
		Example: `  repush inject event.json --to fc://repush --region cn-hangzhou --logs
  repush inject events.jsonl --to fc://repush --async`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			batch, err := requestsOf(cmd, args)
			if err != nil {
				return err
			}
			return o.run(cmd, batch)
		},
	}
	addRequestFlags(cmd, "2")
	o.addTarget(cmd, "target")
	f := cmd.Flags()
	f.BoolVar(&o.async, "async", false, "fc and fc2: leave it to the function's queue, which takes an event once")
	f.BoolVar(&o.logs, "logs", false, "fc and fc2: show the end of the function's log")
	f.StringVar(&o.region, "region", cmp.Or(os.Getenv("REPUSH_REGION"), os.Getenv("ALIBABA_CLOUD_REGION_ID")), "region; by default REPUSH_REGION or ALIBABA_CLOUD_REGION_ID")
	f.DurationVar(&o.timeout, "timeout", time.Minute, "how long one event may take")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	return cmd
}

// addTarget declares the flags that name a target but its region.
func (o *injectOptions) addTarget(cmd *cobra.Command, doc string) {
	f := cmd.Flags()
	f.StringVar(&o.to, "to", "", doc)
	f.StringVar(&o.account, "account", os.Getenv("ALIBABA_CLOUD_ACCOUNT_ID"), "account id; by default ALIBABA_CLOUD_ACCOUNT_ID")
	f.StringVar(&o.endpoint, "endpoint", "", "another host of the target: https, or http to loopback")
}

// requestsOf are the events of the file, or the one of the flags.
func requestsOf(cmd *cobra.Command, args []string) ([]events.Event, error) {
	if len(args) == 0 {
		asked, err := requestOf(cmd)
		if err != nil {
			return nil, err
		}
		e, err := wrap(asked, operator(), time.Now())
		return []events.Event{e}, err
	}
	given := cmd.Flags().Changed("again") || cmd.Flags().Changed("dry-run")
	for _, r := range requestFlags {
		given = given || cmd.Flags().Changed(r.flag)
	}
	if given {
		return nil, usage(errors.New("give a FILE or the flags of one message, not both (a number is written --again=N)"))
	}
	raw, err := readFile(args[0], cmd.InOrStdin())
	if err != nil {
		return nil, err
	}
	return readRequests(raw, operator(), time.Now())
}

func (o injectOptions) run(cmd *cobra.Command, batch []events.Event) error {
	send, err := o.open(cmd.Context())
	if err != nil {
		return err
	}
	all := send(cmd.Context(), batch)
	well, taken := true, false
	for _, d := range all {
		if d.log != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "the end of the log of %s:\n%s\n", d.EventID, strings.TrimSpace(d.log))
		}
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

func printDeliveries(out io.Writer, all []delivery, asObject bool) error {
	if asObject {
		return indented(out).Encode(map[string]any{"deliveries": all})
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, d := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\n", d.EventID, cmp.Or(string(d.Outcome), string(d.Status)), d.Message)
	}
	return w.Flush()
}

var (
	fcTarget  = regexp.MustCompile(`^(?:([A-Za-z_][\w-]*)/)?([A-Za-z_][\w$-]*)(?:\?qualifier=([\w.-]+))?$`)
	fcAccount = regexp.MustCompile(`^[0-9]+\.[a-z0-9-]+$`)
)

// open checks the target and asks for credentials where calls are signed.
func (o injectOptions) open(ctx context.Context) (target, error) {
	kind, rest, _ := strings.Cut(o.to, "://")
	wrong := func(err error) (target, error) { return nil, usage(fmt.Errorf("--to: %w", err)) }
	parts := fcTarget.FindStringSubmatch(rest)
	f := fcFunction{scheme: "https", host: o.account + "." + o.region + ".fc.aliyuncs.com", account: o.account, async: o.async, logs: o.logs}
	var err error
	if o.endpoint != "" {
		if f.scheme, f.host, err = endpoint(o.endpoint); err != nil {
			return nil, usage(fmt.Errorf("--endpoint: %w", err))
		}
	}
	isFC := kind == "fc" || kind == "fc2"
	switch {
	case isFC && (parts == nil || (parts[1] == "") != (kind == "fc")):
		return wrong(errors.New("write fc://FUNCTION or fc2://SERVICE/FUNCTION, and ?qualifier=ALIAS behind it"))
	case isFC && o.endpoint == "" && !fcAccount.MatchString(o.account+"."+o.region):
		return wrong(errors.New("needs --account and --region (or ALIBABA_CLOUD_ACCOUNT_ID and REPUSH_REGION), or --endpoint"))
	case !isFC && (o.async || o.logs):
		return wrong(errors.New("--async and --logs are for fc:// and fc2:// alone"))
	case kind == "http" || kind == "https":
		t, err := openHTTP(o.to, os.Getenv("REPUSH_HTTP_TOKEN"), o.timeout)
		if err != nil || o.endpoint != "" {
			return wrong(cmp.Or(err, errors.New("is an address itself: --endpoint does not go with it")))
		}
		return t, nil
	case !isFC && kind != "eventbridge" && kind != "mns":
		return wrong(errors.New("must be https://…, fc://FUNCTION, fc2://SERVICE/FUNCTION, eventbridge://BUS or mns://QUEUE"))
	}
	if f.keys, err = operatorCredentials(ctx); err != nil {
		return nil, err
	}
	if !isFC {
		return o.openSink(kind, rest, f.host, f.keys)
	}
	f.service, f.function, f.qualifier = parts[1], parts[2], parts[3]
	if kind == "fc2" {
		return inTurn(o.timeout, f.keys, f.invokeV2), nil
	}
	return inTurn(o.timeout, f.keys, f.invokeV3), nil
}

// openSink leaves the rest to events/sink. host counts only with --endpoint.
func (o injectOptions) openSink(kind, rest, host string, keys sink.Credentials) (target, error) {
	if o.endpoint != "" {
		if kind == "mns" && !strings.Contains(rest, "/") {
			rest = "queues/" + rest
		}
		rest = host + "/" + rest
	}
	s, err := sink.Open([]string{kind + "://" + rest}, sink.Options{
		Region: o.region, AccountID: o.account,
		Credentials: func(context.Context) (sink.Credentials, error) { return keys, nil },
	})
	if err != nil {
		return nil, usage(fmt.Errorf("--to: %w", err))
	}
	return toSink(s, o.timeout, keys), nil
}

// maxInjected bounds the events of one inject.
const maxInjected = 100

// readRequests reads one event, an array of events or JSON Lines; an event is a
// CloudEvent, or the data of a request alone, which is wrapped as flags are. All
// of them are right, or the error lists every problem with its place.
func readRequests(raw []byte, by string, now time.Time) ([]events.Event, error) {
	parts, places, err := split(raw)
	var batch []events.Event
	var problems []string
	seen := make(map[[2]string]string)
	for i, part := range parts {
		e, err := readRequest(part, by, now)
		first := seen[[2]string{e.Source, e.ID}]
		switch {
		case err != nil:
			problems = append(problems, places[i]+": "+err.Error())
		case first != "":
			problems = append(problems, places[i]+": the same source and id as "+first)
		default:
			seen[[2]string{e.Source, e.ID}] = places[i]
			batch = append(batch, e)
		}
	}
	if problems != nil {
		err = fmt.Errorf("%d of %d events are wrong\n  %s", len(problems), len(parts), strings.Join(problems, "\n  "))
	}
	if err != nil {
		return nil, fmt.Errorf("nothing was sent: %w", err)
	}
	return batch, nil
}

// split takes the input apart and names each part.
func split(raw []byte) (parts []json.RawMessage, places []string, err error) {
	text := bytes.TrimSpace(bytes.TrimPrefix(raw, []byte("\ufeff")))
	firstLine, _, several := bytes.Cut(text, []byte("\n"))
	switch {
	case bytes.HasPrefix(text, []byte("[")):
		parts, err = events.Elements(text, maxInjected)
		for i := range parts {
			places = append(places, fmt.Sprintf("event %d", i+1))
		}
	case several && json.Valid(firstLine):
		number := bytes.Count(raw[:bytes.Index(raw, firstLine)], []byte("\n"))
		for line := range bytes.Lines(text) {
			number++
			if line = bytes.TrimSpace(line); len(line) > 0 {
				parts, places = append(parts, line), append(places, fmt.Sprintf("line %d", number))
			}
		}
	case len(text) > 0:
		parts, places = []json.RawMessage{text}, []string{"the event"}
	}
	if err == nil && (len(parts) == 0 || len(parts) > maxInjected) {
		return nil, nil, fmt.Errorf("%d events, must be 1 to %d", len(parts), maxInjected)
	}
	return parts, places, err
}

func readRequest(raw json.RawMessage, by string, now time.Time) (events.Event, error) {
	if len(raw) > events.MaxEventBytes {
		return events.Event{}, events.ErrTooLarge
	}
	members, err := events.Members(raw)
	if err != nil {
		return events.Event{}, err
	}
	if events.LooksRequested(members) {
		asked, err := events.DecodeRequested(raw)
		if err != nil {
			return events.Event{}, err
		}
		return wrap(asked, by, now)
	}
	e, err := events.FromMembers(members)
	switch {
	case err != nil:
	case e.Type == events.TypeMessageRequested:
		_, err = events.DecodeRequested(e.Data)
	case e.Type == events.TypePlanRequested:
		_, err = events.DecodePlan(e.Data)
	default:
		err = fmt.Errorf("type: must be %s, or %s to functions/plan", events.TypeMessageRequested, events.TypePlanRequested)
	}
	return e, err
}
