package control

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/stream"
)

// house is a small server in memory: a catalog, what is on air, and a journal.
// It follows the rules of the interfaces, so that the tests ask what a caller
// sees and not which functions were called.
type house struct {
	mu       sync.Mutex // guards the fields below
	entries  map[string]stream.Entry
	secrets  map[string]stream.Secrets
	revision uint64
	statuses map[string]stream.Status
	sessions []stream.SessionStatus // newest first
	stopped  map[string]error
	events   []stream.Event
	dropped  uint64 // events up to here are gone
	broken   error  // what the catalog answers instead
	panics   bool   // Get panics

	entriesChanged, liveChanged, eventsChanged, drained chan struct{}
}

func newHouse() *house {
	return &house{
		entries: map[string]stream.Entry{}, secrets: map[string]stream.Secrets{}, statuses: map[string]stream.Status{}, stopped: map[string]error{},
		entriesChanged: make(chan struct{}), liveChanged: make(chan struct{}), eventsChanged: make(chan struct{}), drained: make(chan struct{}),
	}
}

func ring(bell *chan struct{}) {
	close(*bell)
	*bell = make(chan struct{})
}

// birth is a moment the tests count from.
var birth = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// The catalog.

type catalog struct{ *house }

func (h catalog) List(context.Context) ([]stream.Entry, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.SortedFunc(maps.Values(h.entries), func(a, b stream.Entry) int { return cmp.Compare(a.ID, b.ID) }), h.broken
}

func (h catalog) Get(_ context.Context, id string) (stream.Entry, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.panics {
		panic("the catalog has a hole")
	}
	if h.broken != nil {
		return stream.Entry{}, h.broken
	}
	e, ok := h.entries[id]
	if !ok {
		return e, fault.New(fault.StreamNotFound, "no stream %s is known", id).With("stream", id)
	}
	return e, nil
}

func (h catalog) Create(_ context.Context, e stream.Entry, s stream.Secrets) (stream.Entry, stream.Secrets, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.entries[e.ID]; ok {
		return e, stream.Secrets{}, fault.New(fault.AlreadyExistsReason, "the stream %s exists", e.ID)
	}
	if strings.ContainsAny(e.ID, " /") {
		return e, stream.Secrets{}, fault.New(fault.InvalidField, "the id has a blank or a slash").With("field", "stream_id")
	}
	h.revision++
	e.Revision, e.Origin, e.Created, e.Updated = h.revision, stream.FromAPI, birth, birth
	if s.Token == "" {
		s.Token = fmt.Sprintf("secret-%d", h.revision)
	}
	e.Encrypted = s.Passphrase != ""
	h.entries[e.ID], h.secrets[e.ID] = e, s
	ring(&h.entriesChanged)
	return e, s, nil
}

// change finds an entry that may be changed. h.mu is held.
func (h catalog) change(id string, revision uint64) (stream.Entry, error) {
	e, ok := h.entries[id]
	switch {
	case !ok:
		return e, fault.New(fault.StreamNotFound, "no stream %s is known", id)
	case e.Origin != stream.FromAPI:
		return e, fault.New(fault.ManagedByConfig, "the stream %s is declared in the configuration", id)
	case revision != 0 && revision != e.Revision:
		return e, fault.New(fault.EtagMismatch, "the stream %s has changed", id)
	}
	return e, nil
}

func (h catalog) Update(_ context.Context, e stream.Entry, passphrase *string, revision uint64) (stream.Entry, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	old, err := h.change(e.ID, revision)
	if err != nil {
		return old, err
	}
	h.revision++
	old.DisplayName, old.Partner, old.Labels, old.Revision = e.DisplayName, e.Partner, e.Labels, h.revision
	old.Updated = old.Updated.Add(time.Second)
	if passphrase != nil {
		old.Encrypted = *passphrase != ""
		h.secrets[e.ID] = stream.Secrets{Token: h.secrets[e.ID].Token, Passphrase: *passphrase}
	}
	h.entries[e.ID] = old
	ring(&h.entriesChanged)
	return old, nil
}

func (h catalog) Delete(_ context.Context, id string, revision uint64) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, err := h.change(id, revision); err != nil {
		return err
	}
	delete(h.entries, id)
	delete(h.secrets, id)
	ring(&h.entriesChanged)
	return nil
}

func (h catalog) RotateToken(_ context.Context, id string) (stream.Entry, stream.Secrets, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e, err := h.change(id, 0)
	if err != nil {
		return e, stream.Secrets{}, err
	}
	s := h.secrets[id]
	s.Token += "-again"
	h.secrets[id] = s
	return e, s, nil
}

func (h catalog) Secrets(_ context.Context, id string) (stream.Secrets, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.secrets[id], nil
}

func (h catalog) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.entriesChanged
}

// declare adds an entry of the configuration.
func (h *house) declare(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.entries[id] = stream.Entry{ID: id, Origin: stream.FromConfig}
	h.secrets[id] = stream.Secrets{Token: "declared"}
	ring(&h.entriesChanged)
}

// What is on air.

type air struct{ *house }

func (h air) Statuses() ([]stream.Status, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.SortedFunc(maps.Values(h.statuses), func(a, b stream.Status) int { return cmp.Compare(a.Stream, b.Stream) }), h.liveChanged
}

func (h air) Status(id string) (stream.Status, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, ok := h.statuses[id]
	return s, ok
}

func (h air) Sessions(id string) []stream.SessionStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(h.sessions), func(s stream.SessionStatus) bool { return id != "" && s.Stream != id })
}

func (h air) Session(id string) (stream.SessionStatus, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.IndexFunc(h.sessions, func(s stream.SessionStatus) bool { return s.ID == id })
	if i < 0 {
		return stream.SessionStatus{}, false
	}
	return h.sessions[i], true
}

