// Package redistest starts real redis-servers for tests, on loopback only.
package redistest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// patience is how long a server may take to start, and a cluster to agree.
const patience = 20 * time.Second

// Server is a redis-server that ends with its test. Its methods are for the
// goroutine of the test, one at a time.
type Server struct {
	t    testing.TB
	addr string
	dir  string
	args []string
	// password is what --requirepass of the arguments said.
	password string
	process  *os.Process
	// exited is closed when the process has ended and was waited for.
	exited chan struct{}
	nodes  []*Server
}

// Start starts a redis-server on a free loopback port, with an empty directory
// of its own, without snapshots, and waits until it takes commands. args are
// redis-server options ("--maxmemory", "1mb") and win over these. It skips the
// test when there is no redis-server, or fails it with TEST_REQUIRE=all.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	s := &Server{t: t, dir: t.TempDir(), args: args}
	if i := slices.Index(args, "--requirepass"); i >= 0 && i+1 < len(args) {
		s.password = args[i+1]
	}
	t.Cleanup(s.kill)
	// The port is free when it is chosen and may be taken when it is used.
	var err error
	for range 10 {
		s.addr = freeAddr(t)
		if err = s.run(); err == nil {
			return s
		}
	}
	t.Fatalf("redistest: %v", err)
	return nil
}

// binary is the path of redis-server.
func binary(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"redis-server", "/usr/bin/redis-server", "/usr/local/bin/redis-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const how = "needs redis-server: apt-get install redis-server"
	if os.Getenv("TEST_REQUIRE") == "all" {
		t.Fatal(how)
	}
	t.Skip(how)
	return ""
}

// freeAddr is a loopback address nobody listens on. The kernel gives ports from 32768
// on to whoever connects (ip_local_port_range), also while a server that is to come
// back on its port is away; a cluster's bus is 10,000 above. So it is from 12,000 to
// 21,999.
func freeAddr(t testing.TB) string {
	t.Helper()
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 12_000+rand.IntN(10_000)))
		if err != nil {
			continue // taken
		}
		addr := l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return addr
	}
	t.Fatal("redistest: no port is free")
	return ""
}

// run starts the process and returns when it takes commands. The log tells, not
// a PING: it is certain to be this process that answers, whatever it answers.
func (s *Server) run() error {
	host, port, _ := net.SplitHostPort(s.addr)
	cmd := exec.Command(binary(s.t), append([]string{"--port", port, "--bind", host, "--dir", s.dir, "--save", "",
		"--daemonize", "no", "--logfile", ""}, s.args...)...)
	cmd.Env = []string{"LC_ALL=C"}
	cmd.SysProcAttr = endWithParent()
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return err
	}
	ready, exited := make(chan struct{}), make(chan struct{})
	s.process, s.exited = cmd.Process, exited
	var log strings.Builder
	go func() {
		defer close(exited)
		announce := sync.OnceFunc(func() { close(ready) })
		for lines := bufio.NewScanner(io.TeeReader(out, &log)); lines.Scan(); {
			if strings.Contains(lines.Text(), "eady to accept connections") {
				announce()
			}
		}
		_ = cmd.Wait() // how it ended is in the log
	}()
	select {
	case <-ready:
		return nil
	case <-exited:
	case <-time.After(patience):
		s.kill()
	}
	return fmt.Errorf("redis-server %s did not start:\n%s", strings.Join(s.args, " "), &log)
}

// kill ends the process, frozen or not, and waits for its end.
func (s *Server) kill() {
	if s.process != nil {
		_ = s.process.Kill() // it may have ended by itself
		<-s.exited
	}
}

// Addr is host:port, the same after Restart.
func (s *Server) Addr() string { return s.addr }

// URL is redis://host:port/0, with the password that --requirepass set.
func (s *Server) URL() string {
	u := url.URL{Scheme: "redis", Host: s.addr, Path: "/0"}
	if s.password != "" {
		u.User = url.UserPassword("", s.password)
	}
	return u.String()
}

// Stop ends the server as a crash would (SIGKILL).
func (s *Server) Stop() { s.kill() }

// Restart stops the server if it runs and starts it again on the same port and
// directory: data is kept with "--appendonly", "yes".
func (s *Server) Restart() {
	s.t.Helper()
	s.kill()
	if err := s.run(); err != nil {
		s.t.Fatalf("redistest: %v", err)
	}
}

// Freeze stops the process where it is (SIGSTOP): connections stay, nothing
// answers, and the kernel still takes new connections.
func (s *Server) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(signal os.Signal) {
	s.t.Helper()
	if err := s.process.Signal(signal); err != nil {
		s.t.Fatalf("redistest: %v: %v", signal, err)
	}
}

// Do sends one command over a connection of its own and returns the answer as
// fmt.Sprint prints it, nil as "". An error answer fails the test.
func (s *Server) Do(args ...string) string {
	s.t.Helper()
	answer, err := s.do(args...)
	if err != nil {
		s.t.Fatalf("redistest: %s: %v", strings.Join(args, " "), err)
	}
	return answer
}

func (s *Server) do(args ...string) (string, error) {
	db := redis.NewClient(&redis.Options{Addr: s.addr, Password: s.password, Protocol: 2, MaxRetries: -1, DisableIdentity: true, PoolSize: 1})
	defer func() { _ = db.Close() }()
	words := make([]any, len(args))
	for i, a := range args {
		words[i] = a
	}
	answer, err := db.Do(context.Background(), words...).Result()
	if err == redis.Nil {
		return "", nil
	}
	return fmt.Sprint(answer), err
}
