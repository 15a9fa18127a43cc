package profile

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/klive-media/klive/internal/media"
)

// Facts is what is known of an ingest stream. 0 and "" are unknown.
type Facts struct {
	Width, Height int // pixels
	FrameRate     float64
	// VideoKbps and AudioKbps are what the encoder announced, in kbit/s.
	VideoKbps, AudioKbps int
	// VideoCodec and AudioCodec are in capitals without points: H264, AAC.
	VideoCodec, AudioCodec string
}

// FactsOf are the facts of a stream's first picture and first sound.
func FactsOf(tracks []*media.Track) Facts {
	var f Facts
	for _, t := range tracks {
		switch {
		case t.Kind == media.Video && f.VideoCodec == "":
			f.VideoCodec, f.VideoKbps = codecName(t.Codec), kbps(t.Bitrate)
			f.Width, f.Height, f.FrameRate = t.Video.Width, t.Video.Height, t.Video.FrameRate
		case t.Kind == media.Audio && f.AudioCodec == "":
			f.AudioCodec, f.AudioKbps = codecName(t.Codec), kbps(t.Bitrate)
		}
	}
	return f
}

// codecName is how the backend knows a codec.
func codecName(c media.Codec) string {
	if c == media.UnknownCodec {
		return ""
	}
	return strings.NewReplacer(".", "", "-", "").Replace(strings.ToUpper(c.String()))
}

func kbps(bits int) int { return (max(bits, 0) + 500) / 1000 }

// JSON is the facts as the backend takes them (extraParams): a JSON object of
// texts. What is unknown is left out, never zero: the backend takes a height
// of "0" for one that is below that of every flavor. "" when nothing is known.
func (f Facts) JSON() string {
	known := make(map[string]string)
	text := func(name, value string) {
		if value != "" {
			known[name] = value
		}
	}
	number := func(name string, value float64) {
		if value > 0 {
			known[name] = strconv.FormatFloat(value, 'f', -1, 64)
		}
	}
	number("width", float64(f.Width))
	number("height", float64(f.Height))
	number("framerate", f.FrameRate)
	number("videodatarate", float64(f.VideoKbps))
	number("audiodatarate", float64(f.AudioKbps))
	text("videocodecidstring", strings.ToUpper(f.VideoCodec))
	text("audiocodecidstring", strings.ToUpper(f.AudioCodec))
	if len(known) == 0 {
		return ""
	}
	out, err := json.Marshal(known)
	if err != nil { // infinite frame rates are the only way, and texts have none
		return ""
	}
	return string(out)
}
