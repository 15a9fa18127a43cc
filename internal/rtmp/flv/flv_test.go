package flv

import (
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
	{name: "enhanced multitrack", in: "\x96\x00avc1", body: "\x00avc1", want: Video{Frame: FrameKey, Enhanced: true, Packet: PacketMulti}},
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
	{name: "enhanced multitrack", in: "\x95\x00", body: "\x00", want: Audio{Enhanced: true, Packet: AudioMulti}},
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
		if err != nil || a.Enhanced {
			return
		}
		if a.Codec == AudioAAC {
			in[0] = 0xaf // the sound bits are constants
		}
		require.Equal(t, in, append(AppendAudio(nil, a), body...))
	})
}
