// Package hlscheck reads HLS as a strict player would: it parses playlists by RFC 8216bis and fragments by ISO/IEC
// 14496-12 with code of its own, follows a live playlist with blocking reloads, downloads everything that is named,
// and writes down each rule that was broken.
//
// Follower is the type to read first.
package hlscheck

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Variant is one EXT-X-STREAM-INF with its URI.
type Variant struct {
	URI                         string
	Bandwidth, AverageBandwidth int
	Codecs, Resolution, Audio   string
	FrameRate                   float64
	Attributes                  map[string]string
}

// Media is one EXT-X-MEDIA.
type Media struct {
	Type, Group, Name, URI, Channels, Language string
	Default, Autoselect                        bool
}

// Multivariant is a multivariant playlist.
type Multivariant struct {
	Version     int
	Independent bool // EXT-X-INDEPENDENT-SEGMENTS
	Variants    []Variant
	Media       []Media
}

// Part is one EXT-X-PART.
type Part struct {
	URI         string
	Duration    time.Duration
	Independent bool
	Gap         bool
}

// Segment is a media segment, or the parts behind the last one.
type Segment struct {
	Number        uint64
	Discontinuity uint64 // discontinuity sequence number
	URI           string // empty: the segment is not finished
	Duration      time.Duration
	Time          time.Time // EXT-X-PROGRAM-DATE-TIME; zero: not given
	Map           string
	Gap           bool
	Parts         []Part
}

// Report is one EXT-X-RENDITION-REPORT.
type Report struct {
	URI      string
	LastMSN  uint64
	LastPart int // -1: not given
}

// Playlist is a media playlist.
type Playlist struct {
	Version               int
	TargetDuration        time.Duration
	PartTarget            time.Duration // 0: no parts
	MediaSequence         uint64
	DiscontinuitySequence uint64
	CanBlock              bool
	PartHoldBack          time.Duration
	HoldBack              time.Duration
	CanSkipUntil          time.Duration
	Skipped               int
	Segments              []Segment
	Open                  *Segment // the parts behind the last segment; nil: none
	Hint                  string   // EXT-X-PRELOAD-HINT TYPE=PART
	Reports               []Report
	Ended                 bool
	Independent           bool // EXT-X-INDEPENDENT-SEGMENTS
	Type                  string
}

// Edge is the number and the part that a blocking reload asks for next.
func (p *Playlist) Edge() (number uint64, part int) {
	number = p.MediaSequence + uint64(p.Skipped) + uint64(len(p.Segments)) //nolint:gosec // small
	if p.Open != nil {
		return number, len(p.Open.Parts)
	}
	return number, 0
}

// All are the finished segments and, when there is one, the open one.
func (p *Playlist) All() []Segment {
	if p.Open == nil {
		return p.Segments
	}
	return append(append([]Segment(nil), p.Segments...), *p.Open)
}

// attributes splits an attribute list (RFC 8216bis section 4.2).
func attributes(s string) (map[string]string, error) {
	out := make(map[string]string)
	for s != "" {
		name, rest, ok := strings.Cut(s, "=")
		if !ok || name == "" || strings.ContainsAny(name, " \",") {
			return nil, fmt.Errorf("the attribute list %q has no name and value", s)
		}
		var value string
		if strings.HasPrefix(rest, `"`) {
			end := strings.IndexByte(rest[1:], '"')
			if end < 0 {
				return nil, fmt.Errorf("the attribute %s has no closing quote", name)
			}
			value, rest = rest[1:1+end], rest[2+end:]
			if rest != "" && rest[0] != ',' {
				return nil, fmt.Errorf("the attribute %s is followed by %q", name, rest)
			}
			rest = strings.TrimPrefix(rest, ",")
		} else {
			value, rest, _ = strings.Cut(rest, ",")
		}
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("the attribute %s stands twice", name)
		}
		out[name] = value
		s = rest
	}
	return out, nil
}

