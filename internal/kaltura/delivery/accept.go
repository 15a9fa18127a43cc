package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/store"
	"github.com/klive-media/klive/internal/stream"
)

// Accept implements stream.Deliveries. Of a recording that is handed over as a
// whole, all that is in doubt is accepted with any of it; to give it up, the
// piece that was refused is named, and the others follow.
// Errors are RecordingNotFound, when nothing is known of the recording,
// NothingToDeliver, and StoreUnavailable.
func (q *Queue) Accept(ctx context.Context, recording, rendition string, number int) (int, error) {
	rows, found, unnamed := q.acceptable(recording, rendition, number)
	if !found {
		if _, listed := q.opts.Recordings.Get(recording); !listed {
			return 0, fault.New(fault.RecordingNotFound, "there is no recording %s", recording)
		}
	}
	by := auth.FromContext(ctx).Name
	n, whole := 0, false
	var failed error
	for _, old := range rows {
		switch taken, err := q.accept(ctx, old, by); {
		case err != nil:
			failed = errors.Join(failed, err)
		case taken:
			n++
			whole = whole || old.Content
		}
	}
	signal(q.wake) // what a refused piece held back may go on
	if whole {
		signal(q.kick) // the rest of the recording is part of it
	}
	switch {
	case failed != nil && n == 0:
		return 0, fault.New(fault.StoreUnavailable, "the decision could not be noted; try again").Because(failed)
	case n == 0 && unnamed:
		return 0, fault.New(fault.NothingToDeliver, "no piece of recording %s is in doubt; to give up one that was refused, name its rendition and number", recording)
	case n == 0:
		return 0, fault.New(fault.NothingToDeliver, "no piece of recording %s waits to be accepted", recording)
	}
	return n, nil
}

// acceptable returns the rows that a person may accept by these words, in
// order; whether anything is known of the recording; and whether pieces were
// left out because they are refused and were not named one by one.
func (q *Queue) acceptable(recording, rendition string, number int) (rows []*row, found, unnamed bool) {
	asked := func(r *row) bool {
		return (rendition == "" || r.Rendition == rendition) && (number == 0 || r.Number == number)
	}
	named := rendition != "" && number != 0
	q.mu.Lock()
	defer q.mu.Unlock()
	found = q.packedOf(recording) != nil
	content := false // the whole of it is asked for
	for _, r := range q.table {
		if r.Recording == recording {
			found = true
			content = content || r.Content && asked(r)
		}
	}
	for _, r := range q.table {
		switch {
		case r.Recording != recording:
		case r.State == inDoubt && (asked(r) || content && r.Content):
			rows = append(rows, r)
		case r.State == refused && asked(r):
			if named {
				rows = append(rows, r)
			} else {
				unnamed = true
			}
		}
	}
	slices.SortFunc(rows, compareRows)
	return rows, found, unnamed
}

// accept notes that a row counts as delivered because by says so; false when
// somebody else decided about it meanwhile.
func (q *Queue) accept(ctx context.Context, old *row, by string) (bool, error) {
	who := by
	if who == "" {
		who = "somebody"
	}
	note := "accepted as delivered by " + who
	message := fmt.Sprintf("Piece %d of rendition %s counts as delivered: %s accepted it, which was in doubt.", old.Number, old.Rendition, who)
	if old.State == refused {
		note = "given up by " + who + ", so the backend does not have it"
		message = fmt.Sprintf("Piece %d of rendition %s counts as delivered: %s gave it up, which was refused; those behind it go on.", old.Number, old.Rendition, who)
	}
	if old.Error != "" {
		note += " (" + old.Error + ")"
	}
	r := old.copy()
	r.Accepted, r.AcceptedBy = old.State, by
	// What the call in doubt was judged by says nothing about the next one. The
	// code stays: it says why somebody had to decide.
	r.State, r.Done, r.Error, r.Intent, r.Upload = delivered, time.Now(), note, nil, nil
	if err := q.save(ctx, r); err != nil {
		if errors.Is(err, store.ErrConflict) {
			return false, nil
		}
		return false, err
	}
	q.mu.Lock()
	q.counts.accepted++
	q.mu.Unlock()
	q.log.Info("a recorded piece was accepted as delivered", "entry", r.Stream, "recording", r.Recording, "rendition", r.Rendition,
		"number", r.Number, "was", stream.DeliveryState(r.Accepted).String(), "principal", by)
	q.tell(stream.PieceDelivered, r, message)
	return true, nil
}
