package stream

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/pipeline"
	"github.com/klive-media/klive/internal/segment"
)

// shelves is a segment.Store that keeps the packets it is given.
type shelves struct {
	mu          sync.Mutex
	begun       []segment.Broadcast
	ended       []segment.ShelfID
	packets     map[string][]*media.Packet // by stream/index/rendition
	interrupted []segment.Interrupted
	refuse      error
	begin       chan struct{} // when not nil, Begin waits for it
	closing     time.Duration // what a cutter needs to close its files
	closed      int
	fail        error // of a cutter's Run
}

func (s *shelves) Shelf(segment.ShelfID) (segment.Shelf, bool) { return nil, false }
func (s *shelves) Interrupted() []segment.Interrupted          { return s.interrupted }
func (s *shelves) EndInterrupted(segment.ShelfID)              {}
func (s *shelves) Stats() segment.Stats                        { return segment.Stats{} }

func (s *shelves) Begin(id segment.ShelfID, b segment.Broadcast, o segment.Observer) (segment.Cutter, error) {
	if s.begin != nil {
		<-s.begin
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return nil, s.refuse
	}
	s.begun = append(s.begun, b)
	return &cutter{s, id, o}, nil
}

type cutter struct {
	store   *shelves
	id      segment.ShelfID
	observe segment.Observer
}

func (c *cutter) Run(ctx context.Context, r pipeline.Rendition) error {
	c.store.mu.Lock()
	fail := c.store.fail
	c.store.mu.Unlock()
	if fail != nil {
		return fail
	}
	cur := r.Source.Subscribe(pipeline.Seq(0))
	for n := 0; ; n++ {
		p, err := cur.Next(ctx)
		if errors.Is(err, io.EOF) {
			time.Sleep(c.store.closing) // virtual
			c.store.mu.Lock()
			c.store.closed++
			c.store.mu.Unlock()
			return nil
		}
		if errors.Is(err, pipeline.ErrLapped) {
			continue
		}
		if err != nil {
			return err
		}
		c.store.mu.Lock()
		c.store.packets[r.ID] = append(c.store.packets[r.ID], p)
		c.store.mu.Unlock()
		if n == 0 {
			c.observe(segment.Event{Kind: segment.Playable, Rendition: r.ID})
		}
	}
}

func (c *cutter) Note(note []byte) error {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	c.store.begun[len(c.store.begun)-1].Note = note
	return nil
}

func (c *cutter) End() {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	c.store.ended = append(c.store.ended, c.id)
}

// ends are the shelves that were ended, begins how many broadcasts were begun.
func (s *shelves) ends() []segment.ShelfID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ended)
}

func (s *shelves) begins() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.begun)
}

func (s *shelves) of(rendition string) []*media.Packet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.packets[rendition]
}

// journal keeps events in memory.
type journal struct {
	mu     sync.Mutex
	events []Event
}

func (j *journal) Record(e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
}

func (j *journal) Last() (uint64, <-chan struct{}) { return 0, nil }

func (j *journal) Read(context.Context, uint64, int) ([]Event, bool, error) { return nil, false, nil }

func (j *journal) last() Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.events[len(j.events)-1]
}

func (j *journal) types() (out []EventType) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.events {
		out = append(out, e.Type)
	}
	return out
}

// authority lets in who has the token "good".
type authority struct{}

func (authority) Authenticate(_ context.Context, r ingest.Request) (Grant, error) {
	if r.Token != "good" {
		return Grant{}, fault.New(fault.BadToken, "wrong")
	}
	return Grant{Stream: r.Stream, Index: r.Index, ServerIndex: r.ServerIndex}, nil
}

// station is a registry with its surroundings, in a bubble of virtual time.
type station struct {
	t       *testing.T
	reg     *Registry
	shelves *shelves
	journal *journal
}

var testLimits = Limits{ReconnectWindow: 30 * time.Second, TakeoverAfter: 3 * time.Second, IdleTimeout: 60 * time.Second}

// onStation runs a test with a running registry and stops it in the end.
func onStation(t *testing.T, change func(*Options), test func(*station)) {
	synctest.Test(t, func(t *testing.T) {
		st := &station{t: t, shelves: &shelves{packets: make(map[string][]*media.Packet)}, journal: &journal{}}
		o := Options{Authority: authority{}, Store: st.shelves, Journal: st.journal, Limits: testLimits}
		if change != nil {
			change(&o)
		}
		st.reg = NewRegistry(o)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- st.reg.Run(ctx) }()
		synctest.Wait()
		test(st)
		cancel()
		require.NoError(t, <-ended)
	})
}

// encoder is a publisher with a wire clock of its own.
type encoder struct {
	st           *station
	pub          ingest.Publication
	wire         time.Duration
	video, audio *media.Track
}

func newVideo(config byte) *media.Track {
	return &media.Track{Kind: media.Video, Codec: media.H264, Config: []byte{config}, TimeScale: 1000,
		Video: media.VideoInfo{Width: 640, Height: 360, FrameRate: 25}}
}

func newAudio() *media.Track {
	return &media.Track{Kind: media.Audio, Codec: media.AAC, Config: []byte{0x12, 0x10}, TimeScale: 1000}
}

func request(index, server int) ingest.Request {
	return ingest.Request{
		Protocol: "rtmp", Stream: "lobby", Index: index, ServerIndex: server, Token: "good",
		Remote: netip.MustParseAddrPort("127.0.0.1:4000"), Counters: new(ingest.Counters),
	}
}

func (st *station) open(index, server int) (*encoder, error) {
	pub, err := st.reg.Open(st.t.Context(), request(index, server))
	if err != nil {
		return nil, err
	}
	return &encoder{st: st, pub: pub, video: newVideo(1), audio: newAudio()}, nil
}

// publish opens, announces picture and sound and fails the test on a refusal.
func (st *station) publish(index, server int) *encoder {
	st.t.Helper()
	e, err := st.open(index, server)
	require.NoError(st.t, err)
	require.NoError(st.t, e.pub.Announce([]*media.Track{e.video, e.audio}))
	return e
}

// send writes n frames of 40 ms, each with a packet of sound, in real time.
func (e *encoder) send(n int) error {
	for range n {
		for _, t := range []*media.Track{e.video, e.audio} {
			if t == nil {
				continue
			}
			if err := e.pub.Write(media.Packet{Track: t, Flags: media.Key, DTS: e.wire, PTS: e.wire, Duration: 40 * time.Millisecond, Payload: []byte("x")}); err != nil {
				return err
			}
		}
		e.wire += 40 * time.Millisecond
		time.Sleep(40 * time.Millisecond) // virtual
	}
	return nil
}

func (st *station) status() Status {
	s, _ := st.reg.Status("lobby")
	return s
}
