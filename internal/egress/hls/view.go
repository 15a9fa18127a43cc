package hls

import (
	"bytes"
	"compress/gzip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment"
)

// text is a rendered playlist. All viewers share it; it is never written
// after it was made, except that the first viewer who wants it compressed
// compresses it for all.
type text struct {
	body   []byte
	length []string // Content-Length

	once         sync.Once
	zipped       []byte
	zippedLength []string
}

func newText(body []byte) *text {
	return &text{body: body, length: []string{strconv.Itoa(len(body))}}
}

// packers holds compressors: one is about 800 KiB.
var packers = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant
	}
	return w
}}

// compressed returns the body in gzip, made on the first call.
func (t *text) compressed(s *Stats) ([]byte, []string) {
	t.once.Do(func() {
		var out bytes.Buffer
		out.Grow(len(t.body)/4 + 64)
		w := packers.Get().(*gzip.Writer)
		w.Reset(&out)
		_, err := w.Write(t.body)
		if err == nil {
			err = w.Close()
		}
		packers.Put(w)
		if err != nil { // a bytes.Buffer takes everything
			panic(err)
		}
		t.zipped = out.Bytes()
		t.zippedLength = []string{strconv.Itoa(len(t.zipped))}
		s.compressions.Add(1)
	})
	return t.zipped, t.zippedLength
}

// rendering is a text and the snapshot it was made from.
type rendering struct {
	*text
	index *segment.Index
}

// row is what is rendered of one row of a shelf.
type row struct {
	id         segment.RowID
	shelf      *shelf
	lowLatency bool
	stats      *Stats

	newest [variants]atomic.Pointer[rendering]

	mu      sync.Mutex // guards journal and the making of renderings
	journal journal
}

// playlist returns the row's newest playlist; nil when the row has gone or is
// empty. Whoever comes first after a change renders it; the others wait for
// that and share it.
func (v *row) playlist(how variant) *rendering {
	x := v.shelf.shelf.Index(v.id)
	if r := v.newest[how].Load(); r != nil && r.index == x {
		return r
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	x = v.shelf.shelf.Index(v.id) // never render an older one after a newer one
	if r := v.newest[how].Load(); r != nil && r.index == x {
		return r
	}
	if x == nil || !playable(x, v.lowLatency) {
		return nil
	}
	v.journal.sync(x)
	r := &rendering{text: newText(v.media(x, how)), index: x}
	v.newest[how].Store(r)
	v.stats.renders.Add(1)
	return r
}

// playable reports whether there is anything to list.
func playable(x *segment.Index, lowLatency bool) bool {
	return len(x.Closed) > 0 || lowLatency && x.Open != nil && len(x.Open.Parts) > 0
}

// shelf is what is rendered of one shelf of the store. Its rows are found by
// walking a short list that is replaced when one comes.
type shelf struct {
	id    segment.ShelfID
	shelf segment.Shelf

	rows  atomic.Pointer[[]*row]
	masts masts

	mu    sync.Mutex // guards the replacing of rows, and chunks
	chunk map[string]*chunklist

	waiting atomic.Int64 // requests that wait for media
	asked   atomic.Int64 // Unix time in nanoseconds of the newest playlist request
}

// row finds or makes the view of a row; nil when the shelf has no such row.
func (s *shelf) row(h *Handler, rendition string, kind media.Kind) *row {
	if list := s.rows.Load(); list != nil {
		for _, v := range *list {
			if v.id.Kind == kind && v.id.Rendition == rendition {
				return v
			}
		}
	}
	id := segment.RowID{Rendition: rendition, Kind: kind}
	if s.shelf.Index(id) == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*row
	if old := s.rows.Load(); old != nil {
		list = *old
	}
	for _, v := range list {
		if v.id == id {
			return v
		}
	}
	v := &row{id: id, shelf: s, lowLatency: h.lowLatency, stats: &h.stats}
	v.journal.names.server = byte('0' + s.id.ServerIndex)
	list = append(list[:len(list):len(list)], v)
	s.rows.Store(&list)
	return v
}

// shelves finds views by shelf.
type shelves struct {
	store Store

	mu   sync.RWMutex // guards byID
	byID map[segment.ShelfID]*shelf
}

// find returns the view of a shelf, or nil when the store has no such shelf.
func (c *shelves) find(id segment.ShelfID) *shelf {
	s, ok := c.store.Shelf(id)
	if !ok {
		return nil
	}
	c.mu.RLock()
	v := c.byID[id]
	c.mu.RUnlock()
	if v != nil && v.shelf == s {
		return v
	}
	gone := c.gone()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range gone {
		delete(c.byID, id)
	}
	if v = c.byID[id]; v != nil && v.shelf == s {
		return v
	}
	v = &shelf{id: id, shelf: s, chunk: make(map[string]*chunklist)}
	c.byID[id] = v
	return v
}

// gone lists the views whose shelf the store gave up. It is asked when a view
// is made, so that views never outnumber the shelves there ever were at once.
func (c *shelves) gone() []segment.ShelfID {
	c.mu.RLock()
	ids := make([]segment.ShelfID, 0, len(c.byID))
	for id := range c.byID {
		ids = append(ids, id)
	}
	c.mu.RUnlock()
	keep := ids[:0]
	for _, id := range ids {
		if _, ok := c.store.Shelf(id); !ok {
			keep = append(keep, id)
		}
	}
	return keep
}

// known returns the view of a shelf that was asked for before, or nil.
func (c *shelves) known(id segment.ShelfID) *shelf {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byID[id]
}

// wholeSeconds rounds up to seconds.
func wholeSeconds(d time.Duration) uint64 {
	return uint64((d + time.Second - 1) / time.Second)
}
