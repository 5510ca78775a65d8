// Package planning is the domain of functions/plan: from an alert, or a person's
// selection, to a frozen list of messages and one request for each.
//
//	alert, plan ─▶ incident   repeats join it; without a person, only within the group's budget
//	            ─▶ selection  dead letters, what is not consumed, or what a person names; by paced
//	                          calls, as far as the invocation's time allows; the sweep goes on
//	            ─▶ manifest   earliest expiry first, hashed, kept before anything is told of it
//	            ─▶ repush:Plan:Completed, and then the requests, in batches
//
// What is remembered are documents: one for a consumer group, with its incidents
// and what was asked for without a person (group.go), and beside it a selection
// under way and the manifest of an incident. Each step of an incident is a
// compare-and-set of the group's document under the incident's fencing number, so
// a step that was done twice was done once. A process may die anywhere: what was
// sent and not noted is sent once more, under the same ids.
//
// The package knows the standard library, events, and the domain of pushing, whose
// errors, pacing and history it shares.
package planning
