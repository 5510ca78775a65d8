package progress

import (
	"math"
	"testing"
	"time"
)

func at(seconds float64) time.Time {
	return time.Unix(1_800_000_000, 0).Add(time.Duration(seconds * float64(time.Second)))
}

func TestRate(t *testing.T) {
	t.Parallel()
	type adds []struct {
		n  int
		at float64
	}
	every := func(from, to, step float64) (a adds) {
		for i := 0; from+float64(i)*step < to; i++ {
			a = append(a, struct {
				n  int
				at float64
			}{1, from + float64(i)*step})
		}
		return a
	}
	start := adds{{0, 0}}
	for what, test := range map[string]struct {
		adds  adds
		now   float64
		want  float64 // a second
		left  int
		quota float64
		eta   time.Duration
	}{
		"nothing was counted":                        {nil, 5, 0, 100, 0, 0},
		"nothing was counted, by the quota":          {start, 5, 0, 100, 10, 10 * time.Second},
		"one at once is one a second":                {adds{{1, 0}}, 0, 1, 10, 0, 10 * time.Second},
		"younger than a second counts as a second":   {append(start, every(0.05, 0.5, 0.1)...), 0.5, 5, 10, 0, 2 * time.Second},
		"younger than two seconds, by the quota":     {append(start, every(0.05, 0.5, 0.1)...), 0.5, 5, 100, 20, 5 * time.Second},
		"younger than the window":                    {append(start, every(0.05, 4, 0.1)...), 4, 10, 100, 20, 10 * time.Second},
		"over the window":                            {append(start, every(0.05, 60, 0.125)...), 60, 8, 80, 20, 10 * time.Second},
		"only the last ten seconds count":            {append(append(start, every(0.05, 50, 0.01)...), every(50.05, 60.1, 0.5)...), 60.1, 2, 10, 0, 5 * time.Second},
		"stalled for the window: not known":          {every(0, 5, 0.1), 16, 0, 100, 10, 0},
		"a long pause forgets what was before":       {adds{{1000, 0}, {10, 3600}}, 3600, 10. / 9.9, 0, 0, 0},
		"a batch":                                    {adds{{0, 0}, {50, 5}}, 10, 5, 10, 0, 2 * time.Second},
		"the clock goes back: it stands":             {adds{{0, 100}, {20, 110}, {20, 50}}, 105, 40 / 9.9, 0, 0, 0},
		"nothing is left":                            {every(0, 5, 0.1), 5, 10, 0, 10, 0},
		"less than nothing is left":                  {every(0, 5, 0.1), 5, 10, -5, 10, 0},
		"the ETA has an end":                         {adds{{0, 0}, {1, 5}}, 10, 0.1, math.MaxInt, 0, 1000 * time.Hour},
		"a quota that is no number, nothing counted": {start, 5, 0, 100, math.NaN(), 0},
		"a quota below zero, nothing counted":        {start, 5, 0, 100, -1, 0},
		"a quota without end":                        {start, 5, 0, 100, math.Inf(1), 0},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var r Rate
			for _, a := range test.adds {
				r.Add(a.n, at(a.at))
			}
			if got := r.PerSecond(at(test.now)); math.Abs(got-test.want) > 0.011*test.want {
				t.Errorf("PerSecond = %v, want %v", got, test.want)
			}
			if got := r.ETA(test.left, test.quota, at(test.now)); (got - test.eta).Abs() > test.eta/90 {
				t.Errorf("ETA = %v, want %v", got, test.eta)
			}
		})
	}
}

func TestRateNeverGrows(t *testing.T) { // not parallel: AllocsPerRun counts for all
	var r Rate
	i := 0
	if allocs := testing.AllocsPerRun(10_000, func() {
		i++
		r.Add(1, at(float64(i)/7))
		r.ETA(10, 10, at(float64(i)/7))
	}); allocs != 0 {
		t.Errorf("%v allocations a call", allocs)
	}
}

func BenchmarkRate(b *testing.B) {
	var r Rate
	i := 0
	for b.Loop() {
		i++
		r.Add(1, at(float64(i)/10))
		r.PerSecond(at(float64(i) / 10))
	}
}
