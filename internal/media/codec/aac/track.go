package aac

import (
	"slices"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/bits"
)

// CodecString is the RFC 6381 name: "mp4a.40.2" for AAC-LC, "mp4a.40.5" for
// HE-AAC, "mp4a.40.29" for HE-AAC v2.
func (c *Config) CodecString() string {
	switch {
	case c.PS:
		return "mp4a.40.29"
	case c.SBR:
		return "mp4a.40.5"
	}
	return "mp4a.40." + string('0'+rune(c.ObjectType))
}

// Audio describes the decoded sound.
func (c *Config) Audio() media.AudioInfo {
	a := media.AudioInfo{SampleRate: c.SampleRate, Channels: c.Channels, FrameSamples: c.Samples}
	if c.SBR && c.SBRSampleRate != c.SampleRate {
		a.SampleRate, a.FrameSamples = c.SBRSampleRate, 2*c.Samples
	}
	if c.PS && a.Channels == 1 {
		a.Channels = 2
	}
	return a
}

// Append appends the AudioSpecificConfig to dst. Channels without a
// ChannelConfig need a program config element, which is not written:
// fault.UnsupportedLayout.
func (c *Config) Append(dst []byte) ([]byte, error) {
	if c.ChannelConfig <= 0 || c.ChannelConfig >= len(channelCounts) || channelCounts[c.ChannelConfig] == 0 {
		return nil, fault.New(fault.UnsupportedLayout, "AAC with an uncommon channel layout cannot be written; use mono, stereo, 5.1 or 7.1")
	}
	var w bits.Writer
	object := c.ObjectType
	if c.Signalling == Hierarchical {
		object = SBR
		if c.PS {
			object = PS
		}
	}
	w.U(5, uint32(object))
	writeSampleRate(&w, c.SampleRate)
	w.U(4, uint32(c.ChannelConfig))
	if c.Signalling == Hierarchical {
		writeSampleRate(&w, c.SBRSampleRate)
		w.U(5, uint32(c.ObjectType))
	}
	w.Flag(c.Samples == 960)
	w.U(2, 0) // dependsOnCoreCoder, extensionFlag
	if c.Signalling == Compatible {
		w.U(11, syncSBR)
		w.U(5, uint32(SBR))
		w.Flag(c.SBR)
		if c.SBR {
			writeSampleRate(&w, c.SBRSampleRate)
		}
		if c.PS {
			w.U(11, syncPS)
			w.Flag(true)
		}
	}
	return append(dst, w.Bytes()...), nil
}

func writeSampleRate(w *bits.Writer, rate int) {
	if i := slices.Index(sampleRates[:], rate); i >= 0 {
		w.U(4, uint32(i))
		return
	}
	w.U(4, explicitRate)
	w.U(24, uint32(rate))
}

// Track describes a stream with this AudioSpecificConfig, of which it keeps a
// copy. ID, TimeScale and Language are left to the caller. Errors are those of
// ParseConfig.
func Track(config []byte) (*media.Track, error) {
	c, err := ParseConfig(config)
	if err != nil {
		return nil, err
	}
	return &media.Track{
		Kind: media.Audio, Codec: media.AAC, Config: slices.Clone(config),
		CodecString: c.CodecString(), Audio: c.Audio(),
	}, nil
}
