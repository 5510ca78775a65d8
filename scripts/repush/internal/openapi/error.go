package openapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// Codes that answer a question rather than refuse it (source: help page 44425).
const (
	NoMessage = "BIZ_NO_MESSAGE"
	NotOnline = "BIZ_CONSUMER_NOT_ONLINE"
)

// Error is an answer of the API that is an error, or that none came. No text in
// it has a URL, key, token or signature.
type Error struct {
	Op, Permission string // the operation, and the RAM action it takes
	// Status is that of HTTP, also 200; 0 when no answer came, and then Unwrap
	// gives the transport's cause.
	Status                   int
	Code, Message, RequestID string // the code is empty when the answer cannot be read
	cause                    error
}

// Error implements error.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %s: %s", e.Op, e.Code, e.Message)
	if e.RequestID != "" {
		text += ", request id " + e.RequestID
	}
	return strings.Replace(text, ": : ", ": ", 1)
}

// Unwrap returns what kept the answer from coming; nil when it came.
func (e *Error) Unwrap() error { return e.cause }

// Kind is what an error is about.
type Kind string

// Kinds of errors.
const (
	Absent      Kind = "absent"      // no such message, or nobody online
	Names       Kind = "names"       // of instance, topic, group or region are wrong
	Denied      Kind = "denied"      // RAM does not allow it
	Credentials Kind = "credentials" // are wrong or ran out
	Clock       Kind = "clock"       // of this machine is wrong
	Throttled   Kind = "throttled"   // the quota is used up
	Network     Kind = "network"     // no answer came
	Other       Kind = "other"
)

// rows say what codes are about, and what to do next. A trailing * stands for any
// ending. Sources: help pages 44425 (error codes of ApsaraMQ for RocketMQ), 434846
// and 48054 (of the gateway), 42775 (of STS), 437697 (AUTH_*). The first row counts.
var rows = []struct {
	codes string
	kind  Kind
	next  string
}{
	{NoMessage, Absent, "check the message id and the topic; messages exist for three days"},
	{NotOnline, Absent, "start a consumer of the group"},
	{"BIZ_TOPIC_NOT_FOUND", Names, "check the topic, and that it belongs to this instance"},
	{"BIZ_SUBSCRIPTION_NOT_FOUND BIZ_PUBLISH_INFO_NOT_FOUND", Names, "check the group, and that it belongs to this instance"},
	{"INSTANCE_NOT_FOUND BIZ_REGION_NOT_FOUND ONS_SERVICE_UNSUPPORTED InvalidRegionId*", Names, "check the instance id, and that the region is that of the instance"},
	{"AUTH_RESOURCE_OWNER_ERROR BIZ_PRODUCER_ID_BELONG_TO_OTHER_USER BIZ_CONSUMER_ID_BELONG_TO_OTHER_USER", Names, "check that instance, topic and group exist and belong to this account"},
	{"InvalidAction.NotFound InvalidApi.NotFound InvalidVersion InvalidProduct.NotFound InvalidProtocol*", Names, "check the region and the endpoint: no ONS OpenAPI answers there"},
	{"Forbidden.RiskControl ActionUnauthorized", Denied, "ask the owner of the account: risk control or its contract forbids the operation"},
	{"Forbidden* NoPermission AUTH_PERMISSION_CHECK_ERROR AUTH_RESOURCE_EMPOWER_CHECK_ERROR AUTH_REQUEST_NOT_ALLOWED EMPOWER_OWNER_CHECK_ERROR",
		Denied, "allow %s in RAM, for this instance, topic and group (infra/ram/operator.json)"},
	{"InvalidAccessKeyId* SignatureDoesNotMatch IncompleteSignature MissingSecurityToken InvalidSecurityToken* AUTH_LOGIN_CHECK_ERROR AUTH_SIGNATURE_CHECK_ERROR AUTH_CAL_SIGNATURE_ERROR",
		Credentials, "check the access key and its secret; a key of STS needs its token, and ends with its session"},
	{"AUTH_SERVICE_CHECK_ERROR", Credentials, "activate ApsaraMQ for RocketMQ on the account of these credentials"},
	{"InvalidTimeStamp* IllegalTimestamp", Clock, "set the clock of this machine: 15 minutes off is too much"},
	{"Throttling* ONS_SYSTEM_FLOW_CONTROL", Throttled, "ask again in a few seconds: everybody of the account shares the quota"},
	{"BIZ_FIELD_CHECK_INVALID Missing* Invalid*", Other, "compare instance, topic, group and message id with the console"},
}

