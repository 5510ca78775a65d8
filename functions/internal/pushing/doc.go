// Package pushing is the domain: what happens to one request to push a message
// again, from validation to the result event.
//
//	validate and allow ─▶ claim when its turn comes ─▶ choose the client ─▶ take the slot
//	─▶ mark "sending" ─▶ push ─▶ decide ─▶ write outcome and event in one record ─▶ emit
//
// What cannot be decided yet waits in a ledger that outlives the process (parked)
// or is given back (deferred). A sweep (sweep.go) goes on with what waits; an
// operation (operate.go) steers it; orders in the ledger (orders.go) hold it up.
//
// It imports the standard library and the events package only. What it needs
// of the world stands in ports.go; adapters implement it.
package pushing
