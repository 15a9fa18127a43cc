package rtmp

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/rtmp/amf"
	"github.com/klive-media/klive/internal/rtmp/chunk"
	"github.com/klive-media/klive/internal/rtmp/handshake"
	"github.com/klive-media/klive/internal/rtmp/message"
)

// tape is a connection whose peer has said all it will say.
type tape struct {
	io.Reader
	said bytes.Buffer // what we answered
}

func (p *tape) Write(b []byte) (int, error)    { return p.said.Write(b) }
func (*tape) Close() error                     { return nil }
func (*tape) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (*tape) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (*tape) SetDeadline(time.Time) error      { return nil }
func (*tape) SetReadDeadline(time.Time) error  { return nil }
func (*tape) SetWriteDeadline(time.Time) error { return nil }

// script builds what a client sends.
type script struct {
	bytes.Buffer
	w *chunk.Writer
}

// newScript begins with the handshake.
func newScript() *script {
	s := &script{}
	s.WriteByte(handshake.Version)
	s.Write(make([]byte, 2*handshake.PacketSize))
	s.w = chunk.NewWriter(s, 1<<10)
	return s
}

func (s *script) message(t testing.TB, id int, m message.Message) {
	require.NoError(t, s.w.WriteMessage(id, &m))
	require.NoError(t, s.w.Flush())
}

func (s *script) command(t testing.TB, stream uint32, c message.Command) {
	m, err := message.NewCommand(stream, c)
	require.NoError(t, err)
	s.message(t, chunk.StreamCommand, m)
}

// publish is the way to a publication, as OBS goes it.
func (s *script) publish(t testing.TB) {
	s.command(t, 0, message.Command{Name: "connect", Transaction: 1, Object: amf.Object{{Name: "app", Value: "kLive"}}})
	s.command(t, 0, message.Command{Name: "releaseStream", Transaction: 2, Args: []amf.Value{"lobby_1"}})
	s.command(t, 0, message.Command{Name: "FCPublish", Transaction: 3, Args: []amf.Value{"lobby_1"}})
	s.command(t, 0, message.Command{Name: "createStream", Transaction: 4})
	s.command(t, 1, message.Command{Name: "publish", Transaction: 5, Args: []amf.Value{"lobby_1", "live"}})
}

func play(in []byte) received { return serve(&tape{Reader: bytes.NewReader(in)}, Options{}) }

