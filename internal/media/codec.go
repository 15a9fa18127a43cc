package media

// Codec names how a track is coded. What is known of each stands in one table;
// adding a codec is adding a row.
type Codec uint8

// The codecs.
const (
	UnknownCodec Codec = iota
	H264
	HEVC
	AV1
	VP8
	VP9
	AAC
	Opus
	MP3
	AC3
	FLAC
	// AMF0 is a data track whose payload is an RTMP data message: AMF0 values,
	// the first a string that names it (onMetaData, onTextData, onCuePoint, …).
	AMF0
	// ID3 is a data track of timed ID3v2 tags.
	ID3
	// SCTE35 is a data track of splice information sections.
	SCTE35
	// EAC3 is Dolby Digital Plus.
	EAC3
)

// CodecInfo is a row of the codec table. What a codec's bytes mean stands in
// its room below codec, and package codec binds the two.
type CodecInfo struct {
	Name string
	Kind Kind
	// SampleEntry is the ISO-BMFF sample entry type, and ConfigBox the box in it
	// that holds Track.Config; both are "" when the codec is not carried in fMP4.
	SampleEntry, ConfigBox string
	// FourCC names the codec in Enhanced RTMP; "" when it has no name there.
	FourCC string
	// AllKey: every packet can be decoded alone.
	AllKey bool
}

var codecs = [...]CodecInfo{
	UnknownCodec: {Name: "unknown"},
	H264:         {Name: "H.264", Kind: Video, SampleEntry: "avc1", ConfigBox: "avcC", FourCC: "avc1"},
	HEVC:         {Name: "HEVC", Kind: Video, SampleEntry: "hvc1", ConfigBox: "hvcC", FourCC: "hvc1"},
	AV1:          {Name: "AV1", Kind: Video, SampleEntry: "av01", ConfigBox: "av1C", FourCC: "av01"},
	VP8:          {Name: "VP8", Kind: Video, FourCC: "vp08"},
	VP9:          {Name: "VP9", Kind: Video, SampleEntry: "vp09", ConfigBox: "vpcC", FourCC: "vp09"},
	AAC:          {Name: "AAC", Kind: Audio, SampleEntry: "mp4a", ConfigBox: "esds", FourCC: "mp4a", AllKey: true},
	Opus:         {Name: "Opus", Kind: Audio, SampleEntry: "Opus", ConfigBox: "dOps", FourCC: "Opus", AllKey: true},
	MP3:          {Name: "MP3", Kind: Audio, SampleEntry: "mp4a", ConfigBox: "esds", FourCC: ".mp3", AllKey: true},
	AC3:          {Name: "AC-3", Kind: Audio, SampleEntry: "ac-3", ConfigBox: "dac3", FourCC: "ac-3", AllKey: true},
	FLAC:         {Name: "FLAC", Kind: Audio, SampleEntry: "fLaC", ConfigBox: "dfLa", FourCC: "fLaC", AllKey: true},
	AMF0:         {Name: "AMF0 data", Kind: Data, AllKey: true},
	ID3:          {Name: "ID3", Kind: Data, AllKey: true},
	SCTE35:       {Name: "SCTE-35", Kind: Data, AllKey: true},
	EAC3:         {Name: "E-AC-3", Kind: Audio, SampleEntry: "ec-3", ConfigBox: "dec3", FourCC: "ec-3", AllKey: true},
}

// CodecByFourCC finds the codec that Enhanced RTMP names so, the first
// character in the highest byte; UnknownCodec when there is none.
func CodecByFourCC(f uint32) Codec {
	b := [4]byte{byte(f >> 24), byte(f >> 16), byte(f >> 8), byte(f)}
	for c := range codecs {
		if codecs[c].FourCC == string(b[:]) {
			return Codec(c) //nolint:gosec // an index of the table
		}
	}
	return UnknownCodec
}

// Info is the codec's row.
func (c Codec) Info() CodecInfo {
	if int(c) < len(codecs) {
		return codecs[c]
	}
	return codecs[UnknownCodec]
}

// Kind is what the codec carries.
func (c Codec) Kind() Kind { return c.Info().Kind }

// String is the codec's usual name.
func (c Codec) String() string { return c.Info().Name }
