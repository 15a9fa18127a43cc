package srt

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// text writes a string as handshakes carry it.
func text(s string) []byte {
	b := []byte(s)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	for i := 0; i < len(b); i += 4 {
		b[i], b[i+1], b[i+2], b[i+3] = b[i+3], b[i+2], b[i+1], b[i]
	}
	return b
}

// libsrtConclusion is what libsrt 1.5.1 sends behind the fixed part: its
// version, flags and latencies, and a stream id.
func libsrtConclusion(id string) []byte {
	b := appendExtension(nil, extHSRequest, hsResponse(0x010501, 0xbf, 0, 250*time.Millisecond))
	return appendExtension(b, extStreamID, text(id))
}

func TestExtensions(t *testing.T) {
	for _, id := range []string{"", "a", "abcd", "#!::r=lobby_1,m=publish", strings.Repeat("x", MaxStreamID)} {
		x, err := readExtensions(libsrtConclusion(id))
		require.NoError(t, err)
		require.Equal(t, extensions{known: true, version: 0x010501, flags: 0xbf, latency: 250 * time.Millisecond, streamID: id}, x)
		require.Zero(t, x.refusal())
	}
}

// conclusions are what callers may bring, and the code they get; 0: they are
// let in.
var conclusions = []struct {
	about string
	flags uint32
	more  []byte
	code  int
}{
	{"live", ourFlags, nil, 0},
	{"live, and says so", ourFlags, appendExtension(nil, extCongestion, text("live")), 0},
	{"something newer", ourFlags, appendExtension(nil, 99, text("abcdefgh")), 0},
	{"stream", ourFlags | flagStream, nil, CodeMessageAPI},
	{"file", ourFlags, appendExtension(nil, extCongestion, text("file")), CodeCongestion},
	{"filter", ourFlags | flagFilter, appendExtension(nil, extFilter, text("fec,cols:10,rows:5")), CodeFilter},
	{"bond", ourFlags, appendExtension(nil, extGroup, make([]byte, 8)), CodeGroup},
	{"cut off", ourFlags, []byte{0, 5, 0}, CodeRogue},
	{"longer than it is", ourFlags, []byte{0, 5, 0, 9, 1, 2, 3, 4}, CodeRogue},
	{"a stream id that is too long", ourFlags, appendExtension(nil, extStreamID, make([]byte, MaxStreamID+4)), CodeRogue},
	{"without end", ourFlags, make([]byte, 4*(maxExtensions+1)), CodeRogue},
	{"a short handshake extension", ourFlags, appendExtension(nil, extHSRequest, make([]byte, 8)), CodeRogue},
}

func TestConclusions(t *testing.T) {
	l := serve(t)
	for _, c := range conclusions {
		t.Run(c.about, func(t *testing.T) {
			r := newRaw(t, l)
			r.flags, r.more = c.flags, c.more
			said := r.conclusion(r.greet().cookie)
			r.write(said)
			if c.code == 0 {
				call, err := l.Accept(t.Context())
				require.NoError(t, err)
				require.True(t, call.Reject(1404))
				require.False(t, call.Reject(1500), "a call is answered once")
				_, err = call.Accept()
				require.Error(t, err)
				c.code = 1404
			}
			for range 2 { // who did not get the answer asks again
				h, _ := r.answer()
				require.EqualValues(t, handshakeFailure+c.code, h.kind)
				r.write(said)
			}
		})
	}
	r := newRaw(t, l)
	r.version = versionFour
	r.write(r.conclusion(r.greet().cookie))
	h, _ := r.answer()
	require.EqualValues(t, handshakeFailure+CodeVersion, h.kind)
}

func TestAccepted(t *testing.T) {
	l := serve(t)
	r := newRaw(t, l)
	hello := r.greet()
	require.EqualValues(t, versionFive, hello.version)
	require.EqualValues(t, extensionMagic, hello.extension)
	said := r.conclusion(hello.cookie)
	r.write(said)
	call, err := l.Accept(t.Context())
	require.NoError(t, err)
	require.Equal(t, "SRT 1.5.0", call.Peer())
	require.NoError(t, call.Unlock(""))
	conn, err := call.Accept()
	require.NoError(t, err)
	defer conn.Close()
	require.Equal(t, 100*ms, conn.Latency(), "the greater of 100 and 80")
	for range 2 {
		h, b := r.answer()
		require.EqualValues(t, handshakeConclusion, h.kind)
		require.Equal(t, r.next, h.sequence)
		require.NotEqual(t, r.id, h.socket)
		require.EqualValues(t, extHSResponse, binary.BigEndian.Uint16(b))
		require.EqualValues(t, 100, binary.BigEndian.Uint16(b[12:]))
		r.write(said)
	}
}

func TestHandshakesAreWrittenAsTheyAreRead(t *testing.T) {
	h := handshake{version: 5, encryption: 2, extension: 7, sequence: 9, mtu: 1500, window: 8192, kind: handshakeConclusion, socket: 3, cookie: 4}
	b := h.append(nil, netip.MustParseAddr("192.0.2.1"))
	require.Len(t, b, handshakeSize)
	require.Equal(t, []byte{1, 2, 0, 192}, b[32:36], "libsrt's order")
	got, err := readHandshake(b)
	require.NoError(t, err)
	require.Equal(t, h, got)
	_, err = readHandshake(b[:47])
	require.Error(t, err)
}

func FuzzHandshake(f *testing.F) {
	f.Add(libsrtConclusion("#!::r=lobby_1,m=publish"))
	for _, c := range conclusions {
		f.Add(c.more)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := readHandshake(b); err == nil {
			again, err := readHandshake(h.append(nil, netip.Addr{}))
			require.NoError(t, err)
			require.Equal(t, h, again)
		}
		x, err := readExtensions(b)
		if err != nil {
			return
		}
		require.LessOrEqual(t, len(x.streamID), MaxStreamID)
		if x.streamID != "" && !strings.HasPrefix(x.streamID, "\x00") {
			require.Equal(t, x.streamID, readText(text(x.streamID)))
		}
		if x.keyMaterial != nil {
			_, _ = readKeyMaterial(x.keyMaterial)
		}
	})
}
