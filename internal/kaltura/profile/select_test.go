package profile

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/transcode"
)

// source is a profile of the source flavor and others.
func source(flavors ...Flavor) Profile {
	return Profile{ID: 1, Flavors: append([]Flavor{{ID: 32, Ingest: 1, Origin: client.OriginIngest, SystemName: "Source", Tags: []string{"source", "ingest"}}}, flavors...)}
}

func ids(l transcode.Ladder) []string {
	var out []string
	for _, r := range l {
		out = append(out, r.ID)
	}
	return out
}

func TestSelectByIngest(t *testing.T) {
	audio := Flavor{ID: 100, Ingest: 1000, Origin: client.OriginIngest, Tags: []string{"ingest", "audio_only"}, Language: "eng"}
	second := Flavor{ID: 36, Ingest: 2, Origin: client.OriginIngest, Tags: []string{"ingest", "mbr"}}
	made := Flavor{ID: 33, Tags: []string{"mbr"}, VideoCodec: "h264b", Width: 480}
	p := source(second, made, audio)

	l, err := p.Select(1, Facts{})
	require.NoError(t, err)
	require.Equal(t, []string{"32", "33"}, ids(l), "what arrives by itself is left out")
	require.True(t, l[0].Ingest)
	require.False(t, l[1].Ingest)
	require.Equal(t, "33", l[1].Name, "a flavor without a name is called by its id")

	l, err = p.Select(2, Facts{})
	require.NoError(t, err)
	require.Equal(t, []string{"36"}, ids(l), "a further ingest brings itself")
	require.True(t, l[0].Ingest)

	l, err = p.Select(1000, Facts{AudioCodec: "AAC"})
	require.NoError(t, err)
	require.Equal(t, transcode.Ladder{{ID: "100", Name: "100", Tags: audio.Tags, Ingest: true, Audio: &transcode.AudioOut{Copy: true, Language: "eng"}}}, l)

	_, err = p.Select(7, Facts{})
	require.Equal(t, fault.NotInProfile, fault.ReasonOf(err))
	require.ErrorContains(t, err, "no ingest 7")

	audio.Origin = client.OriginConvert // then the sound of the source is that rendition
	l, err = source(audio).Select(1, Facts{AudioCodec: "AAC"})
	require.NoError(t, err)
	require.Equal(t, []string{"32", "100"}, ids(l))
	require.False(t, l[1].Ingest)
	require.Nil(t, l[1].Video)
}

func TestSelectOptionalFlavors(t *testing.T) {
	optional := func(f Flavor) Flavor { f.ID, f.Tags, f.VideoCodec = 42, []string{"optional_flavor"}, "h264h"; return f }
	for name, c := range map[string]struct {
		flavor Flavor
		in     Facts
		kept   bool
	}{
		"nothing known":            {optional(Flavor{Height: 720, VideoKbps: 1700}), Facts{}, true},
		"high enough":              {optional(Flavor{Height: 720}), Facts{Height: 720}, true},
		"too low":                  {optional(Flavor{Height: 720}), Facts{Height: 719}, false},
		"wide enough":              {optional(Flavor{Width: 1280}), Facts{Width: 1280, Height: 544}, true},
		"too narrow":               {optional(Flavor{Width: 1281}), Facts{Width: 1280, Height: 544}, false},
		"width unknown":            {optional(Flavor{Width: 1281}), Facts{Height: 544}, true},
		"the height counts":        {optional(Flavor{Width: 1920, Height: 720}), Facts{Width: 1280, Height: 720}, true},
		"40 % more":                {optional(Flavor{VideoKbps: 1700}), Facts{VideoKbps: 2380}, true},
		"just not 40 % more":       {optional(Flavor{VideoKbps: 1700}), Facts{VideoKbps: 2379}, false},
		"no bit rate of its own":   {optional(Flavor{Height: 720}), Facts{VideoKbps: 1}, true},
		"not optional":             {Flavor{ID: 42, Height: 720, VideoKbps: 1700}, Facts{Height: 100, VideoKbps: 1}, true},
		"optional, but an ingest":  {Flavor{ID: 42, Height: 720, Tags: []string{"optional_flavor", "ingest"}}, Facts{Height: 100}, true},
		"high but not fast enough": {optional(Flavor{Height: 720, VideoKbps: 1700}), Facts{Height: 1080, VideoKbps: 2000}, false},
	} {
		p := source(c.flavor)
		l, err := p.Select(1, c.in)
		require.NoError(t, err)
		require.Equal(t, c.kept, len(l) == 2, name)
		p.Everything = true
		l, err = p.Select(1, c.in)
		require.NoError(t, err)
		require.Len(t, l, 2, name)
	}
}

