package stream

import "context"

// Live is what the control API needs of the Registry.
type Live interface {
	// Statuses lists the streams on air or lately so, ordered by id. Changed is
	// closed at the next change of any of them.
	Statuses() (list []Status, changed <-chan struct{})
	// Status finds one; ok is false when the stream was not on air lately.
	Status(id string) (s Status, ok bool)
	// Sessions lists a stream's sessions, newest first; "" means all streams.
	// Ended ones are kept for a while.
	Sessions(stream string) []SessionStatus
	// Session finds one by id.
	Session(id string) (s SessionStatus, ok bool)
	// Stop dismisses all publishers of the stream, ends its broadcasts and
	// refuses their return for the reconnect window, unless the cause is that the
	// stream was deleted. cause is told to them.
	Stop(ctx context.Context, id string, cause error) error
	// Disconnect dismisses one session; its publisher may come back.
	Disconnect(ctx context.Context, session string, cause error) error
}

// Journal is the durable event log as readers see it.
type Journal interface {
	// Read returns up to n events with Sequence > after, oldest first. lost is
	// true when events after that one were dropped by retention already.
	Read(ctx context.Context, after uint64, n int) (events []Event, lost bool, err error)
	// Last is the sequence of the newest event, 0 when there is none; changed is
	// closed when a newer one exists.
	Last() (sequence uint64, changed <-chan struct{})
	// Record adds an event without waiting for the disk.
	Record(e Event)
}
