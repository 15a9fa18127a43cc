package stream

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/pipeline"
	"github.com/klive-media/klive/internal/segment"
)

// granting lets everybody in and gives what grant says.
type granting func(ingest.Request) Grant

func (g granting) Authenticate(_ context.Context, r ingest.Request) (Grant, error) { return g(r), nil }

// flavors is an authority that calls renditions as a backend does.
func flavors(policy egress.Policy, names map[int]string) granting {
	return func(r ingest.Request) Grant {
		return Grant{Stream: r.Stream, Index: r.Index, ServerIndex: r.ServerIndex, Partner: 101, Rendition: names[r.Index], Policy: policy}
	}
}

// played is one Run of a reader.
type played struct {
	info    egress.Info
	cause   error
	onShelf int // shelves ended when its context did
	packets map[string]int
	ids     [][]string // of the renditions, as they changed
	done    bool
}

// reader is an output that reads every rendition to its end.
type reader struct {
	name   string
	st     *shelves
	linger time.Duration
	fail   func() error // called at the first rendition

	mu   sync.Mutex
	runs []*played
}

func (o *reader) Name() string { return o.name }

func (o *reader) Run(ctx context.Context, b egress.Broadcast) error {
	p := &played{info: b.Info(), packets: make(map[string]int)}
	o.mu.Lock()
	o.runs = append(o.runs, p)
	o.mu.Unlock()
	var wg sync.WaitGroup
	defer wg.Wait()
	seen := make(map[pipeline.Source]bool)
	for {
		list, changed := b.Renditions()
		if len(list) > 0 && o.fail != nil {
			return o.fail()
		}
		ids := make([]string, 0, len(list))
		for _, r := range list {
			ids = append(ids, r.ID)
			if seen[r.Source] {
				continue
			}
			seen[r.Source] = true
			wg.Go(func() { o.read(p, r) })
		}
		o.mu.Lock()
		p.ids = append(p.ids, ids)
		o.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			wg.Wait() // every source ends
			o.mu.Lock()
			p.cause, p.onShelf = context.Cause(ctx), len(o.st.ends())
			o.mu.Unlock()
			time.Sleep(o.linger) // virtual
			o.mu.Lock()
			p.done = true
			o.mu.Unlock()
			return nil
		}
	}
}

func (o *reader) read(p *played, r pipeline.Rendition) {
	cur := r.Source.Subscribe(pipeline.Seq(0))
	for {
		if _, err := cur.Next(context.Background()); err != nil {
			return
		}
		o.mu.Lock()
		p.packets[r.ID]++
		o.mu.Unlock()
	}
}

func (o *reader) run(n int) played {
	o.mu.Lock()
	defer o.mu.Unlock()
	return *o.runs[n]
}

// onStationWith runs a test with a reader as the only output but for others.
func onStationWith(t *testing.T, change func(*Options), others []egress.Output, test func(*station, *reader)) *reader {
	out := &reader{name: "record"}
	onStation(t, func(o *Options) {
		out.st = o.Store.(*shelves)
		o.Outputs = append(others, out)
		if change != nil {
			change(o)
		}
	}, func(st *station) { test(st, out) })
	return out
}

