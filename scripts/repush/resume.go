package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/scripts/repush/internal/run"
)

// runOptions are those of a run, begun or resumed.
type runOptions struct {
	targetOptions
	ons, ledger, bin string // of the target local
	ledgerMark       string // of the run that is resumed
	wait             time.Duration
	report           string
}

func (o *runOptions) addRun(cmd *cobra.Command) {
	f := cmd.Flags()
	f.DurationVar(&o.wait, "wait", 10*time.Minute, "how long to wait for what the function parked or gave back, after the last news of it")
	f.StringVar(&o.report, "report", "", "write the report of the run to this `FILE` (HTML)")
	f.StringVar(&o.bin, "bin", "", "local: a built function instead of the source")
}

func newResume() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "resume STATE",
		Short: "Go on with a run of inject where it stopped",
		Long: `Go on with a run of inject where it stopped: STATE is its state file, or its id.

What is decided is never sent again. What was under way when the run was left, or
killed, is asked for first, under its event id of then: the function's ledger says
what became of it, and pushes it only if it was not pushed. Where that ledger is in
memory (results say durable: false), it may have been forgotten, and is pushed twice.

Target and settings are those of the run; credentials, REPUSH_HTTP_TOKEN and, for
local, REPUSH_ALLOW are read again from the environment.`,
		Example: `  repush resume inject-20261122-031500-k3v9q2xd
  repush resume ./run.jsonl --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := stateFile(args[0])
			if err != nil {
				return err
			}
			j, err := run.Open(path)
			if err != nil {
				return err
			}
			err = cmp.Or(checkOutput(o.report, path), o.recall(j.Header.Target))
			var begin beginner
			if err == nil {
				begin, err = o.connect(cmd)
			}
			if err != nil {
				return errors.Join(err, j.Close())
			}
			return o.run(cmd, j, begin)
		},
	}
	o.addRun(cmd)
	f := cmd.Flags()
	f.StringVar(&o.to, "to", "", "the target, where its address had a part behind the ?, which is not kept")
	f.DurationVar(&o.timeout, "timeout", 0, "how long one request may take; by default as it was begun")
	f.BoolVar(&o.logs, "logs", false, "fc, fc2 and local: show the function's log")
	f.BoolVar(&o.json, "json", false, "print one JSON object for each outcome, as JSON Lines")
	return cmd
}

// runFile is a state file where runs are kept: its name has the run's id and the
// fingerprint of its messages.
type runFile struct{ path, id, fingerprint string }

// runFiles are those of all runs that this machine knows.
func runFiles() (all []runFile, err error) {
	dir := defaultLedger("runs")
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		name, isState := strings.CutSuffix(entry.Name(), ".jsonl")
		if i := strings.LastIndex(name, "-"); isState && i > 0 {
			all = append(all, runFile{filepath.Join(dir, entry.Name()), name[:i], name[i+1:]})
		}
	}
	return all, err
}

// stateFile is the file of this name, or of the run of this id.
func stateFile(name string) (string, error) {
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	known, _ := runFiles() // or there is none
	if i := slices.IndexFunc(known, func(file runFile) bool { return file.id == name }); i >= 0 {
		return known[i].path, nil
	}
	return "", fmt.Errorf("%s: no such state file, and no run of this id in %s", name, defaultLedger("runs"))
}

// remember is what the state file keeps of the target: no credentials, and of an
// address nothing behind the ?, which may be a secret.
func (o runOptions) remember() map[string]string {
	to := o.to
	if kind, _, _ := strings.Cut(to, "://"); kind == "http" || kind == "https" {
		if address, _, cut := strings.Cut(to, "?"); cut {
			to = address + "?"
		}
	}
	bin, ledger := o.bin, o.ledger
	for _, path := range []*string{&bin, &ledger} { // the run may be resumed elsewhere
		if abs, err := filepath.Abs(*path); err == nil && *path != "" && *path != "memory" {
			*path = abs
		}
	}
	return map[string]string{
		"to": to, "account": o.account, "region": o.region, "endpoint": o.endpoint, "async": fmt.Sprint(o.async), "timeout": o.timeout.String(),
		"ons": o.ons, "state": ledger, "bin": bin,
	}
}

// recall is the reverse of remember; flags come first.
func (o *runOptions) recall(kept map[string]string) error {
	address, isCut := strings.CutSuffix(kept["to"], "?")
	switch {
	case isCut && o.to == "":
		return usage(fmt.Errorf("--to: is required: the address %s had a part behind the ?, which the state file does not keep", address))
	case o.to != "" && o.shownTarget() != kept["to"]:
		return usage(fmt.Errorf("--to: the run was begun with %s: another target has another ledger, and might push twice", kept["to"]))
	}
	o.to = cmp.Or(o.to, kept["to"])
	o.account, o.region, o.endpoint, o.async = kept["account"], kept["region"], kept["endpoint"], kept["async"] == "true"
	o.ons, o.ledger, o.bin, o.ledgerMark = kept["ons"], kept["state"], cmp.Or(o.bin, kept["bin"]), kept["ledger"]
	if o.timeout == 0 {
		o.timeout, _ = time.ParseDuration(kept["timeout"]) // as we wrote it
	}
	if o.timeout <= 0 {
		o.timeout = time.Minute
	}
	return nil
}

// shownTarget is the target without what may be a secret.
func (o runOptions) shownTarget() string { return o.remember()["to"] }

// run works the journal off, closes it, and says what came of it.
func (o runOptions) run(cmd *cobra.Command, j *run.Journal, begin beginner) (err error) {
	defer func() { err = errors.Join(err, j.Close()) }()
	ctx, stop := context.WithCancelCause(cmd.Context())
	defer stop(nil)
	leave, done := secondInterrupt(ctx)
	defer done()
	before := j.Counts()
	if before.Left() == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "nothing is left to do")
		return o.conclude(cmd, j, nil)
	}
	w := newWatch(cmd, j, o.json, stop)
	defer w.close(leave)
	to, err := begin(j, w)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		return fmt.Errorf("nothing was sent: %w; go on with\n  repush resume %s", err, quoted(j.Path))
	}
	w.say("run %s, %d of %d left, state file %s", j.Header.ID, before.Left(), j.Header.Count, j.Path)
	w.say("operation %s", cmp.Or(j.Header.Operation, "several: each message brings its own"))
	err = run.Runner{Journal: j, Send: to.send, Batch: to.batch, QPS: j.Header.QPS, Most: to.most, Patience: o.wait, Seen: w.seen}.Run(ctx, leave)
	if !errors.Is(err, run.ErrLeft) {
		to.end()
	}
	to.remove()
	w.close(leave)
	done() // the next signal kills
	if cause := context.Cause(ctx); cause != nil && cmd.Context().Err() == nil {
		err = cause // why it was stopped, by nobody
	}
	return o.conclude(cmd, j, err)
}

// secondInterrupt is done at the second interrupt: the first ends ctx, which has to be
// that of main.
func secondInterrupt(ctx context.Context) (leave context.Context, stop func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, interrupts()...)
	leave, cancel := context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		for range 2 {
			select {
			case <-signals:
			case <-leave.Done():
				return
			}
		}
		cancel()
	}()
	return leave, func() { signal.Stop(signals); cancel() }
}
