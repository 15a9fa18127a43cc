package segment

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/pipeline"
	"github.com/klive-media/klive/internal/run"
)

// live is a store with publishers in virtual time.
type live struct {
	t     *testing.T
	st    *DiskStore
	w     *watcher
	g     *run.Group
	c     Cutter
	shelf *shelf
	begin time.Time
}

// goLive runs f in virtual time with a store that runs.
func goLive(t *testing.T, o Options, f func(l *live)) {
	o.Dir = t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st := openStore(t, o)
		l := &live{t: t, st: st, w: watch(t, st), g: run.New(context.Background())}
		require.NoError(t, l.g.Go("store", st.Run))
		l.onAir("b1")
		defer func() { require.NoError(t, l.g.Stop(context.Canceled)) }()
		f(l)
	})
}

func (l *live) onAir(id string) {
	l.begin = time.Now()
	var err error
	l.c, err = l.st.Begin(shelfOne, Broadcast{ID: id, Start: l.begin}, l.w.observe)
	require.NoError(l.t, err)
	l.shelf = l.st.shelf(shelfOne)
}

// publish starts the rendition with this index; its packets come at stream
// time from + their own. The log is left open.
func (l *live) publish(index int, s script, from time.Duration) (src *source, done chan struct{}) {
	s.rate, s.ms = 48000, true
	v, a := videoTrack(index), audioTrack(index, s.rate)
	src = newSource(v, a)
	s.start += from
	l.feed(src, s, v, a)
	done = make(chan struct{})
	require.NoError(l.t, l.g.Go("cut", func(ctx context.Context) error {
		defer close(done)
		return l.c.Run(ctx, pipeline.Rendition{ID: string(rune('0' + index)), Source: src})
	}))
	return src, done
}

// feed appends the script's packets at their times, in a goroutine.
func (l *live) feed(src *source, s script, v, a *media.Track) {
	packets := s.packets(v, a)
	go func() {
		for _, p := range packets {
			time.Sleep(time.Until(l.begin.Add(p.DTS)))
			src.append(p)
		}
	}()
}

func (l *live) at(d time.Duration) { time.Sleep(time.Until(l.begin.Add(d))); synctest.Wait() }

func (l *live) index(row RowID) *Index { return l.shelf.Index(row) }

func TestFirstPartComesSoon(t *testing.T) {
	for _, fps := range []float64{5, 25, 30, 60} {
		goLive(t, Options{}, func(l *live) {
			src, _ := l.publish(1, script{fps: fps, gop: 4 * time.Second, length: 2 * time.Second}, 0)
			list, changed := l.shelf.Renditions()
			require.Empty(t, list)
			<-changed
			t.Logf("%v fps: playable after %v", fps, time.Since(l.begin))
			require.LessOrEqual(t, time.Since(l.begin), 450*time.Millisecond)
			list, _ = l.shelf.Renditions()
			require.Len(t, list, 1)
			require.Len(t, list[0].Rows, 2, "picture and sound come together")
			require.Equal(t, 1, l.w.kinds(Playable))
			l.at(3 * time.Second)
			src.log.Close()
		})
	}
}

func TestChangedIsClosedOnceThereIsMore(t *testing.T) {
	goLive(t, Options{}, func(l *live) {
		src, done := l.publish(1, script{fps: 30, gop: 2 * time.Second, length: 3 * time.Second}, 0)
		l.at(time.Second)
		x := l.index(videoRow)
		next := x.Next
		changed := x.Changed()
		require.Equal(t, changed, x.Changed())
		select {
		case <-changed:
			t.Fatal("closed too early")
		default:
		}
		<-changed
		require.NotEqual(t, next, l.index(videoRow).Next)
		<-x.Changed() // outdated: closed
		c, err := l.shelf.Open(videoRow, next.Run, next.Segment, next.Part)
		require.NoError(t, err, "what the hint named is there")
		require.NotNil(t, c.Buffers)
		_, err = l.shelf.Open(videoRow, next.Run, next.Segment, -1)
		require.Error(t, err, "the segment is open")
		l.at(4 * time.Second)
		src.log.Close()
		<-done
		l.c.End()
		require.True(t, l.index(videoRow).Ended)
	})
}

