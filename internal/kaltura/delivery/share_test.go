package delivery

import (
	"bytes"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/kaltura/kalturatest"
)

// aGroup is one that this process may give files to: any, or its own.
func aGroup() int {
	if os.Getuid() == 0 {
		return 613
	}
	return os.Getgid()
}

func requireShared(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, mode, info.Mode()&(fs.ModePerm|fs.ModeSetgid))
	require.EqualValues(t, aGroup(), info.Sys().(*syscall.Stat_t).Gid)
}

func TestTheBackendsGroupMayReadWhatIsMadeForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, nil)
		h.backend.SetPartner(kalturatest.Partner{ID: partner, Secret: secret, Features: []string{kalturatest.FeatureLive, kalturatest.FeatureRecording}})
		q, stop := h.start(func(o *Options) { o.SharedDir, o.Group = "", aGroup() })
		defer stop()
		r := h.recs.begin("rec1", entry, 0)
		h.recs.piece(r, "32", 1, true)
		h.recs.end(r)
		synctest.Wait()
		require.Empty(t, q.Open())
		requireShared(t, h.work, sharedFolder)
		files, err := os.ReadDir(h.work)
		require.NoError(t, err)
		require.Len(t, files, 1)
		requireShared(t, filepath.Join(h.work, files[0].Name()), sharedFile)
		to := filepath.Join(h.shared, "copy")
		require.NoError(t, q.duplicate(r.Pieces[0].File, to))
		requireShared(t, to, sharedFile)
	})
}

func TestAGroupThatCannotBeGiven(t *testing.T) {
	var log bytes.Buffer
	q := &Queue{opts: Options{Group: aGroup()}, log: slog.New(slog.NewTextHandler(&log, nil))}
	for range 3 {
		q.share(filepath.Join(t.TempDir(), "none"), sharedFile)
	}
	require.Equal(t, 1, strings.Count(log.String(), "could not be given to group"))
	q = &Queue{opts: Options{Group: -1}}
	q.share("/nowhere", sharedFile)
}
