package segment

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/segment/fmp4"
)

func TestStartSurvivesWhatAPowerCutLeft(t *testing.T) {
	dir := t.TempDir()
	st := openStore(t, Options{Dir: dir})
	cutAll(t, st, watch(t, st), script{fps: 30, gop: 2 * time.Second, length: 9 * time.Second}.source())
	path := filepath.Join(dir, "lobby", "0", "1.video")
	inits := func(row, ext string) string {
		names, err := filepath.Glob(filepath.Join(row, initPrefix+"*"+ext))
		require.NoError(t, err)
		require.Len(t, names, 1)
		return names[0]
	}
	whole, err := os.ReadFile(inits(path, extInit))
	require.NoError(t, err)

	for name, harm := range map[string]func(t *testing.T, row string){
		"empty track":    func(t *testing.T, row string) { require.NoError(t, os.Truncate(inits(row, extTrack), 0)) },
		"null track":     func(t *testing.T, row string) { write(t, inits(row, extTrack), "null") },
		"half a track":   func(t *testing.T, row string) { require.NoError(t, os.Truncate(inits(row, extTrack), 40)) },
		"nothing of it":  func(t *testing.T, row string) { require.NoError(t, os.Remove(inits(row, extTrack))) },
		"odd folder":     func(t *testing.T, row string) { require.NoError(t, os.MkdirAll(filepath.Join(row, odd), 0o750)) },
		"row is a link":  func(t *testing.T, row string) { harmRow(t, row) },
		"shelf no dir":   func(t *testing.T, row string) { harmRow(t, filepath.Dir(row)) },
		"folder as file": func(t *testing.T, row string) { harmRow(t, filepath.Dir(filepath.Dir(row))) },
	} {
		t.Run(name, func(t *testing.T) {
			to := crash(t, dir)
			require.NoError(t, os.CopyFS(filepath.Join(to, "broken"), os.DirFS(filepath.Join(dir, "lobby"))))
			harm(t, filepath.Join(to, "broken", "0", "1.video"))
			again := openStore(t, Options{Dir: to})
			require.NotEmpty(t, again.shelf(shelfOne).Index(videoRow).Closed, "the other shelf is there")
			if h := again.shelf(ShelfID{Stream: "broken"}); h != nil {
				for _, r := range *h.rows.Load() {
					x := r.cur.Load()
					require.True(t, x == nil || x.Track != nil || len(x.Closed) == 0)
				}
			}
			if name != "nothing of it" && name != "row is a link" && name != "folder as file" && name != "shelf no dir" {
				require.NotEmpty(t, again.Damage())
				require.Positive(t, again.Stats().WriteFailures)
			}
			c, err := again.Begin(ShelfID{Stream: "broken"}, Broadcast{ID: "b2", Start: time.Now()}, nil)
			if err == nil {
				c.End()
			}
		})
	}
	t.Run("empty init section", func(t *testing.T) {
		to := crash(t, dir)
		row := filepath.Join(to, "lobby", "0", "1.video")
		require.NoError(t, os.Truncate(inits(row, extInit), 0))
		again := openStore(t, Options{Dir: to})
		x := again.shelf(shelfOne).Index(videoRow)
		require.NotEmpty(t, x.Closed)
		b, err := again.shelf(shelfOne).Init(videoRow, x.Closed[0].Run, x.Closed[0].Init)
		require.NoError(t, err)
		require.Equal(t, whole, b)
		decodeRow(t, again.shelf(shelfOne), x)
	})
}

// odd is the name of a segment that was never finished.
var odd = (&Segment{Number: 900, Run: "abc", Time: time.Unix(1e9, 0)}).fileName(true)

func write(t *testing.T, path, text string) {
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// harmRow puts a link to nowhere in a folder's place.
func harmRow(t *testing.T, path string) {
	require.NoError(t, os.RemoveAll(path))
	require.NoError(t, os.Symlink(filepath.Join(path, "nowhere"), path))
}

func TestInitSectionIsSyncedBeforeItsFirstSegmentIsRenamed(t *testing.T) {
	st := openStore(t, Options{})
	src := script{fps: 30, gop: 2 * time.Second, length: 9 * time.Second, noAudio: true}.source()
	src.log.Close()
	c, err := st.Begin(shelfOne, Broadcast{ID: "b1", Start: time.Now()}, nil)
	require.NoError(t, err)
	require.NoError(t, c.Run(context.Background(), renditionOne(src)))
	r := (*st.shelf(shelfOne).rows.Load())[videoRow]
	require.Len(t, r.unsynced, 1)
	st.do(<-st.jobs)
	require.Empty(t, r.unsynced)
	require.Equal(t, 1, count(t, r.dir, extClosed))
}

func TestInitSectionThatTheDiskCutShortIsNotServed(t *testing.T) {
	st := openStore(t, Options{})
	h, _ := st.take(shelfOne)
	r := h.row(videoRow)
	track := videoTrack(1)
	// A folder in the place of the init section: its track is written, it is not.
	require.NoError(t, os.MkdirAll(r.path(initName(st.runID, 0)+extInit), 0o750))
	require.Error(t, writeInit(r, st.runID, 0, track))
	require.Empty(t, list(t, r.dir))
	r.track, r.initRun = track, st.runID
	b, err := st.shelf(shelfOne).Init(videoRow, st.runID, 0)
	require.NoError(t, err)
	want, err := fmp4.Init(track)
	require.NoError(t, err)
	require.Equal(t, want, b)
}