func TestMemoryKeepsOnlyRecentParts(t *testing.T) {
	goLive(t, Options{}, func(l *live) {
		src, done := l.publish(1, script{fps: 30, gop: 2 * time.Second, length: 30 * time.Second}, 0)
		l.at(29 * time.Second)
		var bytes int64
		for _, r := range []RowID{videoRow, audioRow} {
			x := l.index(r)
			for i := range x.Closed {
				for n, p := range x.Closed[i].Parts {
					c, err := l.shelf.Open(r, x.Closed[i].Run, x.Closed[i].Number, n)
					require.NoError(t, err)
					require.Len(t, read(t, c), int(p.Size))
				}
			}
			rw := (*l.shelf.rows.Load())[r]
			l.shelf.mu.Lock()
			for i := range rw.live {
				bytes += rw.live[i].bytes
			}
			parts := len(rw.live)
			l.shelf.mu.Unlock()
			require.LessOrEqual(t, parts, 14)
		}
		require.Equal(t, bytes, l.st.Stats().MemoryBytes)
		l.at(31 * time.Second)
		src.log.Close()
		<-done
	})
}

func TestSecondRenditionIsInStep(t *testing.T) {
	goLive(t, Options{Window: time.Hour}, func(l *live) {
		one, d1 := l.publish(1, script{fps: 30, gop: 2 * time.Second, length: 30 * time.Second}, 0)
		l.at(10 * time.Second)
		two, d2 := l.publish(2, script{fps: 30, gop: 2 * time.Second, length: 20 * time.Second}, 10*time.Second)
		l.at(31 * time.Second)
		one.log.Close()
		two.log.Close()
		<-d1
		<-d2
		a, b := l.index(videoRow), l.index(RowID{"2", media.Video})
		require.Equal(t, uint64(2), b.Closed[0].Number)
		for i, s := range b.Closed {
			o := a.Closed[i+2]
			require.Equal(t, o.Number, s.Number)
			if i > 0 {
				require.Equal(t, o.Start, s.Start)
			}
		}
		list, _ := l.shelf.Renditions()
		require.Len(t, list, 2)
	})
}

func TestRenditionThatStopsStaysInStepAndReturns(t *testing.T) {
	goLive(t, Options{Window: time.Hour, ReconnectWindow: 20 * time.Second}, func(l *live) {
		one, d1 := l.publish(1, script{fps: 30, gop: 2 * time.Second, length: 80 * time.Second}, 0)
		two, d2 := l.publish(2, script{fps: 30, gop: 2 * time.Second, length: 11 * time.Second}, 0)
		l.at(14 * time.Second)
		row := RowID{"2", media.Video}
		require.Nil(t, l.index(row).Open, "what it had is closed")
		l.at(25 * time.Second)
		list, _ := l.shelf.Renditions()
		require.True(t, list[1].Listed)
		l.at(40 * time.Second)
		list, _ = l.shelf.Renditions()
		require.False(t, list[1].Listed)
		x := l.index(row)
		require.True(t, x.Closed[len(x.Closed)-1].Gap)

		l.feed(two, script{fps: 30, gop: 2 * time.Second, start: 50 * time.Second, length: 28 * time.Second, ms: true, rate: 48000,
			edit: flagFirst(media.Discontinuity, media.Video, media.Audio)}, two.tracks[0], two.tracks[1])
		l.at(51 * time.Second)
		list, _ = l.shelf.Renditions()
		require.True(t, list[1].Listed)
		l.at(81 * time.Second)
		one.log.Close()
		two.log.Close()
		<-d1
		<-d2
		for _, kind := range []media.Kind{media.Video, media.Audio} {
			a, b := l.index(RowID{"1", kind}), l.index(RowID{"2", kind})
			byNumber := map[uint64]Segment{}
			for _, s := range a.Closed {
				byNumber[s.Number] = s
			}
			gaps := 0
			for _, s := range b.Closed {
				o := byNumber[s.Number]
				t.Logf("%v %d: %v+%v disc %d gap %v | %v+%v disc %d", kind, s.Number, s.Start, s.Duration, s.Discontinuity, s.Gap, o.Start, o.Duration, o.Discontinuity)
				if s.Gap {
					gaps++
				}
				if s.Start > 0 && s.Number != 12 {
					require.InDelta(t, o.Start, s.Start, float64(2*time.Second), "segment %d", s.Number)
				}
			}
			require.GreaterOrEqual(t, gaps, 8)
			require.Equal(t, a.Closed[len(a.Closed)-1].Discontinuity, b.Closed[len(b.Closed)-1].Discontinuity, "a mark stands in every rendition")
			require.EqualValues(t, 1, b.Closed[len(b.Closed)-1].Discontinuity)
		}
	})
}

