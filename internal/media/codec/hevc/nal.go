// Package hevc reads what a server needs of HEVC (ITU-T H.265, ISO/IEC
// 23008-2) and of its file format (ISO/IEC 14496-15 §8): configuration
// records, parameter sets and the NAL units of an access unit.
//
// Track is the function to read first: it turns the configuration a sender
// gives into a media.Track. NormalizePayload is the one called for every
// packet.
package hevc

// NALType is nal_unit_type (H.265 table 7-1).
type NALType uint8

// The types of NAL units that are told apart. Those below NALBLA are pictures
// that decoding cannot start with; of these, the even ones up to
// maxNonReference are not referred to by their own sub-layer.
const (
	NALBLA       NALType = 16 // BLA_W_LP, the first random access picture
	NALIDR       NALType = 19 // IDR_W_RADL
	NALIDRNoLead NALType = 20 // IDR_N_LP
	NALCRA       NALType = 21
	NALVPS       NALType = 32
	NALSPS       NALType = 33
	NALPPS       NALType = 34
	NALDelimiter NALType = 35
	NALFiller    NALType = 38
	NALPrefixSEI NALType = 39
	NALSuffixSEI NALType = 40

	maxNonReference NALType = 14
	lastSlice       NALType = 31
)

// headSize is the size of a NAL unit header (H.265 §7.3.1.2).
const headSize = 2

// typeOf is the type of a NAL unit that is not empty.
func typeOf(nal []byte) NALType { return NALType(nal[0] >> 1 & 0x3f) }

// temporalID is the sub-layer of a NAL unit with a whole header.
func temporalID(nal []byte) int { return int(nal[1]&7) - 1 }

// isParameterSet: the file format keeps it in the configuration.
func (t NALType) isParameterSet() bool { return t >= NALVPS && t <= NALPPS }

// isRandomAccess: decoding can start with this picture (IRAP).
func (t NALType) isRandomAccess() bool { return t >= NALBLA && t <= NALCRA }

// isSurplus: an 'hvc1' sample does not hold it (14496-15 §8.3.2), or it says
// nothing, or it is too short to be a NAL unit.
func isSurplus(nal []byte) bool {
	t := typeOf(nal)
	return len(nal) < headSize || t.isParameterSet() || t == NALDelimiter || t == NALFiller
}
