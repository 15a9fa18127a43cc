package segment

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// wait lets virtual time pass.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// endUnrecorded cuts a broadcast whose end cannot be recorded: a folder is in
// the record's place. It gives that folder's path.
func endUnrecorded(l *live) (inTheWay string) {
	src, done := l.publish(1, script{fps: 30, gop: 2 * time.Second, length: 20 * time.Second}, 0)
	l.at(21 * time.Second)
	src.log.Close()
	<-done
	inTheWay = filepath.Join(l.shelf.dir, recordName)
	require.NoError(l.t, os.Remove(inTheWay))
	require.NoError(l.t, os.MkdirAll(filepath.Join(inTheWay, "x"), 0o750))
	l.c.End()
	l.shelf.mu.Lock()
	defer l.shelf.mu.Unlock()
	require.True(l.t, l.shelf.unrecorded)
	return inTheWay
}

func TestEndThatCouldNotBeRecordedIsRecordedLater(t *testing.T) {
	goLive(t, Options{}, func(l *live) {
		inTheWay := endUnrecorded(l)
		wait(2 * time.Second)
		require.NoError(t, os.RemoveAll(inTheWay))
		wait(sweepAgain + time.Second)
		rec, err := readRecord(l.shelf.dir)
		require.NoError(t, err)
		require.False(t, rec.OnAir)
		x := l.index(videoRow)
		require.Equal(t, x.Closed[len(x.Closed)-1].Number+1, rec.Next)
		require.Greater(t, len(x.Closed), 1)
	})
}

func TestShelfIsKeptUntilItsNumbersAreRecorded(t *testing.T) {
	goLive(t, Options{}, func(l *live) {
		inTheWay := endUnrecorded(l)
		last := l.index(videoRow).Closed[len(l.index(videoRow).Closed)-1]
		wait(5 * time.Minute)
		_, ok := l.st.Shelf(shelfOne)
		require.True(t, ok, "its numbers are known nowhere else")
		rows := filepath.Join(l.shelf.dir, "1.video")
		require.Equal(t, 1, count(t, rows, extClosed), "room is made all the same")
		require.FileExists(t, filepath.Join(rows, last.fileName(false)))

		require.NoError(t, os.RemoveAll(inTheWay))
		wait(sweepAgain + time.Second)
		_, ok = l.st.Shelf(shelfOne)
		require.False(t, ok)
		require.NoDirExists(t, rows)
		require.Zero(t, l.st.Stats().DiskBytes)

		l.onAir("b2")
		src, done := l.publish(1, script{fps: 30, gop: 2 * time.Second, length: 6 * time.Second}, 0)
		l.at(7 * time.Second)
		src.log.Close()
		<-done
		require.Greater(t, l.index(videoRow).Closed[0].Number, last.Number)
	})
}

func TestShelfWhoseBeginFailedIsDropped(t *testing.T) {
	goLive(t, Options{}, func(l *live) {
		src, done := l.publish(1, script{fps: 30, gop: 2 * time.Second, length: 6 * time.Second}, 0)
		l.at(7 * time.Second)
		src.log.Close()
		<-done
		l.c.End()
		wait(30 * time.Second)
		stream := filepath.Dir(l.shelf.dir)
		require.NoError(t, os.Rename(stream, stream+"~"))
		require.NoError(t, os.WriteFile(stream, nil, 0o600))
		fresh := ShelfID{Stream: "lobby", ServerIndex: 1}
		for _, id := range []ShelfID{shelfOne, fresh} {
			_, err := l.st.Begin(id, Broadcast{ID: "b2", Start: time.Now()}, nil)
			require.Error(t, err)
		}
		require.NoError(t, os.Remove(stream))
		require.NoError(t, os.Rename(stream+"~", stream))
		require.Equal(t, 2, l.st.Stats().Shelves)
		wait(32 * time.Second)
		_, ok := l.st.Shelf(shelfOne)
		require.False(t, ok, "its retention went on")
		wait(30 * time.Second)
		require.Zero(t, l.st.Stats().Shelves)
	})
}
