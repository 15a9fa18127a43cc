package control

import (
	"time"

	"google.golang.org/grpc"

	klivev1 "github.com/klive-media/klive/gen/klive/v1"
)

func (s *streamService) WatchStreams(r *klivev1.WatchStreamsRequest, out grpc.ServerStreamingServer[klivev1.WatchStreamsResponse]) error {
	fits, err := parseFilter(r.GetFilter(), streamFields)
	if err != nil {
		return err
	}
	w := streamWatch{board: s.board, fits: fits, send: out.Send}
	if r.GetResumeToken() != "" {
		if w.at, err = s.board.parseToken(r.GetResumeToken()); err != nil {
			return err
		}
	}
	if err := s.watches.enter(); err != nil {
		return err
	}
	defer s.watches.leave()
	if err := s.board.join(out.Context()); err != nil {
		s.board.leave()
		return err
	}
	defer s.board.leave()
	if r.GetResumeToken() == "" {
		if err := w.snapshot(); err != nil {
			return err
		}
	}
	beat := time.NewTimer(s.watches.heartbeat)
	defer beat.Stop()
	for {
		changed, sent, err := w.changes()
		if err != nil {
			return err
		}
		if sent {
			beat.Reset(s.watches.heartbeat)
		}
		due, err := s.watches.wait(out.Context(), changed, beat)
		if err != nil {
			return err
		}
		if due {
			err := w.send(&klivev1.WatchStreamsResponse{
				Change:      &klivev1.WatchStreamsResponse_Heartbeat{Heartbeat: heartbeat()},
				ResumeToken: w.board.token(w.at),
			})
			if err != nil {
				return err
			}
		}
	}
}

// streamWatch is where one watcher stands.
type streamWatch struct {
	board *board
	fits  filter[*klivev1.Stream]
	at    uint64 // the last change sent
	// shown holds the ids the watcher was sent and not told to be gone. Nil
	// after a resume, when it is not known what the watcher has.
	shown map[string]bool
	send  func(*klivev1.WatchStreamsResponse) error
}

func (w *streamWatch) snapshot() error {
	rows, seq, _ := w.board.snapshot()
	w.shown = make(map[string]bool)
	for _, r := range rows {
		if !w.fits.match(r.message) {
			continue
		}
		w.shown[r.id] = true
		if err := w.send(&klivev1.WatchStreamsResponse{Change: &klivev1.WatchStreamsResponse_Stream{Stream: r.message}}); err != nil {
			return err
		}
	}
	w.at = seq
	return w.send(&klivev1.WatchStreamsResponse{
		Change:      &klivev1.WatchStreamsResponse_Synced{Synced: &klivev1.Synced{}},
		ResumeToken: w.board.token(seq),
	})
}

// changes sends what changed since the last message.
func (w *streamWatch) changes() (changed <-chan struct{}, sent bool, err error) {
	rows, seq, changed, err := w.board.since(w.at)
	if err != nil {
		return nil, false, err
	}
	for _, r := range rows {
		message := w.describe(r)
		if message == nil {
			continue
		}
		message.ResumeToken = w.board.token(r.seq)
		if err := w.send(message); err != nil {
			return nil, sent, err
		}
		sent = true
	}
	w.at = seq
	return changed, sent, nil
}

// describe says what a change means to this watcher; nil: nothing.
func (w *streamWatch) describe(r row) *klivev1.WatchStreamsResponse {
	if r.message != nil && w.fits.match(r.message) {
		if w.shown != nil {
			w.shown[r.id] = true
		}
		return &klivev1.WatchStreamsResponse{Change: &klivev1.WatchStreamsResponse_Stream{Stream: r.message}}
	}
	if w.shown != nil && !w.shown[r.id] {
		return nil
	}
	delete(w.shown, r.id)
	return &klivev1.WatchStreamsResponse{Change: &klivev1.WatchStreamsResponse_Deleted{Deleted: streamName(r.id)}}
}
