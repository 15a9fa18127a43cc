package rtmp

import (
	"math"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/rtmp/amf"
)

// maxVideoMetadata bounds a metadata frame; one with all of colorInfo has
// about 500 bytes.
const maxVideoMetadata = 16 << 10

// videoMetadata takes a metadata frame (Enhanced RTMP v1, "Metadata Frame"):
// names and values in AMF0, of which colorInfo is defined. It holds until the
// next; without a value it takes back what was said.
func (d *demuxer) videoMetadata(body []byte, now time.Time) error {
	if len(body) > maxVideoMetadata {
		d.bad(fault.New(fault.BadMedia, "a video metadata message is longer than %d bytes", maxVideoMetadata))
		return nil
	}
	values, err := amf.Decode(body)
	if err != nil {
		d.bad(err)
		return nil
	}
	for i := 0; i+1 < len(values); i += 2 {
		if name, _ := values[i].(string); name != "colorInfo" {
			continue
		}
		color := readColor(values[i+1])
		if color == d.color {
			continue
		}
		d.color = color
		if l := &d.video; l.base != nil {
			t := *l.base
			t.Video.Color = l.color
			if err := d.describe(l, l.format, l.codec, &t, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// readColor reads colorInfo.
func readColor(v amf.Value) media.Color {
	config, light, display := amf.Lookup(v, "colorConfig"), amf.Lookup(v, "hdrCll"), amf.Lookup(v, "hdrMdcv")
	index := func(name string) uint8 { return uint8(scaled(config, name, 1, math.MaxUint8)) }
	level := func(name string) uint16 { return uint16(scaled(light, name, 1, math.MaxUint16)) }
	// ST 2086 counts chromaticities in 0.00002 and luminance in 0.0001 cd/m².
	xy := func(name string) [2]uint16 {
		return [2]uint16{uint16(scaled(display, name+"X", 50_000, math.MaxUint16)), uint16(scaled(display, name+"Y", 50_000, math.MaxUint16))}
	}
	c := media.NewColor(index("colorPrimaries"), index("transferCharacteristics"), index("matrixCoefficients"), false)
	c.MaxCLL, c.MaxFALL = level("maxCLL"), level("maxFall")
	c.Mastering = media.Mastering{
		Red: xy("red"), Green: xy("green"), Blue: xy("blue"), White: xy("whitePoint"),
		MaxLuminance: scaled(display, "maxLuminance", 10_000, math.MaxUint32),
		MinLuminance: scaled(display, "minLuminance", 10_000, math.MaxUint32),
	}
	return c
}

// scaled is a number of an object in units of 1/scale; 0 when there is none
// between 0 and most.
func scaled(v amf.Value, name string, scale, most float64) uint32 {
	n, ok := amf.LookupNumber(v, name)
	if n = math.Round(n * scale); !ok || !(n >= 0 && n <= most) {
		return 0
	}
	return uint32(n)
}
