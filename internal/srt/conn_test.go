package srt

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// hearText reads the next message.
func hearText(t testing.TB, c *Conn) string {
	t.Helper()
	b := make([]byte, MaxMessage)
	n, err := c.Read(b)
	require.NoError(t, err)
	return string(b[:n])
}

func words(b []byte) (out []uint32) {
	for ; len(b) >= 4; b = b[4:] {
		out = append(out, binary.BigEndian.Uint32(b))
	}
	return out
}

func TestMessagesAreReadAtOnce(t *testing.T) {
	l := serve(t)
	r, c := connect(t, l, nil)
	first := r.next
	r.say("one")
	require.Equal(t, "one", hearText(t, c))
	ack, b := r.hear(typeACK)
	require.Len(t, b, 28)
	require.Equal(t, advance(first, 1), words(b)[0])
	r.write(r.head(typeACKACK, ack.info).append(nil))
	require.Eventually(t, func() bool { return c.Stats().RTT < 50*ms }, patience, ms, "measured")
	r.say("two")
	r.say("three")
	require.Equal(t, "two", hearText(t, c))
	require.Equal(t, "three", hearText(t, c))
	r.write(append(r.head(typeShutdown, 0).append(nil), 0, 0, 0, 0))
	_, err := c.Read(make([]byte, MaxMessage))
	require.ErrorIs(t, err, io.EOF)
	require.EqualValues(t, 3, c.Stats().Packets)
}

func TestHolesAreMended(t *testing.T) {
	l := serve(t)
	r, c := connect(t, l, nil)
	s := r.next
	r.write(r.packet(s, "one"))
	require.Equal(t, "one", hearText(t, c))
	ack, _ := r.hear(typeACK)
	r.write(r.head(typeACKACK, ack.info).append(nil)) // a short way: it is asked again soon
	r.write(r.packet(s+3, "four"))
	_, b := r.hear(typeNAK)
	require.Equal(t, []uint32{controlFlag | (s + 1), s + 2}, words(b))
	_, b = r.hear(typeNAK) // again, as nothing came
	require.Equal(t, []uint32{controlFlag | (s + 1), s + 2}, words(b))
	again := r.packet(s+1, "two")
	again[4] |= 1 << 2
	r.write(again)
	require.Equal(t, "two", hearText(t, c))
	require.Zero(t, c.Missing())
	require.Equal(t, "four", hearText(t, c), "three is given up after the latency")
	require.Equal(t, 1, c.Missing())
	st := c.Stats()
	require.EqualValues(t, 1, st.Dropped)
	require.EqualValues(t, 1, st.Retransmitted)
	require.EqualValues(t, 2, st.Lost)
}

func TestThePeerGivesUp(t *testing.T) {
	l := serve(t)
	r, c := connect(t, l, func(r *raw) { r.latency = 60000 })
	require.Equal(t, MaxLatency, c.Latency())
	s := r.next
	r.write(r.packet(s+2, "three"))
	drop := r.head(typeDropRequest, 1).append(nil)
	drop = binary.BigEndian.AppendUint32(drop, s)
	r.write(drop) // cut off: counted
	r.write(binary.BigEndian.AppendUint32(drop, s+1))
	require.Equal(t, "three", hearText(t, c))
	require.EqualValues(t, 1, l.Stats().Malformed.Load())
}

// TestGoodbyes: a peer that did not hear the goodbye hears it again, and one
// that says goodbye has all it sent read first.
func TestGoodbyes(t *testing.T) {
	l := serve(t)
	r, c := connect(t, l, nil)
	r.say("one")
	require.Equal(t, "one", hearText(t, c))
	c.Close()
	c.Close()
	_, err := c.Read(make([]byte, MaxMessage))
	require.ErrorIs(t, err, ErrClosed)
	r.hear(typeShutdown)
	r.say("two")
	r.hear(typeShutdown)
	require.Equal(t, ConnStats{RTT: c.Stats().RTT, Latency: 100 * ms, Packets: 1, Rate: c.Stats().Rate}, c.Stats(), "they stay")

	r, c = connect(t, l, nil)
	r.say("one")
	r.next++ // lost
	r.say("three")
	r.write(append(r.head(typeShutdown, 0).append(nil), 0, 0, 0, 0))
	require.Equal(t, "one", hearText(t, c))
	require.Equal(t, "three", hearText(t, c))
	_, err = c.Read(make([]byte, MaxMessage))
	require.ErrorIs(t, err, io.EOF)
}

func TestASilentPeerIsLost(t *testing.T) {
	l := serve(t)
	r, c := connect(t, l, nil)
	began := time.Now()
	r.hear(typeKeepAlive)
	_, err := c.Read(make([]byte, MaxMessage))
	require.ErrorIs(t, err, ErrLost)
	require.InDelta(t, PeerTimeout.Seconds(), time.Since(began).Seconds(), 1.5)
	c.Close()
	r.hear(typeShutdown)
}

