package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/infra/local/fcd"
)

type demoOptions struct {
	functionFlags
	data, planBin string
	crash         bool
}

func newDemo() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See the whole job on this machine, without any cloud account",
		Long: `See the whole job on this machine: a consumer group was down over night and 25
messages are stuck. The demo starts stand-ins for the ONS OpenAPI and for Function
Compute on loopback, and delivers one alert: CloudMonitor's, about the group's dead
letters. functions/plan finds the messages and sends requests, functions/repush
pushes them at the real pace of ten a second; both are the real binaries. Two more
are asked for by hand: what the plan left out because it has expired, and what has
no dead letter. In the end the outcomes stand beside the stand-in's own count of
what reached the consumers. Each function's ledger is a file; what has to wait in it
is taken up by a timer's sweep, here every second.

With --crash functions/repush is killed (SIGKILL) half-way and started again: nothing is
delivered twice; a push that was cut ends as unknown when its lease is over.`,
		Example: "  repush demo\n  repush demo --crash\n  repush demo --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.crash, "crash", false, "kill functions/repush half-way and go on")
	f.StringVar(&o.data, "data", "", "data file; empty means the sample data set")
	f.StringVar(&o.planBin, "plan-bin", "", "a built functions/plan instead of the source")
	o.add(cmd)
	return cmd
}

type demo struct {
	demoOptions
	say     func(format string, args ...any)
	api     *standIn
	asks    []ask
	plan    demoPlan
	results *results
	began   time.Time
	took    time.Duration // until the last result

	function atomic.Pointer[fcd.Function]
	inFlight map[string]bool // messages without a result when it was killed
}

func (o demoOptions) run(cmd *cobra.Command) error {
	out, story := cmd.OutOrStdout(), cmd.ErrOrStderr()
	if !o.json {
		story = out
	}
	d := &demo{demoOptions: o, say: notes(story), inFlight: make(map[string]bool)}
	d.say("ons-repush demo: everything runs on this machine, nothing leaves it")
	repush, err := prepare(cmd.Context(), repushFunction, o.bin, d.say)
	if err != nil {
		return err
	}
	defer repush.remove()
	plan, err := prepare(cmd.Context(), planFunction, o.planBin, d.say)
	if err != nil {
		return err
	}
	defer plan.remove()
	if d.api, err = startStandIn("127.0.0.1:0", o.data); err != nil {
		return err
	}
	defer d.api.Close()
	if d.asks, err = scenario(d.api.data, time.Now()); err != nil {
		return err
	}
	if err := d.play(cmd.Context(), plan, repush, o.log(cmd.ErrOrStderr())); err != nil {
		return err
	}
	report := d.report(d.api.Deliveries().ByMessage)
	if !report.AsExpected {
		err = errPartial
	}
	if o.json {
		return errors.Join(err, indented(out).Encode(report))
	}
	d.print(out, report)
	return err
}

// start runs a function as Function Compute's custom runtime would.
func (d *demo) start(ctx context.Context, built prepared, stdout, logs io.Writer, env ...string) (*fcd.Function, error) {
	f, err := fcd.Start(ctx, fcd.Options{
		Binary: built.binary, Runtime: fcd.FCCustom, InstanceConcurrency: 100, Timeout: time.Minute,
		Env: append(append(d.api.env(), built.state()), env...), Stdout: stdout, Stderr: logs,
	})
	if err != nil {
		return nil, startError(err)
	}
	return f, nil
}

// play starts the functions, delivers the alert and the requests, and waits until
// each message has its answer.
func (d *demo) play(ctx context.Context, plan, repush prepared, logs io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("not every request was answered within two minutes"))
	defer cancel()
	d.results = &results{each: d.progress}
	var env []string
	if d.crash {
		env = append(env, "REPUSH_PUSH_TIMEOUT=3s") // leases end soon
	}
	f, err := d.start(ctx, repush, d.results, logs, env...)
	if err != nil {
		return err
	}
	d.function.Store(f)
	d.say("stand-ins for the ONS OpenAPI (%s) and Function Compute are up; the ledgers are in files", d.api.URL)
	if err := d.alarm(ctx, plan, logs); err != nil {
		return errors.Join(cmp.Or(context.Cause(ctx), err), f.Stop(context.WithoutCancel(ctx)))
	}
	d.say("%d requests arrive as EventBridge events; the quota is 10 pushes a second", len(d.asks))
	d.began = time.Now()
	steps := []func(context.Context) error{d.sweep}
	for _, a := range d.asks {
		steps = append(steps, func(ctx context.Context) error { return d.deliver(ctx, a) })
	}
	if d.crash {
		steps = append(steps, d.killHalfway)
	}
	var wg sync.WaitGroup
	errs := make([]error, len(steps))
	for i, step := range steps {
		wg.Go(func() { errs[i] = step(ctx) })
	}
	wg.Wait()
	err = errors.Join(cmp.Or(context.Cause(ctx), errors.Join(errs...)), d.function.Load().Stop(context.WithoutCancel(ctx)))
	d.say("all answered after %.1f s", d.took.Seconds())
	return err
}

// sweep is the timer: while something is undecided, the function is told every
// second to take up what waits.
func (d *demo) sweep(ctx context.Context) error {
	for pause(ctx, time.Second) {
		if d.answered() >= len(d.asks) {
			return nil
		}
		response, _ := d.function.Load().Invoke(ctx, sweepEvent()) // one that was killed is followed by another
		for _, r := range read(response.Payload).Results {
			var report struct{ Taken int }
			if _ = json.Unmarshal(r.Report, &report); report.Taken > 0 { // an error takes up nothing
				d.say("  %5.1f s  sweep      %s", time.Since(d.began).Seconds(), r.Message)
			}
		}
	}
	return ctx.Err()
}

func (d *demo) answered() int {
	all, _ := d.results.all()
	return len(all)
}

// deliver sends one request, again and again while the function gives it back,
// as EventBridge would. What the function parked is delivered.
func (d *demo) deliver(ctx context.Context, a ask) error {
	for wait := 500 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		response, err := d.function.Load().Invoke(ctx, a.rocketMQ(d.api.data.Region))
		if err == nil && response.FunctionError == "" {
			return nil
		}
		if !pause(ctx, wait) {
			return fmt.Errorf("%s: %w", a.event.ID, ctx.Err())
		}
	}
}

// killHalfway kills the function when half of the requests are answered, and
// starts it again.
func (d *demo) killHalfway(ctx context.Context) error {
	for d.answered() < len(d.asks)/2 {
		if !pause(ctx, 10*time.Millisecond) {
			return ctx.Err()
		}
	}
	f := d.function.Load()
	for _, a := range d.asks { // what has no result, by its own delivery or by a sweep
		d.inFlight[a.data.MsgID] = true
	}
	_, completed := d.results.all()
	for _, c := range completed {
		if c.Request.Data != nil {
			delete(d.inFlight, c.Request.Data.MsgID)
		}
	}
	f.Kill()
	d.say("killed the function (SIGKILL) half-way; Function Compute starts another instance, EventBridge delivers again")
	again, err := f.Restart(ctx)
	if err == nil {
		d.function.Store(again)
	}
	return err
}

func (d *demo) progress(e events.Event) {
	c := decodeCompleted(e)
	if c.Request.Data == nil {
		return
	}
	d.took = time.Since(d.began)
	d.say("%s", strings.TrimRight(fmt.Sprintf("  %5.1f s  %-9s  %s  %s", d.took.Seconds(), c.Outcome, c.Request.Data.MsgID, c.Code), " "))
}
