package onsd

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
)

const (
	jsonType = "application/json;charset=utf-8"
	xmlType  = "text/xml;charset=utf-8"
)

// object is a JSON object or an XML element with its members in order. A value
// is a scalar, an object, []object or []string.
type object []member

type member struct {
	name  string
	value any
}

// writeJSON writes a value with its members in order. It is no MarshalJSON: the
// encoder reads what that returns again at every level.
func writeJSON(out *bytes.Buffer, value any) {
	comma := func(i int) {
		if i > 0 {
			out.WriteByte(',')
		}
	}
	switch v := value.(type) {
	case object:
		out.WriteByte('{')
		for i, m := range v {
			comma(i)
			fmt.Fprintf(out, "%q:", m.name)
			writeJSON(out, m.value)
		}
		out.WriteByte('}')
	case []object:
		out.WriteByte('[')
		for i, o := range v {
			comma(i)
			writeJSON(out, o)
		}
		out.WriteByte(']')
	default:
		encoder := json.NewEncoder(out)
		encoder.SetEscapeHTML(false)
		encoder.Encode(v) // scalars and lists of strings always encode
		out.Truncate(out.Len() - len("\n"))
	}
}

// MarshalXML writes the members as elements; a list repeats its element.
func (o object) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	for _, m := range o {
		if err := e.EncodeElement(m.value, element(m.name)); err != nil {
			return err
		}
	}
	return e.EncodeToken(start.End())
}

func element(name string) xml.StartElement { return xml.StartElement{Name: xml.Name{Local: name}} }

// answer is what a caller gets.
type answer struct {
	status int
	root   string // of the XML document
	body   object
	code   string // why the call had no effect; empty: it had
	fault  *Fault // how the answer is spoilt, if it is
}

func (a answer) encode(asJSON bool) []byte {
	var out bytes.Buffer
	if asJSON {
		writeJSON(&out, a.body)
		out.WriteByte('\n')
	} else {
		out.WriteString(xml.Header)
		xml.NewEncoder(&out).EncodeElement(a.body, element(a.root))
	}
	return out.Bytes()
}

func (a answer) send(w http.ResponseWriter, asJSON bool) {
	send(w, a.status, map[bool]string{true: jsonType, false: xmlType}[asJSON], a.encode(asJSON))
}

func send(w http.ResponseWriter, status int, contentType string, body []byte) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	w.Write(body) // the client may be gone: nobody to tell
}

// refusal is an error of the gateway or of an operation; nil means none.
type refusal struct {
	status        int
	code, message string
	detail        object // AccessDeniedDetail; nil for other codes
}

// refuse makes a refusal. The HTTP status is 400 but for the gateway codes that
// are documented with another (source: ons-openapi.md 2.3).
func refuse(code, message string, args ...any) *refusal {
	status := http.StatusBadRequest
	switch code {
	case "InvalidAccessKeyId.NotFound", "InvalidAction.NotFound", "InvalidVersion":
		status = http.StatusNotFound
	case "Forbidden.RAM":
		status = http.StatusForbidden
	}
	return &refusal{status: status, code: code, message: fmt.Sprintf(message, args...)}
}

func (r *refusal) answer(c *call) answer {
	body := errorBody(c, r.code, r.message)
	if r.detail != nil {
		body = append(body, member{"AccessDeniedDetail", r.detail})
	}
	return answer{status: r.status, root: "Error", body: body, code: r.code}
}

// errorBody is the flat body of every error.
func errorBody(c *call, code any, message string) object {
	return object{
		{"RequestId", c.id}, {"HostId", c.host}, {"Code", code}, {"Message", message},
		{"Recommend", fmt.Sprintf("https://next.api.aliyun.com/troubleshoot?q=%v&product=Ons", code)},
	}
}
