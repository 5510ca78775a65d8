package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ons-repush/ons-repush/scripts/repush/internal/openapi"
)

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