func TestPublisherReturnsAlone(t *testing.T) {
	goLive(t, Options{Window: time.Hour}, func(l *live) {
		src, done := l.publish(1, script{fps: 30, gop: 2 * time.Second, length: 11 * time.Second}, 0)
		l.at(55 * time.Second)
		list, _ := l.shelf.Renditions()
		require.True(t, list[0].Listed, "there is no other to go to")
		n := len(l.index(videoRow).Closed)
		l.feed(src, script{fps: 30, gop: 2 * time.Second, start: 56 * time.Second, length: 10 * time.Second, ms: true, rate: 48000,
			edit: flagFirst(media.Discontinuity, media.Video, media.Audio)}, src.tracks[0], src.tracks[1])
		l.at(67 * time.Second)
		src.log.Close()
		<-done
		v, a := l.index(videoRow), l.index(audioRow)
		require.Len(t, a.Closed, len(v.Closed))
		s := v.Closed[n]
		require.Equal(t, uint64(n), s.Number, "no gaps when nobody else goes on")
		require.EqualValues(t, 1, s.Discontinuity)
		require.EqualValues(t, 1, a.Closed[n].Discontinuity)
		require.Equal(t, 56*time.Second, s.Start)
		require.Equal(t, l.begin.Add(56*time.Second), s.Time)
		require.Equal(t, 1, l.w.kinds(Gap))
	})
}

func TestShelfOutlivesItsBroadcast(t *testing.T) {
	goLive(t, Options{}, func(l *live) {
		src, done := l.publish(1, script{fps: 30, gop: 2 * time.Second, length: 10 * time.Second}, 0)
		l.at(11 * time.Second)
		src.log.Close()
		<-done
		l.c.End()
		first := l.index(videoRow)
		l.at(30 * time.Second)
		require.True(t, l.index(videoRow).Ended)
		l.at(45 * time.Second)
		all, _ := l.shelf.Renditions()
		require.True(t, all[0].Listed, "an ended broadcast can be read until its shelf goes")

		l.onAir("b2") // within the retention
		list, _ := l.shelf.Renditions()
		require.Len(t, list, 1, "the old can be read until the new is there")
		src, done = l.publish(1, script{fps: 30, gop: 2 * time.Second, length: 10 * time.Second}, 0)
		l.at(11 * time.Second)
		src.log.Close()
		<-done
		l.c.End()
		x := l.index(videoRow)
		next := x.Closed[len(first.Closed)]
		require.Equal(t, first.Closed[len(first.Closed)-1].Number+1, next.Number)
		require.EqualValues(t, 1, next.Discontinuity)
		require.Equal(t, first.Targets, x.Targets)
		last := x.Closed[len(x.Closed)-1].Number

		time.Sleep(2 * time.Minute)
		synctest.Wait()
		_, ok := l.st.Shelf(shelfOne)
		require.False(t, ok)
		require.Zero(t, l.st.Stats().MemoryBytes)
		require.Zero(t, l.st.Stats().DiskBytes)

		l.onAir("b3")
		src, done = l.publish(1, script{fps: 30, gop: 2 * time.Second, length: 10 * time.Second}, 0)
		l.at(11 * time.Second)
		src.log.Close()
		<-done
		x = l.index(videoRow)
		require.Greater(t, x.Closed[0].Number, last)
		require.Greater(t, x.Closed[0].Discontinuity, uint64(1))
	})
}

