package delivery

import (
	"fmt"
	"time"

	"github.com/klive-media/klive/internal/stream"
)

// overtakeAfter is how long a finished piece waits for an unfinished one of an
// older recording of its lane. A recorder that finishes a piece at all does so
// within minutes; one that lost the file never does, and must not hold the lane
// for ever.
const overtakeAfter = 30 * time.Minute

// unfinished keeps newer recordings from overtaking older ones in a lane while
// a piece of these is still being finished. Only watch uses it.
type unfinished struct {
	first map[laneID]pieceID   // of a look: the oldest piece of the lane that has no row
	since map[laneID]time.Time // when something was first held in the lane because of it
	gone  map[laneID]bool      // what was held has gone on
}

func newUnfinished() unfinished {
	return unfinished{first: map[laneID]pieceID{}, since: map[laneID]time.Time{}, gone: map[laneID]bool{}}
}

// meet notes a piece without a row that those behind it wait for.
func (u *unfinished) meet(rec *stream.Recording, p stream.Piece) {
	lane := laneID{rec.Stream, rec.ServerIndex, p.Rendition}
	if _, older := u.first[lane]; !older {
		u.first[lane] = pieceID{rec.ID, p.Rendition, p.Number}
	}
}

// due is when something that is held goes on by itself; zero: nothing is held.
func (u *unfinished) due() (at time.Time) {
	for lane, since := range u.since {
		if t := since.Add(overtakeAfter); !u.gone[lane] && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	return at
}

// look begins a look at the recordings; the func it returns ends it.
func (u *unfinished) look() func() {
	clear(u.first)
	return func() {
		for lane := range u.since {
			if _, still := u.first[lane]; !still {
				delete(u.since, lane)
				delete(u.gone, lane)
			}
		}
	}
}

// overtakes reports whether a finished piece must wait, because an older
// recording of its lane has an unfinished one: the backend's recording would be
// out of order, with its last chunk in the middle.
func (q *Queue) overtakes(rec *stream.Recording, p stream.Piece) bool {
	u := &q.unfinished
	lane := laneID{rec.Stream, rec.ServerIndex, p.Rendition}
	older, is := u.first[lane]
	if !is || older.recording == rec.ID {
		return false
	}
	now := time.Now()
	since, waits := u.since[lane]
	switch {
	case !waits:
		u.since[lane] = now
		return true
	case now.Sub(since) < overtakeAfter:
		return true
	case u.gone[lane]:
		return false
	}
	u.gone[lane] = true
	q.log.Warn("a recorded piece of an older recording is not finished for a long time; newer ones go on without it", "entry", rec.Stream,
		"recording", older.recording, "rendition", older.rendition, "number", older.number, "newer", rec.ID)
	r := newRow(rec, p, now)
	q.tell(stream.DeliveryDoubted, r, fmt.Sprintf("Piece %d of rendition %s of the older recording %s was not finished in %v; newer recordings go on without it, so look whether its file is lost.",
		older.number, older.rendition, older.recording, overtakeAfter))
	return false
}
