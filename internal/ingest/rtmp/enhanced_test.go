package rtmp

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec"
	"github.com/klive-media/klive/internal/media/codec/clips"
	"github.com/klive-media/klive/internal/rtmp/amf"
	"github.com/klive-media/klive/internal/rtmp/flv"
	"github.com/klive-media/klive/internal/rtmp/message"
)

func allClips(t testing.TB) []clips.Clip {
	cs, err := clips.All()
	require.NoError(t, err)
	return cs
}

func clipOf(t testing.TB, name string) *clips.Clip {
	for _, c := range allClips(t) {
		if c.Name == name {
			return &c
		}
	}
	t.Fatal("no clip " + name)
	return nil
}

// identification is the header of Ogg that stands for a dOps box (RFC 7845
// section 5.1): senders of Opus write it.
func identification(dOps []byte) []byte {
	b := append([]byte("OpusHead\x01"), dOps[1:]...)
	for _, swap := range [][2]int{{10, 12}, {12, 16}, {16, 18}} {
		for i, j := swap[0], swap[1]-1; i < j; i, j = i+1, j-1 {
			b[i], b[j] = b[j], b[i]
		}
	}
	return b
}

// wireTime is a time of a clip in milliseconds, rounded like encoders do.
func wireTime(c *clips.Clip, ticks int64) int64 {
	return media.FromTicks(ticks, c.Scale).Round(time.Millisecond).Milliseconds()
}

// sender writes a clip as an encoder sends it over Enhanced RTMP.
type sender struct {
	clip   *clips.Clip
	layout flv.Layout
	id     uint8
}

func (s sender) fourCC() flv.FourCC {
	return flv.FourCC(binary.BigEndian.Uint32([]byte(s.clip.Codec.Info().FourCC)))
}

func (s sender) message(stamp int64, p flv.PacketType, composition int64, key bool, body []byte) message.Message {
	m := message.Message{StreamID: 1, Timestamp: uint32(stamp)} //nolint:gosec // a clip lasts seconds
	f := s.fourCC()
	if s.clip.Codec.Kind() == media.Audio {
		h := flv.Audio{Packet: p, FourCC: f, Layout: s.layout}
		m.Type, m.Payload = message.TypeAudio, flv.AppendEnhancedAudio(nil, h)
		if s.layout != flv.NoTracks {
			m.Payload = flv.AppendAudioTrack(m.Payload, h, s.id, f, body)
			return m
		}
	} else {
		h := flv.Video{Frame: flv.FrameInter, Packet: p, FourCC: f, Layout: s.layout, CompositionTime: int32(composition)} //nolint:gosec // below a second
		if key {
			h.Frame = flv.FrameKey
		}
		m.Type, m.Payload = message.TypeVideo, flv.AppendEnhancedVideo(nil, h)
		if s.layout != flv.NoTracks {
			m.Payload = flv.AppendVideoTrack(m.Payload, h, s.id, f, body)
			return m
		}
	}
	m.Payload = append(m.Payload, body...)
	return m
}

// all is the whole clip, configuration first.
func (s sender) all() []message.Message {
	var out []message.Message
	switch c := s.clip; c.Codec {
	case media.Opus:
		out = append(out, s.message(0, flv.PacketConfig, 0, true, identification(c.Config)))
	case media.FLAC: // the marker and the blocks
		out = append(out, s.message(0, flv.PacketConfig, 0, true, append([]byte("fLaC"), c.Config[4:]...)))
	case media.VP9: // the record without the version of its box
		out = append(out, s.message(0, flv.PacketConfig, 0, true, c.Config[4:]))
	case media.AC3, media.EAC3, media.MP3: // they have none
	default:
		out = append(out, s.message(0, flv.PacketConfig, 0, true, c.Config))
	}
	for _, x := range s.clip.Samples {
		body := x.Payload
		if s.clip.Codec == media.AV1 {
			body = append([]byte{0x12, 0}, body...) // a temporal delimiter
		}
		p, dts := flv.PacketFrames, wireTime(s.clip, x.DTS)
		composition := wireTime(s.clip, x.DTS+x.Offset) - dts
		if composition == 0 && s.clip.Codec == media.HEVC {
			p = flv.PacketFramesX
		}
		out = append(out, s.message(dts, p, composition, x.Key, body))
	}
	return out
}