func TestExpiredSegmentsGo(t *testing.T) {
	goLive(t, Options{Window: 12 * time.Second, MinSegments: 3}, func(l *live) {
		src, done := l.publish(1, script{fps: 10, gop: 2 * time.Second, length: 100 * time.Second}, 0)
		l.at(20 * time.Second)
		old := l.index(videoRow).Closed[0]
		l.at(24 * time.Second)
		require.NotEqual(t, old.Number, l.index(videoRow).Closed[0].Number)
		c, err := l.shelf.Open(videoRow, old.Run, old.Number, -1)
		require.NoError(t, err, "unlisted, but who has the playlist may still want it")
		require.NoError(t, c.Close())
		l.at(60 * time.Second)
		_, err = l.shelf.Open(videoRow, old.Run, old.Number, -1)
		require.Error(t, err)
		l.at(99 * time.Second)
		require.LessOrEqual(t, len(l.index(videoRow).Closed), 4)
		files := slices.Collect(func(yield func(string) bool) {
			for _, n := range list(t, (*l.shelf.rows.Load())[videoRow].dir) {
				if !yield(n) {
					return
				}
			}
		})
		require.Less(t, len(files), 16, files)
		l.at(101 * time.Second)
		src.log.Close()
		<-done
	})
}

func TestLappedCutterLeavesAGapAndResumesAtAKeyFrame(t *testing.T) {
	st := openStore(t, Options{Window: time.Hour})
	w := watch(t, st)
	c, err := st.Begin(shelfOne, Broadcast{ID: "b1", Start: time.Unix(1e9, 0)}, w.observe)
	require.NoError(t, err)
	v, a := videoTrack(1), audioTrack(1, 48000)
	small := &source{tracks: []*media.Track{v, a}, log: pipeline.NewLog(pipeline.Bounds{Time: 4 * time.Second},
		func(p *media.Packet) (int, time.Duration) { return len(p.Payload), p.DTS })}
	packets := script{fps: 30, gop: 2 * time.Second, length: 30 * time.Second, rate: 48000}.packets(v, a)
	synctest.Test(t, func(t *testing.T) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = c.Run(context.Background(), pipeline.Rendition{ID: "1", Source: small})
		}()
		for _, p := range packets {
			if p.DTS < 10*time.Second { // then it cannot keep up any more
				small.append(p)
				synctest.Wait()
			}
		}
		st.shelf(shelfOne).mu.Lock() // the cutter stands still
		for _, p := range packets {
			if p.DTS >= 10*time.Second && p.DTS < 20*time.Second {
				small.append(p)
			}
		}
		st.shelf(shelfOne).mu.Unlock()
		for _, p := range packets {
			if p.DTS >= 20*time.Second {
				small.append(p)
				synctest.Wait()
			}
		}
		small.log.Close()
		<-done
	})
	x := w.last[videoRow]
	for i, s := range x.Closed {
		o := w.last[audioRow].Closed[i]
		t.Logf("%d: %v+%v disc %d key %v | %v+%v disc %d", s.Number, s.Start, s.Duration, s.Discontinuity, s.Independent, o.Start, o.Duration, o.Discontinuity)
		require.True(t, s.Independent)
		require.Equal(t, s.Discontinuity, o.Discontinuity)
	}
	// Once or twice, as the goroutines run.
	require.Positive(t, w.kinds(Gap))
	require.EqualValues(t, w.kinds(Gap), x.Closed[len(x.Closed)-1].Discontinuity)
	decodeRow(t, st.shelf(shelfOne), x)
}
