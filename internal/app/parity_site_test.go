package app

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/config"
	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/pipeline"
	"github.com/klive-media/klive/internal/stream"
	"github.com/klive-media/klive/test/e2e/hlscheck"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// token is that of every stream of a site.
const token = "s3cret"

func awaitClosed(t testing.TB, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(patience):
		t.Fatal("no " + what)
	}
}

// site is a whole server with every door open. Streams "p-*" may be published
// with token.
type site struct {
	*started
	tap *tap
}

// openSite starts one. change, which may be nil, changes its configuration.
func openSite(t *testing.T, change func(*config.Config)) *site {
	t.Helper()
	c := testConfig(t)
	c.RTMP.TLS.Listen = "127.0.0.1:0"
	c.RTMP.TLS.Cert, c.RTMP.TLS.Key = writeCertificate(t, t.TempDir(), "localhost", time.Now())
	c.Streams = []config.Stream{{ID: "p-*", Token: token}}
	c.HLS.SegmentDuration = time.Second
	c.Limits.LogDuration = time.Minute // so that the tap sees all, though a test sends faster than real time
	c.Limits.DrainTimeout = 500 * time.Millisecond
	if change != nil {
		change(&c)
	}
	s := &site{tap: newTap()}
	s.started = start(t, c, s.tap)
	return s
}

// address is where a listener stands.
func (s *site) address(t testing.TB, listener string) string {
	t.Helper()
	for _, l := range s.listeners {
		if l.Name == listener {
			return l.Address
		}
	}
	t.Fatalf("there is no listener %s", listener)
	return ""
}

// post calls a method of the control API.
func (s *site) post(t testing.TB, path string) {
	t.Helper()
	resp, err := http.Post("http://"+s.control.HTTPAddr().String()+path, "application/json", strings.NewReader("{}"))
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode, string(body))
}

// listed are the sessions of a stream as the control API lists them.
func (s *site) listed(t testing.TB, name string) (list []listedSession) {
	t.Helper()
	code, body := s.fetch(t, "http://"+s.control.HTTPAddr().String()+"/v1/streams/"+name+"/sessions")
	require.Equal(t, http.StatusOK, code, body)
	var answer struct{ Sessions []listedSession }
	require.NoError(t, json.Unmarshal([]byte(body), &answer))
	return answer.Sessions
}

type listedSession struct{ Protocol, State, Reason string }

func (s *site) fetch(t testing.TB, address string) (int, string) {
	t.Helper()
	resp, err := http.Get(address) //nolint:gosec // a test's own
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

// told are the events of a stream, of some types; none: all.
func (s *site) told(t testing.TB, name string, types ...stream.EventType) (list []stream.Event) {
	t.Helper()
	for after := uint64(0); ; {
		events, _, err := s.events.Read(t.Context(), after, 1000)
		require.NoError(t, err)
		for _, e := range events {
			if e.Stream == name && (len(types) == 0 || slices.Contains(types, e.Type)) {
				list = append(list, e)
			}
		}
		if len(events) == 0 {
			return list
		}
		after = events[len(events)-1].Sequence
	}
}

// checkHLS follows the first playlist of a stream as a strict player does, for
// what it lists now, and reports broken rules.
func (s *site) checkHLS(t testing.TB, name string) *hlscheck.Playlist {
	t.Helper()
	base := "http://" + s.media.Addr().String() + "/live/" + name + "/"
	code, body := s.fetch(t, base+"index.m3u8")
	require.Equal(t, http.StatusOK, code, body)
	m, err := hlscheck.ParseMultivariant(body)
	require.NoError(t, err)
	uri := m.Variants[0].URI
	f := &hlscheck.Follower{URL: base + uri, Sparse: true}
	if strings.HasPrefix(uri, "/") {
		f.URL = "http://" + s.media.Addr().String() + uri
	}
	p, err := f.Step(t.Context())
	require.NoError(t, err)
	require.Empty(t, f.Findings.List(), "%s", body)
	return p
}

// tap is an output that keeps every packet of the first rendition.
type tap struct {
	mu  sync.Mutex // guards got
	got map[string][]media.Packet
	bad []error
}

func newTap() *tap { return &tap{got: make(map[string][]media.Packet)} }

func (*tap) Name() string { return "tap" }

// Run implements egress.Output. It reads to the end of the log, which is that
// of the broadcast.
func (p *tap) Run(ctx context.Context, b egress.Broadcast) error {
	list, changed := b.Renditions()
	for len(list) == 0 {
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
		list, changed = b.Renditions()
	}
	cursor := list[0].Source.Subscribe(pipeline.Seq(0))
	for {
		q, err := cursor.Next(context.WithoutCancel(ctx))
		p.mu.Lock()
		switch {
		case err == nil:
			p.got[b.Info().Stream] = append(p.got[b.Info().Stream], *q)
		case err != io.EOF:
			p.bad = append(p.bad, err)
		}
		p.mu.Unlock()
		if err == io.EOF {
			return nil
		}
	}
}

// packets are those of a kind that were read of a stream.
func (p *tap) packets(name string, k media.Kind) (list []media.Packet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.got[name] {
		if q.Track.Kind == k {
			list = append(list, q)
		}
	}
	return list
}

// forget lets go of what was read.
func (p *tap) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.got)
}
