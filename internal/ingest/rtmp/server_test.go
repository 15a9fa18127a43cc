package rtmp

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	wire "github.com/klive-media/klive/internal/rtmp"
	"github.com/klive-media/klive/internal/rtmp/message"
)

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

// door is a running Server.
type door struct {
	addr  string
	gate  *gate
	stats *Stats
	log   *journal
	stop  context.CancelFunc
	ended chan error
}

func open(t testing.TB, change func(*Options)) *door {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	d := &door{addr: l.Addr().String(), gate: newGate(), stats: new(Stats), log: new(journal), ended: make(chan error, 1)}
	o := Options{Listener: l, Gate: d.gate, Grammar: ingest.CatalogGrammar("kLive"), Stats: d.stats,
		Log: slog.New(slog.NewTextHandler(d.log, nil))}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.stop = cancel
	go func() { d.ended <- New(o).Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, await(t, d.ended, "end of the door"))
		require.Zero(t, d.stats.Connections.Load())
		require.Zero(t, d.stats.Publications.Load())
		require.NotContains(t, d.log.String(), "s3cret", "the log never holds a token")
	})
	return d
}

// client is an encoder that has said nothing yet.
func (d *door) client(t testing.TB) *wire.ClientConn {
	t.Helper()
	nc, err := net.Dial("tcp", d.addr)
	require.NoError(t, err)
	c := wire.NewClientConn(nc, wire.Options{})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// dial connects an encoder as far as it gets.
func (d *door) dial(t testing.TB, app, name string) (*wire.ClientConn, error) {
	t.Helper()
	c := d.client(t)
	err := c.Connect(wire.Connect{App: app, TcURL: "rtmp://live.example.com/" + app, FlashVer: "FMLE/3.0 (test)"})
	if err != nil {
		return c, err
	}
	return c, c.Publish(name)
}

func send(t testing.TB, c *wire.ClientConn, ms ...message.Message) {
	t.Helper()
	for i := range ms {
		require.NoError(t, c.Write(&ms[i]))
	}
	require.NoError(t, c.Flush())
}

// until waits for the publication to hold n packets.
func until(t testing.TB, p *publication, n int) {
	t.Helper()
	for len(p.written()) < n {
		await(t, p.grown, "packet")
	}
}

func status(t testing.TB, err error) wire.Info {
	t.Helper()
	var s *wire.StatusError
	require.ErrorAs(t, err, &s)
	return s.Info
}

func TestPublish(t *testing.T) {
	d := open(t, nil)
	c, err := d.dial(t, "kLive/?p=102&t=s3cret", "lobby_1")
	require.NoError(t, err)
	p := await(t, d.gate.opened, "publication")
	require.Equal(t, "lobby", p.request.Stream)
	require.Equal(t, 1, p.request.Index)
	require.Equal(t, 102, p.request.Partner)
	require.Equal(t, "s3cret", p.request.Token)
	require.Equal(t, "live.example.com", p.request.Hostname)
	require.Equal(t, "FMLE/3.0 (test)", p.request.Encoder)
	require.True(t, p.request.Remote.IsValid())
	send(t, c, videoConfig(avcSmall), audioConfig(ascSmall), keyFrame(0), audioFrame(0), interFrame(40))
	until(t, p, 3)
	require.EqualValues(t, 1, d.stats.Publications.Load())
	require.EqualValues(t, 5, p.request.Counters.Messages.Load())
	require.NoError(t, c.Unpublish("lobby_1"))
	await(t, p.closed, "close")
	require.Equal(t, fault.Unpublished, fault.ReasonOf(p.end))

	require.NoError(t, c.Close())
	require.EqualValues(t, 1, d.stats.Accepted.Load())
	require.EqualValues(t, d.stats.BytesIn.Load(), p.request.Counters.BytesIn.Load())
	require.Positive(t, d.stats.BytesIn.Load())
}

func TestConnectionBreaks(t *testing.T) {
	d := open(t, nil)
	c, err := d.dial(t, "kLive?t=s3cret", "lobby_1")
	require.NoError(t, err)
	p := await(t, d.gate.opened, "publication")
	send(t, c, videoConfig(avcSmall), keyFrame(0))
	until(t, p, 1)
	require.NoError(t, c.Close())
	await(t, p.closed, "close")
	require.Equal(t, fault.ConnectionLost, fault.ReasonOf(p.end))
}

func TestRefusals(t *testing.T) {
	for _, tc := range []struct {
		name, app, stream string
		gate              error
		code, says        string
	}{
		{"unknown application", "other?t=s3cret", "lobby_1", nil, wire.ConnectRejected, "no application"},
		{"no token", "kLive", "lobby_1", nil, wire.PublishUnauthorized, "token (t) is missing"},
		{"a name without an index", "kLive?t=s3cret", "lobby", nil, wire.PublishBadName, "lobby_1"},
		{"a name that does not fit the entry", "kLive?t=s3cret&e=hall", "lobby_1", nil, wire.PublishBadName, "hall_1"},
		{"an escape that is none", "kLive?t=%zz", "lobby_1", nil, wire.ConnectRejected, "%"},
		{"wrong token", "kLive?t=s3cret", "lobby_1", fault.New(fault.BadToken, "the token is wrong; copy the address again"),
			wire.PublishUnauthorized, "the token is wrong; copy the address again"},
		{"busy", "kLive?t=s3cret", "lobby_1", fault.New(fault.StreamBusy, "another encoder publishes lobby_1"),
			wire.PublishBadName, "another encoder publishes lobby_1"},
		{"unknown stream", "kLive?t=s3cret", "lobby_1", fault.New(fault.StreamNotFound, "there is no stream lobby"),
			wire.PublishBadName, "there is no stream lobby"},
		{"an error of ours", "kLive?t=s3cret", "lobby_1", errors.New("secret insides"), wire.PublishFailed, "error of its own"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := open(t, nil)
			d.gate.refuse = tc.gate
			c, err := d.dial(t, tc.app, tc.stream)
			got := status(t, err)
			require.Equal(t, wire.LevelError, got.Level)
			require.Equal(t, tc.code, got.Code)
			require.Contains(t, got.Description, tc.says)
			require.NotContains(t, got.Description, "s3cret")
			require.Len(t, d.stats.Refused(), 1)
			require.NoError(t, c.Close())
		})
	}
}

