package record

import (
	"context"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/egress"
)

// BenchmarkSegment is what it costs to record: to copy four seconds of picture
// at 4 Mbit/s and of sound, in 16 chunks each, to the work file; and their share
// of finishing the piece.
func BenchmarkSegment(b *testing.B) {
	s := openStudio(b, b.TempDir(), Options{SegmentDuration: time.Hour, Mark: marker})
	s.onAir("b1", false)
	const segments = 150
	s.play(script{fps: 30, gop: 4 * time.Second, to: segments * 4 * time.Second, rate: 48000, size: 16000})
	s.cut.End()
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(egress.ErrLeaving)
	b.Run("copy", func(b *testing.B) {
		b.ReportAllocs()
		used := processorTime()
		for b.Loop() {
			s.rec.all = make(map[string]*recording)
			if err := s.rec.Run(ctx, s.b); err != nil && ctx.Err() == nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64((processorTime()-used).Microseconds())/float64(b.N)/segments, "cpu-µs/segment")
	})
	var c *recording
	for _, c = range s.rec.all {
	}
	b.Run("finish", func(b *testing.B) {
		b.ReportAllocs()
		used := processorTime()
		for b.Loop() {
			m, _, _, err := assembleFile(c.path("1", 1, extWork), c)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := s.rec.writePiece(ctx0, m, c.path("1", 1, extNew), c.path("1", 1, extPiece), nil); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64((processorTime()-used).Microseconds())/float64(b.N)/segments, "cpu-µs/segment")
	})
	b.Run("look in vain", func(b *testing.B) {
		x := s.rec.newSession(s.b.Info(), c)
		x.whole = true
		x.resume()
		x.look(s.b, true)
		b.ReportAllocs()
		for b.Loop() {
			x.look(s.b, false)
		}
	})
}

// processorTime is what the process has used.
func processorTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var ctx0 = context.Background()

// TestMemoryDoesNotGrowWithThePiece copies a quarter of an hour and looks at the heap.
func TestMemoryDoesNotGrowWithThePiece(t *testing.T) {
	s := openStudio(t, t.TempDir(), Options{SegmentDuration: 10 * time.Hour})
	s.onAir("b1", false)
	s.play(script{fps: 10, gop: 2 * time.Second, to: 15 * time.Minute, rate: 16000})
	s.cut.End()
	x := s.rec.newSession(s.b.Info(), nil)
	x.whole = true
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	x.look(s.b, true)
	after := heap()
	require.Less(t, int64(after)-int64(before), int64(600<<10))
	require.InDelta(t, 15*time.Minute, s.only().Pieces[0].Duration, float64(time.Second))
	x.keep()
}
