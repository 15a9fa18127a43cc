package h264

import (
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media/codec/bits"
)

// MaxParameterSet bounds a parameter set; the configuration record counts its
// length in 16 bits.
const MaxParameterSet = 1<<16 - 1

// maxMacroblocks bounds width and height: 16384 pixels.
const maxMacroblocks = 1024

// maxFrameRate is what a frame rate must not be above to be believed.
const maxFrameRate = 1000

// UnknownReorder is SPS.Reorder when the parameter set does not say.
const UnknownReorder = -1

// SPS is what is read of a sequence parameter set (H.264 §7.3.2.1.1).
type SPS struct {
	ID                    int
	Profile, Flags, Level uint8 // profile_idc, the constraint flags' byte, level_idc
	ChromaFormat          int   // 0 monochrome, 1 4:2:0, 2 4:2:2, 3 4:4:4
	BitDepthLuma          int
	BitDepthChroma        int
	Width, Height         int // pixels, cropped
	Interlaced            bool
	RefFrames             int
	// SARNum and SARDen are the sample aspect ratio; 0 when not said.
	SARNum, SARDen int
	// FrameRate in frames per second; 0 when not said or not believed.
	FrameRate float64
	// Reorder is how many frames can stand before one in decoding order and
	// behind it in showing order: 0 means no B-frames; or UnknownReorder.
	Reorder int
}

// ParseSPS reads a sequence parameter set NAL unit, header byte included. A
// usability information (VUI) that cannot be read is taken as absent: it says
// nothing that decoding needs, and encoders get it wrong. Errors are
// fault.BadMedia.
func ParseSPS(nal []byte) (SPS, error) {
	if len(nal) < 4 || len(nal) > MaxParameterSet || typeOf(nal) != NALSPS {
		return SPS{}, fault.New(fault.BadMedia, "the H.264 stream's sequence parameter set (SPS) is not one; restart the encoder")
	}
	r := bits.NewNALReader(nal[1:])
	s := SPS{Profile: uint8(r.U(8)), Flags: uint8(r.U(8)), Level: uint8(r.U(8)), Reorder: UnknownReorder} //nolint:gosec // 8 bits
	s.ID = int(r.UE(31))
	s.readFormat(&r)
	r.UE(12) // log2_max_frame_num_minus4
	s.readOrder(&r)
	s.RefFrames = int(r.UE(16))
	r.Skip(1) // gaps_in_frame_num_value_allowed_flag
	s.readSize(&r)
	if err := r.Err(); err != nil {
		return SPS{}, fault.New(fault.BadMedia, "the H.264 stream's sequence parameter set (SPS) cannot be read; restart the encoder").Because(err)
	}
	if s.Width <= 0 || s.Height <= 0 {
		return SPS{}, fault.New(fault.BadMedia, "the H.264 stream's picture is cropped to nothing; check the encoder's picture size")
	}
	if s.Profile == 66 { // Baseline has no B-frames
		s.Reorder = 0
	}
	if r.Flag() {
		s.readVUI(r)
	}
	return s, nil
}

// hasFormat: the profiles whose parameter sets say chroma format and bit depth.
func hasFormat(profile uint8) bool {
	switch profile {
	case 100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135:
		return true
	}
	return false
}

func (s *SPS) readFormat(r *bits.Reader) {
	s.ChromaFormat, s.BitDepthLuma, s.BitDepthChroma = 1, 8, 8
	if !hasFormat(s.Profile) {
		return
	}
	s.ChromaFormat = int(r.UE(3))
	if s.ChromaFormat == 3 && r.Flag() { // separate_colour_plane_flag: each plane is coded like monochrome
		s.ChromaFormat = separatePlanes
	}
	s.BitDepthLuma = 8 + int(r.UE(6))
	s.BitDepthChroma = 8 + int(r.UE(6))
	r.Skip(1) // qpprime_y_zero_transform_bypass_flag
	if !r.Flag() {
		return
	}
	lists := 8
	if s.ChromaFormat >= 3 {
		lists = 12
	}
	for i := range lists {
		if !r.Flag() {
			continue
		}
		if i < 6 {
			skipScalingList(r, 16)
		} else {
			skipScalingList(r, 64)
		}
	}
}

// separatePlanes stands for chroma_format_idc 3 with three separate planes
// while the size is read.
const separatePlanes = 4

// skipScalingList is scaling_list() of §7.3.2.1.1.1.
func skipScalingList(r *bits.Reader, size int) {
	last, next := 8, 8
	for range size {
		if next != 0 {
			next = (last + int(r.SE(128)) + 256) % 256
		}
		if next != 0 {
			last = next
		}
	}
}

// readOrder reads the picture order count, whose type 2 means that pictures
// are shown in the order in which they are coded.
func (s *SPS) readOrder(r *bits.Reader) {
	switch r.UE(2) {
	case 0:
		r.UE(12) // log2_max_pic_order_cnt_lsb_minus4
	case 1:
		r.Skip(1)       // delta_pic_order_always_zero_flag
		r.SE(1<<31 - 1) // offset_for_non_ref_pic
		r.SE(1<<31 - 1) // offset_for_top_to_bottom_field
		for range r.UE(255) {
			r.SE(1<<31 - 1) // offset_for_ref_frame
		}
	case 2:
		s.Reorder = 0
	}
}

func (s *SPS) readSize(r *bits.Reader) {
	width := 16 * (1 + int(r.UE(maxMacroblocks-1)))
	rows := 1 + int(r.UE(maxMacroblocks-1))
	fields := 1
	if !r.Flag() { // frame_mbs_only_flag
		s.Interlaced, fields = true, 2
		r.Skip(1) // mb_adaptive_frame_field_flag
	}
	height := 16 * rows * fields
	r.Skip(1) // direct_8x8_inference_flag
	unitX, unitY := 1, fields
	switch s.ChromaFormat { // table 6-1
	case 1:
		unitX, unitY = 2, 2*fields
	case 2:
		unitX = 2
	case separatePlanes:
		s.ChromaFormat = 3
	}
	if r.Flag() { // frame_cropping_flag
		const most = 16 * maxMacroblocks
		width -= unitX * int(r.UE(most)+r.UE(most))
		height -= unitY * int(r.UE(most)+r.UE(most))
	}
	s.Width, s.Height = width, height
}
