package av1

import (
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/bits"
)

const (
	maxSize      = 1 << 16 // frame_width_bits_minus_1 allows no more
	maxFrameRate = 1000
)

// Indices of H.273 that the colour configuration tests for.
const (
	primariesBT709 = 1
	transferSRGB   = 13
	matrixIdentity = 0
)

// Sequence is what is read of a sequence header (§5.5).
type Sequence struct {
	Profile, Level uint8 // seq_profile, seq_level_idx of the first operating point
	HighTier       bool
	BitDepth       int // 8, 10 or 12
	Monochrome     bool
	SubX, SubY     bool // subsampling_x, subsampling_y
	ChromaPosition uint8
	Width, Height  int     // pixels, the largest of a frame
	FrameRate      float64 // frames per second; 0 when not said or not believed
	Color          media.Color
	described      bool // there is a colour description
}

// ParseSequence reads the body of a sequence header. Errors are
// fault.BadMedia.
func ParseSequence(b []byte) (Sequence, error) {
	r := bits.NewReader(b)
	s := Sequence{Profile: uint8(r.U(3))} //nolint:gosec // 3 bits
	r.Skip(1)                             // still_picture
	reduced := r.Flag()
	if reduced {
		s.Level = uint8(r.U(5)) //nolint:gosec // 5 bits
	} else {
		s.readOperation(&r)
	}
	w, h := int(r.U(4))+1, int(r.U(4))+1
	s.Width, s.Height = int(r.U(w))+1, int(r.U(h))+1
	if !reduced && r.Flag() { // frame_id_numbers_present_flag
		r.Skip(4 + 3)
	}
	r.Skip(3) // use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter
	if !reduced {
		readTools(&r)
	}
	r.Skip(3) // enable_superres, enable_cdef, enable_restoration
	s.readColor(&r)
	r.Skip(1) // film_grain_params_present
	if err := r.Err(); err != nil {
		return Sequence{}, fault.New(fault.BadMedia, "the AV1 stream's sequence header cannot be read; restart the encoder").Because(err)
	}
	return s, nil
}

// readOperation reads timing and operating points.
func (s *Sequence) readOperation(r *bits.Reader) {
	model, delayBits := false, 0
	if r.Flag() { // timing_info_present_flag
		tick, scale := r.U(32), r.U(32)
		if r.Flag() { // equal_picture_interval
			if ticks := r.UE(1<<32 - 2); tick > 0 {
				if rate := float64(scale) / float64(tick) / (float64(ticks) + 1); rate <= maxFrameRate {
					s.FrameRate = rate
				}
			}
		}
		if model = r.Flag(); model {
			delayBits = int(r.U(5)) + 1
			r.Skip(32 + 5 + 5)
		}
	}
	display := r.Flag() // initial_display_delay_present_flag
	for i := range int(r.U(5)) + 1 {
		r.Skip(12) // operating_point_idc
		level := uint8(r.U(5))
		high := level > 7 && r.Flag()
		if i == 0 {
			s.Level, s.HighTier = level, high
		}
		if model && r.Flag() {
			r.Skip(2*delayBits + 1)
		}
		if display && r.Flag() {
			r.Skip(4)
		}
		if r.Err() != nil {
			return
		}
	}
}

// readTools reads the coding tools of a sequence that is not reduced.
func readTools(r *bits.Reader) {
	r.Skip(4)         // enable_interintra_compound … enable_dual_filter
	order := r.Flag() // enable_order_hint
	if order {
		r.Skip(2)
	}
	screen := uint32(2)
	if !r.Flag() { // seq_choose_screen_content_tools
		screen = r.U(1)
	}
	if screen > 0 && !r.Flag() { // seq_choose_integer_mv
		r.Skip(1)
	}
	if order {
		r.Skip(3)
	}
}

// readColor is color_config() (§5.5.2).
func (s *Sequence) readColor(r *bits.Reader) {
	s.BitDepth = 8
	if r.Flag() { // high_bitdepth
		s.BitDepth = 10
		if s.Profile == 2 && r.Flag() { // twelve_bit
			s.BitDepth = 12
		}
	}
	s.Monochrome = s.Profile != 1 && r.Flag()
	primaries, transfer, matrix := uint8(2), uint8(2), uint8(2)
	if s.described = r.Flag(); s.described {
		primaries, transfer, matrix = uint8(r.U(8)), uint8(r.U(8)), uint8(r.U(8)) //nolint:gosec // 8 bits
	}
	var full bool
	switch {
	case s.Monochrome:
		full = r.Flag()
		s.SubX, s.SubY = true, true
	case primaries == primariesBT709 && transfer == transferSRGB && matrix == matrixIdentity:
		full = true
	default:
		full = r.Flag()
		switch {
		case s.Profile == 0:
			s.SubX, s.SubY = true, true
		case s.Profile == 1:
		case s.BitDepth == 12:
			s.SubX = r.Flag()
			s.SubY = s.SubX && r.Flag()
		default:
			s.SubX = true
		}
		if s.SubX && s.SubY {
			s.ChromaPosition = uint8(r.U(2)) //nolint:gosec // 2 bits
		}
	}
	if !s.Monochrome {
		r.Skip(1) // separate_uv_delta_q
	}
	if s.described {
		s.Color = media.NewColor(primaries, transfer, matrix, full)
	}
}