// TestEveryCodecByFourCC sends what ffmpeg made of every codec, and gets it
// back as it was.
func TestEveryCodecByFourCC(t *testing.T) {
	for _, c := range allClips(t) {
		t.Run(c.Name, func(t *testing.T) {
			p, bad, err := demux(sender{clip: &c}.all())
			require.NoError(t, err)
			require.Zero(t, bad)
			require.NotEmpty(t, p.announced)
			require.Equal(t, c.CodecString, p.announced[len(p.announced)-1][0].CodecString)
			require.Len(t, p.packets, len(c.Samples))
			for i, q := range p.packets {
				x := c.Samples[i]
				require.Equal(t, x.Key, q.Flags.Has(media.Key), "packet %d", i)
				require.Equal(t, wireTime(&c, x.DTS), q.DTS.Milliseconds())
				require.Equal(t, wireTime(&c, x.DTS+x.Offset), q.PTS.Milliseconds())
				if c.Name != "hdr" { // repeats its parameter sets in the pictures
					require.True(t, bytes.Equal(x.Payload, q.Payload), "packet %d", i)
				}
				if c.Codec.Kind() == media.Audio && i < len(c.Samples)-1 {
					require.Equal(t, media.FromTicks(x.Duration, c.Scale), q.Duration)
				}
			}
		})
	}
}

func TestEnhancedPacketsAllocateNothing(t *testing.T) {
	for _, c := range allClips(t) {
		t.Run(c.Name, func(t *testing.T) {
			p := &discard{}
			now := time.Now()
			d := newDemuxer(p, new(media.Slab), now, func(err error) { t.Error(err) })
			ms := sender{clip: &c}.all()
			if p.n == 0 {
				for i := range ms {
					require.NoError(t, d.message(&ms[i], now))
				}
			}
			frames := ms[1:]
			require.Zero(t, testing.AllocsPerRun(10, func() {
				for i := range frames {
					if d.message(&frames[i], now) != nil {
						t.Fatal("a frame was refused")
					}
				}
			}))
			require.Positive(t, p.n)
		})
	}
}

func TestConfigurationThatTheStreamCorrects(t *testing.T) {
	// SVT-AV1's configuration does not fit its stream. Some senders repeat it.
	c := clipOf(t, "svtav1")
	s := sender{clip: c}
	ms := s.all()
	ms = append(ms, ms[0], ms[1])
	p, bad, err := demux(ms)
	require.NoError(t, err)
	require.Zero(t, bad)
	require.Len(t, p.announced, 1, "nothing was announced before the first picture corrected it")
	require.Len(t, p.packets, len(c.Samples)+1)

	// One without a sequence header waits for it.
	ms = s.all()
	ms[0] = s.message(0, flv.PacketConfig, 0, true, c.Config[:4])
	p, _, err = demux(ms)
	require.NoError(t, err)
	require.Equal(t, "video 0 av01.0.00M.08 160x90", showTracks(p.announced[0]))
	require.Len(t, p.packets, len(c.Samples))
}

func TestCodecChangesInMidStream(t *testing.T) {
	hevc, vp9 := sender{clip: clipOf(t, "hevc")}.all(), sender{clip: clipOf(t, "vp9")}.all()
	ac3, opus := sender{clip: clipOf(t, "ac3")}.all(), sender{clip: clipOf(t, "opus")}.all()
	var in []message.Message
	for _, ms := range [][]message.Message{{videoConfig(avcSmall), keyFrame(0)}, hevc[:3], vp9[:3], ac3[:2], opus[:3]} {
		in = append(in, ms...)
	}
	p, bad, err := demux(in)
	require.NoError(t, err)
	require.Zero(t, bad)
	var names []string
	for _, q := range p.packets {
		name := q.Track.Codec.String()
		if q.Flags.Has(media.NewConfig) {
			name += " new"
		}
		names = append(names, name)
	}
	require.Equal(t, []string{"H.264", "HEVC new", "HEVC", "VP9 new", "VP9", "AC-3", "AC-3", "Opus new", "Opus"}, names)
}

func TestNanosecondOffset(t *testing.T) {
	c := clipOf(t, "opus")
	s := sender{clip: c}
	body := append(flv.AppendEnhancedAudio(nil, flv.Audio{Packet: flv.PacketFrames, FourCC: flv.FourCCOpus, NanoOffset: 333_333}), c.Samples[0].Payload...)
	p, _, err := demux([]message.Message{s.all()[0], {Type: message.TypeAudio, Timestamp: 20, Payload: body}})
	require.NoError(t, err)
	require.Equal(t, 20*time.Millisecond+333_333*time.Nanosecond, p.packets[0].DTS)
}

func colorInfo(t testing.TB, values ...amf.Value) message.Message {
	b, err := amf.Append(flv.AppendEnhancedVideo(nil, flv.Video{Frame: flv.FrameCommand, Packet: flv.PacketMetadata, FourCC: flv.FourCCHEVC}), values...)
	require.NoError(t, err)
	return message.Message{Type: message.TypeVideo, Payload: b}
}

