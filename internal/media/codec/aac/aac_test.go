package aac

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/mpeg4audio"
	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/bits"
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// cases are configurations and what they mean. Those of ffmpeg are of ffmpeg
// 5.1 -f lavfi -i anullsrc=r=…:cl=… -c:a aac, with what ffprobe says; the others are
// written after the tables of the specification.
var cases = []struct {
	about, config string
	want          Config
	codec         string
	audio         media.AudioInfo
}{
	{"ffmpeg 44100 mono", "120856e500",
		Config{ObjectType: LC, SampleRate: 44100, ChannelConfig: 1, Channels: 1, Samples: 1024, Signalling: Compatible},
		"mp4a.40.2", media.AudioInfo{SampleRate: 44100, Channels: 1, FrameSamples: 1024}},
	{"ffmpeg 48000 stereo", "119056e500",
		Config{ObjectType: LC, SampleRate: 48000, ChannelConfig: 2, Channels: 2, Samples: 1024, Signalling: Compatible},
		"mp4a.40.2", media.AudioInfo{SampleRate: 48000, Channels: 2, FrameSamples: 1024}},
	{"ffmpeg 32000 5.1", "12b056e500",
		Config{ObjectType: LC, SampleRate: 32000, ChannelConfig: 6, Channels: 6, Samples: 1024, Signalling: Compatible},
		"mp4a.40.2", media.AudioInfo{SampleRate: 32000, Channels: 6, FrameSamples: 1024}},
	{"ffmpeg 96000 7.1", "103856e500",
		Config{ObjectType: LC, SampleRate: 96000, ChannelConfig: 7, Channels: 8, Samples: 1024, Signalling: Compatible},
		"mp4a.40.2", media.AudioInfo{SampleRate: 96000, Channels: 8, FrameSamples: 1024}},
	{"ffmpeg 8000 mono", "158856e500",
		Config{ObjectType: LC, SampleRate: 8000, ChannelConfig: 1, Channels: 1, Samples: 1024, Signalling: Compatible},
		"mp4a.40.2", media.AudioInfo{SampleRate: 8000, Channels: 1, FrameSamples: 1024}},
	{"the shortest", "1190",
		Config{ObjectType: LC, SampleRate: 48000, ChannelConfig: 2, Channels: 2, Samples: 1024},
		"mp4a.40.2", media.AudioInfo{SampleRate: 48000, Channels: 2, FrameSamples: 1024}},
	{"960 samples", "1194",
		Config{ObjectType: LC, SampleRate: 48000, ChannelConfig: 2, Channels: 2, Samples: 960},
		"mp4a.40.2", media.AudioInfo{SampleRate: 48000, Channels: 2, FrameSamples: 960}},
	{"AAC Main", "0990",
		Config{ObjectType: Main, SampleRate: 48000, ChannelConfig: 2, Channels: 2, Samples: 1024},
		"mp4a.40.1", media.AudioInfo{SampleRate: 48000, Channels: 2, FrameSamples: 1024}},
	{"HE-AAC, hierarchical", "2b920800",
		Config{ObjectType: LC, SampleRate: 22050, ChannelConfig: 2, Channels: 2, Samples: 1024,
			Signalling: Hierarchical, SBR: true, SBRSampleRate: 44100},
		"mp4a.40.5", media.AudioInfo{SampleRate: 44100, Channels: 2, FrameSamples: 2048}},
	{"HE-AAC v2, hierarchical", "eb8a0800",
		Config{ObjectType: LC, SampleRate: 22050, ChannelConfig: 1, Channels: 1, Samples: 1024,
			Signalling: Hierarchical, SBR: true, PS: true, SBRSampleRate: 44100},
		"mp4a.40.29", media.AudioInfo{SampleRate: 44100, Channels: 2, FrameSamples: 2048}},
	{"HE-AAC, compatible", "139056e5a0",
		Config{ObjectType: LC, SampleRate: 22050, ChannelConfig: 2, Channels: 2, Samples: 1024,
			Signalling: Compatible, SBR: true, SBRSampleRate: 44100},
		"mp4a.40.5", media.AudioInfo{SampleRate: 44100, Channels: 2, FrameSamples: 2048}},
	{"HE-AAC v2, compatible", "138856e5a54880",
		Config{ObjectType: LC, SampleRate: 22050, ChannelConfig: 1, Channels: 1, Samples: 1024,
			Signalling: Compatible, SBR: true, PS: true, SBRSampleRate: 44100},
		"mp4a.40.29", media.AudioInfo{SampleRate: 44100, Channels: 2, FrameSamples: 2048}},
	{"HE-AAC at the core's rate", "2a120800",
		Config{ObjectType: LC, SampleRate: 44100, ChannelConfig: 2, Channels: 2, Samples: 1024,
			Signalling: Hierarchical, SBR: true, SBRSampleRate: 44100},
		"mp4a.40.5", media.AudioInfo{SampleRate: 44100, Channels: 2, FrameSamples: 1024}},
	{"explicit sample rate", rateOf(37800),
		Config{ObjectType: LC, SampleRate: 37800, ChannelConfig: 2, Channels: 2, Samples: 1024},
		"mp4a.40.2", media.AudioInfo{SampleRate: 37800, Channels: 2, FrameSamples: 1024}},
	{"6.1", "11d8",
		Config{ObjectType: LC, SampleRate: 48000, ChannelConfig: 11, Channels: 7, Samples: 1024},
		"mp4a.40.2", media.AudioInfo{SampleRate: 48000, Channels: 7, FrameSamples: 1024}},
	{"program config element, 5.1", programOf(),
		Config{ObjectType: LC, SampleRate: 48000, Channels: 6, Samples: 1024},
		"mp4a.40.2", media.AudioInfo{SampleRate: 48000, Channels: 6, FrameSamples: 1024}},
	{"extension cut off", "119056e5",
		Config{ObjectType: LC, SampleRate: 48000, ChannelConfig: 2, Channels: 2, Samples: 1024},
		"mp4a.40.2", media.AudioInfo{SampleRate: 48000, Channels: 2, FrameSamples: 1024}},
	{"zeros behind", "11900000000000",
		Config{ObjectType: LC, SampleRate: 48000, ChannelConfig: 2, Channels: 2, Samples: 1024},
		"mp4a.40.2", media.AudioInfo{SampleRate: 48000, Channels: 2, FrameSamples: 1024}},
}

