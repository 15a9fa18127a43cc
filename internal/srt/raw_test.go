package srt

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second

// serve is a Listener that serves.
func serve(t testing.TB) *Listener {
	t.Helper()
	l, err := Listen(t.Context(), "127.0.0.1:0", Options{Latency: 100 * ms})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return l
}

// raw is a caller that says what a test wants.
type raw struct {
	t        testing.TB
	udp      *net.UDPConn
	id, peer uint32
	next     uint32
	latency  uint16
	flags    uint32
	version  uint32
	more     []byte // further extensions
	began    time.Time
}

func newRaw(t testing.TB, l *Listener) *raw {
	t.Helper()
	to, ok := l.Addr().(*net.UDPAddr)
	require.True(t, ok)
	udp, err := net.DialUDP("udp", nil, to)
	require.NoError(t, err)
	t.Cleanup(func() { _ = udp.Close() })
	return &raw{t: t, udp: udp, id: 77, next: 1000, latency: 80, flags: ourFlags, version: versionFive, began: time.Now()}
}

func (r *raw) write(b []byte) {
	r.t.Helper()
	_, err := r.udp.Write(b)
	require.NoError(r.t, err)
}

func (r *raw) head(kind uint16, info uint32) control {
	return control{kind: kind, info: info, destination: r.peer, timestamp: uint32(time.Since(r.began).Microseconds())} //nolint:gosec // wraps
}

// hear waits for a control packet of a kind.
func (r *raw) hear(kind uint16) (control, []byte) {
	r.t.Helper()
	buf := make([]byte, mtu)
	require.NoError(r.t, r.udp.SetReadDeadline(time.Now().Add(patience)))
	for {
		n, err := r.udp.Read(buf)
		require.NoError(r.t, err, "no control packet of type %d", kind)
		require.GreaterOrEqual(r.t, n, headerSize)
		if c := readControl(buf); isControl(buf) && c.kind == kind {
			return c, buf[headerSize:n]
		}
	}
}

// greet sends the first message and gives the answer.
func (r *raw) greet() handshake {
	r.t.Helper()
	h := handshake{version: versionFour, extension: 2, mtu: mtu, window: window, kind: handshakeInduction, socket: r.id}
	r.write(h.append(control{kind: typeHandshake}.append(nil), netip.AddrFrom4([4]byte{127, 0, 0, 1})))
	c, b := r.hear(typeHandshake)
	require.Equal(r.t, r.id, c.destination)
	answer, err := readHandshake(b)
	require.NoError(r.t, err)
	return answer
}

// conclusion is the second message.
func (r *raw) conclusion(cookie uint32) []byte {
	h := handshake{
		version: r.version, extension: bringsHS | bringsConfig, sequence: r.next, mtu: mtu, window: window,
		kind: handshakeConclusion, socket: r.id, cookie: cookie,
	}
	b := h.append(control{kind: typeHandshake}.append(nil), netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	hs := hsResponse(0x010500, r.flags, 0, time.Duration(r.latency)*ms)
	return append(appendExtension(b, extHSRequest, hs), r.more...)
}

// answer waits for the answer to the conclusion.
func (r *raw) answer() (handshake, []byte) {
	r.t.Helper()
	_, b := r.hear(typeHandshake)
	h, err := readHandshake(b)
	require.NoError(r.t, err)
	return h, b[handshakeSize:]
}

// connect is a caller that was let in, and the connection.
func connect(t testing.TB, l *Listener, change func(*raw)) (*raw, *Conn) {
	t.Helper()
	r := newRaw(t, l)
	if change != nil {
		change(r)
	}
	r.write(r.conclusion(r.greet().cookie))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	call, err := l.Accept(ctx)
	require.NoError(t, err)
	require.NoError(t, call.Unlock(""))
	c, err := call.Accept()
	require.NoError(t, err)
	t.Cleanup(c.Close)
	h, _ := r.answer()
	require.EqualValues(t, handshakeConclusion, h.kind)
	r.peer = h.socket
	return r, c
}

// packet is a data packet.
func (r *raw) packet(sequence uint32, text string) []byte {
	b := binary.BigEndian.AppendUint32(nil, sequence&sequenceMask)
	b = binary.BigEndian.AppendUint32(b, 3<<30|1)
	b = binary.BigEndian.AppendUint32(b, uint32(time.Since(r.began).Microseconds())) //nolint:gosec // wraps
	b = binary.BigEndian.AppendUint32(b, r.peer)
	return append(b, text...)
}

// say sends the next data packet.
func (r *raw) say(text string) {
	r.t.Helper()
	r.write(r.packet(r.next, text))
	r.next = advance(r.next, 1)
}
