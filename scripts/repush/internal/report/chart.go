package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"
)

// chart is drawn by the template. All places are percent of the plot, from the left
// or the bottom.
type chart struct {
	Title, Says, Unit string
	X, Y              []tick
	Bars              []bar
	Levels, Marks     []tick // lines across, and up
}

type tick struct {
	At   float64
	Text string
}

type bar struct {
	X, Width, Height float64
	Text             string
}

// widths are those of a bar of the rate.
var widths = [...]time.Duration{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200}

const (
	mostBars   = 120
	perDecade  = 5 // bars; with more, whole milliseconds would leave gaps
	headroom   = 1.15
	barsApart  = 0.86
	timesAlong = 4
)

// rateChart is of pushes over time against the quota.
func (r Report) rateChart() chart {
	c := chart{Title: "Pushes per second", Unit: "per second", Says: "Nothing was pushed."}
	if len(r.pushes) == 0 {
		return c
	}
	first := r.pushes[0].Truncate(time.Second)
	span := r.pushes[len(r.pushes)-1].Sub(first)
	width := span/mostBars + 1
	if at := slices.IndexFunc(widths[:], func(nice time.Duration) bool { return nice*time.Second >= width }); at >= 0 {
		width = widths[at] * time.Second
	}
	counts := make([]int, span/width+1)
	for _, began := range r.pushes {
		counts[began.Sub(first)/width]++
	}
	rate := func(n int) float64 { return float64(n) / width.Seconds() }
	top := headroom * max(r.QPS, rate(slices.Max(counts)))
	layout := "15:04:05"
	if span > 20*time.Hour {
		layout = "01-02 15:04"
	}
	c.Says = fmt.Sprintf("%s pushes; on average %s, at most %d in one second, against a quota of %s. Each bar is %s.",
		number(len(r.pushes)), perSecond(r.PerSecond), r.Peak, perSecond(r.QPS), width)
	for i, n := range counts {
		began := first.Add(time.Duration(i) * width)
		c.Bars = append(c.Bars, bar{X: 100 * float64(i) / float64(len(counts)), Width: 100 * barsApart / float64(len(counts)), Height: 100 * rate(n) / top,
			Text: fmt.Sprintf("%s: %s", began.Format(layout), perSecond(rate(n)))})
	}
	for i := range timesAlong + 1 {
		c.X = append(c.X, tick{100 * float64(i) / timesAlong, first.Add(width * time.Duration(len(counts)*i) / timesAlong).Format(layout)})
	}
	c.Y = counting(top)
	c.Levels = []tick{{100 * r.QPS / top, "quota " + perSecond(r.QPS)}}
	return c
}

// timeChart is of times on a log scale.
func timeChart(title string, sorted []int64, d Distribution) chart {
	c := chart{Title: title, Unit: "requests", Says: "No times are known."}
	if len(sorted) == 0 {
		return c
	}
	c.Says = fmt.Sprintf("Of %s: half within %s, 95 %% within %s, 99 %% within %s, the longest %s.",
		number(d.Count), milliseconds(d.P50), milliseconds(d.P95), milliseconds(d.P99), milliseconds(d.Max))
	place := func(ms int64) float64 { return perDecade * math.Log10(float64(max(ms, 1))) }
	low := perDecade * int(place(sorted[0])/perDecade)
	counts := make([]int, perDecade*(int(place(d.Max)/perDecade)+1)-low)
	for _, ms := range sorted {
		counts[int(place(ms)+1e-9)-low]++
	}
	top, all := headroom*float64(slices.Max(counts)), float64(len(counts))
	limit := func(i int) string { return milliseconds(int64(math.Round(math.Pow(10, float64(low+i)/perDecade)))) }
	for i, n := range counts {
		c.Bars = append(c.Bars, bar{X: 100 * float64(i) / all, Width: 100 * barsApart / all, Height: 100 * float64(n) / top,
			Text: fmt.Sprintf("%s to %s: %s", limit(i), limit(i+1), number(n))})
	}
	for i := 0; i <= len(counts); i += perDecade * (1 + len(counts)/(5*perDecade)) {
		c.X = append(c.X, tick{100 * float64(i) / all, limit(i)})
	}
	c.Y = counting(top)
	c.Marks = []tick{{100 * (place(d.P50) - float64(low)) / all, "p50"}, {100 * (place(d.P95) - float64(low)) / all, "p95"}}
	return c
}

// counting are round numbers from 0 below top.
func counting(top float64) (ticks []tick) {
	step := math.Pow(10, math.Floor(math.Log10(top/2)))
	if top/step > 5 {
		step *= math.Ceil(top / step / 5)
	}
	for at := 0.0; at <= top; at += step {
		ticks = append(ticks, tick{100 * at / top, strconv.FormatFloat(at, 'g', 6, 64)})
	}
	return ticks
}

// number writes 12345 as 12,345.
func number(n int) string {
	text := strconv.Itoa(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

func perSecond(rate float64) string {
	return strconv.FormatFloat(math.Round(rate*100)/100, 'f', -1, 64) + "/s"
}

func milliseconds(ms int64) string {
	switch {
	case ms < 1000:
		return fmt.Sprintf("%d ms", ms)
	case ms < 60_000:
		return strconv.FormatFloat(math.Round(float64(ms)/10)/100, 'f', -1, 64) + " s"
	}
	return (time.Duration(ms) * time.Millisecond).Round(time.Second).String()
}
