// Package chunk is the RTMP chunk stream (RTMP 1.0 section 5.3): it takes
// messages apart into chunks and puts them together again.
//
// Reader and Writer are the types to read first. Both handle Set Chunk Size
// themselves, as it changes what the next byte means; everything else is the
// session's.
package chunk

// DefaultSize is the chunk size in force until a Set Chunk Size (section
// 5.4.1), in bytes.
const DefaultSize = 128

// Limits of the chunk layer. None of them is met by an encoder.
const (
	// MaxSize is the largest chunk size a peer may set. The protocol allows
	// 2^24-1; larger than a message is without use.
	MaxSize = 1<<24 - 1
	// MaxStreams is how many chunk streams a peer may use. The protocol allows
	// 65597, encoders use 5; each costs some 100 bytes here.
	MaxStreams = 64
	// MaxControl is the largest body of a protocol control message.
	MaxControl = 256
	// MaxCommand is the largest body of a command message.
	MaxCommand = 256 << 10
	// MaxData is the largest body of a data message.
	MaxData = 256 << 10
	// MaxMedia is the largest body of an audio, video or aggregate message. A
	// key frame of 50 Mbit/s video has some 2 MB.
	MaxMedia = 8 << 20
	// FirstAlloc is how much of a body is allocated when a header claims it. The
	// rest is when the bytes have come, so that memory costs its sender bytes.
	// Larger than nearly every frame, which is then never copied.
	FirstAlloc = 256 << 10
	// MaxDropped is how many messages a peer may begin and never finish.
	MaxDropped = 32
	// MaxUnknown is the largest body of a message of unknown type; it is skipped.
	MaxUnknown = 64 << 10
	// MaxPending is how many bytes the unfinished messages of one connection
	// may claim together.
	MaxPending = 12 << 20
)

// The chunk stream ids we write on (section 5.3.1.1; 2 is reserved for
// protocol control). Peers may use any.
const (
	StreamControl = 2
	StreamCommand = 3
	StreamAudio   = 4
	StreamData    = 5
	StreamVideo   = 6
)

// extended in the 24-bit timestamp field says that 32 bits follow the header
// (section 5.3.1.3).
const extended = 0xFFFFFF

// The chunk types (section 5.3.1.2).
const (
	fmtFull      = 0 // timestamp, length, type, stream id
	fmtSameID    = 1 // timestamp delta, length, type
	fmtDelta     = 2 // timestamp delta
	fmtSameDelta = 3 // nothing
)

// headerSize is the size of the message header by chunk type.
var headerSize = [4]int{11, 7, 3, 0}
