package srt

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/media"
	wire "github.com/klive-media/klive/internal/srt"
	"github.com/klive-media/klive/internal/srt/srttest"
)

// The caller of the tests leaves a goroutine behind when it is turned away.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/datarhei/gosrt.Dial.func1"))
}

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

func await[T any](t testing.TB, ch <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(patience):
		t.Fatal("no " + what)
	}
	return v
}

// journal is a log that may be read while it is written.
type journal struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

// publication is a Publication that remembers.
type publication struct {
	request ingest.Request
	done    chan struct{}
	closed  chan struct{} // closed with Close

	mu        sync.Mutex // guards the fields below
	announced [][]*media.Track
	packets   []media.Packet
	cause     error // of the dismissal
	end       error // what Close was given
	isClosed  bool
	refuse    func([]*media.Track) error // what Announce answers
	panics    bool                       // whether Write does
	grown     chan struct{}
}

func newPublication() *publication {
	return &publication{done: make(chan struct{}), closed: make(chan struct{}), grown: make(chan struct{}, 1)}
}

func (p *publication) Announce(tracks []*media.Track) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.announced = append(p.announced, tracks)
	if p.refuse != nil {
		return p.refuse(tracks)
	}
	return nil
}

func (p *publication) Write(q media.Packet) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.panics {
		panic("a test wants it so")
	}
	p.packets = append(p.packets, q)
	select {
	case p.grown <- struct{}{}:
	default:
	}
	return p.cause
}

func (p *publication) Done() <-chan struct{} { return p.done }

func (p *publication) Cause() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cause
}

func (p *publication) Close(cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.isClosed {
		p.isClosed, p.end = true, cause
		close(p.closed)
	}
}

func (p *publication) dismiss(cause error) {
	p.mu.Lock()
	p.cause = cause
	p.mu.Unlock()
	close(p.done)
}

func (p *publication) written() []media.Packet {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.packets
}

func (p *publication) ended() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end
}

// wait waits until so many packets are there.
func (p *publication) wait(t testing.TB, n int) []media.Packet {
	t.Helper()
	deadline := time.After(patience)
	for {
		if list := p.written(); len(list) >= n {
			return list
		}
		select {
		case <-p.grown:
		case <-deadline:
			t.Fatalf("%d packets came, not %d", len(p.written()), n)
		}
	}
}

// gate is a Gate that lets in, or not.
type gate struct {
	refuse func(ingest.Request) error
	opened chan *publication
	// prepare, when there, may change the publication before it is handed out.
	prepare func(*publication)
}

func newGate() *gate { return &gate{opened: make(chan *publication, 256)} }

func (g *gate) Open(_ context.Context, r ingest.Request) (ingest.Publication, error) {
	if g.refuse != nil {
		if err := g.refuse(r); err != nil {
			return nil, err
		}
	}
	p := newPublication()
	p.request = r
	if g.prepare != nil {
		g.prepare(p)
	}
	g.opened <- p
	return p, nil
}

// tokenGate lets the right token in.
func tokenGate() *gate {
	g := newGate()
	g.refuse = checkToken
	return g
}

// checkToken is what an authority with one stream says.
func checkToken(r ingest.Request) error {
	switch {
	case r.Stream != "lobby":
		return fault.New(fault.StreamNotFound, "no stream %q is known", r.Stream)
	case r.Token != "s3cret":
		return fault.New(fault.BadToken, "the token is not the one of stream %q", r.Stream)
	}
	return nil
}

// door is a running Server.
type door struct {
	addr  net.Addr
	gate  *gate
	stats *Stats
	log   *journal
	stop  context.CancelFunc
	ended chan error
}

// open starts a door on loopback. change, which may be nil, changes its options.
func open(t testing.TB, g *gate, change func(*Options)) *door {
	t.Helper()
	l, err := wire.Listen(t.Context(), "127.0.0.1:0", wire.Options{Latency: 40 * time.Millisecond})
	require.NoError(t, err)
	d := &door{addr: l.Addr(), gate: g, stats: new(Stats), log: new(journal), ended: make(chan error, 1)}
	o := Options{
		Listener: l, Gate: g, Grammar: ingest.CatalogGrammar("kLive"), Stats: d.stats,
		Log: slog.New(slog.NewTextHandler(d.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.stop = cancel
	s := New(o)
	go func() { d.ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-d.ended:
			require.NoError(t, err)
		case <-time.After(patience):
			t.Error("the door did not end")
		}
	})
	return d
}

const streamID = "#!::r=lobby_1,m=publish,token=s3cret"

// dial calls the door.
func (d *door) dial(o srttest.Options) (*srttest.Caller, error) {
	if o.StreamID == "" {
		o.StreamID = streamID
	}
	return srttest.Dial(d.addr, o)
}

// call is dial that must be let in.
func (d *door) call(t testing.TB, o srttest.Options) *srttest.Caller {
	t.Helper()
	c, err := d.dial(o)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}