func TestColorInfo(t *testing.T) {
	object := func(numbers map[string]float64) (o amf.Object) {
		for k, v := range numbers {
			o = append(o, amf.Property{Name: k, Value: v})
		}
		return o
	}
	hdr := amf.Object{
		{Name: "colorConfig", Value: object(map[string]float64{"bitDepth": 10, "colorPrimaries": 9, "transferCharacteristics": 16, "matrixCoefficients": 9})},
		{Name: "hdrCll", Value: object(map[string]float64{"maxFall": 400, "maxCLL": 1000})},
		{Name: "hdrMdcv", Value: object(map[string]float64{"redX": 0.68, "redY": 0.32, "greenX": 0.265, "greenY": 0.69, "blueX": 0.15, "blueY": 0.06,
			"whitePointX": 0.3127, "whitePointY": 0.329, "maxLuminance": 1000, "minLuminance": 0.005})},
	}
	want := media.Color{Primaries: 9, Transfer: media.TransferPQ, Matrix: 9, MaxCLL: 1000, MaxFALL: 400, Mastering: media.Mastering{
		Red: [2]uint16{34000, 16000}, Green: [2]uint16{13250, 34500}, Blue: [2]uint16{7500, 3000}, White: [2]uint16{15635, 16450},
		MaxLuminance: 10_000_000, MinLuminance: 50}}
	ms := sender{clip: clipOf(t, "hevc")}.all()

	// As encoders send it: between the configuration and the first picture.
	p, bad, err := demux([]message.Message{ms[0], colorInfo(t, "colorInfo", hdr), ms[1], colorInfo(t, "colorInfo", hdr), ms[2]})
	require.NoError(t, err)
	require.Zero(t, bad)
	require.Len(t, p.announced, 1)
	require.Equal(t, want, p.announced[0][0].Video.Color)

	// Taken back in mid-stream, with things beside it that nobody knows.
	p, bad, err = demux([]message.Message{colorInfo(t, "colorInfo", hdr), ms[0], ms[1], colorInfo(t, "other", 1.0, "colorInfo", amf.Undefined{}), ms[2]})
	require.NoError(t, err)
	require.Zero(t, bad)
	require.Len(t, p.announced, 2)
	require.Equal(t, media.Color{}, p.announced[1][0].Video.Color)
	require.True(t, p.packets[1].Flags.Has(media.NewConfig))

	// Nonsense.
	wrong := amf.Object{{Name: "hdrCll", Value: object(map[string]float64{"maxCLL": 1e300, "maxFall": -1})}, {Name: "hdrMdcv", Value: 5.0}}
	p, bad, err = demux([]message.Message{ms[0], colorInfo(t, "colorInfo", wrong), colorInfo(t, "colorInfo"),
		{Type: message.TypeVideo, Payload: []byte("\xd4hvc1\x02\xff\xff")},
		{Type: message.TypeVideo, Payload: append([]byte("\xd4hvc1"), make([]byte, maxVideoMetadata+1)...)}, ms[1]})
	require.NoError(t, err)
	require.Equal(t, 2, bad)
	require.Equal(t, media.Color{}, p.announced[0][0].Video.Color)
}

func TestTrackMetadata(t *testing.T) {
	m := onMetaData(t, amf.Property{Name: "videocodecid", Value: float64(flv.FourCCHEVC)}, amf.Property{Name: "audiodatarate", Value: 128.0},
		amf.Property{Name: "audioTrackIdInfoMap", Value: amf.Object{
			{Name: "0", Value: amf.Object{{Name: "language", Value: "en"}}},
			{Name: "1", Value: amf.Object{{Name: "lang", Value: "de-CH"}, {Name: "audiodatarate", Value: 96.0}}},
			{Name: "2", Value: amf.Object{{Name: "language", Value: "x\"y"}}},
			{Name: "300", Value: amf.Object{}}, {Name: "a", Value: 5.0},
		}})
	d, err := message.ParseData(&m)
	require.NoError(t, err)
	meta := readMetadata(&d)
	require.True(t, meta.video)
	require.Equal(t, hint{bitrate: 128_000, language: "en"}, meta.hint(media.Audio, 0))
	require.Equal(t, hint{bitrate: 96_000, language: "de-CH"}, meta.hint(media.Audio, 1))
	require.Equal(t, hint{}, meta.hint(media.Audio, 2))
	require.Equal(t, hint{}, meta.hint(media.Video, 200))
	require.NotNil(t, codec.FormatOf(media.HEVC))
}

func TestParameterSetsInsideHEVC(t *testing.T) {
	small, other := clipOf(t, "hevc"), clipOf(t, "hdr") // the other repeats its parameter sets before each key frame
	ms := sender{clip: small}.all()
	ms = append(ms[:3], sender{clip: other}.all()[1:3]...)
	p, bad, err := demux(ms)
	require.NoError(t, err)
	require.Zero(t, bad)
	require.Len(t, p.announced, 2)
	require.Equal(t, other.CodecString, p.announced[1][0].CodecString)
	require.EqualValues(t, media.TransferPQ, p.announced[1][0].Video.Color.Transfer)
	require.True(t, p.packets[2].Flags.Has(media.NewConfig|media.Key))
	require.False(t, p.packets[3].Flags.Has(media.NewConfig))
}
