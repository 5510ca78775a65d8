package ons

import (
	"cmp"
	"strings"

	"github.com/ons-repush/ons-repush/functions/internal/pushing"
)

// Codes that need more than a kind: nobody, or not the named client, is there; and a
// gateway that was unavailable, probably before it passed the call on.
const (
	notOnline          = "BIZ_CONSUMER_NOT_ONLINE"
	serviceUnavailable = "ServiceUnavailable"
)

// row says what some codes mean for a push. The codes are separated by spaces;
// a trailing * stands for any ending, and of several matches the longest counts.
type row struct {
	codes  string
	kind   pushing.Kind
	source string
	hint   string // what the operator does next, in one sentence
}

// Sources of the table.
const (
	fromErrorPage   = "help page 44425, ApsaraMQ for RocketMQ error codes"
	fromGatewayPage = "help pages 434846 and 48054, public gateway error codes"
	fromSTSPage     = "help page 42775, STS errors"
	fromKafkaPage   = "help page 437697, Kafka error codes of the same control plane"
	fromTerraform   = "terraform-provider-alicloud, the codes it retries"
)

// table holds every documented code. A code that is not in it is Unknown for a
// push.
var table = []row{
	{notOnline, pushing.NoClient, fromErrorPage,
		"start a consumer of the group; the push is tried again when one is online"},
	{pushing.CodeNoMessage, pushing.Refused, fromErrorPage,
		"check the message id and the topic; the message may also be older than the three days that messages are kept"},
	{"BIZ_FIELD_CHECK_INVALID", pushing.Refused, fromErrorPage,
		"compare the instance, topic, group, message id and client id of the request with the console"},
	{"BIZ_TOPIC_NOT_FOUND", pushing.Refused, fromErrorPage,
		"check the name of the topic, and that it belongs to this instance"},
	{"BIZ_SUBSCRIPTION_NOT_FOUND BIZ_PUBLISH_INFO_NOT_FOUND", pushing.Refused, fromErrorPage,
		"check the name of the group, and that it belongs to this instance"},
	{"INSTANCE_NOT_FOUND", pushing.Refused, fromErrorPage,
		"check the instance id, and that REPUSH_REGION is the region of the instance"},
	{"BIZ_REGION_NOT_FOUND ONS_SERVICE_UNSUPPORTED", pushing.Refused, fromErrorPage,
		"check REPUSH_REGION and REPUSH_ONS_ENDPOINT; this region does not offer the operation"},
	{"AUTH_RESOURCE_OWNER_ERROR", pushing.Refused, fromKafkaPage,
		"check that the instance, topic and group exist and belong to the account of the function's role"},
	{"AUTH_PERMISSION_CHECK_ERROR AUTH_RESOURCE_EMPOWER_CHECK_ERROR AUTH_REQUEST_NOT_ALLOWED EMPOWER_OWNER_CHECK_ERROR", pushing.Refused, fromErrorPage, grantHint},
	{"AUTH_SERVICE_CHECK_ERROR", pushing.Refused, fromErrorPage,
		"activate ApsaraMQ for RocketMQ on the account of the function's role"},
	{"AUTH_LOGIN_CHECK_ERROR AUTH_SIGNATURE_CHECK_ERROR AUTH_CAL_SIGNATURE_ERROR", pushing.Credentials, fromErrorPage, credentialsHint},
	{"BIZ_TOPIC_EXISTED BIZ_PUBLISHER_EXISTED BIZ_SUBSCRIPTION_EXISTED EMPOWER_EXIST_ERROR INSTANCE_NOT_EMPTY", pushing.Refused, fromErrorPage,
		"report this code with the request id; a push creates and deletes nothing"},
	{"BIZ_PRODUCER_ID_BELONG_TO_OTHER_USER BIZ_CONSUMER_ID_BELONG_TO_OTHER_USER", pushing.Refused, fromErrorPage,
		"check the name of the group; it belongs to another account"},
	{"ONS_SYSTEM_FLOW_CONTROL", pushing.Throttled, fromTerraform, throttledHint},
	{"ONS_SYSTEM_ERROR ONS_INVOKE_ERROR", pushing.Unknown, fromErrorPage, unknownHint},

	{"Throttling*", pushing.Throttled, fromGatewayPage, throttledHint},
	{serviceUnavailable, pushing.Unavailable, fromGatewayPage,
		"nothing to do: it is tried again, and the push that follows may be the second one"},
	{"InternalError InternalServerError", pushing.Unknown, fromGatewayPage, unknownHint},
	{"SignatureNonceUsed", pushing.Unknown, fromGatewayPage,
		"look in the consumer's log: something on the way sent the same request twice, and the first may have arrived"},
	{"SignatureDoesNotMatch IncompleteSignature", pushing.Credentials, fromGatewayPage,
		"check the access key secret; a wrong one, or one of another access key id, signs wrongly"},
	{"InvalidAccessKeyId*", pushing.Credentials, fromGatewayPage,
		"check that the access key exists and is active, and that a temporary one comes with its token"},
	{"MissingSecurityToken InvalidSecurityToken*", pushing.Credentials, fromSTSPage, credentialsHint},
	{"InvalidTimeStamp* IllegalTimestamp", pushing.Unavailable, fromGatewayPage,
		"check the clock of the machine if it stays: the API allows 15 minutes of difference"},
	{"Forbidden* NoPermission", pushing.Refused, fromGatewayPage, grantHint},
	{"Forbidden.RiskControl ActionUnauthorized", pushing.Refused, fromGatewayPage,
		"ask the owner of the account: risk control or its contract forbids the operation"},
	{"InvalidAction* InvalidApi* InvalidVersion* InvalidProduct*", pushing.Refused, fromGatewayPage,
		"check REPUSH_ONS_ENDPOINT and REPUSH_REGION; this address does not offer the ONS OpenAPI of 2019-02-14"},
	{"InvalidProtocol.NeedSsl UnsupportedHTTPMethod InvalidSignatureMethod*", pushing.Refused, fromGatewayPage,
		"check REPUSH_ONS_ENDPOINT; the address wants another protocol, which suggests that something stands in between"},
	{"Missing* Invalid*", pushing.Refused, fromGatewayPage,
		"correct the parameter that the code names; a namespaced instance needs its instance id"},
}

