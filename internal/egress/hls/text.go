package hls

import (
	"strconv"
	"time"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment"
)

// grain is the precision of durations in playlists.
const grain = 10 * time.Microsecond

// appendSeconds writes d in seconds, rounded to five decimals, without zeros
// at its end but with at least one decimal.
func appendSeconds(b []byte, d time.Duration) []byte {
	n := (max(d, 0) + grain/2) / grain
	b = strconv.AppendInt(b, int64(n/100000), 10)
	frac := int64(n % 100000)
	b = append(b, '.')
	for div := int64(10000); ; div /= 10 {
		b = append(b, byte('0'+frac/div%10))
		if frac%div == 0 {
			return b
		}
	}
}

// ceilGrain rounds up to what appendSeconds can write, so that a promised
// maximum is never written smaller than it is.
func ceilGrain(d time.Duration) time.Duration { return (d + grain - 1) / grain * grain }

// appendTime writes EXT-X-PROGRAM-DATE-TIME.
func appendTime(b []byte, t time.Time) []byte {
	b = append(b, "#EXT-X-PROGRAM-DATE-TIME:"...)
	b = t.UTC().AppendFormat(b, "2006-01-02T15:04:05.000Z")
	return append(b, '\n')
}

// names writes the addresses of one row's media relative to its playlist.
type names struct{ server byte } // '0' or '1'

func (n names) folder(b []byte, run string) []byte {
	b = append(b, n.server, '/')
	b = append(b, run...)
	return append(b, '/')
}

func (n names) segment(b []byte, run string, number uint64) []byte {
	b = n.folder(b, run)
	b = strconv.AppendUint(b, number, 10)
	return append(b, ".m4s"...)
}

func (n names) part(b []byte, run string, number uint64, part int) []byte {
	b = n.folder(b, run)
	b = strconv.AppendUint(b, number, 10)
	b = append(b, '.')
	b = strconv.AppendInt(b, int64(part), 10)
	return append(b, ".m4s"...)
}

func (n names) mapTag(b []byte, s *segment.Segment) []byte {
	b = append(b, `#EXT-X-MAP:URI="`...)
	b = n.folder(b, s.Run)
	b = append(b, "init"...)
	b = strconv.AppendInt(b, int64(s.Init), 10)
	return append(b, ".mp4\"\n"...)
}

// muxMapTag names the init section of picture and sound in one; "x" stands for
// a track that is not there.
func (n names) muxMapTag(b []byte, k initKey) []byte {
	b = append(b, `#EXT-X-MAP:URI="`...)
	b = n.folder(b, k.run)
	b = append(b, "init"...)
	b = appendOrX(b, k.video)
	b = append(b, '-')
	b = appendOrX(b, k.audio)
	return append(b, ".mp4\"\n"...)
}

func appendOrX(b []byte, n int) []byte {
	if n == missing {
		return append(b, 'x')
	}
	return strconv.AppendInt(b, int64(n), 10)
}

// partTag writes EXT-X-PART.
func (n names) partTag(b []byte, s *segment.Segment, i int) []byte {
	p := &s.Parts[i]
	b = append(b, "#EXT-X-PART:DURATION="...)
	b = appendSeconds(b, p.Duration)
	b = append(b, `,URI="`...)
	b = n.part(b, s.Run, s.Number, i)
	b = append(b, '"')
	if p.Independent {
		b = append(b, ",INDEPENDENT=YES"...)
	}
	return append(b, '\n')
}

// inf writes the lines that end a closed segment.
func (n names) inf(b []byte, s *segment.Segment) []byte {
	if s.Gap {
		b = append(b, "#EXT-X-GAP\n"...)
	}
	b = append(b, "#EXTINF:"...)
	b = appendSeconds(b, s.Duration)
	b = append(b, ",\n"...)
	b = n.segment(b, s.Run, s.Number)
	return append(b, '\n')
}

// appendTag writes a tag with a whole number.
func appendTag(b []byte, tag string, n uint64) []byte {
	b = append(b, tag...)
	b = strconv.AppendUint(b, n, 10)
	return append(b, '\n')
}

// quoted writes s as the inside of a quoted-string (RFC 8216 §4.2), without
// the characters that may not stand in one.
func quoted(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if c := s[i]; c >= ' ' && c != '"' && c != 0x7f {
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// folderOf is the path segment of a kind of track.
func folderOf(k media.Kind) string {
	if k == media.Audio {
		return "audio"
	}
	return "video"
}
