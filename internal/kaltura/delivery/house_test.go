package delivery

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/kaltura/ks"
	"github.com/klive-media/klive/internal/kaltura/profile"
	"github.com/klive-media/klive/internal/store"
	"github.com/klive-media/klive/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	secret  = ks.Secret("house-of-secrets")
	partner = 102
	entry   = "0_rkij47dr"
	entryB  = "0_abcdefgh"
	host    = "ms1.example.com"
)

// line carries requests to the backend without a network; cut: nobody is
// there, so that nothing is sent.
type line struct {
	http.Handler
	mu  sync.Mutex // guards the fields below
	cut bool
	// before is asked before each request reaches the backend, and may break it.
	before func(path string) error
	// late: the next append is carried out that much later, and its answer goes
	// nowhere; 0: it is not.
	late time.Duration
}

func (l *line) set(cut bool) { l.mu.Lock(); defer l.mu.Unlock(); l.cut = cut }

// watch asks before each request; nil: nobody.
func (l *line) watch(before func(path string) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before = before
}

func (l *line) RoundTrip(r *http.Request) (resp *http.Response, err error) {
	l.mu.Lock()
	cut, before, late := l.cut, l.before, time.Duration(0)
	if strings.HasSuffix(r.URL.Path, "/appendRecording") {
		late, l.late = l.late, 0
	}
	l.mu.Unlock()
	if cut {
		return nil, errors.New("connection refused")
	}
	if trace := httptrace.ContextClientTrace(r.Context()); trace != nil && trace.WroteHeaders != nil {
		trace.WroteHeaders()
	}
	if before != nil {
		if err := before(r.URL.Path); err != nil {
			return nil, err
		}
	}
	if late > 0 {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		working, done := context.WithTimeout(context.WithoutCancel(r.Context()), 65*time.Second) // whatever a fault adds
		again := r.Clone(working)
		again.Body = io.NopCloser(bytes.NewReader(body))
		go func() {
			defer done()
			defer func() { _ = recover() }() // a fault drops the answer: nobody hears it anyway
			time.Sleep(late)
			l.ServeHTTP(httptest.NewRecorder(), again)
		}()
		return nil, io.ErrUnexpectedEOF
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
	l.ServeHTTP(w, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// recordings is a recorder in memory whose pieces are real files.
type recordings struct {
	dir     string
	mu      sync.Mutex // guards the fields below
	list    []*stream.Recording
	changed chan struct{}
}

var _ stream.Recordings = (*recordings)(nil)

func clone(r *stream.Recording) stream.Recording {
	c := *r
	c.Pieces = slices.Clone(r.Pieces)
	return c
}

func (s *recordings) List(of string) (out []stream.Recording) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.list {
		if of == "" || r.Stream == of {
			out = append(out, clone(r))
		}
	}
	slices.Reverse(out)
	return out
}

func (s *recordings) Get(id string) (stream.Recording, bool) {
	for _, r := range s.List("") {
		if r.ID == id {
			return r, true
		}
	}
	return stream.Recording{}, false
}

func (s *recordings) Changed() <-chan struct{} { s.mu.Lock(); defer s.mu.Unlock(); return s.changed }

func (s *recordings) Split(context.Context, string) (int, error) { return 0, nil }

func (s *recordings) Join(_ context.Context, id, rendition, path string) (length time.Duration, err error) {
	r, ok := s.Get(id)
	if !ok {
		return 0, fault.New(fault.RecordingNotFound, "there is none")
	}
	out, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer out.Close()
	for _, p := range r.Pieces {
		if p.Rendition == rendition && p.Finished {
			content, err := os.ReadFile(p.File)
			if err != nil {
				return 0, err
			}
			out.Write(content)
			length += p.Duration
		}
	}
	return length, nil
}

func (s *recordings) change(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fn()
	close(s.changed)
	s.changed = make(chan struct{})
}

// begin adds a recording.
func (s *recordings) begin(id, of string, index int) *stream.Recording {
	r := &stream.Recording{ID: id, Stream: of, ServerIndex: index, Partner: partner, Mode: egress.RecordPerSession, Start: time.Now()}
	s.change(func() { s.list = append(s.list, r) })
	return r
}

const pieceDuration = 900 * time.Second

func content(recording, rendition string, number int) []byte {
	return []byte(fmt.Sprintf("recording %s rendition %s piece %d, long enough for some chunks", recording, rendition, number))
}

// piece finishes a piece.
func (s *recordings) piece(r *stream.Recording, rendition string, number int, last bool) {
	file := filepath.Join(s.dir, fmt.Sprintf("%s-%s-%d.mp4", r.ID, rendition, number))
	data := content(r.ID, rendition, number)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		panic(err)
	}
	s.change(func() {
		r.Pieces = append(r.Pieces, stream.Piece{Rendition: rendition, Number: number, Duration: pieceDuration, Size: int64(len(data)), Finished: true, Last: last, File: file})
	})
}

func (s *recordings) end(r *stream.Recording) { s.change(func() { r.End = time.Now() }) }

// disk is a bucket of rows that survives the queues made over it.
type disk struct {
	mu       sync.Mutex // guards the fields below
	revision uint64
	rows     map[string]store.Record
	// on is told before and after each write; it may wait, as a process that
	// was killed writes nothing any more.
	on     func(ctx context.Context, what string, r *row, after bool) error
	broken error
}

// set sets on and broken.
func (d *disk) set(on func(ctx context.Context, what string, r *row, after bool) error, broken error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.on, d.broken = on, broken
}

func newDisk() *disk { return &disk{rows: map[string]store.Record{}} }

func (d *disk) List(context.Context) ([]store.Record, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []store.Record
	for _, k := range slices.Sorted(maps.Keys(d.rows)) {
		out = append(out, d.rows[k])
	}
	return out, d.broken
}

func (d *disk) Get(_ context.Context, key string) (store.Record, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.rows[key]
	if !ok {
		return r, errors.Join(store.ErrNotFound, d.broken)
	}
	return r, d.broken
}

func (d *disk) write(ctx context.Context, what, key string, value []byte, check func(store.Record, bool) error) (uint64, error) {
	r, err := decodeRow(key, value, 0)
	if err != nil {
		panic(err)
	}
	d.mu.Lock()
	on := d.on
	d.mu.Unlock()
	if on != nil {
		if err := on(ctx, what, r, false); err != nil {
			return 0, err
		}
	}
	d.mu.Lock()
	have, ok := d.rows[key]
	err = errors.Join(d.broken, check(have, ok))
	if err == nil {
		d.revision++
		d.rows[key] = store.Record{Key: key, Value: slices.Clone(value), Revision: d.revision}
	}
	revision := d.revision
	d.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if on != nil {
		if err := on(ctx, what, r, true); err != nil {
			return 0, err
		}
	}
	return revision, nil
}

func (d *disk) Create(ctx context.Context, key string, value []byte) (uint64, error) {
	return d.write(ctx, "create", key, value, func(_ store.Record, have bool) error {
		if have {
			return store.ErrExists
		}
		return nil
	})
}

func (d *disk) Update(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	return d.write(ctx, "update", key, value, func(r store.Record, have bool) error {
		if !have || r.Revision != revision {
			return store.ErrConflict
		}
		return nil
	})
}

func (d *disk) Delete(_ context.Context, key string, revision uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.rows[key]; !ok {
		return store.ErrNotFound
	}
	delete(d.rows, key)
	return nil
}

// journal keeps events.
type journal struct {
	mu     sync.Mutex // guards events
	events []stream.Event
}

func (j *journal) Read(context.Context, uint64, int) ([]stream.Event, bool, error) {
	return nil, false, nil
}
func (j *journal) Last() (uint64, <-chan struct{}) { return 0, nil }
func (j *journal) Record(e stream.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
}

func (j *journal) count(of stream.EventType) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.events {
		if e.Type == of {
			n++
		}
	}
	return n
}

