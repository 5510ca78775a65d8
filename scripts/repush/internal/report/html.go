package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the two templates
	"encoding/base64"
	"encoding/csv"
	"html/template"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	text "text/template"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

var (
	//go:embed report.html.tmpl
	pageTemplate string
	//go:embed report.md.tmpl
	textTemplate string
)

const (
	mostProblems = 500    // rows that stand in the page itself
	mostInTicket = 50     // rows in Markdown
	mostRows     = 50_000 // rows of the full table, problems first
	perLink      = 8_000  // rows of a download: Chromium takes links up to 2 MB
	mostLinks    = 5
)

// page is what the templates see.
type page struct {
	Report
	Policy                string
	Style, Script         template.HTML
	Charts                []chart
	Causes                []cause
	Problems              []item // and behind them what was maybe given twice
	More                  int    // that are not among Problems
	Lapsed                bool   // some are left whose notAfter passed
	Unread                []string
	LeftLinks, AgainLinks []template.URL
	Table                 table
}

func (r Report) page(most int) page {
	var twice, problems []item
	for _, i := range r.items {
		switch {
		case isProblem(i.Fate):
			problems = append(problems, i)
		case i.MaybeDuplicate:
			twice = append(twice, i)
		}
	}
	first := min(len(problems), max(most/2, most-len(twice))) // neither crowds the other out
	problems = slices.Concat(problems[:first], twice, problems[first:])
	shown := min(most, len(problems))
	lapsed := slices.ContainsFunc(r.causes, func(c cause) bool { return c.Fate == events.Expired && c.Code == "NotAfter" })
	return page{Report: r, Causes: r.causes, Unread: r.problems, Problems: problems[:shown], More: len(problems) - shown, Lapsed: lapsed}
}

// answersNote says what is missing of results that answers tell.
func answersNote(n int) string {
	return number(n) + " results were made of the function's answers; its own result events (REPUSH_RESULTS) tell more: repush report STATE EVENTS.jsonl"
}

// functions of all templates.
func functions() map[string]any {
	return map[string]any{
		"number": number, "ms": milliseconds, "rate": perSecond, "fates": Fates, "tiles": tiles, "problem": isProblem, "kind": kind, "md": escapeMarkdown,
		"answers": answersNote, "of": func(counts map[events.Outcome]int, fate string) int { return counts[events.Outcome(fate)] },
		"percent": func(part float64) string { return strconv.FormatFloat(100*part, 'f', 1, 64) + " %" },
		"at":      func(t time.Time) string { return t.UTC().Format(time.DateTime) },
		"took":    func(from, to time.Time) string { return to.Sub(from).Round(time.Second).String() },
		"top":     func(height float64) float64 { return 100 - height },
		"inc":     func(i int) int { return i + 1 },
	}
}

// tiles are the fates with what is hoped for first.
func tiles() []events.Outcome { return slices.Insert(Fates(), 0, events.Pushed)[:len(Fates())] }

// kind is how a fate is marked, beside its name.
func kind(o events.Outcome) string {
	switch o {
	case events.Pushed:
		return "good"
	case events.Unknown, InDoubt:
		return "doubt"
	case events.Failed, events.Abandoned, events.Rejected, events.Expired:
		return "bad"
	}
	return "rest"
}

// WriteHTML writes one page that needs nothing else, and whose policy lets nothing
// run or load but what is in it.
func (r Report) WriteHTML(w io.Writer) error {
	t, err := template.New("page").Funcs(functions()).Parse(pageTemplate)
	if err != nil {
		return err
	}
	p := r.page(mostProblems)
	p.Policy = "default-src 'none'; base-uri 'none'; form-action 'none'"
	for name, to := range map[string]*template.HTML{"style": &p.Style, "script": &p.Script} {
		var out bytes.Buffer
		if err := t.ExecuteTemplate(&out, name, nil); err != nil {
			return err
		}
		_, inside, _ := strings.Cut(out.String(), ">")
		sum := sha256.Sum256([]byte(strings.TrimSuffix(inside, "</"+name+">")))
		p.Policy += "; " + name + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
		*to = template.HTML(out.String())
	}
	p.Charts = []chart{r.rateChart(), timeChart("Waiting, from receipt to the call", r.waits, r.Wait), timeChart("The call itself", r.ends, r.Call)}
	p.LeftLinks, p.AgainLinks, p.Table = links(r.leftovers), links(r.unknowns), r.table()
	return t.Execute(w, p)
}

// WriteMarkdown writes the same for a ticket, with the first 50 problems.
func (r Report) WriteMarkdown(w io.Writer) error { return r.write(w, "markdown", mostInTicket) }

