package h264

import (
	"encoding/binary"
	"encoding/hex"
	"strings"

	"github.com/klive-media/klive/internal/media"
)

// sample is a configuration record as libx264 164 and ffmpeg 5.1 make it, and
// what ffprobe says of the stream.
type sample struct {
	made  string // ffmpeg -f lavfi -i testsrc2=size=…:rate=… -frames:v 6 -c:v libx264 …
	avcC  string
	codec string
	video media.VideoInfo
	sps   SPS // what is not in video
}

var samples = []sample{
	{
		made:  "64x64 30 -profile:v baseline -preset ultrafast",
		avcC:  "0142c00affe100166742c00ada109b0110000003001000000303c0f1226a01000468ce0fc8",
		codec: "avc1.42c00a",
		video: media.VideoInfo{Width: 64, Height: 64, SARNum: 1, SARDen: 1, FrameRate: 30},
		sps:   SPS{Profile: 66, Flags: 0xc0, Level: 10, ChromaFormat: 1, BitDepthLuma: 8, BitDepthChroma: 8, RefFrames: 1},
	}, {
		made:  "320x180 25 -profile:v main -bf 2",
		avcC:  "014d400cffe10019674d400ceca0a0cfcf80880000030008000003019078a14cb001000568ebe3cb20",
		codec: "avc1.4d400c",
		video: media.VideoInfo{Width: 320, Height: 180, SARNum: 1, SARDen: 1, FrameRate: 25},
		sps:   SPS{Profile: 77, Flags: 0x40, Level: 12, ChromaFormat: 1, BitDepthLuma: 8, BitDepthChroma: 8, RefFrames: 4, Reorder: 2},
	}, {
		made:  "1920x1080 60000/1001 -profile:v high -bf 3 -preset veryfast",
		avcC:  "0164002affe100196764002aacd940780227e5c04400000fa4000753003c60c65801000468ef8fcbfdf8f800",
		codec: "avc1.64002a",
		video: media.VideoInfo{Width: 1920, Height: 1080, SARNum: 1, SARDen: 1, FrameRate: 60000.0 / 1001},
		sps:   SPS{Profile: 100, Level: 42, ChromaFormat: 1, BitDepthLuma: 8, BitDepthChroma: 8, RefFrames: 4, Reorder: 2},
	}, {
		made:  "640x360 30 -profile:v high -bf 0 -tune zerolatency",
		avcC:  "0164001effe1001a6764001eacb201405ff2e022000003000200000300791e2c5c9001000668ebc3cb22c0fdf8f800",
		codec: "avc1.64001e",
		video: media.VideoInfo{Width: 640, Height: 360, SARNum: 1, SARDen: 1, FrameRate: 30},
		sps:   SPS{Profile: 100, Level: 30, ChromaFormat: 1, BitDepthLuma: 8, BitDepthChroma: 8, RefFrames: 3, Reorder: 0},
	}, {
		made:  "128x96 50 -profile:v high422 -bf 1 -pix_fmt yuv422p",
		avcC:  "017a000bffe10018677a000bbce40836c044000003000400000301903c50a44801000668ebe3cb22c0fef8f800",
		codec: "avc1.7a000b",
		video: media.VideoInfo{Width: 128, Height: 96, SARNum: 1, SARDen: 1, FrameRate: 50},
		sps:   SPS{Profile: 122, Level: 11, ChromaFormat: 2, BitDepthLuma: 8, BitDepthChroma: 8, RefFrames: 3, Reorder: 1},
	}, {
		made:  "98x50 24 -profile:v high444 -bf 1 -pix_fmt yuv444p",
		avcC:  "01f4000affe1001a67f4000a919c8393c7c7e022000003000200000300601e244a2401000668ebe3c44844fff8f800",
		codec: "avc1.f4000a",
		video: media.VideoInfo{Width: 98, Height: 50, SARNum: 1, SARDen: 1, FrameRate: 24},
		sps:   SPS{Profile: 244, Level: 10, ChromaFormat: 3, BitDepthLuma: 8, BitDepthChroma: 8, RefFrames: 3, Reorder: 1},
	}, {
		made:  "720x576 25 -vf setsar=16/11 -profile:v high -flags +ildct+ilme",
		avcC:  "0164001effe100186764001eacd940b424d8208000000300800000190f8a14cb01000668fba3cb22c0fdf8f800",
		codec: "avc1.64001e",
		video: media.VideoInfo{Width: 720, Height: 576, SARNum: 16, SARDen: 11, FrameRate: 25},
		sps:   SPS{Profile: 100, Level: 30, ChromaFormat: 1, BitDepthLuma: 8, BitDepthChroma: 8, RefFrames: 4, Reorder: 2, Interlaced: true},
	},
}

// Access units of a black 16x16 picture with an open GOP, of
// ffmpeg … -x264-params open-gop=1:keyint=4:min-keyint=1:bframes=1:b-adapt=0:aud=1:repeat-headers=1.
const (
	openSPS    = "6764000aacedec0440000003004000000c83c4894e"
	openPPS    = "68ef8fcb"
	openIDR    = "0910 " + openSPS + " " + openPPS + " 65888400cfd2781eefed539470313ff9"
	openP      = "0930 419a286219fffee0"
	openB      = "0950 019e4510afc481"
	openKey    = "0910 " + openSPS + " " + openPPS + " 060601c480 418894037fd6781efff4379dd773fff8"
	refreshSEI = "0606017180" // of … -x264-params intra-refresh=1:keyint=10
)

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// units puts NAL units, in hex and apart by blanks, behind lengths of size
// bytes. "-" is an empty one.
func units(size int, hexUnits string) (payload []byte) {
	for _, u := range strings.Fields(hexUnits) {
		nal := unhex(strings.Trim(u, "-"))
		var length [4]byte
		binary.BigEndian.PutUint32(length[:], uint32(len(nal)))
		payload = append(payload, length[4-size:]...)
		payload = append(payload, nal...)
	}
	return payload
}
