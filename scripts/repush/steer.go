package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events"
)

// steering are the commands about work that a function has under way, and what
// each does.
var steering = [...]struct {
	action  events.Action
	subject string // what it may be about, beside everything
	doc     string
}{
	{events.Stop, "", "Stop all pushing, until start"},
	{events.Start, "", "Go on after stop"},
	{events.Pause, "OPERATION", "Halt an operation, or a message, until continue"},
	{events.Continue, "OPERATION", "Let go on what pause halted, or what paused itself"},
	{events.Cancel, "OPERATION", "End an operation, or a message, for good: what was not pushed is cancelled"},
	{events.Status, "[OPERATION]", "Say how everything, an operation or a message stands"},
}

func newSteering() []*cobra.Command {
	var all []*cobra.Command
	for _, s := range steering {
		var o targetOptions
		use := strings.TrimSpace(string(s.action) + " " + s.subject + " --to TARGET")
		about := ""
		if s.subject != "" {
			about = "\nof an operation by its id, or of a message by --instance, --topic, --group and --msg"
		}
		cmd := &cobra.Command{
			Use: use, Short: s.doc,
			Long: s.doc + about + `.

The function at TARGET is asked directly, with one event, as it does not listen to
anybody else: fc://FUNCTION, fc2://SERVICE/FUNCTION, or https://… with
REPUSH_HTTP_TOKEN. With Redis the order holds for all instances, within a second of
pushes; what is halted does not age.`,
			Example: "  repush " + strings.TrimSpace(string(s.action)+" "+strings.ReplaceAll(strings.Trim(s.subject, "[]"), "OPERATION", "plan-0a1b2c")) + " --to fc://repush --region cn-hangzhou",
			Args:    cobra.MaximumNArgs(min(1, len(s.subject))),
			RunE:    func(cmd *cobra.Command, args []string) error { return o.steer(cmd, s.action, args) },
		}
		f := cmd.Flags()
		if s.subject != "" {
			for _, r := range requestFlags[:4] { // those that name a message
				f.String(r.flag, "", r.doc)
			}
		}
		if s.action != events.Status {
			f.String("reason", "", "why, for the record")
		}
		o.addTarget(cmd, "target")
		o.addRegion(cmd)
		f.DurationVar(&o.timeout, "timeout", time.Minute, "how long the answer may take")
		f.BoolVar(&o.json, "json", false, "print one JSON object")
		all = append(all, cmd)
	}
	return all
}

func (o targetOptions) steer(cmd *cobra.Command, action events.Action, args []string) error {
	op, err := operationOf(cmd, action, args)
	if err != nil {
		return err
	}
	function, err := o.openDirect(cmd.Context())
	if err != nil {
		return err
	}
	report, message, err := function.ask(cmd.Context(), "steer", op)
	switch {
	case err != nil:
		return err
	case op.OperationID != "" && action != events.Status:
		o.warnUnknown(cmd, function, op)
	}
	switch {
	case o.json:
		return indented(cmd.OutOrStdout()).Encode(report)
	case action != events.Status:
		fmt.Fprintln(cmd.OutOrStdout(), printable(message))
		return nil
	}
	return printStatus(printableLines(cmd.OutOrStdout()), report)
}

// warnUnknown says that an order was taken for an operation nobody has heard of, which
// may be a slip of the pen, or come before its first request.
func (o targetOptions) warnUnknown(cmd *cobra.Command, function target, op events.Operation) {
	op.Action, op.Reason = events.Status, ""
	var s standing
	report, _, err := function.ask(cmd.Context(), "steer", op)
	if err == nil && json.Unmarshal(report, &s) == nil && s.Progress != nil && len(s.Progress.States) == 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "no request of %s is known: the order holds for what comes, if the id is right\n", op.OperationID)
	}
}

// openDirect is open for a function that has to answer itself.
func (o targetOptions) openDirect(ctx context.Context) (target, error) {
	const direct = "fc://FUNCTION, fc2://SERVICE/FUNCTION or https://…"
	if o.to == "" {
		return nil, usage(errors.New("--to: is required: " + direct))
	}
	if kind, _, _ := strings.Cut(o.to, "://"); kind != "fc" && kind != "fc2" && kind != "https" && kind != "http" {
		return nil, usage(errors.New("--to: must be asked directly: " + direct))
	}
	return o.open(ctx)
}

