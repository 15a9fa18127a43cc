// Package message gives RTMP messages their meaning: the types of Adobe's
// "RTMP 1.0" section 5.4 and 7, protocol control, commands, data and
// aggregates. It frames nothing and reads no socket; package chunk does.
//
// Message is the type to read first.
package message

// Type is the RTMP message type id.
type Type uint8

// The message types of RTMP 1.0 sections 5.4 and 7.1. The shared object types
// (16 and 19) are left out: no encoder sends them and they are ignored.
const (
	TypeSetChunkSize     Type = 1
	TypeAbort            Type = 2
	TypeAcknowledgement  Type = 3
	TypeUserControl      Type = 4
	TypeWindowAckSize    Type = 5
	TypeSetPeerBandwidth Type = 6
	TypeAudio            Type = 8
	TypeVideo            Type = 9
	TypeDataAMF3         Type = 15
	TypeCommandAMF3      Type = 17
	TypeData             Type = 18
	TypeCommand          Type = 20
	TypeAggregate        Type = 22
)

// Class says how large a message may be and who keeps its bytes.
type Class uint8

// The classes of message types.
const (
	// ClassControl: a few bytes that steer the connection.
	ClassControl Class = iota
	// ClassCommand: AMF values, read and forgotten.
	ClassCommand
	// ClassData: AMF values that travel on as a data packet.
	ClassData
	// ClassMedia: audio, video and aggregates; their bytes become packets.
	ClassMedia
	// ClassUnknown: types without meaning here; skipped.
	ClassUnknown
)

// Class is the class of the type.
func (t Type) Class() Class {
	switch t {
	case TypeSetChunkSize, TypeAbort, TypeAcknowledgement, TypeUserControl, TypeWindowAckSize, TypeSetPeerBandwidth:
		return ClassControl
	case TypeCommand, TypeCommandAMF3:
		return ClassCommand
	case TypeData, TypeDataAMF3:
		return ClassData
	case TypeAudio, TypeVideo, TypeAggregate:
		return ClassMedia
	}
	return ClassUnknown
}

// Message is one RTMP message as the chunk layer carries it.
type Message struct {
	Type Type
	// StreamID is the message stream id: 0 for the connection itself, else what
	// createStream returned.
	StreamID uint32
	// Timestamp in milliseconds modulo 2^32.
	Timestamp uint32
	// Payload is the body. Who owns it is said where the message is handed over.
	Payload []byte
}
