package rtmp

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/bluenviron/gortmplib"
	"github.com/bluenviron/gortmplib/pkg/codecs"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
	yutopp "github.com/yutopp/go-rtmp"

	"github.com/klive-media/klive/internal/rtmp/message"
)

// Parameter sets of 640x360 H.264, as x264 makes them.
var (
	testSPS = []byte("\x67\xf4\x00\x1e\x91\x9b\x28\x14\x05\xff\x13\x80\x88\x00\x00\x03\x00\x08\x00\x00\x03\x01\xe0\x78\xb1\x6c\xb0")
	testPPS = []byte("\x68\xce\x0f\x19\x20")
)

// await fails the test when a peer does not come to an end.
func await[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(20 * time.Second):
		t.Fatal("the peer did not end")
		panic("unreachable")
	}
}

// types counts messages by type.
func types(ms []message.Message) map[message.Type]int {
	n := map[message.Type]int{}
	for _, m := range ms {
		n[m.Type]++
	}
	return n
}

func TestGortmplibPublishesToUs(t *testing.T) {
	server, client := pair(t)
	done := serving(server, Options{})
	u, err := url.Parse("rtmp://127.0.0.1/kLive?t=x#lobby_1")
	require.NoError(t, err)
	c := &gortmplib.Client{URL: u, Publish: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return client, nil
	}}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, c.Initialize(ctx))
	video := &gortmplib.Track{Codec: &codecs.H264{SPS: testSPS, PPS: testPPS}}
	audio := &gortmplib.Track{Codec: &codecs.MPEG4Audio{Config: &mpeg4audio.AudioSpecificConfig{
		Type: mpeg4audio.ObjectTypeAACLC, SampleRate: 44100, ChannelConfig: 2}}}
	w := &gortmplib.Writer{Conn: c, Tracks: []*gortmplib.Track{video, audio}}
	require.NoError(t, w.Initialize())
	idr := append([]byte{0x65}, bytes.Repeat([]byte{7}, 20_000)...)
	for i := range 10 {
		at := 5*time.Hour + time.Duration(i)*40*time.Millisecond // beyond 24 bits of milliseconds
		require.NoError(t, w.WriteH264(video, at, at, [][]byte{idr}))
		require.NoError(t, w.WriteMPEG4Audio(audio, at, []byte{1, 2, 3}))
	}
	c.Close()
	got := await(t, done)
	require.ErrorIs(t, got.err, io.EOF)
	require.Equal(t, "kLive?t=x", got.connect.App)
	require.Equal(t, "lobby_1", got.publish.Name)
	require.GreaterOrEqual(t, types(got.messages)[message.TypeVideo], 11)
	require.GreaterOrEqual(t, types(got.messages)[message.TypeAudio], 11)
	last := got.messages[len(got.messages)-1]
	require.EqualValues(t, 5*3600*1000+9*40, last.Timestamp)
}

func TestWePublishToGortmplib(t *testing.T) {
	server, client := pair(t)
	done := make(chan error, 1)
	go func() {
		defer server.Close()
		sc := &gortmplib.ServerConn{RW: server}
		err := sc.Initialize()
		if err == nil {
			err = sc.AcceptConn()
		}
		if err == nil {
			err = sc.AcceptAction()
		}
		if err == nil {
			_, err = sc.Read()
		}
		done <- err
	}()
	publishAudio(t, client, "kLive", "lobby_1")
	require.NoError(t, await(t, done))
}

// publishAudio publishes one message with our client.
func publishAudio(t *testing.T, nc net.Conn, app, name string) {
	t.Helper()
	c := NewClientConn(nc, Options{})
	require.NoError(t, c.Connect(Connect{App: app, TcURL: "rtmp://127.0.0.1/" + app, FlashVer: "FMLE/3.0"}))
	require.NoError(t, c.Publish(name))
	require.NoError(t, c.Write(&message.Message{Type: message.TypeAudio, Payload: []byte{0xaf, 0, 0x12, 0x10}}))
	require.NoError(t, c.Unpublish(name))
	require.Error(t, c.Serve()) // until the server hangs up
	require.NoError(t, c.Close())
}

func quiet() *logrus.Logger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

// grants is a go-rtmp server's handler that lets everything pass.
type grants struct {
	yutopp.DefaultHandler
	audio chan uint32
}

func (g *grants) OnAudio(stamp uint32, _ io.Reader) error {
	g.audio <- stamp
	return nil
}

func TestWePublishToGoRTMP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	g := &grants{audio: make(chan uint32, 1)}
	peer := make(chan io.Closer, 1)
	srv := yutopp.NewServer(&yutopp.ServerConfig{OnConnect: func(nc net.Conn) (io.ReadWriteCloser, *yutopp.ConnConfig) {
		peer <- nc
		return nc, &yutopp.ConnConfig{Handler: g, Logger: quiet()}
	}})
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	nc, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	c := NewClientConn(nc, Options{})
	require.NoError(t, c.Connect(Connect{App: "kLive", TcURL: "rtmp://127.0.0.1/kLive"}))
	require.NoError(t, c.Publish("lobby_1"))
	require.NoError(t, c.Write(&message.Message{Type: message.TypeAudio, Timestamp: 42, Payload: []byte{0xaf, 0, 0x12, 0x10}}))
	require.NoError(t, c.Flush())
	require.EqualValues(t, 42, await(t, g.audio))
	require.NoError(t, c.Close())
	_ = (<-peer).Close() // go-rtmp may have done so
	require.NoError(t, srv.Close())
	require.Error(t, await(t, done))
}