func TestEndsThatTheEncoderIsToldOf(t *testing.T) {
	for _, tc := range []struct {
		name   string
		act    func(t *testing.T, d *door, c *wire.ClientConn, p *publication)
		reason fault.Reason
		code   string
	}{
		{"dismissal of a silent encoder", func(_ *testing.T, _ *door, _ *wire.ClientConn, p *publication) {
			p.dismiss(fault.New(fault.StoppedByOperator, "the stream was stopped"))
		}, fault.StoppedByOperator, wire.PublishFailed},
		{"dismissal by a newcomer", func(t *testing.T, _ *door, c *wire.ClientConn, p *publication) {
			send(t, c, videoConfig(avcSmall), keyFrame(0))
			until(t, p, 1)
			p.dismiss(fault.New(fault.Superseded, "another encoder took the place"))
		}, fault.Superseded, wire.PublishFailed},
		{"end of the server", func(_ *testing.T, d *door, _ *wire.ClientConn, _ *publication) { d.stop() },
			fault.ServerDraining, wire.ConnectAppShutdown},
		{"codec", func(t *testing.T, _ *door, c *wire.ClientConn, _ *publication) {
			send(t, c, message.Message{Type: message.TypeVideo, Payload: []byte("\x90vp08config")})
		}, fault.UnsupportedCodec, wire.PublishFailed},
		{"codec change in mid-stream", func(t *testing.T, _ *door, c *wire.ClientConn, p *publication) {
			send(t, c, videoConfig(avcSmall), keyFrame(0))
			until(t, p, 1)
			send(t, c, message.Message{Type: message.TypeVideo, Payload: []byte("\x90vp08config")})
		}, fault.UnsupportedCodec, wire.PublishFailed},
		{"a broken protocol", func(t *testing.T, _ *door, c *wire.ClientConn, _ *publication) {
			send(t, c, message.Message{Type: message.TypeSetChunkSize, Payload: []byte{0, 0, 0, 0}})
		}, fault.ProtocolError, wire.PublishFailed},
		{"tracks that cannot be carried", func(t *testing.T, _ *door, c *wire.ClientConn, p *publication) {
			p.mu.Lock()
			p.refuse = fault.New(fault.UnsupportedLayout, "no")
			p.mu.Unlock()
			send(t, c, videoConfig(avcSmall), audioConfig(ascSmall))
		}, fault.UnsupportedLayout, wire.PublishFailed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := open(t, nil)
			c, err := d.dial(t, "kLive?t=s3cret", "lobby_1")
			require.NoError(t, err)
			p := await(t, d.gate.opened, "publication")
			tc.act(t, d, c, p)
			got := status(t, c.Serve())
			require.Equal(t, tc.code, got.Code)
			require.NotEmpty(t, got.Description)
			require.NoError(t, c.Close())
			await(t, p.closed, "close")
			require.Equal(t, tc.reason, fault.ReasonOf(p.end), p.end)
		})
	}
}

