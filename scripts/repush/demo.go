package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/infra/local/fcd"
)

type demoOptions struct {
	functionFlags
	data  string
	crash bool
}

func newDemo() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See the whole job on this machine, without any cloud account",
		Long: `See the whole job on this machine: a consumer group was down over night and 25
messages are stuck. The demo starts stand-ins for the ONS OpenAPI and for Function
Compute on loopback, sends the requests through the real function binary at the
real pace of ten pushes a second, and shows the outcomes beside the stand-in's own
count of what reached the consumers. The ledger is a file; what has to wait in it is
taken up by a timer's sweep, here every second.

With --crash the function is killed (SIGKILL) half-way and started again: nothing is
delivered twice; a push that was cut ends as unknown when its lease is over.`,
		Example: "  repush demo\n  repush demo --crash\n  repush demo --json",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.BoolVar(&o.crash, "crash", false, "kill the function half-way and go on")
	f.StringVar(&o.data, "data", "", "data file; empty means the sample data set")
	o.add(cmd)
	return cmd
}

// demo is one run.
type demo struct {
	demoOptions
	say     func(format string, args ...any)
	api     *standIn
	asks    []ask
	results *results
	began   time.Time
	took    time.Duration // until the last result

	function atomic.Pointer[fcd.Function]
	mu       sync.Mutex
	inFlight map[string]bool // requests under way when it was killed
}