// sessions are whole sessions. They seed the fuzz target.
func sessions(t testing.TB) map[string]struct {
	in     []byte
	reason fault.Reason // of the error; "" for io.EOF
	want   []message.Message
} {
	type session = struct {
		in     []byte
		reason fault.Reason
		want   []message.Message
	}
	out := map[string]session{}
	add := func(name string, reason fault.Reason, build func(s *script), want ...message.Message) {
		s := newScript()
		build(s)
		out[name] = session{s.Bytes(), reason, want}
	}
	add("deep AMF before anything else", fault.LimitExceeded, func(s *script) {
		deep := "\x02\x00\x07connect\x00\x3f\xf0\x00\x00\x00\x00\x00\x00" + strings.Repeat("\x03\x00\x01a", 7000)
		s.message(t, 3, message.Message{Type: message.TypeCommand, Payload: []byte(deep)})
	})
	add("deep AMF of ten megabytes", fault.LimitExceeded, func(s *script) {
		m := message.Message{Type: message.TypeCommand, Payload: bytes.Repeat([]byte("\x03\x00\x01a"), 10<<18)}
		s.message(t, 3, m)
	})
	add("deep AMF in a data message", fault.LimitExceeded, func(s *script) {
		s.publish(t)
		deep := append([]byte("\x02\x00\x01a"), bytes.Repeat([]byte("\x0a\x00\x00\x00\x01"), 1<<20)...)
		s.message(t, 5, message.Message{Type: message.TypeData, StreamID: 1, Payload: deep})
	})
	frame := message.Message{Type: message.TypeVideo, StreamID: 1, Timestamp: 40, Payload: bytes.Repeat([]byte{0x27}, 300)}
	empty := message.Message{Type: message.TypeVideo, StreamID: 1, Timestamp: 20, Payload: []byte{}}
	add("zero length", "", func(s *script) {
		s.publish(t)
		s.message(t, 6, empty)
		s.message(t, 6, frame)
	}, empty, frame)
	late := frame
	late.Timestamp = 0xffffff + 40
	later := frame
	later.Timestamp = 0xffffff + 80
	add("extended timestamp", "", func(s *script) {
		s.publish(t)
		s.message(t, 6, late)
		s.message(t, 6, later)
	}, late, later)
	sub := message.AppendSubMessage(message.AppendSubMessage(nil, &empty), &frame)
	add("aggregate", "", func(s *script) {
		s.publish(t)
		s.message(t, 6, message.Message{Type: message.TypeAggregate, StreamID: 1, Timestamp: 1020, Payload: sub})
	}, message.Message{Type: 9, StreamID: 1, Timestamp: 1020, Payload: []byte{}},
		message.Message{Type: 9, StreamID: 1, Timestamp: 1040, Payload: frame.Payload})
	add("commands of type 17", "", func(s *script) {
		m, err := message.NewCommand(0, message.Command{Name: "connect", Transaction: 1, Object: amf.Object{{Name: "app", Value: "kLive"}}})
		require.NoError(t, err)
		m.Type, m.Payload = message.TypeCommandAMF3, append([]byte{0}, m.Payload...)
		s.message(t, 3, m)
		s.command(t, 0, message.Command{Name: "createStream", Transaction: 4})
		s.command(t, 1, message.Command{Name: "publish", Transaction: 5, Args: []amf.Value{"lobby_1", "live"}})
		s.message(t, 6, frame)
	}, frame)
	add("a second publish, unknown commands and pings", "", func(s *script) {
		s.publish(t)
		s.command(t, 1, message.Command{Name: "publish", Transaction: 6, Args: []amf.Value{"lobby_2", "live"}})
		s.command(t, 1, message.Command{Name: "whatever", Transaction: 7})
		s.message(t, 2, message.NewUserControl(message.EventPingRequest, 1))
		s.message(t, 2, message.NewUint32(message.TypeWindowAckSize, 1))
		s.message(t, 7, message.Message{Type: 99, Payload: []byte("?")})
		s.message(t, 6, frame)
	}, frame)
	add("play", fault.ProtocolError, func(s *script) {
		s.command(t, 0, message.Command{Name: "connect", Transaction: 1, Object: amf.Object{{Name: "app", Value: "kLive"}}})
		s.command(t, 1, message.Command{Name: "play", Args: []amf.Value{"lobby_1"}})
	})
	add("a command before connect", fault.ProtocolError, func(s *script) {
		s.command(t, 0, message.Command{Name: "createStream", Transaction: 4})
	})
	add("more than is allowed before publish", fault.LimitExceeded, func(s *script) {
		s.message(t, 6, message.Message{Type: 9, Payload: make([]byte, 20_000)})
		s.message(t, 6, message.Message{Type: 9, Payload: make([]byte, 20_000)})
	})
	return out
}

func TestSessions(t *testing.T) {
	for name, tc := range sessions(t) {
		t.Run(name, func(t *testing.T) {
			got := play(tc.in)
			if tc.reason == "" {
				require.Equal(t, io.EOF, got.err)
			} else if len(got.messages) == 0 {
				require.Equal(t, tc.reason, fault.ReasonOf(got.err), got.err)
			}
			require.Equal(t, tc.want, got.messages)
		})
	}
}

