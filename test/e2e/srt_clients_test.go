//go:build e2e

package e2e

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/test/e2e/harness"
	"github.com/klive-media/klive/test/e2e/hlscheck"
)

// unpublished waits until the newest session of a stream has ended and returns it; the publisher must have ended it.
func unpublished(t *testing.T, s *harness.Server, id string) *klivev1.Session {
	t.Helper()
	harness.Wait(t, 20*time.Second, "the goodbye", func() (bool, error) { return s.Sessions(t, id)[0].GetReason() != "", nil })
	session := s.Sessions(t, id)[0]
	require.Equal(t, "UNPUBLISHED", session.GetReason())
	return session
}

// awaitEnd waits until both media playlists of a stream are over.
func awaitEnd(t *testing.T, s *harness.Server, id string) {
	t.Helper()
	video, audio := rows(t, s, id)
	for _, address := range []string{video, audio} {
		harness.Wait(t, 20*time.Second, "the end of "+address, func() (bool, error) {
			status, body, err := harness.Get(t.Context(), address)
			return err == nil && status == 200 && contains(body, "#EXT-X-ENDLIST"), err
		})
	}
}

// srt-live-transmit carries a transport stream to the server: plain, and with each length of key, with the server's
// passphrase and with a stream's own.
func srtTransmit(t *testing.T) {
	plain, locked := harness.Start(t, catalog), harness.Start(t, srtCatalog)
	const coded = "%23%21%3A%3Ar%3Devent-coded_1%2Cm%3Dpublish%2Ctoken%3Ds3cret"
	const pass = "passphrase=of-the-server"
	var all sync.WaitGroup
	for id, c := range map[string]struct {
		s               *harness.Server
		query, streamID string
	}{
		"event-plain": {plain, "latency=200", "publish:event-plain_1:s3cret"},
		"event-raw":   {plain, "latency=200", "#!::r=event-raw_1,m=publish,token=s3cret"},
		"lobby":       {locked, "passphrase=of-the-lobby", "publish:lobby_1:s3cret"},
		"event-coded": {locked, pass + "&pbkeylen=16", coded},
		"event-192":   {locked, pass + "&pbkeylen=24", "publish:event-192_1:s3cret"},
		"event-256":   {locked, pass + "&pbkeylen=32", "kLive/event-256_1?t=s3cret"},
	} {
		all.Go(func() {
			t.Run(id, func(t *testing.T) {
				e := harness.StartTransmit(t, srtAddress(c.s, c.query, c.streamID), harness.Picture{})
				c.s.AwaitPlayable(t, id)
				require.Equal(t, c.s == locked, c.s.Sessions(t, id)[0].GetLink().GetEncrypted())
				video, audio := rows(t, c.s, id)
				followers := make(chan *hlscheck.Follower, 2)
				for _, address := range []string{video, audio} {
					go func() { followers <- followFor(t, address, length(20*time.Second, 6*time.Second)) }()
				}
				for range 2 {
					f := <-followers
					require.Empty(t, f.Findings.List(), f.URL)
					require.Greater(t, f.Parts, 12, f.URL)
				}
				e.Stop()
				require.Zero(t, unpublished(t, c.s, id).GetDiscontinuityCount())
			})
		})
	}
	all.Wait()
}

// What ffmpeg publishes over SRT comes out whole: every picture, and ffmpeg has nothing to say about it.
func srtWhole(t *testing.T) {
	s := harness.Start(t, srtCatalog+"limits: { reconnect_window: 1s }")
	const seconds = 8
	// Without linger ffmpeg closes before all was sent, to any receiver.
	e := harness.StartEncoder(t, s, srtAddress(s, "linger=2&passphrase=of-the-lobby&pbkeylen=32", "publish:lobby_1:s3cret"), harness.Picture{Duration: seconds, BFrames: 2})
	s.AwaitPlayable(t, "lobby")
	require.True(t, e.Wait(40*time.Second), "ffmpeg ends by itself")
	require.NoError(t, e.Err())
	unpublished(t, s, "lobby")
	s.AwaitState(t, "lobby", klivev1.BroadcastState_BROADCAST_STATE_STOPPED, 10*time.Second)
	awaitEnd(t, s, "lobby")
	playlist := s.Play("/live/lobby/index.m3u8")
	_, diag, err := harness.Run(60*time.Second, "ffmpeg", "-nostdin", "-v", "warning", "-i", playlist, "-f", "null", "-")
	require.NoError(t, err, diag)
	require.Empty(t, diag)
	require.Equal(t, seconds*30, countFrames(t, playlist, "v"), "pictures")
	require.InDelta(t, seconds*48000/1024, countFrames(t, playlist, "a"), 3, "frames of sound")
}

