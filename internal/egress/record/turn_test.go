package record

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/stream"
)

// TestARecordingEndedAndBegunAtOnce is a producer who thinks again before the
// segment is over that the first recording waits for.
func TestARecordingEndedAndBegunAtOnce(t *testing.T) {
	goLive(t, Options{}, script{fps: 30, gop: 2 * time.Second, to: 40 * time.Second, rate: 48000}, func(l *live) {
		l.at(5 * time.Second)
		l.b.set(egress.RecordOff)
		l.at(6 * time.Second)
		l.b.set(egress.RecordAppended)
		l.at(30 * time.Second)
		list := l.rec.List("lobby")
		require.Len(t, list, 2)
		require.True(t, list[1].Finished())
		require.InDelta(t, 8*time.Second, list[0].Pieces[0].Offset, float64(50*time.Millisecond), "nothing is missing in between")
		require.GreaterOrEqual(t, list[0].Pieces[0].Duration, 16*time.Second)
		require.Empty(t, l.j.of(stream.MediaGap))
	})
}

// TestADiskThatIsFullAtTheEnd has room again a few seconds after the broadcast
// ended.
func TestADiskThatIsFullAtTheEnd(t *testing.T) {
	goLive(t, Options{SegmentDuration: time.Minute}, script{fps: 10, gop: 2 * time.Second, to: 30 * time.Second, rate: 48000}, func(l *live) {
		var full atomic.Bool
		l.disk(func(step string) error {
			if full.Load() && step == "written to work file" {
				return &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
			}
			return nil
		})
		l.at(20 * time.Second)
		full.Store(true)
		l.at(31 * time.Second)
		l.src.log.Close()
		time.Sleep(time.Second)
		l.cut.End()
		l.leave(egress.ErrEnded)
		time.Sleep(5 * time.Second)
		full.Store(false)
		<-l.done
		p := l.only().Pieces
		require.Len(t, p, 1)
		require.True(t, p[0].Finished && p[0].Last)
		require.InDelta(t, 30*time.Second, p[0].Duration, float64(100*time.Millisecond))
	})
}

// TestAPieceThatCannotBeFinishedHoldsNoOther loses a work file.
func TestAPieceThatCannotBeFinishedHoldsNoOther(t *testing.T) {
	goLive(t, Options{}, script{fps: 10, gop: 2 * time.Second, to: 70 * time.Second, rate: 48000}, func(l *live) {
		l.at(10 * time.Second)
		require.NoError(t, os.Remove(l.only().Pieces[0].File))
		l.at(69 * time.Second)
		list := l.only().Pieces
		require.Len(t, list, 4)
		require.False(t, list[0].Finished)
		require.True(t, list[1].Finished)
	})
}

// TestAPieceThatCannotBeReadIsNotWrittenOver goes on after a restart that could
// not read what is there.
func TestAPieceThatCannotBeReadIsNotWrittenOver(t *testing.T) {
	s := openStudio(t, t.TempDir(), Options{})
	s.onAir("b1", false)
	s.play(script{fps: 30, gop: 2 * time.Second, to: 30 * time.Second, rate: 48000})
	s.record(egress.ErrLeaving)
	for _, p := range s.only().Pieces {
		require.NoError(t, os.Remove(p.File))
	}
	damaged := s.only().Pieces[0].File
	damaged = damaged[:len(damaged)-len(filepath.Ext(damaged))] + extPiece
	require.NoError(t, os.WriteFile(damaged, []byte("not what it was"), 0o600))

	s.openRecorder(Options{})
	s.play(script{fps: 30, gop: 2 * time.Second, from: 30 * time.Second, to: 60 * time.Second, rate: 48000})
	s.record(egress.ErrEnded)
	require.Equal(t, 2, s.only().Pieces[0].Number)
	kept, err := os.ReadFile(damaged)
	require.NoError(t, err)
	require.Equal(t, "not what it was", string(kept))
}
