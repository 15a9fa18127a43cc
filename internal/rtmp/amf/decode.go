package amf

import (
	"encoding/binary"
	"math"

	"github.com/klive-media/klive/internal/fault"
)

// The type markers of AMF0 section 2.1.
const (
	markerNumber      = 0x00
	markerBoolean     = 0x01
	markerString      = 0x02
	markerObject      = 0x03
	markerNull        = 0x05
	markerUndefined   = 0x06
	markerReference   = 0x07
	markerECMAArray   = 0x08
	markerObjectEnd   = 0x09
	markerStrictArray = 0x0a
	markerDate        = 0x0b
	markerLongString  = 0x0c
	markerUnsupported = 0x0d
	markerXMLDocument = 0x0f
	markerTypedObject = 0x10
	markerAVMPlus     = 0x11 // the value that follows is AMF3
)

// smallest is the least number of bytes a value takes: an array that claims
// more values than bytes are left is refused before it is allocated.
const smallest = 1

// Decode reads values until b ends. Strings are copied; b is not kept.
func Decode(b []byte) ([]Value, error) {
	d := decoder{b: b, build: true}
	var values []Value
	for d.off < len(b) {
		v := d.value(0)
		if d.err != nil {
			return nil, d.err
		}
		values = append(values, v)
	}
	return values, nil
}

// DecodeOne reads the first value of b and returns how many bytes it takes.
func DecodeOne(b []byte) (Value, int, error) {
	d := decoder{b: b, build: true}
	v := d.value(0)
	if d.err != nil {
		return nil, 0, d.err
	}
	return v, d.off, nil
}

// Valid reports as an error why Decode(b) would fail, without allocating when
// it would not.
func Valid(b []byte) error {
	d := decoder{b: b}
	for d.off < len(b) && d.err == nil {
		d.value(0)
	}
	return d.err
}

// decoder accumulates the first error; after it every read gives zero values.
type decoder struct {
	b     []byte
	off   int
	count int
	build bool // false: only walk and check
	err   error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fault.New(fault.ProtocolError, format, args...)
	}
}

func (d *decoder) limit(format string, args ...any) {
	if d.err == nil {
		d.err = fault.New(fault.LimitExceeded, format, args...)
	}
}

// take returns the next n bytes, or nil and an error.
func (d *decoder) take(n int) []byte {
	if d.err != nil {
		return nil
	}
	if n > len(d.b)-d.off {
		d.fail("an AMF value ends %d bytes early", n-(len(d.b)-d.off))
		return nil
	}
	p := d.b[d.off : d.off+n]
	d.off += n
	return p
}

func (d *decoder) byte() byte {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if p := d.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if p := d.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (d *decoder) number() float64 {
	if p := d.take(8); p != nil {
		return math.Float64frombits(binary.BigEndian.Uint64(p))
	}
	return 0
}

func (d *decoder) text(n int) string {
	p := d.take(n)
	if !d.build {
		return ""
	}
	return string(p)
}

// longText reads a string with a 32-bit length.
func (d *decoder) longText() string {
	n := d.uint32()
	if uint64(n) > uint64(len(d.b)-d.off) {
		d.fail("an AMF string of %d bytes stands where %d are left", n, len(d.b)-d.off)
		return ""
	}
	return d.text(int(n))
}

// value reads one value at the given depth.
func (d *decoder) value(depth int) Value {
	if d.count++; d.count > MaxValues {
		d.limit("an AMF message holds more than %d values", MaxValues)
	}
	if depth > MaxDepth {
		d.limit("AMF values nest deeper than %d", MaxDepth)
	}
	marker := d.byte()
	if d.err != nil {
		return nil
	}
	switch marker {
	case markerNumber:
		return d.box(d.number())
	case markerBoolean:
		return d.byte() != 0
	case markerString:
		return d.boxText(d.text(int(d.uint16())))
	case markerLongString:
		return d.boxText(d.longText())
	case markerXMLDocument:
		return XMLDocument(d.longText())
	case markerNull:
		return Null{}
	case markerUndefined:
		return Undefined{}
	case markerUnsupported:
		return Unsupported{}
	case markerReference:
		return Reference(d.uint16())
	case markerDate:
		date := Date{Milliseconds: d.number(), Zone: int16(d.uint16())} //nolint:gosec // two's complement on the wire
		if !d.build {
			return nil
		}
		return date
	case markerObject, markerECMAArray, markerTypedObject, markerStrictArray:
		return d.container(marker, depth)
	case markerAVMPlus:
		d.fail("the AMF message holds AMF3 values, which are not supported; use objectEncoding 0")
	default:
		d.fail("the AMF type marker 0x%02x is unknown", marker)
	}
	return nil
}

// container reads a value that holds values, behind its marker.
func (d *decoder) container(marker byte, depth int) Value {
	switch marker {
	case markerTypedObject:
		class := d.text(int(d.uint16()))
		props := d.properties(depth)
		if !d.build {
			return nil
		}
		return TypedObject{Class: class, Properties: props}
	case markerECMAArray:
		d.uint32() // a hint that senders get wrong; the end marker counts
		props := d.properties(depth)
		if !d.build {
			return nil
		}
		return ECMAArray(props)
	case markerStrictArray:
		return d.strictArray(depth)
	}
	props := d.properties(depth)
	if !d.build {
		return nil
	}
	return Object(props)
}

func (d *decoder) strictArray(depth int) Value {
	n := d.uint32()
	if uint64(n)*smallest > uint64(len(d.b)-d.off) {
		d.fail("an AMF array claims %d values where %d bytes are left", n, len(d.b)-d.off)
		return nil
	}
	if int(n) > MaxValues-d.count {
		d.limit("an AMF message holds more than %d values", MaxValues)
		return nil
	}
	var values StrictArray
	if d.build {
		values = make(StrictArray, 0, n)
	}
	for range n {
		v := d.value(depth + 1)
		if d.err != nil {
			return nil
		}
		if d.build {
			values = append(values, v)
		}
	}
	if !d.build {
		return nil
	}
	return values
}

// properties reads named values up to the end marker: an empty name followed
// by 0x09. Some senders leave the marker out at the end of the message.
func (d *decoder) properties(depth int) []Property {
	var props []Property
	for d.err == nil {
		if d.off == len(d.b) {
			return props
		}
		n := int(d.uint16())
		if n == 0 && d.off < len(d.b) && d.b[d.off] == markerObjectEnd {
			d.off++
			return props
		}
		name := d.text(n)
		v := d.value(depth + 1)
		if d.err == nil && d.build {
			props = append(props, Property{Name: name, Value: v})
		}
	}
	return nil
}

// box and boxText keep Valid free of the allocation of an interface value.
func (d *decoder) box(v float64) Value {
	if !d.build {
		return nil
	}
	return v
}

func (d *decoder) boxText(v string) Value {
	if !d.build {
		return nil
	}
	return v
}
