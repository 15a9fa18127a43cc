package hls

import (
	"context"
	"net/http"
	"time"

	"github.com/klive-media/klive/internal/segment"
)

// waitFor bounds how long a request is held, in target durations (RFC 8216bis
// §6.2.5.2).
const waitFor = 3

// held says how the wait of a request ended.
type held struct {
	waited  bool // it had to wait at all
	gone    bool // the viewer went away
	refusal *refusal
}

// await holds a request until done says yes of the row's newest snapshot, the
// viewer goes away, or three target durations have passed.
func (h *Handler) await(ctx context.Context, v *row, done func(*segment.Index) (bool, *refusal)) held {
	var timeout <-chan time.Time
	var result held
	for {
		x := v.shelf.shelf.Index(v.id)
		if x == nil {
			result.refusal = refuseStream(v.shelf.id.Stream)
			return result
		}
		ok, refusal := done(x)
		if ok || refusal != nil {
			result.refusal = refusal
			return result
		}
		if !result.waited {
			result.waited = true
			timer := time.NewTimer(waitFor * x.Targets.Segment)
			defer timer.Stop()
			timeout = timer.C
			h.stats.blocked.Add(1)
			h.stats.waiting.Add(1)
			defer h.stats.waiting.Add(-1)
			v.shelf.waiting.Add(1)
			defer v.shelf.waiting.Add(-1)
		}
		select {
		case <-x.Changed():
		case <-ctx.Done():
			result.gone = true
			return result
		case <-timeout:
			result.refusal = refuse(http.StatusServiceUnavailable,
				"The stream %q sent nothing new for %d target durations; try again.", v.shelf.id.Stream, waitFor)
			return result
		}
	}
}

// reached reports whether the playlist of x holds what a blocking reload asks
// for, and refuses what is too far in the future (RFC 8216bis §6.2.5.2).
func (q *query) reached(x *segment.Index) (bool, *refusal) {
	if !q.blocking || x.Ended {
		return true, nil
	}
	next := x.Next.Segment // the segment after the last closed one
	if n := len(x.Closed); n > 0 {
		next = x.Closed[n-1].Number + 1
	}
	if x.Open != nil {
		next = x.Open.Number
	}
	switch {
	case q.msn > next+1:
		return false, refuseFuture()
	case q.msn > next:
		return false, nil
	case q.msn == next:
		have := 0
		if x.Open != nil {
			have = len(x.Open.Parts)
		}
		if q.part >= have+advance(x.Targets.Part) {
			return false, refuseFuture()
		}
		return q.part != whole && q.part < have, nil
	case q.msn+1 < next || q.part == whole:
		return true, nil
	}
	// The newest closed segment. A part it does not have means the first part of
	// the next segment.
	if n := len(x.Closed); n == 0 || q.part < len(x.Closed[n-1].Parts) || x.Closed[n-1].Parts == nil {
		return true, nil
	}
	return x.Open != nil && len(x.Open.Parts) > 0, nil
}

// advance is the Advance Part Limit: how many parts beyond the last one may be
// asked for.
func advance(part time.Duration) int {
	if part <= 0 || part >= time.Second {
		return 3
	}
	return int((3*time.Second + part - 1) / part)
}

func refuseFuture() *refusal {
	return refuse(http.StatusBadRequest, "_HLS_msn or _HLS_part is too far in the future; reload the playlist without them.")
}
