// Package handshake is the RTMP handshake (RTMP 1.0 section 5.2), plain and
// with Adobe's digest, which Flash Player 9 brought and ffmpeg still sends.
//
// Server and Client are the functions to read first. Each side writes each of
// its steps with one call, as a small write behind another waits for the
// peer's delayed acknowledgement, some 40 ms.
package handshake

import (
	"crypto/rand"
	"encoding/binary"
	"io"

	"github.com/klive-media/klive/internal/fault"
)

// Version is the protocol version of C0 and S0 (section 5.2.2).
const Version = 3

// PacketSize is the size of C1, S1, C2 and S2 in bytes (section 5.2.3).
const PacketSize = 1536

// maxVersion is the largest version that may begin a handshake; above it, so
// that text protocols are told apart, the connection is not RTMP (section
// 5.2.2).
const maxVersion = 31

// serverVersion and clientVersion stand where section 5.2.3 wants zeros: a
// peer that knows the digest looks there whether we do.
var (
	serverVersion = [4]byte{3, 5, 7, 1}
	clientVersion = [4]byte{9, 0, 124, 2}
)

// A Source gives the bytes of the peer; a chunk.Reader is one, so that the
// handshake needs no buffer of its own.
type Source interface{ ReadFull(p []byte) error }

// Server reads C0 and C1 and answers S0, S1 and S2 with one write. It does not
// wait for C2: call SkipC2 before the first chunk is read. It answers with the
// digest when C1 carries a valid one. A peer that does not speak RTMP is a
// *fault.Error.
func Server(src Source, dst io.Writer) error {
	var c [1 + PacketSize]byte
	// The version alone tells a stray HTTP or TLS client, which may never send
	// as much as C1.
	if err := src.ReadFull(c[:1]); err != nil {
		return err
	}
	if c[0] > maxVersion {
		return fault.New(fault.ProtocolError, "the connection does not begin with an RTMP handshake; is another protocol being sent to the RTMP port?")
	}
	if err := src.ReadFull(c[1:]); err != nil {
		return err
	}
	s := make([]byte, 1+2*PacketSize)
	if err := answer((*[PacketSize]byte)(c[1:]), s); err != nil {
		return err
	}
	_, err := dst.Write(s)
	return err
}

// answer fills s with S0, S1 and S2 for the peer's C1.
func answer(c1 *[PacketSize]byte, s []byte) error {
	s[0] = Version
	s1, s2 := (*[PacketSize]byte)(s[1:]), (*[PacketSize]byte)(s[1+PacketSize:])
	digest, layout, ok := findDigest(c1, playerKey[:playerText])
	if !ok {
		// Plain: S1 is time, zeros and random bytes, S2 the echo of C1.
		*s2 = *c1
		return randomPacket(s1, [4]byte{})
	}
	if err := randomPacket(s1, serverVersion); err != nil {
		return err
	}
	sign(s1, layout, serverKey[:serverText])
	if err := randomPacket(s2, [4]byte{}); err != nil {
		return err
	}
	respond(s2, digest, serverKey)
	return nil
}

// SkipC2 reads the peer's C2 away. What is in it is not compared: old encoders
// echo wrongly, and nothing depends on it.
func SkipC2(src Source) error {
	var c2 [PacketSize]byte
	return src.ReadFull(c2[:])
}

// Client sends C0 and C1 with one write, reads S0, S1 and S2, and returns C2,
// which the caller sends together with its first chunks. C1 carries a digest;
// servers that do not know it take it for random bytes.
func Client(src Source, dst io.Writer) (c2 []byte, err error) {
	c := make([]byte, 1+PacketSize)
	c[0] = Version
	c1 := (*[PacketSize]byte)(c[1:])
	if err := randomPacket(c1, clientVersion); err != nil {
		return nil, err
	}
	sign(c1, digestFirst, playerKey[:playerText])
	if _, err := dst.Write(c); err != nil {
		return nil, err
	}
	s := make([]byte, 1+2*PacketSize)
	if err := src.ReadFull(s); err != nil {
		return nil, err
	}
	if s[0] != Version {
		return nil, fault.New(fault.ProtocolError, "the server answered the RTMP handshake with version %d; 3 is needed", s[0])
	}
	s1 := (*[PacketSize]byte)(s[1:])
	if s1[4] >= 3 {
		if digest, _, ok := findDigest(s1, serverKey[:serverText]); ok {
			var p [PacketSize]byte
			if err := randomPacket(&p, [4]byte{}); err != nil {
				return nil, err
			}
			respond(&p, digest, playerKey)
			return p[:], nil
		}
	}
	return s1[:], nil
}

// randomPacket fills p: time 0, the version, random bytes.
func randomPacket(p *[PacketSize]byte, version [4]byte) error {
	if _, err := rand.Read(p[8:]); err != nil {
		return err
	}
	binary.BigEndian.PutUint32(p[:4], 0)
	copy(p[4:8], version[:])
	return nil
}
