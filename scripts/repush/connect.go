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
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/run"
)

// connected is a target that a run may begin with.
type connected struct {
	send  func(context.Context, []events.Event) []run.Answer
	batch int    // events that send takes at once
	most  int    // requests under way
	end   func() // of what was started for it
	// remove takes away what was built for it.
	remove func()
}

// beginner starts what a run needs.
type beginner func(j *run.Journal, w *watch) (connected, error)

// most bounds the requests under way at a function (design, REPUSH_CONCURRENCY).
const most = 150

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
	c := connected{batch: 1, most: most, end: func() {}, remove: func() {}}
	switch kind, _, _ := strings.Cut(o.to, "://"); kind {
	case "eventbridge", "mns":
		c.batch = 100
	case "fc2": // its calls take turns: what waited for one would seem to have no answer
		c.most = 1
	}
	return func(_ *run.Journal, w *watch) (connected, error) {
		c.send = func(ctx context.Context, batch []events.Event) []run.Answer {
			began := time.Now()
			answers := make([]run.Answer, len(batch))
			for i, d := range send(ctx, batch) {
				showLog(w.display, d)
				answers[i] = answerOf(batch[i], d, began)
			}
			return answers
		}
		return c, nil
	}, nil
}

// connectLocal is for the function on this machine. It serves plain HTTP on loopback
// to who knows a token that only this process does; its result events come by its
// standard output.
func (o runOptions) connectLocal(cmd *cobra.Command) (beginner, error) {
	l := localFlags{functionFlags: functionFlags{bin: o.bin, logs: o.logs}, region: o.region, ons: o.ons, state: o.ledger, timeout: o.timeout, dry: o.dry}
	keys, err := l.complete(cmd.Context(), pushLedger)
	if err != nil {
		return nil, err
	}
	if o.ledgerMark != "" && o.ledgerMark != markOf(l.state) {
		return nil, usage(errors.New("REPUSH_STATE: is another ledger than the run was begun with, which does not know what was pushed"))
	}
	return func(j *run.Journal, w *watch) (c connected, err error) {
		token := rand.Text()
		env := append(l.environment(keys), "REPUSH_HTTP_TOKEN="+token, fmt.Sprintf("REPUSH_QPS=%g", j.Header.QPS))
		if os.Getenv("REPUSH_ALLOW") == "" {
			allow := append(allowOf(j.Requests()), leftAllowed(l.state)...)
			slices.Sort(allow)
			list := strings.Join(slices.Compact(allow), ",")
			w.say("REPUSH_ALLOW is not set: this run may push %s and nothing else", list)
			env = append(env, "REPUSH_ALLOW="+list)
		}
		built, err := prepare(cmd.Context(), repushFunction, l.bin, w.say)
		if err != nil {
			return c, err
		}
		f, err := o.startLocal(cmd.Context(), built.binary, env, w)
		if err != nil {
			built.remove()
			return c, err
		}
		var ending atomic.Bool
		c = connected{batch: 1, most: most, end: func() { ending.Store(true); f.stop() }, remove: built.remove}
		go func() { // or it would be looked for until an outage is one
			err := <-f.done
			if f.done <- err; !ending.Load() {
				w.stop(fmt.Errorf("the function on this machine ended (--logs shows why): %v", err))
			}
		}()
		ask, err := openHTTP(f.URL+"/", token, o.timeout)
		if err != nil {
			c.end()
			c.remove()
			return c, err
		}
		c.send = func(ctx context.Context, batch []events.Event) []run.Answer {
			began := time.Now()
			a := answerOf(batch[0], ask(ctx, batch)[0], began)
			for wait := time.Millisecond; a.Status == run.Decided && wait < time.Second && !j.Decided(a.Result); wait *= 2 {
				pause(ctx, wait) // its event says more than its answer, and comes another way
			}
			return []run.Answer{a}
		}
		return c, nil
	}, nil
}

