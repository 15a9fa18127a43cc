// Package flv reads and writes the tag headers that begin RTMP audio and video
// messages (Adobe Flash Video File Format 10.1, annex E.4.2 and E.4.3), and
// the Enhanced RTMP headers that name a codec by FourCC, hold several tracks
// and modify the timestamp (veovera.org, Enhanced RTMP v1 and v2, ExVideoTag
// and ExAudioTag).
//
// Video and Audio are the types to read first.
package flv

import "github.com/klive-media/klive/internal/fault"

// VideoCodec is the legacy codec id of a video tag.
type VideoCodec uint8

// The legacy video codec ids that are seen today. HEVC was never assigned one
// by Adobe; some encoders send it as 12.
const (
	VideoSorenson VideoCodec = 2
	VideoScreen   VideoCodec = 3
	VideoVP6      VideoCodec = 4
	VideoVP6Alpha VideoCodec = 5
	VideoScreen2  VideoCodec = 6
	VideoAVC      VideoCodec = 7
	VideoHEVC     VideoCodec = 12
)

var videoNames = map[VideoCodec]string{
	VideoSorenson: "Sorenson H.263", VideoScreen: "Screen video", VideoVP6: "VP6", VideoVP6Alpha: "VP6 with alpha",
	VideoScreen2: "Screen video 2", VideoAVC: "H.264", VideoHEVC: "HEVC",
}

// String is the codec's usual name.
func (c VideoCodec) String() string { return nameOr(videoNames, c) }

// AudioCodec is the sound format of an audio tag.
type AudioCodec uint8

// The legacy sound formats.
const (
	AudioPCM       AudioCodec = 0
	AudioADPCM     AudioCodec = 1
	AudioMP3       AudioCodec = 2
	AudioPCMLittle AudioCodec = 3
	AudioNelly16k  AudioCodec = 4
	AudioNelly8k   AudioCodec = 5
	AudioNelly     AudioCodec = 6
	AudioALaw      AudioCodec = 7
	AudioMuLaw     AudioCodec = 8
	audioExtended  AudioCodec = 9 // Enhanced RTMP v2: a FourCC follows
	AudioAAC       AudioCodec = 10
	AudioSpeex     AudioCodec = 11
	AudioMP3Slow   AudioCodec = 14
)

var audioNames = map[AudioCodec]string{
	AudioPCM: "PCM", AudioADPCM: "ADPCM", AudioMP3: "MP3", AudioPCMLittle: "PCM", AudioNelly16k: "Nellymoser",
	AudioNelly8k: "Nellymoser", AudioNelly: "Nellymoser", AudioALaw: "G.711 A-law", AudioMuLaw: "G.711 mu-law",
	AudioAAC: "AAC", AudioSpeex: "Speex", AudioMP3Slow: "MP3",
}

// String is the codec's usual name.
func (c AudioCodec) String() string { return nameOr(audioNames, c) }

// FourCC names a codec in Enhanced RTMP as four ASCII characters; 0 means that
// the header is a legacy one.
type FourCC uint32

// The FourCCs of Enhanced RTMP v1 and v2.
const (
	FourCCHEVC FourCC = 'h'<<24 | 'v'<<16 | 'c'<<8 | '1'
	FourCCAV1  FourCC = 'a'<<24 | 'v'<<16 | '0'<<8 | '1'
	FourCCVP9  FourCC = 'v'<<24 | 'p'<<16 | '0'<<8 | '9'
	FourCCVP8  FourCC = 'v'<<24 | 'p'<<16 | '0'<<8 | '8'
	FourCCAVC  FourCC = 'a'<<24 | 'v'<<16 | 'c'<<8 | '1'
	FourCCOpus FourCC = 'O'<<24 | 'p'<<16 | 'u'<<8 | 's'
	FourCCFLAC FourCC = 'f'<<24 | 'L'<<16 | 'a'<<8 | 'C'
	FourCCAC3  FourCC = 'a'<<24 | 'c'<<16 | '-'<<8 | '3'
	FourCCEAC3 FourCC = 'e'<<24 | 'c'<<16 | '-'<<8 | '3'
	FourCCMP3  FourCC = '.'<<24 | 'm'<<16 | 'p'<<8 | '3'
	FourCCAAC  FourCC = 'm'<<24 | 'p'<<16 | '4'<<8 | 'a'
)

