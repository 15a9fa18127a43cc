package record

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	mp4ff "github.com/Eyevinn/mp4ff/mp4"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/pipeline"
	"github.com/klive-media/klive/internal/segment"
	"github.com/klive-media/klive/internal/stream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script describes generated media.
type script struct {
	fps      float64 // 0: no picture
	gop      time.Duration
	bframes  int // pictures are presented this many frames later, in another order
	from, to time.Duration
	rate     int // 0: no sound
	size     int // bytes of a picture; 0: about 200
	edit     func(p *media.Packet) bool
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

// packets are what the script says, in order of arrival.
func (s script) packets(v, a *media.Track) (out []*media.Packet) {
	if s.fps > 0 {
		frame := time.Duration(float64(time.Second) / s.fps)
		gop := int(math.Round(s.gop.Seconds() * s.fps))
		for i := 0; ; i++ {
			at := s.from + time.Duration(float64(i)*float64(time.Second)/s.fps)
			if at >= s.to {
				break
			}
			p := &media.Packet{Track: v, DTS: at, PTS: at, Payload: make([]byte, 120+s.size+(i*37)%150)}
			if gop > 0 && i%gop == 0 || i == 0 {
				p.Flags = media.Key
				p.PTS += time.Duration(s.bframes) * frame
			} else if s.bframes > 0 {
				p.PTS += frame * time.Duration((i*7)%(s.bframes+1))
			}
			out = append(out, p)
		}
	}
	if s.rate > 0 {
		for i := media.ToTicks(s.from, uint32(s.rate)) / 1024; ; i++ {
			at := media.FromTicks(i*1024, uint32(s.rate))
			if at >= s.to {
				break
			}
			if at >= s.from {
				out = append(out, &media.Packet{Track: a, Flags: media.Key, DTS: at, PTS: at, Payload: make([]byte, 60+int(i*13)%40)})
			}
		}
	}
	slices.SortStableFunc(out, func(x, y *media.Packet) int { return int(x.DTS - y.DTS) })
	for _, p := range out { // no two are alike
		binary.BigEndian.PutUint64(p.Payload, uint64(p.DTS))
		binary.BigEndian.PutUint32(p.Payload[8:], uint32(p.Track.ID))
	}
	if s.edit != nil {
		out = slices.DeleteFunc(out, func(p *media.Packet) bool { return !s.edit(p) })
	}
	return out
}

// source is a log with fixed tracks.
type source struct {
	log    *pipeline.Log[media.Packet]
	tracks []*media.Track
	video  bool
}

func newSource(tracks ...*media.Track) *source {
	s := &source{tracks: tracks, log: pipeline.NewLog(pipeline.Bounds{Bytes: 1 << 30, Time: 10 * time.Hour, Entries: 1 << 20},
		func(p *media.Packet) (int, time.Duration) { return len(p.Payload), p.DTS })}
	for _, t := range tracks {
		s.video = s.video || t.Kind == media.Video
	}
	return s
}

func (s *source) Tracks() []*media.Track                                   { return s.tracks }
func (s *source) Subscribe(f pipeline.From) *pipeline.Cursor[media.Packet] { return s.log.Subscribe(f) }

func (s *source) append(packets ...*media.Packet) {
	for _, p := range packets {
		s.log.Append(p, p.Flags.Has(media.Key) && (p.Track.Kind == media.Video || !s.video))
	}
}

// journal keeps events.
type journal struct {
	stream.Journal
	mu   sync.Mutex
	list []stream.Event
}

func (j *journal) Record(e stream.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.list = append(j.list, e)
}

func (j *journal) of(t stream.EventType) (out []stream.Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.list {
		if e.Type == t {
			out = append(out, e)
		}
	}
	return out
}

// broadcast is one on air.
type broadcast struct {
	info egress.Info
	mu   sync.Mutex
	list []pipeline.Rendition

	mode    egress.RecordingMode
	changed chan struct{}
}

// Recording implements egress.Broadcast.
func (b *broadcast) Recording() (egress.RecordingMode, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mode, b.changed
}

// set changes whether it is recorded.
func (b *broadcast) set(mode egress.RecordingMode) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mode = mode
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *broadcast) Info() egress.Info { return b.info }
func (b *broadcast) Renditions() ([]pipeline.Rendition, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.list), nil
}

// studio is a server that cuts and records.
type studio struct {
	t    testing.TB
	dir  string
	st   *segment.DiskStore
	rec  *Recorder
	j    *journal
	b    *broadcast
	cut  segment.Cutter
	sent map[string][]*media.Packet // by rendition
}

