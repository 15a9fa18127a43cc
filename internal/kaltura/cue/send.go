package cue

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/observe"
	"github.com/klive-media/klive/internal/stream"
)

// sender hands the cue points of one broadcast to the backend, one after the
// other. It belongs to one goroutine.
type sender struct {
	Options
	info     egress.Info
	problems *observe.Sampler

	told   time.Time // the last event
	untold int       // forwarded since
	last   stream.Event

	forbidden bool // the backend said so last, and the log does
}

// codeForbidden: the role of this server's partner lacks the permission.
const codeForbidden = "SERVICE_FORBIDDEN"

// run forwards what waits until the channel is closed and empty. What is left
// when ctx ends is given up.
func (s *sender) run(ctx context.Context, waiting <-chan cuePoint) {
	defer s.tell()
	for {
		var due <-chan time.Time
		if s.untold > 0 {
			due = time.After(tellEvery - time.Since(s.told))
		}
		select {
		case c, open := <-waiting:
			switch {
			case !open:
				return
			case ctx.Err() != nil:
				s.problems.Count("cue points that waited for the backend were given up at the end of the broadcast", nil)
			default:
				s.forward(ctx, c)
			}
		case <-due:
			s.tell()
		}
	}
}

// forward adds a cue point. Adding it is not idempotent: it is tried again
// only when it surely was not carried out.
func (s *sender) forward(ctx context.Context, c cuePoint) {
	for attempt := 1; ; attempt++ {
		id, err := s.add(ctx, c)
		if err == nil {
			s.forbidden = false
			s.forwarded(c, id)
			return
		}
		if client.HasCode(err, codeForbidden) { // as it will for every other
			if !s.forbidden {
				s.problems.Count("the backend does not let this server add cue points, so those of this broadcast are not forwarded; "+
					"grant its partner the permission for cuePoint add", err)
			}
			s.forbidden = true
			return
		}
		away, unanswered := errors.AsType[*client.Unavailable](err)
		if !unanswered || away.Doubt || attempt == maxAttempts || !pause(ctx, retryPause*time.Duration(attempt)) {
			s.problems.Count("a cue point of the encoder was not forwarded", err)
			return
		}
	}
}

// pause waits; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// add is cuePoint.add in the partner's name. The service is a plugin's, hence
// its name.
func (s *sender) add(ctx context.Context, c cuePoint) (string, error) {
	cue := client.Params{"objectType": c.kind, "entryId": s.info.Stream}
	for name, value := range c.fields {
		cue[name] = value
	}
	var added struct {
		ID client.Text `json:"id"`
	}
	err := s.Client.Do(ctx, client.Call{Service: "cuepoint_cuepoint", Action: "add", Partner: s.info.Partner, Aside: true, Timeout: callTimeout,
		Params: client.Params{"cuePoint": cue}}, &added)
	return string(added.ID), err
}

// forwarded makes an event of a cue point that was added, or counts it for the
// next one.
func (s *sender) forwarded(c cuePoint, id string) {
	s.untold++
	s.last = stream.Event{Type: stream.CuePointSent, Stream: s.info.Stream,
		Message: "a cue point of the encoder was added to the entry",
		Facts: map[string]string{"broadcast": s.info.Broadcast, "server_index": strconv.Itoa(s.info.ServerIndex),
			"partner": strconv.Itoa(s.info.Partner), "cue_point": id, "type": c.kind}}
	if time.Since(s.told) >= tellEvery {
		s.tell()
	}
}

// tell records the event of what was forwarded since the one before.
func (s *sender) tell() {
	if s.untold == 0 {
		return
	}
	e := s.last
	if s.untold > 1 {
		e.Message = strconv.Itoa(s.untold) + " cue points of the encoder were added to the entry"
		e.Facts["count"] = strconv.Itoa(s.untold)
	}
	e.Time = time.Now()
	s.Journal.Record(e)
	s.told, s.untold = e.Time, 0
}
