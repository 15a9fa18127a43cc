package h264

import (
	"bytes"
	"slices"
	"testing"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/bits"
)

func TestTrackOfRealEncoders(t *testing.T) {
	for _, s := range samples {
		t.Run(s.made, func(t *testing.T) {
			config := unhex(s.avcC)
			tr, err := Track(config)
			require.NoError(t, err)
			require.Equal(t, s.codec, tr.CodecString)
			require.Equal(t, s.video, tr.Video)
			require.Equal(t, media.Video, tr.Kind)
			require.Equal(t, media.H264, tr.Codec)
			require.Equal(t, config, tr.Config)
			require.NotSame(t, &config[0], &tr.Config[0])

			c, err := ParseConfig(config)
			require.NoError(t, err)
			sps, err := ParseSPS(c.SPS[0])
			require.NoError(t, err)
			want := s.sps
			want.Width, want.Height, want.FrameRate = s.video.Width, s.video.Height, s.video.FrameRate
			want.SARNum, want.SARDen = s.video.SARNum, s.video.SARDen
			require.Equal(t, want, sps)

			var peer h264.SPS // an independent reader says the same
			require.NoError(t, peer.Unmarshal(c.SPS[0]))
			require.Equal(t, peer.Width(), sps.Width)
			require.Equal(t, peer.Height(), sps.Height)
			require.InDelta(t, peer.FPS(), sps.FrameRate, 1e-9)
		})
	}
}

func TestConfigVariants(t *testing.T) {
	good := unhex(samples[2].avcC)
	cut := good[:len(good)-4] // without the extension of the High profiles
	tr, err := Track(cut)
	require.NoError(t, err)
	require.Equal(t, good, tr.Config, "the extension is put there")

	tr, err = Track(append(slices.Clone(good), 1, 2, 3))
	require.NoError(t, err)
	require.Equal(t, good, tr.Config, "what stands behind is cut")

	two := slices.Clone(good)
	two[4] = 0xfd
	c, err := ParseConfig(two)
	require.NoError(t, err)
	require.Equal(t, 2, c.LengthSize)
	tr, err = Track(two)
	require.NoError(t, err)
	require.Equal(t, good, tr.Config, "packets have 4-byte lengths")
}

func TestBadConfigs(t *testing.T) {
	good := unhex(samples[2].avcC)
	for name, c := range map[string]struct {
		config   []byte
		sentence string
	}{
		"nothing":        {nil, "the H.264 configuration cannot be read; restart the encoder"},
		"version 0":      {append([]byte{0}, good[1:]...), "cannot be read"},
		"cut in SPS":     {good[:20], "cannot be read"},
		"cut in PPS":     {good[:len(good)-6], "cannot be read"},
		"SPS is a PPS":   {append(append(slices.Clone(good[:8]), 0x68), good[9:]...), "cannot be read"},
		"no SPS":         {[]byte{1, 100, 0, 30, 0xff, 0xe0, 0}, "holds no sequence parameter set"},
		"no PPS":         {append(slices.Clone(good[:33]), 0), "holds no picture parameter set"},
		"SPS too short":  {[]byte{1, 66, 0, 30, 0xff, 0xe1, 0, 2, 0x67, 66, 0}, "is not one"},
		"SPS ends early": {[]byte{1, 66, 0, 30, 0xff, 0xe1, 0, 5, 0x67, 66, 0, 30, 0x80, 0}, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Track(c.config)
			require.Equal(t, fault.BadMedia, fault.ReasonOf(err))
			require.Contains(t, err.Error(), c.sentence)
		})
	}
}

// spsWith writes a Baseline or High parameter set with what the samples lack.
func spsWith(profile uint32, fill func(w *bits.Writer)) []byte {
	var w bits.Writer
	w.U(8, 0x67)
	w.U(8, profile)
	w.U(16, 30)
	w.UE(0)
	fill(&w)
	w.Flag(true)
	return w.Bytes()
}

// plainEnd writes everything from the reference frames on, 320x240 without VUI.
func plainEnd(w *bits.Writer) {
	w.UE(1)
	w.Flag(false)
	w.UE(19)
	w.UE(14)
	w.Flag(true)
	w.Flag(true)
	w.Flag(false)
	w.Flag(false)
}

