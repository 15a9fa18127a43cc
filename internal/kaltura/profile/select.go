package profile

import (
	"math"
	"slices"
	"strconv"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/transcode"
)

// The constants of the backend's rules for live ladders.
const (
	defaultVideoBitrate = 240_000 // bit/s of a flavor that names none
	defaultAudioBitrate = 96_000
	keyFrames           = 60   // most frames between key frames; else they follow the source
	optionalGap         = 40   // per cent that an ingest's bit rate must be above an optional flavor's
	leastSourceRate     = 12.5 // frames per second of the source flavor below which it says nothing
	// skipSlack keeps an ingest that is a little faster than the flavor from
	// losing every other frame.
	skipSlack = 1.05
)

// aac is the one sound that passes through.
const aac = "AAC"

// Select is the ladder that the backend's rules make of an ingest: the ingest
// alone, unless it is the source; of the source everything that does not
// arrive by itself and that it is good enough for. Facts that are unknown
// leave nothing out.
//
// As in the backend's own template, what is made has the sampling rate,
// channels and frame rate of the source, whatever the flavor says of them.
//
// The error is a *fault.Error with NotInProfile when no flavor of the profile
// arrives as this ingest.
func (p Profile) Select(ingest int, f Facts) (transcode.Ladder, error) {
	hit, ok := p.ByIngest(ingest)
	if !ok {
		return nil, notInProfile(ingest)
	}
	if !hit.Tagged(tagSource) {
		return transcode.Ladder{hit.rung(true, f)}, nil
	}
	if f.FrameRate == 0 && hit.FrameRate >= leastSourceRate {
		f.FrameRate = hit.FrameRate
	}
	var ladder transcode.Ladder
	for _, flavor := range p.Flavors {
		arrives := flavor.Origin == client.OriginIngest && !flavor.Tagged(tagSource)
		if arrives || !p.Everything && flavor.above(f) {
			continue
		}
		ladder = append(ladder, flavor.rung(flavor.ID == hit.ID, f))
	}
	return ladder, nil
}

func notInProfile(ingest int) error {
	return fault.New(fault.NotInProfile,
		"the entry's conversion profile has no ingest %d: set the encoder to one that it has, or change the profile", ingest)
}

// above reports whether an optional flavor asks more than the ingest has.
func (f Flavor) above(in Facts) bool {
	if !f.Tagged(tagOptional) || f.Tagged(tagIngest) {
		return false
	}
	if in.Height > 0 {
		switch {
		case f.Height > 0:
			if in.Height < f.Height {
				return true
			}
		case in.Width > 0 && in.Width < f.Width: // the same, with the shape of the ingest
			return true
		}
	}
	return in.VideoKbps > 0 && in.VideoKbps*100 < f.VideoKbps*(100+optionalGap)
}

// rung is the flavor as a rung of a ladder; ingest says that it is the stream
// that comes in.
func (f Flavor) rung(ingest bool, in Facts) transcode.Rung {
	r := transcode.Rung{ID: strconv.Itoa(f.ID), Name: f.SystemName, Tags: slices.Clone(f.Tags), Ingest: ingest}
	if r.Name == "" {
		r.Name = r.ID
	}
	r.Video, r.Audio = f.picture(in), f.sound(in)
	return r
}

// picture is what becomes of the picture; nil: there is none.
func (f Flavor) picture(in Facts) *transcode.VideoOut {
	sized := f.Width > 0 || f.Height > 0 || f.FrameRate > 0
	switch {
	case f.Tagged(tagAudioOnly) && (f.Tagged(tagIngest) || !sized):
		return nil
	case f.Tagged(tagIngest) || !sized:
		return &transcode.VideoOut{Copy: true}
	}
	out := transcode.VideoOut{Bitrate: bitrate(f.VideoKbps, defaultVideoBitrate), Constant: f.Constant, KeyFrames: keyFrames,
		SkipFrames: f.skip(in)}
	switch f.VideoCodec {
	case "h264", "h264b":
		out.Codec, out.Profile = media.H264, "baseline"
	case "h264m", "h264h": // the backend makes no difference
		out.Codec, out.Profile = media.H264, "main"
	case "flv", "vp6", "h263": // what the backend asks for here is H.263, which nothing plays any more
		out.Codec, out.Profile = media.H264, "baseline"
	case "h265":
		out.Codec = media.HEVC
	case "vp8":
		out.Codec = media.VP8
	case "vp9":
		out.Codec = media.VP9
	case "av1":
		out.Codec = media.AV1
	default: // "copy", and codecs for which the backend has no rule
		return &transcode.VideoOut{Copy: true}
	}
	switch {
	case f.Height > 0: // with both, the height counts: the picture keeps its shape
		out.Fit, out.Height = transcode.FitHeight, f.Height
	case f.Width > 0:
		out.Fit, out.Width = transcode.FitWidth, f.Width
	}
	return &out
}

// skip is how many frames are left out after each one that is kept.
func (f Flavor) skip(in Facts) int {
	if in.FrameRate <= 0 || f.MaxFrameRate <= 0 {
		return f.SkipFrames
	}
	return int(max(0, min(math.Ceil(in.FrameRate/f.MaxFrameRate-skipSlack), maxSkip)))
}

// sound is what becomes of the sound. Sound that is not known to be AAC is
// made so, as nothing else plays everywhere.
func (f Flavor) sound(in Facts) *transcode.AudioOut {
	wanted := !f.Tagged(tagIngest) && (f.AudioRate > 0 || f.AudioChannels > 0) && (f.AudioCodec == "aac" || f.AudioCodec == "aache")
	if in.AudioCodec == aac && !wanted {
		return &transcode.AudioOut{Copy: true, Language: language(f.Language)}
	}
	return &transcode.AudioOut{Codec: media.AAC, Bitrate: bitrate(f.AudioKbps, defaultAudioBitrate), Language: language(f.Language)}
}

// bitrate is kbit/s in bit/s, or what stands for none.
func bitrate(kbps, otherwise int) int {
	if kbps <= 0 {
		return otherwise
	}
	return kbps * 1000
}

// language is the backend's word for a language where it is a tag of RFC 5646
// (or one of its three-letter codes), else "".
func language(word string) string {
	if len(word) < 2 || len(word) > 3 {
		return ""
	}
	for _, c := range []byte(word) {
		if c < 'a' || c > 'z' {
			return ""
		}
	}
	return word
}
