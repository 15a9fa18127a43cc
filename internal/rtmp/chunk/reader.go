package chunk

import (
	"encoding/binary"
	"io"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/rtmp/message"
)

// Allocator gives the memory that bodies of media and data messages are read
// into. The memory is never given back: it becomes the packet's payload.
// media.Slab is one.
type Allocator interface{ Alloc(n int) []byte }

// Reader puts messages together from the chunks of a byte stream. It belongs
// to one goroutine.
type Reader struct {
	buf   buffer
	alloc Allocator
	size  int // the peer's chunk size

	budget  uint64 // bytes that may be read; 0: without bound
	read    uint64 // bytes parsed, for the budget
	pending int    // bytes claimed by unfinished messages
	dropped uint64

	low   [64]*stream // by chunk stream id 2..63
	high  []*stream   // the others
	count int
}

// stream is the state of one chunk stream.
type stream struct {
	id        uint32
	timestamp uint32 // of the last message
	field     uint32 // the last timestamp or delta of the wire, extended or not
	extended  bool   // the last full header had an extended timestamp
	length    int
	typ       message.Type
	messageID uint32
	known     bool // a header with a length was seen

	open    bool   // a message is unfinished
	body    []byte // its body, as far as there is memory for it
	got     int
	scratch []byte // reused for bodies that are read and forgotten
}

// NewReader makes a Reader of src that takes memory for media and data from
// alloc.
func NewReader(src io.Reader, alloc Allocator) *Reader {
	return &Reader{buf: buffer{src: src, b: make([]byte, ReadBuffer)}, alloc: alloc, size: DefaultSize}
}

// Received is how many bytes were taken from the source, for acknowledgements
// (section 5.4.3) and statistics.
func (r *Reader) Received() uint64 { return r.buf.received }

// Buffered reports whether bytes are waiting in the buffer, so that a session
// can hold small writes back while it still has something to read.
func (r *Reader) Buffered() bool { return r.buf.buffered() > 0 }

// Dropped counts messages that their sender began and never finished.
func (r *Reader) Dropped() uint64 { return r.dropped }

// SetBudget bounds how many further bytes may be parsed before ReadMessage
// fails with LIMIT_EXCEEDED. 0 lifts the bound.
func (r *Reader) SetBudget(n int) {
	r.budget, r.read = uint64(max(n, 0)), 0 //nolint:gosec // not negative
}

// ReadFull reads len(p) bytes that stand before the first chunk: the
// handshake, which shares the buffer.
func (r *Reader) ReadFull(p []byte) error { return r.buf.readFull(p) }

// ReadMessage puts the next message into m. The payload of media and data
// messages is the caller's to keep (it comes from the Allocator); that of all
// others is valid until the next call. The end of the stream between two
// chunks is io.EOF, within one io.ErrUnexpectedEOF; what the peer did wrong is
// a *fault.Error, after which the Reader cannot be used.
func (r *Reader) ReadMessage(m *message.Message) error {
	for {
		s, err := r.readHeader()
		if err != nil {
			return err
		}
		if err := r.readBody(s); err != nil {
			return err
		}
		if s.got < s.length {
			continue // another chunk stream's turn
		}
		r.finish(s, m)
		if handled, err := r.steer(m); err != nil {
			return err
		} else if !handled {
			return nil
		}
	}
}

// readHeader reads one chunk header and opens a message when it begins one.
func (r *Reader) readHeader() (*stream, error) {
	if err := r.buf.need(1); err != nil {
		return nil, err
	}
	format, id, n, err := r.readID()
	if err != nil {
		return nil, err
	}
	s, err := r.stream(id)
	if err != nil {
		return nil, err
	}
	if !s.known && format > fmtSameID {
		return nil, fault.New(fault.ProtocolError, "the first RTMP chunk of chunk stream %d has no length", id)
	}
	if err := r.spend(n + headerSize[format]); err != nil {
		return nil, err
	}
	if format == fmtSameDelta {
		return s, r.continueOrRepeat(s)
	}
	return s, r.readMessageHeader(s, format)
}

