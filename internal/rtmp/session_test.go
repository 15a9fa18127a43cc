package rtmp

import (
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/rtmp/amf"
	"github.com/klive-media/klive/internal/rtmp/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a loopback connection: unlike a net.Pipe it has buffers, a half
// close and resets, which the session has to live with.
func pair(t testing.TB) (server, client net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	type accepted struct {
		nc  net.Conn
		err error
	}
	ch := make(chan accepted, 1)
	go func() {
		nc, err := l.Accept()
		ch <- accepted{nc, err}
	}()
	client, err = net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	a := <-ch
	require.NoError(t, a.err)
	t.Cleanup(func() { a.nc.Close(); client.Close() })
	return a.nc, client
}

// received is what a test server was told and given.
type received struct {
	connect  Connect
	publish  Publish
	messages []message.Message
	err      error
}

// serve runs a whole session that grants everything.
func serve(nc net.Conn, o Options) (got received) {
	c := NewServerConn(nc, o)
	defer c.Close()
	if got.err = c.Handshake(); got.err != nil {
		return got
	}
	if got.connect, got.err = c.ReadConnect(); got.err != nil {
		return got
	}
	if got.err = c.AcceptConnect(); got.err != nil {
		return got
	}
	if got.publish, got.err = c.ReadPublish(); got.err != nil {
		return got
	}
	if got.err = c.AcceptPublish(); got.err != nil {
		return got
	}
	for {
		var m message.Message
		if got.err = c.ReadMedia(&m); got.err != nil {
			return got
		}
		got.messages = append(got.messages, m)
	}
}

func serving(nc net.Conn, o Options) <-chan received {
	ch := make(chan received, 1)
	go func() { ch <- serve(nc, o) }()
	return ch
}

func TestPublishSession(t *testing.T) {
	server, client := pair(t)
	done := serving(server, Options{})
	c := NewClientConn(client, Options{})
	require.NoError(t, c.Connect(Connect{App: "kLive/?p=1&t=x", TcURL: "rtmp://h/kLive/?p=1&t=x", FlashVer: "test"}))
	require.NoError(t, c.Publish("lobby_1?t=y"))

	meta, err := message.NewData(0, "onMetaData", amf.ECMAArray{{Name: "width", Value: 640.0}})
	require.NoError(t, err)
	big := make([]byte, 100_000)
	for i := range big {
		big[i] = byte(i * 7)
	}
	sent := []message.Message{
		meta,
		{Type: message.TypeVideo, Timestamp: 0, Payload: big},
		{Type: message.TypeAudio, Timestamp: 0, Payload: []byte{0xaf, 1, 2, 3}},
		{Type: message.TypeVideo, Timestamp: 40, Payload: nil},
		{Type: message.TypeVideo, Timestamp: 0xfffffff0, Payload: big[:5000]},
		{Type: message.TypeVideo, Timestamp: 16, Payload: big[:5000]},
	}
	for i := range sent {
		require.NoError(t, c.Write(&sent[i]))
	}
	require.NoError(t, c.Unpublish("lobby_1"))
	got := <-done
	require.ErrorIs(t, got.err, ErrUnpublished)
	require.Equal(t, "kLive/?p=1&t=x", got.connect.App)
	require.Equal(t, Publish{Name: "lobby_1?t=y", Type: "live", StreamID: 1}, got.publish)
	require.Len(t, got.messages, len(sent))
	for i, m := range got.messages {
		require.Equal(t, sent[i].Timestamp, m.Timestamp, i)
		require.Equal(t, len(sent[i].Payload), len(m.Payload), i)
		require.Equal(t, string(sent[i].Payload), string(m.Payload), i)
		require.EqualValues(t, 1, m.StreamID)
	}
	require.ErrorIs(t, c.Serve(), io.EOF)
	require.NoError(t, c.Close())
}

func TestRefusalsReachTheClient(t *testing.T) {
	for _, tc := range []struct {
		name   string
		refuse func(c *ServerConn) error
		code   string
	}{
		{"connect", func(c *ServerConn) error { return c.RejectConnect(ConnectRejected, "No such application.") }, ConnectRejected},
		{"publish", func(c *ServerConn) error {
			if err := c.AcceptConnect(); err != nil {
				return err
			}
			if _, err := c.ReadPublish(); err != nil {
				return err
			}
			return c.RejectPublish(PublishUnauthorized, "No such application.")
		}, PublishUnauthorized},
		{"dismissal", func(c *ServerConn) error {
			if err := c.AcceptConnect(); err != nil {
				return err
			}
			if _, err := c.ReadPublish(); err != nil {
				return err
			}
			if err := c.AcceptPublish(); err != nil {
				return err
			}
			c.Interrupt()
			if err := c.ReadMedia(new(message.Message)); !os.IsTimeout(err) {
				return err
			}
			return c.Dismiss(PublishFailed, "No such application.")
		}, PublishFailed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server, client := pair(t)
			done := make(chan error, 1)
			go func() {
				c := NewServerConn(server, Options{})
				err := c.Handshake()
				if err == nil {
					_, err = c.ReadConnect()
				}
				if err == nil {
					err = tc.refuse(c)
				}
				if e := c.CloseGently(); err == nil {
					err = e
				}
				done <- err
			}()
			c := NewClientConn(client, Options{})
			err := c.Connect(Connect{App: "x", TcURL: "rtmp://h/x"})
			if err == nil {
				err = c.Publish("a_1")
			}
			if err == nil {
				err = c.Serve()
			}
			var status *StatusError
			require.ErrorAs(t, err, &status)
			require.Equal(t, Info{LevelError, tc.code, "No such application."}, status.Info)
			require.NoError(t, c.Close())
			require.NoError(t, <-done)
		})
	}
}

func TestSetupIsBounded(t *testing.T) {
	t.Run("handshake in time", func(t *testing.T) {
		server, _ := pair(t)
		got := <-serving(server, Options{HandshakeTimeout: 20 * time.Millisecond})
		require.True(t, os.IsTimeout(got.err), got.err)
	})
	t.Run("connect to publish in time", func(t *testing.T) {
		server, client := pair(t)
		done := serving(server, Options{SetupTimeout: 50 * time.Millisecond})
		c := NewClientConn(client, Options{})
		require.NoError(t, c.Connect(Connect{App: "x"}))
		got := <-done
		require.True(t, os.IsTimeout(got.err), got.err)
	})
	t.Run("bytes", func(t *testing.T) {
		server, client := pair(t)
		done := serving(server, Options{})
		c := NewClientConn(client, Options{})
		require.NoError(t, c.Connect(Connect{App: "x"}))
		m := message.Message{Type: message.TypeVideo, Payload: make([]byte, 3000)}
		for range 20 {
			if c.Write(&m) != nil { // the server hangs up on the way
				break
			}
		}
		_ = c.w.Flush()
		got := <-done
		require.Equal(t, fault.LimitExceeded, fault.ReasonOf(got.err), got.err)
	})
}
