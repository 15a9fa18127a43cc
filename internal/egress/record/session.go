package record

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/run"
	"github.com/klive-media/klive/internal/stream"
)

const (
	// lookEvery is how often the shelf is looked at. Looking is two loads of a
	// pointer for each rendition; being woken for every part would cost more.
	lookEvery = 500 * time.Millisecond
	// syncEvery is how often what was copied is synced: so much a power cut takes
	// at most.
	syncEvery = 10 * time.Second
	// roomSize is how much is copied at a time.
	roomSize = 256 << 10
)

// session records one broadcast from when the server hears of it to when that
// ends, or the server does.
type session struct {
	rec  *Recorder
	info egress.Info
	c    *recording // nil until there is media
	none recording  // stands for it until then, where errors are told
	room []byte     // to copy with, while it looks
	all  map[string]*follower

	mu    sync.Mutex // guards the fields below
	works map[string]*work
	jobs  []job
	wake  chan struct{} // has room for one
	last  bool          // no job comes any more
	idle  chan struct{} // closed when nothing is finished any more
	dirty bool          // the sidecar is to be written
}

// job is a piece to be finished.
type job struct {
	d      *rendition
	number int
	after  *work // has to be on the disk first; nil: nothing has
}

// Run implements egress.Output. It records the broadcast if its policy says
// so, or if it was recorded before the server was restarted.
func (r *Recorder) Run(ctx context.Context, b egress.Broadcast) error {
	s := r.newSession(b.Info())
	if s.c == nil && s.info.Policy.Recording == egress.RecordOff {
		return nil
	}
	err := s.run(ctx, b)
	r.mu.Lock()
	if s.c != nil {
		s.c.active, s.c.idle = false, time.Now()
		s.c.left = !errors.Is(context.Cause(ctx), egress.ErrEnded)
		r.touch()
	}
	r.mu.Unlock()
	return err
}

