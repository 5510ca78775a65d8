// Package quota paces the calls of one API quota of the cloud account, shared
// with every colleague and the console: a [Pacer] per process says who is next,
// a [Store] per quota when the next call goes out.
//
// How far apart calls go is learned. With ten calls in any second and a jitter
// of J ms, no sender does better without refusals than one call per 100 + J/10
// ms, and nobody knows J, the kind of window or the other users. So the law
// (law.go) starts at 102 % of 1/QPS, creeps closer with every accepted call and
// backs off with every refusal. Its steps are shares of 1/QPS and counts of
// calls, so that it is the same law at every rate. It departs from design.md
// section 6 in four places (10/s, sliding window, simulated):
//   - "In a row" means calls booked one after the other, whenever they are
//     answered. Behind a listener that takes 4 s the accepted answers come too
//     late to stand between two refusals: with 50 ms jitter 75 of 200 runs
//     closed without need, the worst at 85 % of the quota.
//   - "The last refusal under 1 s ago" is "fewer than five calls booked since":
//     the same figures at 10/s, and a meaning at other rates.
//   - A refusal after more than a hundred quiet calls costs 1.5 instead of 2 %:
//     98.5 instead of 98.2 % of the quota with 5 ms jitter.
//   - After a minute without refusals the way back is exponential: 95 instead
//     of 86 % over 3,000 calls whose neighbour leaves after the first minute,
//     for 78.4 instead of 78.9 % beside one that stays.
//
// [Memory] and [Redis] hold the law, in Go and in Lua. Processes that share a
// state take turns as equals, however many callers each has and however far from
// the store it is: the lanes (lanes.go) order the callers of one process only.
package quota