// Explain tells by the code, never by the status, what the error is about, and in
// one sentence what to do next.
func (e *Error) Explain() (kind Kind, next string) {
	for _, row := range rows {
		if slices.ContainsFunc(strings.Fields(row.codes), func(code string) bool {
			prefix, isPrefix := strings.CutSuffix(code, "*")
			return e.Code == code || isPrefix && strings.HasPrefix(e.Code, prefix)
		}) {
			return row.kind, strings.Replace(row.next, "%s", e.Permission, 1)
		}
	}
	if e.Status == 0 {
		return Network, "check the network, the proxy, and the region: it is part of the host's name"
	}
	return Other, "ask again; if it stays so, open a ticket with the request id"
}

// judge reads an answer. The message stays empty for a success, which is a 200
// with a JSON object that has a RequestId and no Code.
func (e *Error) judge(status int, body []byte) {
	var answer struct {
		RequestID          any `json:"RequestId"`
		Code, Message      any
		AccessDeniedDetail json.RawMessage
	}
	err := json.Unmarshal(body, &answer)
	text := func(v any) string { return strings.TrimPrefix(fmt.Sprint(v), "<nil>") }
	e.Status, e.Code, e.RequestID, e.Message = status, text(answer.Code), text(answer.RequestID), ""
	var denied struct{ AuthAction string }
	_ = json.Unmarshal(answer.AccessDeniedDetail, &denied) // most codes have none
	e.Permission = cmp.Or(denied.AuthAction, e.Permission)
	switch {
	case status/100 == 3:
		e.Message = "a redirect, which is not followed"
	case len(body) > maxAnswer:
		e.Message = "the answer is larger than 1 MB"
	case err != nil:
		e.Message = fmt.Sprintf("the answer of status %d is not JSON", status)
	case e.Code != "":
		e.Message = cmp.Or(text(answer.Message), "no reason given")
	case status != http.StatusOK || e.RequestID == "":
		e.Message = fmt.Sprintf("the answer of status %d is neither success nor error", status)
	}
}

// redact takes out what must not be shown. A message that speaks of signatures, and
// a name with a sign of URLs or base64 in it, quotes what was signed.
func (e *Error) redact(secrets []string) {
	words, signs := []string{"Signature", "AccessKeyId", "SecurityToken", "signature", "string to sign", "://"}, strings.Split("=%&/?+", "")
	for text, quotes := range map[*string][]string{&e.Message: words, &e.Code: signs, &e.RequestID: signs, &e.Permission: signs} {
		if slices.ContainsFunc(quotes, func(q string) bool { return strings.Contains(*text, q) }) {
			*text = "(a text that may quote what was signed)"
		}
		*text = strings.NewReplacer(secrets...).Replace(*text)
		*text = strings.Join(strings.FieldsFunc(*text, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }), " ")
		*text = strings.ToValidUTF8((*text)[:min(len(*text), 300)], "")
	}
}

// secrets pairs each text, as it is and as it stands in a URL, with what is shown
// instead.
func secrets(texts ...string) (pairs []string) {
	for _, text := range texts {
		if text != "" {
			pairs = append(pairs, text, "[redacted]", url.QueryEscape(text), "[redacted]")
		}
	}
	return pairs
}

// redacted is a success without secrets, however its JSON escapes them.
func redacted(body []byte, secrets []string) []byte {
	var answer any
	from := json.NewDecoder(bytes.NewReader(body))
	from.UseNumber()
	_ = from.Decode(&answer) // judge has read it
	var plain bytes.Buffer
	to := json.NewEncoder(&plain)
	to.SetEscapeHTML(false)
	_ = to.Encode(answer)
	return []byte(strings.NewReplacer(secrets...).Replace(plain.String()))
}