// house is a backend, a recorder and a disk; queues come and go.
type house struct {
	t       *testing.T
	backend *kalturatest.Backend
	line    *line
	client  *client.Client
	recs    *recordings
	disk    *disk
	journal *journal
	shared  string // the folder for handing over
	work    string
}

func newHouse(t *testing.T, change func(*kalturatest.Options)) *house {
	t.Helper()
	root := t.TempDir()
	h := &house{t: t, shared: filepath.Join(root, "shared"), work: filepath.Join(root, "work"), disk: newDisk(), journal: &journal{},
		recs: &recordings{dir: filepath.Join(root, "recorded"), changed: make(chan struct{})}}
	taken := filepath.Join(root, "taken")
	for _, dir := range []string{h.shared, h.recs.dir, taken} {
		require.NoError(t, os.Mkdir(dir, 0o700))
	}
	features := []string{kalturatest.FeatureLive, kalturatest.FeatureTranscode, kalturatest.FeatureMediaServer, kalturatest.FeatureServerNode}
	o := kalturatest.Options{
		Partners: []kalturatest.Partner{{ID: -5, Secret: secret}, {ID: partner, Secret: secret, Features: features}},
		Entries: []kalturatest.Entry{
			{ID: entry, Partner: partner, Token: "dj94kfit", Profile: kalturatest.ProfileTranscode, Record: kalturatest.RecordPerSession},
			{ID: entryB, Partner: partner, Token: "aaaabbbb", Profile: kalturatest.ProfilePassthrough, Record: kalturatest.RecordAppended},
		},
		Nodes:           []kalturatest.Node{{Partner: kalturatest.MediaServerPartner, Name: "one", HostName: host, Status: kalturatest.NodeActive}},
		Directory:       taken,
		SharedDirectory: root,
	}
	if change != nil {
		change(&o)
	}
	var err error
	h.backend, err = kalturatest.New(o)
	require.NoError(t, err)
	h.line = &line{Handler: h.backend}
	h.client, err = client.New(client.Options{URL: "http://backend.invalid", Partner: -5, Secret: secret, Transport: h.line})
	require.NoError(t, err)
	h.register(entry)
	h.register(entryB)
	return h
}