var shelfOne = segment.ShelfID{Stream: "lobby", ServerIndex: 0}

// begun is when broadcasts of tests begin.
var begun = time.Unix(1_700_000_000, 123_456_789)

// openStudio opens what is below dir.
func openStudio(t testing.TB, dir string, o Options) *studio {
	t.Helper()
	st, err := segment.NewStore(segment.Options{Dir: filepath.Join(dir, "shelf"), Window: 10 * time.Hour})
	require.NoError(t, err)
	s := &studio{t: t, dir: dir, st: st, j: &journal{}, sent: map[string][]*media.Packet{}}
	s.openRecorder(o)
	return s
}

func (s *studio) openRecorder(o Options) {
	o.Store, o.Dir, o.Journal = s.st, filepath.Join(s.dir, "recordings"), s.j
	if o.SegmentDuration == 0 {
		o.SegmentDuration = 20 * time.Second
	}
	var err error
	s.rec, err = New(o)
	require.NoError(s.t, err)
}

// onAir begins a broadcast, or goes on with it.
func (s *studio) onAir(id string, continued bool) {
	s.onAirAt(id, continued, begun)
}

func (s *studio) onAirAt(id string, continued bool, at time.Time) {
	c, err := s.st.Begin(shelfOne, segment.Broadcast{ID: id, Start: at}, nil)
	require.NoError(s.t, err)
	s.cut = c
	s.b = &broadcast{mode: egress.RecordAppended, changed: make(chan struct{}), info: egress.Info{
		Stream: shelfOne.Stream, Broadcast: id, Start: at, Partner: 101, Continued: continued,
		Policy: egress.Policy{Recording: egress.RecordAppended},
	}}
}

// publish cuts all of a log.
func (s *studio) publish(rendition string, src *source, packets []*media.Packet) {
	s.sent[rendition] = append(s.sent[rendition], packets...)
	src.append(packets...)
	src.log.Close()
	r := pipeline.Rendition{ID: rendition, Source: src}
	if !slices.ContainsFunc(s.b.list, func(o pipeline.Rendition) bool { return o.ID == rendition }) {
		s.b.list = append(s.b.list, r)
	}
	require.NoError(s.t, s.cut.Run(context.Background(), r))
}

// play publishes what the script says as rendition 1.
func (s *studio) play(x script) {
	v, a := videoTrack(1), audioTrack(1, max(x.rate, 1))
	var tracks []*media.Track
	if x.fps > 0 {
		tracks = append(tracks, v)
	}
	if x.rate > 0 {
		tracks = append(tracks, a)
	}
	s.publish("1", newSource(tracks...), x.packets(v, a))
}

// record runs the recorder until it has all, as when the broadcast ends with
// the cause.
func (s *studio) record(cause error) {
	s.t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cause)
	err := s.rec.Run(ctx, s.b)
	if err != nil {
		require.ErrorIs(s.t, err, cause)
	}
}

func (s *studio) only() stream.Recording {
	s.t.Helper()
	list := s.rec.List("")
	require.Len(s.t, list, 1)
	return list[0]
}

func pieces(r stream.Recording, rendition string) (out []stream.Piece) {
	for _, p := range r.Pieces {
		if p.Rendition == rendition {
			out = append(out, p)
		}
	}
	return out
}

// decoded is a sample as another library sees it.
type decoded struct {
	dts, pts, dur time.Duration // stream time
	key           bool
	payload       []byte
}

