package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/scripts/repush/internal/openapi"
)

type whyOptions struct {
	targetOptions
	ons string
}

func newWhy() *cobra.Command {
	var o whyOptions
	cmd := &cobra.Command{
		Use:   "why --instance ID --topic NAME --group GID --msg ID",
		Short: "Say why a message is stuck, until when it exists, and what a push would do",
		Long: `Say why a message is stuck, until when it exists, who is online, what was decided
about it before, and what a push would do. Nothing is pushed and nothing changes.

The ONS OpenAPI is asked once each for the message, its dead letter, its trace and the
group's connections. With --to the function at TARGET is
asked what its ledger knows: fc://FUNCTION, fc2://SERVICE/FUNCTION, or https://…
with REPUSH_HTTP_TOKEN. Credentials as for push.

Exit status: 0 everything could be read, 3 something could not, 1 nothing could.`,
		Example: `  repush why --instance MQ_INST_1380156306793859_BbXbx0Y4 --topic orders \
    --group GID_billing --msg C000021112CD18B4AAC26E1A0B570001 \
    --region cn-hangzhou --to fc://repush`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	for _, r := range requestFlags[:4] { // those that name a message
		f.String(r.flag, "", r.doc)
	}
	o.addTarget(cmd, "the function whose ledger is asked too")
	o.addRegion(cmd)
	f.StringVar(&o.ons, "ons", "", "another ONS OpenAPI endpoint: https, or http to loopback")
	f.DurationVar(&o.timeout, "timeout", 15*time.Second, "how long one answer may take")
	f.BoolVar(&o.json, "json", false, "print one JSON object")
	return cmd
}

func (o whyOptions) run(cmd *cobra.Command) error {
	ctx := cmd.Context()
	asked, err := operationOf(cmd, events.Status, nil)
	switch {
	case err != nil:
		return err
	case asked.MsgID == "":
		return usage(errors.New("--instance, --topic, --group and --msg: are required"))
	case o.region == "":
		return usage(errors.New("--region: is required, or REPUSH_REGION in the environment"))
	}
	if _, _, err := endpoint(cmp.Or(o.ons, "https://default")); err != nil {
		return usage(fmt.Errorf("--ons: %w", err))
	}
	keys, _, err := operatorCredentials(ctx)
	if err != nil {
		return err
	}
	api, err := openapi.New(openapi.Options{Region: o.region, Endpoint: cmp.Or(o.ons, os.Getenv("REPUSH_ONS_ENDPOINT")), Credentials: keys, Timeout: o.timeout})
	if err != nil {
		return err
	}
	var ledger target
	if o.to != "" {
		if ledger, err = o.openDirect(ctx); err != nil {
			return err
		}
	}
	w := why{Asked: asked, At: time.Now().UTC().Truncate(time.Second), NotSeen: make(map[string]whyFailure), where: o}
	reads := w.read(ctx, api, ledger)
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	w.judge()
	if o.json {
		err = indented(cmd.OutOrStdout()).Encode(w)
	} else {
		err = w.print(cmd.OutOrStdout())
	}
	switch {
	case len(w.NotSeen) == reads:
		err = cmp.Or(err, errors.New("nothing could be read"))
	case len(w.NotSeen) > 0:
		err = cmp.Or(err, errPartial)
	}
	return err
}

// why is what the reads say of one message, and what follows.
type why struct {
	Asked   events.Operation `json:"asked"`
	At      time.Time        `json:"at"`
	Verdict string           `json:"verdict"`
	Next    []string         `json:"next"`
	APush   string           `json:"aPush"`
	// Gone: the API says that there is no such message.
	Gone       bool                 `json:"gone"`
	Message    openapi.Message      `json:"message,omitzero"`
	DeadLetter openapi.Message      `json:"deadLetter,omitzero"`
	Trace      []openapi.Track      `json:"trace"`
	Online     []openapi.Connection `json:"online"`
	Ledger     json.RawMessage      `json:"ledger,omitempty"` // the function's report
	// NotSeen are the reads that failed, by their names here. What is not found
	// and not in it does not exist.
	NotSeen map[string]whyFailure `json:"notSeen"`

	where   whyOptions
	history standing
	remedy  string // goes before a push that ended without one
}

// whyFailure is why something is not known, and what to do about it.
type whyFailure struct {
	Error string       `json:"error"`
	Code  string       `json:"code,omitempty"`
	Kind  openapi.Kind `json:"kind,omitempty"`
	Next  string       `json:"next"`
}

// read asks all questions at the same time, each once, and counts them.
func (w *why) read(ctx context.Context, api *openapi.Client, ledger target) int {
	a := w.Asked
	reads := map[string]func() error{
		"message": func() (err error) { w.Message, err = api.Message(ctx, a.InstanceID, a.Topic, a.MsgID); return err },
		"deadLetter": func() (err error) {
			w.DeadLetter, err = api.DeadLetter(ctx, a.InstanceID, a.GroupID, a.MsgID)
			return err
		},
		"trace":  func() (err error) { w.Trace, err = api.Trace(ctx, a.InstanceID, a.Topic, a.MsgID); return err },
		"online": func() (err error) { w.Online, err = api.Connections(ctx, a.InstanceID, a.GroupID); return err },
	}
	if ledger != nil {
		reads["ledger"] = func() error { return w.ask(ctx, ledger) }
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	for name, read := range reads {
		all.Go(func() {
			err := read()
			mu.Lock()
			defer mu.Unlock()
			w.note(name, err)
		})
	}
	all.Wait()
	if w.Gone && w.Message.MsgID != "" {
		w.Gone, w.NotSeen["trace"] = false, whyFailure{Error: "the API returned the message, and says that there is none", Next: "ask again"}
	}
	return len(reads)
}

// note tells what does not exist from what is not known.
func (w *why) note(name string, err error) {
	var answer *openapi.Error
	switch {
	case err == nil:
	case !errors.As(err, &answer):
		w.NotSeen[name] = whyFailure{Error: err.Error(), Next: "check --to, and that the function is deployed and runs"}
	case name == "online" && answer.Code == openapi.NotOnline, name == "deadLetter" && answer.Code == openapi.NoMessage:
	case name != "online" && answer.Code == openapi.NoMessage:
		w.Gone = true
	default:
		kind, next := answer.Explain()
		w.NotSeen[name] = whyFailure{answer.Error(), answer.Code, kind, next}
	}
}

func (w *why) ask(ctx context.Context, ledger target) error {
	var err error
	if w.Ledger, _, err = ledger.ask(ctx, "why", w.Asked); err != nil {
		return err
	}
	if json.Unmarshal(w.Ledger, &w.history) != nil || w.history.History == nil {
		return errors.New("the function's report is none that this version understands; --json shows it")
	}
	return nil
}

func whyTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

func whyAge(d time.Duration) string {
	return cmp.Or(strings.TrimSuffix(d.Round(time.Minute).String(), "0s"), "0m")
}

// print shows it on one screen. What others have written cannot steer the terminal.
func (w *why) print(out io.Writer) error {
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s%s\n", label, printable(fmt.Sprintf(format, args...)))
	}
	lines := func(label, name, none string, all []string) {
		f, failed := w.NotSeen[name]
		switch {
		case failed:
			all = []string{"NOT SEEN: " + f.Error}
		case len(all) == 0:
			all = []string{none}
		}
		for _, text := range all {
			line(label, "%s", text)
			label = ""
		}
	}
	line("verdict", "%s", w.Verdict)
	lines("next", "", "nothing", w.Next)
	lines("message", "message", "does not exist", whyStored(w.Message, w.At))
	lines("dead", "deadLetter", "no dead letter of "+w.Asked.GroupID, whyStored(w.DeadLetter, w.At))
	var tracks, clients []string
	for _, t := range w.Trace {
		tracks = append(tracks, strings.TrimRight(fmt.Sprintf("%s  %s: %s %s", t.Group, t.Type, whyTracks[t.Type], t.Exception), ": "))
	}
	for _, c := range w.Online {
		clients = append(clients, fmt.Sprintf("%s  %s %s  %s", c.ClientID, c.Language, c.Version, c.Addr))
	}
	if len(clients) > 0 {
		clients = append([]string{fmt.Sprintf("%d of %s; client ids change at every restart", len(clients), w.Asked.GroupID)}, clients...)
	}
	lines("trace", "trace", "none", tracks)
	lines("online", "online", "nobody of "+w.Asked.GroupID, clients)
	if _, failed := w.NotSeen["ledger"]; failed || w.Ledger == nil {
		lines("ours", "ledger", "not asked: name the function with --to", nil)
	} else if err := printStatus(printableLines(&b), w.Ledger); err != nil {
		return err
	}
	line("a push", "%s", w.APush)
	_, err := io.WriteString(out, b.String())
	return err
}

// whyStored says since when and until when it exists, and what it is.
func whyStored(m openapi.Message, now time.Time) (lines []string) {
	if m.MsgID == "" {
		return nil
	}
	ends, deleted := m.StoredAt.Add(whyRetention), "at any time"
	if left := ends.Sub(now); left > 0 {
		deleted = fmt.Sprintf("about %s, in %s", whyTime(ends), whyAge(left))
	}
	lines = []string{fmt.Sprintf("stored %s, %s ago; the broker deletes it %s", whyTime(m.StoredAt), whyAge(now.Sub(m.StoredAt)), deleted)}
	if m.StoredAt.IsZero() {
		lines[0] = "exists; since when is not said"
	}
	about := fmt.Sprintf("on %s, born %s at %s, %d retries", m.StoreHost, whyTime(m.BornAt), m.BornHost, m.ReconsumeTimes)
	for _, name := range []string{"TAGS", "KEYS", "UNIQ_KEY", "DLQ_ORIGIN_TOPIC", "DLQ_ORIGIN_MESSAGE_ID"} {
		if v := m.Properties[name]; v != "" {
			about += fmt.Sprintf(", %s %q", name, v)
		}
	}
	return append(lines, about)
}
