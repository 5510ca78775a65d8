package ons

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// documented is the error table of ons-openapi.md 2.2 and 2.3 and section 5 of
// the design, written down a second time.
var documented = map[pushing.Kind]string{
	pushing.NoClient: "BIZ_CONSUMER_NOT_ONLINE",
	pushing.Refused: `BIZ_NO_MESSAGE BIZ_FIELD_CHECK_INVALID BIZ_TOPIC_NOT_FOUND BIZ_SUBSCRIPTION_NOT_FOUND BIZ_PUBLISH_INFO_NOT_FOUND
		INSTANCE_NOT_FOUND BIZ_REGION_NOT_FOUND ONS_SERVICE_UNSUPPORTED AUTH_RESOURCE_OWNER_ERROR AUTH_PERMISSION_CHECK_ERROR
		AUTH_RESOURCE_EMPOWER_CHECK_ERROR AUTH_REQUEST_NOT_ALLOWED EMPOWER_OWNER_CHECK_ERROR AUTH_SERVICE_CHECK_ERROR
		BIZ_TOPIC_EXISTED BIZ_PUBLISHER_EXISTED BIZ_SUBSCRIPTION_EXISTED EMPOWER_EXIST_ERROR INSTANCE_NOT_EMPTY
		BIZ_PRODUCER_ID_BELONG_TO_OTHER_USER BIZ_CONSUMER_ID_BELONG_TO_OTHER_USER
		Forbidden.RAM Forbidden NoPermission Forbidden.RiskControl ActionUnauthorized MissingTopic MissingParameter InvalidMsgId
		InvalidParameter InvalidParameter.Format InvalidAction.NotFound InvalidApi.NotFound InvalidVersion InvalidProduct.NotFound
		UnsupportedHTTPMethod InvalidSignatureMethod InvalidProtocol.NeedSsl`,
	pushing.Credentials: `AUTH_LOGIN_CHECK_ERROR AUTH_SIGNATURE_CHECK_ERROR AUTH_CAL_SIGNATURE_ERROR SignatureDoesNotMatch
		IncompleteSignature InvalidAccessKeyId.NotFound InvalidAccessKeyId.Inactive InvalidAccessKeyId MissingSecurityToken
		InvalidSecurityToken.Expired InvalidSecurityToken.Malformed InvalidSecurityToken.MismatchWithAccessKey`,
	pushing.Throttled:   "ONS_SYSTEM_FLOW_CONTROL Throttling Throttling.User Throttling.Api",
	pushing.Unavailable: "ServiceUnavailable InvalidTimeStamp.Expired InvalidTimeStamp.Format IllegalTimestamp",
	pushing.Unknown:     "ONS_SYSTEM_ERROR ONS_INVOKE_ERROR InternalError InternalServerError SignatureNonceUsed",
}

// TestEveryCode: the kind follows from the code, whatever the status.
func TestEveryCode(t *testing.T) {
	t.Parallel()
	if len(documented) != 6 {
		t.Fatal("kinds are missing")
	}
	for kind, codes := range documented {
		for _, code := range strings.Fields(codes) {
			t.Run(code, func(t *testing.T) {
				t.Parallel()
				for _, status := range []int{400, 403, 404, 429, 500, 503} {
					a := newAPI(t, false, says(status, fmt.Sprintf(`{"RequestId":"R-7","HostId":"h","Code":%q,"Message":"because","Recommend":"https://x"}`, code)))
					c := a.client(t)
					e := wantKind(t, push(t.Context(), c), kind)
					if e.Code != code || e.RequestID != "R-7" || e.Op != "OnsMessagePush" || e.MaybeSent != (code == "ServiceUnavailable") {
						t.Errorf("status %d: %+v", status, e)
					}
					read := kind
					if kind == pushing.Unknown {
						read = pushing.Unavailable
					}
					if e := wantKind(t, online(t.Context(), c), read); e.Op != "OnsConsumerGetConnection" || e.MaybeSent {
						t.Errorf("status %d: %+v", status, e)
					}
				}
			})
		}
	}
}

