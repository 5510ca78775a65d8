package report

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/csv"
	"html/template"
	"io"
	"slices"
	"strconv"
	"strings"
	text "text/template"
	"time"

	"github.com/ons-repush/ons-repush/events"
)

//go:embed report.html.tmpl
var pageTemplate string

//go:embed report.md.tmpl
var textTemplate string

const (
	mostProblems = 500    // rows that stand in the page itself
	mostInTicket = 50     // rows in Markdown
	mostRows     = 50_000 // rows of the full table, problems first
	perLink      = 8_000  // rows of a download: browsers take links up to 2 MB
	mostLinks    = 5
)

// page is what the templates see.
type page struct {
	Report
	Policy                string
	Style, Script         template.HTML
	Charts                []chart
	Causes                []cause
	Problems              []item
	More                  int // problems that are not among Problems
	Unread                []string
	LeftLinks, AgainLinks []template.URL
	Table                 table
}

// functions of all templates.
func functions() map[string]any {
	return map[string]any{
		"number": number, "ms": milliseconds, "rate": perSecond, "fates": Fates, "tiles": tiles, "problem": isProblem, "md": escapeMarkdown,
		"percent": func(part float64) string { return strconv.FormatFloat(100*part, 'f', 1, 64) + " %" },
		"at":      func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05") },
		"took":    func(from, to time.Time) string { return to.Sub(from).Round(time.Second).String() },
		"top":     func(height float64) float64 { return 100 - height },
		"inc":     func(i int) int { return i + 1 },
		"kind":    kind,
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

func (r Report) page(most int) page {
	p := page{Report: r, Causes: r.causes, Unread: r.problems}
	for i, one := range r.items { // problems are first
		if isProblem(one.Fate) && i < most {
			p.Problems = r.items[:i+1]
		} else if isProblem(one.Fate) {
			p.More++
		}
	}
	return p
}

// WriteHTML writes one page that needs nothing else, and runs and shows nothing but
// what is in it.
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
		*to = template.HTML(out.String()) //nolint:gosec // our own file
		sum := sha256.Sum256([]byte(between(out.String())))
		p.Policy += "; " + name + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	p.Charts = []chart{r.rateChart(), timeChart("Waiting, from receipt to the call", r.waits, r.Wait), timeChart("The call itself", r.calls, r.Call)}
	p.LeftLinks, p.AgainLinks, p.Table = links(r.leftovers), links(r.unknowns), r.table()
	return t.Execute(w, p)
}

// between is what stands in an element: what its hash is made of.
func between(element string) string {
	_, rest, _ := strings.Cut(element, ">")
	return rest[:strings.LastIndex(rest, "</")]
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

// escapeMarkdown leaves no character that Markdown or HTML would read, nor an end of
// a table's cell.
func escapeMarkdown(text string) string {
	var out strings.Builder
	for _, c := range clean(text) {
		switch {
		case c == '<':
			out.WriteString("&lt;")
		case strings.ContainsRune("\\`*_{}[]>#|~&", c):
			out.WriteString("\\" + string(c))
		default:
			out.WriteRune(c)
		}
	}
	return out.String()
}

// WriteCSV writes requests as input for inject.
func WriteCSV(w io.Writer, requests []events.Requested) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{"instanceId", "topic", "groupId", "msgId", "storedAt", "clientId", "offsetId", "onUnknown", "generation", "unconsumed"})
	for _, q := range requests {
		row := []string{q.InstanceID, q.Topic, q.GroupID, q.MsgID, "", q.ClientID, q.OffsetID, string(q.OnUnknown), strconv.Itoa(max(1, q.Generation)), ""}
		if !q.StoredAt.IsZero() {
			row[4] = q.StoredAt.UTC().Format(time.RFC3339Nano)
		}
		if q.Unconsumed {
			row[9] = "true"
		}
		_ = out.Write(row)
	}
	out.Flush()
	return out.Error()
}

// links are downloads of requests that need no script; none where there are too many.
func links(requests []events.Requested) (all []template.URL) {
	if len(requests) > mostLinks*perLink {
		return nil
	}
	for len(requests) > 0 {
		n := min(perLink, len(requests))
		var out strings.Builder
		_ = WriteCSV(&out, requests[:n])
		// Requests keep the rules of the contract, so that this is all there is to escape.
		escaped := strings.NewReplacer("%", "%25", "#", "%23", "+", "%2B", "\n", "%0A").Replace(out.String())
		all, requests = append(all, template.URL("data:text/csv;charset=utf-8,"+escaped)), requests[n:] //nolint:gosec // as said
	}
	return all
}

// table is the full one, for the script: texts that repeat are numbers.
type table struct {
	Base  int64    `json:"base"` // Unix time in milliseconds
	Texts []string `json:"texts"`
	Rows  [][]any  `json:"rows"`
	All   int      `json:"all"`
}

func (r Report) table() table {
	t := table{Base: r.From.UnixMilli(), All: len(r.items)}
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
		var at, wait, call any
		if i.Outcome != "" {
			at = i.DecidedAt.UnixMilli() - t.Base
		}
		if i.own {
			wait, call = i.WaitMs, i.CallMs
		}
		notes := ""
		if i.MaybeDuplicate {
			notes = "maybe twice"
		}
		t.Rows = append(t.Rows, []any{code(string(i.Fate)), code(i.Code), i.Asked.MsgID, code(i.Asked.Topic), code(i.Asked.GroupID), code(i.Asked.InstanceID),
			at, wait, call, i.Attempts, i.generation(), code(notes), code(i.ClientID), i.RequestID, code(i.Message), code(i.Hint)})
	}
	return t
}
