package app

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gosrt "github.com/datarhei/gosrt"
	"github.com/datarhei/gosrt/circular"
	"github.com/datarhei/gosrt/packet"
	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest/srt"
	"github.com/klive-media/klive/internal/media"
)

func srtProtocol() *protocol {
	const ticks = 1 << 33
	code := strconv.Itoa
	return &protocol{
		name: "srt",
		dial: func(t testing.TB, s *site, a address) (encoder, error) { return dialSRT(t, s, a) },
		refused: func(t testing.TB, s *site, a address) (string, string) {
			t.Helper()
			return refusedBySRT(t, s, a), ""
		},
		tick: time.Second / 90000,
		drops: []func(t testing.TB, s *site, a address){
			func(t testing.TB, s *site, a address) { newSRTKnock(t, s, a).send(t, []byte("no SRT at all")) },
			func(t testing.TB, s *site, a address) { newSRTKnock(t, s, a).induction(t) },
			func(t testing.TB, s *site, a address) { // goes before the answer, and has a session until it is missed
				a.name = fmt.Sprintf("p-knock-%d-x_1", a.from.As4()[3]%8)
				k := newSRTKnock(t, s, a)
				k.conclusion(t, k.induction(t))
			},
			func(t testing.TB, s *site, a address) { // turned away
				a.token = "wrong"
				k := newSRTKnock(t, s, a)
				k.conclusion(t, k.induction(t))
				k.answer(t)
			},
		},
		codes: map[fault.Reason]string{
			fault.BadToken:        code(srt.CodeUnauthorized),
			fault.MissingArgument: code(srt.CodeBadStreamID),
			fault.StreamNotFound:  code(srt.CodeNotFound),
			fault.BadStreamName:   code(srt.CodeBadStreamID),
			fault.StreamStopped:   code(srt.CodeLocked),
			fault.StreamBusy:      code(srt.CodeBusy),
			fault.TooManyStreams:  code(srt.CodeOverloaded),
			fault.ServerDraining:  code(srt.CodeUnavailable),
		},
		// The shutdown of SRT has no words.
		ends: map[fault.Reason]string{
			fault.Superseded: srtShutdown, fault.Idle: srtShutdown, fault.NoMedia: srtShutdown,
			fault.StoppedByOperator: srtShutdown, fault.ServerDraining: srtShutdown,
		},
		times: map[string]time.Duration{
			"24 hours": 24 * time.Hour,
			"wrap":     ticks * time.Second / 90000, // 26.5 h
		},
		data: map[media.Codec]func(n int) []byte{
			media.ID3: func(n int) []byte {
				return append([]byte("ID3\x04\x00\x00\x00\x00\x00\x0dTXXX\x00\x00\x00\x03\x00\x00\x03a\x00"), byte('a'+n))
			},
			media.SCTE35: spliceSection,
		},
	}
}

// srtShutdown is what an encoder hears when it is hung up on.
const srtShutdown = "shutdown"

// srtEncoder publishes by SRT through gosrt, which is nothing of ours.
type srtEncoder struct {
	conn gosrt.Conn
	way  *way
	mux  tsMux

	ended chan struct{} // closed when the connection has ended
	gone  chan struct{} // closed when gosrt holds nothing of it any more
}

// way carries the datagrams of one caller, until it is cut: gosrt cannot go
// without a goodbye, nor call from an address of one's choice.
type way struct {
	near, far *net.UDPConn
	cut       atomic.Bool
	over      atomic.Bool // the server said so
	ended     sync.WaitGroup
}