// TestTable: every row is complete and reached by a documented code, and every
// documented code has its row.
func TestTable(t *testing.T) {
	t.Parallel()
	if len(table) == 0 {
		t.Fatal("no rows")
	}
	reached := map[*row]bool{}
	for _, codes := range documented {
		for _, code := range strings.Fields(codes) {
			if find(code) == nil {
				t.Errorf("%s has no row", code)
			}
			reached[find(code)] = true
		}
	}
	seen := map[string]bool{}
	for i, row := range table {
		for _, code := range strings.Fields(row.codes) {
			if seen[code] {
				t.Errorf("%s stands in two rows", code)
			}
			seen[code] = true
		}
		if row.codes == "" || row.source == "" || !sentence(row.hint) || row.kind == pushing.Internal || !reached[&table[i]] {
			t.Errorf("row %+v is incomplete or never reached", row)
		}
		if len(kindHints) == 0 || Hint(row.kind, strings.Trim(strings.Fields(row.codes)[0], "*")) != row.hint {
			t.Errorf("row %s does not give its hint", row.codes)
		}
	}
}

// sentence tells one sentence in the house's form.
func sentence(text string) bool {
	return len(text) > 10 && len(text) < 300 && strings.ToLower(text[:1]) == text[:1] && !strings.HasSuffix(text, ".") && !strings.Contains(text, ". ")
}

func TestHint(t *testing.T) {
	t.Parallel()
	for kind := pushing.Internal - 2; kind <= pushing.Credentials+2; kind++ {
		for _, code := range []string{"", "DeadlineTooShort", "Forbidden.RAM", "ONS_SYSTEM_ERROR"} {
			if hint := Hint(kind, code); !sentence(hint) {
				t.Errorf("Hint(%v, %q) = %q", kind, code, hint)
			}
		}
	}
	for _, c := range []struct {
		kind        pushing.Kind
		code, wants string
	}{
		{pushing.Refused, "Forbidden.RAM", "mq:SUB on the topic"},
		{pushing.Refused, "BIZ_NO_MESSAGE", "three days"},
		{pushing.NoClient, "ONS_SYSTEM_ERROR", "start a consumer"},
		{pushing.Unavailable, "ONS_SYSTEM_ERROR", "tried again"},
		{pushing.Refused, "MissingTopic", "parameter"},
		{pushing.Refused, "InvalidAction.NotFound", "REPUSH_ONS_ENDPOINT"},
	} {
		if hint := Hint(c.kind, c.code); !strings.Contains(hint, c.wants) {
			t.Errorf("Hint(%v, %q) = %q, want %q in it", c.kind, c.code, hint, c.wants)
		}
	}
}

func TestMissingPermissionIsNamed(t *testing.T) {
	t.Parallel()
	a := newAPI(t, false, says(403, `{"RequestId":"R","Code":"Forbidden.RAM","Message":"no","AccessDeniedDetail":{"AuthAction":"mq:SUB","PolicyType":"x"}}`))
	plain := Credentials{AccessKeyID: "LTAIplain", AccessKeySecret: "secret"} // without a token there is one thing less to hide
	a.secrets[plain.AccessKeyID] = plain
	for _, key := range []Credentials{own, plain} {
		if e := wantKind(t, push(WithCredentials(t.Context(), key), a.client(t)), pushing.Refused); e.Code != "Forbidden.RAM" || !strings.Contains(e.Error(), "mq:SUB") {
			t.Errorf("the missing action is not named: %v", e)
		}
	}
}

// TestRefusedSignatureIsNotQuoted: its text is the string to sign.
func TestRefusedSignatureIsNotQuoted(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"SignatureDoesNotMatch", "IncompleteSignature"} {
		a := newAPI(t, false, says(400, `{"RequestId":"R","Code":"`+code+`","Message":"server string to sign is:POST and more"}`))
		if e := wantKind(t, push(t.Context(), a.client(t)), pushing.Credentials); strings.Contains(e.Error(), "POST") {
			t.Errorf("the string to sign is shown: %v", e)
		}
	}
}
