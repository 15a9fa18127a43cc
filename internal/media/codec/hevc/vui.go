package hevc

import (
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/bits"
)

// sampleAspects is table E.1, from aspect_ratio_idc 1.
var sampleAspects = [...][2]int{
	{1, 1}, {12, 11}, {10, 11}, {16, 11}, {40, 33}, {24, 11}, {20, 11}, {32, 11},
	{80, 33}, {18, 11}, {15, 11}, {64, 33}, {160, 99}, {4, 3}, {3, 2}, {2, 1},
}

const extendedSAR = 255

// readTools reads the end of a parameter set: two tools and vui_parameters()
// (H.265 §E.2.1). r is a copy: what cannot be read changes nothing.
func (s *SPS) readTools(r bits.Reader) {
	v := *s
	r.Skip(2) // sps_temporal_mvp_enabled_flag, strong_intra_smoothing_enabled_flag
	if !r.Flag() {
		return
	}
	if r.Flag() { // aspect_ratio_info_present_flag
		idc := int(r.U(8))
		switch {
		case idc == extendedSAR:
			v.SARNum, v.SARDen = int(r.U(16)), int(r.U(16))
		case idc >= 1 && idc <= len(sampleAspects):
			v.SARNum, v.SARDen = sampleAspects[idc-1][0], sampleAspects[idc-1][1]
		}
		if v.SARNum == 0 || v.SARDen == 0 {
			v.SARNum, v.SARDen = 0, 0
		}
	}
	if r.Flag() { // overscan_info_present_flag
		r.Skip(1)
	}
	if r.Flag() { // video_signal_type_present_flag
		r.Skip(3)
		full := r.Flag()
		if r.Flag() { // colour_description_present_flag
			v.Color = media.NewColor(uint8(r.U(8)), uint8(r.U(8)), uint8(r.U(8)), full) //nolint:gosec // 8 bits
		}
	}
	if r.Flag() { // chroma_loc_info_present_flag
		r.UE(5)
		r.UE(5)
	}
	r.Skip(3)     // neutral_chroma_indication_flag, field_seq_flag, frame_field_info_present_flag
	if r.Flag() { // default_display_window_flag
		for range 4 {
			r.UE(maxSize)
		}
	}
	if r.Flag() { // vui_timing_info_present_flag
		tick, scale := r.U(32), r.U(32)
		if rate := float64(scale) / float64(tick); tick > 0 && scale > 0 && rate <= maxFrameRate {
			v.FrameRate = rate
		}
	}
	if r.Err() == nil {
		*s = v
	}
}
