package stream

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/segment"
)

// Statuses implements Live.
func (r *Registry) Statuses() ([]Status, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	living := make(map[string]State, len(r.broadcasts)) // the furthest session of each stream
	for _, s := range r.sessions {
		living[s.shelf.Stream] = max(living[s.shelf.Stream], s.state)
	}
	for id := range r.broadcasts {
		living[id.Stream] += 0
	}
	for id := range r.past {
		living[id.Stream] += 0
	}
	list := make([]Status, 0, len(living))
	for _, id := range slices.Sorted(maps.Keys(living)) {
		list = append(list, r.status(id, living[id]))
	}
	return list, r.changed
}

// Status implements Live.
func (r *Registry) Status(id string) (Status, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	furthest := StateUnspecified
	for _, s := range r.sessions {
		if s.shelf.Stream == id {
			furthest = max(furthest, s.state)
		}
	}
	st := r.status(id, furthest)
	return st, st.State != StateUnspecified
}

// status is a stream's snapshot; furthest is the state of its sessions. r.mu is
// held.
func (r *Registry) status(id string, furthest State) Status {
	st := Status{Stream: id, State: furthest, Version: r.versions[id]}
	var ended State
	var endedAt time.Time
	for i := range maxServerIndex + 1 {
		shelf := segment.ShelfID{Stream: id, ServerIndex: i}
		if b := r.broadcasts[shelf]; b != nil {
			st.Broadcasts = append(st.Broadcasts, b.status())
			st.State = max(st.State, b.state)
		} else if b := r.past[shelf]; b != nil {
			st.Broadcasts = append(st.Broadcasts, b.status())
			if b.end.After(endedAt) {
				ended, endedAt = b.state, b.end
			}
		}
	}
	if st.State == StateUnspecified {
		st.State = ended
	}
	return st
}

// maxServerIndex is the backup's.
const maxServerIndex = 1

// status is the broadcast's snapshot; Registry.mu is held.
func (b *broadcast) status() BroadcastStatus {
	st := BroadcastStatus{
		ID: b.id, ServerIndex: b.shelf.ServerIndex, State: b.state,
		Start: b.start, End: b.end, ReconnectDeadline: b.deadline, Playable: b.playableAt, Policy: b.policy(),
	}
	for _, rd := range b.renditions {
		stats := rd.stats()
		st.Discontinuities += rd.discontinuities.Load()
		rs := RenditionStatus{
			ID: rd.id, Index: rd.index, Tracks: rd.Tracks(), Playable: rd.playable,
			LogBytes: stats.Bytes, LogSpan: stats.Span, LogLaps: stats.Laps,
		}
		if rd.session != nil {
			rs.Session = rd.session.id
		}
		st.Renditions = append(st.Renditions, rs)
	}
	return st
}

// Sessions implements Live.
func (r *Registry) Sessions(stream string) []SessionStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []SessionStatus
	for _, s := range r.sessions {
		if stream == "" || s.shelf.Stream == stream {
			out = append(out, s.status())
		}
	}
	for _, s := range r.ended {
		if stream == "" || s.shelf.Stream == stream {
			out = append(out, s.status())
		}
	}
	slices.SortFunc(out, func(a, b SessionStatus) int {
		return cmp.Or(b.Start.Compare(a.Start), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Session implements Live.
func (r *Registry) Session(id string) (SessionStatus, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.sessions[id]; ok {
		return s.status(), true
	}
	for _, s := range r.ended {
		if s.id == id {
			return s.status(), true
		}
	}
	return SessionStatus{}, false
}

// status is the session's snapshot; reg.mu is held.
func (s *session) status() SessionStatus {
	st := SessionStatus{
		ID: s.id, Stream: s.shelf.Stream, Index: s.index, ServerIndex: s.shelf.ServerIndex,
		Protocol: s.req.Protocol, Remote: s.req.Remote, Encoder: s.req.Encoder,
		State: s.state, Start: s.start, End: s.end,
		Bytes: s.bytes.Load(), WireBytes: s.req.Counters.BytesIn.Load(), Packets: s.packets.Load(),
		Bitrate: int(s.rate.bps), Discontinuities: s.discontinuities.Load(), TimeRepairs: s.repairs.Load(),
		BadMessages: s.req.Counters.BadMessages.Load(),
		Offset:      time.Duration(s.offset.Load()), OffsetMethod: s.offsetMethod, LastMedia: s.lastMedia(),
		Link: linkStatus(&s.req.Counters.Link),
	}
	if s.endCause != nil {
		st.Reason, st.Message = s.endCause.Reason, s.endCause.Message
	}
	if s.broadcast != nil {
		st.Broadcast = s.broadcast.id
	}
	if s.rendition != nil {
		st.Tracks = s.rendition.Tracks()
	}
	return st
}

// linkStatus is nil when the door has told nothing: not yet, or never.
func linkStatus(l *ingest.Link) *LinkStatus {
	st := LinkStatus{
		RTT: time.Duration(l.RTT.Load()), Latency: time.Duration(l.Latency.Load()), Buffered: time.Duration(l.Buffered.Load()),
		Rate: l.Rate.Load(), Bandwidth: l.Bandwidth.Load(),
		Packets: l.Packets.Load(), Lost: l.Lost.Load(), Retransmitted: l.Retransmitted.Load(), Dropped: l.Dropped.Load(),
		Undecrypted: l.Undecrypted.Load(), Discontinuities: l.Discontinuities.Load(), Encrypted: l.Encrypted.Load(),
	}
	if st == (LinkStatus{}) {
		return nil
	}
	return &st
}

// Stop implements Live.
func (r *Registry) Stop(ctx context.Context, id string, cause error) error {
	reason := fault.From(cause)
	now := time.Now()
	var open []*broadcast
	r.mu.Lock()
	for shelf, b := range r.broadcasts {
		if shelf.Stream == id && !b.leaving {
			b.leaving = true
			open = append(open, b)
		}
	}
	for _, s := range r.sessions {
		if s.shelf.Stream == id {
			s.dismiss(reason)
			r.leave(s, reason, now)
		}
	}
	if reason.Reason != fault.StreamDeleted { // a new stream of that name is another one
		r.stopped[id] = stopping{now.Add(r.opts.Limits.ReconnectWindow), reason}
	}
	r.touch(id)
	r.mu.Unlock()
	for _, b := range open {
		r.end(b, reason)
	}
	return context.Cause(ctx)
}

// Disconnect implements Live.
func (r *Registry) Disconnect(_ context.Context, id string, cause error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.sessions[id]
	if !ok {
		return fault.New(fault.SessionNotFound, "no session %q is connected", id)
	}
	s.dismiss(cause)
	return nil
}
