package chunk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/rtmp/message"
)

// full, same and delta are message headers of type 0, 1 and 2; more is a chunk
// of type 3.
func full(id byte, stamp uint32, n int, typ message.Type, stream uint32) []byte {
	b := []byte{id, byte(stamp >> 16), byte(stamp >> 8), byte(stamp), byte(n >> 16), byte(n >> 8), byte(n), byte(typ)}
	return binary.LittleEndian.AppendUint32(b, stream)
}

func same(id byte, delta uint32, n int, typ message.Type) []byte {
	return []byte{0x40 | id, byte(delta >> 16), byte(delta >> 8), byte(delta), byte(n >> 16), byte(n >> 8), byte(n), byte(typ)}
}

func delta(id byte, d uint32) []byte { return []byte{0x80 | id, byte(d >> 16), byte(d >> 8), byte(d)} }

func more(id byte) []byte { return []byte{0xc0 | id} }

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func body(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func msg(typ message.Type, stamp, stream uint32, payload []byte) message.Message {
	return message.Message{Type: typ, Timestamp: stamp, StreamID: stream, Payload: payload}
}

// cases are streams of bytes and what is in them. They also seed the fuzz
// target.
var cases = []struct {
	name   string
	in     []byte
	want   []message.Message
	reason fault.Reason // of the error at the end; "" for the end of the stream
}{
	{name: "nothing"},
	{
		name: "section 5.3.2.1: audio with one header each, then none",
		in: join(full(3, 1000, 32, 8, 12345), body(32), delta(3, 20), body(32), more(3), body(32),
			more(3), body(32)),
		want: []message.Message{msg(8, 1000, 12345, body(32)), msg(8, 1020, 12345, body(32)),
			msg(8, 1040, 12345, body(32)), msg(8, 1060, 12345, body(32))},
	},
	{
		name: "section 5.3.2.2: a message of 307 bytes in three chunks",
		in:   join(full(4, 1000, 307, 9, 12346), body(307)[:128], more(4), body(307)[128:256], more(4), body(307)[256:]),
		want: []message.Message{msg(9, 1000, 12346, body(307))},
	},
	{
		name: "two chunk streams interleaved",
		in: join(full(4, 10, 200, 9, 1), body(200)[:128], full(5, 11, 130, 8, 1), body(130)[:128],
			more(4), body(200)[128:], more(5), body(130)[128:]),
		want: []message.Message{msg(9, 10, 1, body(200)), msg(8, 11, 1, body(130))},
	},
	{
		name: "length zero",
		in:   join(full(4, 5, 0, 9, 1), full(5, 6, 0, 18, 1), more(4), full(4, 7, 2, 9, 1), body(2)),
		want: []message.Message{msg(9, 5, 1, []byte{}), msg(18, 6, 1, []byte{}), msg(9, 10, 1, []byte{}), msg(9, 7, 1, body(2))},
	},
	{
		name: "extended timestamp, repeated in the chunks that follow",
		in: join(full(4, extended, 300, 9, 1), be32(0x01000000), body(300)[:128], more(4), be32(0x01000000),
			body(300)[128:256], more(4), be32(0x01000000), body(300)[256:], delta(4, 40), body(300)[:128],
			more(4), body(300)[128:256], more(4), body(300)[256:]),
		want: []message.Message{msg(9, 0x01000000, 1, body(300)), msg(9, 0x01000028, 1, body(300))},
	},
	{
		name: "extended timestamp of exactly 0xffffff",
		in:   join(full(4, extended, 130, 9, 1), be32(0xffffff), body(130)[:128], more(4), be32(0xffffff), body(130)[128:]),
		want: []message.Message{msg(9, 0xffffff, 1, body(130))},
	},
	{
		name: "extended timestamp, not repeated",
		in: join(full(4, extended, 300, 9, 1), be32(0x01000000), body(300)[:128], more(4), body(300)[128:256],
			more(4), body(300)[256:]),
		want: []message.Message{msg(9, 0x01000000, 1, body(300))},
	},
	{
		name: "extended timestamp, not repeated before the last two bytes of the stream",
		in:   join(full(4, extended, 130, 9, 1), be32(0x01000000), body(130)[:128], more(4), body(130)[128:]),
		want: []message.Message{msg(9, 0x01000000, 1, body(130))},
	},
	{
		name: "extended delta, with the absolute time in the chunks that follow",
		in: join(full(4, 10, 1, 9, 1), body(1), same(4, extended, 130, 9), be32(0x02000000), body(130)[:128],
			more(4), be32(0x0200000a), body(130)[128:]),
		want: []message.Message{msg(9, 10, 1, body(1)), msg(9, 0x0200000a, 1, body(130))},
	},
	{
		name: "extended timestamp in a new message of type 3",
		in:   join(full(4, extended, 2, 9, 1), be32(0x01000000), body(2), more(4), be32(0x01000000), body(2)),
		want: []message.Message{msg(9, 0x01000000, 1, body(2)), msg(9, 0x02000000, 1, body(2))},
	},
	{
		name: "timestamps wrap",
		in:   join(full(4, extended, 1, 9, 1), be32(0xfffffff0), body(1), delta(4, 0x20), body(1)),
		want: []message.Message{msg(9, 0xfffffff0, 1, body(1)), msg(9, 0x10, 1, body(1))},
	},
	{
		name: "chunk stream ids of two and three bytes",
		in: join([]byte{0, 6}, full(0, 1, 1, 9, 1)[1:], body(1), []byte{1, 6, 1}, full(0, 2, 1, 9, 1)[1:], body(1),
			[]byte{0xc0, 6}, body(1), []byte{0xc1, 6, 1}, body(1)),
		want: []message.Message{msg(9, 1, 1, body(1)), msg(9, 2, 1, body(1)), msg(9, 2, 1, body(1)), msg(9, 4, 1, body(1))},
	},
	{
		name: "a larger chunk size, then a smaller",
		in: join(full(2, 0, 4, 1, 0), be32(4096), full(4, 1, 4000, 9, 1), body(4000), full(2, 0, 4, 1, 0), be32(1),
			full(4, 2, 3, 9, 1), []byte{0}, more(4), []byte{1}, more(4), []byte{2}),
		want: []message.Message{msg(9, 1, 1, body(4000)), msg(9, 2, 1, body(3))},
	},
	{
		name: "abort drops what was begun",
		in: join(full(4, 1, 200, 9, 1), body(128), full(2, 0, 4, 2, 0), be32(4), full(4, 2, 2, 9, 1), body(2),
			full(2, 0, 4, 2, 0), be32(99)),
		want: []message.Message{msg(9, 2, 1, body(2))},
	},
	{
		name: "a new header drops what was begun",
		in:   join(full(4, 1, 200, 9, 1), body(128), full(4, 2, 2, 9, 1), body(2)),
		want: []message.Message{msg(9, 2, 1, body(2))},
	},
	{
		name: "a first chunk of type 1, as librtmp sends",
		in:   join(same(2, 0, 6, 4), body(6)),
		want: []message.Message{msg(4, 0, 0, body(6))},
	},
	{name: "a first chunk of type 2", in: delta(4, 1), reason: fault.ProtocolError},
	{name: "a first chunk of type 3", in: more(4), reason: fault.ProtocolError},
	{name: "a chunk size of 0", in: join(full(2, 0, 4, 1, 0), be32(0)), reason: fault.ProtocolError},
	{name: "a chunk size above the limit", in: join(full(2, 0, 4, 1, 0), be32(MaxSize+1)), reason: fault.ProtocolError},
	{name: "a chunk size without a size", in: join(full(2, 0, 2, 1, 0), body(2)), reason: fault.ProtocolError},
	{name: "a command above the limit", in: full(3, 0, MaxCommand+1, 20, 0), reason: fault.LimitExceeded},
	{name: "a frame above the limit", in: full(3, 0, MaxMedia+1, 9, 0), reason: fault.LimitExceeded},
	{name: "a control message above the limit", in: full(2, 0, MaxControl+1, 4, 0), reason: fault.LimitExceeded},
	{
		name:   "frames begun and never finished",
		in:     join(full(4, 0, MaxMedia, 9, 0), body(128), full(5, 0, MaxMedia, 9, 0)),
		reason: fault.LimitExceeded,
	},
}

func readAll(src io.Reader) ([]message.Message, error) {
	r := NewReader(src, new(media.Slab))
	var out []message.Message
	for {
		var m message.Message
		if err := r.ReadMessage(&m); err != nil {
			return out, err
		}
		m.Payload = append([]byte{}, m.Payload...)
		out = append(out, m)
	}
}

func TestReader(t *testing.T) {
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			for _, src := range []io.Reader{
				bytes.NewReader(tc.in), iotest.OneByteReader(bytes.NewReader(tc.in)), iotest.DataErrReader(bytes.NewReader(tc.in)),
			} {
				got, err := readAll(src)
				if tc.reason == "" {
					require.Equal(t, io.EOF, err)
				} else {
					require.Equal(t, tc.reason, fault.ReasonOf(err), err)
				}
				require.Equal(t, tc.want, got)
			}
		})
	}
}