func TestAnOutputSeesABroadcastFromBeginningToEnd(t *testing.T) {
	policy := egress.Policy{SegmentDuration: 6 * time.Second, Recording: egress.RecordAppended, DVR: egress.DVR{Enabled: true, Window: time.Hour}}
	onStationWith(t, func(o *Options) {
		o.Authority = flavors(policy, map[int]string{1: "32", 2: "36"})
	}, nil, func(st *station, out *reader) {
		out.linger = time.Hour
		second := st.publish(2, 0)
		e := st.publish(1, 0)
		require.NoError(t, e.send(5))
		require.NoError(t, second.send(1))
		synctest.Wait()
		b := st.status().Broadcasts[0]
		require.Equal(t, policy, b.Policy)
		require.False(t, b.Playable.IsZero())
		require.Equal(t, []string{"32", "36"}, []string{b.Renditions[0].ID, b.Renditions[1].ID})
		require.Equal(t, 1, b.Renditions[0].Index)
		require.Equal(t, 6*time.Second, st.shelves.begun[0].SegmentDuration)
		require.Equal(t, time.Hour, st.shelves.begun[0].Window)

		e.pub.Close(nil)
		again := st.publish(1, 0)
		require.NoError(t, again.send(2))
		again.pub.Close(nil)
		second.pub.Close(nil)
		time.Sleep(29 * time.Second)
		require.NoError(t, out.run(0).cause, "it waits for a reconnect")
		time.Sleep(2 * time.Second)
		require.Equal(t, Stopped, st.status().State, "the end waits for no output")
		p := out.run(0)
		require.False(t, p.done)
		require.ErrorIs(t, p.cause, egress.ErrEnded)
		require.Equal(t, 1, p.onShelf)
		require.Equal(t, map[string]int{"32": 14, "36": 2}, p.packets)
		require.Equal(t, []string{"32", "36"}, p.ids[len(p.ids)-1], "by ingest index")
		require.Equal(t, egress.Info{Stream: "lobby", Broadcast: b.ID, Partner: 101, Start: b.Start, Policy: policy}, p.info)

		st.publish(1, 0) // the shelf is free
		require.Equal(t, 2, st.shelves.begins())
		synctest.Wait()
		require.NotEqual(t, p.info.Broadcast, out.run(1).info.Broadcast)
		require.NotContains(t, st.journal.types(), OutputFailed)
		for _, e := range st.journal.events {
			switch e.Type {
			case BroadcastStarted:
				require.NotEmpty(t, e.Facts["rendition"])
				fallthrough
			case BroadcastEnded, BroadcastPlayable, BroadcastWaiting:
				require.Equal(t, "101", e.Facts["partner"], e.Type)
			}
		}
	})
}

func TestAnOutputIsToldOfAStopAndOfALeave(t *testing.T) {
	out := onStationWith(t, nil, nil, func(st *station, out *reader) {
		require.NoError(t, st.publish(1, 0).send(3))
		require.NoError(t, st.reg.Stop(t.Context(), "lobby", fault.New(fault.StoppedByOperator, "stop")))
		synctest.Wait()
		require.ErrorIs(t, out.run(0).cause, egress.ErrEnded)
		require.True(t, out.run(0).done)
		time.Sleep(31 * time.Second)
		require.NoError(t, st.publish(1, 0).send(3))
		require.NoError(t, st.publish(1, 1).send(3))
		out.linger = time.Second
		st.shelves.closing = time.Second
	})
	require.Len(t, out.runs, 3)
	for _, p := range out.runs[1:] {
		require.ErrorIs(t, p.cause, egress.ErrLeaving)
		require.Equal(t, map[string]int{"1": 6}, p.packets)
		require.True(t, p.done, "the server waits for it")
	}
	require.Equal(t, 3, out.st.closed)
}

func TestAServerThatLeavesWhileABroadcastBeginsLeavesItsOutputsToo(t *testing.T) {
	out := onStationWith(t, nil, nil, func(st *station, _ *reader) {
		st.shelves.begin = make(chan struct{})
		e, err := st.open(1, 0)
		require.NoError(t, err)
		go func() {
			require.Equal(t, fault.ServerDraining, fault.ReasonOf(e.pub.Announce([]*media.Track{e.video})))
			require.Equal(t, fault.ServerDraining, fault.ReasonOf(e.st.reg.goOnAir(e.pub.(*session))), "nothing begins any more")
		}()
		synctest.Wait()
		go func() {
			time.Sleep(time.Second) // the shelf is slow
			close(st.shelves.begin)
		}()
	})
	require.Len(t, out.runs, 1)
	require.ErrorIs(t, out.runs[0].cause, egress.ErrLeaving)
}

func TestABroadcastThatEndsWhileTheServerLeavesHasEnded(t *testing.T) {
	out := onStationWith(t, nil, nil, func(st *station, _ *reader) {
		require.NoError(t, st.publish(1, 0).send(1))
		st.shelves.closing = time.Second
		go func() {
			require.NoError(t, st.reg.Stop(context.WithoutCancel(t.Context()), "lobby", fault.New(fault.StoppedByOperator, "stop")))
		}()
		synctest.Wait()
	})
	require.Len(t, out.runs, 1)
	require.ErrorIs(t, out.runs[0].cause, egress.ErrEnded)
	require.Equal(t, 1, out.runs[0].onShelf)
	require.Len(t, out.st.ends(), 1)
}