func TestRareParameterSets(t *testing.T) {
	for name, c := range map[string]struct {
		nal  []byte
		want SPS
	}{
		"order type 1": {
			spsWith(77, func(w *bits.Writer) {
				w.UE(0)
				w.UE(1)
				w.Flag(false)
				for _, v := range []uint32{5, 6, 2, 1, 2} {
					w.UE(v)
				}
				plainEnd(w)
			}),
			SPS{Profile: 77, Level: 30, ChromaFormat: 1, Reorder: UnknownReorder},
		},
		"order type 2 has no B-frames": {
			spsWith(77, func(w *bits.Writer) {
				w.UE(0)
				w.UE(2)
				plainEnd(w)
			}),
			SPS{Profile: 77, Level: 30, ChromaFormat: 1, Reorder: 0},
		},
		"scaling lists, separate planes": {
			spsWith(244, func(w *bits.Writer) {
				w.UE(3)
				w.Flag(true)
				w.UE(0)
				w.UE(0)
				w.Flag(false)
				w.Flag(true)
				for i := range 12 {
					w.Flag(i == 0 || i == 7)
					if i == 0 {
						w.UE(15) // +8: 16, then 0 fifteen times
						w.U(15, 1<<15-1)
					}
					if i == 7 {
						w.UE(16) // -8: the default list
					}
				}
				w.UE(0)
				w.UE(0)
				w.UE(0)
				plainEnd(w)
			}),
			SPS{Profile: 244, Level: 30, ChromaFormat: 3, Reorder: UnknownReorder},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.Width, c.want.Height, c.want.RefFrames, c.want.BitDepthLuma, c.want.BitDepthChroma = 320, 240, 1, 8, 8
			got, err := ParseSPS(c.nal)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestUnreadableVUIIsLeftOut(t *testing.T) {
	nal := unhex("6742c00ada109b0110000003001000000303c0f1226a")
	whole, err := ParseSPS(nal)
	require.NoError(t, err)
	require.Equal(t, 30.0, whole.FrameRate)
	cut, err := ParseSPS(nal[:12])
	require.NoError(t, err)
	require.Equal(t, 64, cut.Width)
	require.Zero(t, cut.FrameRate)
	require.Zero(t, cut.SARNum)
}

func TestHugePictureIsRefused(t *testing.T) {
	nal := spsWith(66, func(w *bits.Writer) {
		w.UE(0)
		w.UE(2)
		w.UE(1)
		w.Flag(false)
		w.UE(1 << 20)
	})
	_, err := ParseSPS(nal)
	require.Equal(t, fault.BadMedia, fault.ReasonOf(err))
	nal = spsWith(66, func(w *bits.Writer) {
		w.UE(0)
		w.UE(2)
		w.UE(1)
		w.Flag(false)
		w.UE(0)
		w.UE(0)
		w.Flag(true)
		w.Flag(true)
		w.Flag(true)
		for range 4 {
			w.UE(8)
		}
		w.Flag(false)
	})
	_, err = ParseSPS(nal)
	require.ErrorContains(t, err, "cropped to nothing")
}

var payloadCases = []struct {
	about string
	in    string // NAL units
	size  int
	out   string
	info  Info
}{
	{"clean", "65888400cf", 4, "65888400cf", Info{Slices: 1, IDR: true}},
	{"everything before the key frame", openIDR, 4, "65888400cfd2781eefed539470313ff9", Info{Slices: 1, IDR: true, ParameterSets: true}},
	{"delimiter", openP, 4, "419a286219fffee0", Info{Slices: 1}},
	{"B-frame", openB, 4, "019e4510afc481", Info{Slices: 1, Droppable: true}},
	{"open GOP", openKey, 4, "060601c480 418894037fd6781efff4379dd773fff8", Info{Slices: 1, Recovery: true, ParameterSets: true}},
	{"intra refresh", refreshSEI + " 419b46", 4, refreshSEI + " 419b46", Info{Slices: 1, Recovery: true, RecoveryFrames: 2}},
	{"other message first", "06ff0a050103030303030601c480 419b46", 4, "06ff0a050103030303030601c480 419b46", Info{Slices: 1}},
	{"second message", "0605020102 0605020102060171 419b46", 4, "0605020102 0605020102060171 419b46", Info{Slices: 1, Recovery: true, RecoveryFrames: 2}},
	{"1-byte lengths", "65888400cf 6588", 1, "65888400cf 6588", Info{Slices: 2, IDR: true}},
	{"2-byte lengths", "0910 019e 419e", 2, "019e 419e", Info{Slices: 2}},
	{"3-byte lengths", "019e 019f", 3, "019e 019f", Info{Slices: 2, Droppable: true}},
	{"delimiter in the middle", "65888400cf 0910 6588", 4, "65888400cf 6588", Info{Slices: 2, IDR: true}},
	{"filler and empty units", "- 65888400cf 0cffffff80 -", 4, "65888400cf", Info{Slices: 1, IDR: true}},
	{"only parameter sets", openSPS + " " + openPPS, 4, "", Info{ParameterSets: true}},
	{"nothing", "", 4, "", Info{}},
}

func TestNormalizePayload(t *testing.T) {
	for _, c := range payloadCases {
		t.Run(c.about, func(t *testing.T) {
			var slab media.Slab
			in := units(c.size, c.in)
			before := slices.Clone(in)
			out, info, err := NormalizePayload(&slab, in, c.size)
			require.NoError(t, err)
			require.Equal(t, c.info, info)
			require.Equal(t, before, in, "the payload is not written")
			want := units(4, c.out)
			require.True(t, bytes.Equal(want, out), "%x", out)
			if i := bytes.Index(in, want); i >= 0 && len(want) > 0 && c.size == 4 {
				require.Same(t, &in[i], &out[0], "nothing is copied")
			}
		})
	}
}

func TestBadPayloads(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		size int
	}{
		"length beyond the end": {[]byte{0, 0, 0, 3, 0x65, 1}, 4},
		"cut in the length":     {[]byte{0, 0, 0, 1, 0x65, 0, 0}, 4},
		"largest length":        {[]byte{0xff, 0xff, 0xff, 0xff, 0x65}, 4},
		"length size 0":         {[]byte{1, 0x65}, 0},
		"length size 5":         {[]byte{1, 0x65}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			var slab media.Slab
			_, _, err := NormalizePayload(&slab, c.in, c.size)
			require.Equal(t, fault.BadMedia, fault.ReasonOf(err))
		})
	}
}

func TestNormalizePayloadDoesNotAllocate(t *testing.T) {
	var slab media.Slab
	clean, mixed := units(4, "419a286219fffee0"), units(4, openKey)
	config, _, err := UpdateConfig(nil, mixed, 4)
	require.NoError(t, err)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, _, err := NormalizePayload(&slab, clean, 4); err != nil {
			t.Fatal(err)
		}
		if _, _, err := NormalizePayload(&slab, mixed, 4); err != nil { // a slab now and then
			t.Fatal(err)
		}
		if _, changed, err := UpdateConfig(config, mixed, 4); changed || err != nil {
			t.Fatal(err)
		}
	}))
}