// readID reads the basic header (section 5.3.1.1): 1 to 3 bytes.
func (r *Reader) readID() (format int, id uint32, n int, err error) {
	first := r.buf.b[r.buf.r]
	format, id, n = int(first>>6), uint32(first&0x3f), 1
	if id < 2 {
		n += int(id) + 1
		if err := r.buf.need(n); err != nil {
			return 0, 0, 0, midway(err)
		}
		b := r.buf.b[r.buf.r:]
		if id = 64 + uint32(b[1]); n == 3 {
			id += uint32(b[2]) << 8
		}
	}
	r.buf.r += n
	return format, id, n, nil
}

// stream finds or makes the state of a chunk stream.
func (r *Reader) stream(id uint32) (*stream, error) {
	if id < uint32(len(r.low)) {
		if s := r.low[id]; s != nil {
			return s, nil
		}
	} else {
		for _, s := range r.high {
			if s.id == id {
				return s, nil
			}
		}
	}
	if r.count++; r.count > MaxStreams {
		return nil, fault.New(fault.LimitExceeded, "the RTMP peer uses more than %d chunk streams", MaxStreams)
	}
	s := &stream{id: id}
	if id < uint32(len(r.low)) {
		r.low[id] = s
	} else {
		r.high = append(r.high, s)
	}
	return s, nil
}

// readMessageHeader reads a header of type 0, 1 or 2 (section 5.3.1.2) and
// opens a message.
func (r *Reader) readMessageHeader(s *stream, format int) error {
	if s.open { // its sender gave it up without saying so
		if err := r.drop(s); err != nil {
			return err
		}
	}
	n := headerSize[format]
	if err := r.buf.need(n); err != nil {
		return midway(err)
	}
	b := r.buf.b[r.buf.r : r.buf.r+n]
	r.buf.r += n
	s.field = uint24(b)
	if format <= fmtSameID {
		s.length, s.typ, s.known = int(uint24(b[3:])), message.Type(b[6]), true
	}
	if format == fmtFull {
		s.messageID = binary.LittleEndian.Uint32(b[7:])
	}
	if s.extended = s.field == extended; s.extended {
		if err := r.buf.need(4); err != nil {
			return midway(err)
		}
		s.field = binary.BigEndian.Uint32(r.buf.b[r.buf.r:])
		r.buf.r += 4
	}
	if format == fmtFull {
		s.timestamp = s.field
	} else {
		s.timestamp += s.field // modulo 2^32, as the wire counts
	}
	return r.open(s)
}

// continueOrRepeat handles a chunk of type 3: more of the open message, or a
// new one with the header of the last. Where the last full header had an
// extended timestamp it is repeated here. Some senders do not repeat it, so
// the 4 bytes count as a timestamp only when they are the one expected; that
// media looks like it by chance is one in 2^32.
func (r *Reader) continueOrRepeat(s *stream) error {
	if s.extended && (s.length > s.got || !s.open) {
		if err := r.skipExtended(s); err != nil {
			return err
		}
	}
	if s.open {
		return nil
	}
	s.timestamp += s.field
	return r.open(s)
}

func (r *Reader) skipExtended(s *stream) error {
	left := s.length
	if s.open {
		left -= s.got
	}
	if err := r.buf.need(4); err != nil {
		if left < 4 && r.buf.buffered() >= left {
			return nil // the last bytes of the stream are media
		}
		return midway(err)
	}
	if v := binary.BigEndian.Uint32(r.buf.b[r.buf.r:]); v == s.field || v == s.timestamp {
		r.buf.r += 4
	}
	return nil
}

// open begins a message: checks its length against the limit of its class and
// gets the memory for it, or for its beginning.
func (r *Reader) open(s *stream) error {
	class := s.typ.Class()
	if limit := maxBody[class]; s.length > limit {
		return fault.New(fault.LimitExceeded, "an RTMP message of type %d has %d bytes; the limit is %d", s.typ, s.length, limit)
	}
	if r.budget > 0 && uint64(s.length) > r.budget-min(r.read, r.budget) { //nolint:gosec // not negative
		return r.overBudget()
	}
	if r.pending+s.length > MaxPending {
		return fault.New(fault.LimitExceeded, "the RTMP peer began messages of more than %d bytes without finishing them", MaxPending)
	}
	r.pending += s.length
	s.open, s.got = true, 0
	switch {
	case class == message.ClassMedia || class == message.ClassData:
		s.body = r.alloc.Alloc(min(s.length, FirstAlloc))
	case s.length <= cap(s.scratch):
		s.body = s.scratch[:s.length]
	default:
		s.scratch = make([]byte, s.length)
		s.body = s.scratch
	}
	return nil
}