func TestSelectPicture(t *testing.T) {
	passed := &transcode.VideoOut{Copy: true}
	coded := func(change func(*transcode.VideoOut)) *transcode.VideoOut {
		v := &transcode.VideoOut{Codec: media.H264, Profile: "main", Bitrate: 900_000, Fit: transcode.FitHeight, Height: 360, KeyFrames: 60}
		change(v)
		return v
	}
	as := func(change func(*Flavor)) Flavor {
		f := Flavor{ID: 35, Tags: []string{"mbr"}, VideoCodec: "h264m", VideoKbps: 900, Height: 360}
		change(&f)
		return f
	}
	for name, c := range map[string]struct {
		flavor Flavor
		in     Facts
		want   *transcode.VideoOut
	}{
		"main":           {as(func(*Flavor) {}), Facts{}, coded(func(*transcode.VideoOut) {})},
		"high is main":   {as(func(f *Flavor) { f.VideoCodec = "h264h" }), Facts{}, coded(func(*transcode.VideoOut) {})},
		"baseline":       {as(func(f *Flavor) { f.VideoCodec = "h264" }), Facts{}, coded(func(v *transcode.VideoOut) { v.Profile = "baseline" })},
		"h.263":          {as(func(f *Flavor) { f.VideoCodec = "vp6" }), Facts{}, coded(func(v *transcode.VideoOut) { v.Profile = "baseline" })},
		"hevc":           {as(func(f *Flavor) { f.VideoCodec = "h265" }), Facts{}, coded(func(v *transcode.VideoOut) { v.Codec, v.Profile = media.HEVC, "" })},
		"vp8":            {as(func(f *Flavor) { f.VideoCodec = "vp8" }), Facts{}, coded(func(v *transcode.VideoOut) { v.Codec, v.Profile = media.VP8, "" })},
		"vp9":            {as(func(f *Flavor) { f.VideoCodec = "vp9" }), Facts{}, coded(func(v *transcode.VideoOut) { v.Codec, v.Profile = media.VP9, "" })},
		"av1":            {as(func(f *Flavor) { f.VideoCodec = "av1" }), Facts{}, coded(func(v *transcode.VideoOut) { v.Codec, v.Profile = media.AV1, "" })},
		"copy":           {as(func(f *Flavor) { f.VideoCodec = "copy" }), Facts{}, passed},
		"no codec":       {as(func(f *Flavor) { f.VideoCodec = "" }), Facts{}, passed},
		"no size":        {as(func(f *Flavor) { f.Height = 0 }), Facts{}, passed},
		"tagged ingest":  {as(func(f *Flavor) { f.Tags = []string{"ingest"} }), Facts{}, passed},
		"no bit rate":    {as(func(f *Flavor) { f.VideoKbps = 0 }), Facts{}, coded(func(v *transcode.VideoOut) { v.Bitrate = 240_000 })},
		"both sides":     {as(func(f *Flavor) { f.Width = 640 }), Facts{}, coded(func(*transcode.VideoOut) {})},
		"width":          {as(func(f *Flavor) { f.Width, f.Height = 640, 0 }), Facts{}, coded(func(v *transcode.VideoOut) { v.Fit, v.Width, v.Height = transcode.FitWidth, 640, 0 })},
		"a rate alone":   {as(func(f *Flavor) { f.FrameRate, f.Height = 25, 0 }), Facts{}, coded(func(v *transcode.VideoOut) { v.Fit, v.Height = transcode.FitSource, 0 })},
		"constant":       {as(func(f *Flavor) { f.Constant = true }), Facts{}, coded(func(v *transcode.VideoOut) { v.Constant = true })},
		"sound only":     {as(func(f *Flavor) { f.Tags, f.Height = []string{"audio_only"}, 0 }), Facts{}, nil},
		"odd one":        {as(func(f *Flavor) { f.Tags = []string{"audio_only"} }), Facts{}, coded(func(*transcode.VideoOut) {})},
		"arriving sound": {as(func(f *Flavor) { f.Tags = []string{"audio_only", "ingest"} }), Facts{}, nil},
		"skip as said":   {as(func(f *Flavor) { f.SkipFrames = 3 }), Facts{FrameRate: 60}, coded(func(v *transcode.VideoOut) { v.SkipFrames = 3 })},
		"skip by rate":   {as(func(f *Flavor) { f.SkipFrames, f.MaxFrameRate = 3, 30 }), Facts{FrameRate: 60}, coded(func(v *transcode.VideoOut) { v.SkipFrames = 1 })},
		"a little fast":  {as(func(f *Flavor) { f.MaxFrameRate = 30 }), Facts{FrameRate: 31}, coded(func(*transcode.VideoOut) {})},
		"slow":           {as(func(f *Flavor) { f.MaxFrameRate = 30 }), Facts{FrameRate: 5}, coded(func(*transcode.VideoOut) {})},
		"rate unknown":   {as(func(f *Flavor) { f.SkipFrames, f.MaxFrameRate = 3, 30 }), Facts{}, coded(func(v *transcode.VideoOut) { v.SkipFrames = 3 })},
	} {
		l, err := source(c.flavor).Select(1, c.in)
		require.NoError(t, err)
		require.Equal(t, c.want, l[1].Video, name)
	}
	p := source(as(func(f *Flavor) { f.MaxFrameRate = 15 }))
	p.Flavors[0].FrameRate = 30
	l, err := p.Select(1, Facts{})
	require.NoError(t, err)
	require.Equal(t, 1, l[1].Video.SkipFrames, "the source flavor says how fast the ingest is")
	p.Flavors[0].FrameRate = 12
	l, err = p.Select(1, Facts{})
	require.NoError(t, err)
	require.Zero(t, l[1].Video.SkipFrames)
}