func TestAPanicEndsOneConnection(t *testing.T) {
	d := open(t, nil)
	d.gate.prepare = func(p *publication) { p.panics = p.request.Stream == "bad" }
	good, err := d.dial(t, "kLive?t=s3cret", "good_1")
	require.NoError(t, err)
	g := await(t, d.gate.opened, "publication")
	bad, err := d.dial(t, "kLive?t=s3cret", "bad_1")
	require.NoError(t, err)
	b := await(t, d.gate.opened, "publication")
	send(t, bad, videoConfig(avcSmall), keyFrame(0))
	await(t, b.closed, "close")
	require.Equal(t, fault.InternalError, fault.ReasonOf(b.end))
	require.ErrorIs(t, bad.Serve(), io.EOF)
	send(t, good, videoConfig(avcSmall), keyFrame(0))
	until(t, g, 1)
	require.Eventually(t, func() bool { return d.stats.Panics.Load() == 1 }, patience, time.Millisecond)
}

func TestConnectionsAreBounded(t *testing.T) {
	d := open(t, func(o *Options) { o.MaxConnections = 1 })
	_, err := d.dial(t, "kLive?t=s3cret", "lobby_1")
	require.NoError(t, err)
	_, err = d.dial(t, "kLive?t=s3cret", "lobby_2")
	require.Error(t, err)
	require.EqualValues(t, 1, d.stats.Refused()[fault.LimitExceeded])
}

func TestWaitingConnectionsOfOneAddressAreBounded(t *testing.T) {
	d := open(t, func(o *Options) { o.MaxWaiting = 1 })
	_, err := d.dial(t, "kLive?t=s3cret", "lobby_1") // publishes, and waits no longer
	require.NoError(t, err)
	waiting, err := net.Dial("tcp", d.addr)
	require.NoError(t, err)
	defer waiting.Close()
	require.Eventually(t, func() bool { return d.stats.Connections.Load() == 2 }, patience, time.Millisecond)
	_, err = d.dial(t, "kLive?t=s3cret", "lobby_2")
	require.Error(t, err)
	require.EqualValues(t, 1, d.stats.Refused()[fault.LimitExceeded])
}

func TestPeersThatDoNotSpeakRTMP(t *testing.T) {
	d := open(t, func(o *Options) { o.HandshakeTimeout = 50 * time.Millisecond })
	for _, said := range []string{"GET / HTTP/1.1\r\n\r\n", "", strings.Repeat("\x03", 700)} {
		nc, err := net.Dial("tcp", d.addr)
		require.NoError(t, err)
		_, err = nc.Write([]byte(said))
		require.NoError(t, err)
		require.NoError(t, nc.SetReadDeadline(time.Now().Add(patience)))
		got, err := io.ReadAll(nc)
		require.Empty(t, got)
		require.False(t, errors.Is(err, context.DeadlineExceeded))
		require.NoError(t, nc.Close())
	}
}

func TestHandshakeToPublishIsQuick(t *testing.T) {
	d := open(t, nil)
	best := time.Hour
	for range 5 {
		start := time.Now()
		c, err := d.dial(t, "kLive?t=s3cret", "lobby_1")
		require.NoError(t, err)
		best = min(best, time.Since(start))
		require.NoError(t, c.Close())
	}
	// The bar is 5 ms; a step that waits for a delayed acknowledgement costs 40.
	require.Less(t, best, 25*time.Millisecond)
}

func TestNoLimitIsNoLimit(t *testing.T) {
	a := ingest.NewAdmission(0, 0)
	for range 10_000 {
		_, ok := a.Enter(netip.MustParseAddr("192.0.2.1"))
		require.True(t, ok)
	}
}

// witness remembers what it was told.
type witness struct {
	mu      sync.Mutex // guards refused
	refused []string
}

func (w *witness) Refused(r ingest.Request, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refused = append(w.refused, strings.Join([]string{r.Protocol, r.Remote.Addr().String(), r.Encoder, string(fault.ReasonOf(err))}, " "))
}

func TestTheWitnessHearsOfAddressesThatCannotBeRead(t *testing.T) {
	w := new(witness)
	d := open(t, func(o *Options) {
		o.Witness = w
		o.Gate.(*gate).refuse = fault.New(fault.BadToken, "the gate has its own record")
	})
	for _, c := range []struct{ app, name string }{
		{"live?t=s3cret", "lobby_1"}, {"kLive", "lobby_1"}, {"kLive?t=s3cret", "lobby"}, {"kLive?t=s3cret&e=studio", "lobby_1"},
		{"kLive?t=s3cret", "lobby_1"},
	} {
		_, err := d.dial(t, c.app, c.name)
		require.Error(t, err)
	}
	const by = "rtmp 127.0.0.1 FMLE/3.0 (test) "
	require.Equal(t, []string{by + "UNKNOWN_APPLICATION", by + "MISSING_ARGUMENT", by + "BAD_STREAM_NAME", by + "BAD_STREAM_NAME"}, w.refused)
	require.NotContains(t, d.log.String(), "closed:", "a stranger's attempts fill no log")
}
