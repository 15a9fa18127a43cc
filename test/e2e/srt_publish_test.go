//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/test/e2e/harness"
)

// srtCatalog has a stream with a passphrase of its own, and one for all others.
const srtCatalog = `
srt: { passphrase: of-the-server }
streams:
  - { id: lobby, token: s3cret, srt_passphrase: of-the-lobby }
  - { id: "event-*", token: s3cret }
`

// srtAddress is where a stream is published, with a stream id as it stands in the address.
func srtAddress(s *harness.Server, query, streamID string) string {
	return "srt://" + s.SRT + "?mode=caller&" + query + "&streamid=" + streamID
}

// TestSRT is what clients do over SRT that mostly wait: each part has servers of its own, and all run at once.
func TestSRT(t *testing.T) {
	var all sync.WaitGroup
	for name, part := range map[string]func(*testing.T){
		"transmit": srtTransmit, "languages": srtLanguages, "whole": srtWhole, "mp2": srtMP2, "restart": srtRestart, "refusals": srtRefusals, "come-and-go": srtComeAndGo,
	} {
		all.Go(func() { t.Run(name, part) })
	}
	all.Wait()
}

// ffmpeg publishes over SRT with every form of stream id and length of key, and with every codec that a transport stream
// carries and browsers or recordings take; what comes out keeps the rules of playlists.
func TestFFmpegPublishesOverSRT(t *testing.T) {
	s := harness.Start(t, srtCatalog)
	const pass = "passphrase=of-the-server"
	var all sync.WaitGroup
	for id, c := range map[string]struct {
		query, streamID string
		picture         harness.Picture
		codecs          string
	}{
		"lobby":        {"passphrase=of-the-lobby", "publish:lobby_1:s3cret", harness.Picture{}, "avc1.42c00d,mp4a.40.2"},
		"event-access": {pass + "&pbkeylen=16", "#!::r=event-access_1,m=publish,token=s3cret", harness.Picture{}, ""},
		"event-coded":  {pass + "&pbkeylen=24", url.QueryEscape("#!::r=event-coded_1,m=publish,token=s3cret"), harness.Picture{}, ""},
		"event-query":  {pass + "&pbkeylen=32", url.QueryEscape("kLive/event-query_1?t=s3cret"), harness.Picture{}, ""},
		"event-b":      {pass, "publish:event-b_1:s3cret", harness.Picture{BFrames: 3, GOP: 60}, ""},
		"event-hevc": {pass, "publish:event-hevc_1:s3cret", harness.Picture{Size: "320x180", Rate: 15, GOP: 30,
			Extra: []string{"-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=error:keyint=30:pools=1"}}, "hvc1.1.6.L60.90,mp4a.40.2"},
		"event-opus": {pass, "publish:event-opus_1:s3cret", harness.Picture{Extra: []string{"-c:a", "libopus"}}, "avc1.42c00d,Opus"},
		"event-ac3":  {pass, "publish:event-ac3_1:s3cret", harness.Picture{Extra: []string{"-c:a", "ac3"}}, "avc1.42c00d,ac-3"},
		"event-mp3":  {pass, "publish:event-mp3_1:s3cret", harness.Picture{Extra: []string{"-c:a", "libmp3lame"}}, ""},
		"event-eac3": {pass, "publish:event-eac3_1:s3cret", harness.Picture{Extra: []string{"-c:a", "eac3"}}, "avc1.42c00d,ec-3"},
		"event-latm": {pass, "publish:event-latm_1:s3cret", harness.Picture{Extra: []string{"-mpegts_flags", "+latm"}}, "avc1.42c00d,mp4a.40.2"},
	} {
		all.Go(func() {
			t.Run(id, func(t *testing.T) {
				e := harness.StartEncoder(t, s, srtAddress(s, c.query, c.streamID), c.picture)
				s.AwaitPlayable(t, id)
				require.True(t, s.Sessions(t, id)[0].GetLink().GetEncrypted())
				video, audio := rows(t, s, id)
				m := multivariant(t, s.Play("/live/"+id+"/index.m3u8"))
				if c.codecs != "" {
					require.Equal(t, c.codecs, m.Variants[0].Codecs)
				}
				v, a := followFor(t, video, length(20*time.Second, 8*time.Second)), followFor(t, audio, 2*time.Second)
				require.Empty(t, v.Findings.List())
				require.Empty(t, a.Findings.List())
				require.NotEmpty(t, v.Runs)
				require.NotEmpty(t, a.Runs)
				e.Stop()
				session := unpublished(t, s, id)
				require.Zero(t, session.GetTimeRepairCount(), "sound and picture are in step from the beginning")
				require.Zero(t, session.GetDiscontinuityCount())
			})
		})
	}
	all.Wait()
}

