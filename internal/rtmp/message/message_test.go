package message

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/rtmp/amf"
)

func TestCommand(t *testing.T) {
	want := Command{Name: "publish", Transaction: 5, Object: amf.Null{}, Args: []amf.Value{"lobby_1", "live"}}
	m, err := NewCommand(1, want)
	require.NoError(t, err)
	require.Equal(t, TypeCommand, m.Type)
	got, err := ParseCommand(&m)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, "live", got.StringArg(1))
	require.Empty(t, got.StringArg(2))

	// Type 17 has one byte in front.
	m = Message{Type: TypeCommandAMF3, Payload: append([]byte{0}, m.Payload...)}
	got, err = ParseCommand(&m)
	require.NoError(t, err)
	require.Equal(t, want, got)
}

func TestCommandRefusals(t *testing.T) {
	for name, m := range map[string]Message{
		"empty":         {Type: TypeCommand},
		"empty type 17": {Type: TypeCommandAMF3},
		"no name":       {Type: TypeCommand, Payload: []byte("\x05\x05")},
		"no number":     {Type: TypeCommand, Payload: []byte("\x02\x00\x01a\x05")},
		"AMF3 body":     {Type: TypeCommandAMF3, Payload: []byte("\x00\x02\x00\x01a\x11\x04")},
	} {
		_, err := ParseCommand(&m)
		require.Equal(t, fault.ProtocolError, fault.ReasonOf(err), name)
	}
	deep := Message{Type: TypeCommand, Payload: []byte("\x02\x00\x01a" + strings.Repeat("\x0a\x00\x00\x00\x01", 1<<21))}
	_, err := ParseCommand(&deep)
	require.Equal(t, fault.LimitExceeded, fault.ReasonOf(err))
}

func TestData(t *testing.T) {
	m, err := NewData(1, "onMetaData", amf.ECMAArray{{Name: "width", Value: 640.0}})
	require.NoError(t, err)
	d, err := ParseData(&m)
	require.NoError(t, err)
	require.Equal(t, "onMetaData", d.Name)
	require.Equal(t, "\x02\x00\x0aonMetaData", string(d.Body[:13]), "the body begins with the name, not with @setDataFrame")
	values, err := d.Values()
	require.NoError(t, err)
	require.Equal(t, []amf.Value{amf.ECMAArray{{Name: "width", Value: 640.0}}}, values)

	for name, tc := range map[string]struct {
		in   string
		want Data
		bad  bool
	}{
		"unknown handler":  {in: "\x02\x00\x03abc\x05", want: Data{Name: "abc", Body: []byte("\x02\x00\x03abc\x05")}},
		"clear":            {in: "\x02\x00\x0f@clearDataFrame\x02\x00\x01a", want: Data{Name: "a", Body: []byte("\x02\x00\x01a"), Clear: true}},
		"no name":          {in: "\x05", bad: true},
		"empty":            {bad: true},
		"bad value":        {in: "\x02\x00\x03abc\x02\x00", bad: true},
		"set without name": {in: "\x02\x00\x0d@setDataFrame", bad: true},
	} {
		d, err := ParseData(&Message{Type: TypeData, Payload: []byte(tc.in)})
		require.Equal(t, tc.bad, err != nil, name)
		require.Equal(t, tc.want, d, name)
	}
}

func TestAggregate(t *testing.T) {
	subs := []Message{
		{Type: TypeAudio, Timestamp: 0x01000000, Payload: []byte("a")},
		{Type: TypeVideo, Timestamp: 0x01000028, Payload: []byte{}},
		{Type: TypeVideo, Timestamp: 0x01000050, Payload: []byte("video")},
	}
	var b []byte
	for i := range subs {
		b = AppendSubMessage(b, &subs[i])
	}
	for _, cut := range []int{0, 4} { // the last back pointer may be missing
		a := NewAggregate(&Message{Type: TypeAggregate, StreamID: 7, Timestamp: 1000, Payload: b[:len(b)-cut]})
		for i := range subs {
			var m Message
			more, err := a.Next(&m)
			require.NoError(t, err)
			require.True(t, more)
			require.Equal(t, Message{Type: subs[i].Type, StreamID: 7, Timestamp: 1000 + uint32(40*i), Payload: subs[i].Payload}, m)
		}
		more, err := a.Next(new(Message))
		require.NoError(t, err)
		require.False(t, more)
	}
	for name, in := range map[string]string{
		"cut header": "\x08\x00", "cut body": "\x08\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00abc", "nested": "\x16\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
	} {
		a := NewAggregate(&Message{Payload: []byte(in)})
		_, err := a.Next(new(Message))
		require.Equal(t, fault.ProtocolError, fault.ReasonOf(err), name)
	}
}

func TestControl(t *testing.T) {
	m := NewUint32(TypeWindowAckSize, 70000)
	v, err := Uint32(&m)
	require.NoError(t, err)
	require.EqualValues(t, 70000, v)
	m = NewUserControl(EventPingRequest, 0x01020304)
	event, data, err := UserControl(&m)
	require.NoError(t, err)
	require.Equal(t, EventPingRequest, event)
	require.Equal(t, []byte{1, 2, 3, 4}, data)
	m = NewSetPeerBandwidth(1, LimitDynamic)
	require.Equal(t, []byte{0, 0, 0, 1, 2}, m.Payload)
	_, err = Uint32(&Message{Payload: []byte{1}})
	require.Error(t, err)
	_, _, err = UserControl(&Message{Payload: []byte{1}})
	require.Error(t, err)
}

func TestClasses(t *testing.T) {
	for typ, want := range map[Type]Class{
		TypeAbort: ClassControl, TypeCommandAMF3: ClassCommand, TypeDataAMF3: ClassData, TypeAggregate: ClassMedia, 16: ClassUnknown, 0: ClassUnknown,
	} {
		require.Equal(t, want, typ.Class(), typ)
	}
}

func FuzzAggregate(f *testing.F) {
	f.Add(AppendSubMessage(AppendSubMessage(nil, &Message{Type: 8, Payload: []byte("a")}), &Message{Type: 9, Timestamp: 5}))
	f.Add([]byte("\x08\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00abc"))
	f.Fuzz(func(t *testing.T, in []byte) {
		a := NewAggregate(&Message{Payload: in})
		total := 0
		for {
			var m Message
			more, err := a.Next(&m)
			if err != nil || !more {
				return
			}
			total += len(m.Payload) + flvTagHeader
			require.LessOrEqual(t, total, len(in))
		}
	})
}

func FuzzData(f *testing.F) {
	m, err := NewData(1, "onMetaData", amf.ECMAArray{{Name: "width", Value: 640.0}})
	require.NoError(f, err)
	f.Add(m.Payload)
	f.Add([]byte("\x02\x00\x0f@clearDataFrame\x02\x00\x01a"))
	f.Fuzz(func(t *testing.T, in []byte) {
		d, err := ParseData(&Message{Type: TypeData, Payload: in})
		if err != nil {
			return
		}
		_, err = d.Values()
		require.NoError(t, err, "what was found valid must decode")
	})
}
