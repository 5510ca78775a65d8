package ons

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// Limits of the shared transport. A connection is idle for less than a gateway
// keeps it (15 s and more): a push into one that was just closed is unknown.
const (
	connectTimeout = 5 * time.Second
	idleTimeout    = 5 * time.Second
	staleAfter     = time.Second
	maxHeaderBytes = 64 << 10
)

// Config is how a [Client] reaches the API.
type Config struct {
	// Region of the RocketMQ instance, for example "cn-hangzhou". Required.
	Region string
	// Endpoint is scheme, host and perhaps port. Empty means
	// https://ons.<Region>.aliyuncs.com; plain http only to loopback.
	Endpoint string
	// Default signs calls whose context brings no credentials; see
	// [WithCredentials]. Zero means that such calls fail.
	Default Credentials
	// PushTimeout bounds one push; 0 means 15 s. The broker itself waits up to
	// 10 s for the listener (apache/rocketmq Broker2Client).
	PushTimeout time.Duration
	// ReadTimeout bounds every other call; 0 means 5 s.
	ReadTimeout time.Duration
	// MaxInFlight is for how many calls at a time connections and SDK clients
	// are kept; 0 means 150. More calls work, and cost a handshake each.
	MaxInFlight int
	// RootCAs replaces the system's certificate authorities; nil keeps them.
	RootCAs *x509.CertPool
	// Now is the clock that tells a pause; nil means time.Now.
	Now func() time.Time
}

// New returns a client, or an error that names every bad field. It refuses to
// work while DEBUG contains "sdk": the SDK then prints every signed request to
// standard output and cannot be stopped (sdk/utils/debug.go, read at start).
func New(cfg Config) (*Client, error) {
	endpoint, problem := parseEndpoint(cmp.Or(cfg.Endpoint, "https://ons."+cfg.Region+".aliyuncs.com"))
	problems := []error{problem}
	if cfg.Region == "" {
		problems = append(problems, errors.New("region: is required"))
	}
	if cfg.PushTimeout < 0 || cfg.ReadTimeout < 0 || cfg.MaxInFlight < 0 {
		problems = append(problems, errors.New("time-outs and calls in flight: must not be negative"))
	}
	if slices.Contains(strings.Split(os.Getenv("DEBUG"), ","), "sdk") {
		problems = append(problems, errors.New("DEBUG: contains sdk, which prints access keys and tokens; unset it"))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("ons: %w", err)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	room, readTimeout := cmp.Or(cfg.MaxInFlight, 150), cmp.Or(cfg.ReadTimeout, 5*time.Second)
	c := &Client{
		region:     cfg.Region,
		endpoint:   endpoint,
		defaults:   func() Credentials { return cfg.Default },
		push:       operation{timeout: cmp.Or(cfg.PushTimeout, 15*time.Second), bound: maxAnswerBytes, sends: true},
		read:       operation{timeout: readTimeout, bound: maxAnswerBytes},
		list:       operation{timeout: readTimeout, bound: maxListBytes},
		now:        cfg.Now,
		staleAfter: staleAfter,
		transport:  newTransport(cfg.RootCAs, room),
		free:       make(chan *session, room),
	}
	s, err := c.newSession()
	if err != nil {
		return nil, fmt.Errorf("ons: region: %w", err)
	}
	c.release(s)
	return c, nil
}

// parseEndpoint never quotes its argument: it may hold a password.
func parseEndpoint(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || *u != (url.URL{Scheme: u.Scheme, Host: u.Host}) {
		return nil, errors.New("endpoint: must be scheme and host only, like https://ons.cn-hangzhou.aliyuncs.com")
	}
	ip, _ := netip.ParseAddr(u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || u.Hostname() != "localhost" && !ip.IsLoopback()) {
		return nil, errors.New("endpoint: must be https, because the URL carries the credentials; plain http is for loopback only")
	}
	return u, nil
}

// newTransport keeps to HTTP/1.1, where "a connection was obtained" is a clear
// border between not sent and unknown. Loopback is never proxied, and so plain
// http never is.
func newTransport(roots *x509.CertPool, room int) *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    connectTimeout,
		MaxIdleConns:           room,
		MaxIdleConnsPerHost:    room,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeaderBytes,
	}
}