// srt-live-transmit and ffmpeg tell refusals apart as far as libsrt has words; the server's events do all.
func srtRefusals(t *testing.T) {
	// A server tells of four kinds of refusals of one address at once.
	const kinds = 4
	servers := []*harness.Server{harness.Start(t, srtCatalog), harness.Start(t, srtCatalog)}
	const appDefined = "Application-defined rejection reason"
	busy := servers[1]
	harness.StartEncoder(t, busy, srtAddress(busy, "passphrase=of-the-server", "publish:event-busy_1:s3cret"), small)
	busy.AwaitPlayable(t, "event-busy")
	for i, c := range []struct{ query, streamID, says, stream, reason string }{
		{"passphrase=of-the-server", "publish:lobby_1:s3cret", "Incorrect passphrase", "lobby", "BAD_PASSPHRASE"},
		{"latency=120", "publish:event-x_1:s3cret", "Password required or unexpected", "event-x", "BAD_PASSPHRASE"},
		{"passphrase=of-the-lobby", "publish:lobby_1:wrong", appDefined, "lobby", "BAD_TOKEN"},
		{"passphrase=of-the-server", "publish:nobody_1:s3cret", appDefined, "nobody", "STREAM_NOT_FOUND"},
		{"passphrase=of-the-server", "nonsense", appDefined, "", "MISSING_ARGUMENT"},
		{"passphrase=of-the-server", "#!::r=event-y_1,m=request,token=s3cret", appDefined, "", "BAD_ADDRESS"},
		{"passphrase=of-the-server", "publish:event-busy_1:s3cret", appDefined, "event-busy", "STREAM_BUSY"},
	} {
		t.Run(c.reason+" "+c.stream, func(t *testing.T) {
			s := servers[i/kinds]
			address := srtAddress(s, c.query, c.streamID)
			transmit := harness.StartTransmit(t, address, small)
			harness.Wait(t, patience, "srt-live-transmit says why", func() (bool, error) { return sentence(transmit.Output()) != "", nil })
			require.Equal(t, c.says, sentence(transmit.Output()))
			transmit.KillGroup()
			encoder := harness.StartEncoder(t, s, address, small)
			require.True(t, encoder.Wait(20*time.Second), "ffmpeg ends when it is refused")
			require.Error(t, encoder.Err())
			require.Equal(t, c.says, sentence(encoder.Output()), "libsrt says it to ffmpeg's standard error")
			require.Contains(t, encoder.Output(), "Input/output error", "what ffmpeg says itself")
			harness.Wait(t, patience, "an event that says why", func() (bool, error) {
				return slices.ContainsFunc(eventsOf(t, s, klivev1.EventType_EVENT_TYPE_PUBLISH_REFUSED), func(e *klivev1.Event) bool {
					return strings.TrimPrefix(e.GetStream(), "streams/") == c.stream && e.GetReason() == c.reason && e.GetMessage() != ""
				}), nil
			})
			n, err := s.Metric(t.Context(), "klive_srt_refused_total", "reason=\""+c.reason+"\"")
			require.NoError(t, err)
			require.GreaterOrEqual(t, n, 2.0, "both were counted")
		})
	}
	require.Empty(t, busy.Sessions(t, "event-busy")[0].GetReason(), "who is on air stays there")
	for _, s := range servers {
		require.NotContains(t, s.Log(), "s3cret", "the log holds a token")
		require.NotContains(t, s.Log(), "of-the-", "the log holds a passphrase")
	}
}

// sentence is what libsrt said of a rejection.
func sentence(said string) string {
	_, rest, _ := strings.Cut(said, "REJECT reported from HS processing: ")
	rest, _, _ = strings.Cut(rest, " - not processing further")
	return rest
}

// Fifty clients that come and go, are killed or say goodbye, many at a time, leave nothing behind.
func srtComeAndGo(t *testing.T) {
	s := harness.Start(t, srtCatalog+"limits: { reconnect_window: 2s }")
	clip := filepath.Join(t.TempDir(), "clip.ts")
	_, diag, err := harness.Run(30*time.Second, "ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=160x90:rate=15:duration=3",
		"-f", "lavfi", "-i", "sine=sample_rate=48000:duration=3", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "15", "-c:a", "aac", clip)
	require.NoError(t, err, diag)
	media, err := os.ReadFile(clip)
	require.NoError(t, err)
	client := klivev1.NewSessionServiceClient(s.Dial(t)) // one for all: each is held until the test's end
	sessions := func(id string) int {
		v, err := client.ListSessions(t.Context(), &klivev1.ListSessionsRequest{Parent: "streams/" + id})
		if err != nil {
			return 0 // nobody asked for this id yet
		}
		return len(v.GetSessions())
	}
	come := func(t *testing.T, i int) {
		id := fmt.Sprintf("event-go%d", i)
		address := srtAddress(s, "passphrase=of-the-server", "publish:"+id+"_1:s3cret")
		old := sessions(id)
		var e *harness.Encoder
		if i%4 == 0 {
			e = harness.StartEncoder(t, s, address, small)
		} else {
			e = harness.StartTransmitOf(t, address, bytes.NewReader(media))
		}
		harness.Wait(t, patience, id+" is let in", func() (bool, error) { return sessions(id) > old, nil })
		if i%3 == 0 {
			e.Stop()
		} else {
			e.Kill()
		}
	}
	cycles := func(n int) {
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() { come(t, i) })
		}
		all.Wait()
		require.False(t, t.Failed())
		harness.Wait(t, patience, "nobody is left", func() (bool, error) {
			n, err := s.Metric(t.Context(), "klive_srt_connections")
			return n == 0, err
		})
	}
	cycles(17) // pools and tables get their size
	goroutines := settled(t, s, 1<<20)
	before, err := harness.Usages(s.PID())
	require.NoError(t, err)
	held, err := harness.Holds(s.PID())
	require.NoError(t, err)
	for range length(6, 2) {
		cycles(17)
	}
	now := settled(t, s, goroutines+8)
	after, err := harness.Usages(s.PID())
	require.NoError(t, err)
	holds, err := harness.Holds(s.PID())
	require.NoError(t, err)
	t.Logf("goroutines %v then %v; resident %d MB then %d MB; %+v then %+v", goroutines, now, before.RSS>>20, after.RSS>>20, held, holds)
	require.Less(t, after.RSS-before.RSS, int64(24<<20), "memory grew")
	require.LessOrEqual(t, holds.Files, held.Files+8)
	require.LessOrEqual(t, holds.Threads, held.Threads+8)
	require.NotContains(t, s.Log(), "panic")
}
