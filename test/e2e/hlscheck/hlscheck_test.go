package hlscheck

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// good is a low-latency playlist without a fault.
const good = `#EXTM3U
#EXT-X-VERSION:9
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.75,CAN-SKIP-UNTIL=12.0
#EXT-X-PART-INF:PART-TARGET=0.25
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-MAP:URI="init.mp4"
#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00.000Z
#EXT-X-PART:URI="7.0.m4s",DURATION=0.25,INDEPENDENT=YES
#EXT-X-PART:URI="7.1.m4s",DURATION=0.23333
#EXT-X-PART:URI="7.2.m4s",DURATION=0.1
#EXTINF:0.58333,
7.m4s
#EXT-X-DISCONTINUITY
#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:02.000Z
#EXT-X-PART:URI="8.0.m4s",DURATION=0.25,INDEPENDENT=YES
#EXT-X-PRELOAD-HINT:TYPE=PART,URI="8.1.m4s"
#EXT-X-RENDITION-REPORT:URI="audio.m3u8",LAST-MSN=8,LAST-PART=0
`

func TestGoodPlaylistPasses(t *testing.T) {
	p, err := ParseMedia(good)
	require.NoError(t, err)
	var f Findings
	CheckMedia(p, &f)
	CheckNext(p, p, &f)
	require.Empty(t, f.List())
	require.Len(t, p.Segments, 1)
	require.EqualValues(t, 8, p.Open.Number)
	require.EqualValues(t, 1, p.Open.Discontinuity)
	number, part := p.Edge()
	require.EqualValues(t, 8, number)
	require.Equal(t, 1, part)
}

func TestBrokenPlaylistsAreFound(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"long segment":     {"#EXTINF:0.58333", "#EXTINF:2.6", "more than the target duration"},
		"long part":        {`7.1.m4s",DURATION=0.23333`, `7.1.m4s",DURATION=0.26`, "more than PART-TARGET"},
		"short part":       {`7.1.m4s",DURATION=0.23333`, `7.1.m4s",DURATION=0.2`, "less than 85 %"},
		"sum of parts":     {"#EXTINF:0.58333", "#EXTINF:0.7", "the parts of segment 7 last"},
		"hold back":        {"PART-HOLD-BACK=0.75", "PART-HOLD-BACK=0.5", "less than three times PART-TARGET"},
		"skip":             {"CAN-SKIP-UNTIL=12.0", "CAN-SKIP-UNTIL=6.0", "less than six times"},
		"no hint":          {`#EXT-X-PRELOAD-HINT:TYPE=PART,URI="8.1.m4s"`, "", "no preload hint"},
		"no map":           {`#EXT-X-MAP:URI="init.mp4"`, "", "has no EXT-X-MAP"},
		"clock":            {"#EXT-X-DISCONTINUITY\n", "", "off the end of the one before"},
		"version":          {"VERSION:9", "VERSION:3", "needs 6"},
		"parts unexpected": {"#EXT-X-PART-INF:PART-TARGET=0.25", "", "no EXT-X-PART-INF"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, good, c.from)
			p, err := ParseMedia(strings.Replace(good, c.from, c.to, 1))
			require.NoError(t, err)
			var f Findings
			CheckMedia(p, &f)
			require.Contains(t, strings.Join(f.List(), "\n"), c.want)
		})
	}
}

func TestForbiddenChangesAreFound(t *testing.T) {
	for name, c := range map[string]struct{ from, to, want string }{
		"other content":    {"7.m4s\n", "7b.m4s\n", "segment 7 was 7.m4s"},
		"other duration":   {"#EXTINF:0.58333", "#EXTINF:0.58", "lasted"},
		"sequence":         {"SEQUENCE:7", "SEQUENCE:6", "went back"},
		"target":           {"TARGETDURATION:2", "TARGETDURATION:3", "the target duration went"},
		"part gone":        {`#EXT-X-PART:URI="8.0.m4s",DURATION=0.25,INDEPENDENT=YES` + "\n", "", "the live edge went back"},
		"clock":            {"00:00:02.000Z", "00:00:02.100Z", "began at"},
		"no discontinuity": {"#EXT-X-DISCONTINUITY\n", "", "discontinuity number"},
	} {
		t.Run(name, func(t *testing.T) {
			before, err := ParseMedia(good)
			require.NoError(t, err)
			after, err := ParseMedia(strings.Replace(good, c.from, c.to, 1))
			require.NoError(t, err)
			var f Findings
			CheckNext(before, after, &f)
			require.Contains(t, strings.Join(f.List(), "\n"), c.want)
		})
	}
}

func TestUnreadablePlaylistsAreRefused(t *testing.T) {
	for name, c := range map[string]struct{ from, to string }{
		"unknown tag":        {"#EXT-X-MAP", "#EXT-X-NEW"},
		"no header":          {"#EXTM3U", "#EXT"},
		"URI without EXTINF": {"#EXTINF:0.58333,\n", ""},
		"quote":              {`URI="7.1.m4s"`, `URI="7.1.m4s`},
		"discontinuity":      {"#EXTINF:0.58333,", "#EXTINF:0.58333,\n#EXT-X-DISCONTINUITY"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseMedia(strings.Replace(good, c.from, c.to, 1))
			require.Error(t, err)
		})
	}
}

// ffmpeg's fragmented HLS is read to its last sample.
func TestFollowReadsWhatAnotherMuxerWrites(t *testing.T) {
	dir := t.TempDir()
	out, err := exec.Command("ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "error",
		"-f", "lavfi", "-i", "testsrc2=size=160x90:rate=25", "-f", "lavfi", "-i", "sine=sample_rate=48000", "-t", "4",
		"-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25", "-sc_threshold", "0", "-bf", "0", "-c:a", "aac",
		"-f", "hls", "-hls_time", "1", "-hls_segment_type", "fmp4", "-hls_list_size", "0", filepath.Join(dir, "vod.m3u8")).CombinedOutput()
	require.NoError(t, err, string(out))
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)

	ledger := new(Ledger)
	f := Follower{URL: server.URL + "/vod.m3u8", Client: server.Client(), Ledger: ledger}
	require.NoError(t, f.Follow(t.Context()))
	frames, keys := 0, 0
	for _, run := range f.Runs {
		for _, track := range run.Tracks {
			if !track.Track.Video {
				continue
			}
			require.Equal(t, 160, track.Track.Width)
			frames += len(track.Samples)
			for _, s := range track.Samples {
				require.Equal(t, s.Sync, s.IDR)
				if s.Sync {
					keys++
				}
			}
		}
	}
	require.Equal(t, 100, frames)
	require.Equal(t, 4, keys)

	alive, err := ledger.Verify(t.Context(), server.Client())
	require.NoError(t, err)
	require.Equal(t, 5, alive)
	require.Empty(t, ledger.Changed())
	require.NoError(t, os.WriteFile(filepath.Join(dir, "vod1.m4s"), []byte("other"), 0o600))
	_, err = ledger.Verify(t.Context(), server.Client())
	require.NoError(t, err)
	require.Len(t, ledger.Changed(), 1)
}
