//go:build e2e

// Package e2e tries the shipped binary from outside, with the clients people use: ffmpeg, OBS, Chromium with hls.js,
// gRPC, plain HTTP. Run it with `make e2e`; SHORT=1 shortens the long watches.
//
// Each test runs a server of its own on free ports (package harness), reads what it plays with a strict player
// (package hlscheck), and, where it must say exactly what is sent, publishes with an encoder of its own (package
// encoder).
package e2e

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/test/e2e/encoder"
	"github.com/klive-media/klive/test/e2e/harness"
	"github.com/klive-media/klive/test/e2e/hlscheck"
)

const token = "s3cret"

// catalog declares one stream and a template.
const catalog = `
streams:
  - { id: lobby, token: s3cret }
  - { id: "event-*", token: s3cret }
`

// length is how long something is watched: shorter in the set that CI runs.
func length[T any](long, short T) T {
	if testing.Short() {
		return short
	}
	return long
}

// clip is a recording for the encoder: small, with a key frame every second.
func clip(t *testing.T) *encoder.Clip {
	t.Helper()
	c, err := encoder.Make(filepath.Join(os.TempDir(), "klive-e2e"), encoder.Spec{Size: "320x180", Rate: 30, GOP: 30, Video: 400_000, Audio: 64_000, Seconds: 16})
	require.NoError(t, err)
	return c
}

// playClip publishes the clip until the test ends or the returned function is called, and fails the test when the server
// ends it before.
func playClip(t *testing.T, s *harness.Server, id string) (stop func()) {
	t.Helper()
	c, err := encoder.Dial(t.Context(), encoder.Catalog(s.RTMP, id, token))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	media := clip(t)
	go func() { done <- c.Play(ctx, media, time.Now(), 0, nil) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil && t.Context().Err() == nil {
			t.Errorf("publish %s: %v", id, err)
		}
		c.Close()
	}
	t.Cleanup(stop)
	return stop
}

// multivariant fetches the multivariant playlist of a stream, waiting until there is one.
func multivariant(t *testing.T, address string) *hlscheck.Multivariant {
	t.Helper()
	var m *hlscheck.Multivariant
	harness.Wait(t, 15*time.Second, "a multivariant playlist at "+address, func() (bool, error) {
		status, body, err := harness.Get(t.Context(), address)
		if err != nil || status != 200 {
			return false, nil //nolint:nilerr // not yet
		}
		m, err = hlscheck.ParseMultivariant(body)
		return true, err
	})
	return m
}

// against resolves a URI of a playlist.
func against(t *testing.T, playlist, uri string) string {
	t.Helper()
	base, err := url.Parse(playlist)
	require.NoError(t, err)
	u, err := base.Parse(uri)
	require.NoError(t, err)
	return u.String()
}

// rows are the media playlists of a stream's first variant.
func rows(t *testing.T, s *harness.Server, id string) (video, audio string) {
	t.Helper()
	address := s.Play("/live/" + id + "/index.m3u8")
	m := multivariant(t, address)
	require.NotEmpty(t, m.Variants)
	video = against(t, address, m.Variants[0].URI)
	for _, r := range m.Media {
		if r.Type == "AUDIO" && r.Group == m.Variants[0].Audio && r.URI != "" {
			audio = against(t, address, r.URI)
		}
	}
	return video, audio
}

// awaitSegment waits until every media playlist of a stream lists a finished segment, which is what clients need that
// know no parts.
func awaitSegment(t *testing.T, s *harness.Server, id string) {
	t.Helper()
	awaitSegments(t, s, id, 1)
}

// awaitSegments waits until every media playlist of a stream lists n finished segments.
func awaitSegments(t *testing.T, s *harness.Server, id string, n int) {
	t.Helper()
	master := s.Play("/live/" + id + "/index.m3u8")
	harness.Wait(t, 30*time.Second, "finished segments", func() (bool, error) {
		m := multivariant(t, master)
		var uris []string
		for _, v := range m.Variants {
			uris = append(uris, v.URI)
		}
		for _, r := range m.Media {
			uris = append(uris, r.URI)
		}
		for _, uri := range uris {
			status, body, err := harness.Get(t.Context(), against(t, master, uri))
			if err != nil || status != 200 || strings.Count(body, "#EXTINF") < n {
				return false, err
			}
		}
		return len(uris) > 0, nil
	})
}

// step follows once and fails the test on an error.
func step(t *testing.T, f *hlscheck.Follower) *hlscheck.Playlist {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	p, err := f.Step(ctx)
	require.NoError(t, err)
	return p
}

// followFor follows for a while and returns the follower.
func followFor(t *testing.T, address string, d time.Duration) *hlscheck.Follower {
	t.Helper()
	f := &hlscheck.Follower{URL: address}
	follow(t, f, d)
	return f
}

// follow follows for a while.
func follow(t *testing.T, f *hlscheck.Follower, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := f.Follow(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("follow %s: %v", f.URL, err)
	}
}

// contains reports whether s holds sub.
func contains(s, sub string) bool { return strings.Contains(s, sub) }
