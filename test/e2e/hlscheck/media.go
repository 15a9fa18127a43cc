package hlscheck

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parser holds what a media playlist has said so far.
type parser struct {
	p         *Playlist
	next      Segment // tags that wait for their URI
	discs     uint64  // EXT-X-DISCONTINUITY seen
	firstSeen bool    // a segment or part was seen
	inherits  string  // the EXT-X-MAP in force
	inf       bool    // EXTINF seen for next
}

// ParseMedia reads a media playlist and fails on what it does not know or what stands in the wrong place.
func ParseMedia(text string) (*Playlist, error) {
	rest, err := lines(text)
	if err != nil {
		return nil, err
	}
	s := parser{p: &Playlist{Version: 1}}
	for n, line := range rest {
		if line == "" || strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "#EXT") {
			continue
		}
		if strings.HasPrefix(line, "#") {
			tag, value, _ := strings.Cut(line, ":")
			err = s.tag(strings.TrimPrefix(tag, "#"), value)
		} else {
			err = s.uri(line)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n+2, err)
		}
	}
	if s.inf {
		return nil, fmt.Errorf("EXTINF without a URI")
	}
	if len(s.next.Parts) > 0 {
		s.place()
		open := s.next
		s.p.Open = &open
	}
	if s.p.TargetDuration == 0 {
		return nil, fmt.Errorf("EXT-X-TARGETDURATION is missing")
	}
	return s.p, nil
}

// place gives the pending segment its numbers.
func (s *parser) place() {
	s.next.Number = s.p.MediaSequence + uint64(s.p.Skipped) + uint64(len(s.p.Segments)) //nolint:gosec // small
	s.next.Discontinuity = s.p.DiscontinuitySequence + s.discs
	s.next.Map = s.inherits
}

func (s *parser) uri(line string) error {
	if !s.inf {
		return fmt.Errorf("the URI %q has no EXTINF", line)
	}
	s.place()
	s.next.URI = line
	s.p.Segments = append(s.p.Segments, s.next)
	s.next, s.inf = Segment{}, false
	return nil
}

func (s *parser) tag(tag, value string) (err error) {
	switch tag {
	case "EXTINF":
		duration, _, _ := strings.Cut(value, ",")
		s.next.Duration, err = seconds(duration)
		s.inf, s.firstSeen = true, true
	case "EXT-X-PART":
		s.firstSeen = true
		err = s.part(value)
	case "EXT-X-PROGRAM-DATE-TIME":
		if !s.next.Time.IsZero() {
			return fmt.Errorf("EXT-X-PROGRAM-DATE-TIME stands twice for one segment")
		}
		s.next.Time, err = time.Parse(time.RFC3339Nano, value)
	case "EXT-X-DISCONTINUITY":
		if s.inf || len(s.next.Parts) > 0 {
			return fmt.Errorf("EXT-X-DISCONTINUITY stands behind a part or EXTINF of its segment")
		}
		s.discs++
	case "EXT-X-GAP":
		s.next.Gap = true
	case "EXT-X-MAP":
		a, aerr := attributes(value)
		if aerr != nil || a["URI"] == "" {
			return fmt.Errorf("EXT-X-MAP %q has no URI", value)
		}
		s.inherits = a["URI"]
	default:
		return s.header(tag, value)
	}
	return err
}

func (s *parser) part(value string) error {
	a, err := attributes(value)
	if err != nil {
		return err
	}
	if a["URI"] == "" || a["DURATION"] == "" {
		return fmt.Errorf("EXT-X-PART %q lacks URI or DURATION", value)
	}
	d, err := seconds(a["DURATION"])
	if err != nil {
		return err
	}
	if v, ok := a["INDEPENDENT"]; ok && v != "YES" {
		return fmt.Errorf("INDEPENDENT is %q", v)
	}
	s.next.Parts = append(s.next.Parts, Part{URI: a["URI"], Duration: d, Independent: a["INDEPENDENT"] == "YES", Gap: a["GAP"] == "YES"})
	return nil
}

// header reads the tags that say something about the whole playlist.
func (s *parser) header(tag, value string) (err error) {
	p := s.p
	switch tag {
	case "EXT-X-VERSION":
		p.Version, err = strconv.Atoi(value)
	case "EXT-X-TARGETDURATION":
		var n int
		n, err = strconv.Atoi(value)
		p.TargetDuration = time.Duration(n) * time.Second
	case "EXT-X-MEDIA-SEQUENCE":
		if s.firstSeen {
			return fmt.Errorf("EXT-X-MEDIA-SEQUENCE stands behind a segment")
		}
		p.MediaSequence, err = strconv.ParseUint(value, 10, 64)
	case "EXT-X-DISCONTINUITY-SEQUENCE":
		if s.firstSeen || s.discs > 0 {
			return fmt.Errorf("EXT-X-DISCONTINUITY-SEQUENCE stands behind a segment or discontinuity")
		}
		p.DiscontinuitySequence, err = strconv.ParseUint(value, 10, 64)
	case "EXT-X-ENDLIST":
		p.Ended = true
	case "EXT-X-PLAYLIST-TYPE":
		p.Type = value
	case "EXT-X-INDEPENDENT-SEGMENTS":
		p.Independent = true
	case "EXT-X-START":
	default:
		return s.lowLatency(tag, value)
	}
	return err
}

// lowLatency reads the tags of low-latency playlists.
func (s *parser) lowLatency(tag, value string) error {
	a, err := attributes(value)
	if err != nil {
		return err
	}
	p := s.p
	switch tag {
	case "EXT-X-PART-INF":
		p.PartTarget, err = seconds(a["PART-TARGET"])
	case "EXT-X-SERVER-CONTROL":
		p.CanBlock = a["CAN-BLOCK-RELOAD"] == "YES"
		for name, to := range map[string]*time.Duration{"PART-HOLD-BACK": &p.PartHoldBack, "HOLD-BACK": &p.HoldBack, "CAN-SKIP-UNTIL": &p.CanSkipUntil} {
			if a[name] == "" {
				continue
			}
			if *to, err = seconds(a[name]); err != nil {
				return err
			}
		}
	case "EXT-X-PRELOAD-HINT":
		if a["TYPE"] == "PART" {
			if p.Hint != "" {
				return fmt.Errorf("two preload hints for parts")
			}
			p.Hint = a["URI"]
		}
	case "EXT-X-RENDITION-REPORT":
		r := Report{URI: a["URI"], LastPart: -1}
		if r.LastMSN, err = strconv.ParseUint(a["LAST-MSN"], 10, 64); err != nil {
			return fmt.Errorf("LAST-MSN is %q", a["LAST-MSN"])
		}
		if v := a["LAST-PART"]; v != "" {
			if r.LastPart, err = strconv.Atoi(v); err != nil {
				return fmt.Errorf("LAST-PART is %q", v)
			}
		}
		p.Reports = append(p.Reports, r)
	case "EXT-X-SKIP":
		if p.Skipped > 0 || s.firstSeen {
			return fmt.Errorf("EXT-X-SKIP stands twice or behind a segment")
		}
		p.Skipped, err = strconv.Atoi(a["SKIPPED-SEGMENTS"])
	default:
		return fmt.Errorf("the tag %s does not belong into a media playlist", tag)
	}
	return err
}
