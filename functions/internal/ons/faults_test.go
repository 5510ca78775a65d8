package ons

import (
	"bufio"
	"compress/gzip"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// hijack answers with raw bytes and closes the connection.
func hijack(raw string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_, _ = io.WriteString(conn, raw)
			_ = conn.Close()
		}
	}
}

// html, and what a gateway makes of a request it does not like.
func echo(status int, format string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		says(status, fmt.Sprintf(format, url.PathEscape(r.URL.RawQuery), r.URL.String()))(w, r)
	}
}

// oddAnswers are answers nobody documents. Kind is for a push; a read that ends
// Unknown is Unavailable.
var oddAnswers = map[string]struct {
	answer http.HandlerFunc
	kind   pushing.Kind
}{
	"200 empty":                    {says(200, ``), pushing.Unknown},
	"200 HTML":                     {says(200, `<html>login</html>`), pushing.Unknown},
	"200 XML":                      {says(200, `<OnsMessagePushResponse><RequestId>R</RequestId></OnsMessagePushResponse>`), pushing.Unknown},
	"200 half an object":           {says(200, `{"RequestId":"R"`), pushing.Unknown},
	"200 with more behind":         {says(200, `{"RequestId":"R"}{}`), pushing.Unknown},
	"200 null":                     {says(200, `null`), pushing.Unknown},
	"200 array":                    {says(200, `[{"RequestId":"R"}]`), pushing.Unknown},
	"200 without a request id":     {says(200, `{}`), pushing.Unknown},
	"200 with an empty request id": {says(200, `{"RequestId":""}`), pushing.Unknown},
	"200 with a numeric id":        {says(200, `{"RequestId":7}`), pushing.Unknown},
	"200 with a bent id":           {says(200, `{"RequestId":"a b\u0000"}`), pushing.Unknown},
	"200 with a code":              {says(200, `{"RequestId":"R","Code":"BIZ_NO_MESSAGE","Message":"x"}`), pushing.Unknown},
	"200 with a throttle":          {says(200, `{"RequestId":"R","Code":"Throttling.User","Message":"x"}`), pushing.Unknown},
	"200 with code 200":            {says(200, `{"RequestId":"R","Code":"200"}`), pushing.Unknown},
	"200 with a numeric code":      {says(200, `{"RequestId":"R","Code":200}`), pushing.Unknown},
	"200 with a lower-case code":   {says(200, `{"RequestId":"R","code":"X"}`), pushing.Unknown},
	"200 with two codes":           {says(200, `{"RequestId":"R","Code":"","code":"X"}`), pushing.Unknown},
	"200 with an object as code":   {says(200, `{"RequestId":"R","Code":{}}`), pushing.Unknown},
	"200 without success":          {says(200, `{"RequestId":"R","Success":false,"Message":"x"}`), pushing.Unknown},
	"200 without success, as text": {says(200, `{"RequestId":"R","success":"false"}`), pushing.Unknown},
	"201":                          {says(201, okBody), pushing.Unknown},
	"204":                          {says(204, ``), pushing.Unknown},
	"400 numeric code":             {says(400, `{"RequestId":"R","Code":400,"Message":"x"}`), pushing.Unknown},
	"400 everything of odd types":  {says(400, `{"RequestId":1,"HostId":[],"Code":true,"Recommend":{},"Message":2,"AccessDeniedDetail":"x"}`), pushing.Unknown},
	"400 odd denial":               {says(403, `{"RequestId":"R","Code":"Forbidden.RAM","Message":3,"AccessDeniedDetail":"x"}`), pushing.Refused},
	"400 without a code":           {says(400, `{"RequestId":"R","Message":"x"}`), pushing.Unknown},
	"403 HTML":                     {says(403, `<html>forbidden</html>`), pushing.Unknown},
	"400 XML":                      {says(400, `<Error><Code>Throttling</Code></Error>`), pushing.Unknown},
	"404 XML not online":           {says(404, `<Error><Code>ONS_SYSTEM_ERROR</Code><Message>The Consumer g c not online</Message></Error>`), pushing.NoClient},
	"502 HTML":                     {says(502, `<html><center>nginx</center></html>`), pushing.Unknown},
	"503 empty":                    {says(503, ``), pushing.Unknown},
	"500 unknown code":             {says(500, `{"RequestId":"R","Code":"Brand.New","Message":"x"}`), pushing.Unknown},
	"400 unknown code":             {says(400, `{"RequestId":"R","Code":"Brand.New","Message":"x"}`), pushing.Unknown},
	"500 system error, not online": {says(500, `{"RequestId":"R","Code":"ONS_SYSTEM_ERROR","Message":"The Consumer <g> <c> Not Online"}`), pushing.NoClient},
	"200 with not online":          {says(200, `{"RequestId":"R","Code":"X","Message":"the consumer group[g] not online"}`), pushing.NoClient},
	"503 ServiceUnavailable":       {says(503, `{"RequestId":"R","Code":"ServiceUnavailable","Message":"x"}`), pushing.Unavailable},
	"301 elsewhere":                {redirect(301), pushing.Unknown},
	"302 elsewhere":                {redirect(302), pushing.Unknown},
	"307 elsewhere":                {redirect(307), pushing.Unknown},
	"308 elsewhere":                {redirect(308), pushing.Unknown},
	"300 not online":               {says(300, `{"RequestId":"R","Code":"X","Message":"not online"}`), pushing.Unknown},
	"304":                          {says(304, ``), pushing.Unknown},
	"101":                          {hijack("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"), pushing.Unknown},
	"huge":                         {says(200, `{"RequestId":"R","HelpUrl":"`+strings.Repeat("x", maxAnswerBytes)+`"}`), pushing.Unknown},
	"deep":                         {says(200, `{"RequestId":"R","x":`+strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000)+`}`), pushing.Unknown},
	"huge header": {func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X", strings.Repeat("x", 2*maxHeaderBytes))
	}, pushing.Unknown},
	"gzip unasked":               {zipped, pushing.Unknown},
	"cut before the answer":      {hijack(""), pushing.Unknown},
	"cut within the head":        {hijack("HTTP/1.1 200 OK\r\nContent-Le"), pushing.Unknown},
	"cut within the body":        {hijack("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + okBody), pushing.Unknown},
	"cut within a chunk":         {hijack("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"Re"), pushing.Unknown},
	"not HTTP":                   {hijack("SSH-2.0-OpenSSH_9.6\r\n"), pushing.Unknown},
	"echoes the query":           {echo(400, `{"Code":"SignatureDoesNotMatch","Message":"Specified signature is not matched with our calculation. server string to sign is:POST&%%2F&%s %s"}`), pushing.Credentials},
	"echoes the query elsewhere": {echo(400, `{"Code":"InvalidParameter","Message":"bad %s and %s and own/Secret+Key= CAISown%%2FToken%%2B42%%3D%%3D"}`), pushing.Refused},
	"echoes credentials in JSON": {says(400, `{"Code":"InvalidParameter","Message":"bad {\"key\":\"own\\/Secret\\u002bKey=\"} and CAISown&#47;Token%25252b42== {"}`), pushing.Refused},
	"echoes the query as HTML":   {echo(502, `<a href="%s">%s</a>`), pushing.Unknown},
	"echoes the query as head": {func(w http.ResponseWriter, r *http.Request) {
		hijack("HTP/1.1 "+r.URL.String()+"\r\n\r\n")(w, r)
	}, pushing.Unknown},
}

func redirect(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "/elsewhere?"+r.URL.RawQuery)
		says(status, okBody)(w, r)
	}
}

func zipped(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	z := gzip.NewWriter(w)
	_, _ = io.WriteString(z, okBody)
	_ = z.Close()
}

func TestOddAnswers(t *testing.T) {
	t.Parallel()
	for name, c := range oddAnswers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, false, c.answer)
			client := a.client(t)
			e := wantKind(t, push(t.Context(), client), c.kind)
			wantNoSecret(t, a, e)
			if want := c.kind == pushing.Unavailable; e.MaybeSent != want {
				t.Errorf("MaybeSent is %v", e.MaybeSent)
			}
			kind := c.kind
			if kind == pushing.Unknown {
				kind = pushing.Unavailable
			}
			e = wantKind(t, online(t.Context(), client), kind)
			wantNoSecret(t, a, e)
			if e.MaybeSent {
				t.Error("a read is MaybeSent")
			}
			if calls, _ := a.counts(); calls != 2 {
				t.Errorf("%d requests for two calls", calls)
			}
		})
	}
}