var fourCCNames = map[FourCC]string{
	FourCCHEVC: "HEVC", FourCCAV1: "AV1", FourCCVP9: "VP9", FourCCVP8: "VP8", FourCCAVC: "H.264", FourCCOpus: "Opus",
	FourCCFLAC: "FLAC", FourCCAC3: "AC-3", FourCCEAC3: "E-AC-3", FourCCMP3: "MP3", FourCCAAC: "AAC",
}

// String is the codec's usual name, or the four characters with everything
// that is not printable ASCII replaced.
func (f FourCC) String() string {
	if name, ok := fourCCNames[f]; ok {
		return name
	}
	b := [fourCCSize]byte{byte(f >> 24), byte(f >> 16), byte(f >> 8), byte(f)}
	for i, c := range b {
		if c <= ' ' || c > '~' || c == '"' {
			b[i] = '?'
		}
	}
	return string(b[:])
}

// FrameType says what a video tag is needed for (annex E.4.3.1).
type FrameType uint8

// The frame types.
const (
	FrameKey        FrameType = 1
	FrameInter      FrameType = 2
	FrameDisposable FrameType = 3
	FrameGenerated  FrameType = 4
	FrameCommand    FrameType = 5 // a seek mark for players; no picture
)

// PacketType says what is in the body. The legacy AVC values 0 to 2 and the
// first three of Enhanced RTMP mean the same.
type PacketType uint8

// The packet types.
const (
	PacketConfig       PacketType = 0 // a sequence header: avcC, AudioSpecificConfig
	PacketFrames       PacketType = 1
	PacketEnd          PacketType = 2 // end of sequence; no body
	PacketFramesX      PacketType = 3 // Enhanced: frames without a composition time
	PacketMetadata     PacketType = 4 // Enhanced, video: colour metadata
	PacketMultichannel PacketType = 4 // Enhanced v2, audio: where the speakers stand
	PacketMPEG2TS      PacketType = 5 // Enhanced, video: a sequence start as MPEG-2 TS
	PacketMulti        PacketType = 6 // Enhanced v2, video: several tracks
	AudioMulti         PacketType = 5 // Enhanced v2, audio: several tracks
	PacketModEx        PacketType = 7 // Enhanced v2: modifiers of the header
)

// Video is the header of a video message.
type Video struct {
	Frame    FrameType
	Codec    VideoCodec // 0 when Enhanced
	Enhanced bool
	// FourCC is set for Enhanced RTMP headers; it stays 0 where every track has
	// its own (ManyCodecs).
	FourCC FourCC
	// Packet is what the body is, of multitrack messages what that of each track
	// is; never PacketMulti nor PacketModEx.
	Packet PacketType
	// CompositionTime is PTS − DTS in milliseconds, a signed 24-bit number. In
	// multitrack messages it stands with each track.
	CompositionTime int32
	// NanoOffset is to be added to the message's timestamp, in nanoseconds.
	NanoOffset uint32
	// Layout says how tracks stand in the body.
	Layout Layout
}

// Audio is the header of an audio message.
type Audio struct {
	Codec    AudioCodec // 0 when Enhanced
	Enhanced bool
	// FourCC, Packet, NanoOffset and Layout are as in Video; Packet is never
	// AudioMulti nor PacketModEx.
	FourCC     FourCC
	Packet     PacketType
	NanoOffset uint32
	Layout     Layout
	// Rate, Bits and Stereo are what the legacy header says; for AAC they are
	// constants, and the AudioSpecificConfig counts.
	Rate   uint8 // 0 to 3: 5.5, 11, 22, 44 kHz
	Bits16 bool
	Stereo bool
}

func tooShort(kind string, n int) error {
	return fault.New(fault.BadMedia, "an RTMP %s message of %d bytes ends inside its header", kind, n)
}

func nameOr[K ~uint8](names map[K]string, k K) string {
	if n, ok := names[k]; ok {
		return n
	}
	return "codec " + string("0123456789"[k/10%10]) + string("0123456789"[k%10])
}
