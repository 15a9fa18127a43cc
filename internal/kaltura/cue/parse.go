package cue

import (
	"bytes"
	"fmt"
	"math"
	"regexp"
	"unicode/utf8"

	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/rtmp/amf"
)

// Bounds of one cue point.
const (
	maxMessage = 64 << 10 // bytes of the data message
	maxFields  = 32
	maxText    = 16 << 10   // bytes of a text
	maxNumber  = 1<<53 - 1  // above, a number of AMF0 is no longer exact
	suffix     = "CuePoint" // of the types that are forwarded
)

var (
	// cueType matches the types of cue points, but not the abstract one.
	cueType = regexp.MustCompile(`^Kaltura[A-Za-z0-9]{1,56}` + suffix + `$`)
	// fieldName matches the names of the API's fields. A colon would reach into
	// other parameters, an underscore set a field to null.
	fieldName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]{0,63}$`)
)

// settled are the fields that the backend or this server sets.
var settled = map[string]bool{
	"objectType": true, "id": true, "entryId": true, "partnerId": true, "status": true, "cuePointType": true, "createdAt": true, "updatedAt": true,
}

// cuePoint is a cue point as an encoder sent it: its type, and its fields
// without those that are not the encoder's to say.
type cuePoint struct {
	kind   string
	fields client.Params
}

// parse reads a data message: a name, and an object with an objectType. ok is
// false when it is no cue point; err says why one cannot be forwarded. It
// keeps nothing of payload.
func parse(payload []byte) (c cuePoint, ok bool, err error) {
	if !bytes.Contains(payload, []byte(suffix)) { // as nearly all
		return cuePoint{}, false, nil
	}
	if len(payload) > maxMessage {
		return cuePoint{}, false, fmt.Errorf("the message has %d bytes; the most is %d", len(payload), maxMessage)
	}
	values, err := amf.Decode(payload)
	if err != nil {
		return cuePoint{}, false, err
	}
	if len(values) < 2 {
		return cuePoint{}, false, nil
	}
	kind := amf.LookupString(values[1], "objectType")
	if !cueType.MatchString(kind) {
		return cuePoint{}, false, nil
	}
	c = cuePoint{kind: kind, fields: client.Params{}}
	for _, p := range amf.Properties(values[1]) {
		if settled[p.Name] || !fieldName.MatchString(p.Name) {
			continue
		}
		v, err := scalar(p.Value)
		if err != nil {
			return cuePoint{}, false, fmt.Errorf("%s: field %s: %w", kind, p.Name, err)
		}
		if v == nil {
			continue
		}
		c.fields[p.Name] = v
		if len(c.fields) > maxFields {
			return cuePoint{}, false, fmt.Errorf("%s: it has more than %d fields", kind, maxFields)
		}
	}
	return c, true, nil
}

// scalar is a value as a parameter; nil for one that is none.
func scalar(v amf.Value) (any, error) {
	switch v := v.(type) {
	case bool:
		return v, nil
	case float64:
		switch {
		case math.IsNaN(v) || math.Abs(v) > maxNumber:
			return nil, fmt.Errorf("%g is not a number that can be sent", v)
		case v == math.Trunc(v):
			return int64(v), nil
		}
		return v, nil
	case string:
		if len(v) > maxText {
			return nil, fmt.Errorf("a text of %d bytes; the most is %d", len(v), maxText)
		}
		if !isText(v) {
			return nil, fmt.Errorf("a text with bytes that are no text")
		}
		return v, nil
	}
	return nil, nil //nolint:nilnil // objects, arrays and null are passed over
}

// isText reports whether the backend takes a text: characters that XML 1.0 can
// hold (section 2.2).
func isText(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, c := range s {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0xfffe || c == 0xffff {
			return false
		}
	}
	return true
}