// TestStrangers: nobody gets anywhere with datagrams that are not a
// connection's, and they are counted.
func TestStrangers(t *testing.T) {
	l := serve(t)
	r, c := connect(t, l, nil)
	other := newRaw(t, l)
	other.peer, other.next = r.peer, r.next
	other.say("forged")
	other.write(append(other.head(typeShutdown, 0).append(nil), 0, 0, 0, 0))
	other.peer++
	other.say("nobody's")
	require.Eventually(t, func() bool { return l.Stats().Strangers.Load() == 3 }, patience, ms)
	other.peer = 0
	bad := l.Stats().Malformed.Load()
	other.say("no connection")
	other.write([]byte("short"))
	other.write(make([]byte, maxDatagram+1))
	other.write(append(make([]byte, 3), make([]byte, 2000)...))
	other.write(control{kind: typeHandshake}.append(nil))
	other.write(control{kind: typeShutdown}.append(nil))
	wave := handshake{version: versionFive, kind: 0, socket: 5}
	other.write(wave.append(control{kind: typeHandshake}.append(nil), other.udp.LocalAddr().(*net.UDPAddr).AddrPort().Addr()))
	require.Eventually(t, func() bool { return l.Stats().Malformed.Load() == bad+7 }, patience, ms)
	other.write(other.conclusion(12345))
	require.Eventually(t, func() bool { return l.Stats().BadCookies.Load() == 1 }, patience, ms)
	r.write(r.head(0x1234, 0).append(nil)) // of the connection, but no type there is
	require.Eventually(t, func() bool { return l.Stats().Malformed.Load() == bad+8 }, patience, ms)
	r.say("mine")
	require.Equal(t, "mine", hearText(t, c))
}

func TestPlainPacketsOfNobodysKey(t *testing.T) {
	l := serve(t)
	r, c := connect(t, l, nil)
	coded := r.packet(r.next, "coded")
	coded[4] |= keyEven << (keyShift - 24)
	r.write(coded)
	r.next++
	r.say("plain")
	require.Equal(t, "plain", hearText(t, c))
	require.EqualValues(t, 1, c.Stats().Undecrypted)
	km := material(t, "0123456789", keyEven, 16, make([]byte, 16))
	head := r.head(typeUser, 0).append(nil)
	binary.BigEndian.PutUint16(head[2:], extKMRequest)
	r.write(append(head, km...))
	go func() { _, _ = c.Read(make([]byte, MaxMessage)) }() // the reader answers
	answer, b := r.hear(typeUser)
	require.EqualValues(t, extKMResponse, answer.subtype)
	require.Equal(t, []uint32{4}, words(b), "there is no secret to open it with")
	c.Close()
}

func TestListen(t *testing.T) {
	for _, address := range []string{":0", "127.0.0.1:0", "[::]:0", "0.0.0.0:0", "[::1]:0"} {
		l, err := Listen(t.Context(), address, Options{})
		require.NoError(t, err, address)
		require.Equal(t, DefaultLatency, l.Latency())
		port := l.Addr().(*net.UDPAddr).Port
		require.NotZero(t, port)
		if address == "127.0.0.1:0" {
			_, err := Listen(t.Context(), fmt.Sprint("127.0.0.1:", port), Options{})
			require.Error(t, err, "the port is taken")
		}
		l.Close()
		l.Close()
		_, err = l.Accept(t.Context())
		require.ErrorIs(t, err, ErrListenerClosed)
		require.NoError(t, l.Serve(t.Context()), "it is over at once")
	}
	for _, address := range []string{"127.0.0.1", "127.0.0.1:x", "no.such.host.invalid:0"} {
		_, err := Listen(t.Context(), address, Options{})
		require.Error(t, err, address)
	}
}

// TestBothFamilies: a listener on every address answers IPv4 and IPv6.
func TestBothFamilies(t *testing.T) {
	l, err := Listen(t.Context(), ":0", Options{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Serve(ctx) }()
	port := l.Addr().(*net.UDPAddr).Port
	for _, ip := range []string{"127.0.0.1", "::1"} {
		udp, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: net.ParseIP(ip), Port: port})
		require.NoError(t, err)
		r := &raw{t: t, udp: udp, id: 77, next: 1000, flags: ourFlags, version: versionFive, began: time.Now()}
		r.write(r.conclusion(r.greet().cookie))
		call, err := l.Accept(t.Context())
		require.NoError(t, err)
		require.Equal(t, ip, call.Remote().Addr().String())
		c, err := call.Accept()
		require.NoError(t, err)
		h, _ := r.answer()
		r.peer = h.socket
		r.say("here")
		require.Equal(t, "here", hearText(t, c))
		r.hear(typeACK)
		require.NoError(t, udp.Close())
	}
	cancel()
	require.NoError(t, <-ended)
}

