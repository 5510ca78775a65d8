package ons

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

const maxTextRunes = 300

// accepted is the kind of an answer that is no error.
const accepted pushing.Kind = -1

// answer is what the API said and what it means for a push.
type answer struct {
	kind      pushing.Kind
	requestID string
	code      string
	text      string
	denied    bool // there is a Success, and it is not true
}

// classify judges an answer. Accepted is only what is documented: 200 with a
// JSON object that has a RequestId and no Code, and does not deny its Success. An error is judged by its code,
// never by its status alone, and Unknown is everything else. Sources: help page
// "Return results" for the shape, apache/rocketmq AdminBrokerProcessor for "not
// online".
func classify(status int, body []byte) answer {
	a := answer{kind: pushing.Unknown}
	if status/100 == 3 {
		a.text = "a redirect, which is never followed"
		return a
	}
	message, readable := a.read(body)
	switch row := find(a.code); {
	case !readable:
		a.text = "an answer of status " + strconv.Itoa(status) + " that is not what is documented"
	case a.code == "" && status == http.StatusOK && a.requestID != "" && !a.denied:
		return answer{kind: accepted, requestID: a.requestID}
	case a.code == "":
		a.text = "an answer of status " + strconv.Itoa(status) + " that is neither success nor error"
	case row != nil && status != http.StatusOK:
		a.kind = row.kind
	}
	if a.code == notOnline || strings.Contains(strings.ToLower(message), "not online") {
		a.kind = pushing.NoClient
	}
	return a
}

// read takes an answer apart and returns its message, which for one that cannot
// be read is all of it. A code counts in any spelling, and only one.
func (a *answer) read(body []byte) (message string, ok bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil || fields == nil {
		return string(body), false
	}
	var codes []json.RawMessage
	for name, raw := range fields {
		if strings.EqualFold(name, "Code") {
			codes = append(codes, raw)
		}
		a.denied = a.denied || strings.EqualFold(name, "Success") && strings.Trim(string(raw), `"`) != "true"
	}
	if codes != nil {
		if a.code, ok = token(codes[0]); !ok || len(codes) > 1 {
			a.code = ""
			return string(body), false
		}
	}
	a.requestID, _ = token(fields["RequestId"])
	_ = json.Unmarshal(fields["Message"], &message) // of another type it is no message
	a.text = explain(a.code, message, fields["AccessDeniedDetail"])
	return message, true
}

const alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// token reads a code or an id. null is "", and so is one that is not ok.
func token(raw json.RawMessage) (text string, ok bool) {
	if json.Unmarshal(raw, &text) != nil || len(text) > 128 || strings.Trim(text, alphanumeric+"._:-") != "" {
		return "", false
	}
	return text, true
}

// explain returns the API's own text and the permission that is missing. A
// refused signature comes with the string to sign, so its text is not shown.
func explain(code, message string, denied json.RawMessage) string {
	if strings.HasPrefix(code, "SignatureDoesNotMatch") || strings.HasPrefix(code, "IncompleteSignature") {
		return "the signature was refused"
	}
	var detail struct{ AuthAction string }
	if json.Unmarshal(denied, &detail) == nil && detail.AuthAction != "" {
		message += " (missing permission: " + detail.AuthAction + ")"
	}
	return cmp.Or(message, "the API gave no reason")
}

// leaky finds what may be a URL, a signed parameter, or a proxy with its
// password. It is compiled when it is needed first, which most processes never
// do: that is a tenth of the cold start.
var leaky = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\S*(?:://|%3A%2F%2F|(?:AccessKeyId|SecurityToken|Signature\w*)(?:=|%))\S*|invalid proxy address.*`)
})

// escaped is what stands between two letters or digits in whatever way: as itself,
// or as URLs (which a string to sign escapes twice), JSON or HTML write it.
const escaped = `[^A-Za-z0-9](?:[^A-Za-z0-9]|u?[0-9A-Fa-f]{2,4})*`

// redact makes text fit to be shown: one line, bounded, with nothing of the
// credentials, the signature or a URL in it.
func (x *exchange) redact(text string) string {
	query, _ := url.ParseQuery(x.query)
	for _, secret := range []string{x.signer.AccessKeyID, x.signer.AccessKeySecret, x.signer.SecurityToken, query.Get("Signature"), query.Get("SignatureNonce")} {
		runs := strings.FieldsFunc(secret, func(c rune) bool { return !strings.ContainsRune(alphanumeric, c) })
		if len(runs) > 0 {
			text = regexp.MustCompile(strings.Join(runs, escaped)).ReplaceAllLiteralString(text, "[redacted]")
		}
	}
	text = leaky().ReplaceAllLiteralString(text, "[redacted]")
	hidden := func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' || r == unicode.ReplacementChar }
	text = strings.Join(strings.FieldsFunc(text, hidden), " ")
	if runes := []rune(text); len(runes) > maxTextRunes {
		return string(runes[:maxTextRunes-1]) + "…"
	}
	return text
}