// ffmpeg's sound in a transport stream is MP2 unless it is told otherwise, which no browser plays: the session ends, and
// says what to do.
func srtMP2(t *testing.T) {
	s := harness.Start(t, catalog)
	e := harness.StartEncoder(t, s, srtAddress(s, "latency=200000", "publish:lobby_1:s3cret"), harness.Picture{Extra: []string{"-c:a", "mp2"}})
	require.True(t, e.Wait(20*time.Second), "ffmpeg goes on though nobody can hear it")
	session := s.Sessions(t, "lobby")[0]
	require.Equal(t, "UNSUPPORTED_CODEC", session.GetReason())
	require.Contains(t, session.GetReasonMessage(), "AAC")
}

// The end of the server reaches encoders over SRT as it does those over RTMP; the broadcasts are not ended by it: the
// next server has them, and ends them when nobody came back.
func srtRestart(t *testing.T) {
	s := harness.Start(t, catalog+"limits: { reconnect_window: 4s, drain_timeout: 1s }")
	addresses := map[string]string{
		"event-rtmp": s.PublishURL("event-rtmp", token),
		"event-srt":  srtAddress(s, "latency=200000", "publish:event-srt_1:s3cret"),
	}
	encoders := map[string]*harness.Encoder{}
	for id, address := range addresses {
		encoders[id] = harness.StartEncoder(t, s, address, small)
	}
	for id := range addresses {
		awaitSegment(t, s, id)
	}
	require.NoError(t, s.Stop(), "exit code 0")
	for id, e := range encoders {
		require.True(t, e.Wait(10*time.Second), "%s: ffmpeg hears that the server is gone", id)
		require.Error(t, e.Err(), id)
	}
	require.NoError(t, s.Relaunch(t.Context()))
	for id := range addresses {
		video, _ := rows(t, s, id)
		status, body, err := harness.Get(t.Context(), video)
		require.NoError(t, err)
		require.Equal(t, 200, status, body)
		require.NotContains(t, body, "#EXT-X-ENDLIST", id)
	}
	// One comes back and goes on where it was.
	harness.StartEncoder(t, s, addresses["event-srt"], small)
	awaitEnd(t, s, "event-rtmp")
	harness.Wait(t, 10*time.Second, "SRT is on air again", func() (bool, error) {
		l := s.Sessions(t, "event-srt")
		return len(l) > 0 && l[0].GetReason() == "" && s.Stream(t, "event-srt").GetBroadcasts()[0].GetReconnectDeadline() == nil, nil
	})
	video, _ := rows(t, s, "event-srt")
	f := followFor(t, video, 3*time.Second)
	require.Empty(t, f.Findings.List())
	require.Positive(t, f.Parts)
	all := f.Last().All()
	require.EqualValues(t, 1, all[len(all)-1].Discontinuity, "the stream goes on behind one discontinuity")
}

// The sounds of a transport stream are the languages of one stream, with rows that cut and end together.
func srtLanguages(t *testing.T) {
	s := harness.Start(t, catalog+"limits: { reconnect_window: 2s }")
	e := harness.StartEncoder(t, s, srtAddress(s, "linger=2&latency=200000", "publish:lobby_1:s3cret"), harness.Picture{Extra: []string{
		"-map", "0:v", "-map", "1:a", "-map", "1:a", "-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu"}})
	address := s.Play("/live/lobby/index.m3u8")
	var m *hlscheck.Multivariant
	harness.Wait(t, 20*time.Second, "two languages", func() (bool, error) {
		m = multivariant(t, address)
		return len(m.Media) == 2, nil
	})
	require.Len(t, m.Variants, 1)
	languages := map[string]bool{}
	followers := make(chan *hlscheck.Follower, len(m.Media))
	for _, r := range m.Media {
		languages[r.Language] = true
		go func() { followers <- followFor(t, against(t, address, r.URI), length(20*time.Second, 6*time.Second)) }()
	}
	for range m.Media {
		f := <-followers
		require.Empty(t, f.Findings.List(), f.URL)
		require.Greater(t, f.Parts, 12, f.URL)
	}
	require.Equal(t, map[string]bool{"en": true, "de": true}, languages)
	e.Stop()
	awaitEnd(t, s, "lobby")
	_, diag, err := harness.Run(60*time.Second, "ffmpeg", "-nostdin", "-v", "warning", "-i", address, "-map", "0", "-f", "null", "-")
	require.NoError(t, err, diag)
	require.Empty(t, diag)
}
