// Package srt is the SRT wire for a listener: callers come in, are let in or
// turned away with a code, and send messages that arrive in order, mended as
// far as their latency allows.
//
// Listener is the type to read first. A datagram goes from udp_*.go (sockets)
// to receive.go (who is it for), and there to the Conn it belongs to, whose
// buffer (buffer.go) puts packets in order and says what is missing. Once every
// tick each Conn answers its peer (tick.go, feedback.go). handshake.go and
// keymaterial.go read what callers say; call.go is a caller who waits for an
// answer.
//
// Sections (§) in this package are those of draft-sharabayko-srt-01; what the
// draft leaves open follows libsrt 1.5, which encoders are tested against.
//
// Unlike libsrt this side holds nothing back that is in order: the latency is
// how long a missing packet is waited for, not a delay (docs/adr/0014-srt.md).
package srt

import "errors"

// How a connection ends, as Conn.Read tells it; a goodbye of the peer is
// io.EOF.
var (
	// ErrClosed: Close was called on this side.
	ErrClosed = errors.New("srt: the connection is closed")
	// ErrLost: nothing was heard of the peer for PeerTimeout.
	ErrLost = errors.New("srt: the peer does not answer any more")
	// ErrListenerClosed: the listener is closed, and its connections with it.
	ErrListenerClosed = errors.New("srt: the listener is closed")
)
