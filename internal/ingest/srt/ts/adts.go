package ts

import (
	"bytes"
	"errors"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/aac"
)

var (
	errADTSBlocks = errors.New("ts: an ADTS frame holds several AAC frames")
	errADTSHeader = errors.New("ts: an ADTS header is longer than its frame")
)

// adtsRates is the table of sampling_frequency_index (ISO/IEC 14496-3 table
// 1.18).
var adtsRates = [...]int{96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}

// adts reads AAC in ADTS frames (ISO/IEC 14496-3 §1.A.2.2).
type adts struct {
	key   uint16 // the configuration in the headers
	known bool   // key is set
}

// size implements framing.
func (*adts) size(b []byte) int {
	switch {
	case len(b) > 0 && b[0] != 0xff, len(b) > 1 && b[1]&0xf6 != 0xf0: // syncword, layer
		return -1
	case len(b) < 6:
		return 0
	}
	n := int(b[3]&3)<<11 | int(b[4])<<3 | int(b[5]>>5)
	if n < 8 || int(b[2]>>2&0x0f) >= len(adtsRates) {
		return -1
	}
	return n
}

// sync implements framing.
func (*adts) sync(b []byte) int {
	if n := bytes.IndexByte(b[1:], 0xff); n >= 0 {
		return 1 + n
	}
	return len(b)
}

// frame implements framing.
func (a *adts) frame(b []byte, slab *media.Slab) ([]byte, *media.Track, error) {
	header := 7
	if b[1]&1 == 0 { // protection_absent
		header = 9
	}
	switch {
	case len(b) <= header:
		return nil, nil, errADTSHeader
	case b[6]&3 != 0: // number_of_raw_data_blocks_in_frame
		return nil, nil, errADTSBlocks
	}
	var track *media.Track
	const fields = 0xfdc0 // profile, rate and channels, without private_bit
	if key := (uint16(b[2])<<8 | uint16(b[3])) & fields; !a.known || key != a.key {
		c := aac.Config{
			ObjectType:    aac.ObjectType(b[2]>>6 + 1),
			SampleRate:    adtsRates[b[2]>>2&0x0f],
			ChannelConfig: int(b[2]&1)<<2 | int(b[3]>>6),
			Samples:       1024,
		}
		config, err := c.Append(nil)
		if err != nil {
			return nil, nil, err
		}
		if track, err = aac.Track(config); err != nil {
			return nil, nil, err
		}
		a.key, a.known = key, true
	}
	payload := slab.Alloc(len(b) - header)
	copy(payload, b[header:])
	return payload, track, nil
}
