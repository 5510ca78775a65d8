package openapi

import (
	"bufio"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestProxy: the proxy of the environment is used, but for loopback, and its
// password stays in. The environment is read once per process, so each case has
// its own.
func TestProxy(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	asked := make(chan string, 1)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				asked <- r.Method + " " + r.Host
			}
			_ = conn.Close()
		}
	}()
	for name, test := range map[string]struct{ proxy, endpoint, says, asked string }{
		"a proxy":                      {proxy: "http://u:proxyPassword@" + l.Addr().String(), says: "EOF", asked: "CONNECT ons.cn-test.aliyuncs.com:443"},
		"loopback":                     {proxy: "http://u:proxyPassword@" + l.Addr().String(), endpoint: "http://127.0.0.1:1", says: "connection refused"},
		"what the SDK would fail over": {proxy: "http://u:proxyPassword@%zz", endpoint: "http://127.0.0.1:1", says: "connection refused"},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProxyChild$", "-test.v")
		cmd.Env = []string{"OPENAPI_TEST_CHILD=1", "ENDPOINT=" + test.endpoint, "HTTPS_PROXY=" + test.proxy, "HTTP_PROXY=" + test.proxy, "NO_PROXY=["}
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), test.says) {
			t.Errorf("%s: %v, %s", name, err, out)
		}
		noSecret(t, string(out))
		got := ""
		if len(asked) > 0 {
			got = <-asked
		}
		if got != test.asked {
			t.Errorf("%s: the proxy was asked %q, want %q", name, got, test.asked)
		}
	}
}

func TestProxyChild(t *testing.T) {
	if os.Getenv("OPENAPI_TEST_CHILD") == "" {
		t.Skip("is run by TestProxy")
	}
	_, err := client(t, Options{Region: "cn-test", Endpoint: os.Getenv("ENDPOINT")}).Trace(t.Context(), instanceID, "orders", stuck)
	t.Log(err)
}