// rateOf is AAC-LC stereo with samplingFrequencyIndex 15.
func rateOf(rate uint32) string {
	var w bits.Writer
	w.U(5, 2)
	w.U(4, 15)
	w.U(24, rate)
	w.U(4, 2)
	w.U(3, 0)
	return hex.EncodeToString(w.Bytes())
}

// programOf is AAC-LC 48000 with a centre, two pairs, a low frequency channel
// and a comment.
func programOf() string {
	var w bits.Writer
	w.U(5, 2)
	w.U(4, 3)
	w.U(4, 0)
	w.U(3, 0)
	w.U(10, 1<<4|3) // tag 0, LC, 48000
	w.U(4, 2)       // front
	w.U(4, 0)
	w.U(4, 1) // back
	w.U(2, 1) // lfe
	w.U(3, 0)
	w.U(4, 0)
	w.U(2, 0)
	w.Flag(true) // matrix mixdown
	w.U(3, 0)
	w.U(5, 0)    // centre
	w.U(5, 1<<4) // pair
	w.U(5, 1<<4) // pair
	w.U(4, 0)
	for range (8 - (16+10+4+4+4+2+3+4+2+1+3+5+5+5+4)%8) % 8 {
		w.Flag(false)
	}
	w.U(8, 2)
	w.U(16, 0x6869)
	return hex.EncodeToString(w.Bytes())
}

