package ts

import (
	"fmt"

	"golang.org/x/text/language"

	"github.com/klive-media/klive/internal/media"
)

// format is how an elementary stream is coded and framed.
type format uint8

// The formats. What is not here is left alone, as an encoder's subtitles and
// private data are; sound and picture that are not carried are refused.
const (
	formatOther format = iota
	formatH264
	formatHEVC
	formatADTS
	formatLATM
	formatMPEGAudio
	formatAC3 // and E-AC-3: the frames tell which
	formatOpus
	formatID3
	formatSCTE35
	formatUnknownVideo
	formatUnknownAudio
)

// kind is what a format carries.
func (f format) kind() media.Kind {
	switch f {
	case formatH264, formatHEVC, formatUnknownVideo:
		return media.Video
	case formatADTS, formatLATM, formatMPEGAudio, formatAC3, formatOpus, formatUnknownAudio:
		return media.Audio
	case formatID3, formatSCTE35:
		return media.Data
	}
	return media.UnknownKind
}

// carried reports whether tracks are made of the format.
func (f format) carried() bool {
	return f != formatOther && f != formatUnknownVideo && f != formatUnknownAudio
}

// streamTypes is what of stream_type (13818-1 table 2-34, ATSC A/53 and
// SCTE 35 for those from 0x80) needs no descriptor to be understood.
var streamTypes = map[uint8]struct {
	format format
	name   string
}{
	0x01: {formatUnknownVideo, "MPEG-1 video"},
	0x02: {formatUnknownVideo, "MPEG-2 video"},
	0x03: {formatMPEGAudio, "MPEG-1 audio"},
	0x04: {formatMPEGAudio, "MPEG-2 audio"},
	0x0f: {formatADTS, "AAC"},
	0x10: {formatUnknownVideo, "MPEG-4 part 2 video"},
	0x11: {formatLATM, "AAC"},
	0x1b: {formatH264, "H.264"},
	0x24: {formatHEVC, "HEVC"},
	0x33: {formatUnknownVideo, "VVC"},
	0x42: {formatUnknownVideo, "AVS"},
	0x81: {formatAC3, "AC-3"},
	0x87: {formatAC3, "E-AC-3"},
	0x86: {formatSCTE35, "SCTE-35"},
	0xd1: {formatUnknownVideo, "Dirac"},
	0xea: {formatUnknownVideo, "VC-1"},
}

// The stream types whose descriptors say what they are.
const (
	typePrivate  = 0x06 // PES with private data
	typeMetadata = 0x15 // metadata in PES
)

// formatOf tells the format of an elementary stream of a PMT.
func formatOf(streamType uint8, descriptors []byte) format {
	switch streamType {
	case typePrivate:
		switch {
		case registered(descriptors, "Opus"):
			return formatOpus
		case descriptor(descriptors, tagAC3) != nil, descriptor(descriptors, tagEAC3) != nil,
			registered(descriptors, "AC-3"), registered(descriptors, "EAC3"):
			return formatAC3
		case registered(descriptors, "HEVC"):
			return formatHEVC
		case registered(descriptors, "AV01"):
			return formatUnknownVideo
		case registered(descriptors, "BSSD"), registered(descriptors, "DTS1"), registered(descriptors, "DTS2"):
			return formatUnknownAudio
		case holdsID3(descriptors):
			return formatID3
		}
		return formatOther
	case typeMetadata:
		if holdsID3(descriptors) {
			return formatID3
		}
		return formatOther
	}
	return streamTypes[streamType].format
}

// nameOf is the name of an elementary stream's codec in a message.
func nameOf(e *elementary) string {
	if row, ok := streamTypes[e.streamType]; ok {
		return row.name
	}
	if d := descriptor(e.descriptors, tagRegistration); len(d) >= 4 {
		return fmt.Sprintf("%q", d[:4])
	}
	return fmt.Sprintf("of stream type 0x%02x", e.streamType)
}

// bibliographic are the codes of ISO 639-2/B that differ from 639-2/T, which
// is what language tags know.
var bibliographic = map[string]string{
	"alb": "sqi", "arm": "hye", "baq": "eus", "bur": "mya", "chi": "zho", "cze": "ces", "dut": "nld", "fre": "fra",
	"geo": "kat", "ger": "deu", "gre": "ell", "ice": "isl", "mac": "mkd", "mao": "mri", "may": "msa", "per": "fas",
	"rum": "ron", "slo": "slk", "tib": "bod", "wel": "cym",
}

// languageOf is the RFC 5646 tag of an ISO 639 language descriptor (13818-1
// §2.6.18); "" when there is none or it says nothing.
func languageOf(descriptors []byte) string {
	d := descriptor(descriptors, tagLanguage)
	if len(d) < 3 {
		return ""
	}
	code := string(d[:3])
	if t, ok := bibliographic[code]; ok {
		code = t
	}
	base, err := language.ParseBase(code)
	if err != nil || base.String() == "und" {
		return ""
	}
	return base.String()
}
