//go:build e2e

package e2e

import (
	"net/url"
	"os/exec"
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
				harness.Wait(t, 20*time.Second, "the goodbye", func() (bool, error) { return s.Sessions(t, id)[0].GetReason() != "", nil })
				session := s.Sessions(t, id)[0]
				require.Equal(t, "UNPUBLISHED", session.GetReason())
				require.Zero(t, session.GetTimeRepairCount(), "sound and picture are in step from the beginning")
				require.Zero(t, session.GetDiscontinuityCount())
			})
		})
	}
	all.Wait()
}

// srt-live-transmit, libsrt's own tool, tells refusals apart as far as libsrt has words; the server's events do all.
func TestSRTRefusals(t *testing.T) {
	s := harness.Start(t, srtCatalog)
	const appDefined = "Application-defined rejection reason"
	harness.StartEncoder(t, s, srtAddress(s, "passphrase=of-the-server", "publish:event-busy_1:s3cret"), small)
	s.AwaitPlayable(t, "event-busy")
	for _, c := range []struct{ query, streamID, says, reason string }{
		{"passphrase=of-the-server", "publish:lobby_1:s3cret", "Incorrect passphrase", "BAD_PASSPHRASE"},
		{"latency=120", "publish:lobby_1:s3cret", "Password required or unexpected", "BAD_PASSPHRASE"},
		{"passphrase=of-the-lobby", "publish:lobby_1:wrong", appDefined, "BAD_TOKEN"},
		{"passphrase=of-the-server", "publish:nobody_1:s3cret", appDefined, "STREAM_NOT_FOUND"},
		{"passphrase=of-the-server", "nonsense", appDefined, "MISSING_ARGUMENT"},
		{"passphrase=of-the-server", "publish:event-busy_1:s3cret", appDefined, "STREAM_BUSY"},
	} {
		cmd := exec.CommandContext(t.Context(), "srt-live-transmit", "-v", "-loglevel:note", "-a:no", "-to:3", "file://con", srtAddress(s, c.query, c.streamID))
		cmd.Stdin = strings.NewReader("nothing of use")
		out, _ := cmd.CombinedOutput()
		require.Contains(t, string(out), c.says, c.reason)
		harness.Wait(t, patience, c.reason, func() (bool, error) {
			n, err := s.Metric(t.Context(), "klive_srt_refused_total", "reason", c.reason)
			return n > 0, err
		})
	}
	events := map[string]bool{}
	for _, e := range eventsOf(t, s, klivev1.EventType_EVENT_TYPE_PUBLISH_REFUSED) {
		events[e.GetReason()] = true
	}
	require.True(t, events["BAD_PASSPHRASE"] && events["BAD_TOKEN"] && events["STREAM_NOT_FOUND"], "%v", events)
	require.Empty(t, s.Sessions(t, "event-busy")[0].GetReason(), "who is on air stays there")
}

// Encoders that come, go, are killed and are refused leave nothing behind; the end of the server reaches those that are
// on air.
func TestSRTEncodersComeAndGo(t *testing.T) {
	s := harness.Start(t, srtCatalog)
	run := func(n int) {
		var all sync.WaitGroup
		for i := range n {
			all.Go(func() {
				e := harness.StartEncoder(t, s, srtAddress(s, "passphrase=of-the-server", "publish:event-go"+string(rune('a'+i))+"_1:s3cret"), small)
				harness.Wait(t, patience, "on air", func() (bool, error) {
					l := s.Sessions(t, "event-go"+string(rune('a'+i)))
					return len(l) > 0 && l[0].GetReason() == "", nil
				})
				if i%2 == 0 {
					e.Kill()
				} else {
					e.Stop()
				}
			})
		}
		all.Wait()
		harness.Wait(t, patience, "nobody is left", func() (bool, error) {
			n, err := s.Metric(t.Context(), "klive_srt_connections")
			return n == 0, err
		})
	}
	run(8)
	before, err := harness.Usages(s.PID())
	require.NoError(t, err)
	for range length(5, 2) {
		run(8)
	}
	after, err := harness.Usages(s.PID())
	require.NoError(t, err)
	t.Logf("resident %d MB, then %d MB", before.RSS>>20, after.RSS>>20)
	require.Less(t, after.RSS-before.RSS, int64(40<<20))

	e := harness.StartEncoder(t, s, srtAddress(s, "passphrase=of-the-server", "publish:event-last_1:s3cret"), small)
	s.AwaitPlayable(t, "event-last")
	require.NoError(t, s.Stop())
	require.True(t, e.Wait(10*time.Second), "ffmpeg hears that the server is gone")
}
