package segment

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
)

// list is the names in a folder.
func list(t testing.TB, dir string) (names []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// crash copies what is on disk, as a server that ended now would find it.
func crash(t testing.TB, dir string) string {
	to := t.TempDir()
	require.NoError(t, os.CopyFS(to, os.DirFS(dir)))
	return to
}

func TestRestartContinues(t *testing.T) {
	var dir string
	var was map[RowID]*Index
	goLive(t, Options{Window: time.Hour}, func(l *live) {
		src, done := l.publish(1, script{fps: 30, gop: 2 * time.Second, length: 20 * time.Second}, 0)
		l.at(18300 * time.Millisecond)
		dir = crash(t, l.st.opts.Dir)
		was = map[RowID]*Index{videoRow: l.index(videoRow), audioRow: l.index(audioRow)}
		l.at(21 * time.Second)
		src.log.Close()
		<-done
	})

	st := openStore(t, Options{Dir: dir, Window: time.Hour})
	w := watch(t, st)
	interrupted := st.Interrupted()
	require.Len(t, interrupted, 1)
	i := interrupted[0]
	require.Equal(t, shelfOne, i.ID)
	require.Equal(t, "b1", i.Broadcast.ID)
	require.InDelta(t, 18300*time.Millisecond, i.End, float64(400*time.Millisecond))
	sh, ok := st.Shelf(shelfOne)
	require.True(t, ok)
	for row, x := range was {
		got := sh.Index(row)
		require.Len(t, got.Closed, len(x.Closed)+1, "the open segment is closed at its last whole part")
		last := got.Closed[len(x.Closed)]
		require.Equal(t, x.Open.Number, last.Number)
		require.Equal(t, x.Open.Size, last.Size)
		require.InDelta(t, x.Open.Duration, last.Duration, float64(time.Microsecond*20))
		require.Equal(t, x.Targets, got.Targets)
		require.False(t, got.Ended)
		decodeRow(t, sh, got)
	}
	list, _ := sh.Renditions()
	require.Len(t, list, 1, "what is there can be watched")

	src := script{fps: 30, gop: 2 * time.Second, length: 10 * time.Second, start: 30 * time.Second}.source()
	src.log.Close()
	c, err := st.Begin(shelfOne, i.Broadcast, w.observe)
	require.NoError(t, err)
	require.Empty(t, st.Interrupted())
	require.NoError(t, c.Run(t.Context(), renditionOne(src)))
	st.drain()
	for row, x := range was {
		got := sh.Index(row)
		n := len(x.Closed) + 1
		gap, first := got.Closed[n], got.Closed[n+1]
		require.True(t, gap.Gap, "a hint named this number")
		require.False(t, first.Gap)
		require.Equal(t, x.Open.Number+2, first.Number)
		require.EqualValues(t, 1, first.Discontinuity)
		require.NotEqual(t, x.Open.Run, first.Run)
		require.Equal(t, i.Broadcast.Start.Add(first.Start).UnixNano(), first.Time.UnixNano())
		decodeRow(t, sh, got)
	}
	c.End()

	again := openStore(t, Options{Dir: crash(t, dir), Window: time.Hour})
	require.Empty(t, again.Interrupted())
	h, ok := again.Shelf(shelfOne)
	require.True(t, ok)
	require.True(t, h.Index(videoRow).Ended)
	require.Equal(t, len(sh.Index(videoRow).Closed), len(h.Index(videoRow).Closed))
}

func TestInterruptedBroadcastCanBeEnded(t *testing.T) {
	st := openStore(t, Options{})
	w := watch(t, st)
	cutAll(t, st, w, script{fps: 30, gop: time.Second, length: 5 * time.Second}.source())
	st = openStore(t, Options{Dir: crash(t, st.opts.Dir)})
	require.Len(t, st.Interrupted(), 1)
	st.EndInterrupted(shelfOne)
	require.Empty(t, st.Interrupted())
	sh, _ := st.Shelf(shelfOne)
	require.True(t, sh.Index(videoRow).Ended)
	st = openStore(t, Options{Dir: crash(t, st.opts.Dir)})
	require.Empty(t, st.Interrupted())
}

func TestRecoveryStopsAtTheLastWholePart(t *testing.T) {
	st := openStore(t, Options{})
	w := watch(t, st)
	cutAll(t, st, w, script{fps: 30, gop: 2 * time.Second, length: 6 * time.Second}.source())
	seg := w.last[videoRow].Closed[0]
	dir := (*st.shelf(shelfOne).rows.Load())[videoRow].dir
	whole, err := os.ReadFile(filepath.Join(dir, seg.fileName(false)))
	require.NoError(t, err)
	for _, cut := range []int64{0, 3, seg.Parts[0].Size - 1, seg.Parts[0].Size, seg.Parts[5].Offset + 40, seg.Size - 1, seg.Size} {
		to := crash(t, st.opts.Dir)
		path := filepath.Join(to, "lobby", "0", "1.video")
		for _, n := range list(t, path) {
			if s, _, ok := parseFileName(n); ok && s.Number >= seg.Number {
				require.NoError(t, os.Remove(filepath.Join(path, n)))
			}
		}
		require.NoError(t, os.WriteFile(filepath.Join(path, seg.fileName(true)), whole[:cut], 0o600))
		again := openStore(t, Options{Dir: to})
		var want int64
		for _, p := range seg.Parts {
			if p.Offset+p.Size <= cut {
				want = p.Offset + p.Size
			}
		}
		x := again.shelf(shelfOne).Index(videoRow)
		if want == 0 {
			require.Nil(t, x)
		} else {
			require.Equal(t, want, x.Closed[0].Size, "cut at %d", cut)
		}
		c, err := again.Begin(shelfOne, Broadcast{ID: "b2", Start: time.Now()}, nil)
		require.NoError(t, err)
		src := script{fps: 30, gop: 2 * time.Second, length: 6 * time.Second}.source()
		src.log.Close()
		require.NoError(t, c.Run(t.Context(), renditionOne(src)))
		closed := again.shelf(shelfOne).Index(videoRow).Closed
		require.GreaterOrEqual(t, closed[len(closed)-1].Number, seg.Number+2)
	}
}

func TestFullDiskDoesNotStopLive(t *testing.T) {
	st := openStore(t, Options{FallbackBytes: 400 << 10})
	w := watch(t, st)
	h := newShelf(st, shelfOne)
	require.NoError(t, os.MkdirAll(h.dir, 0o750))
	// A file where the row's folder has to be.
	require.NoError(t, os.WriteFile(filepath.Join(h.dir, "1.video"), nil, 0o600))
	c := cutAll(t, st, w, script{fps: 30, gop: 2 * time.Second, length: 30 * time.Second}.source())
	require.Positive(t, w.kinds(WriteFailed))
	require.LessOrEqual(t, st.Stats().MemoryBytes, int64(600<<10))
	x := w.last[videoRow]
	last := x.Closed[len(x.Closed)-1]
	content, err := c.shelf.Open(videoRow, last.Run, last.Number, -1)
	require.NoError(t, err)
	require.Len(t, read(t, content), int(last.Size))
	_, err = c.shelf.Init(videoRow, last.Run, last.Init)
	require.NoError(t, err)
	c.End()
}

func TestDiskThatFillsInTheMiddleOfASegment(t *testing.T) {
	goLive(t, Options{}, func(l *live) {
		var full atomic.Bool
		l.st.write = func(f *os.File, b [][]byte) (int64, error) {
			if full.Load() {
				return 0, syscall.ENOSPC
			}
			return writeAll(f, b)
		}
		src, done := l.publish(1, script{fps: 30, gop: 2 * time.Second, length: 10 * time.Second}, 0)
		l.at(3500 * time.Millisecond)
		full.Store(true)
		l.at(4500 * time.Millisecond)
		full.Store(false)
		l.at(8500 * time.Millisecond)
		x := l.index(videoRow)
		s := x.Closed[0]
		c, err := l.shelf.Open(videoRow, s.Run, s.Number, -1)
		require.NoError(t, err)
		require.NotNil(t, c.Buffers)
		require.Len(t, read(t, c), int(s.Size))
		decodeRow(t, l.shelf, x)
		require.Positive(t, l.w.kinds(WriteFailed))
		l.at(11 * time.Second)
		src.log.Close()
		<-done
	})
}

func TestFileNames(t *testing.T) {
	s := Segment{Number: 7, Run: "abc123def456", Init: 2, Discontinuity: 3, Start: -5, Time: time.Unix(5, 6), Duration: 4 * time.Second, Independent: true}
	got, open, ok := parseFileName(s.fileName(false))
	require.True(t, ok)
	require.False(t, open)
	require.Equal(t, s, got)
	s.Duration = 0
	got, open, ok = parseFileName(s.fileName(true))
	require.True(t, ok && open)
	require.Equal(t, s, got)
	for _, id := range []RowID{videoRow, audioRow, {"1~hi/..", media.Video}, {"..", media.Audio}} {
		back, ok := parseRowFolder(rowFolder(id))
		require.True(t, ok)
		require.Equal(t, id, back)
		require.Equal(t, filepath.Base(rowFolder(id)), rowFolder(id))
	}
}
