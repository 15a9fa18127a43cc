package hls

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/klive-media/klive/internal/segment"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ask sends a request in the background.
func ask(ctx context.Context, h http.Handler, path string) (*httptest.ResponseRecorder, <-chan struct{}) {
	w := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil).WithContext(ctx))
	}()
	return w, done
}

func isDone(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

const videoList = "/live/lobby/1/video/index.m3u8"

// The stream has segments 0 and 1, and parts 0 and 1 of segment 2.
func TestBlockingReload(t *testing.T) {
	part := func(f *fakeShelf) { f.part(video1, 250*time.Millisecond, false) }
	closeIt := func(f *fakeShelf) { f.closeSegment(video1) }
	for name, c := range map[string]struct {
		query string
		steps []func(*fakeShelf) // the answer must come after the last one, not before
		has   string
	}{
		"an old segment":                        {"_HLS_msn=0", nil, "/2.1.m4s"},
		"a listed part":                         {"_HLS_msn=2&_HLS_part=1", nil, "/2.1.m4s"},
		"the next part":                         {"_HLS_msn=2&_HLS_part=2", []func(*fakeShelf){part}, "/2.2.m4s"},
		"the part after it":                     {"_HLS_msn=2&_HLS_part=3", []func(*fakeShelf){part, part}, "/2.3.m4s"},
		"the open segment":                      {"_HLS_msn=2", []func(*fakeShelf){part, closeIt}, "\n0/r1/2.m4s"},
		"the next segment's part":               {"_HLS_msn=3&_HLS_part=0", []func(*fakeShelf){part, closeIt, part}, "/3.0.m4s"},
		"a part the segment will not have":      {"_HLS_msn=2&_HLS_part=5", []func(*fakeShelf){part, closeIt, part}, "/3.0.m4s"},
		"a part a closed segment does not have": {"_HLS_msn=1&_HLS_part=16", nil, "/2.0.m4s"},
		"the segment after the open one":        {"_HLS_msn=3", []func(*fakeShelf){closeIt, part, closeIt}, "\n0/r1/3.m4s"},
		"the broadcast ends":                    {"_HLS_msn=3", []func(*fakeShelf){(*fakeShelf).end}, "#EXT-X-ENDLIST"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, f := onAir(t)
				w, done := ask(t.Context(), h, videoList+"?"+c.query)
				for _, step := range c.steps {
					synctest.Wait()
					require.False(t, isDone(done), "answered too early")
					require.Equal(t, 1, h.Stats().Waiting())
					step(f)
				}
				<-done
				require.Equal(t, 200, w.Code)
				require.Contains(t, w.Body.String(), c.has)
				require.Zero(t, h.Stats().Waiting())
				if c.has != "#EXT-X-ENDLIST" {
					require.Equal(t, "public, max-age=24", w.Header().Get("Cache-Control"))
				}
			})
		})
	}
}

func TestReloadsThatAreRefused(t *testing.T) {
	for query, status := range map[string]int{
		"_HLS_part=1":                      400, // needs _HLS_msn
		"_HLS_msn=x":                       400,
		"_HLS_msn=":                        400,
		"_HLS_msn=-1":                      400,
		"_HLS_msn=4":                       400, // last listed is 1, two more may be asked for
		"_HLS_msn=2&_HLS_part=14":          400, // three seconds beyond the last part
		"_HLS_msn=99999999999999999":       400,
		"_HLS_msn=99999999999999999999999": 400,
		"_HLS_skip=maybe":                  400,
		"_HLS_msn=0&_HLS_part=0&x=y":       200,
	} {
		h, _ := onAir(t)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, videoList+"?"+query, nil))
		require.Equal(t, status, w.Code, query)
	}
}

func TestWaitIsBounded(t *testing.T) {
	for _, path := range []string{videoList + "?_HLS_msn=2&_HLS_part=2", "/live/lobby/1/video/0/r1/2.2.m4s"} {
		synctest.Test(t, func(t *testing.T) {
			h, _ := onAir(t)
			start := time.Now()
			w, done := ask(t.Context(), h, path)
			<-done
			require.Equal(t, 12*time.Second, time.Since(start))
			require.Equal(t, 503, w.Code)
			require.Equal(t, "1", w.Header().Get("Retry-After"))
		})
	}
}

func TestViewerWhoLeavesStopsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := onAir(t)
		ctx, leave := context.WithCancel(t.Context())
		_, done := ask(ctx, h, videoList+"?_HLS_msn=2&_HLS_part=2")
		synctest.Wait()
		require.Equal(t, 1, h.Audience(segment.ShelfID{Stream: "lobby"}).Waiting)
		leave()
		<-done
		require.Zero(t, h.Audience(segment.ShelfID{Stream: "lobby"}).Waiting)
		found := false
		h.Stats().Requests(func(class string, status int, n uint64) {
			found = found || class == "media_playlist" && status == 499 && n == 1
		})
		require.True(t, found)
	})
}

// A part the preload hint names is held until it exists; one that will never
// exist is refused when that is clear.
func TestHintedPartIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := onAir(t)
		w, done := ask(t.Context(), h, "/live/lobby/1/video/0/r1/2.2.m4s")
		synctest.Wait()
		require.False(t, isDone(done))
		f.part(video1, 250*time.Millisecond, false)
		<-done
		require.Equal(t, 200, w.Code)
		require.Equal(t, "1/video/r1/2.2;", w.Body.String())
		require.Contains(t, w.Header().Get("Cache-Control"), "immutable")

		w, done = ask(t.Context(), h, "/live/lobby/1/video/0/r1/2.3.m4s")
		synctest.Wait()
		require.False(t, isDone(done))
		f.closeSegment(video1)
		<-done
		require.Equal(t, 404, w.Code)

		for _, path := range []string{"/2.9.m4s", "/3.1.m4s", "/7.m4s"} {
			w, done = ask(t.Context(), h, "/live/lobby/1/video/0/r1"+path)
			<-done
			require.Equal(t, 404, w.Code, path)
		}
		w, done = ask(t.Context(), h, "/live/lobby/1/video/0/other/3.0.m4s")
		<-done
		require.Equal(t, 404, w.Code, "the run of another start")
	})
}

// All who wait get the same rendering.
func TestManyWaitOneRenders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := onAir(t)
		var all []<-chan struct{}
		for range 200 {
			_, done := ask(t.Context(), h, videoList+"?_HLS_msn=2&_HLS_part=2")
			all = append(all, done)
		}
		synctest.Wait()
		require.Equal(t, 200, h.Stats().Waiting())
		before := h.Stats().Renders()
		f.part(video1, 250*time.Millisecond, false)
		for _, done := range all {
			<-done
		}
		require.EqualValues(t, 1, h.Stats().Renders()-before)
		require.EqualValues(t, 200, h.Stats().Blocked())
	})
}

// When the primary ends, viewers who did not choose get the backup.
func TestBackupAnswersWhenThePrimaryEnds(t *testing.T) {
	store := newFakeStore()
	for i := range 2 {
		f := store.add("lobby", i)
		f.row(video1, videoTrack())
		f.segment(video1, 2, time.Second)
	}
	h := New(Options{Store: store, LowLatency: true})
	list := func(query string) string {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, videoList+query, nil))
		return w.Body.String()
	}
	require.Contains(t, list(""), "\n0/r1/0.m4s")
	store.shelves[segment.ShelfID{Stream: "lobby"}].end()
	require.Contains(t, list(""), "\n1/r1/0.m4s")
	require.Contains(t, list("?i=0"), "ENDLIST")
	store.shelves[segment.ShelfID{Stream: "lobby", ServerIndex: 1}].end()
	require.Contains(t, list(""), "\n0/r1/0.m4s")
	store.remove("lobby", 0)
	require.Contains(t, list(""), "\n1/r1/0.m4s")
	store.remove("lobby", 1)
	require.Contains(t, list(""), "nothing to play")
}

// Views of shelves that the store gave up do not pile up.
func TestViewsLeaveWithTheirShelves(t *testing.T) {
	store := newFakeStore()
	h := New(Options{Store: store, LowLatency: true})
	for i := range 50 {
		name := "s" + strings.Repeat("x", i)
		f := store.add(name, 0)
		f.row(video1, videoTrack())
		f.segment(video1, 1, time.Second)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/live/"+name+"/1/video/index.m3u8", nil))
		require.Equal(t, 200, w.Code)
		store.remove(name, 0)
	}
	require.Len(t, h.shelves.byID, 1)
}
