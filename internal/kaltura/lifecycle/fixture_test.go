package lifecycle

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/book/booktest"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/kaltura/ks"
	"github.com/klive-media/klive/internal/kaltura/profile"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret  = ks.Secret("house-of-secrets")
	house   = 102
	entry   = "0_rkij47dr"
	token   = "dj94kfit"
	host    = "ms1.example.com"
	rival   = "ms2.example.com"
	window  = 180 * time.Second
	source  = "32"
	enough  = 5 * time.Second // for everything that is to be done at once
	keepMax = 55 * time.Second
)

var primary = book.Key{Entry: entry, Index: 0}

// direct carries requests to a handler without a network, so that virtual time
// works.
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

func (j *journal) of(kind stream.EventType) (list []stream.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.events {
		if e.Type == kind {
			list = append(list, e)
		}
	}
	return list
}

// onAir is a stream.Live that is told what to say.
type onAir struct {
	mu           sync.Mutex // guards the fields below
	broadcasts   map[book.Key]stream.BroadcastStatus
	sessions     []stream.SessionStatus
	versions     map[string]uint64
	changed      chan struct{}
	stopped      []error
	disconnected []error
	number       int
	hung         time.Time // since when no media comes; zero: it does
}

func newOnAir() *onAir {
	return &onAir{broadcasts: make(map[book.Key]stream.BroadcastStatus), versions: make(map[string]uint64), changed: make(chan struct{})}
}

func (o *onAir) Statuses() (list []stream.Status, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	byStream := make(map[string]*stream.Status)
	of := func(id string) *stream.Status {
		if byStream[id] == nil {
			byStream[id] = &stream.Status{Stream: id, Version: o.versions[id]}
		}
		return byStream[id]
	}
	for k, b := range o.broadcasts {
		b.Renditions = slices.Clone(b.Renditions)
		s := of(k.Entry)
		s.Broadcasts = append(s.Broadcasts, b)
	}
	for _, x := range o.sessions {
		of(x.Stream)
	}
	for _, s := range byStream {
		list = append(list, *s)
	}
	slices.SortFunc(list, func(a, b stream.Status) int { return cmp.Compare(a.Stream, b.Stream) })
	return list, o.changed
}

func (o *onAir) Status(string) (stream.Status, bool) { panic("not asked for here") }

func (o *onAir) Session(id string) (stream.SessionStatus, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	i := slices.IndexFunc(o.sessions, func(s stream.SessionStatus) bool { return s.ID == id })
	if i < 0 {
		return stream.SessionStatus{}, false
	}
	return o.sessions[i], true
}

func (o *onAir) Sessions(id string) []stream.SessionStatus {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(o.sessions), func(s stream.SessionStatus) bool { return id != "" && s.Stream != id })
	for i := range list {
		list[i].LastMedia = time.Now()
		if !o.hung.IsZero() {
			list[i].LastMedia = o.hung
		}
	}
	return list
}

func (o *onAir) Stop(_ context.Context, id string, cause error) error {
	o.change(id, func() {
		o.stopped = append(o.stopped, cause)
		o.sessions = slices.DeleteFunc(o.sessions, func(s stream.SessionStatus) bool { return s.Stream == id })
		for k, b := range o.broadcasts {
			if k.Entry == id && b.State.Live() {
				b.State, b.End = stream.Stopped, time.Now()
				o.broadcasts[k] = b
			}
		}
	})
	return nil
}

func (o *onAir) Disconnect(_ context.Context, id string, cause error) error {
	o.mu.Lock()
	i := slices.IndexFunc(o.sessions, func(s stream.SessionStatus) bool { return s.ID == id })
	if i < 0 {
		o.mu.Unlock()
		return fault.New(fault.SessionNotFound, "no session %q", id)
	}
	s := o.sessions[i]
	o.disconnected = append(o.disconnected, cause)
	o.mu.Unlock()
	o.leave(book.Key{Entry: s.Stream, Index: s.ServerIndex})
	return nil
}

// hang keeps publishers connected without media, or lets it come again; that
// changes no version.
func (o *onAir) hang(yes bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hung = time.Time{}
	if yes {
		o.hung = time.Now()
	}
}

func (o *onAir) change(id string, f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
	o.versions[id]++
	close(o.changed)
	o.changed = make(chan struct{})
}