// wantNoSecret greps every rendering of an error for what must not be shown.
func wantNoSecret(t *testing.T, a *api, err error) {
	t.Helper()
	secrets := []string{own.AccessKeyID, own.AccessKeySecret, own.SecurityToken, "://", "AccessKeyId=", "127.0.0.1:" + port(a) + "/"}
	a.mu.Lock()
	for _, call := range a.calls {
		secrets = append(secrets, call.Get("Signature"), call.Get("SignatureNonce"))
	}
	a.mu.Unlock()
	for at := err; at != nil; at = errors.Unwrap(at) {
		text := fmt.Sprintf("%v %+v %#v %q", at, at, at, at)
		for _, secret := range secrets {
			for _, form := range []string{secret, url.QueryEscape(secret), url.QueryEscape(url.QueryEscape(secret)), "Secret\\u002bKey", "Token%25252b42"} {
				if strings.Contains(text, form) {
					t.Errorf("%q is shown in %s", form, text)
				}
			}
		}
		if strings.ContainsAny(at.Error(), "\r\n\x00") || len([]rune(at.Error())) > maxTextRunes+200 {
			t.Errorf("not one short line: %q", at.Error())
		}
	}
}

func port(a *api) string {
	return a.Listener.Addr().(*net.TCPAddr).AddrPort().String()[len("127.0.0.1:"):]
}

