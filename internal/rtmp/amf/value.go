// Package amf reads and writes AMF0 (Adobe's "Action Message Format -- AMF 0"),
// the encoding of RTMP commands and metadata. It is written for hostile peers:
// depth, number of values and every length are bounded before anything is
// allocated.
//
// Value is the type to read first.
package amf

import "time"

// Limits of what one message may hold.
const (
	// MaxDepth is how deep objects and arrays may nest; the values of a message
	// stand at depth 0. Encoders use 2.
	MaxDepth = 32
	// MaxValues is how many values, properties counted, one message may hold.
	MaxValues = 8192
)

// Value is one of: float64, bool, string, Null, Undefined, Object, ECMAArray,
// StrictArray, TypedObject, Date, XMLDocument, Reference, Unsupported.
type Value any

// Property is one named value of an object.
type Property struct {
	Name  string
	Value Value
}

// Object is an anonymous object. The order is that of the wire.
type Object []Property

// ECMAArray is an associative array (section 2.10). The count of the wire is a
// hint, and not kept.
type ECMAArray []Property

// StrictArray is an array with ordinal indexes (section 2.12).
type StrictArray []Value

// TypedObject is an object with a registered class (section 2.18).
type TypedObject struct {
	Class      string
	Properties Object
}

// Date is a point in time (section 2.13) in milliseconds since 1970. Zone is
// reserved and ought to be 0.
type Date struct {
	Milliseconds float64
	Zone         int16
}

// Time is the date as a time in UTC.
func (d Date) Time() time.Time { return time.UnixMilli(int64(d.Milliseconds)).UTC() }

// XMLDocument is the text of an XML document (section 2.17).
type XMLDocument string

// Reference points to an earlier object of the message (section 2.9). It is
// kept, not followed: nobody sends it, and following it would allow cycles.
type Reference uint16

// Null is the value null (section 2.7).
type Null struct{}

// Undefined is the value undefined (section 2.8).
type Undefined struct{}

// Unsupported stands for what its sender could not encode (section 2.15).
type Unsupported struct{}

// Properties are the named values of v when it is an Object, an ECMAArray or a
// TypedObject, else nil.
func Properties(v Value) []Property {
	switch v := v.(type) {
	case Object:
		return v
	case ECMAArray:
		return v
	case TypedObject:
		return v.Properties
	}
	return nil
}

// Lookup is the value of the last property called name, as a later property of
// an object replaces an earlier one; nil when there is none.
func Lookup(v Value, name string) Value {
	props := Properties(v)
	for i := len(props) - 1; i >= 0; i-- {
		if props[i].Name == name {
			return props[i].Value
		}
	}
	return nil
}

// LookupString is Lookup for a string; "" when there is none.
func LookupString(v Value, name string) string {
	s, _ := Lookup(v, name).(string)
	return s
}

// LookupNumber is Lookup for a number, and whether there is one.
func LookupNumber(v Value, name string) (float64, bool) {
	n, ok := Lookup(v, name).(float64)
	return n, ok
}