// maxBody is the limit of a message body by class.
var maxBody = [...]int{
	message.ClassControl: MaxControl,
	message.ClassCommand: MaxCommand,
	message.ClassData:    MaxData,
	message.ClassMedia:   MaxMedia,
	message.ClassUnknown: MaxUnknown,
}

// readBody reads the rest of the chunk of the open message, and of the chunks
// that follow it as long as they plainly continue it.
func (r *Reader) readBody(s *stream) error {
	marker := byte(fmtSameDelta<<6) | byte(s.id) //nolint:gosec // used only for ids below 64
	plain := s.id < uint32(len(r.low)) && !s.extended
	for {
		n := min(r.size, s.length-s.got)
		if err := r.spend(n); err != nil {
			return err
		}
		for s.got+n > len(s.body) {
			part := len(s.body) - s.got
			if err := r.readInto(s, part); err != nil {
				return err
			}
			n -= part
			r.grow(s)
		}
		if err := r.readInto(s, n); err != nil {
			return err
		}
		if s.got == s.length || !plain || r.buf.buffered() == 0 || r.buf.b[r.buf.r] != marker {
			return nil
		}
		if err := r.spend(1); err != nil {
			return err
		}
		r.buf.r++
	}
}

// readInto reads n bytes of the body; there is memory for them.
func (r *Reader) readInto(s *stream, n int) error {
	to := s.body[s.got : s.got+n]
	if r.buf.buffered() >= n {
		r.buf.r += copy(to, r.buf.b[r.buf.r:])
	} else if err := r.buf.readFull(to); err != nil {
		return midway(err)
	}
	s.got += n
	return nil
}

// grow doubles the memory of a large body whose beginning has come.
func (r *Reader) grow(s *stream) {
	body := r.alloc.Alloc(min(2*len(s.body), s.length))
	copy(body, s.body)
	s.body = body
}

// finish hands the complete message over.
func (r *Reader) finish(s *stream, m *message.Message) {
	*m = message.Message{Type: s.typ, StreamID: s.messageID, Timestamp: s.timestamp, Payload: s.body}
	r.pending -= s.length
	s.open, s.body, s.got = false, nil, 0
}

// drop forgets the unfinished message of a chunk stream.
func (r *Reader) drop(s *stream) error {
	r.pending -= s.length
	s.open, s.body, s.got = false, nil, 0
	if r.dropped++; r.dropped > MaxDropped {
		return fault.New(fault.LimitExceeded, "the RTMP peer began more than %d messages without finishing them", MaxDropped)
	}
	return nil
}

// steer obeys the two messages that change how chunks are read.
func (r *Reader) steer(m *message.Message) (bool, error) {
	if m.Type != message.TypeSetChunkSize && m.Type != message.TypeAbort {
		return false, nil
	}
	v, err := message.Uint32(m)
	if err != nil {
		return true, err
	}
	if m.Type == message.TypeAbort {
		if s := r.find(v); s != nil && s.open {
			return true, r.drop(s)
		}
		return true, nil
	}
	if v == 0 || v > MaxSize { // the first bit must be 0 (section 5.4.1)
		return true, fault.New(fault.ProtocolError, "the RTMP peer set a chunk size of %d bytes; 1 to %d are allowed", v, MaxSize)
	}
	r.size = int(v)
	return true, nil
}

func (r *Reader) find(id uint32) *stream {
	if id < uint32(len(r.low)) {
		return r.low[id]
	}
	for _, s := range r.high {
		if s.id == id {
			return s
		}
	}
	return nil
}

// spend counts n parsed bytes against the budget.
func (r *Reader) spend(n int) error {
	if r.budget == 0 {
		return nil
	}
	if r.read += uint64(n); r.read > r.budget { //nolint:gosec // not negative
		return r.overBudget()
	}
	return nil
}

func (r *Reader) overBudget() error {
	return fault.New(fault.LimitExceeded, "the RTMP peer sent more than %d bytes before it was let in", r.budget)
}

func uint24(b []byte) uint32 { return uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]) }
