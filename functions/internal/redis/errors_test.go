package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
	"github.com/ons-repush/ons-repush/functions/internal/redis/redistest"
)

// secret must not appear in any error: it is password and script argument.
const secret = "s3cret"

// as returns the URL of s with a user and a password.
func as(s *redistest.Server, user, password string) string {
	u := url.URL{Scheme: "redis", User: url.UserPassword(user, password), Host: s.Addr()}
	return u.String()
}

// TestErrors holds what is said about real answers of real servers.
func TestErrors(t *testing.T) {
	t.Parallel()
	const write = `return redis.call('SET', KEYS[1], ARGV[1])`
	for name, tt := range map[string]struct {
		url    func(t *testing.T) string
		script string
		code   string
		text   string
		// passes: Check has nothing to say, the script is at fault.
		passes bool
	}{
		"nobody there": {
			url:  func(t *testing.T) string { s := redistest.Start(t); s.Stop(); return s.URL() },
			text: "connection refused",
		},
		"no such host": {
			url:  func(*testing.T) string { return "redis://:" + secret + "@no-such-host.invalid:6379" },
			text: "cannot be resolved",
		},
		"no answer": {
			url:  func(t *testing.T) string { s := redistest.Start(t); s.Freeze(); return s.URL() },
			text: "no answer in time",
		},
		"a replica": {
			url: func(t *testing.T) string {
				return redistest.Start(t, append([]string{"--replicaof"}, strings.Split(redistest.Start(t).Addr(), ":")...)...).URL()
			},
			code: StateReadOnly, text: "name the primary",
		},
		"a replica without its primary": {
			url: func(t *testing.T) string {
				return redistest.Start(t, "--replicaof", "127.0.0.1", "1", "--replica-serve-stale-data", "no").URL()
			},
			code: StateLoading, text: "ends by itself",
		},
		"a full memory": {
			url:  func(t *testing.T) string { return redistest.Start(t, "--maxmemory", "100kb").URL() },
			code: StateFull, text: "raise maxmemory",
		},
		"a wrong password": {
			url:  func(t *testing.T) string { return as(redistest.Start(t, "--requirepass", "right"), "", secret) },
			code: StateDenied, text: "password in the URL is wrong or missing",
		},
		"a wrong user": {
			url:  func(t *testing.T) string { return as(redistest.Start(t), "nobody", secret) },
			code: StateDenied, text: "password in the URL is wrong or missing",
		},
		"no password": {
			url: func(t *testing.T) string {
				return "redis://" + redistest.Start(t, "--requirepass", "right").Addr()
			},
			code: StateDenied, text: "password in the URL is wrong or missing",
		},
		"a user without scripts": {
			url:  func(t *testing.T) string { return as(user(t, "~*", "+@all", "-@scripting"), "ann", secret) },
			code: StateDenied, text: "lacks a permission",
		},
		"a user without keys": {
			url:  func(t *testing.T) string { return as(user(t, "~other:*", "+@all"), "ann", secret) },
			code: StateDenied, text: "lacks a permission",
		},
		"a user without the commands of a script": {
			url:  func(t *testing.T) string { return as(user(t, "~*", "+@all", "-set"), "ann", secret) },
			code: StateDenied, text: "lacks a permission",
		},
		"an evicting server": {
			url:  func(t *testing.T) string { return redistest.Start(t, "--maxmemory-policy", "allkeys-lru").URL() },
			code: StateEvicting, text: "maxmemory-policy is allkeys-lru",
		},
		"a server that loads": {url: loading, code: StateLoading, text: "ends by itself"},
		"a cluster without slots": {
			url:  func(t *testing.T) string { return redistest.Start(t, "--cluster-enabled", "yes").URL() },
			code: StateLoading, text: "CLUSTER INFO says which",
		},
		"a database it does not have": {
			url:  func(t *testing.T) string { return "redis://" + redistest.Start(t, "--databases", "1").Addr() + "/9" },
			text: "the error ERR",
		},
		"a script that fails": {
			url: plainServer, passes: true,
			script: "local x = 1\nreturn redis.call('INCRBY', KEYS[1], ARGV[1])",
			text:   "a script failed (ERR) at line 2",
		},
		"a script that fails by itself": {
			url: plainServer, passes: true,
			script: "error(ARGV[1])",
			text:   "a script failed",
		},
		"a script that says what it was given": {
			url: plainServer, passes: true,
			script: "return redis.error_reply(ARGV[1])",
			text:   "the error ",
		},
		"a script that is known and says it is not": {
			url: plainServer, passes: true,
			script: "return redis.error_reply('NOSCRIPT he says')",
			text:   "the error NOSCRIPT",
		},
		"no TLS there": {
			url: func(t *testing.T) string { return "rediss://" + redistest.Start(t).Addr() },
			// Redis waits for the end of a line. When the random bytes of the
			// handshake have one it answers without TLS, else never.
			text: "TLS",
		},
		"a certificate nobody knows": {
			url:  func(t *testing.T) string { addr, _ := overTLS(t, redistest.Start(t)); return "rediss://" + addr },
			text: "its TLS certificate is not valid",
		},
		"only TLS there": {
			url:  func(t *testing.T) string { addr, _ := overTLS(t, redistest.Start(t)); return "redis://" + addr },
			text: "does it want TLS",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := open(t, tt.url(t))
			script := tt.script
			if script == "" {
				script = write
			}
			slow := func(err error) bool { // a busy machine, and that is not what the case is about
				return err != nil && strings.Contains(err.Error(), "no answer in time") && !strings.Contains(err.Error(), tt.text)
			}
			var err, check error
			for range 5 {
				_, err = c.Eval(t.Context(), script, []string{"ons-repush:{k}"}, secret)
				if check = c.Check(t.Context()); !slow(err) && !slow(check) {
					break
				}
			}
			errs := []error{err}
			if !tt.passes {
				errs = append(errs, check)
			} else if check != nil {
				t.Errorf("Check = %v", check)
			}
			for _, err := range errs {
				var own *pushing.Error
				if !errors.As(err, &own) || own.Kind != pushing.Unavailable || own.Op != "redis" || own.Code != tt.code || !strings.Contains(err.Error(), tt.text) {
					t.Errorf("error = %v, want code %q and %q", err, tt.code, tt.text)
				}
				if err != nil && (strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "127.0.0.1") || strings.Contains(err.Error(), "ann") && strings.Contains(err.Error(), "user ann")) {
					t.Errorf("error tells too much: %v", err)
				}
			}
		})
	}
}

