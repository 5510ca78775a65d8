package trigger

import (
	"encoding/base64"
	"strings"
)

// httpRequests lists requests that a platform turned into an event. It lets
// anybody through. The v1 event of an HTTP trigger has the members
// version, rawPath, headers, body, isBase64Encoded and requestContext (source:
// FC "HTTP trigger event", fc-runtime-go-sdk events/http.go); AWS function URLs
// and API Gateway share what is read here but the name of the query. The data of an
// EventBridge HTTPEvent has headers, path, body, httpMethod and queryString, and
// the body is an object when it was sent as JSON (source: EventBridge 413974).
var httpRequests = []envelope{
	{members: []string{"headers", "requestContext"}, open: openHTTP, httpTrigger: true},
	{eventType: "eventbridge:Events:HTTPEvent", members: []string{"headers", "httpMethod"}, open: openHTTP},
}

func openHTTP(o object, from origin) []parcel {
	p := content(o, "body", from.inside())
	headers := o.object("headers")
	p.outsider, p.authorization = true, header(headers, "Authorization")
	p.alertTokens = []string{header(headers, "X-Repush-Token")}
	for _, query := range []string{"queryParameters", "queryStringParameters", "queryString"} {
		p.alertTokens = append(p.alertTokens, o.object(query).text("token"))
	}
	if p.err == nil && string(o.get("isBase64Encoded")) == "true" {
		decoded, err := base64.StdEncoding.DecodeString(string(p.body))
		if err != nil {
			p.err = refused(CodeUnreadable, "isBase64Encoded is set and the body is not base64")
		}
		p.body = decoded
	}
	if header(headers, "Ce-Id") != "" && !strings.HasPrefix(header(headers, "Content-Type"), "application/cloudevents") {
		p.err = refused(CodeUnreadable, "CloudEvents in binary mode are read over plain HTTP only: send application/cloudevents+json")
	}
	return []parcel{p}
}

// header finds a header whatever the case of its name. Given in two spellings it
// counts as missing; given twice it comes joined by a comma, which is no token.
func header(headers object, name string) string {
	value, found := "", false
	for _, h := range headers {
		if strings.EqualFold(h.Name, name) {
			if found {
				return ""
			}
			value, found = headers.text(h.Name), true
		}
	}
	return value
}
