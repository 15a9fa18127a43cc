package flv

const (
	// enhancedVideo in the first byte says that a FourCC header follows.
	enhancedVideo = 0x80
	// avcHeader is the size of a legacy AVC header: frame type and codec, packet
	// type, composition time.
	avcHeader = 5
	aacHeader = 2
)

// ParseVideo reads the header of a video message and returns the body behind
// it, a view of b. An empty message has no header: the caller drops it first.
// For codecs other than AVC and HEVC the header is one byte.
func ParseVideo(b []byte) (Video, []byte, error) {
	if len(b) == 0 {
		return Video{}, nil, tooShort("video", 0)
	}
	if b[0]&enhancedVideo != 0 {
		return parseEnhancedVideo(b)
	}
	v := Video{Frame: FrameType(b[0] >> 4), Codec: VideoCodec(b[0] & 0x0f), Packet: PacketFrames}
	if v.Frame == FrameCommand || v.Codec != VideoAVC && v.Codec != VideoHEVC {
		return v, b[1:], nil
	}
	if len(b) < avcHeader {
		// The end of a sequence is sent without a composition time by some.
		if len(b) >= 2 && PacketType(b[1]) == PacketEnd {
			v.Packet = PacketEnd
			return v, nil, nil
		}
		return v, nil, tooShort("video", len(b))
	}
	v.Packet, v.CompositionTime = PacketType(b[1]), int24(b[2:])
	return v, b[avcHeader:], nil
}

// IsAVC reports whether b is a legacy message of AVC with a whole header that
// is not a command: the one that nearly all encoders send. Its fields are
// SplitAVC's.
func IsAVC(b []byte) bool {
	return len(b) >= avcHeader && b[0]&0x8f == byte(VideoAVC) && FrameType(b[0]>>4) != FrameCommand
}

// SplitAVC reads a message of which IsAVC is true: what ParseVideo says of it,
// without the fields that it does not have.
func SplitAVC(b []byte) (frame FrameType, packet PacketType, composition int32, body []byte) {
	return FrameType(b[0] >> 4), PacketType(b[1]), int24(b[2:]), b[avcHeader:]
}

// IsAAC reports whether b is a legacy message of AAC with a whole header. The
// second byte is its packet type, and the body stands behind.
func IsAAC(b []byte) bool { return len(b) >= aacHeader && AudioCodec(b[0]>>4) == AudioAAC }

// SplitAAC reads a message of which IsAAC is true.
func SplitAAC(b []byte) (packet PacketType, body []byte) {
	return PacketType(b[1]), b[aacHeader:]
}

// ParseAudio reads the header of an audio message and returns the body behind
// it, a view of b.
func ParseAudio(b []byte) (Audio, []byte, error) {
	if len(b) == 0 {
		return Audio{}, nil, tooShort("audio", 0)
	}
	codec := AudioCodec(b[0] >> 4)
	if codec == audioExtended {
		return parseEnhancedAudio(b)
	}
	a := Audio{Codec: codec, Packet: PacketFrames, Rate: b[0] >> 2 & 3, Bits16: b[0]&2 != 0, Stereo: b[0]&1 != 0}
	if codec != AudioAAC {
		return a, b[1:], nil
	}
	if len(b) < aacHeader {
		return a, nil, tooShort("audio", len(b))
	}
	a.Packet = PacketType(b[1])
	return a, b[aacHeader:], nil
}

// AppendVideo appends the legacy header of v, which must be AVC, to b.
func AppendVideo(b []byte, v Video) []byte {
	t := v.CompositionTime
	return append(b, byte(v.Frame)<<4|byte(v.Codec), byte(v.Packet), byte(t>>16), byte(t>>8), byte(t))
}

// AppendAudio appends the legacy header of a to b. For AAC the sound bits are
// the constants annex E.4.2.1 asks for.
func AppendAudio(b []byte, a Audio) []byte {
	if a.Codec == AudioAAC {
		return append(b, byte(AudioAAC)<<4|3<<2|2|1, byte(a.Packet))
	}
	first := byte(a.Codec)<<4 | a.Rate<<2
	if a.Bits16 {
		first |= 2
	}
	if a.Stereo {
		first |= 1
	}
	return append(b, first)
}

// int24 reads a signed 24-bit number.
func int24(b []byte) int32 {
	return int32(uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8) >> 8 //nolint:gosec // sign extension
}
