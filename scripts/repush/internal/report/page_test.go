package report

import (
	"bytes"
	"html"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ons-repush/ons-repush/events"
)

// evil are texts as nobody should write them.
const evil = "</script><img src=x onerror=alert(1)>\" ' ` | *b* [l](http://x) \x1b[31m\x00\u202e &lt; {{.}}"

func evilResult(c *events.Completed) {
	c.Message, c.Hint, c.Code, c.RequestID, c.ClientID, c.Request.ID = evil, evil, evil, evil, evil, "1 </script><img src=x onerror=alert(1)>"
}

// TestNothingOfAnEventIsMarkup: in no format.
func TestNothingOfAnEventIsMarkup(t *testing.T) {
	t.Parallel()
	results := read(t, own(t, done(1, 100, events.Unknown, evilResult)))
	r := New(results, Options{Title: evil, Now: began})
	for name, test := range map[string]struct {
		write  func(io.Writer) error
		absent string // a pattern
	}{
		"page":     {r.WriteHTML, `<img|alert\(1\)>"|\x1b|\x00|\x{202e}`},
		"Markdown": {r.WriteMarkdown, `<img|[^\\]\||[^\\]\*b|\x1b|\x00|\x{202e}|` + "[^\\\\]`"},
		"text":     {r.WriteText, `\x1b|\x00|\x{202e}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if err := test.write(&out); err != nil {
				t.Fatal(err)
			}
			var texts strings.Builder
			for l := range strings.Lines(out.String()) {
				if name != "Markdown" || strings.Contains(l, "onerror") {
					if name == "Markdown" { // the cells of the table itself
						l = regexp.MustCompile(`^\| | \|\n$| \| `).ReplaceAllString(l, " ")
						l = strings.ReplaceAll(l, "`[l](http://x)`", "") // our code
					}
					texts.WriteString(l)
				}
			}
			if got := regexp.MustCompile(test.absent).FindAllString(texts.String(), -1); got != nil || !strings.Contains(out.String(), "onerror") {
				t.Errorf("%q in\n%s", got, texts.String())
			}
		})
	}
}

func TestEscapeMarkdown(t *testing.T) {
	t.Parallel()
	const text = "a|b `c` *d* _e_ [f](g) <h> &amp; # ~i~ {j} \\ k\nl"
	const want = "a\\|b \\`c\\` \\*d\\* \\_e\\_ \\[f\\](g) &lt;h\\> \\&amp; \\# \\~i\\~ \\{j\\} \\\\ k l"
	if got := escapeMarkdown(text); got != want {
		t.Errorf("%s", got)
	}
	for text, want := range map[string]string{
		"see http://x.example/a_b?c now": "see `http://x.example/a_b?c` now",
		"HTTPS://x":                      "`HTTPS://x`",
		"(www.x.example) *":              "`(www.x.example)` \\*",
		"ask @anna, see #12":             "ask `@anna,` see `#12`",
		"to a`|@b <c>":                   "to `a'¦@b` &lt;c\\>",
		"# 1 @ 2":                        "\\# 1 @ 2",
	} {
		if got := escapeMarkdown(text); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// TestWhatWasGivenTwiceIsNamed: by each form, however much else there is to look at, and
// behind what failed.
func TestWhatWasGivenTwiceIsNamed(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ twice, failed, wantTwice, wantFailed, more int }{
		"alone":               {3, 0, 3, 0, 0},
		"among many failures": {3, 60, 3, 47, 13},
		"more than fit":       {60, 60, 25, 25, 70},
		"many, few failures":  {60, 10, 40, 10, 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var in strings.Builder
			for i := range test.twice + test.failed {
				c := done(i, i, events.Pushed, func(c *events.Completed) { c.MaybeDuplicate = true })
				if i >= test.twice {
					c = done(i, i, events.Failed)
				}
				in.WriteString(own(t, c))
			}
			r := report(t, in.String())
			var out strings.Builder
			if err := r.WriteMarkdown(&out); err != nil {
				t.Fatal(err)
			}
			_, rows, _ := strings.Cut(out.String(), "### To look at first")
			twice, failed := strings.Count(rows, "| pushed, **maybe given twice** |"), strings.Count(rows, "| failed |")
			if more := r.page(mostInTicket).More; twice != test.wantTwice || failed != test.wantFailed || more != test.more {
				t.Errorf("%d twice, %d failed, %d more\n%s", twice, failed, more, rows)
			}
			if test.failed > 0 && strings.Index(rows, "| pushed,") < strings.Index(rows, "| failed |") {
				t.Errorf("what failed does not come first:\n%s", rows)
			}
			if page, err := os.ReadFile(written(t, in.String())); err != nil || strings.Count(string(page), "<strong>maybe given twice</strong>") != test.twice {
				t.Errorf("%v: %d of %d are on the page", err, strings.Count(string(page), "<strong>maybe given twice</strong>"), test.twice)
			}
		})
	}
}

