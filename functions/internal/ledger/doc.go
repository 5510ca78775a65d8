// Package ledger keeps the claims, outcomes, waiting work and undelivered
// results of [pushing.Ledger]: in memory, in a file, in Redis. record.go is the
// state machine. Memory and file apply it to records of their own (local.go);
// Redis runs the same machine in Lua (redis.lua), where one step is one round
// trip. Every implementation passes ledgertest.
//
// One request goes through these states; a record holds the requests for one
// message, of which at most one is claimed or sending:
//
//	           Claim              MarkSending           Decide            MarkEmitted
//	waiting ───────────▶ claimed ─────────────▶ sending ───────▶ decided ─────────────▶ emitted
//	   ▲                   │  ▲                    │                ▲
//	   └───────────────────┘  └────────────────────┘                │
//	   Park, or lease over         MarkNotSent          Decide without a push (from claimed)
//
// A sending request whose lease is over is handed to the next claimer as
// Interrupted: it decides what nobody knows.
package ledger
