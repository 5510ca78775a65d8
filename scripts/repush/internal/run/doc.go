// Package run asks a target for many pushes, one request a message: as many at a
// time as the quota can serve, each written down before it is asked for and again
// when it is decided, so that a run which is interrupted, or killed, goes on where
// it stopped.
//
// A message is asked for under one event id, whatever happens: asking once more
// repeats the request, and the function's ledger answers it without a second push.
// What is decided is never asked for again.
package run