// seconds reads a decimal number of seconds.
func seconds(s string) (time.Duration, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f < 0 {
		return 0, fmt.Errorf("%q is not a number of seconds", s)
	}
	return time.Duration(f*1e9 + 0.5), nil
}

// lines splits a playlist and checks its first line.
func lines(text string) ([]string, error) {
	if strings.ContainsRune(text, '\uFEFF') {
		return nil, fmt.Errorf("the playlist has a byte order mark")
	}
	all := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := range all {
		all[i] = strings.TrimSuffix(all[i], "\r")
	}
	if all[0] != "#EXTM3U" {
		return nil, fmt.Errorf("the first line is %q, not #EXTM3U", all[0])
	}
	return all[1:], nil
}

// ParseMultivariant reads a multivariant playlist and fails on what it does not know.
func ParseMultivariant(text string) (*Multivariant, error) {
	rest, err := lines(text)
	if err != nil {
		return nil, err
	}
	m := &Multivariant{Version: 1}
	var pending *Variant
	for _, line := range rest {
		if err := m.line(line, &pending); err != nil {
			return nil, err
		}
	}
	if pending != nil {
		return nil, fmt.Errorf("EXT-X-STREAM-INF without a URI")
	}
	return m, nil
}

func (m *Multivariant) line(line string, pending **Variant) error {
	tag, value, _ := strings.Cut(line, ":")
	switch {
	case line == "" || strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "#EXT"):
		return nil
	case !strings.HasPrefix(line, "#"):
		if *pending == nil {
			return fmt.Errorf("the URI %q has no EXT-X-STREAM-INF", line)
		}
		(*pending).URI = line
		m.Variants = append(m.Variants, **pending)
		*pending = nil
		return nil
	case *pending != nil:
		return fmt.Errorf("%s stands between EXT-X-STREAM-INF and its URI", tag)
	}
	switch tag {
	case "#EXT-X-VERSION":
		var err error
		m.Version, err = strconv.Atoi(value)
		return err
	case "#EXT-X-INDEPENDENT-SEGMENTS":
		m.Independent = true
	case "#EXT-X-STREAM-INF":
		v, err := parseVariant(value)
		*pending = v
		return err
	case "#EXT-X-MEDIA":
		a, err := attributes(value)
		if err != nil {
			return err
		}
		m.Media = append(m.Media, Media{Type: a["TYPE"], Group: a["GROUP-ID"], Name: a["NAME"], URI: a["URI"],
			Channels: a["CHANNELS"], Language: a["LANGUAGE"], Default: a["DEFAULT"] == "YES", Autoselect: a["AUTOSELECT"] == "YES"})
	case "#EXT-X-START", "#EXT-X-DEFINE", "#EXT-X-SESSION-DATA":
	default:
		return fmt.Errorf("the tag %s does not belong into a multivariant playlist", tag)
	}
	return nil
}

func parseVariant(value string) (*Variant, error) {
	a, err := attributes(value)
	if err != nil {
		return nil, err
	}
	v := &Variant{Codecs: a["CODECS"], Resolution: a["RESOLUTION"], Audio: a["AUDIO"], Attributes: a}
	if v.Bandwidth, err = strconv.Atoi(a["BANDWIDTH"]); err != nil || v.Bandwidth <= 0 {
		return nil, fmt.Errorf("BANDWIDTH is %q", a["BANDWIDTH"])
	}
	if s := a["AVERAGE-BANDWIDTH"]; s != "" {
		if v.AverageBandwidth, err = strconv.Atoi(s); err != nil {
			return nil, fmt.Errorf("AVERAGE-BANDWIDTH is %q", s)
		}
	}
	if s := a["FRAME-RATE"]; s != "" {
		if v.FrameRate, err = strconv.ParseFloat(s, 64); err != nil {
			return nil, fmt.Errorf("FRAME-RATE is %q", s)
		}
	}
	return v, nil
}
