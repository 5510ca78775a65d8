//go:build crash

package main

import (
	"context"
	"time"

	"github.com/ons-repush/ons-repush/events"
	"github.com/ons-repush/ons-repush/functions/internal/planning"
	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/wiring"
)

// instrument puts points at which a test kills the process before and after every
// call that matters; see wiring.Bomb.
func instrument(p planning.Ports) planning.Ports {
	b := wiring.NewBomb()
	p.Documents = crashDocuments{p.Documents, b}
	p.Pager = crashPager{p.Pager, b}
	p.Results, p.Requests = crashEmitter{p.Results, b, "announce"}, crashEmitter{p.Requests, b, "request"}
	return p
}

type crashDocuments struct {
	planning.Documents
	*wiring.Bomb
}

func (c crashDocuments) Save(ctx context.Context, key string, version int64, doc []byte, keep, due time.Duration) (saved int64, err error) {
	c.Around("save", func() { saved, err = c.Documents.Save(ctx, key, version, doc, keep, due) })
	return saved, err
}

type crashPager struct {
	planning.Pager
	*wiring.Bomb
}

func (c crashPager) DeadLetters(ctx context.Context, q planning.Query) (page planning.Page, err error) {
	c.Around("page", func() { page, err = c.Pager.DeadLetters(ctx, q) })
	return page, err
}

type crashEmitter struct {
	pushing.Emitter
	*wiring.Bomb
	call string
}

func (c crashEmitter) Send(ctx context.Context, batch ...events.Event) (err error) {
	c.Around(c.call, func() { err = c.Emitter.Send(ctx, batch...) })
	return err
}
