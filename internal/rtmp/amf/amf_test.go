package amf

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
)

// valid are encodings and their values; they also seed the fuzz target.
var valid = []struct {
	name  string
	in    string
	want  []Value
	again string // the encoding when it is another one than in
}{
	{name: "nothing", in: ""},
	{name: "number", in: "\x00\x40\x59\x00\x00\x00\x00\x00\x00", want: []Value{100.0}},
	{name: "true", in: "\x01\x01", want: []Value{true}},
	{name: "true as 2", in: "\x01\x02", want: []Value{true}, again: "\x01\x01"},
	{name: "string", in: "\x02\x00\x03abc", want: []Value{"abc"}},
	{name: "empty string", in: "\x02\x00\x00", want: []Value{""}},
	{name: "null, undefined, unsupported", in: "\x05\x06\x0d", want: []Value{Null{}, Undefined{}, Unsupported{}}},
	{name: "reference", in: "\x07\x01\x02", want: []Value{Reference(0x102)}},
	{name: "empty object", in: "\x03\x00\x00\x09", want: []Value{Object(nil)}},
	{name: "object", in: "\x03\x00\x01a\x01\x00\x00\x01b\x02\x00\x01c\x00\x00\x09",
		want: []Value{Object{{"a", false}, {"b", "c"}}}},
	{name: "object with an empty name", in: "\x03\x00\x00\x05\x00\x00\x09", want: []Value{Object{{"", Null{}}}}},
	{name: "object without an end", in: "\x03\x00\x01a\x05", want: []Value{Object{{"a", Null{}}}}, again: "\x03\x00\x01a\x05\x00\x00\x09"},
	{name: "ECMA array with a wrong count", in: "\x08\x00\x00\x00\x63\x00\x01a\x05\x00\x00\x09",
		want: []Value{ECMAArray{{"a", Null{}}}}, again: "\x08\x00\x00\x00\x01\x00\x01a\x05\x00\x00\x09"},
	{name: "strict array", in: "\x0a\x00\x00\x00\x02\x05\x01\x01", want: []Value{StrictArray{Null{}, true}}},
	{name: "date", in: "\x0b\x42\x78\xbc\xfe\x56\x80\x00\x00\x00\x00", want: []Value{Date{Milliseconds: 1700000000000}}},
	{name: "XML", in: "\x0f\x00\x00\x00\x04<a/>", want: []Value{XMLDocument("<a/>")}},
	{name: "long string that is short", in: "\x0c\x00\x00\x00\x01a", want: []Value{"a"}, again: "\x02\x00\x01a"},
	{name: "typed object", in: "\x10\x00\x01C\x00\x01a\x05\x00\x00\x09", want: []Value{TypedObject{"C", Object{{"a", Null{}}}}}},
	{name: "as deep as allowed", in: nested(MaxDepth), want: []Value{nestedValue(MaxDepth)}},
}

// invalid are refused encodings.
var invalid = []struct {
	name, in string
	reason   fault.Reason
}{
	{"number cut", "\x00\x40", fault.ProtocolError},
	{"string cut", "\x02\x00\x03ab", fault.ProtocolError},
	{"long string longer than the message", "\x0c\xff\xff\xff\xffabc", fault.ProtocolError},
	{"strict array longer than the message", "\x0a\xff\xff\xff\xff\x05", fault.ProtocolError},
	{"strict array above the limit of values", "\x0a\x00\x00\x40\x00" + strings.Repeat("\x05", 0x4000), fault.LimitExceeded},
	{"more values than the limit", strings.Repeat("\x05", MaxValues+1), fault.LimitExceeded},
	{"deeper than allowed", nested(MaxDepth + 1), fault.LimitExceeded},
	{"ten megabytes deep", nested(10 << 18), fault.LimitExceeded},
	{"object cut in a name", "\x03\x00\x05ab", fault.ProtocolError},
	{"AMF3", "\x11\x06\x03a", fault.ProtocolError},
	{"movie clip", "\x04", fault.ProtocolError},
	{"object end alone", "\x09", fault.ProtocolError},
}

