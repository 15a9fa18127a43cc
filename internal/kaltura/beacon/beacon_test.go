package beacon_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/beacon"
	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/book/booktest"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/kaltura/ks"
	"github.com/klive-media/klive/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret = ks.Secret("house-of-secrets")
	house  = 102
	other  = 103
	entry  = "0_rkij47dr"
)

type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	return w.Result(), r.Context().Err()
}

// journal is an event log in memory that may drop its oldest events.
type journal struct {
	mu      sync.Mutex // guards the fields below
	events  []stream.Event
	changed chan struct{}
	first   uint64 // sequence of the oldest that is kept
	fail    error
}

func newJournal() *journal { return &journal{changed: make(chan struct{}), first: 1} }

func (j *journal) Record(e stream.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Sequence = uint64(len(j.events)) + 1
	e.Time = time.Now()
	j.events = append(j.events, e)
	close(j.changed)
	j.changed = make(chan struct{})
}

func (j *journal) Last() (uint64, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return uint64(len(j.events)), j.changed
}

func (j *journal) Read(_ context.Context, after uint64, n int) (list []stream.Event, lost bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fail != nil {
		return nil, false, j.fail
	}
	for _, e := range j.events {
		if e.Sequence > after && e.Sequence >= j.first && len(list) < n {
			list = append(list, e)
		}
	}
	return list, after+1 < j.first, nil
}

// world is a backend and what follows the log.
type world struct {
	*kalturatest.Backend
	journal *journal
	beacons *beacon.Beacons
	book    *book.Book
	halt    func()
}

func newWorld(t *testing.T, partner int) *world {
	t.Helper()
	b, err := kalturatest.New(kalturatest.Options{Partners: []kalturatest.Partner{
		{ID: kalturatest.MediaServerPartner, Secret: secret}, {ID: house, Secret: secret}, {ID: other, Secret: secret},
	}})
	require.NoError(t, err)
	c, err := client.New(client.Options{URL: "http://backend.example.com", Partner: kalturatest.MediaServerPartner, Secret: secret, Transport: direct{b}})
	require.NoError(t, err)
	grants, err := book.New(t.Context(), new(booktest.Records))
	require.NoError(t, err)
	w := &world{Backend: b, journal: newJournal(), book: grants}
	w.journal.Record(refusal(fault.BadToken, nil)) // before us: not ours to tell
	w.beacons = beacon.New(beacon.Options{Client: c, Journal: w.journal, Book: grants, Partner: partner})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.beacons.Run(ctx) }()
	w.halt = func() {
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
	}
	synctest.Wait()
	return w
}

func (w *world) pass(d time.Duration) {
	time.Sleep(d) // virtual
	synctest.Wait()
}

func refusal(why fault.Reason, facts map[string]string) stream.Event {
	return stream.Event{Type: stream.PublishRefused, Stream: entry, Reason: why, Message: `no "quotes" break it`, Facts: facts}
}

func TestRefusalsAreTold(t *testing.T) {
	for _, c := range []struct {
		name  string
		event stream.Event
		index string
		code  int
		kind  string
		about string
	}{
		{"token", refusal(fault.BadToken, map[string]string{"server_index": "1", "index": "2"}), "1", 111, "LIVE_STREAM_INVALID_TOKEN", entry + "_2"},
		{"name", refusal(fault.BadStreamName, nil), "0", 112, "INCORRECT_STREAM_NAME", entry},
		{"unknown", refusal(fault.StreamNotFound, map[string]string{"server_index": "x"}), "0", 113, "ENTRY_ID_NOT_FOUND", entry},
		{"quota", refusal(fault.QuotaExceeded, nil), "0", 115, "LIVE_STREAM_EXCEEDED_MAX_PASSTHRU", entry},
		{"other quota", refusal(fault.QuotaExceeded, map[string]string{"code": "LIVE_STREAM_EXCEEDED_MAX_TRANSCODED"}), "0", 118, "LIVE_STREAM_EXCEEDED_MAX_TRANSCODED", entry},
		{"blocked", refusal(fault.PartnerBlocked, nil), "0", -1, "PARTNER_BLOCKED", entry},
		{"the backend's own", refusal(fault.BackendRefused, map[string]string{"code": "LIVE_STREAM_ALREADY_BROADCASTING"}), "0", -1, "LIVE_STREAM_ALREADY_BROADCASTING", entry},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 0)
				defer w.halt()
				at := time.Now()
				w.journal.Record(c.event)
				w.pass(time.Second)
				sent := w.State().Beacons
				require.Len(t, sent, 1)
				require.True(t, sent[0].Valid)
				require.Equal(t, c.index+"_healthData", sent[0].Event)
				require.Equal(t, entry, sent[0].Object)
				var data map[string]any
				require.NoError(t, json.Unmarshal([]byte(sent[0].PrivateData), &data))
				require.Equal(t, map[string]any{"maxSeverity": 4.0, "alerts": []any{map[string]any{
					"Time": float64(at.UnixMilli()), "Code": float64(c.code),
					"Arguments": map[string]any{"entryId": entry, "alertType": c.kind, "parameter": c.about},
				}}}, data)
				ok, failed, dropped := w.beacons.Stats()
				require.Equal(t, [3]uint64{1, 0, 0}, [3]uint64{ok, failed, dropped})
			})
		})
	}
}

