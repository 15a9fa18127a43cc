// Package opus reads and writes what a server needs of Opus: the
// identification header of Ogg (RFC 7845 §5.1), the configuration of the file
// format ("Encapsulation of Opus in ISO Base Media File Format" §4.3.2) and
// the first byte of a packet (RFC 6716 §3.1).
//
// Track is the function to read first: it turns the configuration a sender
// gives into a media.Track.
package opus

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
)

// SampleRate in Hz is what Opus counts in, whatever it was made of.
const SampleRate = 48000

// MaxPacket is the longest a packet may last (RFC 6716 §3.2.5).
const MaxPacket = 120 * time.Millisecond

// CodecString is the RFC 6381 name.
const CodecString = "Opus"

const (
	magic    = "OpusHead"
	headSize = 19 // of an identification header without a channel mapping
	boxSize  = 11 // of the body of dOps without one
	mapping  = 2  // stream and coupled counts before the channels' mapping
)

var (
	errShort    = errors.New("opus: the header ends too early")
	errVersion  = errors.New("opus: the header is of an unknown version")
	errChannels = errors.New("opus: the number of channels does not fit the mapping")
)

// Config is what the identification header and dOps both say.
type Config struct {
	Channels int
	// PreSkip is how many samples a player leaves out at the beginning.
	PreSkip uint16
	// InputSampleRate in Hz is that of the sound before it was coded; 0 when not
	// said. It is a remark.
	InputSampleRate uint32
	Gain            int16 // in 1/256 dB
	Family          uint8 // channel mapping family
	// Mapping is stream count, coupled count and the channels' mapping; empty in
	// family 0. That of a parsed header is a view of it.
	Mapping []byte
}

// ParseConfig reads an identification header of Ogg or the body of a dOps box,
// which it tells apart by the former's signature. It keeps a view of b. Errors
// are fault.BadMedia.
func ParseConfig(b []byte) (Config, error) {
	c, err := parseConfig(b)
	if err != nil {
		return Config{}, fault.New(fault.BadMedia, "the Opus configuration cannot be read; restart the encoder").Because(err)
	}
	return c, nil
}

func parseConfig(b []byte) (c Config, err error) {
	var order interface {
		Uint16([]byte) uint16
		Uint32([]byte) uint32
	} = binary.BigEndian
	if len(b) >= headSize && string(b[:len(magic)]) == magic {
		if b[len(magic)]>>4 != 0 { // versions 0 to 15 are compatible
			return c, errVersion
		}
		order, b = binary.LittleEndian, b[len(magic):]
	} else if len(b) > 0 && b[0] != 0 {
		return c, errVersion
	}
	if len(b) < boxSize {
		return c, errShort
	}
	c = Config{Channels: int(b[1]), PreSkip: order.Uint16(b[2:]), InputSampleRate: order.Uint32(b[4:]),
		Gain: int16(order.Uint16(b[8:])), Family: b[10]} //nolint:gosec // two's complement
	if c.Family == 0 {
		if c.Channels < 1 || c.Channels > 2 {
			return c, errChannels
		}
		return c, nil
	}
	if c.Channels == 0 {
		return c, errChannels
	}
	n := mapping + c.Channels
	if len(b) < boxSize+n {
		return c, errShort
	}
	c.Mapping = b[boxSize : boxSize+n : boxSize+n]
	if streams, coupled := int(c.Mapping[0]), int(c.Mapping[1]); streams == 0 || coupled > streams || streams+coupled > 255 {
		return c, errChannels
	}
	return c, nil
}

// Append appends the body of a dOps box.
func (c *Config) Append(dst []byte) []byte {
	dst = append(dst, 0, byte(c.Channels))
	dst = binary.BigEndian.AppendUint16(dst, c.PreSkip)
	dst = binary.BigEndian.AppendUint32(dst, c.InputSampleRate)
	dst = binary.BigEndian.AppendUint16(dst, uint16(c.Gain)) //nolint:gosec // two's complement
	return append(append(dst, c.Family), c.Mapping...)
}

// frames are the samples of a frame by the lowest two bits of the
// configuration number, of the three modes (RFC 6716 table 2).
var (
	silk   = [4]int{480, 960, 1920, 2880}
	hybrid = [4]int{480, 960, 480, 960}
	celt   = [4]int{120, 240, 480, 960}
)

// Samples is how many samples at SampleRate a packet holds for each channel; 0
// when that cannot be read or is longer than a packet may be. It allocates
// nothing and does not keep packet.
func Samples(packet []byte) int {
	if len(packet) == 0 {
		return 0
	}
	config := packet[0] >> 3
	frame := celt[config&3]
	switch {
	case config < 12:
		frame = silk[config&3]
	case config < 16:
		frame = hybrid[config&3]
	}
	n := 2
	switch packet[0] & 3 {
	case 0:
		n = 1
	case 3:
		if len(packet) < 2 {
			return 0
		}
		n = int(packet[1] & 0x3f)
	}
	if n*frame > SampleRate*int(MaxPacket/time.Millisecond)/1000 {
		return 0
	}
	return n * frame
}

// Track describes a stream with this configuration, which may be an
// identification header or the body of a dOps box. Packets may differ in
// length: Audio.FrameSamples is left to Update. ID, TimeScale and Language are
// left to the caller; config is not kept. Errors are fault.BadMedia.
func Track(config []byte) (*media.Track, error) {
	c, err := ParseConfig(config)
	if err != nil {
		return nil, err
	}
	return &media.Track{
		Kind: media.Audio, Codec: media.Opus, Config: c.Append(nil), CodecString: CodecString,
		Audio: media.AudioInfo{SampleRate: SampleRate, Channels: c.Channels},
	}, nil
}
