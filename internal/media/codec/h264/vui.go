package h264

import "github.com/klive-media/klive/internal/media/codec/bits"

// sampleAspects is table E-1, from aspect_ratio_idc 1.
var sampleAspects = [...][2]int{
	{1, 1}, {12, 11}, {10, 11}, {16, 11}, {40, 33}, {24, 11}, {20, 11}, {32, 11},
	{80, 33}, {18, 11}, {15, 11}, {64, 33}, {160, 99}, {4, 3}, {3, 2}, {2, 1},
}

const extendedSAR = 255

// readVUI reads vui_parameters() (H.264 §E.1.1). r is a copy: what cannot be
// read changes nothing.
func (s *SPS) readVUI(r bits.Reader) {
	v := *s
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
		r.Skip(4)
		if r.Flag() { // colour_description_present_flag
			r.Skip(24)
		}
	}
	if r.Flag() { // chroma_loc_info_present_flag
		r.UE(5)
		r.UE(5)
	}
	if r.Flag() { // timing_info_present_flag
		tick, scale := r.U(32), r.U(32)
		r.Skip(1) // fixed_frame_rate_flag
		if rate := float64(scale) / 2 / float64(tick); tick > 0 && scale > 0 && rate <= maxFrameRate {
			v.FrameRate = rate
		}
	}
	nalHRD := r.Flag()
	if nalHRD {
		skipHRD(&r)
	}
	vclHRD := r.Flag()
	if vclHRD {
		skipHRD(&r)
	}
	if nalHRD || vclHRD {
		r.Skip(1) // low_delay_hrd_flag
	}
	r.Skip(1)     // pic_struct_present_flag
	if r.Flag() { // bitstream_restriction_flag
		r.Skip(1) // motion_vectors_over_pic_boundaries_flag
		r.UE(16)  // max_bytes_per_pic_denom
		r.UE(16)  // max_bits_per_mb_denom
		r.UE(16)  // log2_max_mv_length_horizontal
		r.UE(16)  // log2_max_mv_length_vertical
		v.Reorder = int(r.UE(16))
		r.UE(16) // max_dec_frame_buffering
	}
	if r.Err() == nil {
		*s = v
	}
}

// skipHRD leaves out hrd_parameters() (§E.1.2).
func skipHRD(r *bits.Reader) {
	schedules := 1 + int(r.UE(31))
	r.Skip(8)
	for range schedules {
		r.UE(1<<32 - 2)
		r.UE(1<<32 - 2)
		r.Skip(1)
	}
	r.Skip(20)
}
