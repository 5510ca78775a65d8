package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/infra/local/fcd"
)

type planOptions struct {
	localFlags
	target injectOptions
	goOn   bool
	out    string
}

func newPlan() *cobra.Command {
	var o planOptions
	cmd := &cobra.Command{
		Use:   "plan --instance ID --group GID --reason TEXT [--go --to TARGET]",
		Short: "Find the messages of a group that need a push, and ask for their pushes",
		Long: `Find the messages of a consumer group that need a push, and print the manifest. The
real binary of functions/plan runs on this machine against the ONS OpenAPI (or --ons
URL); nothing is sent without --go.

With --go a request for each message goes to TARGET, as inject takes it (to a
function by its asynchronous queue), by default to REPUSH_REQUESTS, where
functions/repush takes them up. No budget of the group applies: a person asks.

Credentials and settings as for push; without REPUSH_ALLOW the run may plan for the
instance, group and topic named (without --topic: all of the group) and nothing
else. What was pushed before is known where REPUSH_STATE is that of functions/repush.
What takes longer than one time-out goes on until it is done; what was interrupted
goes on by the same command.

Exit status: 3 also when there may be more messages than were found (incomplete).`,
		Example: `  repush plan --instance MQ_INST_1380156306793859_BbXbx0Y4 --group GID_billing \
    --reason "consumer was down over night" --region cn-hangzhou -o manifest.json
  repush plan --instance MQ_INST_1380156306793859_BbXbx0Y4 --group GID_billing \
    --topic orders --from 30h --reason "consumer was down over night" \
    --region cn-hangzhou --go --to fc://repush`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	addPlanFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.goOn, "go", false, "send the requests; without it nothing leaves")
	f.StringVarP(&o.out, "out", "o", "", "new `FILE` for the manifest")
	o.target.addTarget(cmd, "target of the requests; by default REPUSH_REQUESTS")
	o.add(cmd, planLedger)
	return cmd
}

func (o planOptions) run(cmd *cobra.Command) error {
	ctx, stop := context.WithCancelCause(cmd.Context())
	defer stop(nil)
	asked, typed, err := planOf(cmd)
	if err != nil {
		return err
	}
	keys, err := o.complete(ctx, planLedger)
	if err != nil {
		return err
	}
	if o.goOn {
		o.target.to = cmp.Or(o.target.to, os.Getenv("REPUSH_REQUESTS"))
	}
	r := planRun{planOptions: o, say: notes(cmd.ErrOrStderr()), sent: func() int { return 0 }}
	env := append(o.environment(keys), "REPUSH_REQUESTS=stdout") // what is dry sends nothing there
	if o.goOn {
		inbox, err := o.open(ctx, stop)
		if err != nil {
			return err
		}
		defer inbox.Close()
		env, r.sent = append(env, "REPUSH_REQUESTS="+inbox.URL), inbox.count
	}
	payload, err := r.begin(asked, typed)
	if err != nil {
		return err
	}
	f, end, err := o.start(cmd, planFunction, asked.InstanceID+"/"+asked.GroupID+"/"+cmp.Or(asked.Topic, "*"), &r.results, env...)
	if err != nil {
		return err
	}
	defer end()
	answer, err := r.follow(ctx, f, payload)
	if err = errors.Join(err, f.Stop(context.WithoutCancel(ctx))); errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	if err != nil {
		err = fmt.Errorf("%w; %d requests were handed over by this run; the same command goes on", err, r.sent())
	}
	err = errors.Join(err, r.unwritten)
	return errors.Join(err, r.print(cmd.OutOrStdout(), answer, err == nil))
}

