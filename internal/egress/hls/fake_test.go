package hls

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment"
)

// fakeStore is a store in memory whose shelves a test writes by hand.
type fakeStore struct {
	mu      sync.Mutex
	shelves map[segment.ShelfID]*fakeShelf
}

func newFakeStore() *fakeStore {
	return &fakeStore{shelves: make(map[segment.ShelfID]*fakeShelf)}
}

func (s *fakeStore) Shelf(id segment.ShelfID) (segment.Shelf, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f, ok := s.shelves[id]
	return f, ok
}

func (s *fakeStore) add(stream string, server int) *fakeShelf {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := &fakeShelf{
		run: "r1", targets: segment.Targets{Segment: 4 * time.Second, Part: 250 * time.Millisecond},
		clock: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), changed: make(chan struct{}),
		rows: make(map[segment.RowID]*fakeRow), media: make(map[string][]byte), unlisted: make(map[string]bool),
	}
	s.shelves[segment.ShelfID{Stream: stream, ServerIndex: server}] = f
	return f
}

func (s *fakeStore) remove(stream string, server int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.shelves, segment.ShelfID{Stream: stream, ServerIndex: server})
}

// fakeShelf cuts nothing: a test says what the next part is.
type fakeShelf struct {
	run     string
	targets segment.Targets
	clock   time.Time
	files   string // when set, closed segments lie in files of this folder
	window  int    // closed segments listed; 0 all

	mu       sync.Mutex
	rows     map[segment.RowID]*fakeRow
	order    []segment.RowID
	changed  chan struct{}
	media    map[string][]byte
	unlisted map[string]bool
}

type fakeRow struct {
	index   *segment.Index
	changed chan struct{}
	init    int
	disc    uint64
	old     bool // nothing of it is of this broadcast
}

func videoTrack() *media.Track {
	return &media.Track{Kind: media.Video, Codec: media.H264, CodecString: "avc1.64001f", Video: media.VideoInfo{Width: 1280, Height: 720}}
}

func audioTrack() *media.Track {
	return &media.Track{Kind: media.Audio, Codec: media.AAC, CodecString: "mp4a.40.2", Audio: media.AudioInfo{SampleRate: 48000, Channels: 2}}
}

func (f *fakeShelf) row(id segment.RowID, t *media.Track) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &fakeRow{changed: make(chan struct{})}
	x := segment.Index{Row: id, Targets: f.targets, Track: t, Next: segment.PartID{Run: f.run}}
	if id.Kind == media.Video {
		x.FrameRate = 30
	}
	r.index = segment.NewIndex(x, r.changed)
	f.rows[id] = r
	f.order = append(f.order, id)
	slices.SortStableFunc(f.order, func(a, b segment.RowID) int {
		return cmp.Or(len(a.Rendition)-len(b.Rendition), strings.Compare(a.Rendition, b.Rendition))
	})
	f.touch()
}

func (f *fakeShelf) touch() {
	close(f.changed)
	f.changed = make(chan struct{})
}

// change replaces a row's snapshot.
func (f *fakeShelf) change(id segment.RowID, fn func(r *fakeRow, x *segment.Index)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.rows[id]
	x := *r.index
	fn(r, &x)
	old := r.changed
	r.changed = make(chan struct{})
	r.index = segment.NewIndex(x, r.changed)
	close(old)
}

// part adds a part of duration d, in a new segment when none is open.
func (f *fakeShelf) part(id segment.RowID, d time.Duration, key bool) {
	f.change(id, func(r *fakeRow, x *segment.Index) {
		r.old, x.Ended = false, false
		var s segment.Segment
		if x.Open != nil {
			s = *x.Open
			s.Parts = slices.Clone(s.Parts)
		} else {
			s = segment.Segment{Number: x.Next.Segment, Discontinuity: r.disc, Run: f.run, Init: r.init, Independent: key}
			if n := len(x.Closed); n > 0 {
				s.Start = x.Closed[n-1].Start + x.Closed[n-1].Duration
			}
			s.Time = f.clock.Add(s.Start)
		}
		n := len(s.Parts)
		body := fmt.Appendf(nil, "%s/%s/%s/%d.%d;", id.Rendition, id.Kind, f.run, s.Number, n)
		f.media[mediaKey(id, f.run, s.Number, n)] = body
		s.Parts = append(s.Parts, segment.Part{Duration: d, Independent: key, Offset: s.Size, Size: int64(len(body))})
		s.Duration += d
		s.Size += int64(len(body))
		x.Open = &s
		x.Next = segment.PartID{Run: f.run, Segment: s.Number, Part: n + 1}
	})
}

// closeSegment finishes the open segment.
func (f *fakeShelf) closeSegment(id segment.RowID) {
	f.change(id, func(_ *fakeRow, x *segment.Index) {
		s := *x.Open
		var whole []byte
		for i := range s.Parts {
			whole = append(whole, f.media[mediaKey(id, f.run, s.Number, i)]...)
		}
		f.media[mediaKey(id, f.run, s.Number, -1)] = whole
		x.Closed = append(slices.Clip(x.Closed), s)
		if f.window > 0 && len(x.Closed) > f.window {
			x.Closed = x.Closed[len(x.Closed)-f.window:]
		}
		x.Open = nil
		x.Next = segment.PartID{Run: f.run, Segment: s.Number + 1}
		x.PeakBitrate, x.AverageBitrate = 128_000, 120_000
		if id.Kind == media.Video {
			x.PeakBitrate, x.AverageBitrate = 2_800_000, 2_500_000
		}
	})
}