// TestAnswersTellLess: what nobody told is not denied.
func TestAnswersTellLess(t *testing.T) {
	t.Parallel()
	answer := func(n int, o events.Outcome, edit ...func(*events.Completed)) string {
		return line(t, "repush/inject", done(n, 100*n, o, append(edit, func(c *events.Completed) { c.WaitMs, c.CallMs, c.Attempts, c.Pushes, c.Durable = 0, 0, 0, 0, false })...))
	}
	const note = "results were made of the function's answers; its own result events (REPUSH_RESULTS) tell more: repush report STATE EVENTS.jsonl"
	onlyAnswers := answer(1, events.Pushed) + answer(2, events.Pushed) + answer(3, events.Unknown)
	for name, test := range map[string]struct {
		input        string
		page, ticket []string
		short        []string
		none         string // in no form
	}{
		"answers alone": {onlyAnswers,
			[]string{"Answers per second", "Mean rate of answers</dt><dd>10/s", "quota of 10/s</dt><dd>not told", "Push calls</dt><dd>not told", "twice</dt><dd>none told", "forgets</dt><dd>not told", "Not told: only", "look in the consumer's log"},
			[]string{"mean rate, by when answers came | 10/s |", "quota of 10/s | not told |", "push calls | not told |", "twice | none told |", "forgets | not told |", "look in the consumer's log", "3 " + note},
			[]string{"3 " + note, "10/s on average, by when answers came; most", "    look in the consumer's log"}, " % of"},
		"an answer that tells it": {onlyAnswers + answer(4, events.Pushed, func(c *events.Completed) { c.MaybeDuplicate = true }),
			[]string{"twice</dt><dd>1</dd>"}, []string{"twice | 1 |"}, []string{"twice?    1 maybe"}, "none told"},
		"some of each": {onlyAnswers + own(t, done(5, 500, events.Pushed)) + own(t, done(6, 700, events.Pushed)),
			[]string{"Answers per second", "5 answers to pushes", "quota of 10/s</dt><dd>not told", "Push calls</dt><dd>2, told by 2 results alone</dd>", "twice</dt><dd>none told", "forgets</dt><dd>0, told by 2 results alone</dd>", "3 results were made"},
			[]string{"push calls | 2, told by 2 results alone |", "longest | 50 ms, 50 ms, 50 ms, 50 ms, told by 2 results alone |", "3 " + note}, []string{"by when answers came; most", ", told by 2 results alone", "3 " + note}, " % of"},
		"none": {own(t, done(5, 500, events.Pushed)) + own(t, done(6, 700, events.Failed)),
			[]string{"Push calls</dt><dd>2</dd>", "twice</dt><dd>0</dd>", "forgets</dt><dd>0</dd>", "remove the cause"}, []string{"twice | 0 |"}, []string{"asked     2"}, "made of the function"},
		"no result": {requested(t, 1) + `{"begun":"e1"}`, []string{"Push calls</dt><dd>not told"}, []string{"push calls | not told |"}, []string{"asked     1"}, "made of the function"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := report(t, test.input)
			if byAnswers := strings.HasPrefix(test.input, onlyAnswers); byAnswers != r.ByAnswers || byAnswers && (r.QuotaShare != 0 || r.rateChart().Levels != nil) {
				t.Errorf("%v of the quota, %+v", r.QuotaShare, r.rateChart().Levels)
			}
			for form, f := range map[string]struct {
				write func(io.Writer) error
				wants []string
			}{"page": {r.WriteHTML, test.page}, "ticket": {r.WriteMarkdown, test.ticket}, "short": {r.WriteText, test.short}} {
				var out strings.Builder
				if err := f.write(&out); err != nil {
					t.Fatal(err)
				}
				got := html.UnescapeString(out.String())
				for _, want := range f.wants {
					if !strings.Contains(got, want) {
						t.Errorf("%s: no %q in\n%.3000s", form, want, got)
					}
				}
				if strings.Contains(got, test.none) {
					t.Errorf("%s: %q is in\n%.3000s", form, test.none, got)
				}
			}
		})
	}
	if row := report(t, answer(1, events.Pushed)).table().Rows[0]; row[7] != nil || row[8] != nil || row[9] != nil {
		t.Errorf("told after all: %v", row)
	}
}