func newWay(t testing.TB, to string, a address) *way {
	t.Helper()
	near, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	server, err := net.ResolveUDPAddr("udp4", to)
	require.NoError(t, err)
	far, err := net.DialUDP("udp4", &net.UDPAddr{IP: a.ip()}, server)
	require.NoError(t, err)
	w := &way{near: near, far: far}
	var caller atomic.Pointer[net.UDPAddr]
	w.ended.Go(func() {
		for b := make([]byte, 2048); ; {
			n, addr, err := near.ReadFromUDP(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil && !w.cut.Load() {
				caller.Store(addr)
				_, _ = far.Write(b[:n])
			}
		}
	})
	w.ended.Go(func() {
		for b := make([]byte, 2048); ; {
			n, err := far.Read(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if n >= 2 && b[0] == 0x80 && b[1] == 5 { // a control packet of type shutdown (SRT §3.2.7)
				w.over.Store(true)
			}
			if to := caller.Load(); err == nil && to != nil && !w.cut.Load() {
				_, _ = near.WriteToUDP(b[:n], to)
			}
		}
	})
	t.Cleanup(w.close)
	return w
}

func (w *way) close() {
	_ = w.near.Close()
	_ = w.far.Close()
	w.ended.Wait()
}

// srtRejected is the code of a rejection.
type srtRejected struct{ code int }

func (r srtRejected) Error() string { return fmt.Sprintf("rejected with code %d", r.code) }

// onWire is what a code is raised by in the handshake (SRT §4.3: rejections
// begin at 1000).
const onWire = 1000

// rejectionOf reads the code out of the text of gosrt's error, where it stands
// with base 32.
func rejectionOf(err error) error {
	_, text, ok := strings.Cut(err.Error(), "REJECT (")
	if !ok {
		return err
	}
	n, bad := strconv.ParseUint(strings.TrimSuffix(text, ")"), 32, 32)
	if bad != nil {
		return err
	}
	return srtRejected{int(n) - onWire} //nolint:gosec // 32 bits
}

// streamIDOf is the access control form of an address.
func streamIDOf(a address) string {
	id := "#!::r=" + a.name + ",m=publish"
	if a.token != "" {
		id += ",token=" + a.token
	}
	return id
}

func dialSRT(t testing.TB, s *site, a address) (*srtEncoder, error) {
	t.Helper()
	e := &srtEncoder{way: newWay(t, s.address(t, "srt"), a), mux: tsMux{counters: make(map[int]byte)},
		ended: make(chan struct{}), gone: make(chan struct{})}
	c := gosrt.DefaultConfig()
	c.StreamId = streamIDOf(a)
	c.Latency = 20 * time.Millisecond
	c.ReceiverLatency, c.PeerLatency = c.Latency, c.Latency
	c.ConnectionTimeout = patience
	conn, err := gosrt.Dial("srt", e.way.near.LocalAddr().String(), c)
	if err != nil {
		return nil, rejectionOf(err)
	}
	e.conn = conn
	t.Cleanup(func() {
		_ = conn.Close()
		<-e.gone
	})
	go e.listen()
	return e, nil
}

// listen reads what never comes, until the connection ends. Then it frees the
// goroutine of gosrt that waits for somebody to ask how the socket ended.
func (e *srtEncoder) listen() {
	defer close(e.gone)
	b := make([]byte, 2048)
	err := error(nil)
	for err == nil {
		_, err = e.conn.Read(b)
	}
	close(e.ended)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(200 * time.Millisecond); errors.Is(err, io.EOF) && time.Now().Before(deadline); <-tick.C {
		_, err = e.conn.Read(b)
	}
}

// refusedBySRT gives the code of a refusal, "" when the door has none for it.
// Who is turned away behind the handshake is hung up on, and gets the code
// with the next try.
func refusedBySRT(t testing.TB, s *site, a address) string {
	t.Helper()
	for range 3 {
		e, err := dialSRT(t, s, a)
		if err != nil {
			rejected, ok := errors.AsType[srtRejected](err)
			require.True(t, ok, "%v", err)
			return strconv.Itoa(rejected.code)
		}
		e.Ended(t)
	}
	return ""
}

func (e *srtEncoder) Write(frames ...frame) error {
	for i := range frames {
		e.mux.frame(&frames[i])
	}
	for _, b := range e.mux.take() {
		if _, err := e.conn.Write(b); err != nil {
			return err
		}
	}
	return nil
}

func (e *srtEncoder) Close() error {
	err := e.conn.Close()
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return err
}

// Abort: nothing is said for a killed encoder, and nobody answers.
func (e *srtEncoder) Abort() {
	e.way.cut.Store(true)
	_ = e.conn.Close()
}

func (e *srtEncoder) Ended(t testing.TB) string {
	t.Helper()
	awaitClosed(t, e.ended, "end of the connection")
	if e.way.over.Load() {
		return srtShutdown
	}
	return ""
}

// srtKnock is a caller that does not mean it: the handshake by hand, on
// gosrt's packets.
type srtKnock struct {
	socket *net.UDPConn
	a      address
}

func newSRTKnock(t testing.TB, s *site, a address) *srtKnock {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp4", s.address(t, "srt"))
	require.NoError(t, err)
	socket, err := net.DialUDP("udp4", &net.UDPAddr{IP: a.ip()}, to)
	require.NoError(t, err)
	t.Cleanup(func() { _ = socket.Close() })
	return &srtKnock{socket, a}
}

func (k *srtKnock) send(t testing.TB, b []byte) {
	t.Helper()
	_, err := k.socket.Write(b)
	require.NoError(t, err)
}

func (k *srtKnock) handshake(t testing.TB, h *packet.CIFHandshake) {
	t.Helper()
	p := packet.NewPacket(k.socket.RemoteAddr())
	defer p.Decommission()
	p.Header().IsControlPacket, p.Header().ControlType = true, packet.CTRLTYPE_HANDSHAKE
	h.IsRequest, h.SRTSocketId = true, 4711
	h.InitialPacketSequenceNumber = circular.New(1, packet.MAX_SEQUENCENUMBER)
	h.MaxTransmissionUnitSize, h.MaxFlowWindowSize = 1500, 8192
	h.PeerIP.FromNetAddr(k.socket.LocalAddr())
	p.MarshalCIF(h)
	var b bytes.Buffer
	require.NoError(t, p.Marshal(&b))
	k.send(t, b.Bytes())
}

// induction asks for a cookie and gives it.
func (k *srtKnock) induction(t testing.TB) uint32 {
	t.Helper()
	k.handshake(t, &packet.CIFHandshake{Version: 4, ExtensionField: 2, HandshakeType: packet.HSTYPE_INDUCTION})
	return k.answer(t).SynCookie
}

func (k *srtKnock) conclusion(t testing.TB, cookie uint32) {
	t.Helper()
	k.handshake(t, &packet.CIFHandshake{
		Version: 5, HandshakeType: packet.HSTYPE_CONCLUSION, SynCookie: cookie,
		HasHS: true, HasSID: true, StreamId: streamIDOf(k.a),
		SRTHS: &packet.CIFHandshakeExtension{SRTVersion: gosrt.SRT_VERSION, SRTFlags: packet.CIFHandshakeExtensionFlags{
			TSBPDSND: true, TSBPDRCV: true, CRYPT: true, TLPKTDROP: true, PERIODICNAK: true, REXMITFLG: true,
		}, RecvTSBPDDelay: 20, SendTSBPDDelay: 20},
	})
}

// answer waits for the server's.
func (k *srtKnock) answer(t testing.TB) *packet.CIFHandshake {
	t.Helper()
	require.NoError(t, k.socket.SetReadDeadline(time.Now().Add(patience)))
	b := make([]byte, 2048)
	n, err := k.socket.Read(b)
	require.NoError(t, err)
	p, err := packet.NewPacketFromData(k.socket.RemoteAddr(), b[:n])
	require.NoError(t, err)
	defer p.Decommission()
	h := new(packet.CIFHandshake)
	require.NoError(t, p.UnmarshalCIF(h))
	return h
}
