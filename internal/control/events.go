package control

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/grpc"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
	"github.com/klive-media/klive/internal/stream"
)

// eventFields are what a filter over events may use.
var eventFields = map[string]filterField[*klivev1.Event]{
	"type": {
		get:  func(e *klivev1.Event) string { return e.GetType().String() },
		form: enum(eventTypePrefix, klivev1.EventType_value),
	},
	"stream":     {get: (*klivev1.Event).GetStream, form: text},
	"session":    {get: (*klivev1.Event).GetSession, form: text},
	"reason":     {get: (*klivev1.Event).GetReason, form: text},
	"attributes": {key: func(e *klivev1.Event, key string) string { return e.GetAttributes()[key] }, form: text},
}

// The pace of reading the journal.
const (
	readEvents     = 500    // at a time
	scanEvents     = 10_000 // at most for one page; a filter may hit few
	snapshotEvents = 1000   // before a watch is synced
)

// eventService serves klive.v1.EventService.
type eventService struct {
	klivev1.UnimplementedEventServiceServer
	journal stream.Journal
	watches *watches
}

// ListEvents reads the journal backwards. It may return fewer events than
// asked for although there are more (AIP-158): the token says so.
func (s *eventService) ListEvents(ctx context.Context, r *klivev1.ListEventsRequest) (*klivev1.ListEventsResponse, error) {
	fits, err := parseFilter(r.GetFilter(), eventFields)
	if err != nil {
		return nil, err
	}
	query := pageQuery{size: r.GetPageSize(), token: r.GetPageToken(), method: "events", filter: r.GetFilter()}
	limit, err := query.limit()
	if err != nil {
		return nil, err
	}
	last, _ := s.journal.Last()
	before := last + 1 // events below this one are next
	if query.token != "" {
		key, err := decodePageToken(query.token, query.sum())
		if err != nil {
			return nil, err
		}
		if before, err = strconv.ParseUint(key, 10, 64); err != nil || before == 0 || before > last+1 {
			return nil, badPageToken()
		}
	}
	out := &klivev1.ListEventsResponse{}
	for scanned := 0; before > 1 && scanned < scanEvents; {
		after := before - 1 - min(before-1, readEvents)
		events, lost, err := s.journal.Read(ctx, after, int(before-1-after)) //nolint:gosec // at most readEvents
		if err != nil {
			return nil, err
		}
		for i := len(events) - 1; i >= 0; i-- {
			if events[i].Sequence >= before {
				continue
			}
			before = events[i].Sequence
			if p := eventProto(&events[i]); fits.match(p) {
				out.Events = append(out.Events, p)
			}
			if len(out.Events) == limit {
				break
			}
		}
		if len(out.Events) == limit {
			break
		}
		before = after + 1
		scanned += readEvents
		if lost {
			return out, nil // retention dropped what is older
		}
	}
	if before > 1 {
		out.NextPageToken = encodePageToken(query.sum(), strconv.FormatUint(before, 10))
	}
	return out, nil
}

func (s *eventService) WatchEvents(r *klivev1.WatchEventsRequest, out grpc.ServerStreamingServer[klivev1.WatchEventsResponse]) error {
	fits, err := parseFilter(r.GetFilter(), eventFields)
	if err != nil {
		return err
	}
	w := eventWatch{journal: s.journal, fits: fits, out: out}
	last, _ := s.journal.Last()
	resumed := r.GetResumeToken() != ""
	if resumed {
		w.at, err = strconv.ParseUint(r.GetResumeToken(), 10, 64)
		if err != nil || w.at > last {
			return errWatchLost()
		}
	} else {
		w.at = last - min(last, snapshotEvents)
	}
	if err := s.watches.enter(); err != nil {
		return err
	}
	defer s.watches.leave()
	if !resumed {
		if err := w.catchUp(last, true); err != nil {
			return err
		}
		if err := w.send(&klivev1.WatchEventsResponse{Change: &klivev1.WatchEventsResponse_Synced{Synced: &klivev1.Synced{}}}); err != nil {
			return err
		}
	}
	beat := time.NewTimer(s.watches.heartbeat)
	defer beat.Stop()
	for {
		last, changed := s.journal.Last()
		before := w.sent
		if err := w.catchUp(last, false); err != nil {
			return err
		}
		if w.sent != before {
			beat.Reset(s.watches.heartbeat)
		}
		due, err := s.watches.wait(out.Context(), changed, beat)
		if err != nil {
			return err
		}
		if due {
			if err := w.send(&klivev1.WatchEventsResponse{Change: &klivev1.WatchEventsResponse_Heartbeat{Heartbeat: heartbeat()}}); err != nil {
				return err
			}
		}
	}
}

// eventWatch is where one watcher stands.
type eventWatch struct {
	journal stream.Journal
	fits    filter[*klivev1.Event]
	at      uint64 // sequence of the last event looked at
	sent    int
	out     grpc.ServerStreamingServer[klivev1.WatchEventsResponse]
}

// catchUp sends the events up to last. In the snapshot it does not matter that
// retention dropped older ones; later it means that the watcher is lost.
func (w *eventWatch) catchUp(last uint64, snapshot bool) error {
	for w.at < last {
		events, lost, err := w.journal.Read(w.out.Context(), w.at, readEvents)
		if err != nil {
			return err
		}
		if lost && !snapshot {
			return errWatchLost()
		}
		if len(events) == 0 {
			if lost {
				w.at = last // every one of them was dropped
			}
			return nil
		}
		for i := range events {
			w.at = events[i].Sequence
			p := eventProto(&events[i])
			if !w.fits.match(p) {
				continue
			}
			if err := w.send(&klivev1.WatchEventsResponse{Change: &klivev1.WatchEventsResponse_Event{Event: p}}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *eventWatch) send(m *klivev1.WatchEventsResponse) error {
	m.ResumeToken = strconv.FormatUint(w.at, 10)
	w.sent++
	return w.out.Send(m)
}
