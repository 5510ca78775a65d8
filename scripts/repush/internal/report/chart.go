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

const (
	mostBars  = 120
	perDecade = 5 // bars; with more, whole milliseconds would leave gaps
)

// draw fills in the bars and the axis that counts, which reaches at least up to level
// (0: whole numbers are counted). It returns its end.
func (c *chart) draw(heights []float64, level float64, text func(i int) string) (top float64) {
	top = 1.15 * max(level, slices.Max(heights))
	part := 100 / float64(len(heights))
	for i, height := range heights {
		c.Bars = append(c.Bars, bar{X: part * float64(i), Width: 0.86 * part, Height: 100 * height / top, Text: text(i)})
	}
	step := math.Pow(10, math.Floor(math.Log10(top/2)))
	if top/step > 5 {
		step *= math.Ceil(top / step / 5)
	}
	if level == 0 {
		step = max(step, 1)
	}
	for at := 0.0; at <= top; at += step {
		c.Y = append(c.Y, tick{100 * at / top, strconv.FormatFloat(at, 'g', 6, 64)})
	}
	return top
}

// rateChart is of pushes over time against the quota.
func (r Report) rateChart() chart {
	c := chart{Title: "Pushes per second", Unit: "per second", Says: "Nothing was pushed."}
	what := "pushes"
	if r.ByAnswers {
		c.Title, what = "Answers per second", "answers to pushes, whose own times are not all told"
	}
	if len(r.pushes) == 0 {
		return c
	}
	first := r.pushes[0].Truncate(time.Second)
	span := r.pushes[len(r.pushes)-1].Sub(first)
	width, layout := span/mostBars+1, "15:04:05"
	for _, seconds := range []time.Duration{43200, 14400, 7200, 3600, 1800, 900, 600, 300, 120, 60, 30, 15, 10, 5, 2, 1} {
		if nice := seconds * time.Second; nice > span/mostBars {
			width = nice
		}
	}
	if span > 20*time.Hour {
		layout = "01-02 15:04"
	}
	rates := make([]float64, span/width+1)
	for _, began := range r.pushes {
		rates[began.Sub(first)/width] += 1 / width.Seconds()
	}
	if r.IdleMs > 0 {
		what += ", " + milliseconds(r.IdleMs) + " of pauses left out"
	}
	if r.PerSecond > 0 {
		what += "; on average " + perSecond(r.PerSecond)
	}
	c.Says = fmt.Sprintf("%s %s; at most %d in one second, against a quota of %s. Each bar is %s.", number(len(r.pushes)), what, r.Peak, perSecond(r.QPS), width)
	top := c.draw(rates, r.QPS, func(i int) string {
		return first.Add(time.Duration(i)*width).Format(layout) + ": " + perSecond(rates[i])
	})
	if !r.ByAnswers {
		c.Levels = []tick{{100 * r.QPS / top, "quota " + perSecond(r.QPS)}}
	}
	for quarter := range 5 {
		at := len(rates) * quarter / 4 // where a bar begins
		c.X = append(c.X, tick{100 * float64(at) / float64(len(rates)), first.Add(time.Duration(at) * width).Format(layout)})
	}
	c.X = slices.Compact(c.X)
	return c
}

// timeChart is of sorted times on a log scale.
func timeChart(title string, times []int64, d Distribution) chart {
	c := chart{Title: title, Unit: "requests", Says: "Not told: only a function's own result events tell it."}
	if len(times) == 0 {
		return c
	}
	c.Says = fmt.Sprintf("Of %s: half within %s, 95 %% within %s, 99 %% within %s, the longest %s.",
		number(d.Count), milliseconds(d.P50), milliseconds(d.P95), milliseconds(d.P99), milliseconds(d.Max))
	place := func(ms int64) float64 { return perDecade*math.Log10(float64(max(ms, 1))) + 1e-9 }
	low := perDecade * int(place(times[0])/perDecade)
	counts := make([]float64, perDecade*(int(place(d.Max)/perDecade)+1)-low)
	for _, ms := range times {
		counts[int(place(ms))-low]++
	}
	limit := func(i int) string { return milliseconds(int64(math.Round(math.Pow(10, float64(low+i)/perDecade)))) }
	c.draw(counts, 0, func(i int) string { return fmt.Sprintf("%s to %s: %.0f", limit(i), limit(i+1), counts[i]) })
	along := func(at float64) float64 { return 100 * at / float64(len(counts)) }
	for i := 0; i <= len(counts); i += perDecade * (1 + len(counts)/(5*perDecade)) {
		c.X = append(c.X, tick{along(float64(i)), limit(i)})
	}
	c.Marks = []tick{{along(place(d.P50) - float64(low)), "p50"}, {along(place(d.P95) - float64(low)), "p95"}}
	return c
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