const (
	grantHint       = "grant the function's role mq:SUB on the topic, mq:QueryConsumerConnection on the group, and mq:QueryInstanceBaseInfo with mq:OnsInstanceBaseInfo on the instance; to plan, mq:QueryMessage and mq:QueryMessageTrace on the topic, mq:QueryDLQMessage and mq:QueryConsumerAccumulate on the group"
	credentialsHint = "check the function's service role; the next invocation brings new credentials, and those of the environment do not renew themselves"
	throttledHint   = "nothing to do: it is tried again; lower REPUSH_QPS if others share the account's quota of ten calls a second"
	unknownHint     = "look in the consumer's log whether the message arrived before asking again with the next generation"
)

// kindHints serve where no row does.
var kindHints = map[pushing.Kind]string{
	pushing.Internal:    "report this error with the log line; it is a fault of ons-repush",
	pushing.Invalid:     "correct the request",
	pushing.Refused:     "correct what the code names and ask again with a new event",
	pushing.NoClient:    table[0].hint,
	pushing.Throttled:   throttledHint,
	pushing.Unavailable: "nothing to do: it is tried again; if it stays, check that the function can reach the endpoint over its network",
	pushing.Unknown:     unknownHint,
	pushing.Credentials: credentialsHint,
}

// Hint returns one sentence that tells the operator what to do next about an
// error of this kind and code. The code may be empty or none of the API's; the
// result is never empty. It is what pushing.Service takes as its Hint.
func Hint(kind pushing.Kind, code string) string {
	if row := find(code); row != nil && row.kind == kind {
		return row.hint
	}
	return cmp.Or(kindHints[kind], kindHints[pushing.Internal])
}

// denied reports whether a code means that we lack a permission, whatever the
// message: the rows that say which to grant.
func denied(code string) bool {
	row := find(code)
	return row != nil && row.hint == grantHint
}

// find returns the row of a code, or nil.
func find(code string) (found *row) {
	longest := -1
	for i := range table {
		for pattern := range strings.FieldsSeq(table[i].codes) {
			prefix, open := strings.CutSuffix(pattern, "*")
			if matches := pattern == code || open && strings.HasPrefix(code, prefix); matches && len(prefix) > longest {
				found, longest = &table[i], len(prefix)
			}
		}
	}
	return found
}
