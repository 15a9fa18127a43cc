package kalturatest

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
)

// object is an API object: its fields, with objectType. Fields that are nil
// are left out of JSON.
type object map[string]any

// document is the answer of an action that returns a file.
type document struct {
	contentType string
	body        []byte
}

// listOf is the answer of list actions.
func listOf(kind string, items []any, total int) object {
	if items == nil {
		items = []any{}
	}
	return object{"objectType": kind, "objects": items, "totalCount": total}
}

// asObject is how a failure is seen; args without any are an empty array, as
// PHP has it.
func (f *failure) asObject() object {
	var args any = []any{}
	if len(f.args) > 0 {
		args = f.args
	}
	return object{"objectType": "KalturaAPIException", "code": f.code, "message": f.message, "args": args}
}

// formatJSON is the value of the parameter format that asks for JSON; without
// it the answer is XML.
const formatJSON = "1"

// write sends a result or an error in the wanted format. The status is 200
// either way.
func write(w http.ResponseWriter, format string, result any, err error) {
	if err != nil {
		result = failureOf(err)
	}
	if f, ok := result.(document); ok {
		w.Header().Set("Content-Type", f.contentType)
		_, _ = w.Write(f.body) // a peer that went away is not our business
		return
	}
	if format == formatJSON {
		w.Header().Set("Content-Type", "application/json")
		body, err := json.Marshal(plain(result))
		if err != nil {
			http.Error(w, "cannot encode", http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(body)
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	var b bytes.Buffer
	b.WriteString(`<?xml version="1.0" encoding="utf-8"?><xml><result>`)
	writeXML(&b, result)
	b.WriteString(`</result><executionTime>0.01</executionTime></xml>`)
	_, _ = w.Write(b.Bytes())
}

func failureOf(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	return fail("INTERNAL_SERVERL_ERROR")
}

// plain turns a result into what encoding/json understands, leaving out nulls.
func plain(v any) any {
	switch v := v.(type) {
	case *failure:
		return v.asObject()
	case object:
		out := make(object, len(v))
		for k, field := range v {
			if field != nil {
				out[k] = plain(field)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, item := range v {
			out[i] = plain(item)
		}
		return out
	default:
		return v
	}
}

func writeXML(b *bytes.Buffer, v any) {
	switch v := v.(type) {
	case nil:
	case *failure:
		b.WriteString("<error>")
		writeXML(b, object{"code": v.code, "message": v.message, "objectType": "KalturaAPIException"})
		b.WriteString("<args>")
		for _, k := range slices.Sorted(maps.Keys(v.args)) {
			b.WriteString("<item>")
			writeXML(b, object{"objectType": "KalturaApiExceptionArg", "name": k, "value": v.args[k]})
			b.WriteString("</item>")
		}
		b.WriteString("</args></error>")
	case object:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			b.WriteString("<" + k + ">")
			writeXML(b, v[k])
			b.WriteString("</" + k + ">")
		}
	case []any:
		for _, item := range v {
			b.WriteString("<item>")
			writeXML(b, item)
			b.WriteString("</item>")
		}
	case bool:
		b.WriteString(strconv.Itoa(boolInt(v)))
	default:
		_ = xml.EscapeText(b, []byte(fmt.Sprint(v))) // a buffer takes everything
	}
}

func boolInt(v bool) int {
	if v {
		return 1
	}
	return 0
}