// ask has a function obey, or report on, an operation; by is the command that asks.
func (t target) ask(ctx context.Context, by string, op events.Operation) (report json.RawMessage, message string, err error) {
	d := t(ctx, []events.Event{operationEvent(by, op)})[0]
	said := read(d.Answer)
	switch {
	case d.Status != answered:
		return nil, "", fmt.Errorf("%s: %s", d.Status, cmp.Or(d.Message, "the function did not answer"))
	case len(said.Results) != 1 || said.Results[0].Code != "Done":
		return nil, "", errors.New(cmp.Or(d.Message, "what answers at --to is not functions/repush"))
	}
	return said.Results[0].Report, said.Results[0].Message, nil
}

func operationEvent(by string, op events.Operation) events.Event {
	return newEvent(string(op.Action), by, events.TypeOperationRequested, op)
}

// newEvent is of the operator; its id begins with a word, by is the command. of keeps
// the rules of the contract.
func newEvent(word, by, kind string, of any) events.Event {
	return events.Event{
		ID: word + "-" + rand.Text(), Source: "repush/" + by + "/" + operator(), Type: kind, Time: time.Now().UTC().Truncate(time.Second), Data: encoded(of),
	}
}

// operationOf reads arguments and flags by the rules of the contract.
func operationOf(cmd *cobra.Command, action events.Action, args []string) (op events.Operation, err error) {
	fields := map[string]any{"action": action, "requestedBy": operator()}
	flagOf := map[string]string{"operationId": "OPERATION"}
	if len(args) > 0 {
		fields["operationId"] = args[0]
	}
	readTexts(cmd, fields, flagOf)
	op, err = events.DecodeOperation(encoded(fields))
	return op, flagErrors(err, flagOf)
}

// standing is what functions/repush reports of work under way.
type standing struct {
	Progress *struct {
		States   map[string]int
		Outcomes map[string]int
		OldestMs int64
		Orders   []string
	}
	History *struct {
		Pushes   int
		Orders   []string
		Requests []struct {
			EventID, State, Code, Late string
			Outcome                    events.Outcome
			Generation, Attempts       int
			ReceivedAt, DecidedAt      time.Time
			DueInMs                    int64
		}
	}
	PerSecond  float64
	EtaSeconds int64
	Quota      struct {
		LastMinute map[string]int // slots by lane
		SpacingMs  float64
		Closed     bool
	}
}

func printStatus(out io.Writer, report []byte) error {
	var s standing
	if err := json.Unmarshal(report, &s); err != nil || s.Progress == nil && s.History == nil {
		return errors.New("the function's report is none that this version understands; --json shows it")
	}
	if p := s.Progress; p != nil {
		open := p.States["waiting"] + p.States["claimed"] + p.States["sending"]
		maps.DeleteFunc(p.States, func(name string, _ int) bool { return name == "decided" || name == "emitted" })
		fmt.Fprintf(out, "open      %s\noutcomes  %s\n", counted(p.States), counted(p.Outcomes))
		if open > 0 && s.PerSecond > 0 {
			fmt.Fprintf(out, "pace      %.2g a second since the first decision; at that the rest takes about %s\n", s.PerSecond, time.Duration(s.EtaSeconds)*time.Second)
		}
		if open > 0 {
			fmt.Fprintf(out, "oldest    %s\n", (time.Duration(p.OldestMs) * time.Millisecond).Round(time.Second))
		}
		if q := s.Quota; q.SpacingMs > 0 {
			closed := map[bool]string{true: " (closed after refusals)"}[q.Closed]
			fmt.Fprintf(out, "quota     one call in %.1f ms%s; last minute %s\n", q.SpacingMs, closed, counted(q.LastMinute))
		}
		printOrders(out, p.Orders)
		return nil
	}
	fmt.Fprintf(out, "pushes    %d\n", s.History.Pushes)
	for _, r := range s.History.Requests {
		line := fmt.Sprintf("request   %s  generation %d  %s", r.EventID, r.Generation, cmp.Or(string(r.Outcome), r.State))
		if r.Code != "" && r.Outcome == "" {
			line += fmt.Sprintf(" (%s, looked at again in %s)", r.Code, (time.Duration(r.DueInMs) * time.Millisecond).Round(time.Second))
		}
		if r.Late != "" {
			line += ", and later: " + r.Late
		}
		fmt.Fprintln(out, line)
	}
	printOrders(out, s.History.Orders)
	return nil
}

func printOrders(out io.Writer, orders []string) {
	if len(orders) > 0 {
		fmt.Fprintf(out, "orders    %s\n", strings.Join(orders, ", "))
	}
}
