// Package ledger keeps the claims, outcomes, waiting work and undelivered
// results of [pushing.Ledger]: in memory, in a file, in Redis. record.go is the
// state machine. Memory and file apply it to records of their own (local.go);
// Redis runs the same machine in Lua (redis.lua), where one step is one round
// trip. Every implementation passes ledgertest.
//
// Beside its records each keeps what [planning.Documents] is about: memory and
// file by documents.go, Redis by documents.lua. The version of a document is the
// time it was saved in microseconds, or one more than the version that its store
// gave last, if that is more. So none is given twice: not after a document was
// forgotten, not when the clock goes back, and not after a flush, unless the clock
// went back as well.
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
//
// It departs from design.md section 4 in these places:
//   - "Older than birth + 60 s" is read in the safe direction: a request that was
//     made before that moment is young. Read the other way, a flush half a
//     minute after a push would double it in silence.
//   - A request found undecided counts as young, too, when it was due before the
//     birth: the copy it comes from may have missed a push.
//   - Fencing numbers are at least the time in milliseconds: after a flush or a
//     failover no number is given twice.
//   - A request that the ledger has forgotten is neither lost nor done: its
//     worker tells the result itself, or gives the event back.
package ledger
