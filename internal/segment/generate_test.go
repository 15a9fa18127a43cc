package segment

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/pipeline"
)

// script describes generated media.
type script struct {
	fps      float64
	vary     time.Duration // frame times are off by up to this, either way
	gop      time.Duration // 0: only the first frame is a key frame
	bframes  int           // pictures are presented this many frames later
	length   time.Duration
	ms       bool // times are whole milliseconds, as RTMP's
	noVideo  bool
	noAudio  bool
	audioLag time.Duration // sound arrives this much later than the picture of its time; negative: earlier
	rate     int
	start    time.Duration
	seed     uint64
	edit     func(p *media.Packet) bool // false: the packet is lost
}

func videoTrack(index int) *media.Track {
	return &media.Track{
		ID: media.NewTrackID(index, media.Video, 0), Kind: media.Video, Codec: media.H264, TimeScale: 1000,
		Config:      []byte{1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 4, 0x67, 0x64, 0, 0x1f, 1, 0, 4, 0x68, 0xee, 0x3c, 0x80},
		CodecString: "avc1.64001f", Video: media.VideoInfo{Width: 1280, Height: 720},
	}
}

func audioTrack(index, rate int) *media.Track {
	return &media.Track{
		ID: media.NewTrackID(index, media.Audio, 0), Kind: media.Audio, Codec: media.AAC, TimeScale: 1000,
		Config: []byte{0x11, 0x90}, CodecString: "mp4a.40.2",
		Audio: media.AudioInfo{SampleRate: rate, Channels: 2, FrameSamples: 1024},
	}
}

type arrival struct {
	p  *media.Packet
	at time.Duration
}

// packets are what the script says, in order of arrival.
func (s script) packets(v, a *media.Track) []*media.Packet {
	rnd := rand.New(rand.NewPCG(s.seed, 1))
	round := func(d time.Duration) time.Duration {
		if s.ms {
			return d.Round(time.Millisecond)
		}
		return d
	}
	var list []arrival
	if !s.noVideo {
		frame := time.Duration(float64(time.Second) / s.fps)
		lastKey := time.Duration(math.MinInt64)
		last := time.Duration(-1)
		for i := 0; ; i++ {
			at := time.Duration(float64(i) * float64(time.Second) / s.fps)
			if at >= s.length {
				break
			}
			jittered := at
			if s.vary > 0 && i > 0 {
				jittered = max(at+time.Duration(rnd.Int64N(int64(2*s.vary)))-s.vary, last+time.Millisecond)
			}
			last = jittered
			p := &media.Packet{Track: v, DTS: round(s.start + jittered), Payload: make([]byte, 200+rnd.IntN(2000))}
			p.PTS = p.DTS
			if s.bframes > 0 {
				p.PTS = p.DTS + round(frame*time.Duration((i*7)%(s.bframes+1)))
			}
			if i == 0 || s.gop > 0 && at-lastKey >= s.gop-frame/2 {
				p.Flags, lastKey = media.Key, at
				p.PTS = p.DTS + round(frame*time.Duration(s.bframes))
			}
			list = append(list, arrival{p, at})
		}
	}
	if !s.noAudio {
		for i := int64(0); ; i++ {
			at := media.FromTicks(i*1024, uint32(s.rate))
			if at >= s.length {
				break
			}
			p := &media.Packet{Track: a, Flags: media.Key, DTS: round(s.start + at), Payload: make([]byte, 100+rnd.IntN(200))}
			p.PTS = p.DTS
			list = append(list, arrival{p, at + s.audioLag})
		}
	}
	slices.SortStableFunc(list, func(x, y arrival) int { return int(x.at - y.at) })
	var out []*media.Packet
	for n, x := range list {
		binary.BigEndian.PutUint32(x.p.Payload, uint32(n)) // no two are alike
		if s.edit == nil || s.edit(x.p) {
			out = append(out, x.p)
		}
	}
	return out
}

