package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/stream"
)

// The times that settle a doubt.
const (
	// workTime is how long the backend may go on working at a call whose answer
	// was lost: it ends itself after 60 s.
	workTime = 70 * time.Second
	// cacheLife is for how long the backend may answer a question about an entry
	// from memory. That a length has grown is true whenever it is read; that it
	// has not is only known when it is read later than this.
	cacheLife = 2 * time.Minute
	settled   = workTime + cacheLife
	// askEach is how often the length is read meanwhile.
	askEach = 10 * time.Second
)

// maxDoubtPause is how long a lane waits at most with the next piece when
// several in a row are in doubt: twice as long for each, beginning with
// workTime.
const maxDoubtPause = 15 * time.Minute

// tolerance is how far the entry's growth may be from a piece's duration: the
// backend counts whole milliseconds, and encoders of its numbers round.
const tolerance = 20 // ms

// verdict is what an entry's length says of a call.
type verdict uint8

const (
	unclear verdict = iota
	grown           // by this piece: the call was carried out
	same            // it was not, when nobody works at it any more and lengths count
)

// judge compares the entry with what it was before the call.
func (in *intent) judge(e client.Entry, duration time.Duration) verdict {
	if !in.Certain || in.Recorded != string(e.RecordedEntry) {
		return unclear
	}
	switch now := int64(e.RecordedLength); {
	case now == in.Before:
		return same
	case in.grew(now, duration) && now != in.Before:
		return grown
	}
	return unclear
}

// reliable says what the length just read, in.Before, is worth. It is certain
// when it is what the answer to the piece before said, or when nothing changed
// it for so long that the backend cannot have answered from memory. It counts
// when the piece before made it longer by as much; or when it is zero, as it
// cannot be with a piece more. Else the length may be that of an earlier
// recording, which the first piece of this one replaces.
func (q *Queue) reliable(r *row, in *intent) (certain, counts bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	quiet := true
	if l := q.lanes[r.lane()]; l != nil {
		if time.Since(l.doubted) < settled {
			return false, false // that piece may make it longer at any moment
		}
		quiet = time.Since(l.touched) > cacheLife
	}
	before := q.table[pieceID{r.Recording, r.Rendition, r.Number - 1}]
	if before == nil || before.State != delivered || before.Intent == nil || before.Intent.After == 0 || before.Intent.Recorded != in.Recorded {
		return quiet, in.Before == 0
	}
	last := before.Intent
	followed := last.Certain && last.grew(last.After, before.Duration)
	return quiet || last.After == in.Before, followed || in.Before == 0
}

// grew reports whether a length is that of before the call and a piece.
func (in *intent) grew(now int64, duration time.Duration) bool {
	growth, want := now-in.Before, duration.Milliseconds()
	return growth >= want-min(tolerance, want/2) && growth <= want+tolerance
}

// lost is what follows when a call was made and no answer came.
func (q *Queue) lost(ctx context.Context, r *row, err error) {
	r.Code, r.Error, r.away = "", err.Error(), true
	q.mu.Lock()
	q.down = true
	q.mu.Unlock()
	if !r.Intent.Certain {
		q.doubt(ctx, r, "the answer was lost, and the backend shows nothing that tells whether it has the piece")
		return
	}
	r.Intent.Asked = time.Now()
	r.fails = 0
	r.next = r.Intent.Asked.Add(firstBackoff)
	q.record(ctx, r)
}

// resolve decides about a row whose call was made, perhaps, and whose answer
// is not known.
func (q *Queue) resolve(ctx context.Context, r *row) {
	if r.Intent == nil || !r.Intent.Certain {
		q.doubt(ctx, r, "the server ended before the answer came, and the backend shows nothing that tells whether it has the piece")
		return
	}
	asked := time.Now()
	e, err := q.opts.Client.GetEntry(ctx, r.Partner, r.Stream)
	if err != nil {
		q.unresolved(ctx, r, err)
		return
	}
	q.answered()
	switch r.Intent.judge(e, r.Duration) {
	case grown:
		q.deliver(ctx, r, e)
	case same:
		if asked.Sub(r.Intent.Asked) < settled {
			r.away, r.fails, r.next = false, 0, time.Now().Add(min(askEach, settled-asked.Sub(r.Intent.Asked)))
			q.note(r)
			return
		}
		if !r.Intent.Counts {
			q.doubt(ctx, r, "the answer was lost, and it is not known whether the length of the entry in the backend would have grown")
			return
		}
		// What was uploaded may have been used up.
		r.State, r.Upload, r.next, r.fails = queued, nil, time.Time{}, 0
		r.Error = "the answer was lost; the backend does not have the piece, so it is sent again"
		q.record(ctx, r)
	default:
		q.doubt(ctx, r, "the answer was lost, and the length of the entry in the backend does not tell whether it has the piece")
	}
}

// unresolved puts a question off that got no answer, or gives it up when the
// backend does not know the entry any more.
func (q *Queue) unresolved(ctx context.Context, r *row, err error) {
	if ctx.Err() != nil {
		return
	}
	api, answered := errors.AsType[*client.Error](err)
	if answered && remedyOf(api.Code) == refusal {
		r.Code = api.Code
		q.doubt(ctx, r, "the answer was lost, and the backend does not tell the entry's length: "+err.Error())
		return
	}
	r.fails++
	r.away = !answered
	r.Error = err.Error()
	r.next = time.Now().Add(backoff(r.fails))
	if r.away {
		q.mu.Lock()
		q.down = true
		q.mu.Unlock()
	}
	q.note(r)
}

// doubt leaves a piece to somebody's decision; those behind it go on, as
// sending it again could double it.
func (q *Queue) doubt(ctx context.Context, r *row, why string) {
	if r.Error != "" {
		why += " (" + r.Error + ")"
	}
	r.State, r.Done, r.Error = inDoubt, time.Now(), why
	if !q.record(ctx, r) {
		return
	}
	q.mu.Lock()
	q.counts.doubted++
	if l := q.lanes[r.lane()]; l != nil {
		if l.doubts++; l.doubts > 1 {
			l.until = time.Now().Add(min(workTime<<min(l.doubts-1, 10), maxDoubtPause))
		}
	}
	q.mu.Unlock()
	if r.Content {
		signal(q.kick)
	}
	q.log.Warn("it is not known whether the backend has a recorded piece", "entry", r.Stream, "recording", r.Recording,
		"rendition", r.Rendition, "number", r.Number, "error", r.Error)
	q.tell(stream.DeliveryDoubted, r, fmt.Sprintf("It is not known whether the backend has piece %d of rendition %s; look there, and accept the delivery, or retry it when the piece is missing.", r.Number, r.Rendition))
}