// open takes the requests of the function and hands them to the target. stop ends
// the run when that refuses one.
func (o planOptions) open(ctx context.Context, stop context.CancelCauseFunc) (*receiver, error) {
	o.target.region, o.target.timeout = o.region, o.timeout
	o.target.async = strings.HasPrefix(o.target.to, "fc://") || strings.HasPrefix(o.target.to, "fc2://")
	send, err := o.target.open(ctx)
	if err != nil {
		return nil, err
	}
	return receive(func(e events.Event) int {
		if ctx.Err() != nil {
			return http.StatusServiceUnavailable
		}
		d := send(ctx, []events.Event{e})[0]
		switch d.Status {
		case handedOver, answered:
			return http.StatusAccepted
		case refused:
			stop(errors.New("the target refused a request: " + d.Message))
		}
		return http.StatusServiceUnavailable
	})
}

// planRun is one run.
type planRun struct {
	planOptions
	say       func(format string, args ...any)
	results   results
	note      string     // file with the event of a run that is under way; empty where nothing lasts
	resumed   bool       // there was one
	sent      func() int // how many requests were handed over
	unwritten error      // why the manifest could not be written
}

// begin makes the event and leaves a note of it beside the ledger, or takes that of
// the same command, which was interrupted.
func (r *planRun) begin(asked events.Plan, typed []byte) (payload []byte, err error) {
	path, isFile := strings.CutPrefix(r.state, "file:")
	if !isFile && r.state != "memory" {
		path = defaultLedger(planLedger)
	}
	if path != "memory" && path != "" {
		sum := sha256.Sum256(fmt.Appendf(typed, "%q", []string{r.target.to, r.region, r.ons, r.state}))
		r.note = path + "-" + hex.EncodeToString(sum[:8])
	}
	payload, _ = os.ReadFile(r.note)
	if r.resumed = len(payload) > 0; r.resumed {
		r.say("an interrupted run of the same command is taken up")
	}
	switch _, err := os.Stat(r.out); {
	case err == nil && !r.resumed:
		return nil, usage(fmt.Errorf("-o %s: exists, and no file is overwritten: name a new one", r.out))
	case err != nil && r.out != "":
		r.results.frozen = func(p events.Planned) { r.unwritten = r.write(p) } // before all requests have left
	}
	if r.resumed { // with the times of then
		return payload, nil
	}
	asked.RequestedBy = operator()
	data, err := json.Marshal(asked)
	if err != nil {
		return nil, err
	}
	e := events.Event{
		ID: "plan-" + rand.Text(), Source: "repush/plan/" + operator(), Type: events.TypePlanRequested,
		Time: time.Now().UTC().Truncate(time.Second), Data: data,
	}
	payload, err = json.Marshal(e)
	if err == nil && r.note != "" {
		err = errors.Join(os.MkdirAll(filepath.Dir(r.note), 0o700), os.WriteFile(r.note, payload, 0o600))
	}
	return payload, err
}

// write makes the file of the manifest.
func (o planOptions) write(p events.Planned) error {
	file, err := os.OpenFile(o.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(indented(file).Encode(p), file.Close())
}

// follow delivers the event until the function is done with it. Delivered again it
// goes on where it was; a sweep would take up whatever else is in the ledger, and
// send that to this run's target.
func (r *planRun) follow(ctx context.Context, f *fcd.Function, payload []byte) (answer returned, err error) {
	began, before := time.Now(), ""
	for {
		response, err := f.Invoke(ctx, payload)
		answer = read(response.Payload)
		switch {
		case err == nil && response.FunctionError == "" && !answer.Open:
			if r.note != "" {
				err = os.Remove(r.note)
			}
			return answer, err
		case err != nil || ctx.Err() != nil:
			return answer, cmp.Or(context.Cause(ctx), err)
		case strings.HasPrefix(response.FunctionError, "fcd."):
			return answer, fmt.Errorf("functions/plan ended: %s", answer.reason())
		}
		if text := fmt.Sprintf("%s; %d requests handed over", answer.reason(), r.sent()); text != before {
			r.say("%5.0f s  %s", time.Since(began).Seconds(), text)
			before = text
		}
		if answer.Code != "GoesOn" && !pause(ctx, 2*time.Second) {
			return answer, context.Cause(ctx)
		}
	}
}
