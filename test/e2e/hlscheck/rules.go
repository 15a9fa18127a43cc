package hlscheck

import (
	"fmt"
	"path"
	"time"
)

// Tolerances: playlists carry decimal seconds, of which we expect at least three digits.
const (
	decimals  = time.Millisecond // of one number
	clockSlip = 5 * time.Millisecond
)

// Findings is a list of broken rules. The zero value is empty.
type Findings struct {
	list []string
	seen map[string]bool
}

// add notes a finding once.
func (f *Findings) add(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if f.seen[s] {
		return
	}
	if f.seen == nil {
		f.seen = make(map[string]bool)
	}
	f.seen[s] = true
	f.list = append(f.list, s)
}

// List is what was found, in order.
func (f *Findings) List() []string { return f.list }

// CheckMedia holds one media playlist, on its own, against RFC 8216bis.
func CheckMedia(p *Playlist, f *Findings) { checkMedia(p, f, false) }

func checkMedia(p *Playlist, f *Findings, sparse bool) {
	checkControl(p, f)
	all := p.All()
	for i, s := range all {
		checkSegment(p, s, f, sparse)
		if i == 0 || s.Gap || all[i-1].Gap || s.Discontinuity != all[i-1].Discontinuity {
			continue
		}
		// Section 4.4.4.6: the clock of the segment is the one before plus its duration.
		if drift := s.Time.Sub(all[i-1].Time.Add(all[i-1].Duration)); !s.Time.IsZero() && !all[i-1].Time.IsZero() && drift.Abs() > clockSlip {
			f.add("the program date time of segment %d is %v off the end of the one before", s.Number, drift)
		}
	}
	if p.PartTarget > 0 && p.CanBlock && !p.Ended && p.Hint == "" {
		f.add("a live low-latency playlist has no preload hint (section 4.4.5.3 and B.1)")
	}
	if p.Ended && p.Hint != "" {
		f.add("an ended playlist has a preload hint")
	}
}

// checkControl checks the versions and EXT-X-SERVER-CONTROL (sections 4.4.3.8 and 8).
func checkControl(p *Playlist, f *Findings) {
	if p.Version < 6 {
		f.add("EXT-X-VERSION is %d; EXT-X-MAP in a playlist of segments needs 6", p.Version)
	}
	if p.Skipped > 0 && p.Version < 9 {
		f.add("EXT-X-VERSION is %d; EXT-X-SKIP needs 9", p.Version)
	}
	if p.PartTarget == 0 {
		return
	}
	if p.PartHoldBack == 0 {
		f.add("EXT-X-PART-INF without PART-HOLD-BACK")
	}
	if p.PartHoldBack < 3*p.PartTarget {
		f.add("PART-HOLD-BACK %v is less than three times PART-TARGET %v", p.PartHoldBack, p.PartTarget)
	}
	if p.HoldBack != 0 && p.HoldBack < 3*p.TargetDuration {
		f.add("HOLD-BACK %v is less than three times the target duration", p.HoldBack)
	}
	if p.CanSkipUntil != 0 && p.CanSkipUntil < 6*p.TargetDuration {
		f.add("CAN-SKIP-UNTIL %v is less than six times the target duration", p.CanSkipUntil)
	}
}

func checkSegment(p *Playlist, s Segment, f *Findings, sparse bool) {
	if s.Map == "" && !s.Gap {
		f.add("segment %d has no EXT-X-MAP", s.Number)
	}
	if s.URI != "" {
		if s.Duration <= 0 {
			f.add("segment %d has no duration", s.Number)
		}
		// Section 4.4.3.1: rounded to the nearest integer it is at most the target.
		if s.Duration.Round(time.Second) > p.TargetDuration {
			f.add("segment %d lasts %v, more than the target duration %v", s.Number, s.Duration, p.TargetDuration)
		}
	}
	if len(s.Parts) > 0 && p.PartTarget == 0 {
		f.add("segment %d has parts but the playlist no EXT-X-PART-INF", s.Number)
	}
	var sum time.Duration
	for i, part := range s.Parts {
		sum += part.Duration
		if part.Duration > p.PartTarget+decimals/2 {
			f.add("part %d of segment %d lasts %v, more than PART-TARGET %v", i, s.Number, part.Duration, p.PartTarget)
		}
		// The last part of a segment may be short; of an open segment nobody knows which is the last.
		if i < len(s.Parts)-1 && part.Duration < p.PartTarget*85/100-decimals {
			f.add("part %d of segment %d lasts %v, less than 85 %% of PART-TARGET %v, and is not the last", i, s.Number, part.Duration, p.PartTarget)
		}
	}
	if s.URI != "" && len(s.Parts) > 0 && !(sparse && sum < s.Duration) && (sum-s.Duration).Abs() > decimals*time.Duration(len(s.Parts)+1)/2 {
		f.add("the parts of segment %d last %v, the segment %v", s.Number, sum, s.Duration)
	}
}

