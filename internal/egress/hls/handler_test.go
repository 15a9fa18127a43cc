package hls

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/segment"
)

func serve(h http.Handler, method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func TestGzip(t *testing.T) {
	h, _ := onAir(t)
	plain := serve(h, "GET", videoList)
	require.Empty(t, plain.Header().Get("Content-Encoding"))
	require.Equal(t, "Accept-Encoding", plain.Header().Get("Vary"))
	for accept, zipped := range map[string]bool{
		"gzip": true, "gzip, deflate, br": true, "br;q=1.0, gzip;q=0.8": true, "*": true, "GZIP": true, "gzip;q=1": true,
		"": false, "identity": false, "gzip;q=0": false, "gzip; q=0.000": false, "br": false, "notgzip": false,
	} {
		w := serve(h, "GET", videoList, "Accept-Encoding", accept)
		require.Equal(t, zipped, w.Header().Get("Content-Encoding") == "gzip", accept)
		var body io.Reader = w.Body
		require.Equal(t, w.Header().Get("Content-Length"), itoa(w.Body.Len()))
		if zipped {
			var err error
			body, err = gzip.NewReader(w.Body)
			require.NoError(t, err)
		}
		text, err := io.ReadAll(body)
		require.NoError(t, err)
		require.Equal(t, plain.Body.String(), string(text))
	}
	require.EqualValues(t, 1, h.Stats().Compressions(), "compressed once for all")
	require.EqualValues(t, 1, h.Stats().Renders())
}

func itoa(n int) string { return newText(make([]byte, n)).length[0] }

func TestHeadAnswersAsGetWithoutBody(t *testing.T) {
	h, _ := onAir(t)
	for _, path := range []string{
		"/live/lobby/index.m3u8", videoList, "/live/lobby/1/video/0/r1/0.m4s", "/live/lobby/1/video/0/r1/0.3.m4s",
		"/live/lobby/1/audio/0/r1/init0.mp4", "/live/lobby/", "/live/-/player.js", "/live/nobody/index.m3u8",
		"/kLive/lobby_1/playlist.m3u8", "/kLive/lobby_1/1/chunklist.m3u8",
	} {
		get, head := serve(h, "GET", path), serve(h, "HEAD", path)
		require.Equal(t, get.Code, head.Code, path)
		require.Equal(t, get.Header(), head.Header(), path)
		require.Equal(t, itoa(get.Body.Len()), get.Header().Get("Content-Length"), path)
		require.NotZero(t, get.Body.Len(), path)
		require.Zero(t, head.Body.Len(), path)
	}
}

func TestOnlyReadingIsAllowed(t *testing.T) {
	h, _ := onAir(t)
	w := serve(h, "POST", videoList)
	require.Equal(t, 405, w.Code)
	require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
}

func TestRanges(t *testing.T) {
	const path = "/live/lobby/1/video/0/r1/1.m4s"
	const muxed = "/kLive/lobby_1/1/0/r1/1.m4s"
	for _, files := range []bool{false, true} {
		h, f := onAir(t)
		if files {
			f.files = t.TempDir()
		}
		for _, p := range []string{path, muxed} {
			all := serve(h, "GET", p)
			require.Equal(t, 200, all.Code)
			require.Equal(t, "bytes", all.Header().Get("Accept-Ranges"))
			whole := all.Body.String()
			n := len(whole)
			require.True(t, strings.HasPrefix(whole, "1/video/r1/1.0;1/video/r1/1.1;"))
			for spec, want := range map[string]struct {
				status int
				body   string
				span   string
			}{
				"bytes=0-9":     {206, whole[:10], "bytes 0-9/" + itoa(n)},
				"bytes=20-29":   {206, whole[20:30], "bytes 20-29/" + itoa(n)},
				"bytes=100-":    {206, whole[100:], "bytes 100-" + itoa(n-1) + "/" + itoa(n)},
				"bytes=-7":      {206, whole[n-7:], "bytes " + itoa(n-7) + "-" + itoa(n-1) + "/" + itoa(n)},
				"bytes=-99999":  {206, whole, "bytes 0-" + itoa(n-1) + "/" + itoa(n)},
				"bytes=5-99999": {206, whole[5:], "bytes 5-" + itoa(n-1) + "/" + itoa(n)},
				"bytes=99999-":  {416, "", "bytes */" + itoa(n)},
				"bytes=-0":      {416, "", "bytes */" + itoa(n)},
				"bytes=9-5":     {200, whole, ""},
				"bytes=0-1,4-5": {200, whole, ""},
				"bytes=+1-2":    {200, whole, ""},
				"items=0-1":     {200, whole, ""},
				"bytes=":        {200, whole, ""},
			} {
				w := serve(h, "GET", p, "Range", spec)
				require.Equal(t, want.status, w.Code, spec)
				require.Equal(t, want.span, w.Header().Get("Content-Range"), spec)
				if want.status != 416 {
					require.Equal(t, want.body, w.Body.String(), spec)
					require.Equal(t, itoa(len(want.body)), w.Header().Get("Content-Length"), spec)
				}
			}
			require.Equal(t, 200, serve(h, "GET", p, "Range", "bytes=0-1", "If-Range", `"x"`).Code)
		}
	}
}

func TestBuffersAreGathered(t *testing.T) {
	var want []byte
	var buffers [][]byte
	for i, n := range []int{10, 0, 100, 20 << 10, 5, 60 << 10, 7 << 10, 7 << 10, 7 << 10, 7 << 10, 7 << 10, 7 << 10, 7 << 10, 7 << 10, 7 << 10, 7 << 10, 3} {
		b := bytes.Repeat([]byte{byte('a' + i)}, n)
		buffers = append(buffers, b)
		want = append(want, b...)
	}
	for _, span := range [][2]int{{0, len(want)}, {5, 20}, {109, 1}, {110, 30 << 10}, {len(want) - 1, 1}, {0, 0}} {
		var w writeCounter
		n, err := sendBuffers(&w, buffers, int64(span[0]), int64(span[1]))
		require.NoError(t, err)
		require.EqualValues(t, span[1], n)
		require.Equal(t, string(want[span[0]:span[0]+span[1]]), w.String())
		require.LessOrEqual(t, w.calls, 7)
	}
	_, err := sendBuffers(io.Discard, buffers, 0, int64(len(want)+1))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

type writeCounter struct {
	bytes.Buffer
	calls int
}

func (w *writeCounter) Write(p []byte) (int, error) {
	w.calls++
	return w.Buffer.Write(p)
}

func TestPlayerPage(t *testing.T) {
	h := New(Options{Store: newFakeStore()})
	w := serve(h, "GET", "/live/lobby?i=1")
	require.Equal(t, 301, w.Code)
	require.Equal(t, "lobby/?i=1", w.Header().Get("Location"))
	w = serve(h, "GET", "/live/lobby/")
	require.Equal(t, 200, w.Code)
	require.Contains(t, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
	require.Contains(t, w.Body.String(), "../-/player.js")
	w = serve(h, "GET", "/live/-/player.js")
	require.Equal(t, 200, w.Code)
	require.Contains(t, w.Header().Get("Content-Type"), "javascript")
	require.Equal(t, 304, serve(h, "GET", "/live/-/player.js", "If-None-Match", w.Header().Get("Etag")).Code)
	require.Equal(t, 404, serve(h, "GET", "/live/-/../hls.go").Code)
	require.Equal(t, 404, serve(h, "GET", "/live/-/other.js").Code)
	if w = serve(h, "GET", "/live/-/hls.min.js"); w.Code != 200 {
		require.Contains(t, w.Body.String(), "make web")
	}
}

// The listener says Vary: Origin when the answer depends on the page that asks.
func TestVaryIsAdded(t *testing.T) {
	h, _ := onAir(t)
	for _, path := range []string{"/live/lobby/", "/live/-/player.js", videoList} {
		w := httptest.NewRecorder()
		w.Header().Set("Vary", "Origin")
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		require.Equal(t, []string{"Origin", "Accept-Encoding"}, w.Header().Values("Vary"), path)
	}
}

func TestAddressesThatNameNothing(t *testing.T) {
	h, _ := onAir(t)
	for _, path := range []string{
		"/", "/live/", "/live//", "/live/lobby/x", "/live/lobby/1/index.m3u8", "/live/lobby/1/data/index.m3u8",
		"/live/lobby/1/video/", "/live/lobby/1/video/2/r1/0.m4s", "/live/lobby/1/video/0/r1/00.m4s",
		"/live/lobby/1/video/0/r1/0.00.m4s", "/live/lobby/1/video/0//0.m4s", "/live/lobby/1/video/0/r1/0.mp4",
		"/live/lobby/1/video/0/r1/init.mp4", "/live/_x/index.m3u8", "/live/a%22b/index.m3u8", "/kLive/", "/kLive/x",
		"/kLive/lobby_1/1/0/r1/0.0.m4s", "/kLive/lobby_1/1/0/r1/init0.mp4", "/kLive/lobby_1/1/0/r1/initx-x.mp4",
		"/kLive/smil:lobby_all/playlist.m3u8", "/live/" + strings.Repeat("a", 2000) + "/",
		"/live/lobby/2/video/index.m3u8", "/live/lobby/1/video/0/r2/init0.mp4", "/live/lobby/1/video/1/r1/0.m4s",
	} {
		w := serve(h, "GET", path)
		require.Equal(t, 404, w.Code, path)
		require.Equal(t, "public, max-age=1", w.Header().Get("Cache-Control"), path)
		require.Contains(t, w.Header().Get("Content-Type"), "text/plain", path)
		require.NotContains(t, w.Body.String(), `a"b`)
	}
}

// closedDoor lets nobody watch.
type closedDoor struct{}

func (closedDoor) MayPlay(_ context.Context, r auth.PlayRequest) error {
	if r.Header == "Bearer viewer" {
		return nil
	}
	return fault.New(fault.NotAuthenticated, "the stream %s needs a viewer's token", r.Stream)
}

func (closedDoor) Restricted(string) bool { return true }

// preview lets only viewers with a token see the lobby.
type preview struct{}

func (preview) MayPlay(_ context.Context, r auth.PlayRequest) error {
	if r.Stream != "lobby" || r.Header == "Bearer viewer" {
		return nil
	}
	return fault.New(fault.PreviewOnly, "the stream %s is in preview", r.Stream)
}

func (preview) Restricted(stream string) bool { return stream == "lobby" }

func TestAPreviewIsForThoseWhoMaySeeItAndForNoCache(t *testing.T) {
	_, f := onAir(t)
	store := newFakeStore()
	store.shelves[segment.ShelfID{Stream: "lobby"}] = f
	store.shelves[segment.ShelfID{Stream: "open"}] = f
	h := New(Options{Store: store, LowLatency: true, Playback: preview{}})
	paths := []string{"/live/lobby/index.m3u8", videoList, "/kLive/lobby_1/playlist.m3u8", "/kLive/lobby_1/1/chunklist.m3u8"}
	list, _, _ := strings.Cut(serve(h, "GET", videoList, "Authorization", "Bearer viewer").Body.String(), "#EXT-X-PRELOAD-HINT")
	for _, name := range regexp.MustCompile(`[^"\s]+\.(?:mp4|m4s)`).FindAllString(list, -1) {
		paths = append(paths, strings.TrimSuffix(videoList, "index.m3u8")+name)
	}
	kinds := map[string]bool{}
	for _, path := range paths {
		w := serve(h, "GET", path)
		require.Equal(t, 401, w.Code, path)
		require.Equal(t, "Bearer", w.Header().Get("WWW-Authenticate"))
		require.Equal(t, "private, no-store", w.Header().Get("Cache-Control"))
		require.Contains(t, w.Body.String(), "is in preview")

		w = serve(h, "GET", path, "Authorization", "Bearer other")
		require.Equal(t, 403, w.Code, path)
		require.Empty(t, w.Header().Get("WWW-Authenticate"))
		require.Equal(t, "private, no-store", w.Header().Get("Cache-Control"))
		require.NotContains(t, w.Body.String(), "other")

		for _, header := range [][]string{nil, {"Range", "bytes=0-3"}, {"Accept-Encoding", "gzip"}} {
			w = serve(h, "GET", path, append(header, "Authorization", "Bearer viewer")...)
			require.Less(t, w.Code, 300, path)
			require.Equal(t, []string{"private, no-store"}, w.Header()["Cache-Control"], path)
		}
		open := serve(h, "GET", strings.Replace(path, "lobby", "open", 1))
		require.Equal(t, 200, open.Code, path)
		require.Contains(t, open.Header().Get("Cache-Control"), "public")
		a, _ := parsePath(path)
		kinds[a.class.String()] = true
	}
	require.Len(t, kinds, 6, "%v", kinds)
	missing := serve(h, "GET", "/live/lobby/1/video/0/r1/99.m4s", "Authorization", "Bearer viewer")
	require.Equal(t, 404, missing.Code)
	require.Equal(t, "private, no-store", missing.Header().Get("Cache-Control"), "what is not there yet is theirs alone, too")
	store.remove("lobby", 0)
	before := serve(h, "GET", "/live/lobby/index.m3u8")
	require.Equal(t, 404, before.Code, "players wait for what was never on air as for any other stream")
	require.Equal(t, "public, max-age=1", before.Header().Get("Cache-Control"))
	page := serve(h, "GET", "/live/lobby/")
	require.Equal(t, 200, page.Code, "it can show the refusal")
}

func TestPlaybackIsAsked(t *testing.T) {
	_, f := onAir(t)
	store := newFakeStore()
	store.shelves[segment.ShelfID{Stream: "lobby"}] = f
	h := New(Options{Store: store, LowLatency: true, Playback: closedDoor{}})
	for _, path := range []string{"/live/lobby/index.m3u8", videoList, "/kLive/lobby_1/playlist.m3u8", "/kLive/lobby_1/1/chunklist.m3u8"} {
		w := serve(h, "GET", path)
		require.Equal(t, 401, w.Code, path)
		require.Equal(t, "private, no-store", w.Header().Get("Cache-Control"))
		require.Contains(t, w.Body.String(), "needs a viewer's token")
		require.Equal(t, 200, serve(h, "GET", path, "Authorization", "Bearer viewer").Code, path)
	}
}

func TestMultivariantIsMadeOncePerSecond(t *testing.T) {
	h, f := onAir(t)
	for range 5 {
		require.Equal(t, 200, serve(h, "GET", "/live/lobby/index.m3u8").Code)
	}
	require.EqualValues(t, 1, h.Stats().Renders())
	f.row(segment.RowID{Rendition: "2", Kind: video1.Kind}, videoTrack())
	f.part(segment.RowID{Rendition: "2", Kind: video1.Kind}, 250*time.Millisecond, true)
	require.Contains(t, serve(h, "GET", "/live/lobby/index.m3u8").Body.String(), "\n2/video/index.m3u8")
}