func TestSelectSound(t *testing.T) {
	for name, c := range map[string]struct {
		flavor Flavor
		in     string
		want   transcode.AudioOut
	}{
		"passes":                {Flavor{}, "AAC", transcode.AudioOut{Copy: true}},
		"unknown":               {Flavor{AudioKbps: 64}, "", transcode.AudioOut{Codec: media.AAC, Bitrate: 64_000}},
		"other":                 {Flavor{}, "OPUS", transcode.AudioOut{Codec: media.AAC, Bitrate: 96_000}},
		"wanted":                {Flavor{AudioCodec: "aac", AudioChannels: 2}, "AAC", transcode.AudioOut{Codec: media.AAC, Bitrate: 96_000}},
		"wanted, HE":            {Flavor{AudioCodec: "aache", AudioRate: 44100}, "AAC", transcode.AudioOut{Codec: media.AAC, Bitrate: 96_000}},
		"codec without details": {Flavor{AudioCodec: "aac"}, "AAC", transcode.AudioOut{Copy: true}},
		"details without codec": {Flavor{AudioRate: 44100}, "AAC", transcode.AudioOut{Copy: true}},
		"an ingest":             {Flavor{Tags: []string{"ingest"}, AudioCodec: "aac", AudioRate: 44100}, "AAC", transcode.AudioOut{Copy: true}},
		"an ingest of another":  {Flavor{Tags: []string{"ingest"}, AudioKbps: 64, Language: "English"}, "MP3", transcode.AudioOut{Codec: media.AAC, Bitrate: 64_000}},
	} {
		c.flavor.ID = 33
		l, err := source(c.flavor).Select(1, Facts{AudioCodec: c.in})
		require.NoError(t, err)
		require.Equal(t, c.want, *l[1].Audio, name)
	}
}

// TestBothWaysGiveTheSameLadder holds Select to the template of a backend that
// applies the rules by itself, for many facts.
func TestBothWaysGiveTheSameLadder(t *testing.T) {
	cases := 0
	for _, features := range [][]string{nil, {kalturatest.FeatureNoSmartLadder}} {
		c := newClient(t, backend(t, features...))
		for number := range entries {
			e, p := load(t.Context(), t, c, number)
			for _, ingest := range []int{1, 2, 3, 4, 1000, 1001} {
				for _, f := range manyFacts() {
					text, err := c.Template(t.Context(), string(e.ID)+"_"+strconv.Itoa(ingest), f.JSON())
					chosen, selectErr := p.Select(ingest, f)
					if client.HasCode(err, codeNoIngest) {
						require.Equal(t, fault.NotInProfile, fault.ReasonOf(selectErr))
						break // whatever the facts
					}
					require.NoError(t, err)
					require.NoError(t, selectErr)
					parsed, err := ParseTemplate(text, string(e.ID))
					require.NoError(t, err)
					complete(parsed, p, ingest)
					require.Equal(t, chosen, parsed, "profile %d, ingest %d, %+v\n%s", number, ingest, f, text)
					cases++
				}
			}
		}
	}
	require.Greater(t, cases, 1000)
}

func manyFacts() []Facts {
	sizes := []Facts{{}, {Height: 720}, {Width: 640, Height: 360}, {Width: 1280, Height: 720}, {Width: 1920, Height: 1080}, {Width: 1281, Height: 719}, {Width: 720, Height: 1280}}
	var out []Facts
	for i, kbps := range []int{0, 300, 2379, 2380, 3500, 5600} {
		for j, rate := range []float64{0, 15, 29.97, 60} {
			for k, audio := range []string{"AAC", "", "MP3"} {
				f := sizes[(i+j+k)%len(sizes)]
				f.VideoKbps, f.FrameRate, f.AudioCodec = kbps, rate, audio
				out = append(out, f)
			}
		}
	}
	for _, f := range sizes {
		f.AudioCodec = "AAC"
		out = append(out, f)
	}
	return out
}
