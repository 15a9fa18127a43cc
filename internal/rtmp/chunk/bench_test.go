package chunk

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/rtmp/message"
)

// gop is 2 s of 2.7 Mbit/s at 30 frames/s with AAC between, as chunks.
func gop(t testing.TB, size int) []byte {
	var ms []message.Message
	for i := range 60 {
		n := 9_500
		if i == 0 {
			n = 60_000
		}
		stamp := uint32(i * 33) //nolint:gosec // small
		ms = append(ms, msg(9, stamp, 1, body(n)), msg(8, stamp, 1, body(340)), msg(8, stamp+16, 1, body(345)))
	}
	return write(t, size, ms)
}

// loop repeats its bytes for ever, a segment at a time as a socket does.
type loop struct {
	b   []byte
	off int
}

func (l *loop) Read(p []byte) (int, error) {
	n := copy(p[:min(len(p), 16<<10)], l.b[l.off:])
	if l.off += n; l.off == len(l.b) {
		l.off = 0
	}
	return n, nil
}

func TestReadingAllocatesOnlyPayloads(t *testing.T) {
	for _, size := range []int{128, 4096} {
		r := NewReader(&loop{b: gop(t, size)}, &reuse{b: make([]byte, MaxMedia)})
		var m message.Message
		for range 200 {
			require.NoError(t, r.ReadMessage(&m))
		}
		require.Zero(t, testing.AllocsPerRun(2000, func() {
			if err := r.ReadMessage(&m); err != nil {
				t.Fatal(err)
			}
		}))
	}
}

func TestWritingAllocatesNothing(t *testing.T) {
	w := NewWriter(io.Discard, 16<<10)
	m := msg(9, 0, 1, body(9_500))
	require.Zero(t, testing.AllocsPerRun(500, func() {
		m.Timestamp += 33
		if err := w.WriteMessage(StreamVideo, &m); err != nil {
			t.Fatal(err)
		}
	}))
}

// reuse gives the same memory again and again: it shows what the reader itself
// allocates.
type reuse struct{ b []byte }

func (r *reuse) Alloc(n int) []byte { return r.b[:n] }

func BenchmarkReadChunks(b *testing.B) {
	for _, size := range []int{128, 4096, 65536} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			in := gop(b, size)
			r := NewReader(&loop{b: in}, new(media.Slab))
			var m message.Message
			b.SetBytes(int64(len(in) / 180))
			b.ReportAllocs()
			for b.Loop() {
				if err := r.ReadMessage(&m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	// What reading the same bytes costs without looking at them.
	b.Run("sink", func(b *testing.B) {
		in := gop(b, 4096)
		src, buf := &loop{b: in}, make([]byte, ReadBuffer)
		b.SetBytes(16 << 10)
		for b.Loop() {
			if _, err := src.Read(buf); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkWriteChunks(b *testing.B) {
	for _, size := range []int{128, 4096} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w := NewWriter(new(bytes.Buffer), 16<<10)
			w.dst = io.Discard
			require.NoError(b, w.SetSize(size))
			m := msg(9, 0, 1, body(9_500))
			b.SetBytes(int64(len(m.Payload)))
			b.ReportAllocs()
			for b.Loop() {
				m.Timestamp += 33
				if err := w.WriteMessage(StreamVideo, &m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
