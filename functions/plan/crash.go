//go:build crash

package main

import (
	"github.com/ons-repush/ons-repush/functions/internal/crashtest"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
)

// instrument puts points at which a test kills the process before and after every
// call that matters.
func instrument(p planning.Ports) planning.Ports {
	b := crashtest.NewBomb()
	p.Documents, p.Pager = crashtest.Documents{Documents: p.Documents, Bomb: b}, crashtest.Pager{Pager: p.Pager, Bomb: b}
	p.Results = crashtest.Emitter{Emitter: p.Results, Bomb: b, Call: "announce"}
	p.Requests = crashtest.Emitter{Emitter: p.Requests, Bomb: b, Call: "request"}
	return p
}
