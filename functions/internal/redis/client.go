package redis

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

const (
	// timeout is for connecting, TLS included, and for the answers to a
	// pipeline, each. Both take a millisecond inside a VPC; 2 s cover three lost
	// segments in a row (0.2 + 0.4 + 0.8 s), the fork of a large Redis, and a
	// handshake on the twentieth of a CPU that 128 MB come with. What takes
	// longer is better given back than waited for: a lease outlives its
	// deadline by no more.
	timeout = 2 * time.Second
	// batchTimeout bounds a batch with everything it may need: connecting,
	// sending scripts, following a moved slot.
	batchTimeout = 5 * time.Second
	// drainTimeout bounds Close.
	drainTimeout = 2 * time.Second
	// maxIdle is below the idle time-outs of NAT gateways and Redis's own
	// "timeout": a connection that slept longer is not written to again.
	maxIdle = 30 * time.Second
)

// evalSHA runs a script by its digest, where it is known.
const evalSHA = "evalsha"

// errInvalidURL never quotes: the URL has a password in it.
var errInvalidURL = errors.New("the URL must be redis://[user:password@]host[:port][/db], or rediss:// for TLS, without a query; special characters in user and password percent-encoded")

// Client runs scripts, batched as doc.go says. Its errors are *[pushing.Error]
// of kind Unavailable; the code is one of the State constants, or empty when
// Redis could not be reached or did not answer. A script whose call failed may
// have run, or may still run. Safe for concurrent use.
type Client struct {
	batches *batches
	trips   atomic.Int64
	// digests are those of all scripts seen, of which there are few.
	digests sync.Map

	mu sync.Mutex
	// options say what db is made from; IsClusterMode is found out.
	options goredis.UniversalOptions
	// db is nil until it is needed, and after reconnect.
	db     goredis.UniversalClient
	closed bool
}

// call is one script on its way.
type call struct {
	script string
	// words are the command as it is sent, EVALSHA first.
	words []any
	done  func(any, error)
}

// once is a command that go-redis must not send again: its cluster client
// repeats whole pipelines when a connection is cut or the first answer is an
// error that may pass, whatever MaxRetries says (v9.23.0, osscluster.go).
type once struct{ *goredis.Cmd }

// NoRetry implements [goredis.Cmder].
func (once) NoRetry() bool { return true }

// Open returns a client for a URL redis://[user:password@]host[:port][/db], or
// rediss:// for TLS, which is always verified. It does no I/O: Redis may be away
// until it is needed. An error is of kind Invalid and never quotes the URL. All
// of go-redis has one log, which names addresses: Open turns it off.
func Open(rawURL string) (*Client, error) {
	parsed, err := goredis.ParseURL(rawURL)
	u, _ := url.Parse(rawURL) // ParseURL began with it
	if err != nil || u.Scheme == "unix" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" || parsed.DB < 0 {
		return nil, &pushing.Error{Kind: pushing.Invalid, Op: "redis", Err: errInvalidURL}
	}
	logging.Disable()
	c := &Client{options: goredis.UniversalOptions{
		Addrs: []string{parsed.Addr}, DB: parsed.DB, Username: parsed.Username, Password: parsed.Password, TLSConfig: parsed.TLSConfig,
		DialTimeout: timeout, ReadTimeout: timeout, WriteTimeout: timeout, ContextTimeoutEnabled: true,
		MaxRetries: -1, DialerRetries: 1,
		// One pipeline at a time needs one connection to a node; a cluster
		// that moves slots needs another.
		PoolSize: 4, MaxActiveConns: 4, PipelinePoolSize: -1, ConnMaxIdleTime: maxIdle,
		// Scripts are answered alike in both protocols; some proxies know
		// only 2, and only in 3 come messages nobody asked for.
		Protocol: 2, DisableIdentity: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}}
	c.options.OnConnect = c.greet
	c.batches = &batches{send: c.send, later: laterWait}
	return c, nil
}

// Eval runs one script atomically and returns its answer: nil, int64, string or
// []any of these. keys are in one hash slot of a cluster. args are string,
// []byte, bool, int, int64 or float64; []byte may be changed when Eval returns. A
// script is known by its text and sent only where it is not known yet. ctx ends
// the waiting at once, but neither the script nor the pipeline it is in.
func (c *Client) Eval(ctx context.Context, script string, keys []string, args ...any) (any, error) {
	type answer struct {
		value any
		err   error
	}
	answers := make(chan answer, 1)
	if ctx.Err() == nil {
		c.enqueue(true, script, keys, args, func(v any, err error) { answers <- answer{v, err} })
	}
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		return nil, failure("", fmt.Errorf("not waited for any longer: %w", ctx.Err()))
	}
}

