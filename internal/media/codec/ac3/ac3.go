// Package ac3 reads what a server needs of AC-3 and E-AC-3 (ETSI TS 102 366):
// the headers of their frames, and writes the configurations of the file
// format (annex F).
//
// Update is the function to read first: the codecs have no configuration on
// the wire, their tracks are made of frames.
package ac3

import (
	"bytes"
	"errors"
	"math/bits"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	codecbits "github.com/klive-media/klive/internal/media/codec/bits"
)

// The RFC 6381 names.
const (
	CodecString         = "ac-3"
	CodecStringEnhanced = "ec-3"
)

const (
	syncWord     = 0x0b77
	maxBSID      = 8 // of AC-3; above 10 it is E-AC-3
	blockSamples = 256
	// FrameSamples is how many samples a frame of AC-3 holds.
	FrameSamples = 6 * blockSamples
	// maxFrames bounds the frames of a packet: 8 independent substreams with 8
	// dependent ones each, of one block.
	maxFrames = 8 * 9 * 6
	// maxConfig is the size of dec3 with all substreams.
	maxConfig = 2 + 8*4
)

var (
	errFrame   = errors.New("ac3: this is not a frame")
	errPrimary = errors.New("ac3: the packet does not begin with the first substream")
)

var (
	sampleRates = [3]int{48000, 44100, 32000}
	// channels by audio coding mode, without the low frequency channel.
	channels = [8]int{2, 1, 2, 3, 3, 4, 4, 5}
	// bitRates in kbit/s by half of frmsizecod (table 4.13).
	bitRates = [19]int{32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640}
)

// frame is the header of one.
type frame struct {
	enhanced  bool
	dependent bool // E-AC-3: adds channels to the substream before
	substream uint8
	size      int // bytes
	rateCode  uint8
	rate      int // Hz
	blocks    int
	bsid      uint8
	bsmod     uint8
	mode      uint8 // acmod
	low       uint8 // lfeon
	bitCode   uint8 // AC-3: bit_rate_code
	places    uint16
}

// Stream is what the headers of a packet tell.
type Stream struct {
	Enhanced   bool // E-AC-3
	SampleRate int  // Hz
	Channels   int
	Samples    int // of the packet, for each channel
	config     [maxConfig]byte
	configSize int
}

// Config is the body of dac3 or dec3.
func (s *Stream) Config() []byte { return s.config[:s.configSize] }

func bad(err error) error {
	return fault.New(fault.BadMedia, "an AC-3 packet cannot be read; restart the encoder").Because(err)
}

// Parse reads the frames of a packet. It allocates nothing and does not keep
// packet. Errors are fault.BadMedia.
func Parse(packet []byte) (Stream, error) {
	var s Stream
	first, err := readFrame(packet)
	switch {
	case err != nil:
		return s, bad(err)
	case first.dependent || first.substream != 0:
		return s, bad(errPrimary)
	}
	s.Enhanced, s.SampleRate = first.enhanced, first.rate
	s.Channels = channels[first.mode] + int(first.low)
	places, dependents, size := uint16(0), 0, 0
	f := first
	for range maxFrames {
		size += f.size
		switch {
		case f.substream != 0: // another programme
		case f.dependent:
			if s.Samples == first.blocks*blockSamples { // those behind the first frame tell all
				dependents++
				places |= f.places
			}
		default:
			s.Samples += f.blocks * blockSamples
		}
		if packet = packet[min(len(packet), f.size):]; len(packet) == 0 {
			break
		}
		if f, err = readFrame(packet); err != nil || f.enhanced != first.enhanced || f.rate != first.rate {
			break // what stands behind is not needed to describe the stream
		}
	}
	s.describe(&first, places, dependents, size)
	return s, nil
}

// describe writes the configuration (annex F.4 and F.6).
func (s *Stream) describe(f *frame, places uint16, dependents, size int) {
	w := codecbits.Fixed{Data: s.config[:]}
	if !s.Enhanced {
		w.U(2, uint32(f.rateCode))
		w.U(5, uint32(f.bsid))
		w.U(3, uint32(f.bsmod))
		w.U(3, uint32(f.mode))
		w.U(1, uint32(f.low))
		w.U(5, uint32(f.bitCode))
		w.U(5, 0)
		s.configSize = w.Len()
		return
	}
	// chan_loc: pairs count twice.
	const single = 1<<2 | 1<<3 | 1<<7 | 1<<8
	s.Channels += bits.OnesCount16(places&single) + 2*bits.OnesCount16(places&^single)
	w.U(13, uint32(min(size*8*s.SampleRate/max(s.Samples, 1)/1000, 1<<13-1))) //nolint:gosec // bounded
	w.U(3, 0)                                                                 // one independent substream
	w.U(2, uint32(f.rateCode))
	w.U(5, uint32(f.bsid))
	w.U(2, 0) // reserved, asvc
	w.U(3, uint32(f.bsmod))
	w.U(3, uint32(f.mode))
	w.U(1, uint32(f.low))
	w.U(3, 0)
	w.U(4, uint32(min(dependents, 15))) //nolint:gosec // bounded
	if dependents > 0 {
		w.U(9, uint32(places))
	} else {
		w.U(1, 0)
	}
	s.configSize = w.Len()
}

