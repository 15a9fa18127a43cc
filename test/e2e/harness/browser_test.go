//go:build e2e

package harness

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The clock in the picture must survive encoder, packaging and browser: tried here with HLS that ffmpeg makes, so that
// a failure of the test against the server is the server's.
func TestClockIsReadInBrowser(t *testing.T) {
	root, err := Root()
	require.NoError(t, err)
	dir := t.TempDir()
	player, err := os.ReadFile(filepath.Join(root, "web", "node_modules", "hls.js", "dist", "hls.min.js"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "hls.js"), player, 0o600))
	page := `<video width=640 height=360 muted></video><script src="hls.js"></script><script>
		const h = new Hls({liveSyncDurationCount: 2}); h.loadSource('live.m3u8'); h.attachMedia(document.querySelector('video'));</script>`
	require.NoError(t, os.WriteFile(filepath.Join(dir, "index.html"), []byte(page), 0o600))
	e, err := publishClock(dir, 15, "-f", "hls", "-hls_time", "1", "-hls_flags", "delete_segments", filepath.Join(dir, "live.m3u8"))
	require.NoError(t, err)
	t.Cleanup(e.KillGroup)
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	Wait(t, 20*time.Second, "the playlist", func() (bool, error) {
		_, err := os.Stat(filepath.Join(dir, "live.m3u8"))
		return err == nil, nil
	})
	b, err := Watch(dir, server.URL+"/index.html", 5*time.Second, 0)
	require.NoError(t, err)
	t.Cleanup(b.KillGroup)
	v, err := b.Result(60 * time.Second)
	require.NoError(t, err)
	all := v.Latencies()
	t.Logf("%d pictures, %d unread, latency %v, freezes %v, events %v, video %+v", len(v.Frames), v.Unread, Percentile(all, 0.5), v.Freezes(400*time.Millisecond), v.Events, v.Video)
	require.Greater(t, len(all), 60)
	require.Less(t, v.Unread, len(all)/20)
	require.Less(t, Percentile(all, 0.5), 15*time.Second)
}