// EvalLater is Eval for what nobody waits for: it travels with the next Eval, or
// alone within 10 ms. done, if not nil, is called once, on a goroutine of its
// own.
func (c *Client) EvalLater(script string, keys []string, args []any, done func(any, error)) {
	c.enqueue(false, script, keys, args, func(v any, err error) {
		if done != nil {
			go done(v, err)
		}
	})
}

// enqueue queues a call, or answers it with an error. What go-redis cannot
// write would fail the whole pipeline: it is refused here.
func (c *Client) enqueue(urgent bool, script string, keys []string, args []any, done func(any, error)) {
	words := []any{evalSHA, c.digest(script), len(keys)}
	for _, key := range keys {
		words = append(words, key)
	}
	for i, arg := range args {
		switch a := arg.(type) {
		case []byte:
			arg = string(a)
		case string, bool, int, int64, float64:
		default:
			done(nil, &pushing.Error{Op: "redis", Err: fmt.Errorf("argument %d of a script is a %T", i+1, arg)})
			return
		}
		words = append(words, arg)
	}
	if !c.batches.add(&call{script, words, done}, urgent) {
		done(nil, classify(goredis.ErrClosed))
	}
}

// digest names a script as EVALSHA wants it.
func (c *Client) digest(script string) any {
	name, known := c.digests.Load(script)
	if !known {
		sum := sha1.Sum([]byte(script))
		name, _ = c.digests.LoadOrStore(script, hex.EncodeToString(sum[:]))
	}
	return name
}

// RoundTrips is the number of pipelines sent so far; the handshakes of
// connections are not among them.
func (c *Client) RoundTrips() int64 { return c.trips.Load() }

// Close sends what is queued, waits at most 2 s for the answers and closes the
// connections. Every call made is answered, with an error if need be.
func (c *Client) Close() error {
	drained := c.batches.drain(drainTimeout)
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.reconnect(false)
	if !drained {
		return failure("", fmt.Errorf("closed, but what was sent last was not answered within %v", drainTimeout))
	}
	return nil
}

// send runs a batch and answers its calls. What certainly did not run goes
// again: to the cluster instead of one server, as EVAL instead of EVALSHA.
func (c *Client) send(batch []*call) {
	ctx, cancel := context.WithTimeout(context.Background(), batchTimeout)
	defer cancel()
	for len(batch) > 0 {
		batch = c.pipeline(ctx, batch)
	}
}

// pipeline sends the calls in one pipeline, answers them and returns those that
// go again instead, which each does at most once for either reason.
func (c *Client) pipeline(ctx context.Context, batch []*call) (rest []*call) {
	db, cluster := c.connect()
	pipe := db.Pipeline()
	cmds := make([]*goredis.Cmd, len(batch))
	for i, call := range batch {
		cmds[i] = goredis.NewCmd(ctx, call.words...)
		_ = pipe.Process(ctx, once{cmds[i]}) // queues only
	}
	c.trips.Add(1)
	_, failed := pipe.Exec(ctx)
	silent, readOnly, found := true, false, false
	for i, cmd := range cmds {
		value, err := cmd.Result()
		if value == nil && err == nil {
			err = failed // go-redis leaves the commands alone when the login is refused
		}
		silent = silent && err != nil && !errors.As(err, new(goredis.Error))
		readOnly = readOnly || goredis.IsReadOnlyError(err)
		_, moved := goredis.IsMovedError(err)
		elsewhere := !cluster && (moved || errors.Is(err, errCluster))
		found = found || elsewhere
		switch {
		case elsewhere:
			rest = append(rest, batch[i])
		case batch[i].words[0] == evalSHA && goredis.HasErrorPrefix(err, "NOSCRIPT"):
			batch[i].words[0], batch[i].words[1] = "eval", batch[i].script
			rest = append(rest, batch[i])
		default:
			batch[i].done(value, classify(err))
		}
	}
	if silent || readOnly || found {
		c.reconnect(cluster || found)
	}
	return rest
}

// connect returns the client in use, or one that has not connected yet, and
// whether it is for a cluster.
func (c *Client) connect() (db goredis.UniversalClient, cluster bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.db == nil {
		c.db = goredis.NewUniversalClient(&c.options)
	}
	if c.closed {
		_ = c.db.Close() // what was queued then fails without another connection
	}
	return c.db, c.options.IsClusterMode
}

// reconnect has the next pipeline begin anew. After a failover the host name
// leads elsewhere while the old server still answers, read-only. And where nobody
// answers, go-redis would soon dial in a goroutine of its own, and fail for up to
// a second without dialing, which after a thaw is a second too many.
func (c *Client) reconnect(cluster bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.db != nil {
		_ = c.db.Close() // whatever is on its way has failed already
	}
	c.db, c.options.IsClusterMode = nil, cluster
}
