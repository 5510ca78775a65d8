package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/events/sink"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/openapi"
)

type doctorOptions struct {
	targetOptions                  // the function at --to; region, timeout and json are for all checks
	about         events.Operation // instance, topic and group, or none of them
	ons           string
	noPush        bool
}

func newDoctor() *cobra.Command {
	var o doctorOptions
	cmd := &cobra.Command{
		Use:   "doctor --region R [--instance ID --topic NAME --group GID] [--to TARGET]",
		Short: "Check credentials, endpoint, clock, permissions, consumers and a deployed function",
		Long: `Check what a push needs: credentials, region, endpoint, certificate and clock; with
--instance, --topic and --group what infra/ram/operator.json allows your credentials,
who is online; with --to the settings of a deployed function
(fc://FUNCTION, fc2://SERVICE/FUNCTION, or https://… with REPUSH_HTTP_TOKEN), and what
halts it. A line is ok, or not ok with what to do, or skipped with the reason. Nothing
is asked twice.

Only a push shows whether mq:SUB is allowed. The one here is of a message id that
cannot exist, to a client id that cannot exist: it delivers nothing, and costs one
call of the push quota. --no-push leaves it out. Credentials as for push.

Exit status: 0 nothing is not ok, 3 something is.`,
		Example: `  repush doctor --region cn-hangzhou
  repush doctor --region cn-hangzhou --instance MQ_INST_1380156306793859_BbXbx0Y4 \
    --topic orders --group GID_billing --to fc://repush`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	for i, at := range []*string{&o.about.InstanceID, &o.about.Topic, &o.about.GroupID} {
		f.StringVar(at, requestFlags[i].flag, "", requestFlags[i].doc)
	}
	f.StringVar(&o.ons, "ons", "", "another ONS OpenAPI endpoint: https, or http to loopback; by default REPUSH_ONS_ENDPOINT")
	o.addTarget(cmd, "a deployed function")
	o.addRegion(cmd)
	f.BoolVar(&o.noPush, "no-push", false, "do not check mq:SUB")
	f.DurationVar(&o.timeout, "timeout", 15*time.Second, "how long one call may take")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	return cmd
}

type doctor struct {
	doctorOptions
	say    func(format string, args ...any)
	keys   sink.Credentials
	online []openapi.Connection // of the group
	alike  bool                 // all of them subscribe to the same
	checks []doctorCheck
	// lacking is the line without which no call of the API can work; empty as long
	// as nothing is known against it.
	lacking string
}

type doctorCheck struct {
	Name   string `json:"name"`
	Status string `json:"status"`         // ok, not ok or skipped
	Found  string `json:"found"`          // or why it was skipped
	Next   string `json:"next,omitempty"` // what to do when it is not ok
}

// judge puts a line, in place of an earlier one that knew less; next is what to do
// when it is not good.
func (d *doctor) judge(name string, good bool, found, next string) {
	c := doctorCheck{name, "not ok", found, next}
	if good {
		c.Status, c.Next = "ok", ""
	}
	d.skip("", name)
	d.checks[slices.IndexFunc(d.checks, c.same)] = c
}

func (c doctorCheck) same(other doctorCheck) bool { return c.Name == other.Name }

// fatal puts a line that is not ok and leaves no call of the API possible.
func (d *doctor) fatal(name, found, next string) {
	d.judge(name, false, found, next)
	d.lacking = cmp.Or(d.lacking, name)
}

// skip puts those lines that are not there yet.
func (d *doctor) skip(why string, names ...string) {
	for _, name := range names {
		if c := (doctorCheck{name, "skipped", why, ""}); !slices.ContainsFunc(d.checks, c.same) {
			d.checks = append(d.checks, c)
		}
	}
}

func (o doctorOptions) run(cmd *cobra.Command) (err error) {
	if o.about != (events.Operation{}) {
		if slices.Contains([]string{o.about.InstanceID, o.about.Topic, o.about.GroupID}, "") {
			return usage(errors.New("--instance, --topic and --group: give all three, or none"))
		}
		o.about.Action, o.about.MsgID = events.Status, noMessageID
		err = flagErrors(o.about.Validate(), map[string]string{"instanceId": "--instance", "topic": "--topic", "groupId": "--group"})
	}
	var send target
	if err == nil && o.to != "" {
		send, err = o.openDirect(cmd.Context()) // what is wrong with credentials is said below
	}
	if errors.Is(err, errUsage) {
		return err
	}
	d := &doctor{doctorOptions: o, say: notes(cmd.ErrOrStderr())}
	d.credentials(cmd.Context())
	d.network(cmd.Context())
	d.api(cmd.Context())
	d.function(cmd.Context(), send)
	if err = d.print(cmd.OutOrStdout()); err == nil && slices.ContainsFunc(d.checks, func(c doctorCheck) bool { return c.Status == "not ok" }) {
		return errPartial
	}
	return err
}

// print hides what is secret in all that others wrote.
func (d *doctor) print(out io.Writer) error {
	token := sink.Credentials{SecurityToken: os.Getenv("REPUSH_HTTP_TOKEN")}
	for i, c := range d.checks {
		d.checks[i].Found, d.checks[i].Next = hide(d.keys, redact(token, c.Found)), hide(d.keys, redact(token, c.Next))
	}
	if d.json {
		return indented(out).Encode(map[string]any{"checks": d.checks})
	}
	for _, c := range d.checks {
		fmt.Fprintf(out, "%-8s %-26s  %s\n", c.Status, c.Name, c.Found)
		if c.Next != "" {
			fmt.Fprintf(out, "%35s  do this: %s\n", "", c.Next)
		}
	}
	return nil
}

// credentials says where they come from, not what they are.
func (d *doctor) credentials(ctx context.Context) {
	keys, found, err := operatorCredentials(ctx)
	if err != nil {
		d.fatal("credentials", "none that can be used", strings.TrimPrefix(err.Error(), "credentials: "))
		return
	}
	d.keys = keys
	if hidden := len(keys.AccessKeyID) - 4; hidden >= 12 {
		found += ", key …" + keys.AccessKeyID[hidden:]
	}
	if keys.SecurityToken != "" {
		found += ", with a security token"
	}
	d.judge("credentials", true, found, "")
	if strings.HasPrefix(keys.AccessKeyID, "STS.") && keys.SecurityToken == "" {
		d.fatal("credentials", found+", temporary and without its security token", "set ALIBABA_CLOUD_SECURITY_TOKEN to the token that came with the key")
	}
}
