package amf

import (
	"encoding/binary"
	"math"

	"github.com/klive-media/klive/internal/fault"
)

// Append appends the encodings of values to b. It fails, as an error of the
// caller, on a value that is none of the types of Value, on a name above
// 65535 bytes and on nesting above MaxDepth.
func Append(b []byte, values ...Value) ([]byte, error) {
	for _, v := range values {
		var err error
		if b, err = appendValue(b, v, 0); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func appendValue(b []byte, v Value, depth int) ([]byte, error) {
	if depth > MaxDepth {
		return nil, fault.New(fault.LimitExceeded, "AMF values nest deeper than %d", MaxDepth)
	}
	switch v := v.(type) {
	case float64:
		return appendNumber(append(b, markerNumber), v), nil
	case bool:
		if v {
			return append(b, markerBoolean, 1), nil
		}
		return append(b, markerBoolean, 0), nil
	case string:
		if len(v) > math.MaxUint16 {
			return appendLongText(append(b, markerLongString), v), nil
		}
		return appendText(append(b, markerString), v)
	case XMLDocument:
		return appendLongText(append(b, markerXMLDocument), string(v)), nil
	case Null, nil:
		return append(b, markerNull), nil
	case Undefined:
		return append(b, markerUndefined), nil
	case Unsupported:
		return append(b, markerUnsupported), nil
	case Reference:
		return binary.BigEndian.AppendUint16(append(b, markerReference), uint16(v)), nil
	case Date:
		b = appendNumber(append(b, markerDate), v.Milliseconds)
		return binary.BigEndian.AppendUint16(b, uint16(v.Zone)), nil //nolint:gosec // two's complement on the wire
	case Object:
		return appendProperties(append(b, markerObject), v, depth)
	case ECMAArray:
		b = binary.BigEndian.AppendUint32(append(b, markerECMAArray), uint32(len(v))) //nolint:gosec // a hint
		return appendProperties(b, v, depth)
	case TypedObject:
		b, err := appendText(append(b, markerTypedObject), v.Class)
		if err != nil {
			return nil, err
		}
		return appendProperties(b, v.Properties, depth)
	case StrictArray:
		return appendStrictArray(append(b, markerStrictArray), v, depth)
	}
	return nil, fault.New(fault.InternalError, "a value of type %T has no AMF0 encoding", v)
}

func appendStrictArray(b []byte, values StrictArray, depth int) ([]byte, error) {
	b = binary.BigEndian.AppendUint32(b, uint32(len(values))) //nolint:gosec // as many values are in memory
	for _, v := range values {
		var err error
		if b, err = appendValue(b, v, depth+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func appendProperties(b []byte, props []Property, depth int) ([]byte, error) {
	for _, p := range props {
		var err error
		if b, err = appendText(b, p.Name); err != nil {
			return nil, err
		}
		if b, err = appendValue(b, p.Value, depth+1); err != nil {
			return nil, err
		}
	}
	return append(b, 0, 0, markerObjectEnd), nil
}

func appendText(b []byte, s string) ([]byte, error) {
	if len(s) > math.MaxUint16 {
		return nil, fault.New(fault.InternalError, "an AMF name of %d bytes has no encoding", len(s))
	}
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...), nil //nolint:gosec // checked above
}

func appendLongText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...) //nolint:gosec // as many bytes are in memory
}

func appendNumber(b []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(b, math.Float64bits(v))
}