// connect lets a publisher in.
func (o *onAir) connect(k book.Key) string {
	o.number++
	id := fmt.Sprintf("session%d", o.number)
	o.change(k.Entry, func() {
		o.sessions = append(o.sessions, stream.SessionStatus{ID: id, Stream: k.Entry, ServerIndex: k.Index, Index: 1, State: stream.Authenticated, Bitrate: 1_500_000})
	})
	return id
}

// hangUp takes the publishers away that feed nothing.
func (o *onAir) hangUp(k book.Key) {
	o.change(k.Entry, func() {
		o.sessions = slices.DeleteFunc(o.sessions, func(s stream.SessionStatus) bool { return s.Stream == k.Entry && s.ServerIndex == k.Index })
	})
}

// begin lets a publisher in and puts a broadcast on air.
func (o *onAir) begin(k book.Key) {
	session := o.connect(k)
	o.change(k.Entry, func() {
		o.broadcasts[k] = stream.BroadcastStatus{
			ID: "broadcast of " + session, ServerIndex: k.Index, State: stream.Broadcasting, Start: time.Now(),
			Renditions: []stream.RenditionStatus{{ID: source, Index: 1, Session: session, Tracks: tracks()}},
		}
	})
}

func tracks() []*media.Track {
	return []*media.Track{
		{ID: 1, Kind: media.Video, Codec: media.H264, Video: media.VideoInfo{Width: 1280, Height: 720, FrameRate: 30}},
		{ID: 2, Kind: media.Audio, Codec: media.AAC, Audio: media.AudioInfo{SampleRate: 48000, Channels: 2}, Language: "en"},
	}
}

// edit changes the broadcast.
func (o *onAir) edit(k book.Key, f func(*stream.BroadcastStatus)) {
	o.change(k.Entry, func() {
		b := o.broadcasts[k]
		b.Renditions = slices.Clone(b.Renditions)
		f(&b)
		o.broadcasts[k] = b
	})
}

func (o *onAir) play(k book.Key, can bool) {
	o.edit(k, func(b *stream.BroadcastStatus) {
		b.State = stream.Broadcasting
		if can {
			b.State = stream.Playable
		}
		for i := range b.Renditions {
			b.Renditions[i].Playable = can
		}
	})
}

// leave takes the publisher away; the broadcast waits.
func (o *onAir) leave(k book.Key) {
	o.hangUp(k)
	o.edit(k, func(b *stream.BroadcastStatus) {
		b.ReconnectDeadline = time.Now().Add(window)
		for i := range b.Renditions {
			b.Renditions[i].Session = ""
		}
	})
}

// back lets the publisher in again; the broadcast goes on.
func (o *onAir) back(k book.Key) {
	session := o.connect(k)
	o.edit(k, func(b *stream.BroadcastStatus) {
		b.ReconnectDeadline = time.Time{}
		b.Renditions[0].Session = session
	})
}

// end ends the broadcast and lets its publishers go.
func (o *onAir) end(k book.Key) {
	o.hangUp(k)
	o.edit(k, func(b *stream.BroadcastStatus) {
		b.State, b.End, b.ReconnectDeadline = stream.Stopped, time.Now(), time.Time{}
		for i := range b.Renditions {
			b.Renditions[i].Session, b.Renditions[i].Playable = "", false
		}
	})
}

// forget is the restart of a server that finds nothing to continue.
func (o *onAir) forget(k book.Key) {
	o.hangUp(k)
	o.change(k.Entry, func() { delete(o.broadcasts, k) })
}

// world is a backend and a server whose lifecycle is tried.
type world struct {
	t       *testing.T
	backend *kalturatest.Backend
	client  *client.Client
	rival   *client.Client // another host's
	grants  booktest.Records
	kept    booktest.Records
	book    *book.Book
	live    *onAir
	journal *journal
	options func(*Options)

	l    *Lifecycle
	stop context.CancelFunc
	done chan error
}

// entryOf is an entry that anybody may publish who has the token.
func entryOf(id string) kalturatest.Entry {
	return kalturatest.Entry{ID: id, Partner: house, Token: token, Profile: kalturatest.ProfileTranscode, Record: kalturatest.RecordPerSession}
}

