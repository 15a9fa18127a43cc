package app

import (
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/rtmp"
	"github.com/klive-media/klive/internal/rtmp/amf"
	"github.com/klive-media/klive/internal/rtmp/flv"
	"github.com/klive-media/klive/internal/rtmp/message"
)

func rtmpProtocol() *protocol {
	const maxMillis = 1 << 32
	p := &protocol{
		name: "rtmp",
		tick: time.Millisecond,
		codes: map[fault.Reason]string{
			fault.BadToken:        rtmp.PublishUnauthorized,
			fault.MissingArgument: rtmp.PublishUnauthorized,
			fault.StreamNotFound:  rtmp.PublishBadName,
			fault.BadStreamName:   rtmp.PublishBadName,
			fault.StreamStopped:   rtmp.PublishBadName,
			fault.StreamBusy:      rtmp.PublishBadName,
			fault.TooManyStreams:  rtmp.PublishFailed,
			fault.ServerDraining:  rtmp.ConnectAppShutdown,
		},
		ends: map[fault.Reason]string{
			fault.Superseded:        rtmp.PublishFailed,
			fault.Idle:              rtmp.PublishFailed,
			fault.NoMedia:           rtmp.PublishFailed,
			fault.StoppedByOperator: rtmp.PublishFailed,
			fault.ServerDraining:    rtmp.ReconnectRequest + " " + rtmp.ConnectAppShutdown,
		},
		times: map[string]time.Duration{
			"extended timestamps": 0xffffff * time.Millisecond, // 4 h 39 m (section 5.3.1.3)
			"24 hours":            24 * time.Hour,
			"wrap":                maxMillis * time.Millisecond,
		},
		data: map[media.Codec]func(n int) []byte{media.AMF0: func(n int) []byte {
			b, err := amf.Append(nil, "onCuePoint", amf.ECMAArray{{Name: "number", Value: float64(n)}})
			if err != nil {
				panic(err)
			}
			return b
		}},
	}
	p.dial = func(t testing.TB, s *site, a address) (encoder, error) { return dialRTMP(t, s, p.name, a) }
	p.drops = []func(t testing.TB, s *site, a address){
		func(t testing.TB, s *site, _ address) { // before the first byte
			require.NoError(t, rtmpSocket(t, s, p.name, address{}).Close())
		},
		func(t testing.TB, s *site, _ address) { // in the middle of C1
			nc := rtmpSocket(t, s, p.name, address{})
			_, err := nc.Write(make([]byte, 700))
			require.NoError(t, err)
			_ = nc.Close() // what the server has said is not read: a reset
		},
		func(t testing.TB, s *site, _ address) { // between connect and publish
			c := rtmp.NewClientConn(rtmpSocket(t, s, p.name, address{}), rtmp.Options{})
			require.NoError(t, c.Connect(rtmp.Connect{App: "kLive", TcURL: "rtmp://localhost/kLive"}))
			require.NoError(t, c.Close())
		},
		func(t testing.TB, s *site, a address) { // turned away
			a.token = "wrong"
			p.refused(t, s, a)
		},
	}
	p.refused = func(t testing.TB, s *site, a address) (code, words string) {
		t.Helper()
		_, err := p.dial(t, s, a)
		var status *rtmp.StatusError
		require.ErrorAs(t, err, &status)
		return status.Code, status.Description
	}
	return p
}

// rtmpsProtocol is the same over TLS.
func rtmpsProtocol() *protocol {
	p := rtmpProtocol()
	p.name = "rtmps"
	return p
}

// rtmpEncoder publishes by RTMP, or RTMPS.
type rtmpEncoder struct {
	c    *rtmp.ClientConn
	nc   net.Conn
	tcp  *net.TCPConn // below nc
	name string

	picture *picture // as they were sent last
	sound   *sound

	ended chan struct{} // closed when the server has ended the connection
	mu    sync.Mutex    // guards said
	said  []string
}

// rtmpSocket is a connection on which nothing was said yet.
func rtmpSocket(t testing.TB, s *site, listener string, a address) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: a.ip()}}
	nc, err := d.DialContext(t.Context(), "tcp", s.address(t, listener))
	require.NoError(t, err)
	t.Cleanup(func() { _ = nc.Close() })
	if listener == "rtmps" {
		return tls.Client(nc, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // a certificate of the test's own
	}
	return nc
}

