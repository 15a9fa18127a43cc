package flv

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
)

var videoCases = []struct {
	name, in string
	want     Video
	body     string
	reason   fault.Reason
}{
	{name: "AVC configuration", in: "\x17\x00\x00\x00\x00avcC", body: "avcC",
		want: Video{Frame: FrameKey, Codec: VideoAVC, Packet: PacketConfig}},
	{name: "AVC frame", in: "\x27\x01\x00\x00\x21nal", body: "nal",
		want: Video{Frame: FrameInter, Codec: VideoAVC, Packet: PacketFrames, CompositionTime: 33}},
	{name: "AVC frame, negative composition time", in: "\x27\x01\xff\xff\xdfnal", body: "nal",
		want: Video{Frame: FrameInter, Codec: VideoAVC, Packet: PacketFrames, CompositionTime: -33}},
	{name: "AVC frame without a body", in: "\x27\x01\x00\x00\x00",
		want: Video{Frame: FrameInter, Codec: VideoAVC, Packet: PacketFrames}},
	{name: "end of sequence", in: "\x17\x02\x00\x00\x00", want: Video{Frame: FrameKey, Codec: VideoAVC, Packet: PacketEnd}},
	{name: "short end of sequence", in: "\x17\x02", want: Video{Frame: FrameKey, Codec: VideoAVC, Packet: PacketEnd}},
	{name: "HEVC as 12", in: "\x1c\x00\x00\x00\x00hvcC", body: "hvcC",
		want: Video{Frame: FrameKey, Codec: VideoHEVC, Packet: PacketConfig}},
	{name: "VP6", in: "\x14abc", body: "abc", want: Video{Frame: FrameKey, Codec: VideoVP6, Packet: PacketFrames}},
	{name: "seek command", in: "\x57\x00", body: "\x00", want: Video{Frame: FrameCommand, Codec: VideoAVC, Packet: PacketFrames}},
	{name: "enhanced HEVC configuration", in: "\x90hvc1hvcC", body: "hvcC",
		want: Video{Frame: FrameKey, FourCC: FourCCHEVC, Enhanced: true, Packet: PacketConfig}},
	{name: "enhanced HEVC frame", in: "\xa1hvc1\x00\x00\x21nal", body: "nal",
		want: Video{Frame: FrameInter, FourCC: FourCCHEVC, Enhanced: true, Packet: PacketFrames, CompositionTime: 33}},
	{name: "enhanced HEVC frame without composition time", in: "\xa3hvc1nal", body: "nal",
		want: Video{Frame: FrameInter, FourCC: FourCCHEVC, Enhanced: true, Packet: PacketFramesX}},
	{name: "enhanced AV1 frame", in: "\x91av01obu", body: "obu",
		want: Video{Frame: FrameKey, FourCC: FourCCAV1, Enhanced: true, Packet: PacketFrames}},
	{name: "enhanced VP9 configuration", in: "\x90vp09vpcC", body: "vpcC",
		want: Video{Frame: FrameKey, FourCC: FourCCVP9, Enhanced: true, Packet: PacketConfig}},
	{name: "enhanced metadata", in: "\xd4hvc1amf", body: "amf", want: Video{Frame: FrameCommand, FourCC: FourCCHEVC, Enhanced: true, Packet: PacketMetadata}},
	{name: "enhanced seek command", in: "\xd1\x00", want: Video{Frame: FrameCommand, Enhanced: true, Packet: PacketFrames}},
	{name: "enhanced one track", in: "\x96\x00avc1\x07avcC", body: "\x07avcC",
		want: Video{Frame: FrameKey, FourCC: FourCCAVC, Enhanced: true, Packet: PacketConfig, Layout: OneTrack}},
	{name: "enhanced many tracks", in: "\xa6\x11hvc1\x00\x00\x00\x04\x00\x00\x21a", body: "\x00\x00\x00\x04\x00\x00\x21a",
		want: Video{Frame: FrameInter, FourCC: FourCCHEVC, Enhanced: true, Packet: PacketFrames, Layout: ManyTracks}},
	{name: "enhanced many codecs", in: "\x96\x20avc1\x00\x00\x00\x01a", body: "avc1\x00\x00\x00\x01a",
		want: Video{Frame: FrameKey, Enhanced: true, Packet: PacketConfig, Layout: ManyCodecs}},
	{name: "nanoseconds", in: "\xa7\x02\x07\xa1\x20\x03hvc1nal", body: "nal",
		want: Video{Frame: FrameInter, FourCC: FourCCHEVC, Enhanced: true, Packet: PacketFramesX, NanoOffset: 500_000}},
	{name: "too many nanoseconds", in: "\xa7\x02\xff\xff\xff\x03hvc1nal", body: "nal",
		want: Video{Frame: FrameInter, FourCC: FourCCHEVC, Enhanced: true, Packet: PacketFramesX, NanoOffset: 999_999}},
	{name: "an unknown modifier and a known one", in: "\xa7\x00\x55\xf7\x02\x00\x00\x01\x03hvc1nal", body: "nal",
		want: Video{Frame: FrameInter, FourCC: FourCCHEVC, Enhanced: true, Packet: PacketFramesX, NanoOffset: 1}},
	{name: "a long modifier", in: "\xa7\xff\x00\x03abcd\xf3hvc1nal", body: "nal",
		want: Video{Frame: FrameInter, FourCC: FourCCHEVC, Enhanced: true, Packet: PacketFramesX}},
	{name: "modifiers without end", in: "\xa7" + strings.Repeat("\x00\x55\xf7", 100), reason: fault.BadMedia},
	{name: "a modifier that is cut", in: "\xa7\x05\x00\x00", reason: fault.BadMedia},
	{name: "a long modifier that is cut", in: "\xa7\xff\x00", reason: fault.BadMedia},
	{name: "multitrack in multitrack", in: "\x96\x06avc1", reason: fault.BadMedia},
	{name: "an unknown layout", in: "\x96\x31avc1", reason: fault.BadMedia},
	{name: "multitrack cut", in: "\x96", reason: fault.BadMedia},
	{name: "nothing", reason: fault.BadMedia},
	{name: "AVC cut", in: "\x17\x01\x00\x00", reason: fault.BadMedia},
	{name: "enhanced cut in the FourCC", in: "\x90hvc", reason: fault.BadMedia},
	{name: "enhanced cut in the composition time", in: "\x91hvc1\x00\x00", reason: fault.BadMedia},
}

