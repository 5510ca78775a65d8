package report

import (
	"bytes"
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
	r := report(t, bulk(t, 200, false)+requested(t, 900)+`{"begun":"e900"}`+"\nnoise\n"+`{"type":"repush:Message:Completed"}`+"\n")
	for name, test := range map[string]struct {
		write func(io.Writer) error
		wants []string
	}{
		"Markdown": {r.WriteMarkdown, []string{"## Repush report", "| asked | 201 |", "| failed | 200 |", `| in doubt |  | 1 | begun, and no answer came`, `| failed | BIZ\_NO\_MESSAGE | 200 |`, "151 more", "--leftovers FILE", "1 may have arrived", "1 lines were about something else, and 1 look like results"}},
		"text":     {r.WriteText, []string{"asked     201\n", "failed    200\n", "in doubt  1\n", "200 failed (BIZ_NO_MESSAGE)", "    look at the id", "left      200 to push", "again?    1 may", "passed    1", "wrong     1", "file0: line 204: looks like"}},
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
	loaded, err := strconv.ParseFloat(b.value("performance.getEntriesByType('navigation')[0].loadEventEnd"), 64)
	if err != nil || loaded > 5000 {
		t.Errorf("loaded after %v ms, %v", loaded, err)
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
