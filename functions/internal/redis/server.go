package redis

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// errCluster: one server turned out to be a node of a cluster.
var errCluster = errors.New("redis_mode is cluster")

// probe reads what INFO says as far as it is permitted, and nothing from where
// it is not. With "write" it shows first that it could write: SET with XX needs
// everything that a write needs, and does nothing without the key, which no one
// sets.
const probe = `if ARGV[1] == 'write' then redis.call('SET', KEYS[1], '', 'XX') end
local text = ''
for _, section in ipairs({'server', 'memory', 'replication'}) do
  local answer = redis.pcall('INFO', section)
  if type(answer) == 'string' then text = text .. answer end
end
return text`

// probeKey is never set.
const probeKey = "ons-repush:{probe}"

// Server is what an operator wants to know of Redis, without its address.
// Fields that a managed Redis keeps to itself are empty.
type Server struct {
	// Version is redis_version, for example "7.0.15".
	Version string `json:"version,omitempty"`
	// Mode is "standalone" or "cluster"; a cluster answers by one of its nodes.
	Mode string `json:"mode,omitempty"`
	// PingMs is one round trip in milliseconds, waiting for a pipeline on its
	// way included.
	PingMs float64 `json:"pingMs"`
	// UsedMemory is in bytes.
	UsedMemory int64 `json:"usedMemory,omitempty"`
}

// Check reports whether Redis could do the work now: it can be reached, takes
// scripts and writes, does not evict, is no replica and new enough. It writes
// nothing.
func (c *Client) Check(ctx context.Context) error {
	info, err := c.probe(ctx, "write")
	if err != nil {
		return err
	}
	if field(info, "role") == "slave" {
		// One that takes writes all the same loses them.
		code, text := refusal("READONLY")
		return failure(code, errors.New(text))
	}
	return suitable(info)
}

// Info describes the server.
func (c *Client) Info(ctx context.Context) (Server, error) {
	// The first connects and sends the script; the second shows the round trip.
	if _, err := c.probe(ctx, ""); err != nil {
		return Server{}, err
	}
	begin := time.Now()
	info, err := c.probe(ctx, "")
	if err != nil {
		return Server{}, err
	}
	took := time.Since(begin)
	memory, _ := strconv.ParseInt(field(info, "used_memory"), 10, 64)
	return Server{
		Version: field(info, "redis_version"), Mode: field(info, "redis_mode"),
		PingMs: float64(took.Microseconds()) / 1000, UsedMemory: memory,
	}, nil
}

func (c *Client) probe(ctx context.Context, what string) (info string, err error) {
	answer, err := c.Eval(ctx, probe, []string{probeKey}, what)
	info, _ = answer.(string)
	return info, err
}

// greet looks at the server behind a new connection, and so at every one that a
// reconnect or a failover leads to. Where INFO is not permitted it sees nothing.
// go-redis strips one layer off the error it gets from here, hence the wrapping.
func (c *Client) greet(ctx context.Context, conn *goredis.Conn) error {
	answers, err := conn.Pipelined(ctx, func(p goredis.Pipeliner) error {
		p.Info(ctx, "server")
		p.Info(ctx, "memory")
		return nil
	})
	if err != nil && !errors.As(err, new(goredis.Error)) {
		return err
	}
	info := answers[0].(*goredis.StringCmd).Val() + answers[1].(*goredis.StringCmd).Val()
	if err := suitable(info); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.options.IsClusterMode && field(info, "redis_mode") == "cluster" {
		return fmt.Errorf("connect: %w", errCluster)
	}
	return nil
}

// suitable says why a server with this INFO cannot hold the state; what INFO
// does not tell is taken for right.
func suitable(info string) error {
	var major, minor int
	if n, _ := fmt.Sscanf(field(info, "redis_version"), "%d.%d", &major, &minor); n == 2 && (major < 6 || major == 6 && minor < 2) {
		return failure(StateTooOld, fmt.Errorf("version %d.%d is too old: 6.2 or newer is needed", major, minor))
	}
	if policy := field(info, "maxmemory_policy"); policy != "" && policy != "noeviction" {
		return failure(StateEvicting, fmt.Errorf("maxmemory-policy is %s, so that it may forget what was pushed: set maxmemory-policy to noeviction", policy))
	}
	return nil
}

// field returns the value of a line "name:value" of INFO, or "".
func field(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
