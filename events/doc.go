// Package events is the contract of ons-repush: the CloudEvents it reads and
// writes, their rules, their JSON Schemas, samples and AsyncAPI description.
//
//	repush:Message:Requested   a person, an alert plan or a dead letter asks for one message to be pushed again
//	repush:Message:Completed   functions/repush says what became of one request
//	repush:Sweep:Requested     a timer asks to finish what waits
//	repush:Plan:Requested      a person asks which messages need a push, and for their pushes
//	repush:Plan:Completed      functions/plan says which messages it asks for: the manifest
//	repush:Operation:Requested a person stops, starts, pauses, cancels, or asks how it stands
//
// The package imports the standard library only and does no I/O: a producer in
// any repository can depend on it without any cloud SDK.
//
// Versions are additive; a breaking change is a new type. Unknown data fields,
// fields given twice and names in another case are refused, because a typo in
// an optional field ("dryrun") must not turn a dry run into a push.
package events

import "embed"

// Event types, as they appear in the CloudEvents attribute "type".
const (
	TypeMessageRequested   = "repush:Message:Requested"
	TypeMessageCompleted   = "repush:Message:Completed"
	TypeSweepRequested     = "repush:Sweep:Requested"
	TypeOperationRequested = "repush:Operation:Requested"
	TypePlanRequested      = "repush:Plan:Requested"
	TypePlanCompleted      = "repush:Plan:Completed"
)

// Limits of what is read, checked before anything is parsed.
const (
	// MaxEventBytes bounds one event: twice what Function Compute takes
	// asynchronously by default (128 KB; source: FC "Limits").
	MaxEventBytes = 256 << 10
	// MaxBatch bounds the events of one delivery.
	MaxBatch = 1000
	// MaxDepth bounds the nesting of JSON objects and arrays in one event.
	MaxDepth = 32
	// MaxMembers bounds the members of one JSON object that is looked into.
	MaxMembers = 1000
)

// Files holds schemas/*.json, samples/{valid,invalid}/*.json and asyncapi.yaml
// for tests and tools. A binary that does not name it does not carry it.
//
//go:embed schemas/*.json samples/valid/*.json samples/invalid/*.json asyncapi.yaml
var Files embed.FS