func TestARestartContinuesOutputsAndWhatWasIntended(t *testing.T) {
	policy := egress.Policy{SegmentDuration: 2 * time.Second, Recording: egress.RecordPerSession, LowLatency: true}
	var left segment.Broadcast
	onStationWith(t, func(o *Options) { o.Authority = flavors(policy, nil) }, nil, func(st *station, _ *reader) {
		st.publish(1, 0)
		left = st.shelves.begun[0]
	})
	for name, c := range map[string]struct {
		note    []byte
		policy  egress.Policy
		partner int
	}{
		"whole":      {left.Note, policy, 101},
		"none":       {nil, egress.Policy{}, 0},
		"damaged":    {[]byte(`{"partner":101,"pol`), egress.Policy{}, 0},
		"of another": {[]byte(`[]`), egress.Policy{}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			onStationWith(t, func(o *Options) {
				o.Authority = flavors(egress.Policy{}, nil) // what it says later does not count
				left.Start, left.Note = time.Now().Add(-time.Minute), c.note
				o.Store.(*shelves).interrupted = []segment.Interrupted{{ID: segment.ShelfID{Stream: "lobby"}, Broadcast: left, End: 55 * time.Second}}
			}, nil, func(st *station, out *reader) {
				require.NoError(t, st.publish(1, 0).send(2))
				b := st.status().Broadcasts[0]
				require.Equal(t, left.ID, b.ID)
				require.Equal(t, c.policy, b.Policy)
				p := out.run(0)
				require.Equal(t, egress.Info{Stream: "lobby", Broadcast: left.ID, Partner: c.partner, Start: left.Start, Policy: c.policy, Continued: true}, p.info)
				synctest.Wait()
				require.Equal(t, 4, out.run(0).packets["1"])
			})
		})
	}
}

func TestAnOutputThatFailsHarmsNobody(t *testing.T) {
	for name, fail := range map[string]func() error{
		"error": func() error { return errors.New("no space left") },
		"panic": func() error { panic("no space left") },
	} {
		t.Run(name, func(t *testing.T) {
			bad := &reader{name: "bad", fail: fail}
			onStationWith(t, nil, []egress.Output{bad}, func(st *station, out *reader) {
				bad.st = st.shelves
				e := st.publish(1, 0)
				require.NoError(t, e.send(3))
				synctest.Wait()
				require.Equal(t, 6, out.run(0).packets["1"])
				var failed []Event
				for _, e := range st.journal.events {
					if e.Type == OutputFailed {
						failed = append(failed, e)
					}
				}
				require.Len(t, failed, 1)
				require.Equal(t, "bad", failed[0].Facts["output"])
				require.Contains(t, failed[0].Facts["error"], "no space left")
				require.NoError(t, e.send(1))
			})
		})
	}
}

func TestAReaderOfARenditionThatCannotBeCutComesToItsEnd(t *testing.T) {
	onStationWith(t, nil, nil, func(st *station, out *reader) {
		st.shelves.fail = errors.New("no")
		e := st.publish(1, 0)
		_ = st.publish(2, 0).send(1) // it may be dismissed already
		<-e.pub.Done()
		e.pub.Close(nil)
		synctest.Wait()
		st.shelves.fail = nil
		require.NoError(t, st.publish(1, 0).send(1))
		synctest.Wait()
		p := out.run(0)
		require.Equal(t, []string{"1"}, p.ids[len(p.ids)-1])
		require.Equal(t, 2, p.packets["1"], "of the new source")
	})
}

func TestARenditionIsSentByOneIndexOnly(t *testing.T) {
	names := map[int]string{1: "32", 2: "32", 3: "a/b", 4: "36"}
	onStation(t, func(o *Options) {
		o.Authority = granting(func(r ingest.Request) Grant { return flavors(egress.Policy{}, names)(r) })
	}, func(st *station) {
		e, err := st.open(1, 0)
		require.NoError(t, err)
		_, err = st.open(2, 0)
		require.Equal(t, fault.StreamBusy, fault.ReasonOf(err))
		require.ErrorContains(t, err, "ingest 1 already sends rendition 32")
		require.NoError(t, e.pub.Announce([]*media.Track{e.video}))
		e.pub.Close(nil)
		_, err = st.open(2, 0)
		require.Equal(t, fault.StreamBusy, fault.ReasonOf(err), "it stays the first's until the broadcast ends")
		_, err = st.open(2, 1)
		require.NoError(t, err, "another broadcast")
		_, err = st.open(3, 0)
		require.Equal(t, fault.InternalError, fault.ReasonOf(err))

		names[1] = "33" // the profile changed meanwhile
		st.publish(1, 0)
		st.publish(4, 0)
		r := st.status().Broadcasts[0].Renditions
		require.Equal(t, []string{"32", "36"}, []string{r[0].ID, r[1].ID})
		require.Equal(t, media.NewTrackID(4, media.Video, 0), r[1].Tracks[0].ID)

		for _, e := range st.journal.refusals() {
			require.Equal(t, "101", e.Facts["partner"])
			require.NotEmpty(t, e.Facts["server_index"])
			require.NotEmpty(t, e.Facts["index"])
		}
	})
}

