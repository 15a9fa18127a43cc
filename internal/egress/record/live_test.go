package record

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/pipeline"
	"github.com/klive-media/klive/internal/run"
	"github.com/klive-media/klive/internal/segment"
	"github.com/klive-media/klive/internal/stream"
)

// live is a studio in virtual time, with the store's usual window.
type live struct {
	*studio
	g     *run.Group
	start time.Time
	leave context.CancelCauseFunc
	done  chan struct{}
	src   *source
	fault atomic.Pointer[func(step string) error]
}

// disk lets steps on disk fail from now on.
func (l *live) disk(f func(step string) error) { l.fault.Store(&f) }

// goLive publishes x and records it in virtual time while f runs.
func goLive(t *testing.T, o Options, x script, f func(l *live)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st, err := segment.NewStore(segment.Options{Dir: filepath.Join(dir, "shelf")})
		require.NoError(t, err)
		l := &live{
			studio: &studio{t: t, dir: dir, st: st, j: &journal{}, sent: nil},
			g:      run.New(context.Background()), start: time.Now(), done: make(chan struct{}),
		}
		l.openRecorder(o)
		l.rec.step = func(step string) error {
			if f := l.fault.Load(); f != nil {
				return (*f)(step)
			}
			return nil
		}
		require.NoError(t, l.g.Go("store", st.Run))
		require.NoError(t, l.g.Go("serve", l.rec.Serve))
		l.onAirAt("b1", false, l.start)
		v, a := videoTrack(1), audioTrack(1, 48000)
		l.src = newSource(v, a)
		r := pipeline.Rendition{ID: "1", Source: l.src}
		l.b.list = append(l.b.list, r)
		packets := x.packets(v, a)
		go func() {
			for _, p := range packets {
				time.Sleep(time.Until(l.start.Add(p.DTS)))
				l.src.append(p)
			}
		}()
		cut := make(chan struct{})
		require.NoError(t, l.g.Go("cut", func(ctx context.Context) error {
			defer close(cut)
			return l.cut.Run(ctx, r)
		}))
		var ctx context.Context
		ctx, l.leave = context.WithCancelCause(context.Background())
		go func() {
			defer close(l.done)
			if err := l.rec.Run(ctx, l.b); err != nil && !errors.Is(err, context.Cause(ctx)) {
				t.Errorf("record: %v", err)
			}
		}()
		f(l)
		l.at(x.to + time.Second)
		l.src.log.Close()
		<-cut
		l.cut.End()
		l.leave(egress.ErrEnded)
		<-l.done
		require.NoError(t, l.g.Stop(context.Canceled))
	})
}

func (l *live) at(d time.Duration) { time.Sleep(time.Until(l.start.Add(d))); synctest.Wait() }

func TestSegmentsAreCopiedSoon(t *testing.T) {
	goLive(t, Options{}, script{fps: 30, gop: 2 * time.Second, to: 50 * time.Second, rate: 48000}, func(l *live) {
		require.Empty(t, l.rec.List(""))
		changed := l.rec.Changed()
		<-changed
		synctest.Wait()
		require.Less(t, time.Since(l.start), 5*time.Second)
		p := l.only().Pieces[0]
		require.False(t, p.Finished)
		require.Zero(t, p.Size)
		l.at(15 * time.Second)
		require.GreaterOrEqual(t, l.only().Pieces[0].Duration, 11*time.Second)
		require.FileExists(t, l.only().Pieces[0].File)
		require.Equal(t, 1, l.rec.Stats().Open)
		l.at(19 * time.Second)
		require.Len(t, l.only().Pieces, 1)
		l.at(25 * time.Second)
		r := l.only()
		require.Len(t, r.Pieces, 2, "the first piece is finished once the next has begun")
		require.True(t, r.Pieces[0].Finished)
		require.False(t, r.Pieces[0].Last || r.Pieces[1].Last || r.Finished())
		l.at(51 * time.Second)
	})
}

func TestSplit(t *testing.T) {
	goLive(t, Options{}, script{fps: 30, gop: 2 * time.Second, to: 30 * time.Second, rate: 48000}, func(l *live) {
		_, err := l.rec.Split(t.Context(), "lobby")
		require.ErrorContains(t, err, "NOT_RECORDING", "nothing was recorded yet")
		l.at(9 * time.Second) // in the segment from 8 s to 12 s
		n, err := l.rec.Split(t.Context(), "lobby")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		l.at(17500 * time.Millisecond)
		list := l.only().Pieces
		require.Len(t, list, 2)
		require.True(t, list[0].Finished)
		require.InDelta(t, 12*time.Second, list[0].Duration, float64(50*time.Millisecond))
		_, err = l.rec.Split(t.Context(), "another")
		require.ErrorContains(t, err, "NOT_RECORDING")
		l.at(29 * time.Second)
		require.Len(t, l.only().Pieces, 2, "only one was asked for")
	})
}

