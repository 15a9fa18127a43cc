package app

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/config"
	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/store"
)

// testConfig is the default configuration on free ports of the loopback.
func testConfig(t *testing.T) config.Config {
	c := config.Default()
	c.DataDir = t.TempDir()
	c.RTMP.Listen = "127.0.0.1:0"
	c.SRT.Listen = "127.0.0.1:0"
	c.MediaHTTP.Listen = "127.0.0.1:0"
	c.Control.GRPCListen = "127.0.0.1:0"
	c.Control.HTTPListen = "127.0.0.1:0"
	return c
}

// started is a running server.
type started struct {
	*Server
	output *bytes.Buffer
	stop   func() error
}

// start runs a server, with outputs beside its own.
func start(t *testing.T, c config.Config, outputs ...egress.Output) *started {
	t.Helper()
	st := &started{output: new(bytes.Buffer)}
	var err error
	st.Server, err = New(t.Context(), Options{
		Config: config.Loaded{Config: c}, Version: "test", Logger: slog.New(slog.DiscardHandler), Output: st.output, Outputs: outputs,
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- st.Run(ctx) }()
	var result error
	stopped := false
	st.stop = func() error {
		if !stopped {
			stopped = true
			cancel()
			result = <-ended
		}
		return result
	}
	t.Cleanup(func() { _ = st.stop() })
	require.Eventually(t, func() bool { return st.health.Ready(t.Context()).OK }, 10*time.Second, 5*time.Millisecond)
	return st
}

func (st *started) get(t *testing.T, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + st.control.HTTPAddr().String() + path)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

func TestTheFirstStartPrintsAddressesOnce(t *testing.T) {
	c := testConfig(t)
	st := start(t, c)
	require.Contains(t, st.output.String(), "Stream Key  live_1?t=")
	require.Contains(t, st.output.String(), `-f mpegts "srt://`)
	require.Contains(t, st.output.String(), " ctl --address "+st.control.GRPCAddr().String()+" streams addresses live")
	_, token, ok := strings.Cut(st.output.String(), "live_1?t=")
	require.True(t, ok)
	token = token[:26]

	code, body := st.get(t, "/v1/streams/live")
	require.Equal(t, http.StatusOK, code)
	require.NotContains(t, body, token)
	var got struct{ DisplayName string }
	require.NoError(t, json.Unmarshal([]byte(body), &got))
	require.Equal(t, "First stream", got.DisplayName)

	code, body = st.get(t, "/v1/streams/live:publishAddresses")
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, token)
	require.NoError(t, st.stop())

	again := start(t, c)
	require.Empty(t, again.output.String())
	_, body = again.get(t, "/v1/streams/live:publishAddresses")
	require.Contains(t, body, token, "the stream survives a restart")
}

func TestProbesAndMetrics(t *testing.T) {
	st := start(t, testConfig(t))
	for _, path := range []string{"/livez", "/readyz", "/startupz"} {
		code, body := st.get(t, path)
		require.Equal(t, http.StatusOK, code, "%s: %s", path, body)
	}
	_, body := st.get(t, "/metrics")
	for _, name := range []string{
		"klive_rtmp_connections ", "klive_publications_total ", "klive_segments_total ", "klive_segment_memory_bytes ",
		"klive_hls_waiting_requests ", "klive_media_http_viewers ", "klive_build_info",
		"klive_srt_connections ", "klive_srt_lost_packets_total ", "klive_srt_datagrams_total ",
	} {
		require.Contains(t, body, "\n"+name)
	}
}

func TestDrainTurnsReadinessOff(t *testing.T) {
	st := start(t, testConfig(t))
	require.NoError(t, (*node)(st.Server).Drain(t.Context()))
	require.NoError(t, (*node)(st.Server).Drain(t.Context()))
	code, _ := st.get(t, "/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	code, _ = st.get(t, "/livez")
	require.Equal(t, http.StatusOK, code)
	require.NoError(t, st.stop())
}

func TestAStartThatFailsSaysWhyAndLeavesNothing(t *testing.T) {
	c := testConfig(t)
	st := start(t, c)

	taken := testConfig(t)
	taken.RTMP.Listen = st.listeners[0].Address
	_, err := New(t.Context(), Options{Config: config.Loaded{Config: taken}, Logger: slog.New(slog.DiscardHandler)})
	require.ErrorContains(t, err, "listen for rtmp")
	taken.RTMP.Listen = "127.0.0.1:0"
	_, err = New(t.Context(), Options{Config: config.Loaded{Config: c}, Logger: slog.New(slog.DiscardHandler)})
	require.ErrorIs(t, err, store.ErrInUse)
	require.ErrorContains(t, err, c.DataDir)

	start(t, taken) // its data directory was released
}

func TestAPartThatBreaksStopsTheServer(t *testing.T) {
	st := start(t, testConfig(t))
	st.control.Close() // as when its listener is lost
	require.Eventually(t, func() bool { return !st.health.Ready(t.Context()).OK }, 10*time.Second, 5*time.Millisecond)
	require.Error(t, st.stop())
}

func TestDeclaredStreamsReplaceTheFirstOne(t *testing.T) {
	c := testConfig(t)
	c.Streams = []config.Stream{{ID: "lobby", Token: "s3cret-token"}}
	st := start(t, c)
	require.Empty(t, st.output.String())
	_, body := st.get(t, "/v1/streams")
	require.Contains(t, body, `"lobby"`)
	require.NotContains(t, body, "s3cret-token")
}

func TestGuardReportsAPartThatEndsByItself(t *testing.T) {
	s := &Server{}
	broken := make(chan error, 1)
	p := &part{name: "door", run: func(context.Context) error { return nil }}
	require.NoError(t, s.guard(p, broken)(t.Context()))
	require.ErrorContains(t, <-broken, "door: ended by itself")
	p.run = func(context.Context) error { panic("ouch") }
	require.NoError(t, s.guard(p, broken)(t.Context()))
	require.ErrorContains(t, <-broken, "ouch")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	boom := errors.New("while stopping")
	p.run = func(context.Context) error { return boom }
	require.ErrorIs(t, s.guard(p, broken)(ctx), boom)
}
