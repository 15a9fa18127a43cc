package message

import (
	"encoding/binary"

	"github.com/klive-media/klive/internal/fault"
)

// EventType is the kind of a user control message (RTMP 1.0 section 7.1.7).
type EventType uint16

// The user control events a publisher connection knows.
const (
	EventStreamBegin  EventType = 0
	EventStreamEOF    EventType = 1
	EventPingRequest  EventType = 6
	EventPingResponse EventType = 7
)

// LimitType is the last byte of Set Peer Bandwidth (section 5.4.5).
type LimitType uint8

// LimitDynamic lets the peer keep a smaller window.
const LimitDynamic LimitType = 2

// Uint32 reads the 4-byte body of Set Chunk Size, Abort, Acknowledgement and
// Window Acknowledgement Size, and the window of Set Peer Bandwidth.
func Uint32(m *Message) (uint32, error) {
	if len(m.Payload) < 4 {
		return 0, fault.New(fault.ProtocolError, "an RTMP control message of type %d has %d bytes where 4 are needed", m.Type, len(m.Payload))
	}
	return binary.BigEndian.Uint32(m.Payload), nil
}

// UserControl reads the event and its data. The data are a view of the
// payload. retains payload: yes, through the returned slice.
func UserControl(m *Message) (EventType, []byte, error) {
	if len(m.Payload) < 2 {
		return 0, nil, fault.New(fault.ProtocolError, "an RTMP user control message has %d bytes where 2 are needed", len(m.Payload))
	}
	return EventType(binary.BigEndian.Uint16(m.Payload)), m.Payload[2:], nil
}

// NewUint32 makes a control message with a 4-byte body.
func NewUint32(t Type, v uint32) Message {
	return Message{Type: t, Payload: binary.BigEndian.AppendUint32(nil, v)}
}

// NewSetPeerBandwidth makes a Set Peer Bandwidth message.
func NewSetPeerBandwidth(window uint32, limit LimitType) Message {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 5), window)
	return Message{Type: TypeSetPeerBandwidth, Payload: append(b, byte(limit))}
}

// NewUserControl makes a user control message with a 4-byte datum, which is
// what all of our events have.
func NewUserControl(e EventType, v uint32) Message {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 6), uint16(e))
	return Message{Type: TypeUserControl, Payload: binary.BigEndian.AppendUint32(b, v)}
}
