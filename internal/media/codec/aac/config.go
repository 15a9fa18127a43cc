// Package aac reads and writes what a server needs of AAC (ISO/IEC 14496-3):
// the AudioSpecificConfig.
//
// Track is the function to read first: it turns the configuration a sender
// gives into a media.Track.
package aac

import (
	"errors"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media/codec/bits"
)

// ObjectType is an audio object type (14496-3 table 1.17).
type ObjectType uint8

// The object types that are carried: those of AAC whose packets hold 1024 or
// 960 samples. SBR and PS are never the Config.ObjectType itself.
const (
	Main ObjectType = 1
	LC   ObjectType = 2
	SSR  ObjectType = 3
	LTP  ObjectType = 4
	SBR  ObjectType = 5
	PS   ObjectType = 29
)

// Signalling is how a configuration says that there is spectral band
// replication (14496-3 §1.6.5).
type Signalling uint8

// The ways of signalling.
const (
	// Plain: not signalled.
	Plain Signalling = iota
	// Hierarchical: the object type is SBR or PS, the core's stands behind it.
	Hierarchical
	// Compatible: behind a configuration that old decoders read as AAC-LC.
	Compatible
)

const (
	// MaxConfig bounds an AudioSpecificConfig; one with a program config element
	// and a comment has about 300 bytes.
	MaxConfig     = 1 << 10
	maxSampleRate = 192000

	explicitRate = 15    // samplingFrequencyIndex: the rate itself follows
	syncSBR      = 0x2b7 // syncExtensionType
	syncPS       = 0x548
)

// sampleRates is table 1.18.
var sampleRates = [...]int{
	96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350,
}

// channelCounts is table 1.19: channels by channelConfiguration. 0 at 0 means
// that a program config element says it, elsewhere that it is reserved.
var channelCounts = [...]int{0, 1, 2, 3, 4, 5, 6, 8, 0, 0, 0, 7, 8, 24, 8}

// Config is an AudioSpecificConfig (14496-3 §1.6.2.1).
type Config struct {
	ObjectType ObjectType // of the core
	// SampleRate in Hz of the core.
	SampleRate int
	// ChannelConfig is channelConfiguration; 0 when a program config element
	// gives the channels.
	ChannelConfig int
	// Channels of the core.
	Channels int
	// Samples of a packet at SampleRate: 1024 or 960.
	Samples int

	Signalling Signalling
	SBR, PS    bool // always false with Plain; Compatible may say that there is none
	// SBRSampleRate in Hz of the sound with SBR; 0 without.
	SBRSampleRate int
}

var (
	errObjectType = errors.New("aac: the object type cannot be carried")
	errRate       = errors.New("aac: the sample rate is reserved or out of range")
	errChannels   = errors.New("aac: the channel configuration is reserved or has no channel")
)

// ParseConfig reads an AudioSpecificConfig. Bits behind it are ignored. Errors
// are fault.BadMedia, or fault.UnsupportedCodec for the kinds of AAC whose
// packets are of another form.
func ParseConfig(b []byte) (Config, error) {
	if len(b) > MaxConfig {
		return Config{}, fault.New(fault.BadMedia, "the AAC configuration is longer than %d bytes", MaxConfig)
	}
	r := bits.NewReader(b)
	c := Config{}
	object := readObjectType(&r)
	c.SampleRate = readSampleRate(&r)
	c.ChannelConfig = int(r.U(4))
	if object == SBR || object == PS {
		c.Signalling, c.SBR, c.PS = Hierarchical, true, object == PS
		c.SBRSampleRate = readSampleRate(&r)
		object = readObjectType(&r)
	}
	if r.Err() == nil && (object < Main || object > LTP) {
		return Config{}, fault.New(fault.UnsupportedCodec,
			"AAC of object type %d cannot be carried; set the encoder to AAC-LC or HE-AAC", object).Because(errObjectType)
	}
	c.ObjectType = object
	c.readSpecific(&r)
	c.readCompatible(r)
	if err := r.Err(); err != nil {
		return Config{}, fault.New(fault.BadMedia, "the AAC configuration cannot be read; restart the encoder").Because(err)
	}
	if err := c.check(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// readObjectType is GetAudioObjectType() (table 1.16). Types above 95 do not
// exist.
func readObjectType(r *bits.Reader) ObjectType {
	const escape = 31
	if t := r.U(5); t != escape {
		return ObjectType(t)
	}
	return ObjectType(32 + r.U(6))
}

// readSampleRate fails on the reserved indices.
func readSampleRate(r *bits.Reader) int {
	i := int(r.U(4))
	if i == explicitRate {
		rate := int(r.U(24))
		if rate < 1 || rate > maxSampleRate {
			r.Fail(errRate)
			return 0
		}
		return rate
	}
	if i >= len(sampleRates) {
		r.Fail(errRate)
		return 0
	}
	return sampleRates[i]
}

// readSpecific is GASpecificConfig() (14496-3 §4.4.1).
func (c *Config) readSpecific(r *bits.Reader) {
	c.Samples = 1024
	if r.Flag() { // frameLengthFlag
		c.Samples = 960
	}
	if r.Flag() { // dependsOnCoreCoder
		r.Skip(14)
	}
	extension := r.Flag()
	if c.ChannelConfig == 0 {
		c.Channels = readProgram(r)
	} else if c.ChannelConfig < len(channelCounts) {
		c.Channels = channelCounts[c.ChannelConfig]
	}
	if extension {
		r.Skip(1) // extensionFlag3
	}
	if c.Channels == 0 {
		r.Fail(errChannels)
	}
}

// readProgram is program_config_element() (§4.4.1.1) and gives the number of
// channels.
func readProgram(r *bits.Reader) (channels int) {
	r.Skip(4 + 2 + 4) // element_instance_tag, object_type, sampling_frequency_index
	front, side, back, lfe := r.U(4), r.U(4), r.U(4), r.U(2)
	data, coupling := r.U(3), r.U(4)
	for range 2 { // mono and stereo mixdown
		if r.Flag() {
			r.Skip(4)
		}
	}
	if r.Flag() { // matrix mixdown
		r.Skip(3)
	}
	for range front + side + back {
		channels++
		if r.Flag() { // element_is_cpe
			channels++
		}
		r.Skip(4)
	}
	channels += int(lfe)
	r.Skip(4*int(lfe) + 4*int(data) + 5*int(coupling))
	r.Align()
	r.Skip(8 * int(r.U(8))) // comment
	if r.Err() != nil {
		return 0
	}
	return channels
}

// readCompatible reads the extension behind a configuration, which some
// senders cut off in the middle: then there is none. r is a copy.
func (c *Config) readCompatible(r bits.Reader) {
	if c.Signalling != Plain || r.Left() < 16 || r.U(11) != syncSBR || readObjectType(&r) != SBR {
		return
	}
	v := *c
	v.Signalling = Compatible
	if v.SBR = r.Flag(); v.SBR {
		v.SBRSampleRate = readSampleRate(&r)
		if r.Left() >= 12 && r.U(11) == syncPS {
			v.PS = r.Flag()
		}
	}
	if r.Err() == nil {
		*c = v
	}
}

func (c *Config) check() error {
	if c.SBR && c.SBRSampleRate != c.SampleRate && c.SBRSampleRate != 2*c.SampleRate {
		return fault.New(fault.BadMedia,
			"the HE-AAC configuration gives the sample rates %d and %d Hz, which do not fit; check the encoder's sample rate",
			c.SampleRate, c.SBRSampleRate)
	}
	return nil
}