// startLocal starts the function. One that was left by a run before may still be
// finishing what it had under way, and has the ledger until then.
func (o runOptions) startLocal(ctx context.Context, binary string, env []string, w *watch) (*httpFunction, error) {
	for began := time.Now(); ; {
		first := &head{shown: io.Discard}
		if o.logs {
			first.shown = w.display
		}
		f, err := startHTTP(ctx, binary, env, &results{each: w.finish}, first)
		if err == nil {
			return f, nil
		}
		isInUse := strings.Contains(string(first.kept), "in use by another process")
		if !isInUse || time.Since(began) > 30*time.Second || !pause(ctx, time.Second) {
			return nil, startError(fmt.Errorf("%w: %q", err, first.kept))
		}
		w.say("another process has the ledger: waiting for it, 30 s at most")
	}
}

// head passes a log on and keeps its beginning: why a function did not start. That is
// read when the function, which alone writes, has ended.
type head struct {
	shown io.Writer
	kept  []byte
}

func (h *head) Write(p []byte) (int, error) {
	h.kept = append(h.kept, p[:min(len(p), 16<<10-len(h.kept))]...)
	return h.shown.Write(p)
}

// allowOf is an allow-list of what is asked for.
func allowOf(requests []events.Event) (all []string) {
	for _, e := range requests {
		if asked, err := events.DecodeRequested(e.Data); err == nil {
			all = append(all, asked.InstanceID+"/"+asked.GroupID+"/"+asked.Topic)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// leftAllowed is the allow-list of earlier local runs with the same ledger. What they
// left parked there is taken up by the function's own sweep, and would be rejected for
// good by a shorter list. Runs are forgotten as the ledger forgets them (design:
// REPUSH_MAX_AGE and a day).
func leftAllowed(ledger string) (all []string) {
	known, _ := runFiles() // or there is none
	for _, file := range known {
		h, err := run.ReadHeader(file.path)
		if err == nil && h.Target["to"] == toLocal && h.Target["ledger"] == markOf(ledger) && time.Since(h.StartedAt) < 96*time.Hour {
			all = append(all, strings.Split(h.Target["allow"], ",")...)
		}
	}
	return all
}

// markOf tells ledgers apart and shows none: a setting may hold a password.
func markOf(state string) string {
	sum := sha256.Sum256([]byte(state))
	return hex.EncodeToString(sum[:8])
}

// answerOf reads what a function, or a queue, said of one request.
func answerOf(e events.Event, d delivery, began time.Time) run.Answer {
	statuses := map[status]run.Status{handedOver: run.HandedOver, givenBack: run.GivenBack, refused: run.Refused, notSent: run.Refused}
	a := run.Answer{Status: statuses[d.Status], Why: cmp.Or(d.Message, string(d.Status))} // of all others [run.Unanswered]
	said := read(d.Answer)
	switch {
	case d.Status == answered && d.Outcome != "" && len(said.Results) == 1: // none where hiding a secret broke it
		r := said.Results[0]
		c := events.Completed{
			Request: events.RequestRef{ID: e.ID, Source: e.Source}, Outcome: d.Outcome, Code: r.Code, Message: r.Message, Hint: r.Hint,
			MaybeDuplicate: r.MaybeDuplicate,
			ReceivedAt:     began.UTC(), DecidedAt: time.Now().UTC(),
		}
		if asked, err := events.DecodeRequested(e.Data); err == nil {
			c.Request.Data = &asked
		}
		if first := settled(d.Outcome, r.Message); first != d.Outcome { // decided by now: the answer does not tell when
			id, _, _ := strings.Cut(strings.TrimPrefix(r.Message, "event "), " asked for this generation")
			c.First = &events.First{EventID: id, Outcome: first, DecidedAt: c.DecidedAt}
		}
		result, err := events.NewCompleted(c)
		if err != nil {
			return run.Answer{Status: run.Unanswered, Why: notRepush}
		}
		result.Source = run.Source + "inject"
		a.Status, a.Result = run.Decided, result
		a.Pushed = r.Outcome == events.Pushed || r.Outcome == events.Unknown || r.Outcome == events.Failed
	case d.Status == answered:
		a.Why = notRepush
	case d.Status == handedOver && len(d.Answer) > 0:
		a.Status = run.Parked
	}
	return a
}

// decodeCompleted reads a result event of this command or of a function.
func decodeCompleted(e events.Event) (c events.Completed) {
	_ = json.Unmarshal(e.Data, &c) // what cannot be read says nothing
	return c
}