func TestConfigs(t *testing.T) {
	for _, c := range cases {
		t.Run(c.about, func(t *testing.T) {
			got, err := ParseConfig(unhex(c.config))
			require.NoError(t, err)
			require.Equal(t, c.want, got)
			tr, err := Track(unhex(c.config))
			require.NoError(t, err)
			require.Equal(t, c.codec, tr.CodecString)
			require.Equal(t, c.audio, tr.Audio)
			require.Equal(t, media.AAC, tr.Codec)
			require.Equal(t, media.Audio, tr.Kind)
			require.Equal(t, unhex(c.config), tr.Config)

			if c.want.ChannelConfig != 0 {
				again, err := got.Append(nil)
				require.NoError(t, err)
				require.True(t, bytes.HasPrefix(unhex(c.config), again) || c.about == "extension cut off", "%x", again)
			}
			if c.want.ChannelConfig == 0 || c.want.ChannelConfig > 7 || c.want.ObjectType != LC || c.want.Signalling == Compatible {
				return // what the other reader does not know
			}
			var peer mpeg4audio.AudioSpecificConfig
			require.NoError(t, peer.Unmarshal(unhex(c.config)))
			require.Equal(t, peer.SampleRate, got.SampleRate)
			require.Equal(t, peer.FrameLengthFlag, got.Samples == 960)
			require.Equal(t, peer.ExtensionSampleRate, got.SBRSampleRate)
		})
	}
}

func TestBadConfigs(t *testing.T) {
	for name, c := range map[string]struct {
		config   string
		reason   fault.Reason
		sentence string
	}{
		"nothing":                  {"", fault.BadMedia, "the AAC configuration cannot be read"},
		"one byte":                 {"11", fault.BadMedia, "cannot be read"},
		"reserved rate":            {"1690", fault.BadMedia, "cannot be read"},
		"rate 0":                   {rateOf(0), fault.BadMedia, "cannot be read"},
		"rate too high":            {rateOf(192001), fault.BadMedia, "cannot be read"},
		"reserved channels":        {"11c0", fault.BadMedia, "cannot be read"},
		"program config cut":       {"1180", fault.BadMedia, "cannot be read"},
		"program without channels": {"1180" + "00000000000000000000", fault.BadMedia, "cannot be read"},
		"rates do not fit":         {"2b8a8800", fault.BadMedia, "do not fit"},
		"ER AAC-LD":                {"b990", fault.UnsupportedCodec, "AAC of object type 23 cannot be carried; set the encoder to AAC-LC or HE-AAC"},
		"xHE-AAC":                  {"f94640", fault.UnsupportedCodec, "object type 42"},
		"object type 0":            {"0190", fault.UnsupportedCodec, "object type 0"},
		"too long":                 {hex.EncodeToString(make([]byte, MaxConfig+1)), fault.BadMedia, "longer than 1024 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Track(unhex(c.config))
			require.Equal(t, c.reason, fault.ReasonOf(err))
			require.Contains(t, err.Error(), c.sentence)
		})
	}
	_, err := (&Config{ObjectType: LC, SampleRate: 48000, Channels: 6}).Append(nil)
	require.Equal(t, fault.UnsupportedLayout, fault.ReasonOf(err))
}

// FuzzConfig: what is read is written and read as the same.
func FuzzConfig(f *testing.F) {
	for _, c := range cases {
		f.Add(unhex(c.config))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			require.NotEmpty(t, fault.ReasonOf(err))
			return
		}
		a := c.Audio()
		require.Positive(t, a.SampleRate)
		require.Positive(t, a.Channels)
		require.Positive(t, a.FrameSamples)
		out, err := c.Append(nil)
		if c.ChannelConfig == 0 {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		again, err := ParseConfig(out)
		require.NoError(t, err)
		require.Equal(t, c, again)
	})
}