func (o demoOptions) run(cmd *cobra.Command) error {
	out, story := cmd.OutOrStdout(), cmd.ErrOrStderr()
	if !o.json {
		story = out
	}
	d := &demo{demoOptions: o, say: notes(story), inFlight: make(map[string]bool)}
	d.say("ons-repush demo: everything runs on this machine, nothing leaves it")
	f, err := prepare(cmd.Context(), o.bin, d.say)
	if err != nil {
		return err
	}
	defer f.remove()
	if d.api, err = startStandIn("127.0.0.1:0", o.data); err != nil {
		return err
	}
	defer d.api.Close()
	if d.asks, err = scenario(d.api.data, time.Now()); err != nil {
		return err
	}
	if err := d.play(cmd.Context(), f, o.log(cmd.ErrOrStderr())); err != nil {
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

// play starts the function, sends every request and waits until each is
// answered.
func (d *demo) play(ctx context.Context, built prepared, logs io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("not every request was answered within two minutes"))
	defer cancel()
	d.results = &results{seen: d.progress}
	env := append(d.api.env(), built.state())
	if d.crash {
		env = append(env, "REPUSH_PUSH_TIMEOUT=3s") // leases end soon
	}
	f, err := fcd.Start(ctx, fcd.Options{
		Binary: built.binary, Runtime: fcd.FCCustom, InstanceConcurrency: 100, Timeout: time.Minute,
		Env: env, Stdout: d.results, Stderr: logs,
	})
	if err != nil {
		return startError(err)
	}
	d.function.Store(f)
	d.say("stand-ins for the ONS OpenAPI (%s) and Function Compute are up; the ledger is in a file", d.api.URL)
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

// answered counts the requests that have their result.
func (d *demo) answered() int {
	all, _ := d.results.all()
	return len(all)
}

// deliver sends one request, again and again while the function gives it back,
// as EventBridge would. What the function parked is delivered.
func (d *demo) deliver(ctx context.Context, a ask) error {
	payload, err := a.rocketMQ(d.api.data.Region)
	if err != nil {
		return err
	}
	for wait := 500 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		response, err := d.function.Load().Invoke(ctx, payload)
		if err == nil && response.FunctionError == "" {
			return nil
		}
		if response.FunctionError == fcd.ErrorExit {
			d.mu.Lock()
			d.inFlight[a.event.ID] = true
			d.mu.Unlock()
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
	f.Kill()
	d.say("killed the function (SIGKILL) half-way; Function Compute starts another instance, EventBridge delivers again")
	again, err := f.Restart(ctx)
	if err == nil {
		d.function.Store(again)
	}
	return err
}

// progress shows one result as it arrives.
func (d *demo) progress(c events.Completed) {
	if c.Request.Data == nil {
		return
	}
	d.took = time.Since(d.began)
	d.say("%s", strings.TrimRight(fmt.Sprintf("  %5.1f s  %-9s  %s  %s", d.took.Seconds(), c.Outcome, c.Request.Data.MsgID, c.Code), " "))
}

// demoReport is what the demo prints with --json.
type demoReport struct {
	Requests int            `json:"requests"`
	Seconds  float64        `json:"seconds"`
	Rows     []demoRow      `json:"outcomes"`
	Results  []events.Event `json:"results"`
	Twice    []string       `json:"deliveredTwice"`
	Calls    map[string]int `json:"pushCalls"`
	// InFlight counts the requests under way when the function was killed.
	InFlight int `json:"inFlight,omitempty"`
	// AsExpected: every request has one result, as the scenario says (or unknown,
	// if it was under way at the kill), and no message was delivered twice.
	AsExpected bool `json:"asExpected"`
}

// demoRow is one line of the table.
type demoRow struct {
	Scenario string         `json:"scenario"`
	Outcome  events.Outcome `json:"outcome"`
	Requests int            `json:"requests"`
	// Deliveries is the stand-in's own count for these messages.
	Deliveries int  `json:"deliveries"`
	Expected   bool `json:"expected"`
}

// report compares what was asked for with the results and with the stand-in's own
// count of deliveries.
func (d *demo) report(deliveries map[string]int) demoReport {
	all, completed := d.results.all()
	outcomes := make(map[string]events.Outcome)
	for _, c := range completed {
		outcomes[c.Request.ID] = c.Outcome
	}
	calls := d.api.Calls("OnsMessagePush")
	r := demoReport{
		Requests: len(d.asks), Seconds: d.took.Seconds(), Results: all, Twice: []string{}, InFlight: len(d.inFlight),
		Calls: map[string]int{"accepted": calls.Accepted, "throttled": calls.Throttled, "refused": calls.Refused},
	}
	r.AsExpected = len(all) == len(d.asks) // and each has an outcome, so each has one
	for _, a := range d.asks {
		outcome := outcomes[a.event.ID]
		want, known := expected[a.label]
		fits := !known && outcome != "" || outcome == want || want == events.Pushed && outcome == events.Unknown && d.inFlight[a.event.ID]
		at := slices.IndexFunc(r.Rows, func(row demoRow) bool { return row.Scenario == a.label && row.Outcome == outcome })
		if at < 0 {
			at = len(r.Rows)
			r.Rows = append(r.Rows, demoRow{Scenario: a.label, Outcome: outcome, Expected: true})
		}
		r.Rows[at].Expected = r.Rows[at].Expected && fits
		r.Rows[at].Requests++
		r.Rows[at].Deliveries += deliveries[a.data.MsgID]
		if deliveries[a.data.MsgID] > 1 {
			r.Twice = append(r.Twice, a.data.MsgID)
		}
		r.AsExpected = r.AsExpected && fits && deliveries[a.data.MsgID] <= 1
	}
	return r
}

func (d *demo) print(out io.Writer, r demoReport) {
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "messages\toutcome\trequests\treached a consumer\t")
	for _, row := range r.Rows {
		mark := map[bool]string{false: "not as expected"}[row.Expected]
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\n", row.Scenario, cmp.Or(row.Outcome, "(none)"), row.Requests, row.Deliveries, mark)
	}
	_ = w.Flush()
	fmt.Fprintf(out, "\nthe stand-in counted %d accepted, %d throttled and %d refused push calls\n", r.Calls["accepted"], r.Calls["throttled"], r.Calls["refused"])
	if d.crash {
		fmt.Fprintf(out, "%d requests were under way at the kill: the ledger, a file, still knew each of them, and %d messages reached a consumer twice\n"+
			"(a push that was cut ends as unknown and is not repeated)\n", r.InFlight, len(r.Twice))
	}
	if n := len(r.Results); n > 0 {
		fmt.Fprintln(out, "\none result event in full:")
		_ = indented(out).Encode(r.Results[n-1])
	}
	fmt.Fprint(out, `
what to try next:
  go run ./scripts/repush demo --crash      kill the function half-way
  go run ./scripts/repush up                keep everything running, for curl
  go run ./scripts/repush invoke FILE       run one event of yours
`)
}