func TestOneConnectionPublishesTwice(t *testing.T) {
	s := newScript()
	s.publish(t)
	s.command(t, 0, message.Command{Name: "deleteStream", Transaction: 6, Args: []amf.Value{1.0}})
	s.command(t, 0, message.Command{Name: "createStream", Transaction: 7})
	s.command(t, 2, message.Command{Name: "publish", Transaction: 8, Args: []amf.Value{"lobby_2", "live"}})
	s.message(t, 6, message.Message{Type: message.TypeVideo, StreamID: 2, Payload: []byte{0x17}})
	s.command(t, 2, message.Command{Name: "closeStream"})
	c := NewServerConn(&tape{Reader: bytes.NewReader(s.Bytes())}, Options{})
	require.NoError(t, c.Handshake())
	_, err := c.ReadConnect()
	require.NoError(t, err)
	require.NoError(t, c.AcceptConnect())
	var m message.Message
	for i, name := range []string{"lobby_1", "lobby_2"} {
		p, err := c.ReadPublish()
		require.NoError(t, err)
		require.Equal(t, Publish{Name: name, Type: "live", StreamID: uint32(i + 1)}, p)
		require.NoError(t, c.AcceptPublish())
		if i == 1 {
			require.NoError(t, c.ReadMedia(&m))
		}
		require.ErrorIs(t, c.ReadMedia(&m), ErrUnpublished)
	}
	_, err = c.ReadPublish()
	require.Equal(t, io.EOF, err)
}

func TestAnswersToOBS(t *testing.T) {
	s := newScript()
	s.publish(t)
	nc := &tape{Reader: bytes.NewReader(s.Bytes())}
	require.Equal(t, io.EOF, serve(nc, Options{}).err)
	r := chunk.NewReader(bytes.NewReader(nc.said.Bytes()[1+2*handshake.PacketSize:]), heap{})
	var names []string
	for {
		var m message.Message
		if err := r.ReadMessage(&m); err != nil {
			require.Equal(t, io.EOF, err)
			break
		}
		if m.Type != message.TypeCommand {
			continue
		}
		c, err := message.ParseCommand(&m)
		require.NoError(t, err)
		names = append(names, c.Name+" "+infoOf(c.Object, c.Args).Code)
		if c.Transaction == 1 {
			require.Equal(t, "FMS/3,0,1,123", amf.LookupString(c.Object, "fmsVer"))
			encoding, ok := amf.LookupNumber(c.Args[0], "objectEncoding")
			require.True(t, ok)
			require.Zero(t, encoding)
		}
	}
	require.Equal(t, []string{"_result NetConnection.Connect.Success", "_result ", "onFCPublish NetStream.Publish.Start", "_result ",
		"_result ", "onStatus NetStream.Publish.Start"}, names)
}

func TestAcknowledgements(t *testing.T) {
	s := newScript()
	s.message(t, 2, message.NewUint32(message.TypeWindowAckSize, 100_000))
	s.publish(t)
	for i := range 100 {
		s.message(t, 6, message.Message{Type: 9, StreamID: 1, Timestamp: uint32(i), Payload: make([]byte, 5_000)})
	}
	nc := &tape{Reader: bytes.NewReader(s.Bytes())}
	require.Equal(t, io.EOF, serve(nc, Options{}).err)
	r := chunk.NewReader(bytes.NewReader(nc.said.Bytes()[1+2*handshake.PacketSize:]), heap{})
	var acks []uint32
	for {
		var m message.Message
		if err := r.ReadMessage(&m); err != nil {
			break
		}
		if m.Type == message.TypeAcknowledgement {
			acks = append(acks, binary.BigEndian.Uint32(m.Payload))
		}
	}
	require.GreaterOrEqual(t, len(acks), 5)
	last := uint32(0)
	for _, a := range acks {
		require.LessOrEqual(t, a-last, uint32(100_000), "the peer never has to wait")
		last = a
	}
}

func FuzzSession(f *testing.F) {
	for _, tc := range sessions(f) {
		if len(tc.in) < 1<<16 {
			f.Add(tc.in[1+2*handshake.PacketSize:])
		}
	}
	hello := newScript().Bytes()
	f.Fuzz(func(t *testing.T, in []byte) {
		got := play(append(bytes.Clone(hello), in...))
		require.Error(t, got.err)
		for _, m := range got.messages {
			class := m.Type.Class()
			require.True(t, class == message.ClassMedia || class == message.ClassData)
		}
	})
}
