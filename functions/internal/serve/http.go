package serve

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// maxTimeout is the longest a function may run (source: FC "Limits").
	maxTimeout = 86400 * time.Second
	// platformBody is the largest synchronous payload (source: FC "Limits").
	platformBody = 32 << 20
)

// runHTTP serves on FC_CUSTOM_LISTEN_PORT, PORT or 9000; PORT may also be an address,
// as 127.0.0.1:9000. Function Compute wants all interfaces (source: FC "Custom
// runtime: Principles").
func (s *server) runHTTP() error {
	host, port, found := strings.Cut(cmp.Or(s.Getenv("FC_CUSTOM_LISTEN_PORT"), s.Getenv("PORT"), "9000"), ":")
	if !found {
		host, port = "", host
	}
	if s.open() {
		host = "127.0.0.1"
	}
	listener, err := new(net.ListenConfig).Listen(s.run, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return fmt.Errorf("serve: %w; give another port with PORT", err)
	}
	server := s.httpServer()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	s.Log("serving HTTP", nil, map[string]any{"address": listener.Addr().String(), "functionCompute": s.underFC, "token": s.Token, "webhookToken": s.WebhookToken})
	if !s.underFC && len(s.Tick) > 0 {
		go s.tick()
	}
	select {
	case err := <-served:
		return fmt.Errorf("serve: %w", err)
	case <-s.run.Done():
	}
	defer server.Close()
	return s.end(server.Shutdown)
}

// tick is the timer of a server without a platform. One call at a time.
func (s *server) tick() {
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			ctx, cancel := context.WithCancel(s.run)
			_, failed := s.call(ctx, Invocation{Platform: true}, time.Now().Add(s.DefaultTimeout), s.Tick)
			cancel()
			if failed != nil && s.run.Err() == nil {
				s.Log("the timer's call failed", errors.New(failed.Message), nil)
			}
		case <-s.run.Done():
			return
		}
	}
}

// open: outsiders need no token, because only this machine's programs reach us.
func (s *server) open() bool { return !s.underFC && s.Token == "" && s.WebhookToken == "" }

func (s *server) httpServer() *http.Server {
	outsiders := http.NewServeMux()
	outsiders.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, []byte(`{"status":"ok"}`))
	})
	outsiders.HandleFunc("POST /{$}", s.serveOutsider)
	idle := 2 * time.Minute
	if s.underFC {
		// The platform reuses its connections, also after a freeze during
		// which the clock went on: it is the one to close them.
		idle = maxTimeout
	}
	return &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if kind := s.platformCall(r); kind != "" {
				s.servePlatform(w, r, kind)
			} else if failed := s.admit(w, r); failed != nil {
				writeJSON(w, failed.Status, failed.json())
			} else {
				outsiders.ServeHTTP(w, r)
			}
		}),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		// No WriteTimeout: it would start with the request, and calls are long.
		IdleTimeout:    idle,
		MaxHeaderBytes: 64 << 10,
	}
}

// platformCall says what Function Compute itself wants, in the words of its log
// lines; empty for an outsider's request. Exactly one x-fc-control-path must
// equal the path: an outsider's own, relayed beside the platform's, makes two
// (source: FC "Custom runtime specification details").
func (s *server) platformCall(r *http.Request) (kind string) {
	control := r.Header["X-Fc-Control-Path"]
	if !s.underFC || len(control) != 1 || control[0] != r.URL.Path {
		return ""
	}
	switch r.Method + " " + r.URL.Path {
	case "POST /invoke":
		return "Invoke"
	case "POST /initialize":
		return "Initialize"
	case "GET /pre-stop":
		return "PreStop"
	}
	return ""
}

// servePlatform answers Function Compute. Without x-fc-status every answer
// would count as a success (source: FC "Custom runtime: Event handlers").
func (s *server) servePlatform(w http.ResponseWriter, r *http.Request, kind string) {
	id := cmp.Or(r.Header.Get("X-Fc-Request-Id"), rand.Text())
	fmt.Fprintf(s.Stdout, "FC %s Start RequestId: %s\n", kind, id)
	status, suffix := http.StatusOK, ""
	answer, failed := s.platformAnswer(w, r, kind, id)
	if failed != nil {
		status, suffix, answer = http.StatusNotFound, ", Error: Unhandled function error", failed.json()
	}
	fmt.Fprintf(s.Stdout, "FC %s End RequestId: %s%s\n", kind, id, suffix)
	w.Header().Set("X-Fc-Request-Id", id)
	w.Header().Set("X-Fc-Status", strconv.Itoa(status))
	writeJSON(w, status, answer)
}