func TestTheEndOfTheListener(t *testing.T) {
	l, err := Listen(t.Context(), "127.0.0.1:0", Options{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Serve(ctx) }()
	r, c := connect(t, l, nil)
	l.Refuse(1503)
	late := newRaw(t, l)
	late.write(late.conclusion(late.greet().cookie))
	h, _ := late.answer()
	require.EqualValues(t, handshakeFailure+1503, h.kind)
	cancel()
	require.NoError(t, <-ended)
	_, err = c.Read(make([]byte, MaxMessage))
	require.ErrorIs(t, err, ErrListenerClosed)
	r.hear(typeShutdown)
}

// TestNothingIsAllocated: from the datagram to the message.
func TestNothingIsAllocated(t *testing.T) {
	l, err := Listen(t.Context(), "127.0.0.1:0", Options{})
	require.NoError(t, err)
	defer l.Close()
	key := make([]byte, 16)
	m, err := readKeyMaterial(material(t, "0123456789", keyEven, 16, key))
	require.NoError(t, err)
	c := &Conn{l: l, id: 5, latency: DefaultLatency, ready: make(chan struct{}, 1), buf: newBuffer(0, DefaultLatency)}
	c.unlock, err = newUnlocker("0123456789")
	require.NoError(t, err)
	require.NoError(t, c.unlock.open(m, &c.keys))
	l.conns[5] = c
	in, out := newInbox(), newOutbox()
	text := make([]byte, MaxMessage)
	r := &raw{peer: 5, began: l.start}
	datagram := r.packet(0, string(make([]byte, 1316)))
	datagram[4] |= keyEven << (keyShift - 24)
	s := uint32(0)
	allocated := testing.AllocsPerRun(1000, func() {
		for _, i := range [3]uint32{0, 2, 1} { // one of them is missing and mended
			p := in.packets[0]
			p.n, p.at = copy(p.buf[:], datagram), l.now()
			binary.BigEndian.PutUint32(p.buf[:], s+i)
			l.dispatch(in, 0, out)
		}
		s += 3
		c.tick(l.now(), out)
		out.n = 0
		for range 3 {
			if n, err := c.Read(text); n != 1316 || err != nil {
				t.Fatal(n, err)
			}
		}
	})
	require.Less(t, allocated, 0.1)
	require.Zero(t, c.Stats().Undecrypted)
}

// FuzzDatagrams: whatever comes in, from the peer or from nobody.
func FuzzDatagrams(f *testing.F) {
	r := &raw{peer: 5, id: 77, next: 3, flags: ourFlags, version: versionFive, began: time.Now()}
	f.Add(r.packet(3, "data"), true)
	f.Add(r.packet(9, "ahead"), true)
	f.Add(r.conclusion(1), false)
	f.Add(append(r.head(typeShutdown, 0).append(nil), 0, 0, 0, 0), true)
	f.Add(r.head(typeACKACK, 1).append(nil), true)
	f.Add(binary.BigEndian.AppendUint64(r.head(typeDropRequest, 1).append(nil), 3<<32|20), true)
	f.Add(append(control{kind: typeUser, subtype: extKMRequest, destination: 5}.append(nil), material(f, "0123456789", keyEven, 16, make([]byte, 16))...), true)
	f.Fuzz(func(t *testing.T, b []byte, known bool) {
		if len(b) > mtu {
			return
		}
		l, err := Listen(t.Context(), "127.0.0.1:0", Options{})
		require.NoError(t, err)
		defer l.Close()
		c := &Conn{l: l, id: 5, latency: DefaultLatency, ready: make(chan struct{}, 1), buf: newBuffer(3, DefaultLatency)}
		c.remote = l.Addr().(*net.UDPAddr).AddrPort()
		l.conns[5] = c
		in, out := newInbox(), newOutbox()
		p := in.packets[0]
		p.n, p.at, in.from[0] = copy(p.buf[:], b), l.now(), c.remote
		if known && p.n >= headerSize {
			binary.BigEndian.PutUint32(p.buf[12:], 5)
		}
		l.dispatch(in, 0, out)
		c.tick(l.now(), out)
		c.mu.Lock()
		more := c.km != nil || c.err != nil || c.buf.first != c.buf.next
		c.mu.Unlock()
		if more {
			c.wake()
			c.Close()
			_, _ = c.Read(make([]byte, MaxMessage))
		}
		require.LessOrEqual(t, out.n, mostAnswers)
	})
}