func (h air) Stop(_ context.Context, id string, cause error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped[id] = cause
	if s, ok := h.statuses[id]; ok {
		s.State = stream.Stopped
		s.Version++
		h.statuses[id] = s
	}
	ring(&h.liveChanged)
	return nil
}

func (h air) Disconnect(_ context.Context, session string, cause error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.sessions {
		if s := &h.sessions[i]; s.ID == session {
			s.State, s.Reason, s.Message, s.End = stream.Stopped, fault.ReasonOf(cause), fault.From(cause).Message, birth
			ring(&h.liveChanged)
			return nil
		}
	}
	return fault.New(fault.SessionNotFound, "no session %s is known", session)
}

// publish puts a stream into a state, with one session and one rendition.
func (h *house) publish(id string, state stream.State) {
	h.mu.Lock()
	defer h.mu.Unlock()
	tracks := []*media.Track{
		{ID: 65, Kind: media.Video, CodecString: "avc1.64001f", Video: media.VideoInfo{Width: 1280, Height: 720, FrameRate: 25}},
		{ID: 66, Kind: media.Audio, CodecString: "mp4a.40.2", Audio: media.AudioInfo{SampleRate: 48000, Channels: 2}},
	}
	session := fmt.Sprintf("s%d-%s", len(h.sessions)+1, id)
	h.statuses[id] = stream.Status{
		Stream: id, State: state, Version: h.statuses[id].Version + 1,
		Broadcasts: []stream.BroadcastStatus{{
			ID: "b-" + id, State: state, Start: birth,
			Renditions: []stream.RenditionStatus{{ID: "1", Tracks: tracks, Playable: state == stream.Playable, Session: session}},
		}},
	}
	h.sessions = slices.Insert(h.sessions, 0, stream.SessionStatus{
		ID: session, Stream: id, Broadcast: "b-" + id, Index: 1, Protocol: "rtmp", Encoder: "FMLE/3.0",
		Remote: netip.MustParseAddrPort("192.0.2.7:40000"), State: state, Tracks: tracks,
		Start: birth.Add(time.Duration(len(h.sessions)) * time.Second), Bytes: 1000, WireBytes: 1100, Packets: 10, Bitrate: 2_700_000,
		OffsetMethod: "wire-clock", Offset: 40 * time.Millisecond,
	})
	ring(&h.liveChanged)
}

// vanish forgets what was on air.
func (h *house) vanish(id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.statuses, id)
	ring(&h.liveChanged)
}

// The journal.

type journal struct{ *house }

func (h journal) Record(e stream.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	e.Sequence = h.dropped + uint64(len(h.events)) + 1
	if e.Time.IsZero() {
		e.Time = birth
	}
	h.events = append(h.events, e)
	ring(&h.eventsChanged)
}

func (h journal) Last() (uint64, <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dropped + uint64(len(h.events)), h.eventsChanged
}

func (h journal) Read(_ context.Context, after uint64, n int) ([]stream.Event, bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	lost := after < h.dropped
	after = max(after, h.dropped)
	rest := h.events[min(after-h.dropped, uint64(len(h.events))):]
	return slices.Clone(rest[:min(n, len(rest))]), lost, nil
}

// drop is retention: the oldest n events go.
func (h *house) drop(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = h.events[n:]
	h.dropped += uint64(n)
}

// The node.

type node struct{ *house }

func (h node) Info() NodeInfo {
	return NodeInfo{ID: "here", Version: "1.2.3", Start: birth, Listeners: []Listener{{"rtmp", "tcp", "127.0.0.1:1935"}}}
}

func (h node) Drain(context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !isClosed(h.drained) {
		close(h.drained)
	}
	return nil
}

func (h node) Draining() <-chan struct{} { return h.drained }

type addressBook struct{}

func (addressBook) Publish(e stream.Entry, s stream.Secrets) AddressBook {
	return AddressBook{
		Publish: []PublishAddress{{
			Protocol: "rtmp", URL: "rtmp://host/kLive?t=" + s.Token + "/" + e.ID + "_1", Server: "rtmp://host/kLive?t=" + s.Token, Key: e.ID + "_1",
		}, {
			Protocol: "srt", URL: "srt://host:8890?passphrase=" + s.Passphrase, Passphrase: s.Passphrase,
		}},
		Player: "http://host/live/" + e.ID + "/", Playlist: "http://host/live/" + e.ID + "/index.m3u8",
	}
}

var (
	_ stream.Entries = catalog{}
	_ stream.Live    = air{}
	_ stream.Journal = journal{}
	_ Node           = node{}
	_ Addresses      = addressBook{}
)

// options serves the house on ports of its own.
func (h *house) options() Options {
	return Options{
		GRPCListen: "127.0.0.1:0", HTTPListen: "127.0.0.1:0",
		Entries: catalog{h}, Live: air{h}, Journal: journal{h}, Node: node{h}, Addresses: addressBook{},
		Mounts: []Mount{
			{Path: "/livez", Title: "Alive?", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "yes") })},
		},
	}
}

// start runs a server for the test and stops it at its end.
func start(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := New(o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return s
}

// dial connects to the server's gRPC listener.
func dial(t *testing.T, s *Server, more ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	more = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, more...)
	conn, err := grpc.NewClient("passthrough:///"+s.GRPCAddr().String(), more...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func streamsClient(t *testing.T, s *Server) klivev1.StreamServiceClient {
	return klivev1.NewStreamServiceClient(dial(t, s))
}

// baseURL is where REST is.
func baseURL(s *Server) string { return "http://" + s.HTTPAddr().(*net.TCPAddr).String() }