func TestUpdateConfig(t *testing.T) {
	config := unhex(samples[2].avcC)
	in := units(4, openKey)
	updated, changed, err := UpdateConfig(config, in, 4)
	require.NoError(t, err)
	require.True(t, changed)
	c, err := ParseConfig(updated)
	require.NoError(t, err)
	require.Equal(t, [][]byte{unhex(openSPS)}, c.SPS, "the one with the same id is replaced")
	require.Equal(t, [][]byte{unhex(openPPS)}, c.PPS)
	tr, err := Track(updated)
	require.NoError(t, err)
	require.Equal(t, 16, tr.Video.Width)

	again, changed, err := UpdateConfig(updated, in, 4)
	require.NoError(t, err)
	require.False(t, changed)
	require.Same(t, &updated[0], &again[0])

	// Another id stands beside the one that is there.
	more, changed, err := UpdateConfig(updated, units(4, "685bc0"), 4)
	require.NoError(t, err)
	require.True(t, changed)
	c, err = ParseConfig(more)
	require.NoError(t, err)
	require.Len(t, c.PPS, 2)

	fresh, changed, err := UpdateConfig(nil, units(2, openKey), 2)
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, updated, fresh)

	_, _, err = UpdateConfig(config, units(4, "67"), 4)
	require.Equal(t, fault.BadMedia, fault.ReasonOf(err))
	_, _, err = UpdateConfig([]byte{2}, units(4, openSPS), 4)
	require.Equal(t, fault.BadMedia, fault.ReasonOf(err))
}

