package segment

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/run"
)

// count is how many names in a folder end so.
func count(t testing.TB, dir, suffix string) (n int) {
	for _, name := range list(t, dir) {
		if strings.HasSuffix(name, suffix) {
			n++
		}
	}
	return n
}

// running runs the store in virtual time for as long as f lasts.
func running(t *testing.T, st *DiskStore, f func()) {
	g := run.New(context.Background())
	require.NoError(t, g.Go("store", st.Run))
	f()
	require.NoError(t, g.Stop(context.Canceled))
}

func TestManyFilesThatExpireAtOnceAllGo(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st := openStore(t, Options{Dir: dir, Jobs: 4})
		h, _ := st.take(shelfOne)
		r := h.row(videoRow)
		require.NoError(t, os.MkdirAll(r.dir, 0o750))
		for n := range uint64(600) {
			s := Segment{Number: n, Run: st.runID, Time: time.Now(), Size: 1}
			require.NoError(t, os.WriteFile(r.path(s.fileName(n%2 == 0)), []byte{0}, 0o600))
			st.counters.disk.Add(1)
			r.expiring = append(r.expiring, expiring{s, time.Now()})
		}
		running(t, st, func() {
			time.Sleep(10 * time.Second)
			synctest.Wait()
		})
		require.Empty(t, list(t, r.dir))
		require.Zero(t, st.Stats().DiskBytes)
	})
}

func TestFileThatCannotBeDeletedIsTriedAgain(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st := openStore(t, Options{Dir: dir})
		h, _ := st.take(shelfOne)
		r := h.row(videoRow)
		s := Segment{Run: st.runID, Time: time.Now()}
		inTheWay := filepath.Join(r.path(s.fileName(false)), "file")
		require.NoError(t, os.MkdirAll(inTheWay, 0o750))
		r.expiring = append(r.expiring, expiring{s, time.Now()})
		running(t, st, func() {
			time.Sleep(time.Second)
			synctest.Wait()
			require.EqualValues(t, 1, st.Stats().WriteFailures)
			require.NoError(t, os.Remove(inTheWay))
			time.Sleep(sweepAgain + time.Second)
			synctest.Wait()
		})
		require.Empty(t, list(t, r.dir))
	})
}

func TestSegmentsThatDoNotFitTheQueueAreFinishedLater(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st := openStore(t, Options{Dir: dir, Jobs: 1})
		w := watch(t, st)
		c, err := st.Begin(shelfOne, Broadcast{ID: "b1", Start: time.Now()}, w.observe)
		require.NoError(t, err)
		src := script{fps: 30, gop: 2 * time.Second, length: 24 * time.Second}.source()
		src.log.Close()
		require.NoError(t, c.Run(t.Context(), renditionOne(src)))
		rows := filepath.Join(dir, "lobby", "0", "1.video")
		require.Positive(t, count(t, rows, extOpen))
		running(t, st, func() {
			time.Sleep(10 * time.Second)
			synctest.Wait()
		})
		require.Zero(t, count(t, rows, extOpen), list(t, rows))
		require.Zero(t, count(t, filepath.Join(dir, "lobby", "0", "1.audio"), extOpen))
		require.Zero(t, st.Stats().WriteFailures)
	})
}

func TestRecoveredFilesThatAreNotListedGo(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st := openStore(t, Options{Dir: dir})
		cutAll(t, st, watch(t, st), script{fps: 30, gop: 2 * time.Second, length: 9 * time.Second}.source())
		x := st.shelf(shelfOne).Index(videoRow)
		path := filepath.Join(dir, "lobby", "0", "1.video")
		alien := func(number uint64, d time.Duration) {
			s := x.Closed[0]
			s.Number, s.Duration, s.Time = number, d, s.Time.Add(time.Second)
			require.NoError(t, os.WriteFile(filepath.Join(path, s.fileName(false)), []byte("abc"), 0o600))
		}
		alien(1, 2*time.Second)   // a number that is there
		alien(500, 2*time.Second) // far away: begins the list anew
		alien(501, time.Hour)     // longer than any segment

		st = openStore(t, Options{Dir: dir})
		running(t, st, func() {
			time.Sleep(time.Minute)
			synctest.Wait()
		})
		require.Equal(t, 1, count(t, path, extClosed), list(t, path))
		sound := st.shelf(shelfOne).Index(audioRow)
		bytes := int64(3)
		for i := range sound.Closed {
			bytes += sound.Closed[i].Size
		}
		require.Equal(t, bytes, st.Stats().DiskBytes)
	})
}

// configs gives every group of pictures another of two configurations.
func configs(p *media.Packet) bool {
	if p.Track.Kind == media.Video && p.DTS/time.Second%2 == 1 {
		t := *p.Track
		t.Config = append([]byte(nil), t.Config...)
		t.Config[11] = 0x20
		p.Track = &t
	}
	return true
}

func TestInitSectionsGoWithTheirLastSegment(t *testing.T) {
	var dir string
	goLive(t, Options{Window: 8 * time.Second, MinSegments: 3}, func(l *live) {
		src, done := l.publish(1, script{fps: 10, gop: time.Second, length: 60 * time.Second, edit: configs}, 0)
		l.at(59 * time.Second)
		dir = crash(t, l.st.opts.Dir)
		x := l.index(videoRow)
		for i := range x.Closed {
			_, err := l.shelf.Init(videoRow, x.Closed[i].Run, x.Closed[i].Init)
			require.NoError(t, err)
		}
		rw := (*l.shelf.rows.Load())[videoRow]
		for _, ext := range []string{extInit, extTrack} {
			require.Less(t, count(t, rw.dir, ext), 25, fmt.Sprint(list(t, rw.dir)))
		}
		l.at(61 * time.Second)
		src.log.Close()
		<-done
	})
	path := filepath.Join(dir, "lobby", "0", "1.video")
	require.NoError(t, os.WriteFile(filepath.Join(path, "init_lost_1.mp4"), nil, 0o600))
	st := openStore(t, Options{Dir: dir})
	x := st.shelf(shelfOne).Index(videoRow)
	for i := range x.Closed {
		_, err := st.shelf(shelfOne).Init(videoRow, x.Closed[i].Run, x.Closed[i].Init)
		require.NoError(t, err)
	}
	require.NoFileExists(t, filepath.Join(path, "init_lost_1.mp4"))
}
