package explicit_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/kaltura/authority"
	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/book/booktest"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/explicit"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret = "0123456789abcdef0123456789abcdef"
	entry  = "0_rkij47dr"
	plain  = "0_plain000"
)

// direct carries requests to a handler without a network, for virtual time.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	defer func() {
		if recover() != nil { // the backend dropped the connection
			resp, err = nil, errors.New("connection dropped")
		}
	}()
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), nil
}

// house is a server with two entries on air.
type house struct {
	stream.Live
	backend *kalturatest.Backend
	book    *book.Book

	mu       sync.Mutex // guards the fields below
	ended    bool
	recorded map[string]egress.RecordingMode
	changes  int
}

func (h *house) Status(id string) (stream.Status, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	state := stream.Playable
	if h.ended {
		state = stream.Stopped
	}
	return stream.Status{Stream: id, Broadcasts: []stream.BroadcastStatus{{State: state}}}, true
}

func (h *house) record(id string, _ int, mode egress.RecordingMode) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.recorded[id] != mode {
		h.recorded[id] = mode
		h.changes++
	}
	return nil
}

func (h *house) mode() egress.RecordingMode {
	synctest.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.recorded[entry]
}

func (h *house) preview() bool {
	synctest.Wait()
	g, _ := h.book.Get(book.Key{Entry: entry})
	return g.Snapshot.ViewMode == 0
}

// inHouse runs a follower in virtual time.
func inHouse(t *testing.T, story func(h *house)) {
	synctest.Test(t, func(t *testing.T) {
		backend, err := kalturatest.New(kalturatest.Options{
			Partners: []kalturatest.Partner{{ID: -5, Secret: secret}, {ID: 102, Secret: secret, Features: []string{kalturatest.FeatureLive}}},
			Entries: []kalturatest.Entry{
				{ID: entry, Partner: 102, Token: "t", Profile: kalturatest.ProfilePassthrough, Record: kalturatest.RecordPerSession, ExplicitLive: true},
				{ID: plain, Partner: 102, Token: "t", Profile: kalturatest.ProfilePassthrough, Record: kalturatest.RecordPerSession},
			},
		})
		require.NoError(t, err)
		c, err := client.New(client.Options{URL: "http://backend.invalid", Partner: -5, Secret: secret, Transport: direct{backend}})
		require.NoError(t, err)
		h := &house{backend: backend, recorded: map[string]egress.RecordingMode{}}
		h.book, err = book.New(t.Context(), new(booktest.Records))
		require.NoError(t, err)
		for _, id := range []string{entry, plain} {
			e, err := c.GetEntry(t.Context(), 102, id)
			require.NoError(t, err)
			require.NoError(t, h.book.Put(t.Context(), book.Grant{Entry: id, Partner: 102, Snapshot: e, Authenticated: time.Now()}))
		}
		f := explicit.New(explicit.Options{
			Client: c, Book: h.book, Live: h, Record: h.record,
			Wanted: func(e client.Entry) egress.RecordingMode { return authority.PolicyOf(e).Recording },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- f.Run(ctx) }()
		story(h)
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	})
}

func TestAnEntryGoesLiveWithinSeconds(t *testing.T) {
	inHouse(t, func(h *house) {
		require.True(t, h.preview())
		require.Equal(t, egress.RecordOff, h.mode())

		time.Sleep(time.Minute)
		require.True(t, h.backend.Explicit(entry, true))
		time.Sleep(5 * time.Second)
		require.False(t, h.preview())
		require.Equal(t, egress.RecordPerSession, h.mode())

		calls := h.backend.State().Count("liveStream.get")
		time.Sleep(10 * time.Minute)
		require.Equal(t, calls, h.backend.State().Count("liveStream.get"), "nothing is waited for any more")
	})
}

func TestARecordingEndsAsTheEntrySays(t *testing.T) {
	inHouse(t, func(h *house) {
		h.backend.Explicit(entry, true)
		time.Sleep(6 * time.Second)
		require.Equal(t, egress.RecordPerSession, h.mode())
		// A keep-alive brings it.
		_, _, err := h.book.Update(context.Background(), book.Key{Entry: entry}, func(g *book.Grant) { g.Snapshot.RecordingStatus = 0 })
		require.NoError(t, err)
		require.Equal(t, egress.RecordOff, h.mode())
	})
}

func TestABackendThatIsAwayChangesNothing(t *testing.T) {
	inHouse(t, func(h *house) {
		h.backend.Explicit(entry, true)
		_, err := h.backend.Inject(kalturatest.Fault{Kind: kalturatest.Down})
		require.NoError(t, err)
		time.Sleep(2 * time.Minute)
		require.True(t, h.preview())
		require.Equal(t, egress.RecordOff, h.mode())
		h.backend.ClearFaults(0)
		time.Sleep(40 * time.Second)
		require.False(t, h.preview())
		require.Equal(t, egress.RecordPerSession, h.mode())
	})
}

func TestOnlyEntriesWithAProducerAreRead(t *testing.T) {
	inHouse(t, func(h *house) {
		h.mu.Lock()
		h.ended = true
		h.mu.Unlock()
		calls := h.backend.State().Count("liveStream.get")
		time.Sleep(time.Hour + time.Second) // not at a tick
		require.Equal(t, calls, h.backend.State().Count("liveStream.get"), "nothing is on air")
		h.mu.Lock()
		h.ended = false
		h.mu.Unlock()
		time.Sleep(time.Minute + time.Second)
		h.mu.Lock()
		defer h.mu.Unlock()
		require.NotContains(t, h.recorded, plain, "its broadcast is recorded as it began")
		require.Equal(t, calls+12, h.backend.State().Count("liveStream.get"))
	})
}
