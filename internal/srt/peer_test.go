package srt_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/srt"
	"github.com/klive-media/klive/internal/srt/srttest"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// messageSize is that of seven transport packets, as encoders send them.
const messageSize = 1316

// numbered are messages that can be told apart and checked.
func numbered(from, n int) []byte {
	b := make([]byte, 0, n*messageSize)
	for i := from; i < from+n; i++ {
		b = binary.BigEndian.AppendUint32(b, uint32(i)) //nolint:gosec // a test
		filler := rand.New(rand.NewPCG(uint64(i), 7))   //nolint:gosec // a test
		for len(b)%messageSize != 0 {
			b = append(b, byte(filler.Uint32()))
		}
	}
	return b
}

// listener is a Listener that serves.
func listener(t testing.TB, o srt.Options) *srt.Listener {
	t.Helper()
	l, err := srt.Listen(t.Context(), "127.0.0.1:0", o)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(patience):
			t.Error("the listener does not end")
		}
	})
	return l
}

// accept lets the next caller in.
func accept(t testing.TB, l *srt.Listener, passphrase string) *srt.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	call, err := l.Accept(ctx)
	require.NoError(t, err)
	require.NoError(t, call.Unlock(passphrase))
	c, err := call.Accept()
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// reception is what was read of a connection: the numbers of the messages.
type reception struct {
	numbers []int
	err     error
}

// read reads until the end and checks every message. all is closed when the
// last of so many was there.
func read(t testing.TB, c *srt.Conn, messages int, all chan<- struct{}) reception {
	t.Helper()
	var r reception
	b := make([]byte, srt.MaxMessage)
	last := -1
	for {
		n, err := c.Read(b)
		if err != nil {
			r.err = err
			return r
		}
		require.Equal(t, messageSize, n)
		i := int(binary.BigEndian.Uint32(b))
		require.Greater(t, i, last, "messages come in order and once")
		require.True(t, bytes.Equal(numbered(i, 1), b[:n]), "message %d is not what was sent", i)
		last = i
		r.numbers = append(r.numbers, i)
		if i == messages-1 {
			close(all)
		}
	}
}

// transmit lets libsrt's own tool send messages at a pace, and ends it when all
// were received, or two seconds later: it does not end by itself.
func transmit(t testing.TB, to net.Addr, query string, messages int, every time.Duration, all <-chan struct{}) (output string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience+time.Duration(messages)*every)
	defer cancel()
	cmd := exec.CommandContext(ctx, "srt-live-transmit", "-loglevel:error", "-a:no", "-chunk:1316", "file://con", "srt://"+to.String()+"?mode=caller&"+query)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := range messages {
		<-tick.C
		if _, err := in.Write(numbered(i, 1)); err != nil {
			break
		}
	}
	select {
	case <-all:
	case <-time.After(2 * time.Second):
	}
	_ = cmd.Process.Signal(os.Interrupt)
	err = cmd.Wait()
	return out.String() + errText(err)
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestLibsrt: libsrt sends, plain and with each length of key.
func TestLibsrt(t *testing.T) {
	const pass = "correct horse battery"
	for _, c := range []struct{ about, query, passphrase string }{
		{"plain", "streamid=a", ""},
		{"128 bits", "passphrase=" + pass + "&pbkeylen=16", pass},
		{"192 bits", "passphrase=" + pass + "&pbkeylen=24", pass},
		{"256 bits", "passphrase=" + pass + "&pbkeylen=32", pass},
		{"keys that change", "passphrase=" + pass + "&kmrefreshrate=100&kmpreannounce=20", pass},
	} {
		t.Run(c.about, func(t *testing.T) {
			t.Parallel()
			l := listener(t, srt.Options{})
			done, all := make(chan string, 1), make(chan struct{})
			go func() { done <- transmit(t, l.Addr(), c.query, 500, 2*time.Millisecond, all) }()
			conn := accept(t, l, c.passphrase)
			require.Equal(t, c.passphrase != "", conn.Encrypted())
			r := read(t, conn, 500, all)
			require.ErrorIs(t, r.err, io.EOF, "a goodbye")
			t.Logf("%d messages, %+v, %s", len(r.numbers), conn.Stats(), <-done)
			first := r.numbers[0] // the tool drops what comes before it is connected
			require.Less(t, first, 250)
			require.Equal(t, 499, r.numbers[len(r.numbers)-1])
			require.Equal(t, 500-first, len(r.numbers))
			st := conn.Stats()
			require.Zero(t, st.Undecrypted)
			require.Zero(t, st.Dropped)
		})
	}
}

// TestLibsrtThroughABadNetwork: losses within the latency are mended.
func TestLibsrtThroughABadNetwork(t *testing.T) {
	l := listener(t, srt.Options{Latency: 300 * time.Millisecond})
	n, err := srttest.OpenNetwork(l.Addr(), srttest.Conditions{Loss: 0.05, Jitter: 20 * time.Millisecond, Twice: 0.01, Seed: 1})
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	const sent = 2500
	done, all := make(chan string, 1), make(chan struct{})
	go func() { done <- transmit(t, n.Addr(), "passphrase=0123456789", sent, 2*time.Millisecond, all) }()
	conn := accept(t, l, "0123456789")
	r := read(t, conn, sent, all)
	if !errors.Is(r.err, io.EOF) { // the goodbye may be lost
		require.ErrorIs(t, r.err, srt.ErrLost)
	}
	carried, lost := n.Counts()
	t.Logf("%d of %d messages; %+v; %d datagrams carried, %d lost; %s", len(r.numbers), sent, conn.Stats(), carried, lost, <-done)
	require.NotZero(t, conn.Stats().Retransmitted)
	first, last := r.numbers[0], r.numbers[len(r.numbers)-1] // the tool drops what comes before it is connected
	require.Less(t, first, sent/2)
	missing := last - first + 1 - len(r.numbers)
	require.LessOrEqual(t, missing, sent/200, "nearly all of the loss is mended")
	require.EqualValues(t, conn.Stats().Dropped, missing)
	require.Less(t, conn.Stats().Packets, uint64(len(r.numbers)+sent/10), "what only was overtaken is not asked for")
}
