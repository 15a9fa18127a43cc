package chunk

import (
	"encoding/binary"
	"io"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/rtmp/message"
)

// maxHeader is the largest chunk header we write: 1 byte of basic header, 11
// of message header, 4 of extended timestamp.
const maxHeader = 16

// Writer takes messages apart into chunks. It gathers them in a buffer and
// writes when that is full and on Flush, so that small messages share one
// system call. It belongs to one goroutine.
type Writer struct {
	dst   io.Writer
	buf   []byte
	size  int // our chunk size
	sent  uint64
	state [64]written // by chunk stream id 2..63
}

// written is what the peer knows of one of our chunk streams.
type written struct {
	used      bool
	timestamp uint32
	field     uint32
	length    int
	typ       message.Type
	messageID uint32
}

// NewWriter makes a Writer to dst with a buffer of the given size in bytes.
func NewWriter(dst io.Writer, bufferSize int) *Writer {
	return &Writer{dst: dst, buf: make([]byte, 0, max(bufferSize, 4*maxHeader)), size: DefaultSize}
}

// Sent is how many bytes were handed to the destination.
func (w *Writer) Sent() uint64 { return w.sent }

// Buffered is how many bytes wait for Flush.
func (w *Writer) Buffered() int { return len(w.buf) }

// Prepend puts bytes in front of the next flush that are not chunks: the end
// of the handshake. It must be called before the first message.
func (w *Writer) Prepend(p []byte) error { return w.append(p) }

// SetSize tells the peer our chunk size (section 5.4.1) and uses it from then
// on. n is in bytes, 1 to MaxSize.
func (w *Writer) SetSize(n int) error {
	if n < 1 || n > MaxSize {
		return fault.New(fault.InternalError, "an RTMP chunk size of %d bytes is not within 1 to %d", n, MaxSize)
	}
	m := message.NewUint32(message.TypeSetChunkSize, uint32(n)) //nolint:gosec // checked above
	err := w.WriteMessage(StreamControl, &m)
	w.size = n
	return err
}

// WriteMessage appends m, as chunks of the chunk stream id (2 to 63), to the
// buffer. retains payload: no. Messages of one chunk stream should have
// timestamps that go up; others cost a full header.
func (w *Writer) WriteMessage(id int, m *message.Message) error {
	if id < 2 || id >= len(w.state) {
		return fault.New(fault.InternalError, "the RTMP chunk stream id %d is not within 2 to 63", id)
	}
	if len(m.Payload) >= 1<<24 {
		return fault.New(fault.LimitExceeded, "an RTMP message of %d bytes cannot be written", len(m.Payload))
	}
	long, err := w.writeHeader(id, m)
	if err != nil {
		return err
	}
	for rest := m.Payload; len(rest) > 0; {
		n := min(w.size, len(rest))
		if err := w.append(rest[:n]); err != nil {
			return err
		}
		if rest = rest[n:]; len(rest) == 0 {
			break
		}
		if err := w.continueMessage(id, long); err != nil {
			return err
		}
	}
	return nil
}

// writeHeader writes the shortest header that says what is new (section
// 5.3.1.2) and reports whether the timestamp is extended.
func (w *Writer) writeHeader(id int, m *message.Message) (bool, error) {
	last := &w.state[id]
	delta := m.Timestamp - last.timestamp
	format, field := fmtFull, m.Timestamp
	// A delta above half the circle is a step back, which only a full header says.
	if last.used && last.messageID == m.StreamID && delta < 1<<31 {
		field = delta
		switch {
		case last.length != len(m.Payload) || last.typ != m.Type:
			format = fmtSameID
		case last.field != delta:
			format = fmtDelta
		default:
			format = fmtSameDelta
		}
	}
	*last = written{used: true, timestamp: m.Timestamp, field: field, length: len(m.Payload), typ: m.Type, messageID: m.StreamID}
	if err := w.room(maxHeader); err != nil {
		return false, err
	}
	b := w.buf
	b = append(b, byte(format<<6|id))
	short := min(field, extended)
	if format <= fmtDelta {
		b = append(b, byte(short>>16), byte(short>>8), byte(short))
	}
	if format <= fmtSameID {
		n := len(m.Payload)
		b = append(b, byte(n>>16), byte(n>>8), byte(n), byte(m.Type))
	}
	if format == fmtFull {
		b = binary.LittleEndian.AppendUint32(b, m.StreamID)
	}
	if short == extended {
		b = binary.BigEndian.AppendUint32(b, field)
	}
	w.buf = b
	return short == extended, nil
}

// continueMessage writes the header of a further chunk of a message. An
// extended timestamp is repeated in it (section 5.3.1.3).
func (w *Writer) continueMessage(id int, long bool) error {
	if err := w.room(maxHeader); err != nil {
		return err
	}
	w.buf = append(w.buf, byte(fmtSameDelta<<6|id))
	if long {
		w.buf = binary.BigEndian.AppendUint32(w.buf, w.state[id].field)
	}
	return nil
}

// append copies p to the buffer and writes the buffer whenever it is full.
func (w *Writer) append(p []byte) error {
	for len(p) > 0 {
		if err := w.room(1); err != nil {
			return err
		}
		n := min(len(p), cap(w.buf)-len(w.buf))
		w.buf = append(w.buf, p[:n]...)
		p = p[n:]
	}
	return nil
}

// room makes place for n bytes.
func (w *Writer) room(n int) error {
	if cap(w.buf)-len(w.buf) >= n {
		return nil
	}
	return w.Flush()
}

// Flush writes what is in the buffer with one call. After an error the Writer
// cannot be used.
func (w *Writer) Flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	n, err := w.dst.Write(w.buf)
	w.sent += uint64(n) //nolint:gosec // never negative
	w.buf = w.buf[:0]
	return err
}
