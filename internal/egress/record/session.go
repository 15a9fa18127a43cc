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
	"github.com/klive-media/klive/internal/segment"
	"github.com/klive-media/klive/internal/stream"
)

const (
	// lookEvery is how often the shelf is looked at. Looking is two loads of a
	// pointer for each rendition; being woken for every part would cost more.
	lookEvery = 500 * time.Millisecond
	// syncEvery is how often what was copied is synced: so much a power cut takes
	// at most.
	syncEvery = 10 * time.Second
	// drainFor is how long the end of the open segment is waited for when a
	// recording is asked to end.
	drainFor = 15 * time.Second
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
	// whole: the broadcast is recorded from its beginning; otherwise from the
	// segment that was open reachBack before the recording was wished for: since
	// then, by the wall clock; zero: just now.
	whole  bool
	since  time.Time
	looked bool
	until  time.Time // when the end of the recording is not waited for any more

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

// Run implements egress.Output. It records the broadcast while it is to be
// recorded: each time that begins is a recording of its own. One that was open
// when the server was restarted goes on.
func (r *Recorder) Run(ctx context.Context, b egress.Broadcast) error {
	g := run.New(r.life.Context())
	for first := true; ; first = false {
		mode, changed := b.Recording()
		info := b.Info()
		info.Policy.Recording = mode
		s := r.newSession(info, r.takeUp(&info))
		if s.c == nil && mode == egress.RecordOff {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
			}
			break
		}
		if first {
			s.since = info.RecordingSince
			s.whole = s.since.IsZero()
		}
		if err := s.start(g); err != nil {
			if r.life.Context().Err() == nil {
				return errors.Join(err, g.Stop(err))
			}
			s.rest(true) // a wish to record that came too late for this run
			<-ctx.Done()
			break
		}
		err := run.Protect("record "+info.Stream, func() error { s.run(ctx, b); return nil })
		if err != nil {
			return errors.Join(err, g.Stop(err)) // what was copied is kept
		}
		if ctx.Err() != nil {
			break
		}
	}
	if errors.Is(context.Cause(ctx), egress.ErrEnded) {
		return g.Wait() // until all is finished, or Leave
	}
	return g.Stop(context.Cause(ctx))
}

// Leave says that the server stops: no more pieces are finished, not even of
// broadcasts that have just ended, so that Run returns soon. What is left of
// them is finished by the next run of the server. What is on air is still copied
// until the context of its Run ends.
func (r *Recorder) Leave() { r.life.Cancel(egress.ErrLeaving) }

// newSession makes a session of a recording that is the caller's; nil: there is
// none yet.
func (r *Recorder) newSession(info egress.Info, c *recording) *session {
	return &session{
		rec: r, info: info, c: c, all: make(map[string]*follower),
		works: make(map[string]*work), wake: make(chan struct{}, 1), idle: make(chan struct{}),
	}
}

// takeUp finds the broadcast's recording that is open, if there is one, and
// makes it the caller's.
func (r *Recorder) takeUp(info *egress.Info) *recording {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.all {
		if c.info.Broadcast == info.Broadcast && c.info.Stream == info.Stream && c.closing.IsZero() && !c.active && !c.deleting {
			c.active, c.awaited, c.left = true, false, false
			return c
		}
	}
	return nil
}

// run copies until the broadcast ends, is not to be recorded any more, or the
// server leaves. What is to be finished goes on beside it then.
func (s *session) run(ctx context.Context, b egress.Broadcast) {
	s.resume()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		s.look(b, false)
		// Once it is to end, it does: what comes after a second thought is another
		// recording, which begins where this one ends.
		if mode, _ := b.Recording(); (mode == egress.RecordOff || !s.until.IsZero()) && s.drained() {
			break
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	if ctx.Err() == nil || errors.Is(context.Cause(ctx), egress.ErrEnded) {
		if s.lookLast(s.rec.life.Context(), b) {
			s.close()
			s.noMore()
			return
		}
	} else {
		s.look(b, true)
	}
	s.keep()
}

// lookLast copies what is left of a broadcast that is over. A disk that refuses
// it is given a while: no later look would find it. What it still refuses is
// missing then. false: ctx has ended; the next run of the server copies the rest.
func (s *session) lookLast(ctx context.Context, b egress.Broadcast) bool {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for until := time.Now().Add(drainFor); !s.look(b, true); {
		if !time.Now().Before(until) {
			s.missed()
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// start starts what works beside the copying.
func (s *session) start(g *run.Group) error {
	err := g.Go("finish pieces of "+s.info.Stream, func(ctx context.Context) error {
		s.finishing(ctx)
		s.rest(ctx.Err() != nil)
		return nil
	})
	if err != nil {
		return fmt.Errorf("start recording: %w", err)
	}
	if err := g.Go("sync pieces of "+s.info.Stream, s.syncing); err != nil {
		return fmt.Errorf("start recording: %w", err)
	}
	return nil
}

// rest lets go of the recording; left: the next run of the server goes on.
func (s *session) rest(left bool) {
	if !left {
		s.ended()
	}
	r := s.rec
	r.mu.Lock()
	if s.c != nil {
		s.c.active, s.c.left, s.c.idle = false, left, time.Now()
		r.touch()
	}
	r.mu.Unlock()
}

// drained reports whether all is copied up to the end of what was open when
// the recording was asked to end. It is not waited for long.
func (s *session) drained() bool {
	shelf, ok := s.rec.opts.Store.Shelf(shelfOf(&s.info))
	if s.until.IsZero() {
		s.until = time.Now().Add(drainFor)
		for _, f := range s.all {
			f.until = max(f.want, 1)
			if ok {
				f.until = max(f.until, open(shelf, f.d.id, &s.info)+1)
			}
		}
	}
	for _, f := range s.all {
		if ok && f.want < f.until && time.Now().Before(s.until) {
			return false
		}
	}
	return true
}

// open is the number of a rendition's segment that is open, or of the newest.
func open(shelf segment.Shelf, rendition string, info *egress.Info) (n uint64) {
	for _, row := range rowsOf(rendition) {
		x := shelf.Index(row)
		if x == nil {
			continue
		}
		if x.Open != nil && belongs(x.Open, info.Start) {
			n = max(n, x.Open.Number)
		} else if i := len(x.Closed) - 1; i >= 0 && belongs(&x.Closed[i], info.Start) {
			n = max(n, x.Closed[i].Number)
		}
	}
	return n
}

// look copies what is new and reports whether it could. b is nil for a
// broadcast that does not come back.
func (s *session) look(b egress.Broadcast, all bool) (done bool) {
	shelf, ok := s.rec.opts.Store.Shelf(shelfOf(&s.info))
	if !ok {
		return true
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
	if !s.whole && !s.looked {
		s.reach(shelf)
	}
	s.looked = true
	done = true
	for _, id := range slices.SortedFunc(maps.Keys(s.all), compareRenditions) {
		done = s.all[id].look(shelf, all) && done
	}
	return done
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
		if !s.until.IsZero() {
			f.until = 1 // it comes too late
		}
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
	r.share(c)
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