// register puts an entry on air, which makes its recorded entry.
func (h *house) register(id string) {
	_, err := h.client.Register(h.t.Context(), partner, client.Place{Entry: id, Host: host}, "kLive", client.StatusBroadcasting, true)
	require.NoError(h.t, err)
}

// start makes a queue over what is there, as a start of the server does.
func (h *house) start(change func(*Options)) (*Queue, func()) {
	h.t.Helper()
	o := Options{Client: h.client, Recordings: h.recs, Journal: h.journal, Logger: slog.New(slog.NewTextHandler(h.t.Output(), nil)),
		SharedDir: h.shared, WorkDir: h.work, rows: h.disk,
		Profile: h.profile}
	if change != nil {
		change(&o)
	}
	q, err := New(h.t.Context(), o)
	require.NoError(h.t, err)
	ctx, cancel := context.WithCancel(h.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- q.Run(ctx) }()
	return q, func() {
		cancel()
		require.NoError(h.t, <-ended)
	}
}

func (h *house) profile(ctx context.Context, partner int, entry string) (profile.Profile, error) {
	e, err := h.client.GetEntry(ctx, partner, entry)
	if err != nil {
		return profile.Profile{}, err
	}
	return profile.Load(ctx, h.client, partner, e)
}

func (h *house) inject(f kalturatest.Fault) int {
	h.t.Helper()
	id, err := h.backend.Inject(f)
	require.NoError(h.t, err)
	return id
}

// got is what the backend took: hashes by entry, rendition and index, in the
// order of arrival.
func (h *house) got() map[string][]string {
	out := map[string][]string{}
	for _, s := range h.backend.State().Segments {
		key := fmt.Sprintf("%s %d %s", s.Entry, s.Flavor, s.Index)
		out[key] = append(out[key], s.SHA256)
	}
	return out
}

// want is what it should have: pieces from to to of a rendition.
func want(recording, rendition string, from, to int) (out []string) {
	for n := from; n <= to; n++ {
		sum := sha256.Sum256(content(recording, rendition, n))
		out = append(out, hex.EncodeToString(sum[:]))
	}
	return out
}

func lane1(of string, rendition string, index int) string {
	return of + " " + rendition + " " + strconv.Itoa(index)
}

// states lists the deliveries of a recording as text: "32/1 DELIVERED".
func states(q *Queue, recording string) (out []string) {
	for _, d := range q.Of(recording) {
		out = append(out, fmt.Sprintf("%s/%d %s", d.Rendition, d.Number, d.State))
	}
	return out
}

func stateOf(q *Queue, recording, rendition string, number int) stream.Delivery {
	for _, d := range q.Of(recording) {
		if d.Rendition == rendition && d.Number == number {
			return d
		}
	}
	return stream.Delivery{}
}