// nested is an object within an object, n times below the first.
func nested(n int) string {
	return strings.Repeat("\x03\x00\x01a", n) + "\x03\x00\x00\x09" + strings.Repeat("\x00\x00\x09", n)
}

func nestedValue(n int) Value {
	v := Object(nil)
	for range n {
		v = Object{{"a", v}}
	}
	return v
}

func TestDecode(t *testing.T) {
	for _, tc := range valid {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Decode([]byte(tc.in))
			require.NoError(t, err)
			require.Equal(t, tc.want, got)
			require.NoError(t, Valid([]byte(tc.in)))
			again, err := Append(nil, got...)
			require.NoError(t, err)
			if tc.again == "" {
				tc.again = tc.in
			}
			require.Equal(t, tc.again, string(again))
		})
	}
	for _, tc := range invalid {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Decode([]byte(tc.in))
			require.Equal(t, tc.reason, fault.ReasonOf(err), err)
			require.Equal(t, tc.reason, fault.ReasonOf(Valid([]byte(tc.in))))
		})
	}
}

func TestEveryCutIsRefusedOrComplete(t *testing.T) {
	for _, tc := range valid {
		for n := range len(tc.in) {
			_, err := Decode([]byte(tc.in[:n]))
			require.Equal(t, err == nil, Valid([]byte(tc.in[:n])) == nil, "%s cut at %d", tc.name, n)
		}
	}
}

func TestLongString(t *testing.T) {
	long := strings.Repeat("x", math.MaxUint16+1)
	b, err := Append(nil, long)
	require.NoError(t, err)
	got, n, err := DecodeOne(append(b, 5))
	require.NoError(t, err)
	require.Equal(t, long, got)
	require.Equal(t, len(b), n)
}

func TestAppendRefuses(t *testing.T) {
	for name, v := range map[string]Value{
		"another type": 1, "a long name": Object{{Name: strings.Repeat("x", math.MaxUint16+1)}}, "deep": nestedValue(MaxDepth + 1),
	} {
		_, err := Append(nil, v)
		require.Error(t, err, name)
	}
	b, err := Append(nil, nil)
	require.NoError(t, err)
	require.Equal(t, "\x05", string(b))
}

func TestLookup(t *testing.T) {
	o := Object{{"a", "first"}, {"a", "last"}, {"n", 2.0}}
	require.Equal(t, "last", LookupString(o, "a"))
	require.Equal(t, "last", LookupString(ECMAArray(o), "a"))
	require.Equal(t, "last", LookupString(TypedObject{Properties: o}, "a"))
	n, ok := LookupNumber(o, "n")
	require.True(t, ok)
	require.InDelta(t, 2.0, n, 0)
	_, ok = LookupNumber(o, "a")
	require.False(t, ok)
	require.Nil(t, Lookup("no object", "a"))
	require.Equal(t, "2023-11-14T22:13:20Z", Date{Milliseconds: 1700000000000}.Time().Format(time.RFC3339))
}

func TestValidAllocatesNothing(t *testing.T) {
	b, err := Append(nil, "onMetaData", ECMAArray{{"width", 1280.0}, {"encoder", "x"}, {"a", StrictArray{1.0, true, Date{}}}})
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if err := Valid(b); err != nil {
			t.Fatal(err)
		}
	}))
}

func FuzzDecode(f *testing.F) {
	for _, tc := range valid {
		f.Add([]byte(tc.in))
	}
	for _, tc := range invalid {
		if len(tc.in) < 1<<16 {
			f.Add([]byte(tc.in))
		}
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		values, err := Decode(in)
		require.Equal(t, err == nil, Valid(in) == nil)
		if err != nil {
			return
		}
		once, err := Append(nil, values...)
		require.NoError(t, err)
		back, err := Decode(once)
		require.NoError(t, err)
		twice, err := Append(nil, back...)
		require.NoError(t, err)
		// Bytes are compared, as NaN is not equal to itself.
		require.True(t, bytes.Equal(once, twice), "the encoding must be stable")
	})
}