// readFrame reads the header of a frame, which must be whole in b.
func readFrame(b []byte) (frame, error) {
	var f frame
	if len(b) < 8 {
		return f, errFrame
	}
	r := codecbits.NewReader(b)
	if r.U(16) != syncWord {
		return f, errFrame
	}
	if bsid := b[5] >> 3; bsid > 10 {
		f.enhanced = true
		f.readEnhanced(&r)
	} else if bsid <= maxBSID {
		f.read(&r)
	} else {
		return f, errFrame
	}
	if r.Err() != nil || f.rate == 0 || f.size < 8 {
		return f, errFrame
	}
	return f, nil
}

// read is syncinfo() and bsi() of AC-3 (§4.3).
func (f *frame) read(r *codecbits.Reader) {
	r.Skip(16) // crc1
	f.rateCode = uint8(r.U(2))
	code := uint8(r.U(6))
	f.bsid, f.bsmod, f.mode = uint8(r.U(5)), uint8(r.U(3)), uint8(r.U(3))
	if f.mode&1 == 1 && f.mode != 1 {
		r.Skip(2) // cmixlev
	}
	if f.mode&4 == 4 {
		r.Skip(2) // surmixlev
	}
	if f.mode == 2 {
		r.Skip(2) // dsurmod
	}
	f.low = uint8(r.U(1))
	f.blocks, f.bitCode = 6, code>>1
	if int(f.rateCode) >= len(sampleRates) || int(f.bitCode) >= len(bitRates) {
		return
	}
	f.rate = sampleRates[f.rateCode]
	f.size = 2 * (bitRates[f.bitCode] * 96000 / f.rate)
	if f.rateCode == 1 && code&1 == 1 { // 44.1 kHz: every other frame is longer
		f.size += 2
	}
}

// readEnhanced is bsi() of E-AC-3 as far as it tells the channels (annex
// E.1.2.2).
func (f *frame) readEnhanced(r *codecbits.Reader) {
	kind := r.U(2)
	f.dependent = kind == 1
	f.substream = uint8(r.U(3))
	f.size = 2 * (int(r.U(11)) + 1)
	f.rateCode = uint8(r.U(2))
	f.blocks = 6
	if f.rateCode == 3 {
		if half := r.U(2); half < 3 {
			f.rate = sampleRates[half] / 2
		}
	} else {
		f.rate = sampleRates[f.rateCode]
		f.blocks = [4]int{1, 2, 3, 6}[r.U(2)]
	}
	f.mode, f.low, f.bsid = uint8(r.U(3)), uint8(r.U(1)), uint8(r.U(5))
	programs := 1
	if f.mode == 0 { // two of one channel each
		programs = 2
	}
	for range programs {
		r.Skip(5) // dialnorm
		if r.Flag() {
			r.Skip(8) // compr
		}
	}
	if f.dependent && r.Flag() { // chanmape
		f.places = chanLoc(uint16(r.U(16))) //nolint:gosec // 16 bits
	}
}

// chanLoc turns a chanmap (annex E table E.1.4, its first place in the highest
// bit) into the chan_loc of dec3 (table F.6.1, its first place in the lowest).
func chanLoc(chanmap uint16) (loc uint16) {
	for i, place := range [9]int{5, 6, 7, 8, 9, 10, 11, 12, 14} {
		loc |= chanmap >> (15 - place) & 1 << i
	}
	return loc
}

// Update describes a stream by one of its packets. When t says the same, t
// itself is returned, else another track; the bit rate of E-AC-3, which moves,
// is that of the first packet. t may be nil. packet is not kept. Errors are
// fault.BadMedia.
func Update(t *media.Track, packet []byte) (*media.Track, error) {
	s, err := Parse(packet)
	if err != nil {
		return nil, err
	}
	a := media.AudioInfo{SampleRate: s.SampleRate, Channels: s.Channels, FrameSamples: s.Samples}
	codec, name := media.AC3, CodecString
	rate := 0 // bytes of the configuration that say the bit rate
	if s.Enhanced {
		codec, name, rate = media.EAC3, CodecStringEnhanced, 2
	}
	if t != nil && t.Codec == codec && t.Audio.SampleRate == a.SampleRate && t.Audio.Channels == a.Channels &&
		len(t.Config) == s.configSize && bytes.Equal(t.Config[rate:], s.Config()[rate:]) {
		return t, nil
	}
	n := &media.Track{Kind: media.Audio}
	if t != nil {
		*n = *t
	}
	n.Codec, n.CodecString, n.Audio = codec, name, a
	n.Config = bytes.Clone(s.Config())
	return n, nil
}