// source is a log with fixed tracks.
type source struct {
	log    *pipeline.Log[media.Packet]
	mu     sync.Mutex
	tracks []*media.Track
}

func newSource(tracks ...*media.Track) *source {
	return &source{tracks: tracks, log: pipeline.NewLog(pipeline.Bounds{Bytes: 1 << 30, Time: time.Hour, Entries: 1 << 20},
		func(p *media.Packet) (int, time.Duration) { return len(p.Payload), p.DTS })}
}

func (s *source) Tracks() []*media.Track {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tracks
}
func (s *source) Subscribe(f pipeline.From) *pipeline.Cursor[media.Packet] { return s.log.Subscribe(f) }

func (s *source) append(packets ...*media.Packet) {
	video := false
	for _, t := range s.tracks {
		video = video || t.Kind == media.Video
	}
	for _, p := range packets {
		s.log.Append(p, p.Flags.Has(media.Key) && (p.Track.Kind == media.Video || !video))
	}
}

// all are the packets in the log.
func (s *source) all() (out []*media.Packet) {
	c := s.log.Subscribe(pipeline.Seq(0))
	for {
		p, err := c.Next(context.Background())
		if err != nil {
			return out
		}
		out = append(out, p)
	}
}

// source makes a closed log of what the script says.
func (s script) source() *source {
	if s.rate == 0 {
		s.rate = 48000
	}
	v, a := videoTrack(1), audioTrack(1, s.rate)
	var tracks []*media.Track
	if !s.noVideo {
		tracks = append(tracks, v)
	}
	if !s.noAudio {
		tracks = append(tracks, a)
	}
	src := newSource(tracks...)
	src.append(s.packets(v, a)...)
	return src
}

// watcher checks every snapshot that a store publishes.
type watcher struct {
	t      testing.TB
	mu     sync.Mutex
	last   map[RowID]*Index
	seen   map[RowID]map[uint64]Segment // as closed
	count  map[RowID]int
	events []Event
}

func watch(t testing.TB, s *DiskStore) *watcher {
	w := &watcher{t: t, last: map[RowID]*Index{}, seen: map[RowID]map[uint64]Segment{}, count: map[RowID]int{}}
	s.published = w.published
	return w
}

func (w *watcher) observe(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

func (w *watcher) kinds(k EventKind) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Kind == k {
			n++
		}
	}
	return n
}

func (w *watcher) published(_ ShelfID, x *Index) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.check(x); err != nil {
		w.t.Errorf("%v %d: %v", x.Row, w.count[x.Row], err)
	}
	w.count[x.Row]++
	w.last[x.Row] = x
}

const nano = 2 * time.Nanosecond

func (w *watcher) check(x *Index) error {
	if x.Targets.Part <= 0 || x.Targets.Segment <= 0 || x.Targets.Segment%time.Second != 0 || x.Targets.Part%time.Millisecond != 0 {
		return fmt.Errorf("targets %v", x.Targets)
	}
	was := w.last[x.Row]
	if was != nil && was.Targets != x.Targets {
		return fmt.Errorf("targets changed from %v to %v", was.Targets, x.Targets)
	}
	if w.seen[x.Row] == nil {
		w.seen[x.Row] = map[uint64]Segment{}
	}
	var before *Segment
	for i := range x.Closed {
		s := &x.Closed[i]
		if err := checkSegment(x, s, before, false); err != nil {
			return err
		}
		if old, ok := w.seen[x.Row][s.Number]; ok && (old.Start != s.Start || old.Duration != s.Duration || old.Gap != s.Gap || old.Discontinuity != s.Discontinuity) {
			return fmt.Errorf("segment %d changed from %+v to %+v", s.Number, old, s)
		}
		w.seen[x.Row][s.Number] = *s
		before = s
	}
	if x.Open != nil {
		if len(x.Open.Parts) == 0 {
			return fmt.Errorf("open segment without parts")
		}
		if err := checkSegment(x, x.Open, before, true); err != nil {
			return err
		}
		if x.Next.Segment != x.Open.Number || x.Next.Part != len(x.Open.Parts) {
			return fmt.Errorf("next is %v", x.Next)
		}
	}
	if was != nil {
		if x.PeakBitrate < was.PeakBitrate && len(was.Closed) > 2 && was.Closed[0].Duration+was.Closed[1].Duration > was.Targets.Segment/2 {
			return fmt.Errorf("peak went down from %d to %d", was.PeakBitrate, x.PeakBitrate)
		}
		if x.Next.Segment < was.Next.Segment {
			return fmt.Errorf("next went back from %v to %v", was.Next, x.Next)
		}
	}
	return nil
}