func TestWhatIsKnownOfARefusedPublisherIsToldAndNoMore(t *testing.T) {
	onStation(t, nil, func(st *station) {
		st.reg.Refused(ingest.Request{Protocol: "rtmp"}, fault.New(fault.BadAddress, "no"))
		require.NotContains(t, st.journal.last().Facts, "index")
		require.NotContains(t, st.journal.last().Facts, "server_index")
		require.NotContains(t, st.journal.last().Facts, "partner")
		req := badRequest("lobby", "192.0.2.1:4000")
		req.Partner, req.Index, req.ServerIndex = 7, 1001, 1
		_, err := st.reg.Open(t.Context(), req)
		require.Error(t, err)
		for key, want := range map[string]int{"partner": 7, "index": 1001, "server_index": 1} {
			require.Equal(t, strconv.Itoa(want), st.journal.last().Facts[key])
		}
	})
}

func TestSegmentDurationsThatMakeNoSenseAreIgnored(t *testing.T) {
	for d, want := range map[time.Duration]time.Duration{
		0: 0, time.Second: time.Second, 20 * time.Second: 20 * time.Second,
		999 * time.Millisecond: 0, 21 * time.Second: 0, -time.Second: 0,
	} {
		require.Equal(t, want, intendedOf(&Grant{Policy: egress.Policy{SegmentDuration: d}}).Policy.SegmentDuration, d)
	}
}

func TestTheWindowOfTheDVR(t *testing.T) {
	for name, c := range map[string]struct {
		dvr  egress.DVR
		want time.Duration
	}{
		"off":      {egress.DVR{Window: time.Hour}, 0},
		"its own":  {egress.DVR{Enabled: true, Window: time.Hour}, time.Hour},
		"server's": {egress.DVR{Enabled: true}, 0},
		"too long": {egress.DVR{Enabled: true, Window: 1000 * time.Hour}, 24 * time.Hour},
		"negative": {egress.DVR{Enabled: true, Window: -time.Hour}, 0},
	} {
		require.Equal(t, c.want, intendedOf(&Grant{Policy: egress.Policy{DVR: c.dvr}}).window(), name)
	}
}

func FuzzNote(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(intendedOf(&Grant{Partner: 1, Policy: egress.Policy{SegmentDuration: 2 * time.Second, Recording: "x"}}).note())
	f.Add([]byte(`{"policy":{"segment_duration":-1,"dvr":{"window":-5}}}`))
	f.Fuzz(func(t *testing.T, note []byte) {
		i := intendedBy(note)
		d := i.Policy.SegmentDuration
		require.True(t, d == 0 || d >= minSegment && d <= maxSegment)
		require.Equal(t, i, intendedBy(i.note()))
	})
}

func TestARecordingBeginsAndEndsInTheMiddle(t *testing.T) {
	onStationWith(t, func(o *Options) { o.Authority = flavors(egress.Policy{Recording: egress.RecordPerSession}, nil) }, nil, func(st *station, _ *reader) {
		require.NoError(t, st.reg.SetRecording("lobby", 0, egress.RecordAppended), "nothing is on air")
		st.publish(1, 0)
		b := st.reg.broadcasts[segment.ShelfID{Stream: "lobby"}]
		mode, changed := b.Recording()
		require.Equal(t, egress.RecordPerSession, mode)

		require.NoError(t, st.reg.SetRecording("lobby", 0, egress.RecordPerSession))
		select {
		case <-changed:
			t.Fatal("it was so already")
		default:
		}
		require.NoError(t, st.reg.SetRecording("lobby", 0, egress.RecordOff))
		<-changed
		mode, _ = b.Recording()
		require.Equal(t, egress.RecordOff, mode)
		require.Equal(t, egress.RecordOff, st.status().Broadcasts[0].Policy.Recording)
		require.Equal(t, egress.RecordPerSession, b.Info().Policy.Recording, "what it began with")
		require.Equal(t, egress.RecordOff, intendedBy(st.shelves.begun[0].Note).Policy.Recording, "a restart goes on so")
		require.False(t, intendedBy(st.shelves.begun[0].Note).recordingSince().IsZero(), "a restart knows that it was not so from the beginning")
		require.True(t, b.Info().RecordingSince.IsZero(), "it began as its policy says")
	})
}