func plainServer(t *testing.T) string { return redistest.Start(t).URL() }

// user starts a server with a user ann.
func user(t *testing.T, rules ...string) *redistest.Server {
	s := redistest.Start(t)
	s.Do(append([]string{"ACL", "SETUSER", "ann", "on", ">" + secret}, rules...)...)
	return s
}

// loading is a server that is busy reading its file again.
func loading(t *testing.T) string {
	s := redistest.Start(t, "--enable-debug-command", "yes", "--loading-process-events-interval-bytes", "1024")
	s.Do("DEBUG", "POPULATE", "10000")
	s.Do("CONFIG", "SET", "key-load-delay", "2000")
	db := goredis.NewClient(&goredis.Options{Addr: s.Addr(), ReadTimeout: -1})
	t.Cleanup(func() { _ = db.Close() })
	go db.Do(t.Context(), "DEBUG", "RELOAD") // ends with the server
	eventually(t, "the server to load", func() bool { return strings.Contains(s.Do("INFO", "persistence"), "loading:1") })
	return s.URL()
}

// overTLS lets s be reached over TLS, and returns the address and who signed
// the certificate.
func overTLS(t *testing.T, s *redistest.Server) (addr string, roots *x509.CertPool) {
	t.Helper()
	web := httptest.NewTLSServer(nil)
	defer web.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: web.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				server, err := net.Dial("tcp", s.Addr())
				if err != nil {
					return
				}
				defer func() { _ = server.Close() }()
				go func() { _, _ = io.Copy(conn, server) }()
				_, _ = io.Copy(server, conn)
			}()
		}
	}()
	roots = x509.NewCertPool()
	roots.AddCert(web.Certificate())
	return l.Addr().String(), roots
}