// TestWhatComesFirst: what is in doubt is no file's, and what was cancelled is not left.
func TestWhatComesFirst(t *testing.T) {
	t.Parallel()
	r := report(t, requested(t, 1)+`{"begun":"e1"}`+"\n"+own(t, done(2, 1, events.Cancelled))+own(t, done(3, 1, events.Expired, coded("NotAfter"))))
	if r.Left != 1 || r.Again != 0 {
		t.Errorf("%d left, %d again", r.Left, r.Again)
	}
	for name, test := range map[string]struct {
		write func(io.Writer) error
		wants []string
	}{
		"page":     {r.WriteHTML, []string{"1 in doubt</h3>", "First <code>repush resume STATE</code>", "1 cancelled on purpose", "The notAfter by which some expired is left out", "leftovers.csv"}},
		"Markdown": {r.WriteMarkdown, []string{"1 in doubt: first `repush resume STATE`", "1 were cancelled on purpose", "--leftovers FILE`; without the notAfter"}},
		"text":     {r.WriteText, []string{"doubt     1: first 'repush resume STATE'", "stopped   1 were cancelled on purpose", "for inject, without the notAfter"}},
	} {
		var out strings.Builder
		if err := test.write(&out); err != nil {
			t.Fatal(err)
		}
		for _, want := range test.wants {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s: no %q in\n%s", name, want, out.String())
			}
		}
		if strings.Contains(out.String(), "unknowns.csv") || strings.Contains(out.String(), "--unknowns") {
			t.Errorf("%s offers the unknowns", name)
		}
	}
	r = report(t, own(t, done(1, 1, events.Expired, coded("TooOld")))+own(t, done(2, 1, events.Failed)))
	for name, write := range map[string]func(io.Writer) error{"page": r.WriteHTML, "Markdown": r.WriteMarkdown, "text": r.WriteText} {
		var out strings.Builder
		if err := write(&out); err != nil || strings.Contains(out.String(), "notAfter by which") {
			t.Errorf("%s, %v: a notAfter is left out, where there was none", name, err)
		}
	}
}

// TestPageStandsAlone: nothing is loaded, and only its own style and script may run.
func TestPageStandsAlone(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(written(t, bulk(t, 700, false)))
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	if got := regexp.MustCompile(`\b(src|action|style|on\w+)=|@import|url\(|href="[^d#]|http-equiv="refresh`).FindAllString(regexp.MustCompile(`(?s)<script.*`).ReplaceAllString(page, ""), -1); got != nil {
		t.Errorf("found %q", got)
	}
	for _, want := range []string{`content="default-src &#39;none&#39;`, "style-src &#39;sha256-", "script-src &#39;sha256-", "700", "The first 500; 200 more", "<noscript>", `download="leftovers.csv" href="data:text/csv;charset=utf-8,instanceId,`} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is missing", want)
		}
	}
}

// TestPageIsSmall: 10,000 results that went well, and as many that all failed.
func TestPageIsSmall(t *testing.T) {
	t.Parallel()
	for name, pushed := range map[string]bool{"most pushed": true, "all failed": false} {
		info, err := os.Stat(written(t, bulk(t, 10_000, pushed)))
		if err != nil || info.Size() > 3_000_000 {
			t.Errorf("%s: %d bytes, %v", name, info.Size(), err)
		} else {
			t.Logf("%s: %d bytes", name, info.Size())
		}
	}
}