var audioCases = []struct {
	name, in string
	want     Audio
	body     string
	reason   fault.Reason
}{
	{name: "AAC configuration", in: "\xaf\x00\x12\x10", body: "\x12\x10",
		want: Audio{Codec: AudioAAC, Packet: PacketConfig, Rate: 3, Bits16: true, Stereo: true}},
	{name: "AAC frame", in: "\xaf\x01raw", body: "raw",
		want: Audio{Codec: AudioAAC, Packet: PacketFrames, Rate: 3, Bits16: true, Stereo: true}},
	{name: "MP3", in: "\x2emp3", body: "mp3", want: Audio{Codec: AudioMP3, Packet: PacketFrames, Rate: 3, Bits16: true}},
	{name: "Speex", in: "\xb2spx", body: "spx", want: Audio{Codec: AudioSpeex, Packet: PacketFrames, Bits16: true}},
	{name: "enhanced Opus", in: "\x91Opusraw", body: "raw", want: Audio{FourCC: FourCCOpus, Enhanced: true, Packet: PacketFrames}},
	{name: "enhanced one track", in: "\x95\x00Opus\x01head", body: "\x01head",
		want: Audio{FourCC: FourCCOpus, Enhanced: true, Packet: PacketConfig, Layout: OneTrack}},
	{name: "enhanced many codecs", in: "\x95\x21Opus\x01\x00\x00\x01a", body: "Opus\x01\x00\x00\x01a",
		want: Audio{Enhanced: true, Packet: PacketFrames, Layout: ManyCodecs}},
	{name: "nanoseconds", in: "\x97\x02\x00\x00\x07\x01ac-3raw", body: "raw",
		want: Audio{FourCC: FourCCAC3, Enhanced: true, Packet: PacketFrames, NanoOffset: 7}},
	{name: "multichannel configuration", in: "\x94Opus\x01\x06", body: "\x01\x06", want: Audio{FourCC: FourCCOpus, Enhanced: true, Packet: PacketMultichannel}},
	{name: "nothing", reason: fault.BadMedia},
	{name: "AAC cut", in: "\xaf", reason: fault.BadMedia},
	{name: "enhanced cut", in: "\x90Opu", reason: fault.BadMedia},
}

func TestParseVideo(t *testing.T) {
	for _, tc := range videoCases {
		t.Run(tc.name, func(t *testing.T) {
			got, body, err := ParseVideo([]byte(tc.in))
			require.Equal(t, tc.reason, fault.ReasonOf(err))
			if err == nil {
				require.Equal(t, tc.want, got)
				require.Equal(t, tc.body, string(body))
			}
		})
	}
}

func TestParseAudio(t *testing.T) {
	for _, tc := range audioCases {
		t.Run(tc.name, func(t *testing.T) {
			got, body, err := ParseAudio([]byte(tc.in))
			require.Equal(t, tc.reason, fault.ReasonOf(err))
			if err == nil {
				require.Equal(t, tc.want, got)
				require.Equal(t, tc.body, string(body))
			}
		})
	}
}

func TestNames(t *testing.T) {
	require.Equal(t, "HEVC", FourCCHEVC.String())
	require.Equal(t, "x?y?", FourCC('x'<<24|7<<16|'y'<<8|0xff).String())
	require.Equal(t, "Sorenson H.263", VideoSorenson.String())
	require.Equal(t, "codec 13", VideoCodec(13).String())
	require.Equal(t, "Speex", AudioSpeex.String())
	require.Equal(t, "codec 09", audioExtended.String())
}

