package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
	target targetOptions
	goOn   bool
	out    string
	at     string
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
goes on by the same command, and what failed is planned anew by it. A target that
takes no request for as long as --timeout ends the command.

With --at the plan is asked of a deployed functions/plan, as TARGET of inject names
it, with its settings and its state; its requests go where it sends them. Asked
directly (fc://, or https:// with REPUSH_HTTP_TOKEN), that is a person's plan, which
lets alerts about the group plan again.

Exit status: 1 also when no request left, 3 when not all did, when the target answered
some with a bad outcome, or when there may be more messages than were found (incomplete).`,
		Example: `  repush plan --instance MQ_INST_1380156306793859_BbXbx0Y4 --group GID_billing \
    --reason "consumer was down over night" --region cn-hangzhou -o manifest.json
  repush plan --instance MQ_INST_1380156306793859_BbXbx0Y4 --group GID_billing \
    --topic orders --from 30h --reason "consumer was down over night" \
    --region cn-hangzhou --go --to fc://repush
  repush plan --instance MQ_INST_1380156306793859_BbXbx0Y4 --group GID_billing \
    --reason "the consumer is mended" --region cn-hangzhou --go --at fc://repush-plan`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	addPlanFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&o.goOn, "go", false, "send the requests; without it nothing leaves")
	f.StringVarP(&o.out, "out", "o", "", "new `FILE` for the manifest")
	f.StringVar(&o.at, "at", "", "deployed functions/plan that makes the plan")
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
	asked.RequestedBy = operator()
	if o.at != "" {
		return o.askDeployed(cmd, asked)
	}
	keys, err := o.complete(ctx, planLedger)
	if err != nil {
		return err
	}
	switch {
	case asked.Again && !strings.HasPrefix(o.state, "redis"):
		return usage(errors.New("--again: which generation is next is known only where functions/repush keeps its state: set REPUSH_STATE to its redis://, or use --at"))
	case o.goOn:
		o.target.to = cmp.Or(o.target.to, os.Getenv("REPUSH_REQUESTS"))
		if strings.Contains(o.target.to, ",") {
			return usage(errors.New("--to, or REPUSH_REQUESTS: must be one target here"))
		}
	}
	r := planRun{planOptions: o, say: notes(cmd.ErrOrStderr()), sent: func() int { return 0 }, badly: make(map[string]int)}
	env := append(o.environment(keys), "REPUSH_REQUESTS=stdout") // what is dry sends nothing there
	if o.goOn {
		inbox, err := r.open(ctx, stop)
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
	if err := r.leaveNote(payload); err != nil {
		return err
	}
	answer, err := r.follow(ctx, f, payload)
	if err = errors.Join(err, f.Stop(context.WithoutCancel(ctx))); errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	if err != nil {
		err = fmt.Errorf("%w; %d requests were handed over by this run; the same command goes on", err, r.sent())
	}
	if _, missing := r.results.manifest(); err == nil && missing != nil && o.out != "" {
		if _, err := os.Stat(o.out); err != nil {
			r.unwritten = errors.New("the manifest went out before this run, or by another process: it is not in the file of -o")
		}
	}
	err = errors.Join(err, r.unwritten)
	return errors.Join(err, r.print(cmd.OutOrStdout(), answer, err == nil))
}

// open takes the requests of the function and hands them to the target. stop ends
// the run when that refuses one, or takes none for as long as a time-out.
func (r *planRun) open(ctx context.Context, stop context.CancelCauseFunc) (*receiver, error) {
	to := r.target
	to.region, to.timeout = r.region, r.timeout
	to.async = strings.HasPrefix(to.to, "fc://") || strings.HasPrefix(to.to, "fc2://")
	send, err := to.open(ctx)
	if err != nil {
		return nil, err
	}
	var down time.Time // since when it takes none
	return receive(func(e events.Event) int {
		if ctx.Err() != nil {
			return http.StatusServiceUnavailable
		}
		d := send(ctx, []events.Event{e})[0]
		switch {
		case d.Status == handedOver || d.Status == answered:
			if !d.well() {
				code, _, _ := strings.Cut(d.Message, ": ")
				r.badly[string(settled(d.Outcome, d.Message))+" "+code]++
			}
			down = time.Time{}
			return http.StatusAccepted
		case d.Status == refused || d.Message == notRepush:
			stop(errors.New("the target refused a request: " + d.Message))
		case down.IsZero():
			down = time.Now()
			r.say("the target does not take a request: %s", d.Message)
		case time.Since(down) > r.timeout:
			stop(fmt.Errorf("the target took no request for %s: %s", r.timeout, d.Message))
		}
		return http.StatusServiceUnavailable
	})
}

type planRun struct {
	planOptions
	say       func(format string, args ...any)
	results   results
	note      string         // file with the event of a run that is under way; empty where nothing lasts
	resumed   bool           // there was one
	sent      func() int     // how many requests were handed over
	unwritten error          // why the manifest could not be written
	badly     map[string]int // requests by outcome and code, as far as the target answered with a bad one; after sent alone
}

// begin makes the event, or takes that of the same command, which was interrupted
// and has left a note of it beside the ledger.
func (r *planRun) begin(asked events.Plan, typed []byte) (payload []byte, err error) {
	path, isFile := strings.CutPrefix(r.state, "file:")
	if !isFile && r.state != "memory" {
		path = defaultLedger(planLedger)
	}
	if path != "memory" && path != "" {
		sum := sha256.Sum256(fmt.Appendf(typed, "%q", []string{r.target.to, r.region, r.ons, r.state, r.out}))
		r.note = path + "-" + hex.EncodeToString(sum[:8])
	}
	payload, _ = os.ReadFile(r.note)
	if r.resumed = len(payload) > 0; r.resumed {
		begun := "once"
		if info, err := os.Stat(r.note); err == nil {
			begun = info.ModTime().Format(time.DateTime)
		}
		r.say("the same command was interrupted (begun %s): it is taken up, with its list of then; remove %s to begin anew", begun, r.note)
	}
	_, isNone := os.Stat(r.out)
	wrong := checkOutput(r.out)
	switch {
	case r.out == "":
	case wrong != nil:
		return nil, wrong
	case isNone == nil && !r.resumed:
		return nil, usage(fmt.Errorf("-o %s: exists, and no file is overwritten: name a new one", r.out))
	case isNone != nil:
		r.results.frozen = func(p events.Planned) { // before all requests have left
			r.unwritten = writeWhole(r.out, os.Link, func(w io.Writer) error { return indented(w).Encode(p) })
		}
	}
	if r.resumed { // with the times of then
		return payload, nil
	}
	return encoded(newEvent("plan", "plan", events.TypePlanRequested, asked)), nil
}

func (r *planRun) leaveNote(payload []byte) error {
	if r.note == "" || r.resumed {
		return nil
	}
	return errors.Join(os.MkdirAll(filepath.Dir(r.note), 0o700), os.WriteFile(r.note, payload, 0o600))
}

func (o planOptions) askDeployed(cmd *cobra.Command, asked events.Plan) error {
	if o.target.to != "" || o.out != "" {
		return usage(errors.New("--at: the deployed function says where requests and manifests go, so neither --to nor -o goes with it"))
	}
	there := o.target
	there.to, there.region, there.timeout, there.json, there.logs = o.at, cmp.Or(o.region, os.Getenv("REPUSH_REGION")), o.timeout, o.json, o.logs && strings.HasPrefix(o.at, "fc")
	return there.send(cmd, []events.Event{newEvent("plan", "plan", events.TypePlanRequested, asked)})
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
			if errors.Is(err, fs.ErrNotExist) { // the same command ran twice at once
				err = nil
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
