package message

import "github.com/klive-media/klive/internal/fault"

// flvTagHeader is the size of an FLV tag header, which is what stands before
// each sub-message of an aggregate (FLV 10.1 annex E.4.1); flvBackPointer the
// size of what stands behind it.
const (
	flvTagHeader   = 11
	flvBackPointer = 4
)

// Aggregate walks the sub-messages of a message of type 22 (RTMP 1.0 section
// 7.1.6). The zero value is an empty aggregate.
type Aggregate struct {
	rest     []byte
	streamID uint32
	base     uint32 // the aggregate's own timestamp
	offset   uint32 // the first sub-message's timestamp
	started  bool
}

// NewAggregate makes a walk over m. retains payload: yes; the sub-messages are
// views of it.
func NewAggregate(m *Message) Aggregate {
	return Aggregate{rest: m.Payload, streamID: m.StreamID, base: m.Timestamp}
}

// Next puts the next sub-message into m. It returns false at the end. The
// sub-message has the aggregate's stream id, and its timestamp is moved by the
// difference between the aggregate's timestamp and the first sub-message's. An
// aggregate within an aggregate is an error: it would be recursion.
func (a *Aggregate) Next(m *Message) (bool, error) {
	if len(a.rest) == 0 {
		return false, nil
	}
	b := a.rest
	if len(b) < flvTagHeader {
		return false, fault.New(fault.ProtocolError, "an RTMP aggregate ends inside a tag header")
	}
	size := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
	stamp := uint32(b[7])<<24 | uint32(b[4])<<16 | uint32(b[5])<<8 | uint32(b[6])
	typ := Type(b[0])
	b = b[flvTagHeader:]
	if size > len(b) {
		return false, fault.New(fault.ProtocolError, "an RTMP aggregate holds a message of %d bytes where %d are left", size, len(b))
	}
	if typ == TypeAggregate {
		return false, fault.New(fault.ProtocolError, "an RTMP aggregate holds another aggregate")
	}
	if !a.started {
		a.started, a.offset = true, stamp
	}
	*m = Message{Type: typ, StreamID: a.streamID, Timestamp: a.base + (stamp - a.offset), Payload: b[:size:size]}
	// Some senders leave the back pointer of the last tag out.
	a.rest = b[min(size+flvBackPointer, len(b)):]
	return true, nil
}

// AppendSubMessage appends m to the body of an aggregate.
func AppendSubMessage(b []byte, m *Message) []byte {
	n, t := len(m.Payload), m.Timestamp
	b = append(b, byte(m.Type), byte(n>>16), byte(n>>8), byte(n),
		byte(t>>16), byte(t>>8), byte(t), byte(t>>24), 0, 0, 0)
	b = append(b, m.Payload...)
	back := n + flvTagHeader
	return append(b, byte(back>>24), byte(back>>16), byte(back>>8), byte(back))
}
