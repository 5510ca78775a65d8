package quota

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ons-repush/ons-repush/functions/internal/redis/redistest"
)

// readsClock is the one place of the script that knows the time.
const readsClock = "redis.call('TIME')"

// Wire is [Scripts] over one connection without deadlines or goroutines, so
// that it can be used in a synctest bubble: the bubble's time stands still while
// the server works.
type Wire struct {
	// Now replaces the server's clock: the time since 1970.
	Now func() time.Duration
	// Latency is how long a round trip takes, beside what it takes.
	Latency time.Duration

	mu      sync.Mutex
	conn    net.Conn
	replies *bufio.Reader

	laterMu sync.Mutex
	later   []func()
}

// DialWire connects to a server.
func DialWire(tb testing.TB, s *redistest.Server) *Wire {
	tb.Helper()
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return &Wire{conn: conn, replies: bufio.NewReader(conn)}
}

// Eval implements [Scripts].
func (w *Wire) Eval(_ context.Context, script string, keys []string, args ...any) (any, error) {
	time.Sleep(w.Latency / 2)
	w.flush()
	reply, err := w.run(script, keys, args)
	time.Sleep(w.Latency - w.Latency/2)
	return reply, err
}

// EvalLater implements [Scripts].
func (w *Wire) EvalLater(script string, keys []string, args []any, done func(any, error)) {
	w.laterMu.Lock()
	defer w.laterMu.Unlock()
	w.later = append(w.later, func() {
		reply, err := w.run(script, keys, args)
		time.AfterFunc(w.Latency/2, func() { done(reply, err) })
	})
	if len(w.later) == 1 {
		time.AfterFunc(10*time.Millisecond+w.Latency/2, w.flush)
	}
}

func (w *Wire) flush() {
	w.laterMu.Lock()
	defer w.laterMu.Unlock()
	for _, run := range w.later {
		run()
	}
	w.later = nil
}

func (w *Wire) run(script string, keys []string, args []any) (any, error) {
	words := []any{"EVAL", script, len(keys)}
	for _, k := range keys {
		words = append(words, k)
	}
	words = append(words, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.Now != nil {
		if n := strings.Count(script, readsClock); n != 1 {
			return nil, fmt.Errorf("the script reads the clock %d times, want once", n)
		}
		words[1] = strings.Replace(script, readsClock, "{0, ARGV[#ARGV]}", 1)
		words = append(words, w.Now().Microseconds())
	}
	var request strings.Builder
	fmt.Fprintf(&request, "*%d\r\n", len(words))
	for _, word := range words {
		text := fmt.Sprint(word)
		switch word := word.(type) {
		case float64:
			text = strconv.FormatFloat(word, 'f', -1, 64)
		case bool:
			text = strings.NewReplacer("false", "0", "true", "1").Replace(text)
		}
		fmt.Fprintf(&request, "$%d\r\n%s\r\n", len(text), text)
	}
	if _, err := io.WriteString(w.conn, request.String()); err != nil {
		return nil, err
	}
	return w.reply()
}

func (w *Wire) reply() (any, error) {
	line, err := w.replies.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	switch n, _ := strconv.Atoi(line[1:]); line[0] {
	case '*':
		all := make([]any, n)
		for i := range all {
			if all[i], err = w.reply(); err != nil {
				return nil, err
			}
		}
		return all, nil
	case '$':
		text := make([]byte, n+2)
		_, err := io.ReadFull(w.replies, text)
		return string(text[:n]), err
	case ':':
		return int64(n), nil
	default:
		return nil, errors.New(line)
	}
}
