package main

import "github.com/ons-repush/ons-repush/functions/internal/pushing"

// ports are what the domain calls. Builds with the tag "crash" put points
// between them at which a test kills the process; see crash.go.
type ports struct {
	pushing.Pusher
	pushing.Connections
	pushing.Pacer
	pushing.Ledger
	pushing.Emitter
}
