package hls

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment"
)

// entryOnAir is an entry whose ingests are listed by flavor params ids, as
// below a Kaltura backend.
func entryOnAir(t testing.TB, flavors ...string) *Handler {
	t.Helper()
	store := newFakeStore()
	store.add("0_other", 0)
	f := store.add("0_rkij47dr", 0)
	for _, id := range flavors {
		for _, kind := range []media.Kind{media.Video, media.Audio} {
			row := segment.RowID{Rendition: id, Kind: kind}
			track := videoTrack()
			if kind == media.Audio {
				track = audioTrack()
			}
			f.row(row, track)
			for range 3 {
				f.segment(row, 16, 250*time.Millisecond)
			}
		}
	}
	return New(Options{Store: store, LowLatency: true})
}

// children are the lines of a playlist that are addresses.
func children(playlist string) (out []string) {
	for line := range strings.Lines(playlist) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			out = append(out, line)
		}
	}
	return out
}

func TestKalturasLayoutWithFlavorParamsIDs(t *testing.T) {
	h := entryOnAir(t, "32", "36", "101")
	for path, want := range map[string]string{
		"smil:0_rkij47dr_all.smil/playlist.m3u8":                        "32 36 101",
		"smil:0_rkij47dr_all.smil/playlist.m3u8?DVR":                    "32 36 101",
		"smil:0_rkij47dr_all.smil/playlist.m3u8?DVR&flavorIds=32,36":    "32 36",
		"smil:0_rkij47dr_all.smil/playlist.m3u8?flavorIds=32%2C36&DVR=": "32 36",
		"smil:0_rkij47dr_all.smil/playlist.m3u8?flavorIds=36,99":        "36",
		"smil%3A0_rkij47dr_all.smil/playlist.m3u8":                      "32 36 101",
		"smil:0_rkij47dr_32.smil/playlist.m3u8":                         "32",
		"smil:0_rkij47dr_32_36.smil/playlist.m3u8":                      "32 36",
		"smil:0_rkij47dr_32_99.smil/playlist.m3u8":                      "32",
		"smil:0_rkij47dr_ipadnew.smil/playlist.m3u8":                    "32 36 101", // a tag
		"smil:0_rkij47dr_mbr.smil/playlist.m3u8?flavorIds=32,36":        "32 36",
		"0_rkij47dr_32/playlist.m3u8":                                   "32",
		"0_rkij47dr_101/playlist.m3u8?DVR":                              "101",
		"0_rkij47dr_all/playlist.m3u8":                                  "32 36 101",
		"0_rkij47dr_99/playlist.m3u8":                                   "",
		"0_rkij47dr_mbr/playlist.m3u8":                                  "",
		"0_rkij47dr_3/playlist.m3u8":                                    "",
		"smil:0_rkij47dr_99.smil/playlist.m3u8":                         "",
		"smil:0_rkij47dr_99_98.smil/playlist.m3u8":                      "",
		"smil:0_rkij47dr_all.smil/playlist.m3u8?flavorIds=99":           "",
		"smil:0_rkij47dr_all.smil/playlist.m3u8?flavorIds=3":            "",
		"smil:0_other_all.smil/playlist.m3u8":                           "",
	} {
		for _, below := range []string{"/kLive/", "/kLive/_definst_/"} {
			w := serve(h, "GET", below+path)
			if want == "" {
				require.Equal(t, 404, w.Code, path)
				continue
			}
			require.Equal(t, 200, w.Code, path)
			require.Equal(t, "application/vnd.apple.mpegurl", w.Header().Get("Content-Type"))
			var got []string
			base, err := url.Parse(below + path)
			require.NoError(t, err)
			for _, child := range children(w.Body.String()) {
				flavor, ok := strings.CutSuffix(child, "/chunklist.m3u8")
				require.True(t, ok, child)
				got = append(got, flavor)
				ref, err := url.Parse(child)
				require.NoError(t, err)
				playsWhole(t, h, base.ResolveReference(ref))
			}
			require.Equal(t, want, strings.Join(got, " "), path)
		}
	}
}

// The backend writes the multivariant playlist itself, of the flavors it was
// told, and points beside the address it would give to a player.
func TestTheBackendsOwnPlaylistOfPlaylists(t *testing.T) {
	h := entryOnAir(t, "32", "36")
	for _, manifest := range []string{
		"/kLive/smil:0_rkij47dr_all.smil/playlist.m3u8?DVR", "/kLive/smil:0_rkij47dr_32_36.smil/playlist.m3u8",
		"/kLive/0_rkij47dr_32/playlist.m3u8", "/kLive/_definst_/smil:0_rkij47dr_mbr.smil/playlist.m3u8?DVR&flavorIds=32,36",
	} {
		base, err := url.Parse(manifest)
		require.NoError(t, err)
		for _, flavor := range []string{"32", "36"} {
			playsWhole(t, h, base.JoinPath("..", flavor, "chunklist.m3u8"))
		}
	}
}

// playsWhole fetches a chunklist and all it points to: picture and sound in
// one.
func playsWhole(t *testing.T, h *Handler, list *url.URL) {
	t.Helper()
	w := serve(h, "GET", list.String())
	require.Equal(t, 200, w.Code, list)
	files := children(w.Body.String())
	require.Len(t, files, 3)
	for _, m := range regexp.MustCompile(`URI="([^"]+)"`).FindAllStringSubmatch(w.Body.String(), -1) {
		files = append(files, m[1])
	}
	require.Len(t, files, 4)
	for _, file := range files {
		ref, err := url.Parse(file)
		require.NoError(t, err)
		w := serve(h, "GET", list.ResolveReference(ref).String())
		require.Equal(t, 200, w.Code, file)
		if strings.HasSuffix(file, ".m4s") {
			require.Contains(t, w.Body.String(), "/video/r1/")
			require.Contains(t, w.Body.String(), "/audio/r1/")
		}
		probe := serve(h, "GET", list.ResolveReference(ref).String(), "Range", "0-1") // as the backend asks
		require.Equal(t, 200, probe.Code)
	}
}
