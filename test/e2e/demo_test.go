//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/test/e2e/harness"
)

// The demonstration shows a picture, prints where to look, and Ctrl-C ends both server and picture.
func TestDemonstration(t *testing.T) {
	root, err := harness.Root()
	require.NoError(t, err)
	var ports [4]string
	for i := range ports {
		ports[i], err = harness.FreePort()
		require.NoError(t, err)
	}
	cmd := exec.Command(filepath.Join(root, "scripts", "demo"))
	cmd.Env = append(os.Environ(), "KLIVE_RTMP_LISTEN="+ports[0], "KLIVE_SRT_LISTEN=127.0.0.1:0", "KLIVE_MEDIA_HTTP_LISTEN="+ports[1],
		"KLIVE_CONTROL_GRPC_LISTEN="+ports[2], "KLIVE_CONTROL_HTTP_LISTEN="+ports[3])
	p, err := harness.StartProcess(cmd, filepath.Join(t.TempDir(), "demo.log"))
	require.NoError(t, err)
	t.Cleanup(func() {
		p.KillGroup()
		if t.Failed() {
			t.Logf("the demonstration says:\n%s", p.Tail(6000))
		}
	})
	harness.Wait(t, 60*time.Second, "the addresses are printed", func() (bool, error) {
		return contains(p.Output(), "Ctrl-C stops"), nil
	})
	page := "http://" + ports[1] + "/live/demo/"
	require.Contains(t, p.Output(), page)
	status, body, err := harness.Get(t.Context(), page)
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.Contains(t, body, "<video")
	f := followFor(t, against(t, page, multivariant(t, page+"index.m3u8").Variants[0].URI), 3*time.Second)
	require.Positive(t, f.Parts)
	require.Empty(t, f.Findings.List())

	// Ctrl-C reaches everything on the terminal.
	require.NoError(t, syscall.Kill(-p.PID(), syscall.SIGINT))
	require.True(t, p.Wait(30*time.Second), "the demonstration did not stop")
	require.Contains(t, p.Output(), "demo: stopped")
}

// The demonstration of the bridge tells its story to the end, goes on air again and ends by itself.
func TestKalturaDemonstration(t *testing.T) {
	root, err := harness.Root()
	require.NoError(t, err)
	var ports [5]string
	for i := range ports {
		ports[i], err = harness.FreePort()
		require.NoError(t, err)
	}
	cmd := exec.Command(filepath.Join(root, "scripts", "demo-kaltura"))
	cmd.Env = append(os.Environ(), "KLIVE_RTMP_LISTEN="+ports[0], "KLIVE_SRT_LISTEN=127.0.0.1:0", "KLIVE_MEDIA_HTTP_LISTEN="+ports[1],
		"KLIVE_CONTROL_GRPC_LISTEN="+ports[2], "KLIVE_CONTROL_HTTP_LISTEN="+ports[3], "DEMO_BACKEND_LISTEN="+ports[4], "DEMO_SECONDS=1")
	p, err := harness.StartProcess(cmd, filepath.Join(t.TempDir(), "demo.log"))
	require.NoError(t, err)
	t.Cleanup(func() {
		p.KillGroup()
		if t.Failed() {
			t.Logf("the demonstration says:\n%s", p.Tail(8000))
		}
	})
	require.True(t, p.Wait(120*time.Second), "the demonstration did not end by itself")
	require.NoError(t, p.Err())
	for _, said := range []string{
		"live1.demo.example", "livestream.authenticate", "livestream.registermediaserver", "PLAYABLE", "#EXT-X-STREAM-INF",
		"/chunklist.m3u8", "piece 0 of flavor 32", "the last", "livestream.unregistermediaserver", "On air again", "demo: stopped",
	} {
		require.Contains(t, p.Output(), said)
	}
}
