//go:build crash

package main

import "github.com/ons-repush/ons-repush/functions/internal/crashtest"

// instrument puts points at which a test kills the process before and after every
// call that the domain makes.
func instrument(p ports) ports {
	b := crashtest.NewBomb()
	return ports{
		crashtest.Pusher{Pusher: p.Pusher, Bomb: b}, crashtest.Connections{Connections: p.Connections, Bomb: b}, crashtest.Pacer{Pacer: p.Pacer, Bomb: b},
		crashtest.Ledger{Ledger: p.Ledger, Bomb: b}, crashtest.Emitter{Emitter: p.Emitter, Bomb: b, Call: "emit"},
	}
}
