package segment

import (
	"time"

	"github.com/klive-media/klive/internal/media"
)

// This file is where a rendition stands among the others of its shelf: which
// number its next segment has, and the gaps that keep its rows in step.

// slack is how far a segment may pass the target duration: EXTINF is rounded
// to the nearest second (RFC 8216, 4.3.3.1).
const slack = 450 * time.Millisecond

// wish is how long segments of the broadcast shall last; mu is held.
func (h *shelf) wish() time.Duration {
	if d := h.broadcast.SegmentDuration; d > 0 {
		return d
	}
	return h.store.opts.SegmentDuration
}

// window is how much of the past the rows list; mu is held.
func (h *shelf) window() time.Duration { return max(h.broadcast.Window, h.store.opts.Window) }

// limit is the longest segment; mu is held.
func (h *shelf) limit() time.Duration {
	if h.targets.Segment == 0 {
		return h.wish().Round(time.Second) + slack
	}
	return h.targets.Segment + slack
}

// most is how many gaps are made at once; a row that is further behind begins
// its list anew.
const most = 64

// enter gives a rendition that begins, or begins again, at a stream time the
// number of its next segment and the time from which that segment's length
// counts: where the segment of the others with this number began, so that all
// cut at the same instants from then on. mu is held.
func (h *shelf) enter(d *rendition, at time.Duration) (number uint64, since time.Duration) {
	var leader *rendition
	for _, o := range h.renditions {
		if o != d && o.running && !o.idle && o.numbered && (leader == nil || o.at > leader.at) {
			leader = o
		}
	}
	own := uint64(0)
	rows := [...]RowID{{d.id, media.Video}, {d.id, media.Audio}}
	for _, id := range rows {
		if r := (*h.rows.Load())[id]; r != nil && r.numbered {
			own = max(own, r.last+1)
		}
	}
	number, since = max(own, h.next), at
	switch {
	case leader != nil && at >= leader.at && at-leader.at <= h.limit():
		number, since = max(leader.number, own), leader.at
		if own > leader.number {
			since = at
		}
	case leader != nil && at < leader.at && leader.number > 0:
		number = max(leader.number-1, own)
	case leader == nil && d.numbered:
		number = own
	}
	for _, id := range rows {
		if r := (*h.rows.Load())[id]; r != nil && r.numbered && r.last+1 < number {
			r.fill(number-r.last-1, at, h.limit())
			r.commit()
		}
	}
	return number, since
}

// fill puts n gaps on the row, none longer than longest, up to a stream time of
// this broadcast; shelf.mu is held.
func (r *row) fill(n uint64, until, longest time.Duration) {
	h := r.shelf
	if n > most {
		r.restart(r.last + n)
		return
	}
	wall := h.wall(until)
	span := wall.Sub(r.endTime)                                        // not by stream time: the end may be another broadcast's
	each := min(max(span/time.Duration(n), time.Millisecond), longest) //nolint:gosec // n ≤ most
	for i := range n {
		left := time.Duration(n-i) * each //nolint:gosec // n ≤ most
		start := until - left
		at := wall.Add(-left)
		r.gap(Segment{
			Number: r.last + 1, Discontinuity: max(r.disc, h.discontinuity(start)), Start: start, Duration: each, Time: at,
		})
	}
}

// restart empties the row's list; last is the number before the next one.
func (r *row) restart(last uint64) {
	for i := range r.closed {
		r.unlist(&r.closed[i], r.shelf.window())
	}
	r.closed = nil
	r.last = last
}

// advance tells the shelf that the rendition began its segment number at a
// stream time. Rows of renditions that stand still get gaps up to there. mu is
// held.
func (h *shelf) advance(d *rendition, number uint64, at time.Duration) {
	lasted := h.limit()
	if d.numbered && d.number+1 == number {
		lasted = min(lasted, at-d.at)
	}
	d.number, d.at, d.numbered = number, at, true
	h.next = max(h.next, number+1)
	for _, o := range h.renditions {
		if o == d || !o.idle && o.running {
			continue
		}
		for _, r := range [...]*row{o.video, o.audio} {
			if r == nil || !r.playable || r.open != nil {
				continue
			}
			// One for each number that the others have finished; a row that is ahead of
			// them in numbers gets one when time has passed for it.
			n := uint64(0)
			if span := at - r.end; number > r.last+1 {
				n = number - 1 - r.last
			} else if span >= h.targets.Segment-slack {
				n = 1
			}
			if n > 0 {
				r.fill(n, at, lasted)
				r.commit()
			}
		}
		h.judge(o, time.Now())
	}
}

// goesOn reports whether any rendition has media coming; mu is held.
func (h *shelf) goesOn() bool {
	for _, o := range h.renditions {
		if o.running && !o.idle && o.begun {
			return true
		}
	}
	return false
}

// judge notes whether a silent rendition is still listed and has something to
// play; mu is held.
func (h *shelf) judge(d *rendition, now time.Time) {
	if !d.ready || d.running && !d.idle {
		return
	}
	if !d.unlisted && now.Sub(d.active) >= h.store.opts.ReconnectWindow && h.goesOn() {
		d.unlisted = true
		h.renditionsChanged()
	}
	if d.dark {
		return
	}
	for _, r := range [...]*row{d.video, d.audio} {
		if r == nil {
			continue
		}
		if r.open != nil {
			return
		}
		for i := range r.closed {
			if !r.closed[i].Gap {
				return
			}
		}
	}
	d.dark = true
	h.tell(Event{Kind: Unplayable, Rendition: d.id, At: d.frontier})
}

// heard notes a new part of a rendition; mu is held.
func (h *shelf) heard(d *rendition, r *row, expectVideo, expectAudio bool) {
	at := &d.audio
	if r.id.Kind == media.Video {
		at = &d.video
	}
	if *at == nil && d.ready {
		h.renditionsChanged()
	}
	*at = r
	if !d.begun {
		d.begun, d.first = true, d.frontier
	}
	if d.unlisted {
		d.unlisted = false
		h.renditionsChanged()
	}
	missing := expectVideo && d.video == nil || expectAudio && d.audio == nil
	switch {
	case !d.ready && (!missing || d.frontier-d.first >= h.store.opts.TrackWait):
		d.ready = true
	case d.ready && d.dark:
	default:
		return
	}
	d.dark = false
	h.tell(Event{Kind: Playable, Rendition: d.id, At: d.frontier})
	h.renditionsChanged()
}