// newWorld makes a world in a bubble of virtual time. The server runs.
func newWorld(t *testing.T, backend func(*kalturatest.Options), options func(*Options)) *world {
	t.Helper()
	o := kalturatest.Options{
		Partners: []kalturatest.Partner{
			{ID: kalturatest.MediaServerPartner, Secret: secret},
			{ID: house, Secret: secret, Features: []string{kalturatest.FeatureLive, kalturatest.FeatureTranscode}, MaxTranscoded: 1000, MaxPassthrough: 1000},
		},
		Entries: []kalturatest.Entry{entryOf(entry)},
		Nodes: []kalturatest.Node{
			{Partner: kalturatest.MediaServerPartner, Name: "one", HostName: host, Status: kalturatest.NodeActive},
			{Partner: kalturatest.MediaServerPartner, Name: "two", HostName: rival, Status: kalturatest.NodeActive},
		},
	}
	if backend != nil {
		backend(&o)
	}
	w := &world{t: t, live: newOnAir(), journal: &journal{}, options: options}
	var err error
	w.backend, err = kalturatest.New(o)
	require.NoError(t, err)
	w.client, w.rival = w.newClient(), w.newClient()
	w.book, err = book.New(t.Context(), &w.grants)
	require.NoError(t, err)
	w.start()
	return w
}

func (w *world) newClient() *client.Client {
	w.t.Helper()
	c, err := client.New(client.Options{
		URL: "http://backend.example.com", Partner: kalturatest.MediaServerPartner, Secret: secret, ClientTag: "MediaServer-" + host,
		Transport: direct{w.backend},
	})
	require.NoError(w.t, err)
	return c
}

// start starts the server.
func (w *world) start() {
	w.t.Helper()
	o := Options{
		Client: w.client, Book: w.book, Live: w.live, Journal: w.journal, Resolver: profile.NewResolver(w.client, profile.FromTemplate),
		Host: host, Application: "kLive", Logger: slog.New(slog.DiscardHandler),
	}
	if w.options != nil {
		w.options(&o)
	}
	var err error
	w.l, err = open(w.t.Context(), o, &w.kept)
	require.NoError(w.t, err)
	var ctx context.Context
	ctx, w.stop = context.WithCancel(w.t.Context())
	w.done = make(chan error, 1)
	go func() { w.done <- w.l.Run(ctx) }()
	synctest.Wait()
}

// halt stops the server without a word to the backend.
func (w *world) halt() {
	w.t.Helper()
	w.stop()
	require.ErrorIs(w.t, <-w.done, context.Canceled)
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	time.Sleep(d) // virtual
	synctest.Wait()
}

// authenticate is what the authority does for a publisher that it does not
// know.
func (w *world) authenticate(k book.Key) error {
	e, err := w.client.Authenticate(w.t.Context(), house, client.Place{Entry: k.Entry, Host: host, Index: k.Index}, token, "kLive")
	if err != nil {
		return err
	}
	g := book.Grant{Entry: k.Entry, Index: k.Index, Partner: house, Snapshot: e, Authenticated: time.Now()}
	g.Accept(token)
	return w.book.Put(w.t.Context(), g)
}

// onAir begins a broadcast as an encoder does and waits until it plays.
func (w *world) onAir(k book.Key) {
	w.t.Helper()
	require.NoError(w.t, w.authenticate(k))
	w.live.begin(k)
	synctest.Wait()
	require.Equal(w.t, kalturatest.StatusBroadcasting, w.status(k))
	w.pass(4 * time.Second)
	w.live.play(k, true)
	synctest.Wait()
	require.Equal(w.t, kalturatest.StatusPlayable, w.status(k))
}

// row is the backend's registration.
func (w *world) row(k book.Key) (kalturatest.Registration, bool) {
	return w.backend.State().Registration(k.Entry, fmt.Sprint(k.Index))
}

// status is that of the backend's registration, 0 when there is none.
func (w *world) status(k book.Key) int {
	r, _ := w.row(k)
	return r.Status
}

func (w *world) count(action string) int { return w.backend.State().Count(action) }

// inject breaks the backend until the returned function is called.
func (w *world) inject(f kalturatest.Fault) (mend func()) {
	w.t.Helper()
	id, err := w.backend.Inject(f)
	require.NoError(w.t, err)
	return func() { w.backend.ClearFaults(id) }
}

// registration is what the API shows; ok is false when there is nothing.
func (w *world) registration(k book.Key) (r stream.Registration, ok bool) {
	for _, r := range w.l.Registrations() {
		if r.Stream == k.Entry && r.ServerIndex == k.Index {
			return r, true
		}
	}
	return r, false
}

// steal registers the entry at another host, as that host would.
func (w *world) steal(k book.Key) {
	w.t.Helper()
	_, err := w.rival.Register(w.t.Context(), house, client.Place{Entry: k.Entry, Host: rival, Index: k.Index}, "kLive", client.StatusPlayable, false)
	require.NoError(w.t, err)
}
