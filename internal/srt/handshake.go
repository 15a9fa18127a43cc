package srt

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"time"
)

// Handshakes (§3.2.1).
const (
	handshakeSize  = 48
	versionFour    = 4 // of the first message, for callers that know nothing newer
	versionFive    = 5
	extensionMagic = 0x4a17 // in the answer to the first message: this side knows version 5

	handshakeInduction  = 1
	handshakeConclusion = 0xffffffff
	handshakeFailure    = 1000 // the code of a rejection is added

	// MaxStreamID bounds a stream id, in bytes (libsrt, SRTO_STREAMID).
	MaxStreamID = 512
)

// What a conclusion brings along (§3.2.1, table 4).
const (
	bringsHS     = 1
	bringsKM     = 2
	bringsConfig = 4
)

// Flags of the handshake extension (§3.2.1.1.1).
const (
	flagTSBPDSender   = 1 << 0
	flagTSBPDReceiver = 1 << 1
	flagCrypt         = 1 << 2
	flagDropTooLate   = 1 << 3
	flagPeriodicNAK   = 1 << 4
	flagRetransmit    = 1 << 5
	flagStream        = 1 << 6
	flagFilter        = 1 << 7

	ourFlags = flagTSBPDSender | flagTSBPDReceiver | flagCrypt | flagDropTooLate | flagPeriodicNAK | flagRetransmit
	// ourVersion is the libsrt whose manners this side has: callers switch
	// abilities on by it.
	ourVersion = 0x010501
)

// The codes with which the wire itself rejects (§4.3.1, table 7; libsrt,
// SRT_REJECT_REASON). Others are the application's, from 1000 on.
const (
	CodeRogue      = 4  // the handshake cannot be read
	CodeBacklog    = 5  // too many wait for an answer
	CodeClosing    = 7  // the listener is closing
	CodeVersion    = 8  // a handshake from before libsrt 1.3
	CodeBadSecret  = 10 // wrong passphrase
	CodeUnsecure   = 11 // a passphrase is needed, or none is wanted
	CodeMessageAPI = 12 // the caller is not in live mode
	CodeCongestion = 13 // the same
	CodeFilter     = 14 // the caller wants a packet filter
	CodeGroup      = 15 // the caller wants to bond connections
	CodeCrypto     = 17 // a cipher other than AES-CTR
)

// handshake is a message of the handshake.
type handshake struct {
	version, encryption, extension uint32
	sequence                       uint32 // the first that the caller will send
	mtu, window                    uint32
	kind                           uint32
	socket                         uint32 // of who sends it
	cookie                         uint32
}

// errHandshake is why a handshake cannot be read. The caller is told
// CodeRogue.
var errHandshake = errors.New("srt: unreadable handshake")

// readHandshake reads the fixed part of a handshake; b is what follows the
// header.
func readHandshake(b []byte) (h handshake, err error) {
	if len(b) < handshakeSize {
		return h, errHandshake
	}
	u := func(at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }
	return handshake{
		version: u(0), encryption: u(4) >> 16, extension: u(4) & 0xffff, sequence: u(8) & sequenceMask, mtu: u(12), window: u(16),
		kind: u(20), socket: u(24), cookie: u(28),
	}, nil
}

// append adds the handshake to b. peer is how this side sees the other.
func (h handshake) append(b []byte, peer netip.Addr) []byte {
	for _, u := range []uint32{
		h.version, h.encryption<<16 | h.extension&0xffff, h.sequence, h.mtu, h.window, h.kind, h.socket, h.cookie,
	} {
		b = binary.BigEndian.AppendUint32(b, u)
	}
	var ip [16]byte
	if peer = peer.Unmap(); peer.Is4() {
		four := peer.As4()
		copy(ip[:], four[:])
	} else {
		ip = peer.As16()
	}
	for i := 0; i < len(ip); i += 4 { // libsrt sends it in the order of its memory
		b = binary.BigEndian.AppendUint32(b, binary.LittleEndian.Uint32(ip[i:]))
	}
	return b
}

// extensions is what a conclusion brings along.
type extensions struct {
	known       bool // the handshake extension itself is there
	version     uint32
	flags       uint32
	latency     time.Duration // that the sender wants of this side
	streamID    string
	keyMaterial []byte // nil: not encrypted; part of what was read
	congestion  string
	filter      bool
	group       bool
}

// readExtensions reads what follows the fixed part of a conclusion.
func readExtensions(b []byte) (x extensions, err error) {
	for range maxExtensions {
		if len(b) == 0 {
			return x, nil
		}
		if len(b) < extHeaderBytes {
			return x, errHandshake
		}
		kind, size := binary.BigEndian.Uint16(b), 4*int(binary.BigEndian.Uint16(b[2:]))
		b = b[extHeaderBytes:]
		if size > len(b) {
			return x, errHandshake
		}
		if err := x.read(int(kind), b[:size]); err != nil {
			return x, err
		}
		b = b[size:]
	}
	return x, errHandshake
}

func (x *extensions) read(kind int, b []byte) error {
	switch kind {
	case extHSRequest:
		if len(b) < 12 {
			return errHandshake
		}
		x.known = true
		x.version, x.flags = binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
		x.latency = time.Duration(binary.BigEndian.Uint16(b[10:])) * time.Millisecond
	case extKMRequest:
		x.keyMaterial = b
	case extStreamID:
		if len(b) > MaxStreamID {
			return errHandshake
		}
		x.streamID = readText(b)
	case extCongestion:
		if len(b) > MaxStreamID {
			return errHandshake
		}
		x.congestion = readText(b)
	case extFilter:
		x.filter = true
	case extGroup:
		x.group = true
	}
	return nil
}

// refusal is the code with which extensions are turned away; 0: they are not.
func (x *extensions) refusal() int {
	switch {
	case !x.known:
		return CodeRogue
	case x.flags&flagStream != 0:
		return CodeMessageAPI
	case x.congestion != "" && x.congestion != "live":
		return CodeCongestion
	case x.filter:
		return CodeFilter
	case x.group:
		return CodeGroup
	}
	return 0
}

// readText reads a string, which is sent in words of four bytes, each in
// reverse, and filled up with zeros (§3.2.1.3).
func readText(b []byte) string {
	s := make([]byte, 0, len(b))
	for ; len(b) >= 4; b = b[4:] {
		s = append(s, b[3], b[2], b[1], b[0])
	}
	return strings.TrimRight(string(s), "\x00")
}

// appendExtension adds an extension of whole words.
func appendExtension(b []byte, kind int, content []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(kind))           //nolint:gosec // a constant
	b = binary.BigEndian.AppendUint16(b, uint16(len(content)/4)) //nolint:gosec // at most maxKM
	return append(b, content...)
}

// hsResponse is the content of the answer to the handshake extension.
func hsResponse(version, flags uint32, receive, send time.Duration) []byte {
	b := binary.BigEndian.AppendUint32(nil, version)
	b = binary.BigEndian.AppendUint32(b, flags)
	b = binary.BigEndian.AppendUint16(b, uint16(receive.Milliseconds())) //nolint:gosec // at most MaxLatency
	return binary.BigEndian.AppendUint16(b, uint16(send.Milliseconds())) //nolint:gosec // at most MaxLatency
}