func TestNotSent(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	secure := newAPI(t, true, says(200, okBody))
	plain := newAPI(t, false, says(200, okBody))
	for name, c := range map[string]*Client{
		"connection refused":  plain.client(t, func(cfg *Config) { cfg.Endpoint = "http://" + closed.Addr().String() }),
		"unknown authority":   secure.client(t, func(cfg *Config) { cfg.RootCAs = nil }),
		"plain server":        secure.client(t, func(cfg *Config) { cfg.Endpoint = "https://" + plain.Listener.Addr().String() }),
		"handshake cut":       secure.client(t, func(cfg *Config) { cfg.Endpoint = "https://" + cutting(t) }),
		"TLS 1.1 server":      oldTLS(t).client(t),
		"impossible endpoint": plain.client(t, func(cfg *Config) { cfg.Endpoint = "http://localhost:99999" }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantNoSecret(t, secure, wantKind(t, push(t.Context(), c), pushing.Unavailable))
			wantNoSecret(t, secure, wantKind(t, online(t.Context(), c), pushing.Unavailable))
		})
	}
}

// cutting accepts connections and closes them on the first bytes.
func cutting(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(conn).ReadByte()
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

func oldTLS(t *testing.T) *api {
	a := newAPI(t, true, says(200, okBody))
	a.TLS.MaxVersion = tls.VersionTLS11
	return a
}

func TestSDKPanic(t *testing.T) {
	t.Parallel()
	a := newAPI(t, false, says(200, okBody))
	c := a.client(t)
	s := <-c.free
	s.sdk.Client.EndpointMap = nil
	s.client = nil // RoundTrip panics
	c.free <- s
	wantKind(t, push(t.Context(), c), pushing.Unavailable)
	if len(c.free) != 0 {
		t.Error("an SDK client that panicked is used again")
	}
	if err := push(t.Context(), c); err != nil {
		t.Errorf("the next push: %v", err)
	}
}

func TestNoRedirectReachesAnotherServer(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the redirect was followed") }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		a := newAPI(t, false, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+"/?"+r.URL.RawQuery, status)
		})
		wantNoSecret(t, a, wantKind(t, push(t.Context(), a.client(t)), pushing.Unknown))
	}
}