func (s *server) platformAnswer(w http.ResponseWriter, r *http.Request, kind, id string) ([]byte, *failure) {
	deadline := time.Now().Add(functionTimeout(r, s.DefaultTimeout))
	switch kind {
	case "Initialize":
		return []byte("null"), nil
	case "PreStop":
		ctx, cancel := context.WithTimeout(s.base, s.Grace)
		defer cancel()
		_ = s.wait(ctx) // calls still running go on until the end of Run
		return []byte("null"), nil
	}
	body, failed := readBody(w, r, platformBody)
	if failed != nil {
		return nil, failed
	}
	key := Credentials{r.Header.Get("X-Fc-Access-Key-Id"), r.Header.Get("X-Fc-Access-Key-Secret"), r.Header.Get("X-Fc-Security-Token")}
	answer, failed := s.call(r.Context(), Invocation{ID: id, Credentials: key, Platform: true}, deadline, body)
	return answer.Body, failed
}

// letsIn says whether an outsider may come in, and whether for alerts only.
func (s *server) letsIn(r *http.Request) (in, alertOnly bool) {
	if bearer := r.Header["Authorization"]; len(bearer) == 1 && s.Token.Allows(bearer[0]) {
		return true, false
	}
	tokens := slices.Concat(r.Header["X-Repush-Token"], r.URL.Query()["token"])
	if slices.ContainsFunc(tokens, s.WebhookToken.Is) {
		return true, true
	}
	return s.open() && isLocal(r), false
}

// admit keeps out who may not come in.
func (s *server) admit(w http.ResponseWriter, r *http.Request) *failure {
	in, _ := s.letsIn(r)
	switch {
	case r.URL.Path == "/healthz", in:
		return nil
	case s.open():
		return &failure{http.StatusForbidden, "without a token only programs of this machine are served, not web pages", "Forbidden"}
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	required := "an Authorization header with the bearer token is required"
	if s.WebhookToken != "" {
		required += "; for alerts, and nothing else, the webhook token will do: query parameter token or header X-Repush-Token"
	}
	return &failure{http.StatusUnauthorized, required, "Unauthorized"}
}

// isLocal tells a program of this machine from a web page in its browser. A
// page that posts sends an Origin (source: Fetch standard, "Origin" header),
// and one whose name was made to resolve to loopback sends that name as host.
func isLocal(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = strings.Trim(r.Host, "[]")
	}
	ip, err := netip.ParseAddr(host)
	return len(r.Header["Origin"]) == 0 && (strings.EqualFold(host, "localhost") || err == nil && ip.IsLoopback())
}

// serveOutsider answers everybody else. Under Function Compute the function's
// own time bounds the call as well; a forged one only shortens it.
func (s *server) serveOutsider(w http.ResponseWriter, r *http.Request) {
	wait := s.DefaultTimeout
	if s.underFC {
		wait = min(wait, functionTimeout(r, wait))
	}
	deadline := time.Now().Add(wait)
	body, failed := readEvent(w, r, s.WebhookToken != "")
	if failed != nil {
		writeJSON(w, failed.Status, failed.json())
		return
	}
	_, alertOnly := s.letsIn(r)
	answer, failed := s.call(r.Context(), Invocation{AlertOnly: alertOnly}, deadline, body)
	status := http.StatusOK
	switch {
	case failed != nil:
		status = failed.Status
	case answer.Unauthorized:
		status = http.StatusUnauthorized
	case answer.NotAnEvent:
		status = http.StatusBadRequest
	}
	if answer.GiveBack {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(max(1, answer.RetryAfter.Seconds())))))
	}
	if len(answer.Body) == 0 {
		answer.Body = failed.json()
	}
	writeJSON(w, status, answer.Body)
}

// functionTimeout is how long the platform lets this call run.
func functionTimeout(r *http.Request, otherwise time.Duration) time.Duration {
	n, _ := strconv.Atoi(r.Header.Get("X-Fc-Function-Timeout"))
	return seconds(n, otherwise)
}

// seconds is n seconds, or otherwise when no function can have such a timeout.
func seconds(n int, otherwise time.Duration) time.Duration {
	if n < 1 || n > int(maxTimeout/time.Second) {
		return otherwise
	}
	return time.Duration(n) * time.Second
}

func (f *failure) json() []byte {
	text, _ := json.Marshal(f) // two strings: cannot fail
	return text
}

// writeJSON answers. A client that has gone cannot be told so.
func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
