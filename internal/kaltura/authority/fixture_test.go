package authority_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/kaltura/authority"
	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/book/booktest"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/kaltura/ks"
	"github.com/klive-media/klive/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret  = ks.Secret("very-secret-indeed")
	partner = 102
	entry   = "0_rkij47dr"
	token   = "dj94kfit"
	host    = "ms1.example.com"
	window  = 180 * time.Second

	authenticate = "liveStream.authenticate"
	getEntry     = "liveStream.get"
)

var (
	here      = netip.MustParseAddrPort("192.0.2.10:5000")
	elsewhere = netip.MustParseAddrPort("[2001:db8:1:2::7]:5000")
)

// features are those of a partner with everything.
var features = []string{kalturatest.FeatureLive, kalturatest.FeatureTranscode, kalturatest.FeatureMediaServer, kalturatest.FeatureServerNode}

// liveEntry is an entry that anybody may publish who has the token.
func liveEntry(id string, change func(*kalturatest.Entry)) kalturatest.Entry {
	e := kalturatest.Entry{ID: id, Partner: partner, Name: "Town hall", Token: token, SRTPassphrase: "mySrtPassphrase1", Profile: kalturatest.ProfilePassthrough}
	if change != nil {
		change(&e)
	}
	return e
}

func newBackend(t testing.TB, change func(*kalturatest.Options)) *kalturatest.Backend {
	t.Helper()
	o := kalturatest.Options{
		Partners: []kalturatest.Partner{{ID: -5, Secret: secret}, {ID: partner, Secret: secret, Features: features}, {ID: 103, Secret: secret, Features: features}},
		Entries:  []kalturatest.Entry{liveEntry(entry, nil), liveEntry("0_preview1", func(e *kalturatest.Entry) { e.ExplicitLive = true })},
		Nodes:    []kalturatest.Node{{HostName: host, Name: host, Status: kalturatest.NodeActive, Environment: "a"}},
	}
	if change != nil {
		change(&o)
	}
	b, err := kalturatest.New(o)
	require.NoError(t, err)
	return b
}

// direct carries requests to a handler without a network, for virtual time.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.WroteHeaders != nil {
		trace.WroteHeaders()
	}
	defer func() {
		if p := recover(); p != nil {
			if p != http.ErrAbortHandler {
				panic(p)
			}
			resp, err = nil, io.ErrUnexpectedEOF
		}
	}()
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// journal keeps events in memory.
type journal struct {
	stream.Journal

	mu     sync.Mutex // guards events
	events []stream.Event
}

func (j *journal) Record(e stream.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
}

func (j *journal) count(of stream.EventType) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for _, e := range j.events {
		if e.Type == of {
			n++
		}
	}
	return n
}

// onAir is what lives, as a registry would say.
type onAir struct {
	stream.Live

	mu         sync.Mutex // guards the fields below
	broadcasts map[book.Key]stream.BroadcastStatus
	sessions   []stream.SessionStatus
}

func (o *onAir) Status(id string) (stream.Status, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := stream.Status{Stream: id}
	for k, b := range o.broadcasts {
		if k.Entry == id {
			s.Broadcasts = append(s.Broadcasts, b)
			s.State = max(s.State, b.State)
		}
	}
	for _, x := range o.sessions {
		if x.Stream == id {
			s.State = max(s.State, x.State)
		}
	}
	return s, s.State != stream.StateUnspecified
}

func (o *onAir) Sessions(id string) []stream.SessionStatus {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(o.sessions), func(s stream.SessionStatus) bool { return s.Stream != id })
}

// begin puts a broadcast on air.
func (o *onAir) begin(k book.Key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.broadcasts[k] = stream.BroadcastStatus{ServerIndex: k.Index, State: stream.Playable, Start: time.Now()}
}

// end ends it.
func (o *onAir) end(k book.Key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.broadcasts[k]
	b.State, b.End = stream.Stopped, time.Now()
	o.broadcasts[k] = b
}

// connect and hangUp are one session without a broadcast.
func (o *onAir) connect(k book.Key) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sessions = append(o.sessions, stream.SessionStatus{Stream: k.Entry, ServerIndex: k.Index, State: stream.Authenticated})
}

func (o *onAir) hangUp() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range o.sessions {
		o.sessions[i].State = stream.Stopped
	}
}

// bench is an authority with everything around it.
type bench struct {
	*authority.Authority

	backend *kalturatest.Backend
	records *booktest.Records
	book    *book.Book
	live    *onAir
	journal *journal
	options authority.Options
	client  client.Options
}

func newBench(t testing.TB, backend *kalturatest.Backend, change func(*authority.Options, *client.Options)) *bench {
	t.Helper()
	b := &bench{backend: backend, records: new(booktest.Records)}
	b.client = client.Options{URL: "http://backend.invalid", Partner: -5, Secret: secret, ClientTag: "MediaServer-" + host, Transport: direct{backend}}
	b.options = authority.Options{SaaS: true, Partner: -5, Host: host, Application: "kLive", ReconnectWindow: window}
	if change != nil {
		change(&b.options, &b.client)
	}
	b.start(t)
	return b
}

// start makes all that a restart of the server makes anew.
func (b *bench) start(t testing.TB) {
	t.Helper()
	var err error
	b.book, err = book.New(t.Context(), b.records)
	require.NoError(t, err)
	b.live = &onAir{broadcasts: make(map[book.Key]stream.BroadcastStatus)}
	b.journal = new(journal)
	o := b.options
	o.Client, err = client.New(b.client)
	require.NoError(t, err)
	o.Book, o.Journal, o.Live = b.book, b.journal, func() stream.Live { return b.live }
	o.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	b.Authority = authority.New(o)
}

// request is a good publisher's.
func request(change func(*ingest.Request)) ingest.Request {
	r := ingest.Request{Protocol: "rtmp", Stream: entry, Index: 1, Partner: partner, Token: token, Remote: here}
	if change != nil {
		change(&r)
	}
	return r
}

func withToken(t string) ingest.Request {
	return request(func(r *ingest.Request) { r.Token = t })
}

func (b *bench) try(t *testing.T, r ingest.Request) (stream.Grant, error) {
	t.Helper()
	return b.Authenticate(t.Context(), r)
}

// calls is how often an action was called.
func (b *bench) calls(action string) int { return b.backend.State().Count(action) }

func (b *bench) inject(t *testing.T, f kalturatest.Fault) {
	t.Helper()
	_, err := b.backend.Inject(f)
	require.NoError(t, err)
}

// run runs the authority until the returned function is called.
func (b *bench) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	a := b.Authority
	go func() { done <- a.Run(ctx) }()
	return func() {
		cancel()
		require.NoError(t, <-done)
	}
}
