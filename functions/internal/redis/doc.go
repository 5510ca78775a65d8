// Package redis runs Lua scripts on a Redis 6.2 or newer, or what speaks its
// protocol (Tair, Valkey), alone or as a cluster. It is the only package that
// knows go-redis.
//
// # Natural batching
//
// Nobody waits for company: a script that finds no pipeline on its way is sent
// at once. While one is on its way, what comes queues, and when the answers are
// back all of it goes as the next pipeline. So one script alone costs one round
// trip, a hundred at once cost two or three, and the busier the store, the
// larger the pipelines:
//
//	Eval a ──▶ [a]──────▶ answers
//	Eval b, c, d  (queue)       └─▶ [b c d]──────▶ answers
//
// [Client.EvalLater] queues without starting a pipeline: it travels with the
// next, or alone after 10 ms. While nothing is queued there is no goroutine, so
// that an instance can be frozen at any time.
package redis