// CheckNext holds a playlist against the one fetched before it (section 6.2.1 and 6.2.2). restarted allows the
// numbers to leap and part URIs to change.
func CheckNext(before, after *Playlist, f *Findings) {
	if before.TargetDuration != after.TargetDuration {
		f.add("the target duration went from %v to %v", before.TargetDuration, after.TargetDuration)
	}
	if before.PartTarget != after.PartTarget {
		f.add("PART-TARGET went from %v to %v", before.PartTarget, after.PartTarget)
	}
	if after.MediaSequence < before.MediaSequence {
		f.add("EXT-X-MEDIA-SEQUENCE went back from %d to %d", before.MediaSequence, after.MediaSequence)
	}
	if after.DiscontinuitySequence < before.DiscontinuitySequence {
		f.add("EXT-X-DISCONTINUITY-SEQUENCE went back from %d to %d", before.DiscontinuitySequence, after.DiscontinuitySequence)
	}
	beforeNumber, beforePart := before.Edge()
	number, part := after.Edge()
	if number < beforeNumber || number == beforeNumber && part < beforePart {
		f.add("the live edge went back from %d.%d to %d.%d", beforeNumber, beforePart, number, part)
	}
	known := make(map[uint64]Segment)
	for _, s := range before.All() {
		known[s.Number] = s
	}
	for _, s := range after.All() {
		if old, ok := known[s.Number]; ok {
			checkSame(old, s, f)
		}
	}
	if removed := int64(after.MediaSequence - before.MediaSequence); removed > 0 && after.Skipped == 0 { //nolint:gosec // small
		checkRemoval(after, f)
	}
}

// checkSame holds a segment against what was said of it before.
func checkSame(old, s Segment, f *Findings) {
	if old.URI != "" && old.URI != s.URI {
		f.add("segment %d was %s and is %s", s.Number, old.URI, s.URI)
	}
	if old.URI != "" && old.Duration != s.Duration {
		f.add("segment %d lasted %v and lasts %v", s.Number, old.Duration, s.Duration)
	}
	if old.Discontinuity != s.Discontinuity {
		f.add("segment %d had the discontinuity number %d and has %d", s.Number, old.Discontinuity, s.Discontinuity)
	}
	if !old.Time.IsZero() && !s.Time.IsZero() && !old.Time.Equal(s.Time) {
		f.add("segment %d began at %v and begins at %v", s.Number, old.Time, s.Time)
	}
	if len(s.Parts) == 0 {
		return // parts of old segments are dropped from the list
	}
	if len(s.Parts) < len(old.Parts) {
		f.add("segment %d had %d parts and has %d", s.Number, len(old.Parts), len(s.Parts))
		return
	}
	for i := range old.Parts {
		if old.Parts[i] != s.Parts[i] {
			f.add("part %d of segment %d was %v and is %v", i, s.Number, old.Parts[i], s.Parts[i])
		}
	}
}

// checkRemoval checks that a live playlist from which segments were removed is long enough (section 6.2.2).
func checkRemoval(p *Playlist, f *Findings) {
	var sum time.Duration
	for _, s := range p.Segments {
		sum += s.Duration
	}
	if sum < 3*p.TargetDuration && !p.Ended {
		f.add("segments were removed and %v are left, less than three target durations", sum)
	}
	if len(p.Segments) == 0 {
		return
	}
	// Section 4.4.4.9: parts stay listed for three target durations from the end.
	var back time.Duration
	newest := p.Segments[len(p.Segments)-1].URI
	if p.Open != nil && len(p.Open.Parts) > 0 {
		newest = p.Open.Parts[0].URI
	}
	if p.Open != nil {
		for _, part := range p.Open.Parts {
			back += part.Duration
		}
	}
	for i := len(p.Segments) - 1; i >= 0 && p.PartTarget > 0; i-- {
		s := p.Segments[i]
		if path.Dir(s.URI) != path.Dir(newest) {
			break // of an earlier run of the server, which no longer knows its parts
		}
		if back+s.Duration <= 3*p.TargetDuration && len(s.Parts) == 0 && !s.Gap {
			f.add("segment %d lists no parts though it is less than three target durations from the end", s.Number)
		}
		back += s.Duration
	}
}