// decode reads a piece with mp4ff: by kind of track.
func decode(t testing.TB, path string, offset time.Duration) map[string][]decoded {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	file, err := mp4ff.DecodeFile(f, mp4ff.WithDecodeMode(mp4ff.DecModeLazyMdat))
	require.NoError(t, err)
	require.False(t, file.IsFragmented())
	require.Less(t, file.Moov.StartPos, file.Mdat.StartPos, "moov is in front")
	out := map[string][]decoded{}
	for _, trak := range file.Moov.Traks {
		stbl, scale := trak.Mdia.Minf.Stbl, trak.Mdia.Mdhd.Timescale
		var delay, from time.Duration
		for _, e := range trak.Edts.Elst[0].Entries {
			if e.MediaTime < 0 {
				delay += media.FromTicks(int64(e.SegmentDuration), file.Moov.Mvhd.Timescale)
			} else {
				from = media.FromTicks(e.MediaTime, scale)
			}
		}
		n := stbl.Stsz.GetNrSamples()
		require.Equal(t, int(n), int(stbl.Stsz.SampleNumber))
		for i := uint32(1); i <= n; i++ {
			dts, dur := stbl.Stts.GetDecodeTime(i)
			d := decoded{key: stbl.Stss == nil || stbl.Stss.IsSyncSample(i)}
			d.dts = offset + delay - from + media.FromTicks(int64(dts), scale)
			d.dur = media.FromTicks(int64(dur), scale)
			d.pts = d.dts
			if stbl.Ctts != nil {
				d.pts += media.FromTicks(int64(stbl.Ctts.GetCompositionTimeOffset(i)), scale)
			}
			chunk, first, err := stbl.Stsc.ChunkNrFromSampleNr(int(i))
			require.NoError(t, err)
			var at int64
			if stbl.Co64 != nil {
				at = int64(stbl.Co64.ChunkOffset[chunk-1])
			} else { // ffmpeg's
				at = int64(stbl.Stco.ChunkOffset[chunk-1])
			}
			for k := first; k < int(i); k++ {
				at += int64(stbl.Stsz.GetSampleSize(k))
			}
			d.payload = make([]byte, stbl.Stsz.GetSampleSize(int(i)))
			_, err = f.ReadAt(d.payload, at)
			require.NoError(t, err)
			out[trak.Mdia.Hdlr.HandlerType] = append(out[trak.Mdia.Hdlr.HandlerType], d)
		}
	}
	return out
}

const tick = 25 * time.Microsecond // about, of the coarsest scale

// verify compares the pieces of a rendition with what was sent: every sample
// once, in order, presented when it was meant to be, and each piece going on
// where the one before ended.
func (s *studio) verify(rendition string) []stream.Piece {
	s.t.Helper()
	list := pieces(s.only(), rendition)
	all := map[string][]decoded{}
	for i, p := range list {
		require.Equal(s.t, i+1, p.Number)
		require.True(s.t, p.Finished)
		require.Equal(s.t, i == len(list)-1, p.Last, "piece %d", p.Number)
		info, err := os.Stat(p.File)
		require.NoError(s.t, err)
		require.Equal(s.t, info.Size(), p.Size)
		require.Equal(s.t, begun.Add(p.Offset).UnixNano(), p.Start.UnixNano())
		for kind, samples := range decode(s.t, p.File, p.Offset) {
			if kind == "vide" {
				require.True(s.t, samples[0].key, "piece %d begins with a key frame", p.Number)
			}
			all[kind] = append(all[kind], samples...)
		}
	}
	s.compare(all, rendition)
	return list
}

func (s *studio) compare(all map[string][]decoded, rendition string) {
	s.t.Helper()
	for kind, name := range map[media.Kind]string{media.Video: "vide", media.Audio: "soun"} {
		var want []*media.Packet
		for _, p := range s.sent[rendition] {
			if p.Track.Kind == kind {
				want = append(want, p)
			}
		}
		got := all[name]
		for len(want) > 0 && len(got) > 0 && !bytes.Equal(want[0].Payload, got[0].payload) { // before the first cut
			want = want[1:]
		}
		if len(got) != len(want) {
			s.t.Fatalf("%d %s samples, not %d", len(got), name, len(want))
		}
		for i := range got {
			if !bytes.Equal(want[i].Payload, got[i].payload) {
				s.t.Fatalf("%s sample %d has another content", name, i)
			}
			if d := got[i].pts - want[i].PTS; d > tick || d < -tick {
				s.t.Fatalf("%s sample %d is presented at %v, not %v", name, i, got[i].pts, want[i].PTS)
			}
			if kind == media.Video && want[i].Flags.Has(media.Key) != got[i].key {
				s.t.Fatalf("%s sample %d: key is %v", name, i, got[i].key)
			}
			if i > 0 && got[i].dts-got[i-1].dts-got[i-1].dur > tick && got[i].dts-got[i-1].dts < 250*time.Millisecond {
				s.t.Fatalf("%s sample %d begins %v after the one before ended", name, i, got[i].dts-got[i-1].dts-got[i-1].dur)
			}
		}
	}
}

func describePieces(list []stream.Piece) (out []string) {
	for _, p := range list {
		out = append(out, fmt.Sprintf("%d: %v + %v", p.Number, p.Offset, p.Duration))
	}
	return out
}