// Events without an entry, or with what no entry is called, are left out, as
// are those that are no refusals.
func TestWhatIsNoObjectOfTheBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.halt()
		for _, id := range []string{"", "lobby", "0_short", "0_rkij47dr_1", `0_"}{"aaa`, "../../etc"} {
			e := refusal(fault.StreamNotFound, nil)
			e.Stream = id
			w.journal.Record(e)
		}
		e := refusal("", nil)
		e.Type = stream.SessionEnded
		w.journal.Record(e)
		w.pass(10 * time.Second)
		require.Zero(t, w.State().Count("beacon_beacon.add"))

		e = refusal(fault.StreamNotFound, nil)
		e.Stream = "0_test_001"
		w.journal.Record(e)
		w.pass(10 * time.Second)
		require.Equal(t, 1, w.State().Count("beacon_beacon.add"), "ids of entries may hold _")
	})
}

func TestWhoseEntryItIs(t *testing.T) {
	for name, c := range map[string]struct {
		own, granted, address, want int
	}{
		"granted":                  {0, house, other, house},
		"by address":               {0, 0, other, other},
		"our own":                  {house, 0, other, house},
		"unknown: as we ourselves": {0, 0, 0, kalturatest.MediaServerPartner},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, c.own)
				defer w.halt()
				if c.granted != 0 {
					require.NoError(t, w.book.Put(t.Context(), book.Grant{Entry: entry, Index: 1, Partner: c.granted}))
				}
				facts := map[string]string{}
				if c.address != 0 {
					facts["partner"] = fmt.Sprint(c.address)
				}
				w.journal.Record(refusal(fault.BadToken, facts))
				w.pass(time.Second)
				calls := w.State().Calls
				require.Len(t, calls, 1)
				require.Equal(t, c.want, calls[0].Partner)
			})
		})
	}
}

// A flood is sent slowly, what finds no room is dropped and counted.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.halt()
		for range 1000 {
			w.journal.Record(refusal(fault.BadToken, nil))
		}
		w.pass(5 * time.Second)
		sent, _, dropped := w.beacons.Stats()
		require.LessOrEqual(t, sent, uint64(21))
		require.Greater(t, dropped, uint64(900))
		w.pass(time.Minute)
		sent, failed, dropped := w.beacons.Stats()
		require.Equal(t, uint64(1000), sent+failed+dropped)
	})
}

func TestBackendAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.halt()
		_, err := w.Inject(kalturatest.Fault{Kind: kalturatest.HTML})
		require.NoError(t, err)
		for range 3 {
			w.journal.Record(refusal(fault.BadToken, nil))
			w.pass(time.Second)
		}
		_, failed, _ := w.beacons.Stats()
		require.Equal(t, uint64(3), failed)
		require.Zero(t, w.State().Count("beacon_beacon.add"))
		w.ClearFaults(0)
		w.pass(time.Minute)
		require.Zero(t, w.State().Count("beacon_beacon.add"), "nothing is repeated")
	})
}

func TestLogThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 0)
		defer w.halt()
		w.journal.mu.Lock()
		w.journal.fail = fault.New(fault.StoreUnavailable, "no")
		w.journal.mu.Unlock()
		w.journal.Record(refusal(fault.BadToken, nil))
		w.pass(time.Second)
		w.journal.mu.Lock()
		w.journal.fail = nil
		w.journal.first = 4 // retention went past us
		w.journal.mu.Unlock()
		for range 3 {
			w.journal.Record(refusal(fault.BadToken, nil))
		}
		w.pass(5 * time.Second)
		require.Equal(t, 2, w.State().Count("beacon_beacon.add"))
	})
}