func (f *fakeShelf) gap(id segment.RowID, d time.Duration) {
	f.change(id, func(r *fakeRow, x *segment.Index) {
		s := segment.Segment{Number: x.Next.Segment, Discontinuity: r.disc, Run: f.run, Init: r.init, Gap: true, Duration: d}
		if n := len(x.Closed); n > 0 {
			s.Start = x.Closed[n-1].Start + x.Closed[n-1].Duration
		}
		s.Time = f.clock.Add(s.Start)
		x.Closed = append(slices.Clip(x.Closed), s)
		x.Next.Segment++
	})
}

// segment adds a whole segment of n parts.
func (f *fakeShelf) segment(id segment.RowID, n int, d time.Duration) {
	for i := range n {
		f.part(id, d, i == 0 || id.Kind == media.Audio)
	}
	f.closeSegment(id)
}

func (f *fakeShelf) end() {
	for _, id := range f.order {
		f.change(id, func(_ *fakeRow, x *segment.Index) { x.Ended = true })
	}
}

// begin starts another broadcast: rows come back with their first part.
func (f *fakeShelf) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rows {
		r.old = true
	}
}

func (f *fakeShelf) Renditions() ([]segment.RenditionInfo, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []segment.RenditionInfo
	for _, id := range f.order {
		x := f.rows[id].index
		if f.rows[id].old || len(x.Closed) == 0 && x.Open == nil {
			continue
		}
		if n := len(list); n == 0 || list[n-1].ID != id.Rendition {
			list = append(list, segment.RenditionInfo{ID: id.Rendition, Listed: !f.unlisted[id.Rendition]})
		}
		list[len(list)-1].Rows = append(list[len(list)-1].Rows, x)
	}
	return list, f.changed
}

func (f *fakeShelf) Index(id segment.RowID) *segment.Index {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.rows[id]; r != nil {
		return r.index
	}
	return nil
}

func (f *fakeShelf) Init(id segment.RowID, run string, n int) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.rows[id]; r == nil || n > r.init || run != f.run {
		return nil, fault.New(fault.NotPlayable, "no such init section")
	}
	return fmt.Appendf(nil, "init %s %s %s %d", id.Rendition, id.Kind, run, n), nil
}

func (f *fakeShelf) MuxInit(rendition, run string, video, audio int) ([]byte, error) {
	return fmt.Appendf(nil, "init %s %s %d+%d", rendition, run, video, audio), nil
}

func mediaKey(id segment.RowID, run string, number uint64, part int) string {
	return fmt.Sprint(id.Rendition, "/", id.Kind, "/", run, "/", number, ".", part)
}

func (f *fakeShelf) Open(id segment.RowID, run string, number uint64, part int) (*segment.Content, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	body, ok := f.media[mediaKey(id, run, number, part)]
	if !ok {
		return nil, fault.New(fault.NotPlayable, "no such segment")
	}
	if f.files == "" || part >= 0 {
		half := len(body) / 2
		return &segment.Content{Size: int64(len(body)), Buffers: [][]byte{body[:half], body[half:]}}, nil
	}
	name := filepath.Join(f.files, strings.ReplaceAll(mediaKey(id, run, number, part), "/", "_"))
	const before = "something else "
	if err := os.WriteFile(name, slices.Concat([]byte(before), body, []byte(" and more")), 0o600); err != nil {
		return nil, err
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	_, err = file.Seek(int64(len(before)), 0)
	return &segment.Content{Size: int64(len(body)), File: file, Offset: int64(len(before))}, err
}

var _ segment.Shelf = (*fakeShelf)(nil)

var (
	video1 = segment.RowID{Rendition: "1", Kind: media.Video}
	audio1 = segment.RowID{Rendition: "1", Kind: media.Audio}
)

// onAir is a handler over one stream "lobby" with picture and sound, two
// closed segments and two parts of a third.
func onAir(t testing.TB) (*Handler, *fakeShelf) {
	t.Helper()
	store := newFakeStore()
	f := store.add("lobby", 0)
	f.row(video1, videoTrack())
	f.row(audio1, audioTrack())
	for range 2 {
		f.segment(video1, 16, 250*time.Millisecond)
		f.segment(audio1, 16, 250*time.Millisecond)
	}
	for i := range 2 {
		f.part(video1, 250*time.Millisecond, i == 0)
		f.part(audio1, 250*time.Millisecond, true)
	}
	return New(Options{Store: store, LowLatency: true}), f
}

func TestFakeShelfKeepsItsMedia(t *testing.T) {
	_, f := onAir(t)
	c, err := f.Open(video1, "r1", 0, -1)
	require.NoError(t, err)
	require.True(t, bytes.HasPrefix(slices.Concat(c.Buffers...), []byte("1/video/r1/0.0;")))
}
