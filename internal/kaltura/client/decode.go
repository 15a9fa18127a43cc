package client

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// exception is how an error of the API looks. Args are an object, or an empty
// array when there are none.
type exception struct {
	ObjectType string          `json:"objectType"`
	Code       Text            `json:"code"`
	Message    Text            `json:"message"`
	Args       json.RawMessage `json:"args"`
}

// decodeResult reads the result of an action, or its error.
func decodeResult(body []byte, call Call, out any) error {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return unreadable(call.Service, call.Action, errors.New("the answer is empty"))
	}
	if !json.Valid(body) {
		return unreadable(call.Service, call.Action, errors.New("the answer is not JSON"))
	}
	if err := asError(body, call); err != nil {
		return err
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return unreadable(call.Service, call.Action, fmt.Errorf("decode the result: %w", err))
	}
	return nil
}

// asError is the error that a body of valid JSON stands for, or nil.
func asError(body []byte, call Call) error {
	if len(body) == 0 || body[0] != '{' {
		return nil
	}
	var e exception
	if json.Unmarshal(body, &e) != nil || e.ObjectType != "KalturaAPIException" {
		return nil //nolint:nilerr // an object with another shape is a result
	}
	var args map[string]Text
	_ = json.Unmarshal(e.Args, &args) // an empty array is no args
	out := &Error{Service: call.Service, Action: call.Action, Code: string(e.Code), Message: string(e.Message), Args: make(map[string]string, len(args))}
	for k, v := range args {
		out.Args[k] = string(v)
	}
	return out
}

// asXMLError is the error in an XML answer: what comes when the wish for JSON
// was not read.
func asXMLError(body []byte, call Call) error {
	var doc struct {
		XMLName xml.Name `xml:"xml"`
		Code    string   `xml:"result>error>code"`
		Message string   `xml:"result>error>message"`
	}
	if xml.Unmarshal(body, &doc) != nil {
		return nil //nolint:nilerr // not the API's own document
	}
	if doc.Code == "" {
		return unreadable(call.Service, call.Action, errors.New("the answer is a document of the API instead of a file"))
	}
	return &Error{Service: call.Service, Action: call.Action, Code: doc.Code, Message: doc.Message}
}

// scalar takes the text out of a JSON number, string, bool or null.
func scalar(b []byte) (string, error) {
	switch {
	case len(b) == 0 || b[0] == '{' || b[0] == '[':
		return "", fmt.Errorf("%.20s is not a scalar", b)
	case b[0] == '"':
		var s string
		err := json.Unmarshal(b, &s)
		return s, err
	case string(b) == "null":
		return "", nil
	default:
		return string(b), nil
	}
}

// Int reads numbers as the backend sends them: as a number, as text, as a
// bool, null or missing, which are 0.
type Int int64

// UnmarshalJSON reads any scalar; a fraction is cut off.
func (i *Int) UnmarshalJSON(b []byte) error {
	f, err := number(b)
	*i = Int(f)
	return err
}

// Float is a number with a fraction, read as leniently as Int.
type Float float64

// UnmarshalJSON reads any scalar.
func (f *Float) UnmarshalJSON(b []byte) error {
	v, err := number(b)
	*f = Float(v)
	return err
}

func number(b []byte) (float64, error) {
	s, err := scalar(b)
	switch {
	case err != nil:
		return 0, err
	case s == "" || s == "false":
		return 0, nil
	case s == "true":
		return 1, nil
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil {
		return 0, fmt.Errorf("%.20q is not a number", s)
	}
	return f, nil
}

// Bool is a truth value: true, 1, "1", "true"; everything else is false.
type Bool bool

// UnmarshalJSON reads any scalar.
func (v *Bool) UnmarshalJSON(b []byte) error {
	s, err := scalar(b)
	*v = Bool(s == "1" || strings.EqualFold(s, "true"))
	return err
}

// Text is text, or a number read as one.
type Text string

// UnmarshalJSON reads any scalar.
func (t *Text) UnmarshalJSON(b []byte) error {
	s, err := scalar(b)
	*t = Text(s)
	return err
}

// List is the answer of list actions.
type List[T any] struct {
	Objects []T `json:"objects"`
	Total   Int `json:"totalCount"`
}