// TestManyLeftovers: links that a browser takes, or the command that writes them.
func TestManyLeftovers(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{0: 0, 1: 1, perLink: 1, perLink + 1: 2, mostLinks * perLink: mostLinks, mostLinks*perLink + 1: 0} {
		all := make([]events.Requested, n)
		for i := range all {
			all[i] = asked(i)
		}
		got := links(all)
		if len(got) != want {
			t.Errorf("%d: %d links", n, len(got))
		}
		for _, l := range got {
			if len(l) > 2<<20 {
				t.Errorf("%d: a link of %d bytes", n, len(l))
			}
		}
	}
}

// TestMarkdownAndText say what the page says.
func TestMarkdownAndText(t *testing.T) {
	t.Parallel()
	r := report(t, bulk(t, 200, false)+requested(t, 900)+`{"begun":"e900"}`+"\n"+own(t, done(901, 1, events.Unknown))+"noise\n"+`{"type":"repush:Message:Completed"}`+"\n")
	for name, test := range map[string]struct {
		write func(io.Writer) error
		wants []string
	}{
		"Markdown": {r.WriteMarkdown, []string{"## Repush report", "| asked | 202 |", "| failed | 200 |", `| in doubt |  | 1 | begun, and no answer came`, `| failed | BIZ\_NO\_MESSAGE | 200 |`, "152 more", "--leftovers FILE", "1 may have arrived", "1 lines were about something else, and 1 look like results"}},
		"text":     {r.WriteText, []string{"asked     202\n", "failed    200\n", "in doubt  1\n", "200 failed (BIZ_NO_MESSAGE)", "    look at the id", "left      200 to push", "again?    1 may", "passed    1", "wrong     1", "file0: line 205: looks like"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			if err := test.write(&out); err != nil {
				t.Fatal(err)
			}
			for _, want := range test.wants {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q is missing in\n%s", want, out.String())
				}
			}
		})
	}
}

// TestInABrowser: the page of 10,000 results shows itself whole at both widths, asks
// nobody for anything, and its table can be searched. REPORT_SHOTS=DIR leaves what it
// looks like.
func TestInABrowser(t *testing.T) {
	b := startBrowser(t)
	path := written(t, bulk(t, 10_000, true)+own(t, done(20_000, 100, events.Failed, evilResult)))
	for _, width := range []int{400, 1600} {
		for _, scheme := range []string{"light", "dark"} {
			b.open(path, width, 1500, scheme, true)
			if got := b.value("document.documentElement.scrollWidth <= document.documentElement.clientWidth"); got != "true" {
				t.Errorf("%d wide: the page scrolls to the side: %s", width, b.value("document.documentElement.scrollWidth"))
			}
			if got := b.value("getComputedStyle(document.body).colorScheme + matchMedia('(prefers-color-scheme: dark)').matches"); !strings.HasSuffix(got, map[string]string{"light": "false", "dark": "true"}[scheme]) {
				t.Errorf("%s: %s", scheme, got)
			}
			if dir := os.Getenv("REPORT_SHOTS"); dir != "" {
				b.shoot(filepath.Join(dir, strconv.Itoa(width)+"-"+scheme+".png"))
			}
		}
	}
	const rows = "document.querySelectorAll('#all tbody tr').length"
	search := func(text string) string {
		return b.value("(() => { const s = document.getElementById('search'); s.value = " + strconv.Quote(text) + "; s.dispatchEvent(new Event('input')); return document.getElementById('shown').textContent; })()")
	}
	for _, step := range []struct{ what, got, want string }{
		{"rows at first", b.value(rows), "50"},
		{"sizes", search(""), "1–50 of 10,001"},
		{"one message", search(strings.ToLower(asked(4711).MsgID)), "1–1 of 1"},
		{"its row", b.value(rows), "1"},
		{"two words", search("orders BIZ_NO_MESSAGE"), b.value("document.getElementById('shown').textContent")},
		{"none", search("no such thing"), "nothing found"},
		{"texts stay texts", search("onerror"), "1–1 of 1"},
		{"no element of theirs", b.value("document.querySelectorAll('img').length"), "0"},
		{"by outcome", b.value("(() => { const f = document.getElementById('fate'); document.getElementById('search').value = ''; f.selectedIndex = 1; f.dispatchEvent(new Event('change')); return f.options[1].text.startsWith('unknown (') + ' ' + [...document.querySelectorAll('#all tbody td:first-child')].every(td => td.textContent === 'unknown'); })()"), "true true"},
		{"sorted", b.value("(() => { const th = document.querySelectorAll('#all th')[7], button = th.firstChild; button.click(); button.click(); return th.getAttribute('aria-sort'); })()"), "descending"},
		{"next page", b.value("(() => { document.getElementById('fate').value = ''; document.getElementById('fate').dispatchEvent(new Event('change')); document.getElementById('next').click(); return document.getElementById('shown').textContent; })()"), "51–100 of 10,001"},
		{"a search from there", search("GaveUp"), "1–33 of 33"},
	} {
		if step.got != step.want {
			t.Errorf("%s: %q, want %q", step.what, step.got, step.want)
		}
	}
	if all := b.complaints(path); all != nil {
		t.Errorf("%q", all)
	}
}