// WriteText writes a few lines.
func (r Report) WriteText(w io.Writer) error { return r.write(w, "text", 0) }

func (r Report) write(w io.Writer, name string, problems int) error {
	t, err := text.New(name).Funcs(functions()).Parse(textTemplate)
	if err != nil {
		return err
	}
	return t.ExecuteTemplate(w, name, r.page(problems))
}

// linked are words of which a ticket's system makes a link or a mention, which no escape
// prevents; special is what Markdown reads.
var (
	linked  = regexp.MustCompile(`(?i)\S*(://|www\.|[@#]\w)\S*`)
	special = regexp.MustCompile("[\\\\`*_{}\\[\\]>#|~&]")
)

// escapeMarkdown leaves no character that Markdown or HTML would read, nor an end of
// a table's cell. What would become a link is code.
func escapeMarkdown(text string) string {
	text = clean(text)
	out, done := "", 0
	for _, at := range append(linked.FindAllStringIndex(text, -1), []int{len(text), len(text)}) {
		out += strings.ReplaceAll(special.ReplaceAllString(text[done:at[0]], `\$0`), "<", "&lt;")
		if done = at[1]; at[0] < done {
			out += "`" + strings.NewReplacer("`", "'", "|", "¦").Replace(text[at[0]:done]) + "`"
		}
	}
	return out
}

// WriteCSV writes requests as input for inject.
func WriteCSV(w io.Writer, requests []events.Requested) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{"instanceId", "topic", "groupId", "msgId", "storedAt", "clientId", "offsetId", "onUnknown", "generation", "unconsumed"})
	for _, q := range requests {
		storedAt, unconsumed := "", ""
		if !q.StoredAt.IsZero() {
			storedAt = q.StoredAt.UTC().Format(time.RFC3339Nano)
		}
		if q.Unconsumed {
			unconsumed = "true"
		}
		_ = out.Write([]string{q.InstanceID, q.Topic, q.GroupID, q.MsgID, storedAt, q.ClientID, q.OffsetID, string(q.OnUnknown), strconv.Itoa(max(1, q.Generation)), unconsumed})
	}
	out.Flush()
	return out.Error()
}

// links are downloads of requests that need no script; none where there are too many.
func links(requests []events.Requested) (all []template.URL) {
	if len(requests) > mostLinks*perLink {
		return nil
	}
	for part := range slices.Chunk(requests, perLink) {
		var out strings.Builder
		_ = WriteCSV(&out, part) // to memory
		// In fields that keep the rules of the contract this is all there is to escape.
		escape := strings.NewReplacer("%", "%25", "#", "%23", "+", "%2B", "\n", "%0A")
		all = append(all, template.URL("data:text/csv;charset=utf-8,"+escape.Replace(out.String())))
	}
	return all
}

// table is the full one, for the script. Texts that repeat are numbers in Rows, whose
// times begin at Base (Unix, in milliseconds).
type table struct {
	Base  int64                     `json:"base"`
	Texts []string                  `json:"texts"`
	Kinds map[events.Outcome]string `json:"kinds"`
	Rows  [][]any                   `json:"rows"`
	All   int                       `json:"all"`
}

func (r Report) table() table {
	t := table{Base: r.From.UnixMilli(), All: len(r.items), Texts: []string{}, Rows: [][]any{}, Kinds: make(map[events.Outcome]string)}
	for _, fate := range Fates() {
		t.Kinds[fate] = kind(fate)
	}
	known := make(map[string]int)
	code := func(text string) int {
		n, is := known[text]
		if !is {
			n, known[text] = len(t.Texts), len(t.Texts)
			t.Texts = append(t.Texts, text)
		}
		return n
	}
	for _, i := range r.items[:min(mostRows, len(r.items))] {
		var at, wait, call, calls any // null: not known
		if i.Outcome != "" {
			at = i.DecidedAt.UnixMilli() - t.Base
		}
		if i.own {
			wait, call, calls = i.WaitMs, i.CallMs, i.Attempts
		}
		note := map[bool]string{true: "maybe given twice"}[i.MaybeDuplicate]
		t.Rows = append(t.Rows, []any{code(string(i.Fate)), code(i.Code), i.Asked.MsgID, code(i.Asked.Topic), code(i.Asked.GroupID), code(i.Asked.InstanceID),
			at, wait, call, calls, max(1, i.Asked.Generation), code(note), code(i.ClientID), i.RequestID, code(i.Message), code(i.Hint)})
	}
	return t
}
