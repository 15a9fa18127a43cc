package handshake

import (
	"crypto/hmac"
	"crypto/sha256"
)

// The digest is not in Adobe's published specification; it is described in the
// documents of several open implementations and the same in all. A packet
// holds time (4 bytes), version (4) and two blocks of 764 bytes, one of which
// holds a 32-byte HMAC-SHA256 of the packet without itself, at an offset that
// is the sum of the block's 4 offset bytes modulo 728.
const (
	digestSize  = sha256.Size
	blockSize   = 764
	offsetBytes = 4
	offsetRange = blockSize - offsetBytes - digestSize
)

// layout says in which block the digest stands.
type layout int

const (
	digestFirst  layout = 8             // the offset bytes at 8
	digestSecond layout = 8 + blockSize // the offset bytes at 772
)

// Each side signs its first packet with the text at the start of its key and
// its second with the whole key.
const (
	playerText = 30
	serverText = 36
)

const keyTail = "\xf0\xee\xc2\x4a\x80\x68\xbe\xe8\x2e\x00\xd0\xd1\x02\x9e\x7e\x57" +
	"\x6e\xec\x5d\x2d\x29\x80\x6f\xab\x93\xb8\xe6\x36\xcf\xeb\x31\xae"

// The keys are well known; the digest identifies the protocol, it protects
// nothing.
var (
	playerKey = []byte("Genuine Adobe Flash Player 001" + keyTail)
	serverKey = []byte("Genuine Adobe Flash Media Server 001" + keyTail)
)

// position is where the digest of p stands with a layout.
func position(p *[PacketSize]byte, l layout) int {
	sum := 0
	for _, b := range p[l : l+offsetBytes] {
		sum += int(b)
	}
	return int(l) + offsetBytes + sum%offsetRange
}

// compute is the HMAC of p without the digest at pos.
func compute(p *[PacketSize]byte, pos int, key []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(p[:pos])
	h.Write(p[pos+digestSize:])
	return h.Sum(nil)
}

// findDigest returns the digest of p, a view of it, and its layout, when p
// holds a valid one.
func findDigest(p *[PacketSize]byte, key []byte) ([]byte, layout, bool) {
	for _, l := range [...]layout{digestFirst, digestSecond} {
		pos := position(p, l)
		if got := p[pos : pos+digestSize]; hmac.Equal(got, compute(p, pos, key)) {
			return got, l, true
		}
	}
	return nil, 0, false
}

// sign puts the digest of p in its place.
func sign(p *[PacketSize]byte, l layout, key []byte) {
	pos := position(p, l)
	copy(p[pos:], compute(p, pos, key))
}

// respond ends p, a second packet, with the HMAC of what stands before, keyed
// by the peer's digest.
func respond(p *[PacketSize]byte, peerDigest, key []byte) {
	k := hmac.New(sha256.New, key)
	k.Write(peerDigest)
	h := hmac.New(sha256.New, k.Sum(nil))
	h.Write(p[:PacketSize-digestSize])
	copy(p[PacketSize-digestSize:], h.Sum(nil))
}