func BenchmarkNormalizePayload(b *testing.B) {
	var slab media.Slab
	body := make([]byte, 11000) // a frame of 2.7 Mbit/s at 30 frames/s
	body[0] = 0x41
	clean := append([]byte{0, 0, byte(len(body) >> 8), byte(len(body) & 0xff)}, body...)
	delimiter := []byte{0, 0, 0, 2, 9, 0x30}
	for name, in := range map[string][]byte{
		"clean":     clean,
		"delimiter": slices.Concat(delimiter, clean),
		"scattered": slices.Concat([]byte{0, 0, 0, 3, 6, 1, 0x80}, delimiter, clean),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(in)))
			for range b.N {
				if _, _, err := NormalizePayload(&slab, in, 4); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzConfig: what is read is written back and read as the same.
func FuzzConfig(f *testing.F) {
	for _, s := range samples {
		f.Add(unhex(s.avcC))
	}
	f.Add([]byte{1, 100, 0, 30, 0xff, 0xe0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseConfig(b)
		if err != nil {
			require.Equal(t, fault.BadMedia, fault.ReasonOf(err))
			return
		}
		if out, err := c.Append(nil); err == nil {
			again, err := ParseConfig(out)
			require.NoError(t, err)
			if len(c.SPSExt) > 0 && !extended(out[1]) { // the head of the record lied
				c.SPSExt = nil
			}
			if len(c.SPSExt) == 0 {
				c.SPSExt = again.SPSExt
			}
			require.Equal(t, c, again)
		}
		tr, err := Track(b)
		if err != nil {
			return
		}
		require.Positive(t, tr.Video.Width)
		require.Positive(t, tr.Video.Height)
		require.LessOrEqual(t, tr.Video.Width, 16384)
		again, err := Track(tr.Config)
		require.NoError(t, err)
		require.Equal(t, tr, again)
	})
}

// FuzzSPS: reading ends, and what is read makes sense.
func FuzzSPS(f *testing.F) {
	for _, s := range samples {
		c, _ := ParseConfig(unhex(s.avcC))
		f.Add(c.SPS[0])
	}
	f.Fuzz(func(t *testing.T, nal []byte) {
		s, err := ParseSPS(nal)
		if err != nil {
			require.Equal(t, fault.BadMedia, fault.ReasonOf(err))
			return
		}
		require.Positive(t, s.Width)
		require.Positive(t, s.Height)
		require.GreaterOrEqual(t, s.Reorder, UnknownReorder)
		require.LessOrEqual(t, s.FrameRate, float64(maxFrameRate))
		require.Equal(t, s.SARNum == 0, s.SARDen == 0)
	})
}

// FuzzPayload: what is normalised is normal, and holds the same units.
func FuzzPayload(f *testing.F) {
	for _, c := range payloadCases {
		f.Add(units(c.size, c.in), c.size)
	}
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		var slab media.Slab
		out, info, err := NormalizePayload(&slab, in, size)
		if err != nil {
			require.Equal(t, fault.BadMedia, fault.ReasonOf(err))
			return
		}
		again, infoAgain, err := NormalizePayload(&slab, out, 4)
		require.NoError(t, err)
		require.True(t, bytes.Equal(out, again))
		info.ParameterSets = false
		require.Equal(t, info, infoAgain)
		updated, changed, err := UpdateConfig(unhex(samples[0].avcC), in, size)
		if err == nil && changed {
			_, changed, err = UpdateConfig(updated, in, size)
			require.NoError(t, err)
			_ = changed // two sets with one id in one payload take turns
		}
	})
}
