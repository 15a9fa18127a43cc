package handshake

import (
	"bytes"
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
)

// full makes a Source of a reader.
type full struct{ io.Reader }

func (f full) ReadFull(p []byte) error { _, err := io.ReadFull(f, p); return err }

// counted counts the writes of one side.
type counted struct {
	io.Writer
	n int
}

func (c *counted) Write(p []byte) (int, error) { c.n++; return c.Writer.Write(p) }

func TestBothEnds(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	server := &counted{Writer: a}
	done := make(chan error, 1)
	go func() {
		err := Server(full{a}, server)
		if err == nil {
			err = SkipC2(full{a})
		}
		done <- err
	}()
	client := &counted{Writer: b}
	c2, err := Client(full{b}, client)
	require.NoError(t, err)
	_, err = b.Write(c2)
	require.NoError(t, err)
	require.NoError(t, <-done)
	require.Equal(t, 1, server.n, "S0, S1 and S2 are one write")
	require.Equal(t, 1, client.n, "C0 and C1 are one write")
}

// hello is C0 and C1; without a digest when l is 0.
func hello(l layout) []byte {
	c := make([]byte, 1+PacketSize)
	c[0] = Version
	for i := range c[1:] {
		c[1+i] = byte(i * 11)
	}
	if l != 0 {
		sign((*[PacketSize]byte)(c[1:]), l, playerKey[:playerText])
	}
	return c
}

func TestServerAnswers(t *testing.T) {
	t.Run("plain", func(t *testing.T) {
		var out bytes.Buffer
		in := hello(0)
		require.NoError(t, Server(full{bytes.NewReader(in)}, &out))
		s := out.Bytes()
		require.Len(t, s, 1+2*PacketSize)
		require.EqualValues(t, Version, s[0])
		require.Equal(t, make([]byte, 8), s[1:9], "time and zeros")
		require.Equal(t, in[1:], s[1+PacketSize:], "S2 echoes C1")
	})
	for _, l := range []layout{digestFirst, digestSecond} {
		t.Run("digest", func(t *testing.T) {
			var out bytes.Buffer
			in := hello(l)
			require.NoError(t, Server(full{bytes.NewReader(in)}, &out))
			s := out.Bytes()
			_, got, ok := findDigest((*[PacketSize]byte)(s[1:]), serverKey[:serverText])
			require.True(t, ok)
			require.Equal(t, l, got, "S1 has the layout of C1")
			digest, _, _ := findDigest((*[PacketSize]byte)(in[1:]), playerKey[:playerText])
			var want [PacketSize]byte
			copy(want[:], s[1+PacketSize:])
			respond(&want, digest, serverKey)
			require.Equal(t, want[:], s[1+PacketSize:], "S2 signs C1's digest")
		})
	}
}

func TestClientEchoesAPlainServer(t *testing.T) {
	s := make([]byte, 1+2*PacketSize)
	s[0] = Version
	s[100] = 42
	c2, err := Client(full{bytes.NewReader(s)}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, s[1:1+PacketSize], c2)
	s[0] = 6
	_, err = Client(full{bytes.NewReader(s)}, io.Discard)
	require.Equal(t, fault.ProtocolError, fault.ReasonOf(err))
}

func TestServerRefuses(t *testing.T) {
	err := Server(full{bytes.NewReader([]byte("GET / HTTP/1.1\r\n"))}, io.Discard)
	require.Equal(t, fault.ProtocolError, fault.ReasonOf(err))
	require.ErrorIs(t, Server(full{bytes.NewReader(nil)}, io.Discard), io.EOF)
	require.ErrorIs(t, Server(full{bytes.NewReader(hello(0)[:700])}, io.Discard), io.ErrUnexpectedEOF)
}

func FuzzServer(f *testing.F) {
	f.Add(hello(0))
	f.Add(hello(digestFirst))
	f.Add(hello(digestSecond))
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Add(append([]byte{6}, bytes.Repeat([]byte{0xff}, PacketSize)...))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		if err := Server(full{bytes.NewReader(in)}, &out); err != nil {
			require.Zero(t, out.Len())
			return
		}
		require.Len(t, out.Bytes(), 1+2*PacketSize)
		_, err := Client(full{&out}, io.Discard)
		require.NoError(t, err)
	})
}
