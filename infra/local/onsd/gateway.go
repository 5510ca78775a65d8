package onsd

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	apiVersion = "2019-02-14"
	// maxSkew is how far a request's clock may be off, and how long a nonce
	// must not be used again (source: DOC "Signature mechanism", RPC).
	maxSkew = 15 * time.Minute
	// maxNonces bounds memory: when it is reached, all are forgotten.
	maxNonces = 1 << 16
	maxBody   = 1 << 20
)

// call is one request on its way through the server.
type call struct {
	id, host string // RequestId and HostId of the answer
	api      string // the operation, or "other"
	op       operation
	method   string
	params   map[string]string // decoded once
	garbled  string            // why the parameters cannot be read
	json     bool
	at       time.Time

	// Set by resolve, as far as the operation asks for them.
	in      *instance
	group   *group
	topic   string // of group's dead letters when the operation has no Topic
	message *message
	// shift is how far faults move the entries of the task.
	shift int
	// listener is how long the consumer takes; set by the operation.
	listener time.Duration
}

// readParams joins query and form. A name that is given twice is refused: two
// readers of the same request could disagree about it.
func (c *call) readParams(w http.ResponseWriter, r *http.Request) {
	c.params = map[string]string{}
	sources := []string{r.URL.RawQuery}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err == nil && mediaType == "application/x-www-form-urlencoded" {
		form, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			c.garbled = "the body cannot be read"
		}
		sources = append(sources, string(form))
	}
	for _, source := range sources {
		values, err := url.ParseQuery(source)
		if err != nil {
			c.garbled = "it is not form-encoded"
		}
		for name, list := range values {
			if _, twice := c.params[name]; twice || len(list) > 1 {
				c.garbled = "a parameter is given twice"
			}
			c.params[name] = list[0]
		}
	}
}

// admit decides whether the call may have its effect. The caller holds s.mu.
func (s *Server) admit(c *call) *refusal {
	p := c.params
	if c.garbled != "" {
		return refuse("InvalidParameter", "The request cannot be read: %s.", c.garbled)
	}
	for _, name := range []string{"Action", "Version", "AccessKeyId", "Signature", "SignatureMethod", "SignatureVersion", "SignatureNonce", "Timestamp"} {
		if p[name] == "" {
			return missing(name)
		}
	}
	key, known := s.keys[p["AccessKeyId"]]
	sent, err := time.Parse("2006-01-02T15:04:05Z", p["Timestamp"])
	toSign := stringToSign(c.method, p)
	switch {
	case c.method != http.MethodGet && c.method != http.MethodPost:
		return refuse("UnsupportedHTTPMethod", "This http method is not supported.")
	case p["Version"] != apiVersion:
		return refuse("InvalidVersion", "Specified parameter Version is not valid.")
	case c.op.run == nil:
		return refuse("InvalidAction.NotFound", "Specified api is not found, please check your url and method.")
	case !known:
		return refuse("InvalidAccessKeyId.NotFound", "Specified access key is not found.")
	case p["SignatureMethod"] != "HMAC-SHA1" || p["SignatureVersion"] != "1.0":
		return refuse("InvalidSignatureMethod", "Specified signature method is not supported: want HMAC-SHA1 1.0.")
	case p["SecurityToken"] == "" && key.SecurityToken != "":
		return missing("SecurityToken")
	case p["SecurityToken"] != "" && key.SecurityToken == "":
		return refuse("InvalidSecurityToken.MismatchWithAccessKey", "Specified SecurityToken mismatches with the AccessKey.")
	case p["SecurityToken"] != key.SecurityToken:
		return refuse("InvalidSecurityToken.Malformed", "Specified SecurityToken is malformed.")
	case err != nil:
		return refuse("InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted.")
	case c.at.Sub(sent).Abs() > maxSkew:
		return refuse("InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")
	case !hmac.Equal([]byte(p["Signature"]), []byte(sign(key.AccessKeySecret, toSign))):
		return refuse("SignatureDoesNotMatch", "Specified signature is not matched with our calculation. server string to sign is:%s", toSign)
	case !s.useNonce(p["AccessKeyId"]+"\n"+p["SignatureNonce"], c.at):
		return refuse("SignatureNonceUsed", "Specified signature nonce was used already.")
	case !s.windows[c.api].take(c.at):
		throttled := refuse("Throttling.User", "Request was denied due to user flow control.")
		throttled.status = max(s.data.ThrottleStatus, http.StatusBadRequest)
		return throttled
	case slices.Contains(key.Denied, c.api):
		denied := refuse("Forbidden.RAM", "User not authorized to operate on the specified resource, or this API doesn't support RAM.")
		denied.detail = object{{"AuthAction", c.op.permission}, {"NoPermissionType", "ImplicitDeny"}}
		return denied
	}
	return s.resolve(c)
}

func missing(name string) *refusal {
	return refuse("Missing"+name, "%s is mandatory for this action.", name)
}

// useNonce reports whether the nonce is new. Only genuine requests get here and
// use nonces up.
func (s *Server) useNonce(nonce string, now time.Time) bool {
	if at, used := s.nonces[nonce]; used && now.Sub(at) <= maxSkew {
		return false
	}
	if len(s.nonces) == maxNonces {
		clear(s.nonces)
	}
	s.nonces[nonce] = now
	return true
}

// stringToSign of RPC signature 1.0 (source: DOC "Signature mechanism", RPC):
// all parameters but Signature, those without a value included.
func stringToSign(method string, params map[string]string) string {
	var pairs []string
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if name != "Signature" {
			pairs = append(pairs, percent(name)+"="+percent(params[name]))
		}
	}
	return method + "&%2F&" + percent(strings.Join(pairs, "&"))
}

func sign(secret, toSign string) string {
	mac := hmac.New(sha1.New, []byte(secret+"&"))
	io.WriteString(mac, toSign)
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// percent keeps letters, digits and "-_.~". [url.QueryEscape] does the same but
// for the space.
func percent(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