// newSession takes up the broadcast's recording, if there is one that is open.
func (r *Recorder) newSession(info egress.Info) *session {
	s := &session{
		rec: r, info: info, all: make(map[string]*follower),
		works: make(map[string]*work), wake: make(chan struct{}, 1),
		idle: make(chan struct{}),
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.all {
		if c.info.Broadcast == info.Broadcast && c.info.Stream == info.Stream && c.closing.IsZero() && !c.active && !c.deleting {
			c.active, c.awaited, c.left = true, false, false
			s.c = c
			break
		}
	}
	return s
}

func (s *session) run(ctx context.Context, b egress.Broadcast) error {
	g := run.New(context.WithoutCancel(ctx))
	if err := s.start(g); err != nil {
		return err
	}
	s.resume()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		s.look(b, false)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	s.look(b, true)
	if errors.Is(context.Cause(ctx), egress.ErrEnded) {
		s.close()
		s.noMore()
		err := g.Wait()
		s.ended()
		return err
	}
	s.keep()
	return g.Stop(context.Cause(ctx))
}

// start starts what works beside the copying.
func (s *session) start(g *run.Group) error {
	if err := g.Go("finish pieces of "+s.info.Stream, s.finishing); err != nil {
		return fmt.Errorf("start recording: %w", err)
	}
	if err := g.Go("sync pieces of "+s.info.Stream, s.syncing); err != nil {
		return fmt.Errorf("start recording: %w", err)
	}
	return nil
}

// look copies what is new. b is nil for a broadcast that does not come back.
func (s *session) look(b egress.Broadcast, all bool) {
	shelf, ok := s.rec.opts.Store.Shelf(shelfOf(&s.info))
	if !ok {
		return
	}
	if b != nil {
		list, _ := b.Renditions()
		for i := range list {
			s.follow(list[i].ID)
		}
	}
	room, _ := s.rec.rooms.Get().(*[roomSize]byte)
	if room == nil {
		room = new([roomSize]byte)
	}
	s.room = room[:]
	defer func() { s.room = nil; s.rec.rooms.Put(room) }()
	listed, _ := shelf.Renditions()
	for i := range listed {
		s.follow(listed[i].ID)
	}
	for _, id := range slices.SortedFunc(maps.Keys(s.all), compareRenditions) {
		s.all[id].look(shelf, all)
	}
}

// follow finds the rendition's follower or makes it.
func (s *session) follow(id string) *follower {
	f := s.all[id]
	if f == nil {
		f = &follower{session: s, d: &rendition{id: id}}
		s.rec.mu.Lock()
		if s.c != nil {
			if d := s.c.renditions[id]; d != nil {
				f.d, f.marks = d, d.marks
			} else {
				s.c.renditions[id] = f.d
			}
		}
		f.want = s.rec.recorded(&s.info, id)
		s.rec.mu.Unlock()
		s.all[id] = f
	}
	return f
}

// recorded is the number of the first segment of the rendition that is in no
// recording of the broadcast, also not in one that was closed; mu is held.
func (r *Recorder) recorded(info *egress.Info, rendition string) (n uint64) {
	for _, c := range r.all {
		if c.info.Broadcast == info.Broadcast && c.info.Stream == info.Stream && c.renditions[rendition] != nil {
			n = max(n, c.renditions[rendition].next)
		}
	}
	return n
}

// open makes the recording when its first segment is there.
func (s *session) open(first *set) error {
	if s.c != nil {
		return nil
	}
	id := newID()
	c := &recording{
		id: id, dir: filepath.Join(s.rec.opts.Dir, escapeName(s.info.Stream), id), info: s.info,
		active: true, began: first.leading().Time, renditions: make(map[string]*rendition),
	}
	for i := range kinds {
		if x := first.content(i); x != nil && x.Time.Before(c.began) {
			c.began = x.Time
		}
	}
	if err := s.create(c); err != nil {
		return err
	}
	s.c = c
	r := s.rec
	r.mu.Lock()
	r.all[id] = c
	for _, f := range s.all {
		c.renditions[f.d.id] = f.d
	}
	r.touch()
	r.mu.Unlock()
	r.event(c, stream.RecordingStarted, "the broadcast is being recorded", "mode", string(s.info.Policy.Recording))
	return nil
}

// create makes the recording's folder.
func (s *session) create(c *recording) error {
	if err := os.MkdirAll(c.dir, 0o750); err != nil {
		return fmt.Errorf("make recording's folder: %w", err)
	}
	if err := s.rec.save(c); err != nil {
		_ = os.RemoveAll(c.dir) // nothing was recorded
		return err
	}
	if err := syncDir(filepath.Dir(c.dir)); err != nil {
		return err
	}
	return syncDir(s.rec.opts.Dir)
}

// gap notes that media is missing.
func (s *session) gap(g gap) {
	r := s.rec
	r.counters.gaps.Add(1)
	if s.c == nil {
		return
	}
	r.mu.Lock()
	if len(s.c.gaps) < maxGaps {
		s.c.gaps = append(s.c.gaps, g)
	}
	r.mu.Unlock()
	s.mu.Lock()
	s.dirty = true
	s.mu.Unlock()
	r.event(s.c, stream.MediaGap, "media is missing in the recording",
		"rendition", g.Rendition, "at", g.At.String(), "duration", g.Duration.String(), "output", r.Name())
}

// finish puts a piece into the queue of those to be finished.
func (s *session) finish(j job) {
	s.mu.Lock()
	s.jobs = append(s.jobs, j)
	s.mu.Unlock()
	s.poke()
}

func (s *session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// noMore says that no piece is to be finished any more but those queued.
func (s *session) noMore() {
	s.mu.Lock()
	s.last = true
	s.mu.Unlock()
	s.poke()
}

// failed notes trouble with the recording, or with making it.
func (s *session) failed(rendition string, err error) {
	c := s.c
	if c == nil { // there is none yet
		c = &s.none
		c.info = s.info
	}
	s.rec.failed(c, rendition, err)
}