func checkSegment(x *Index, s, before *Segment, open bool) error {
	if before != nil {
		if s.Number != before.Number+1 {
			return fmt.Errorf("number %d after %d", s.Number, before.Number)
		}
		if s.Discontinuity < before.Discontinuity {
			return fmt.Errorf("discontinuity went back")
		}
		if s.Time.Add(nano).Before(before.Time.Add(before.Duration)) && s.Run == before.Run && before.Duration > time.Millisecond && !before.Gap {
			return fmt.Errorf("segment %d begins at %v, in the one before (%v + %v)", s.Number, s.Start, before.Start, before.Duration)
		}
	}
	if s.Duration.Round(time.Second) > x.Targets.Segment {
		return fmt.Errorf("segment %d lasts %v of %v", s.Number, s.Duration, x.Targets.Segment)
	}
	if s.Gap {
		return nil
	}
	var sum time.Duration
	var size int64
	for i, p := range s.Parts {
		if p.Duration > x.Targets.Part {
			return fmt.Errorf("part %d.%d lasts %v of %v", s.Number, i, p.Duration, x.Targets.Part)
		}
		if (open || i < len(s.Parts)-1) && !(open && i == len(s.Parts)-1) && float64(p.Duration) < 0.85*float64(x.Targets.Part) {
			return fmt.Errorf("part %d.%d lasts only %v of %v", s.Number, i, p.Duration, x.Targets.Part)
		}
		if p.Offset != size {
			return fmt.Errorf("part %d.%d is at %d, not %d", s.Number, i, p.Offset, size)
		}
		sum += p.Duration
		size += p.Size
	}
	if s.Parts != nil {
		if size != s.Size {
			return fmt.Errorf("segment %d: size %d of %d", s.Number, s.Size, size)
		}
		if sum > s.Duration+time.Duration(len(s.Parts)+1)*nano+50*time.Microsecond {
			return fmt.Errorf("segment %d lasts %v, its parts %v", s.Number, s.Duration, sum)
		}
		if s.Parts[0].Independent != s.Independent {
			return fmt.Errorf("segment %d: independent %v, its first part not", s.Number, s.Independent)
		}
	}
	return nil
}

func openStore(t testing.TB, o Options) *DiskStore {
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	s, err := NewStore(o)
	require.NoError(t, err)
	return s
}

var shelfOne = ShelfID{Stream: "lobby"}

// cutAll cuts all that is in the logs, one after the other, and drains the
// worker's queue.
func cutAll(t testing.TB, s *DiskStore, w *watcher, sources ...*source) *cutter {
	c, err := s.Begin(shelfOne, Broadcast{ID: "b1", Start: time.Unix(1_700_000_000, 0)}, w.observe)
	require.NoError(t, err)
	for i, src := range sources {
		src.log.Close()
		require.NoError(t, c.Run(context.Background(), pipeline.Rendition{ID: fmt.Sprint(i + 1), Source: src}))
	}
	s.drain()
	return c.(*cutter)
}

func renditionOne(src *source) pipeline.Rendition { return pipeline.Rendition{ID: "1", Source: src} }

// drain does the queued jobs.
func (s *DiskStore) drain() {
	for {
		select {
		case j := <-s.jobs:
			s.do(j)
		default:
			return
		}
	}
}

var (
	videoRow = RowID{"1", media.Video}
	audioRow = RowID{"1", media.Audio}
)