func TestReaderTellsACutStream(t *testing.T) {
	for _, tc := range cases[1:5] {
		for n := 1; n < len(tc.in); n++ {
			got, err := readAll(bytes.NewReader(tc.in[:n]))
			require.Less(t, len(got), len(tc.want), "%s cut at %d", tc.name, n)
			if err != io.EOF { // between two chunks, which only their reader knows
				require.ErrorIs(t, err, io.ErrUnexpectedEOF, "%s cut at %d", tc.name, n)
			}
		}
	}
}

func TestReaderBoundsChunkStreams(t *testing.T) {
	var in []byte
	for id := byte(0); id <= MaxStreams; id++ {
		in = append(in, 0, id)
		in = append(in, full(0, 0, 0, 9, 1)[1:]...)
	}
	got, err := readAll(bytes.NewReader(in))
	require.Len(t, got, MaxStreams)
	require.Equal(t, fault.LimitExceeded, fault.ReasonOf(err))
}

// claims counts the memory that is asked for.
type claims struct{ calls, bytes int }

func (c *claims) Alloc(n int) []byte {
	c.calls++
	c.bytes += n
	return make([]byte, n)
}

// A header of 12 bytes must not buy megabytes, nor many of them many.
func TestMemoryFollowsTheBytesThatCame(t *testing.T) {
	var in []byte
	for range 1000 {
		in = append(in, join(full(4, 0, MaxMedia, 9, 1), body(128))...)
	}
	var c claims
	r := NewReader(bytes.NewReader(in), &c)
	var m message.Message
	require.Equal(t, fault.LimitExceeded, fault.ReasonOf(r.ReadMessage(&m)))
	require.EqualValues(t, MaxDropped+1, r.Dropped())
	require.LessOrEqual(t, c.bytes, (MaxDropped+1)*FirstAlloc)

	for size, calls := range map[int]int{FirstAlloc: 1, FirstAlloc + 1: 2, 3 * FirstAlloc: 3, MaxMedia: 6} {
		for _, chunkSize := range []int{128, 65536, MaxSize} {
			frame := msg(9, 0, 1, body(size))
			c = claims{}
			r = NewReader(bytes.NewReader(write(t, chunkSize, []message.Message{frame})), &c)
			require.NoError(t, r.ReadMessage(&m))
			require.True(t, bytes.Equal(frame.Payload, m.Payload))
			require.Equal(t, calls, c.calls, size)
			require.LessOrEqual(t, c.bytes, 2*size+FirstAlloc)
		}
	}
}

