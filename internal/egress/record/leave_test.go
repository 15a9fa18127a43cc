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

// TestTheServerStopsWhenABroadcastHasJustEnded does not wait for its pieces,
// nor for a disk that refuses its end; the next run does both.
func TestTheServerStopsWhenABroadcastHasJustEnded(t *testing.T) {
	for name, refused := range map[string]string{"pieces": "piece to be written", "its end": "written to work file"} {
		t.Run(name, func(t *testing.T) {
			goLive(t, Options{SegmentDuration: time.Minute}, script{fps: 10, gop: 2 * time.Second, to: 30 * time.Second, rate: 48000}, func(l *live) {
				l.at(20 * time.Second)
				l.disk(func(step string) error {
					if step == refused {
						return &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
					}
					return nil
				})
				l.at(31 * time.Second)
				l.src.log.Close()
				time.Sleep(time.Second)
				l.cut.End()
				l.leave(egress.ErrEnded)
				time.Sleep(time.Second)
				began := time.Now()
				l.rec.Leave()
				<-l.done
				require.Zero(t, time.Since(began))
				require.FileExists(t, l.only().Pieces[0].File)
				require.False(t, l.only().Pieces[0].Finished)

				l.openRecorder(Options{SegmentDuration: time.Minute})
				require.NoError(t, l.g.Go("serve again", l.rec.Serve))
				time.Sleep(2 * tendEvery)
				r := l.only()
				require.True(t, r.Finished())
				require.InDelta(t, 30*time.Second, r.Pieces[0].Duration, float64(100*time.Millisecond))
				require.Empty(t, l.j.of(stream.MediaGap))
			})
		})
	}
}

// TestWhatIsOnAirIsCopiedWhileTheServerLeaves also when a recording is to
// begin in that moment.
func TestWhatIsOnAirIsCopiedWhileTheServerLeaves(t *testing.T) {
	goLive(t, Options{}, script{fps: 10, gop: 2 * time.Second, to: 30 * time.Second, rate: 48000}, func(l *live) {
		l.at(10 * time.Second)
		l.rec.Leave()
		l.at(19 * time.Second)
		require.GreaterOrEqual(t, l.only().Pieces[0].Duration, 14*time.Second)
		l.b.set(egress.RecordOff)
		l.at(22 * time.Second)
		l.b.set(egress.RecordAppended)
		l.at(26 * time.Second)
		require.Len(t, l.rec.List(""), 1)
		l.leave(egress.ErrLeaving)
		<-l.done
		require.Empty(t, l.j.of(stream.RecordingFailed))
	})
}

// TestAnEndThatCannotBeCopiedIsAGap as a disk stays full when the broadcast
// ends.
func TestAnEndThatCannotBeCopiedIsAGap(t *testing.T) {
	goLive(t, Options{SegmentDuration: time.Minute}, script{fps: 10, gop: 2 * time.Second, to: 30 * time.Second, rate: 48000}, func(l *live) {
		var full atomic.Bool
		l.disk(func(step string) error {
			if full.Load() && step == "written to work file" {
				return &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
			}
			return nil
		})
		l.at(18 * time.Second)
		full.Store(true)
		l.at(31 * time.Second)
		l.src.log.Close()
		time.Sleep(time.Second)
		l.cut.End()
		l.leave(egress.ErrEnded)
		<-l.done
		r := l.only()
		require.True(t, r.Finished())
		for _, c := range l.rec.all {
			require.Len(t, c.gaps, 1)
			require.InDelta(t, 16*time.Second, c.gaps[0].At, float64(50*time.Millisecond))
			require.InDelta(t, 14*time.Second, c.gaps[0].Duration, float64(150*time.Millisecond))
		}
		require.Len(t, l.j.of(stream.MediaGap), 1)
	})
}

// TestARestartBeforeTheFirstSegmentOfARecording that was begun in the middle
// does not record what was shown before; one begun with the broadcast is whole.
func TestARestartBeforeTheFirstSegmentOfARecording(t *testing.T) {
	for name, x := range map[string]struct{ since, from time.Duration }{
		"in the middle":      {33 * time.Second, 28 * time.Second},
		"with the broadcast": {0, 0},
		"within 5 s":         {3 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := openStudio(t, t.TempDir(), Options{})
			s.onAir("b1", true)
			if x.since > 0 {
				s.b.info.RecordingSince = begun.Add(x.since)
			}
			s.play(script{fps: 30, gop: 2 * time.Second, to: 50 * time.Second, rate: 48000})
			s.cut.End()
			s.record(egress.ErrEnded)
			require.InDelta(t, x.from, s.only().Pieces[0].Offset, float64(50*time.Millisecond))
		})
	}
}

// TestRetentionMakesRoom for recordings that a full disk keeps from being
// ended.
func TestRetentionMakesRoom(t *testing.T) {
	var old string
	goLive(t, Options{Retention: time.Hour}, script{fps: 10, gop: 2 * time.Second, to: 30 * time.Second, rate: 48000}, func(l *live) {
		l.at(31 * time.Second)
		l.src.log.Close()
		time.Sleep(time.Second)
		l.leave(egress.ErrEnded)
		<-l.done
		old = filepath.Dir(l.only().Pieces[0].File)
		l.rec.Leave()
		again := &live{studio: &studio{t: t, dir: l.dir, st: l.st, j: &journal{}}}
		again.openRecorder(Options{Retention: time.Second})
		for i := range 3 { // orphans
			c := &recording{
				id: newID(), dir: filepath.Join(l.dir, "recordings", "lobby"), info: l.b.info, began: l.start.Add(time.Duration(i)),
				closing: l.start, renditions: map[string]*rendition{"1": {id: "1", pieces: []*piece{{number: 1, state: waiting}}}},
			}
			c.dir = filepath.Join(c.dir, c.id)
			require.NoError(t, os.MkdirAll(c.dir, 0o750))
			again.rec.all[c.id] = c
		}
		time.Sleep(2 * time.Second)
		began := time.Now()
		require.NoError(t, l.g.Go("serve again", again.rec.Serve))
		for {
			if _, err := os.Stat(old); err != nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		require.Less(t, time.Since(began), time.Second)
	})
}