func dialRTMP(t testing.TB, s *site, listener string, a address) (*rtmpEncoder, error) {
	t.Helper()
	nc := rtmpSocket(t, s, listener, a)
	e := &rtmpEncoder{nc: nc, name: a.name, ended: make(chan struct{})}
	if tcp, ok := nc.(*net.TCPConn); ok {
		e.tcp = tcp
	} else {
		e.tcp = nc.(*tls.Conn).NetConn().(*net.TCPConn)
	}
	app := "kLive"
	if a.token != "" {
		app += "?t=" + a.token
	}
	e.c = rtmp.NewClientConn(nc, rtmp.Options{})
	to := rtmp.Connect{App: app, TcURL: "rtmp://localhost/" + app, FlashVer: "parity", Enhanced: rtmp.Enhanced{Caps: rtmp.CapReconnect}}
	err := e.c.Connect(to)
	if err == nil {
		err = e.c.Publish(a.name)
	}
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	go e.listen()
	return e, nil
}

// listen takes down what the server says.
func (e *rtmpEncoder) listen() {
	defer close(e.ended)
	for {
		err := e.c.Serve()
		status, ok := errors.AsType[*rtmp.StatusError](err)
		if !ok {
			return
		}
		e.mu.Lock()
		e.said = append(e.said, status.Code)
		e.mu.Unlock()
	}
}

func (e *rtmpEncoder) Write(frames ...frame) error {
	for i := range frames {
		for _, m := range e.messages(&frames[i]) {
			if err := e.c.Write(&m); err != nil {
				return err
			}
		}
	}
	return e.c.Flush()
}

// messages are those of one frame, with the configuration where it is new.
func (e *rtmpEncoder) messages(f *frame) (list []message.Message) {
	stamp := uint32((f.at + time.Millisecond/2).Milliseconds()) //nolint:gosec // modulo 2^32 is the point
	add := func(kind message.Type, head, body []byte) {
		list = append(list, message.Message{Type: kind, Timestamp: stamp, Payload: append(head, body...)})
	}
	switch f.kind {
	case media.Video:
		v := flv.Video{Frame: flv.FrameInter, Codec: flv.VideoAVC, FourCC: flv.FourCCHEVC}
		head := flv.AppendVideo
		if f.picture.codec == media.HEVC {
			head = flv.AppendEnhancedVideo
		}
		if f.key {
			v.Frame = flv.FrameKey
		}
		if f.picture != e.picture {
			e.picture = f.picture
			v.Packet = flv.PacketConfig
			add(message.TypeVideo, head(nil, v), f.picture.record)
		}
		v.Packet, v.CompositionTime = flv.PacketFrames, int32(f.shown.Milliseconds()) //nolint:gosec // small
		add(message.TypeVideo, head(nil, v), lengthPrefixed(f.units))
	case media.Audio:
		a := flv.Audio{Codec: flv.AudioAAC, Packet: flv.PacketConfig}
		if f.sound != e.sound {
			e.sound = f.sound
			add(message.TypeAudio, flv.AppendAudio(nil, a), f.sound.record)
		}
		a.Packet = flv.PacketFrames
		add(message.TypeAudio, flv.AppendAudio(nil, a), f.body)
	default:
		add(message.TypeData, nil, f.body)
	}
	return list
}

func (e *rtmpEncoder) Close() error {
	err := e.c.Unpublish(e.name)
	if half, ok := e.nc.(interface{ CloseWrite() error }); ok {
		err = errors.Join(err, half.CloseWrite())
	}
	select {
	case <-e.ended: // so that nothing the server still says resets the connection
	case <-time.After(patience):
		err = errors.Join(err, errors.New("the server does not hang up"))
	}
	_ = e.nc.Close()
	return err
}

// Abort: the system of a killed encoder resets its connections.
func (e *rtmpEncoder) Abort() {
	_ = e.tcp.SetLinger(0)
	_ = e.tcp.Close()
}

func (e *rtmpEncoder) Ended(t testing.TB) string {
	t.Helper()
	awaitClosed(t, e.ended, "end of the connection")
	e.mu.Lock()
	defer e.mu.Unlock()
	return strings.Join(e.said, " ")
}