func TestReaderBudget(t *testing.T) {
	in := join(full(4, 0, 100, 9, 1), body(100), full(4, 0, 100, 9, 1), body(100), full(4, 0, 100, 9, 1), body(100))
	r := NewReader(bytes.NewReader(in), new(media.Slab))
	var m message.Message
	r.SetBudget(150)
	require.NoError(t, r.ReadMessage(&m))
	require.Equal(t, fault.LimitExceeded, fault.ReasonOf(r.ReadMessage(&m)))

	r = NewReader(bytes.NewReader(in), new(media.Slab))
	r.SetBudget(112)
	require.NoError(t, r.ReadMessage(&m))
	r.SetBudget(0)
	require.NoError(t, r.ReadMessage(&m))
	require.NoError(t, r.ReadMessage(&m))
	require.EqualValues(t, len(in), r.Received())
}

func TestReaderReportsASourceWithoutProgress(t *testing.T) {
	_, err := readAll(stuck{})
	require.ErrorIs(t, err, io.ErrNoProgress)
	broken := errors.New("broken")
	_, err = readAll(iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
}

type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

// write sends messages as one stream of bytes.
func write(t testing.TB, size int, ms []message.Message) []byte {
	var out bytes.Buffer
	w := NewWriter(&out, 512)
	require.NoError(t, w.SetSize(size))
	for i := range ms {
		require.NoError(t, w.WriteMessage(3+int(ms[i].Type)%8, &ms[i]))
	}
	require.NoError(t, w.Flush())
	require.EqualValues(t, out.Len(), w.Sent())
	return out.Bytes()
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a repeatable test
	types := []message.Type{8, 9, 18, 20}
	for round := range 200 {
		var ms []message.Message
		stamp := random.Uint32()
		for range 20 {
			switch random.IntN(4) {
			case 0:
				stamp += uint32(random.IntN(50))
			case 1:
				stamp += random.Uint32()
			case 2:
				stamp -= uint32(random.IntN(50))
			}
			ms = append(ms, msg(types[random.IntN(len(types))], stamp, uint32(random.IntN(3)/2), body(random.IntN(4)*random.IntN(300))))
		}
		got, err := readAll(bytes.NewReader(write(t, 1+random.IntN(300), ms)))
		require.Equal(t, io.EOF, err, round)
		require.Equal(t, ms, got, round)
	}
}

func TestWriterUsesTheShortestHeader(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out, 512)
	sizes := []int{}
	for _, m := range []message.Message{
		msg(9, 100, 1, body(10)), msg(9, 140, 1, body(11)), msg(9, 170, 1, body(11)), msg(9, 200, 1, body(11)), msg(9, 150, 1, body(11)),
	} {
		require.NoError(t, w.WriteMessage(4, &m))
		sizes = append(sizes, w.Buffered()-len(m.Payload))
		require.NoError(t, w.Flush())
	}
	require.Equal(t, []int{12, 8, 4, 1, 12}, sizes)
}

func TestWriterRefuses(t *testing.T) {
	w := NewWriter(io.Discard, 0)
	m := msg(9, 0, 0, nil)
	require.Error(t, w.WriteMessage(1, &m))
	require.Error(t, w.WriteMessage(64, &m))
	require.Error(t, w.SetSize(0))
	m.Payload = make([]byte, 1<<24)
	require.Error(t, w.WriteMessage(4, &m))
}

func FuzzReader(f *testing.F) {
	for _, tc := range cases {
		f.Add(tc.in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		got, err := readAll(bytes.NewReader(in))
		require.Error(t, err)
		if len(got) > 100 {
			return
		}
		again, err := readAll(iotest.OneByteReader(bytes.NewReader(in)))
		require.Error(t, err)
		require.Equal(t, got, again, "the result must not depend on how the bytes arrive")
		for i := range got { // what Writer can say: no message may steer
			if got[i].Type.Class() == message.ClassControl {
				return
			}
		}
		back, err := readAll(bytes.NewReader(write(t, 64, got)))
		require.Equal(t, io.EOF, err)
		require.Equal(t, got, back)
	})
}