func FuzzVideo(f *testing.F) {
	for _, tc := range videoCases {
		f.Add([]byte(tc.in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, body, err := ParseVideo(in)
		if IsAVC(in) {
			frame, packet, composition, rest := SplitAVC(in)
			require.NoError(t, err)
			require.Equal(t, Video{Codec: VideoAVC, Frame: frame, Packet: packet, CompositionTime: composition}, v)
			require.Equal(t, body, rest)
		}
		if err == nil && v.Enhanced && (v.Frame != FrameCommand || v.Packet == PacketMetadata) {
			again, rest, err := ParseVideo(append(AppendEnhancedVideo(nil, v), body...))
			require.NoError(t, err)
			require.Equal(t, v, again)
			require.Equal(t, string(body), string(rest))
			walk(t, NewTracks(v.Layout, v.FourCC, body), len(body))
		}
		if err != nil || v.Enhanced || v.Codec != VideoAVC || v.Frame == FrameCommand || len(in) < avcHeader {
			return
		}
		require.Equal(t, in, append(AppendVideo(nil, v), body...))
	})
}

func FuzzAudio(f *testing.F) {
	for _, tc := range audioCases {
		f.Add([]byte(tc.in))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		a, body, err := ParseAudio(in)
		if IsAAC(in) {
			packet, rest := SplitAAC(in)
			require.NoError(t, err)
			require.Equal(t, AudioAAC, a.Codec)
			require.Equal(t, packet, a.Packet)
			require.Equal(t, body, rest)
		}
		if err == nil && a.Enhanced {
			again, rest, err := ParseAudio(append(AppendEnhancedAudio(nil, a), body...))
			require.NoError(t, err)
			require.Equal(t, a, again)
			require.Equal(t, string(body), string(rest))
			walk(t, NewTracks(a.Layout, a.FourCC, body), len(body))
		}
		if err != nil || a.Enhanced {
			return
		}
		if a.Codec == AudioAAC {
			in[0] = 0xaf // the sound bits are constants
		}
		require.Equal(t, in, append(AppendAudio(nil, a), body...))
	})
}

// walk goes to the end of a message's tracks.
func walk(t *testing.T, w Tracks, size int) {
	var tr Track
	for n := 0; ; n++ {
		require.LessOrEqual(t, n, size+1)
		if more, err := w.Next(&tr); err != nil || !more {
			return
		}
		size -= len(tr.Body)
		require.GreaterOrEqual(t, size, 0, "tracks do not overlap")
	}
}

func TestTracks(t *testing.T) {
	v := Video{Enhanced: true, Frame: FrameInter, Packet: PacketFrames, FourCC: FourCCHEVC, CompositionTime: 40}
	type track struct {
		id   uint8
		f    FourCC
		body string
		time int32
	}
	for _, tc := range []struct {
		layout Layout
		tracks []track
	}{
		{NoTracks, []track{{0, FourCCHEVC, "picture", 40}}},
		{OneTrack, []track{{3, FourCCHEVC, "picture", 40}}},
		{ManyTracks, []track{{0, FourCCHEVC, "a", 40}, {1, FourCCHEVC, "", 40}, {200, FourCCHEVC, "ccc", 40}}},
		{ManyCodecs, []track{{0, FourCCAV1, "a", 0}, {1, FourCCAVC, "bb", 40}}},
		{ManyTracks, nil},
	} {
		v.Layout = tc.layout
		b := AppendEnhancedVideo(nil, v)
		for _, tr := range tc.tracks {
			if tc.layout == NoTracks {
				b = append(b, tr.body...)
				continue
			}
			b = AppendVideoTrack(b, v, tr.id, tr.f, []byte(tr.body))
		}
		h, body, err := ParseVideo(b)
		require.NoError(t, err)
		var got []track
		w := NewTracks(h.Layout, h.FourCC, body)
		var tr Track
		for more, err := w.Next(&tr); more; more, err = w.Next(&tr) {
			require.NoError(t, err)
			own, body, err := tr.VideoBody(h)
			require.NoError(t, err)
			got = append(got, track{tr.ID, tr.FourCC, string(body), own.CompositionTime})
		}
		require.Equal(t, tc.tracks, got)
	}
	for _, tc := range []struct {
		layout Layout
		body   string
	}{{OneTrack, ""}, {ManyTracks, "\x00"}, {ManyTracks, "\x00\x00\x00\x02a"}, {ManyCodecs, "avc"}, {ManyCodecs, "avc1"}} {
		w := NewTracks(tc.layout, FourCCAVC, []byte(tc.body))
		_, err := w.Next(new(Track))
		require.Equal(t, fault.BadMedia, fault.ReasonOf(err))
	}
}
