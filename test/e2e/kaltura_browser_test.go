//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/test/e2e/harness"
)

// playerPage is a page of somebody else's that plays an address with hls.js and keeps the metadata in the segments.
const playerPage = `<!doctype html><meta charset="utf-8"><video width="640" height="360" muted autoplay></video>
<script src="hls.js"></script><script>
window.klive = { tags: [], errors: [] };
const player = new Hls();
player.on(Hls.Events.FRAG_PARSING_METADATA, (_, data) => {
  for (const s of data.samples) window.klive.tags.push({ type: s.type, at: Date.now(), text: new TextDecoder().decode(s.data) });
});
player.on(Hls.Events.ERROR, (_, data) => window.klive.errors.push(data.details + (data.fatal ? ' (fatal)' : '')));
player.loadSource(%q);
player.attachMedia(document.querySelector('video'));
</script>`

// syncPoint is the mark at the start of a segment: the wall clock.
var syncPoint = regexp.MustCompile(`\{[^{}]*"KalturaSyncPoint"[^{}]*\}`)

// The master playlist that the backend writes from what it was told plays in hls.js on a foreign page, with picture and
// sound, and the sync points arrive as timed metadata.
func TestKalturaMasterPlaysInBrowser(t *testing.T) {
	b := harness.StartBackend(t)
	s := b.Serve(t, "live1.example.com", "", "")
	awaitNode(t, s)
	e, err := harness.PublishClock(t.TempDir(), b.PublishURL(t, entry, 0, 1), 60)
	require.NoError(t, err)
	t.Cleanup(func() {
		e.KillGroup()
		if t.Failed() {
			t.Logf("the encoder's output ends with:\n%s", e.Tail(3000))
		}
	})
	awaitRow(t, b, entry, kalturatest.StatusPlayable, patience)
	harness.Wait(t, patience, "the backend knows the renditions", func() (bool, error) { return len(b.Row(t, entry, "0").Streams) > 0, nil })
	awaitSegments(t, s, entry, 2)
	m := multivariant(t, b.Master(entry))
	require.Len(t, m.Variants, 1)
	require.Equal(t, "640x360", m.Variants[0].Resolution)
	require.Contains(t, m.Variants[0].URI, "/kLive/smil:"+entry+"_all.smil/32/chunklist.m3u8")

	root, err := harness.Root()
	require.NoError(t, err)
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hls.js" {
			http.ServeFile(w, r, filepath.Join(root, "web", "node_modules", "hls.js", "dist", "hls.min.js"))
			return
		}
		fmt.Fprintf(w, playerPage, b.Master(entry))
	}))
	t.Cleanup(page.Close)
	watched := length(20*time.Second, 8*time.Second)
	browser, err := harness.Watch(t.TempDir(), page.URL+"/", watched, 0)
	require.NoError(t, err)
	t.Cleanup(func() {
		browser.KillGroup()
		keepScreenshot(t, browser.Screenshot)
	})
	v, err := browser.Result(2 * time.Minute)
	require.NoError(t, err)
	show(t, v)
	require.Equal(t, 640, v.Video.Width)
	require.Positive(t, v.Video.Audio, "no sound was decoded")
	require.False(t, v.Video.Paused)
	require.Greater(t, len(v.Latencies()), int(watched.Seconds()*15), "pictures with a readable clock")

	var seen struct {
		Tags []struct {
			Type string  `json:"type"`
			At   float64 `json:"at"`
			Text string  `json:"text"`
		} `json:"tags"`
		Errors []string `json:"errors"`
	}
	said, err := json.Marshal(v.Video.Page)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(said, &seen), "%s", said)
	for _, e := range seen.Errors { // an encoder's sound may begin a moment before its picture: the player steps over that
		require.Equal(t, "bufferSeekOverHole", e)
	}
	require.NotEmpty(t, seen.Tags, "no timed metadata arrived")
	last := 0.0
	for _, tag := range seen.Tags {
		var mark struct {
			Type      string  `json:"objectType"`
			ID        string  `json:"id"`
			Timestamp float64 `json:"timestamp"`
		}
		require.NoError(t, json.Unmarshal([]byte(syncPoint.FindString(tag.Text)), &mark), "%q", tag.Text)
		require.Equal(t, "KalturaSyncPoint", mark.Type)
		require.Contains(t, mark.ID, entry)
		require.GreaterOrEqual(t, mark.Timestamp, last)
		require.InDelta(t, tag.At, mark.Timestamp, 60_000, "the wall clock of a segment that was just fetched")
		last = mark.Timestamp
	}
	t.Logf("%d sync points; the last: %s", len(seen.Tags), syncPoint.FindString(seen.Tags[len(seen.Tags)-1].Text))
}
