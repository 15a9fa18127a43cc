package delivery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/klive-media/klive/internal/store"
	"github.com/klive-media/klive/internal/stream"
)

// packed is what is kept in memory of the rows of a recording that is over,
// delivered as a whole and of no interest to the backend any more: which rows
// there are. The store has the rest. Recordings may be kept for years, so what
// they take here must not grow with their pieces. Never changed once made.
type packed struct {
	stream string
	index  int
	listed int // pieces the recorder lists; another number: something is new
	rows   int
	spans  []span
}

// span is rows of a rendition with consecutive numbers.
type span struct {
	rendition string
	from, to  int
}

func (p *packed) has(rendition string, number int) bool {
	return slices.ContainsFunc(p.spans, func(s span) bool { return s.rendition == rendition && number >= s.from && number <= s.to })
}

// ids names the rows, by rendition and number.
func (p *packed) ids(recording string) []pieceID {
	ids := make([]pieceID, 0, p.rows)
	for _, s := range p.spans {
		for n := s.from; n <= s.to; n++ {
			ids = append(ids, pieceID{recording, s.rendition, n})
		}
	}
	return ids
}

// packRows is the marker of all rows of a recording of which listed pieces are
// listed.
func packRows(rows []*row, listed int) *packed {
	slices.SortFunc(rows, comparePieces)
	p := &packed{stream: rows[0].Stream, index: rows[0].ServerIndex, listed: listed, rows: len(rows)}
	for _, r := range rows {
		if n := len(p.spans); n > 0 && p.spans[n-1].rendition == r.Rendition && p.spans[n-1].to == r.Number-1 {
			p.spans[n-1].to++
			continue
		}
		p.spans = append(p.spans, span{r.Rendition, r.Number, r.Number})
	}
	p.spans = slices.Clip(p.spans)
	return p
}

// pack takes the rows out of memory that nothing asks for any more: those of
// recordings that ended, whose pieces are all delivered, for longer than the
// backend may read our own files and than links are kept for it.
func (q *Queue) pack() {
	q.mu.Lock()
	defer q.mu.Unlock()
	rows, needed := map[string][]*row{}, map[string]bool{}
	for _, r := range q.table {
		k := q.known[r.Recording]
		switch {
		case needed[r.Recording]:
		case k == nil || k.complete == 0 || !k.gone.IsZero() || r.State != delivered || time.Since(r.Done) < linkLife:
			needed[r.Recording] = true
			delete(rows, r.Recording)
		default:
			rows[r.Recording] = append(rows[r.Recording], r)
		}
	}
	for recording, all := range rows {
		k := q.known[recording]
		k.packed = packRows(all, k.complete)
		for _, r := range all {
			delete(q.table, r.id())
		}
	}
}

// packedOf is the marker of a recording whose rows are not in memory, or nil;
// q.mu is held.
func (q *Queue) packedOf(recording string) *packed {
	if k := q.known[recording]; k != nil {
		return k.packed
	}
	return nil
}

// still reports whether a recording is packed and as it was then. One that is
// not is unpacked.
func (q *Queue) still(ctx context.Context, rec *stream.Recording) (bool, error) {
	q.mu.Lock()
	p := q.packedOf(rec.ID)
	same := p != nil && p.listed == len(rec.Pieces)
	if same {
		q.known[rec.ID].gone = time.Time{}
	}
	q.mu.Unlock()
	if p == nil || same {
		return same, nil
	}
	return false, q.unpack(ctx, rec.ID)
}

// unpack brings the rows of a recording back.
func (q *Queue) unpack(ctx context.Context, recording string) error {
	q.mu.Lock()
	p := q.packedOf(recording)
	q.mu.Unlock()
	if p == nil {
		return nil
	}
	var rows []*row
	for _, id := range p.ids(recording) {
		switch r, err := q.stored(ctx, id); {
		case errors.Is(err, store.ErrNotFound):
		case err != nil:
			return err
		default:
			rows = append(rows, r)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, r := range rows {
		q.place(r)
	}
	q.known[recording].packed = nil
	q.notify()
	return nil
}

// stored reads a row from the store.
func (q *Queue) stored(ctx context.Context, id pieceID) (*row, error) {
	key := keyOf(id.recording, id.rendition, id.number)
	rec, err := q.rows.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read the delivery %s: %w", key, err)
	}
	return decodeRow(key, rec.Value, rec.Revision)
}

// readTime is how long a reader waits for the store at most.
const readTime = 5 * time.Second

// unpacked are the deliveries of a recording that is packed. What the store
// does not give in time is shown without its details: that it is delivered is
// known.
func (q *Queue) unpacked(recording string, p *packed) []stream.Delivery {
	ctx, done := context.WithTimeout(context.Background(), readTime)
	defer done()
	out := make([]stream.Delivery, 0, p.rows)
	for _, id := range p.ids(recording) {
		r, err := q.stored(ctx, id)
		if err != nil {
			q.log.Debug("the details of a delivery cannot be shown", "error", err)
			r = &row{Recording: recording, Rendition: id.rendition, Number: id.number, Stream: p.stream, ServerIndex: p.index, State: delivered}
		}
		out = append(out, r.shown(false))
	}
	return out
}