func TestTLS(t *testing.T) {
	t.Parallel()
	addr, roots := overTLS(t, redistest.Start(t))
	c := open(t, "rediss://"+addr)
	c.options.TLSConfig.RootCAs = roots
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
	_, port, _ := strings.Cut(addr, ":")
	c = open(t, "rediss://localhost:"+port)
	c.options.TLSConfig.RootCAs = roots
	if err := c.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "its TLS certificate is not valid") {
		t.Errorf("a certificate for another host: %v", err)
	}
}

// TestEnoughPermissions holds the ACL that the text of StateDenied names, and
// that a managed Redis without INFO works.
func TestEnoughPermissions(t *testing.T) {
	t.Parallel()
	_, text := refusal("NOPERM")
	_, text, _ = strings.Cut(text, "ACL SETUSER with ")
	text, _, _ = strings.Cut(text, " is enough")
	rules := strings.Fields(text)
	if len(rules) < 3 {
		t.Fatalf("no rules in %q", text)
	}
	for name, tt := range map[string]struct {
		nodes int // of the cluster; the URL names the last
		rules []string
		known bool
	}{
		"as the error says":                {0, rules, true},
		"on a cluster":                     {1, rules, true},
		"without INFO":                     {0, append(rules[:len(rules):len(rules)], "-info"), false},
		"without INFO, on a cluster":       {1, append(rules[:len(rules):len(rules)], "-info"), false},
		"without INFO, from a second node": {2, append(rules[:len(rules):len(rules)], "-info"), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var nodes []*redistest.Server
			if tt.nodes == 0 {
				nodes = append(nodes, redistest.Start(t))
			} else {
				nodes = redistest.StartCluster(t, tt.nodes).Nodes()
			}
			for _, node := range nodes {
				node.Do(append([]string{"ACL", "SETUSER", "ann", "on", ">" + secret}, tt.rules...)...)
			}
			c := open(t, as(nodes[len(nodes)-1], "ann", secret))
			if err := c.Check(t.Context()); err != nil {
				t.Errorf("Check = %v", err)
			}
			for _, key := range []string{"ons-repush:{a}", "ons-repush:{b}", "ons-repush:{c}"} {
				must(t, c, `redis.call('TIME') redis.call('HSET', KEYS[1], 'f', 'v') return redis.call('ZADD', KEYS[2], 1, 'm')`, []string{key + "h", key + "z"})
			}
			if info, err := c.Info(t.Context()); err != nil || (info.Version != "") != tt.known {
				t.Errorf("Info = %+v, %v", info, err)
			}
		})
	}
}

// TestRefusals holds answers that no server here gives. Source: Redis 6.2,
// src/scripting.c (luaRedisGenericCommand), src/server.c.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]struct{ code, text string }{
		"READONLY You can't write against a read only replica.":                                                      {StateReadOnly, "primary"},
		"ERR Error running script (call to f_1a): @user_script:1: -READONLY You can't write against a read only":     {StateReadOnly, "primary"},
		"ERR Error running script (call to f_1a): @user_script: 1: -OOM command not allowed when used memory > 'max": {StateFull, "maxmemory"},
		"CLUSTERDOWN The cluster is down":                                 {StateLoading, "CLUSTER INFO"},
		"TRYAGAIN Multiple keys request during rehashing of slot":         {StateLoading, "CLUSTER INFO"},
		"MOVED 3999 10.0.0.1:6381":                                        {StateLoading, "CLUSTER INFO"},
		"LOADING Redis is loading the dataset in memory":                  {StateLoading, "ends by itself"},
		"MISCONF Redis is configured to save RDB snapshots, but it's not": {"", "the error MISCONF"},
		"s3cret":  {"", "the error unknown"},
		"":        {"", "the error unknown"},
		"S3CRET ": {"", "the error unknown"},
	} {
		code, text := refusal(answer)
		if code != want.code || !strings.Contains(text, want.text) || strings.Contains(strings.ToLower(text), secret) {
			t.Errorf("refusal(%q) = %q, %q", answer, code, text)
		}
	}
}

