package hevc

import (
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/bits"
)

const (
	// maxSize bounds width and height in pixels.
	maxSize = 16384
	// maxFrameRate is what a frame rate must not be above to be believed.
	maxFrameRate = 1000
	// maxDeltaPocs bounds the pictures of a reference picture set (H.265 §7.4.8).
	maxDeltaPocs = 16
)

// Profile is the general part of profile_tier_level() (H.265 §7.3.3).
type Profile struct {
	Space         uint8  // general_profile_space
	HighTier      bool   // general_tier_flag
	IDC           uint8  // general_profile_idc
	Compatibility uint32 // general_profile_compatibility_flags, the first in the highest bit
	Constraints   uint64 // the 48 bits of constraint flags
	Level         uint8  // general_level_idc: 30 times the level
}

// append appends the 12 bytes as parameter sets and configurations hold them.
func (p *Profile) append(dst []byte) []byte {
	first := p.Space<<6 | p.IDC
	if p.HighTier {
		first |= 0x20
	}
	c, k := p.Compatibility, p.Constraints
	return append(dst, first, byte(c>>24), byte(c>>16), byte(c>>8), byte(c),
		byte(k>>40), byte(k>>32), byte(k>>24), byte(k>>16), byte(k>>8), byte(k), p.Level)
}

// SPS is what is read of a sequence parameter set (H.265 §7.3.2.2).
type SPS struct {
	ID              int
	Profile         Profile
	TemporalLayers  int // 1 to 7
	TemporalNesting bool
	ChromaFormat    int // 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4
	BitDepthLuma    int
	BitDepthChroma  int
	Width, Height   int // pixels, cropped
	// SARNum and SARDen are the sample aspect ratio; 0 when not said.
	SARNum, SARDen int
	// FrameRate in frames per second; 0 when not said or not believed.
	FrameRate float64
	Color     media.Color
}

// ParseSPS reads a sequence parameter set NAL unit, header included. Usability
// information (VUI) that cannot be read is taken as absent: it says nothing
// that decoding needs. Errors are fault.BadMedia.
func ParseSPS(nal []byte) (SPS, error) {
	if len(nal) <= headSize || len(nal) > MaxParameterSet || typeOf(nal) != NALSPS {
		return SPS{}, fault.New(fault.BadMedia, "the HEVC stream's sequence parameter set (SPS) is not one; restart the encoder")
	}
	r := bits.NewNALReader(nal[headSize:])
	var s SPS
	r.U(4) // sps_video_parameter_set_id
	layers := int(r.U(3))
	s.TemporalLayers = layers + 1
	s.TemporalNesting = r.Flag()
	s.Profile = readProfile(&r, layers)
	s.ID = int(r.UE(15))
	s.readPicture(&r)
	s.readCoding(&r, layers)
	if err := r.Err(); err != nil {
		return SPS{}, fault.New(fault.BadMedia, "the HEVC stream's sequence parameter set (SPS) cannot be read; restart the encoder").Because(err)
	}
	if s.Width <= 0 || s.Height <= 0 {
		return SPS{}, fault.New(fault.BadMedia, "the HEVC stream's picture is cropped to nothing; check the encoder's picture size")
	}
	s.readTools(r)
	return s, nil
}

// readProfile is profile_tier_level(1, layers).
func readProfile(r *bits.Reader, layers int) Profile {
	p := Profile{Space: uint8(r.U(2)), HighTier: r.Flag(), IDC: uint8(r.U(5)), Compatibility: r.U(32)} //nolint:gosec // few bits
	p.Constraints = uint64(r.U(24))<<24 | uint64(r.U(24))
	p.Level = uint8(r.U(8)) //nolint:gosec // 8 bits
	var profile, level [8]bool
	for i := range layers {
		profile[i], level[i] = r.Flag(), r.Flag()
	}
	if layers > 0 {
		r.Skip(2 * (8 - layers))
	}
	for i := range layers {
		if profile[i] {
			r.Skip(88)
		}
		if level[i] {
			r.Skip(8)
		}
	}
	return p
}

// readPicture reads format and size.
func (s *SPS) readPicture(r *bits.Reader) {
	s.ChromaFormat = int(r.UE(3))
	separate := s.ChromaFormat == 3 && r.Flag() // each plane is coded like monochrome
	s.Width, s.Height = int(r.UE(maxSize)), int(r.UE(maxSize))
	if !r.Flag() { // conformance_window_flag
		return
	}
	unitX, unitY := 1, 1 // table 6-1
	if !separate && (s.ChromaFormat == 1 || s.ChromaFormat == 2) {
		unitX = 2
	}
	if s.ChromaFormat == 1 {
		unitY = 2
	}
	s.Width -= unitX * int(r.UE(maxSize)+r.UE(maxSize))
	s.Height -= unitY * int(r.UE(maxSize)+r.UE(maxSize))
}

// readCoding reads bit depths and the sizes of blocks.
func (s *SPS) readCoding(r *bits.Reader, layers int) {
	s.BitDepthLuma = 8 + int(r.UE(7))
	s.BitDepthChroma = 8 + int(r.UE(7))
	order := r.UE(12) + 4 // bits of a picture order count
	first := layers
	if r.Flag() { // sps_sub_layer_ordering_info_present_flag
		first = 0
	}
	for range layers - first + 1 {
		r.UE(16)
		r.UE(16)
		r.UE(1<<32 - 2)
	}
	for range 6 { // block sizes and hierarchy depths
		r.UE(16)
	}
	if r.Flag() { // scaling_list_enabled_flag
		if r.Flag() { // sps_scaling_list_data_present_flag
			skipScalingLists(r)
		}
	}
	r.Skip(2)     // amp_enabled_flag, sample_adaptive_offset_enabled_flag
	if r.Flag() { // pcm_enabled_flag
		r.Skip(8)
		r.UE(16)
		r.UE(16)
		r.Skip(1)
	}
	skipReferenceSets(r)
	if r.Flag() { // long_term_ref_pics_present_flag
		for range r.UE(32) {
			r.Skip(int(order) + 1)
		}
	}
}

// skipScalingLists is scaling_list_data() (§7.3.4).
func skipScalingLists(r *bits.Reader) {
	for size := range 4 {
		step := 1
		if size == 3 {
			step = 3
		}
		for m := 0; m < 6; m += step {
			if !r.Flag() { // scaling_list_pred_mode_flag
				r.UE(6)
				continue
			}
			if size > 1 {
				r.SE(256)
			}
			for range min(64, 1<<(4+size<<1)) {
				r.SE(256)
			}
		}
	}
}

// skipReferenceSets leaves out the short-term reference picture sets (§7.3.7),
// whose lengths depend on those before.
func skipReferenceSets(r *bits.Reader) {
	pictures := 0 // of the set before
	for i := range r.UE(64) {
		if i > 0 && r.Flag() { // inter_ref_pic_set_prediction_flag
			r.Skip(1)
			r.UE(1<<15 - 1)
			n := 0
			for range pictures + 1 {
				used := r.Flag() // used_by_curr_pic_flag
				if !used {
					used = r.Flag() // use_delta_flag
				}
				if used {
					n++
				}
			}
			pictures = n
		} else {
			negative := r.UE(maxDeltaPocs)
			pictures = int(negative + r.UE(maxDeltaPocs))
			for range pictures {
				r.UE(1<<15 - 1)
				r.Skip(1)
			}
		}
		if pictures > maxDeltaPocs {
			r.Fail(bits.ErrRange)
		}
		if r.Err() != nil {
			return
		}
	}
}
