package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

// print shows what came of a run, and says whether it ended well.
func (r *planRun) print(out io.Writer, answer returned, isDone bool) error {
	p, missing := r.results.manifest()
	switch {
	case missing != nil && !isDone:
		return nil
	case r.json:
		shown := map[string]any{"resumed": r.resumed, "requests": answer.Requests, "sent": r.sent(), "endedBadly": r.badly, "code": answer.Code, "message": answer.Message}
		if missing == nil {
			shown["manifest"] = p
		}
		if err := indented(out).Encode(shown); err != nil {
			return err
		}
	case missing != nil:
		fmt.Fprintf(out, "the manifest went out before this run, or by another process: operation %s\n", answer.OperationID)
	default:
		fmt.Fprintln(printableLines(out), strings.Join(manifestLines(p), "\n"))
	}
	switch {
	case r.json || missing == nil && p.OperationID == "":
	case r.goOn:
		line := fmt.Sprintf("requests  %d handed over by this run", r.sent())
		if len(r.badly) > 0 {
			line += "; of these " + counted(r.badly)
		}
		fmt.Fprintln(printableLines(out), strings.TrimRight(line+"; "+answer.Message, "; "))
	default:
		fmt.Fprintln(out, "dry: nothing was sent; --go --to TARGET sends the requests")
	}
	switch {
	case !isDone:
	case !answer.planned() && answer.OperationID == "":
		return errors.New(answer.reason())
	case !answer.planned() && r.sent() == 0:
		return fmt.Errorf("%s; the same command plans anew", answer.reason())
	case !answer.planned():
		r.say("%s; the same command plans anew", answer.reason())
		return errPartial
	case p.Incomplete+answer.Manifest.Incomplete != "", len(r.badly) > 0:
		return errPartial
	}
	return nil
}

func manifestLines(p events.Planned) []string {
	byTopic := make(map[string]int)
	for _, e := range p.Entries {
		byTopic[e.Topic]++
	}
	lines := []string{p.Message}
	if p.OperationID != "" {
		lines = []string{
			fmt.Sprintf("%s: %d to push, by topic %s", p.GroupID, p.Count, counted(byTopic)),
			fmt.Sprintf("sha256 %s, operation %s", p.SHA256, p.OperationID),
			fmt.Sprintf("about %s at the quota; %d will expire before their turn", time.Duration(p.Estimate.Seconds)*time.Second, p.Estimate.Expiring),
		}
	}
	for _, out := range p.LeftOut {
		lines = append(lines, fmt.Sprintf("left out %d: %s", out.Count, out.Reason))
	}
	if p.Incomplete != "" {
		lines = append(lines, "INCOMPLETE, there may be more: "+p.Incomplete)
	}
	return append(lines, "API calls "+counted(p.Calls))
}

func counted(n map[string]int) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(n)) {
		all = append(all, fmt.Sprintf("%d %s", n[name], name))
	}
	return strings.Join(append(all, []string{"none"}[:max(0, 1-len(n))]...), ", ")
}