func TestSuitable(t *testing.T) {
	t.Parallel()
	for info, code := range map[string]string{
		"": "",
		"redis_version:7.0.15\r\nmaxmemory_policy:noeviction\r\n":  "",
		"redis_version:6.2.0\r\n":                                  "",
		"redis_version:10.0.0\r\n":                                 "",
		"redis_version:unstable\r\n":                               "",
		"redis_version:6.0.16\r\n":                                 StateTooOld,
		"# Server\r\nredis_version:5.0.7\r\n":                      StateTooOld,
		"redis_version:7.2.4\r\nmaxmemory_policy:volatile-ttl\r\n": StateEvicting,
	} {
		err := suitable(info)
		var own *pushing.Error
		if errors.As(err, &own); (err != nil || code != "") && (own == nil || own.Code != code) {
			t.Errorf("suitable(%q) = %v, want %q", info, err, code)
		}
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"redis://h":                      "h:6379 0",
		"redis://h:7/3":                  "h:7 3",
		"redis://h/":                     "h:6379 0",
		"redis://u:p%40%2F@h:7/0":        "h:7 0 u p@/",
		"redis://:p@[::1]:7":             "[::1]:7 0 p",
		"rediss://u:p@r-1.redis.rds.com": "r-1.redis.rds.com:6379 0 u p tls r-1.redis.rds.com",
	} {
		c := open(t, raw)
		got := strings.Join(c.options.Addrs, ",") + " " + string(rune('0'+c.options.DB))
		for _, s := range []string{c.options.Username, c.options.Password} {
			if s != "" {
				got += " " + s
			}
		}
		if tc := c.options.TLSConfig; tc != nil {
			got += " tls " + tc.ServerName
			if tc.InsecureSkipVerify || tc.MinVersion < tls.VersionTLS12 {
				t.Errorf("%s: insecure", raw)
			}
		}
		if got != want {
			t.Errorf("Open(%s): %s, want %s", raw, got, want)
		}
	}
	for _, raw := range badURLs {
		c, err := Open(raw)
		var own *pushing.Error
		if c != nil || !errors.As(err, &own) || own.Kind != pushing.Invalid || strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), "rediss:// for TLS") {
			t.Errorf("Open(%q) = %v, %v", raw, c, err)
		}
	}
}

var badURLs = []string{
	"", secret, "redis://", "redis:///0", "redis://:" + secret + "@", "http://" + secret + "@h", "unix:///" + secret, "redis:h",
	"redis://:" + secret + "@h/x", "redis://h/-1", "redis://h/0/1", "redis://:" + secret + "@h:port", "redis://:" + secret + "%@h",
	"rediss://:" + secret + "@h?skip_verify=true", "redis://h?max_retries=3", "redis://h#" + secret, "redis://:a/" + secret + "@h", "\x00",
}

func FuzzOpen(f *testing.F) {
	for _, raw := range append(badURLs, "redis://u:p@h:7/3", "rediss://[::1]") {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := Open(raw)
		if (c == nil) == (err == nil) {
			t.Errorf("Open = %v, %v", c, err)
		}
		if err != nil && err.Error() != "redis: "+errInvalidURL.Error() {
			t.Errorf("error %q", err)
		}
		if c != nil {
			_ = c.Close()
		}
	})
}

func FuzzRefusal(f *testing.F) {
	f.Add("ERR user_script:1: x script: 1f8f4cfb, on @user_script:1.")
	f.Fuzz(func(t *testing.T, answer string) {
		if _, text := refusal(answer); text == "" || len(text) > 200 || strings.Contains(answer, secret) && strings.Contains(text, secret) {
			t.Errorf("refusal(%q) = %q", answer, text)
		}
	})
}