// TestDownload: the link of the leftovers saves what --leftovers writes.
func TestDownload(t *testing.T) {
	b := startBrowser(t)
	input := own(t, done(1, 100, events.Failed, func(c *events.Completed) { c.Request.Data.ClientID = "host%23@4242#-118#22#33+~:" })) + own(t, done(2, 100, events.Failed))
	var want bytes.Buffer
	if err := WriteCSV(&want, report(t, input).Leftovers()); err != nil {
		t.Fatal(err)
	}
	b.open(written(t, input), 1600, 1000, "light", true)
	dir := t.TempDir()
	b.call("Browser.setDownloadBehavior", map[string]any{"behavior": "allow", "downloadPath": dir, "eventsEnabled": true}, nil)
	b.value("document.querySelector('a[download]').click()")
	for !strings.Contains(string(b.await("Browser.downloadProgress")), `"completed"`) { // or the browser's deadline passes
	}
	raw, err := os.ReadFile(filepath.Join(dir, "leftovers.csv"))
	if diff := cmp.Diff(want.String(), string(raw)); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// TestWithoutJavaScript: everything but the full table is there, and a line says so.
func TestWithoutJavaScript(t *testing.T) {
	b := startBrowser(t)
	path := written(t, bulk(t, 2000, true))
	b.open(path, 400, 1000, "light", false)
	text := b.value("document.body.innerText")
	for _, want := range []string{"asked\n2,000", "pushed", "Pushes per second", "on average", "The call itself", "BIZ_NO_MESSAGE", "look at the id and the topic", "To look at first", "need JavaScript", "Download leftovers.csv"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	for expression, want := range map[string]string{
		"document.getElementById('tools').checkVisibility()":                             "false",
		"document.getElementById('box').checkVisibility()":                               "false",
		"document.querySelectorAll('.first tbody tr').length > 20":                       "true",
		"document.documentElement.scrollWidth <= document.documentElement.clientWidth":   "true",
		"document.querySelectorAll('.plot .bar').length > 50":                            "true",
		"[...document.querySelectorAll('.bar')].every(b => b.getBBox().height > 0)":      "true",
		"[...document.querySelectorAll('h2')].every(h => h.textContent.trim().length>0)": "true",
	} {
		if got := b.value(expression); got != want {
			t.Errorf("%s: %s", expression, got)
		}
	}
	if all := b.complaints(path); all != nil {
		t.Errorf("%q", all)
	}
}

func BenchmarkReport(b *testing.B) {
	in := bulk(b, 10_000, true)
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		if err := report(b, in).WriteHTML(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpen is what Chromium takes from the start of the navigation to the end of
// loading, script included, and to the first paint.
func BenchmarkOpen(b *testing.B) {
	browser := startBrowser(b)
	path := written(b, bulk(b, 10_000, true))
	var loaded, painted float64
	for b.Loop() {
		browser.open(path, 1600, 1000, "light", true)
		ms, _ := strconv.ParseFloat(browser.value("performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"), 64)
		loaded += ms
		ms, _ = strconv.ParseFloat(browser.value("new Promise(r => new PerformanceObserver(l => r(l.getEntries()[0].startTime)).observe({type: 'paint', buffered: true}))"), 64)
		painted += ms
	}
	b.ReportMetric(loaded/float64(b.N), "ms/DOMContentLoaded")
	b.ReportMetric(painted/float64(b.N), "ms/paint")
}
