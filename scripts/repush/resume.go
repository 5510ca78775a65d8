package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/run"
)

// runOptions are those of a run, begun or resumed.
type runOptions struct {
	targetOptions
	ons, ledger, bin string // of the target local
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
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage(errors.New("name one state file, or the id of a run"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := stateFile(args[0])
			if err != nil {
				return err
			}
			j, err := run.Open(path)
			if err != nil {
				return err
			}
			err = o.recall(j.Header.Target)
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

// stateFile is the file of this name, or of the run of this id.
func stateFile(name string) (string, error) {
	if _, err := os.Stat(name); err == nil {
		return name, nil
	}
	if !strings.ContainsAny(name, "/*?[") {
		if found, _ := filepath.Glob(filepath.Join(defaultLedger("runs"), name+"*.jsonl")); len(found) == 1 {
			return found[0], nil
		}
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
	bin, err := filepath.Abs(o.bin)
	if err != nil || o.bin == "" {
		bin = ""
	}
	return map[string]string{
		"to": to, "account": o.account, "region": o.region, "endpoint": o.endpoint, "async": fmt.Sprint(o.async), "timeout": o.timeout.String(),
		"ons": o.ons, "state": o.ledger, "bin": bin,
	}
}

// recall is the reverse of remember; flags come first.
func (o *runOptions) recall(kept map[string]string) error {
	address, isCut := strings.CutSuffix(kept["to"], "?")
	isCut = isCut && !strings.HasPrefix(kept["to"], "fc")
	given, _, _ := strings.Cut(o.to, "?")
	switch {
	case isCut && o.to == "":
		return usage(fmt.Errorf("--to: is required: the address %s had a part behind the ?, which the state file does not keep", address))
	case o.to != "" && given != address:
		return usage(fmt.Errorf("--to: the run was begun with %s: another target has another ledger, and might push twice", kept["to"]))
	}
	o.to = cmp.Or(o.to, kept["to"])
	o.account, o.region, o.endpoint, o.async = kept["account"], kept["region"], kept["endpoint"], kept["async"] == "true"
	o.ons, o.ledger, o.bin = kept["ons"], kept["state"], cmp.Or(o.bin, kept["bin"])
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

// sender asks for the pushes of a batch.
type sender = func(context.Context, []events.Event) []run.Answer

// beginner makes the sender of a run, and says how many events it takes at once; end
// ends what it started.
type beginner func(j *run.Journal, w *watch) (send sender, batch int, end func(), err error)

// connect finds what is wrong with the target, and the credentials, before anybody is
// asked or anything is written down.
func (o runOptions) connect(cmd *cobra.Command) (beginner, error) {
	switch isLocal := o.to == toLocal; {
	case o.to == "":
		return nil, usage(errors.New("--to: is required: local, fc://FUNCTION, https://…, eventbridge://BUS or mns://QUEUE"))
	case isLocal && (o.async || o.endpoint != ""):
		return nil, usage(errors.New("--to local: --async and --endpoint do not go with it"))
	case !isLocal && o.ons+o.ledger+o.bin != "":
		return nil, usage(errors.New("--ons, --state and --bin: are of --to local alone"))
	case isLocal:
		return o.connectLocal(cmd)
	}
	send, err := o.open(cmd.Context())
	if err != nil {
		return nil, err
	}
	batch := 1
	if kind, _, _ := strings.Cut(o.to, "://"); kind == "eventbridge" || kind == "mns" {
		batch = 100
	}
	return func(_ *run.Journal, w *watch) (sender, int, func(), error) {
		return func(ctx context.Context, batch []events.Event) []run.Answer {
			began := time.Now()
			answers := make([]run.Answer, len(batch))
			for i, d := range send(ctx, batch) {
				showLog(w, d)
				answers[i] = answerOf(batch[i], d, began)
			}
			return answers
		}, batch, func() {}, nil
	}, nil
}

// connectLocal is for the function on this machine. It serves plain HTTP on loopback
// to who knows a token that only this process does; its result events come by its
// standard output.
func (o runOptions) connectLocal(cmd *cobra.Command) (beginner, error) {
	l := localFlags{functionFlags: functionFlags{bin: o.bin, logs: o.logs}, region: o.region, ons: o.ons, state: o.ledger, timeout: o.timeout}
	keys, err := l.complete(cmd.Context(), pushLedger)
	if err != nil {
		return nil, err
	}
	return func(j *run.Journal, w *watch) (sender, int, func(), error) {
		token := rand.Text()
		env := append(l.environment(keys), "REPUSH_HTTP_TOKEN="+token)
		if os.Getenv("REPUSH_ALLOW") == "" {
			allow := allowOf(j.Requests())
			w.say("REPUSH_ALLOW is not set: this run may push %s and nothing else", allow)
			env = append(env, "REPUSH_ALLOW="+allow)
		}
		built, err := prepare(cmd.Context(), repushFunction, l.bin, w.say)
		if err != nil {
			return nil, 0, nil, err
		}
		first := &head{shown: io.Discard}
		if o.logs {
			first.shown = w
		}
		f, err := startHTTP(cmd.Context(), built.binary, env, &results{each: w.finish}, first)
		if err != nil {
			built.remove()
			return nil, 0, nil, startError(fmt.Errorf("%w: %q", err, first.String()))
		}
		end := func() { f.stop(); built.remove() }
		ask, err := openHTTP(f.URL+"/", token, o.timeout)
		if err != nil {
			end()
			return nil, 0, nil, err
		}
		return func(ctx context.Context, batch []events.Event) []run.Answer {
			began := time.Now()
			a := answerOf(batch[0], ask(ctx, batch)[0], began)
			for wait := time.Millisecond; a.Status == run.Decided && wait < time.Second && !j.Decided(a.Result); wait *= 2 {
				pause(ctx, wait) // its event says more than its answer, and comes another way
			}
			return []run.Answer{a}
		}, 1, end, nil
	}, nil
}

// head passes a log on and keeps its beginning: why a function did not start.
type head struct {
	shown io.Writer
	mu    sync.Mutex
	kept  []byte
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept = append(h.kept, p[:min(len(p), 16<<10-len(h.kept))]...)
	return h.shown.Write(p)
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.kept)
}

// most bounds the requests under way at a function (design, REPUSH_CONCURRENCY).
const most = 150

// run works the journal off, closes it, and says what came of it.
func (o runOptions) run(cmd *cobra.Command, j *run.Journal, begin beginner) (err error) {
	defer func() { err = errors.Join(err, j.Close()) }()
	ctx := cmd.Context()
	leave, done := secondInterrupt(ctx)
	defer done()
	before := j.Counts()
	if before.Left() == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "nothing is left to do")
		return o.conclude(cmd, j, nil)
	}
	w := newWatch(cmd, j, o.json)
	defer w.close()
	send, batch, end, err := begin(j, w)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		return fmt.Errorf("nothing was sent: %w; go on with\n  repush resume %s", err, j.Path)
	}
	w.say("run %s, %d of %d left, state file %s", j.Header.ID, before.Left(), j.Header.Count, j.Path)
	err = run.Runner{Journal: j, Send: send, Batch: batch, QPS: j.Header.QPS, Most: most, Patience: o.wait, Seen: w.seen}.Run(ctx, leave)
	if !errors.Is(err, run.ErrLeft) {
		end()
	}
	w.close()
	return o.conclude(cmd, j, err)
}

// allowOf is an allow-list of what is asked for.
func allowOf(requests []events.Event) string {
	var all []string
	for _, e := range requests {
		if asked, err := events.DecodeRequested(e.Data); err == nil {
			all = append(all, asked.InstanceID+"/"+asked.GroupID+"/"+asked.Topic)
		}
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ",")
}

// secondInterrupt is done at the second interrupt: the first ends ctx, which has to be
// that of main.
func secondInterrupt(ctx context.Context) (leave context.Context, stop func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
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