func TestAFullDisk(t *testing.T) {
	for name, x := range map[string]struct {
		full, free time.Duration
		gaps       int
	}{
		"for a moment":   {9 * time.Second, 20 * time.Second, 0}, // the shelf still has it
		"for long":       {9 * time.Second, 80 * time.Second, 1},
		"from the start": {0, 20 * time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			goLive(t, Options{SegmentDuration: time.Minute}, script{fps: 10, gop: 2 * time.Second, to: 100 * time.Second, rate: 48000}, func(l *live) {
				var full atomic.Bool
				l.disk(func(string) error {
					if full.Load() {
						return &os.PathError{Op: "write", Path: "/secret/place", Err: syscall.ENOSPC}
					}
					return nil
				})
				full.Store(x.full == 0)
				l.at(x.full)
				full.Store(true)
				l.at(x.free)
				require.Len(t, l.j.of(stream.RecordingFailed), 1+int((x.free-x.full)/tellEvery), "not an event each time it is tried")
				require.NotContains(t, l.j.of(stream.RecordingFailed)[0].Facts["error"], "secret")
				if x.full > 0 {
					require.Contains(t, l.only().Err, "no space left")
				}
				full.Store(false)
				l.at(99 * time.Second)
				require.EqualValues(t, x.gaps, l.rec.Stats().Gaps)
				require.Positive(t, l.rec.Stats().Errors)
			})
		})
	}
}

func TestAPieceThatCannotBeFinishedIsTriedAgain(t *testing.T) {
	goLive(t, Options{}, script{fps: 10, gop: 2 * time.Second, to: 50 * time.Second, rate: 48000}, func(l *live) {
		var full atomic.Bool
		full.Store(true)
		l.disk(func(s string) error {
			if full.Load() && s == "piece to be written" {
				return syscall.ENOSPC
			}
			return nil
		})
		l.at(45 * time.Second)
		list := l.only().Pieces
		require.Len(t, list, 3)
		require.False(t, list[0].Finished || list[1].Finished)
		require.Len(t, l.j.of(stream.RecordingFailed), 1)
		full.Store(false)
		l.at(50 * time.Second)
		list = l.only().Pieces
		require.True(t, list[0].Finished && list[1].Finished, "in order, once there is room")
	})
}

// TestServeFinishesWhatTheEndCouldNot lets the disk be full while the
// broadcast ends.
func TestServeFinishesWhatTheEndCouldNot(t *testing.T) {
	var l *live
	var full atomic.Bool
	goLive(t, Options{Retention: time.Hour, Held: func(_, _ string, number int) bool { return number == 1 && full.Load() }},
		script{fps: 10, gop: 2 * time.Second, to: 30 * time.Second, rate: 48000}, func(x *live) {
			l = x
			l.disk(func(s string) error {
				if full.Load() && s == "piece to be written" {
					return syscall.ENOSPC
				}
				return nil
			})
			l.at(15 * time.Second)
			full.Store(true)
			l.at(31 * time.Second)
			l.src.log.Close()
			l.leave(egress.ErrEnded)
			<-l.done
			r := l.only()
			require.True(t, r.End.IsZero())
			require.True(t, r.Pieces[1].Last)
			full.Store(false)
			time.Sleep(2 * tendEvery)
			synctest.Wait()
			r = l.only()
			require.False(t, r.End.IsZero())
			require.Len(t, l.j.of(stream.RecordingEnded), 1)
			require.Len(t, r.Pieces, 2)

			// Retention: not while a piece is held, and not before its time.
			full.Store(true) // the first piece is held
			time.Sleep(2 * time.Hour)
			synctest.Wait()
			require.Len(t, l.rec.List(""), 1)
			full.Store(false)
			time.Sleep(2 * tendEvery)
			synctest.Wait()
			require.Empty(t, l.rec.List(""))
			_, err := os.Stat(filepath.Dir(r.Pieces[0].File))
			require.ErrorIs(t, err, os.ErrNotExist)
		})
}

// TestARecordingBegunAndEndedInTheMiddle is a producer who turns recording on
// and off.
func TestARecordingBegunAndEndedInTheMiddle(t *testing.T) {
	goLive(t, Options{}, script{fps: 30, gop: 2 * time.Second, to: 60 * time.Second, rate: 48000}, func(l *live) {
		l.at(5 * time.Second)
		l.b.set(egress.RecordOff)
		l.at(9 * time.Second)
		first := l.only()
		require.True(t, first.Finished(), "at the end of the segment that was open")
		require.InDelta(t, 8*time.Second, first.Pieces[0].Duration, float64(50*time.Millisecond))
		require.True(t, first.Pieces[0].Last)
		l.at(22 * time.Second)
		l.b.set(egress.RecordPerSession)
		l.at(50 * time.Second)
		list := l.rec.List("lobby")
		require.Len(t, list, 2)
		second := list[0]
		require.Equal(t, egress.RecordPerSession, second.Mode)
		require.InDelta(t, 16*time.Second, second.Pieces[0].Offset, float64(50*time.Millisecond), "from the beginning of the segment that was open 5 s before")
		l.b.set(egress.RecordOff)
		l.at(54 * time.Second)
		l.b.set(egress.RecordAppended)
		l.at(60 * time.Second)
		list = l.rec.List("lobby")
		require.Len(t, list, 3)
		second = list[1]
		require.InDelta(t, second.Pieces[len(second.Pieces)-1].Offset+second.Pieces[len(second.Pieces)-1].Duration, list[0].Pieces[0].Offset,
			float64(70*time.Millisecond), "not back into what another recording has")
		require.Empty(t, l.j.of(stream.MediaGap))
	})
}
