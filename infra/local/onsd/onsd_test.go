package onsd

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ons"
)

const (
	testInstance = "MQ_INST_1000_demo"
	testGroup    = "GID_demo"
	testTopic    = "orders"
	testClient   = "192.0.2.7@4242#11#-22#33"
	goodID       = "C0000207109200000000000000000001"
	pendingID    = "C0000207109200000000000000000002"
	expiredID    = "C0000207109200000000000000000003"
	secret       = "demo-sk-never-shown"
)

// testData has everything once and no quotas.
const testData = `
region: cn-hangzhou
credentials:
  - {accessKeyId: demo-ak, accessKeySecret: demo-sk-never-shown}
  - {accessKeyId: sts-ak, accessKeySecret: demo-sk-never-shown, securityToken: sts-token}
  - {accessKeyId: poor-ak, accessKeySecret: demo-sk-never-shown, denied: [OnsMessagePush]}
quotas: {"*": {kind: none}}
instances:
  - instanceId: MQ_INST_1000_demo
    topics: [orders, empty]
    messages:
      - {topic: orders, msgIds: [C0000207109200000000000000000001], storedAt: 2h, keys: k1, tags: paid, properties: {shop: "<7&8>"}, body: hello}
      - {topic: orders, msgIds: [C0000207109200000000000000000002], storedAt: 1h, pendingFor: [GID_demo], offsetId: C000020100002A9F0000000000000042}
      - {topic: orders, msgIds: [C0000207109200000000000000000003], storedAt: 73h}
    groups:
      - groupId: GID_demo
        subscribes: [orders]
        clients:
          - {clientId: "192.0.2.7@4242#11#-22#33"}
          - {clientId: slow, behaviour: slow, delay: 4s}
          - {clientId: stuck, behaviour: slow, delay: 12s}
          - {clientId: failing, behaviour: failing}
          - {clientId: gone, online: false}
          - {clientId: leaves, offlineAfterPushes: 2}
          - {clientId: window, offlineAfter: 10s, onlineAfter: 30s}
          - {clientId: late, online: false, onlineAfter: 10s, offlineAfter: 30s}
        deadLetters:
          - {topic: orders, msgIds: [C0000207109200000000000000000001], storedAt: 1h, copies: 2}
          - {topic: orders, msgIds: [C0000207109200000000000000000003], storedAt: 71h}
      - {groupId: GID_off, model: BROADCASTING, clients: [{clientId: nobody, online: false}]}
`

func newServer(t testing.TB, change func(*Data)) *Server {
	t.Helper()
	d, err := Load([]byte(testData))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(d)
	}
	s, err := New(d, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func listen(t testing.TB, s *Server, secure bool) *Endpoint {
	t.Helper()
	e, err := s.Listen("127.0.0.1:0", secure)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// sdkClient is the vendor's own client. The caller sets Domain on requests, so
// it needs no endpoints: NewClientWithOptions fills them in without a lock.
func sdkClient(t testing.TB) *ons.Client {
	t.Helper()
	c := new(ons.Client)
	if err := c.InitWithOptions("cn-hangzhou", sdk.NewConfig().WithScheme("HTTP"), credentials.NewAccessKeyCredential("demo-ak", secret)); err != nil {
		t.Fatal(err)
	}
	return c
}

var nonces atomic.Int64

// signed makes the parameters of a request of the reference key, signed. An
// override of "-" removes a parameter.
func signed(method string, at time.Time, overrides map[string]string) url.Values {
	params := map[string]string{
		"Action": "OnsMessagePush", "Version": apiVersion, "Format": "JSON", "AccessKeyId": "demo-ak",
		"SignatureMethod": "HMAC-SHA1", "SignatureVersion": "1.0", "SignatureNonce": fmt.Sprint("nonce-", nonces.Add(1)),
		"Timestamp": at.UTC().Format("2006-01-02T15:04:05Z"), "RegionId": "cn-hangzhou", "SignatureType": "",
		"InstanceId": testInstance, "GroupId": testGroup, "Topic": testTopic, "MsgId": goodID, "ClientId": testClient,
	}
	for name, value := range overrides {
		params[name] = value
		if value == "-" {
			delete(params, name)
		}
	}
	if _, set := overrides["Signature"]; !set {
		params["Signature"] = sign(secret, stringToSign(method, params))
	}
	values := url.Values{}
	for name, value := range params {
		values.Set(name, value)
	}
	return values
}

// reply is an answer; the fields are those of an error.
type reply struct {
	*httptest.ResponseRecorder
	body struct {
		RequestID          string `json:"RequestId" xml:"RequestId"`
		HostID             string `json:"HostId" xml:"HostId"`
		Code, Message      string
		Recommend          string
		AccessDeniedDetail struct{ AuthAction string }
	}
}

// do sends one signed request without a network.
func do(t testing.TB, s *Server, overrides map[string]string) reply {
	t.Helper()
	return serve(t, s, httptest.NewRequest("POST", "/?"+signed("POST", s.now(), overrides).Encode(), nil))
}

func serve(t testing.TB, s *Server, r *http.Request) reply {
	t.Helper()
	got := reply{ResponseRecorder: httptest.NewRecorder()}
	s.ServeHTTP(got, r)
	var err error
	switch got.Header().Get("Content-Type") {
	case jsonType:
		err = json.Unmarshal(got.Body.Bytes(), &got.body)
	case xmlType:
		err = xml.Unmarshal(got.Body.Bytes(), &got.body)
	}
	if err != nil {
		t.Fatalf("answer %q: %v", got.Body, err)
	}
	return got
}

func readDemo(t testing.TB) []byte {
	t.Helper()
	raw, err := os.ReadFile("../demo.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
