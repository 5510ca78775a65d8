package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ons-repush/ons-repush/events"
)

// outsiderBody bounds a batch over plain HTTP: a thousand requests of the usual
// kind are below 1 MB, a thousand of the largest would be 256 MB.
const outsiderBody = 8 << 20

// readEvent reads the body of an outsider's request. Structured and batched
// CloudEvents and bare JSON are left as they are; a binary one becomes a
// structured one (source: CloudEvents HTTP binding 1.0.2, section 3).
//
// A form is left as it is where forms are wanted.
func readEvent(w http.ResponseWriter, r *http.Request, forms bool) ([]byte, *failure) {
	contentType := r.Header.Get("Content-Type")
	mediaType, params, err := mime.ParseMediaType(contentType)
	charset := params["charset"]
	var binary bool
	for name := range r.Header {
		binary = binary || strings.HasPrefix(name, "Ce-")
	}
	isJSON := mediaType == "application/json" || strings.HasSuffix(mediaType, "+json")
	switch {
	case r.Header.Get("Content-Encoding") != "", charset != "" && !strings.EqualFold(charset, "utf-8"):
	case mediaType == "application/cloudevents+json", forms && mediaType == "application/x-www-form-urlencoded" && !binary:
		return readBody(w, r, events.MaxEventBytes)
	case mediaType == "application/cloudevents-batch+json", mediaType == "application/json" && !binary:
		return readBody(w, r, outsiderBody)
	case binary && (contentType == "" || err == nil && isJSON && !strings.HasPrefix(mediaType, "application/cloudevents")):
		data, failed := readBody(w, r, events.MaxEventBytes)
		if failed != nil {
			return nil, failed
		}
		event, err := structured(r.Header, data)
		if err != nil {
			return nil, &failure{http.StatusBadRequest, err.Error(), "NotAnEvent"}
		}
		return event, nil
	}
	return nil, &failure{http.StatusUnsupportedMediaType, "send application/cloudevents+json, application/cloudevents-batch+json, " +
		"or application/json with or without ce- headers, in UTF-8", "UnsupportedMediaType"}
}

// readBody reads a whole body of at most limit bytes.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, *failure) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		return nil, &failure{http.StatusRequestEntityTooLarge, fmt.Sprintf("larger than %d bytes", limit), "TooLarge"}
	case err != nil:
		return nil, &failure{http.StatusBadRequest, "the body did not arrive whole", "NotAnEvent"}
	}
	return body, nil
}

// structured writes the event that the ce- headers and the body of a request
// describe in the JSON format. Whether the attributes are right is for who
// decodes it; here an attribute can only become an attribute, and the body only
// the data.
func structured(header http.Header, data []byte) ([]byte, error) {
	event := make(map[string]any, len(header)+1)
	for _, key := range slices.Sorted(maps.Keys(header)) {
		name, is := strings.CutPrefix(strings.ToLower(key), "ce-")
		if !is {
			continue
		}
		if name == "data" || name == "datacontenttype" || name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return nil, fmt.Errorf("ce-%.40s: names no attribute", name)
		}
		value, err := attributeValue(header[key])
		if err != nil {
			return nil, fmt.Errorf("ce-%.40s: %w", name, err)
		}
		event[name] = value
	}
	if contentType := header.Get("Content-Type"); contentType != "" {
		event["datacontenttype"] = contentType
	}
	if len(data) > 0 {
		if err := events.CheckJSON(data); err != nil {
			return nil, fmt.Errorf("body: %w", err)
		}
		event["data"] = json.RawMessage(data)
	}
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // it would make large data larger than an event may be
	err := encoder.Encode(event)
	return text.Bytes(), err
}

// attributeValue decodes a header's value: once out of double quotes, then once
// from percent-encoding (source: CloudEvents HTTP binding 1.0.2, section
// 3.1.3.2).
func attributeValue(given []string) (string, error) {
	if len(given) != 1 {
		return "", errors.New("given more than once")
	}
	value := given[0]
	if len(value) > 1 && value[0] == '"' && value[len(value)-1] == '"' {
		value = unquote(value[1 : len(value)-1])
	}
	value, err := url.PathUnescape(value)
	if err != nil {
		return "", errors.New("a percent sign must be written as %25")
	}
	if !utf8.ValidString(value) {
		return "", errors.New("must be UTF-8")
	}
	return value, nil
}

// unquote undoes the backslashes of a quoted string (source: RFC 7230, section
// 3.2.6).
func unquote(quoted string) string {
	text := make([]byte, 0, len(quoted))
	for i := 0; i < len(quoted); i++ {
		if quoted[i] == '\\' && i+1 < len(quoted) {
			i++
		}
		text = append(text, quoted[i])
	}
	return string(text)
}
