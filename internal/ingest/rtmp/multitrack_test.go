package rtmp

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/media"
	wire "github.com/klive-media/klive/internal/rtmp"
	"github.com/klive-media/klive/internal/rtmp/amf"
	"github.com/klive-media/klive/internal/rtmp/flv"
	"github.com/klive-media/klive/internal/rtmp/message"
)

// further is a demuxer whose further tracks are publications of a test.
type further struct {
	*demuxer
	main    *publication
	pubs    map[int]*publication // by ingest index
	answers map[int]chan opening
	refused []string
	onAir   int64
}

func newFurther(t testing.TB, answer func(index int) *opening) *further {
	f := &further{main: newPublication(), pubs: map[int]*publication{}, answers: map[int]chan opening{}}
	f.demuxer = newDemuxer(f.main, new(media.Slab), time.Unix(1e9, 0), func(err error) { t.Error(err) })
	f.more = &tracks{
		index: 1,
		open: func(index int) <-chan opening {
			ch := make(chan opening, 1)
			f.answers[index] = ch
			if o := answer(index); o != nil {
				ch <- *o
			}
			return ch
		},
		refused: func(k media.Kind, id uint8, err error) {
			f.refused = append(f.refused, k.String()+" "+string('0'+rune(id))+" "+string(fault.ReasonOf(err)))
		},
		taken: func(n int64) { f.onAir += n },
	}
	return f
}

// grant lets every track in.
func (f *further) grant(index int) *opening {
	f.pubs[index] = newPublication()
	return &opening{pub: f.pubs[index]}
}

func (f *further) feed(t testing.TB, ms ...message.Message) {
	for i := range ms {
		require.NoError(t, f.message(&ms[i], f.start))
	}
}

func TestFurtherTracksArePublicationsOfTheirOwn(t *testing.T) {
	var f *further
	f = newFurther(t, func(i int) *opening { return f.grant(i) })
	f.feed(t, onMetaData(t, amf.Property{Name: "hasVideo", Value: true}, amf.Property{Name: "hasAudio", Value: true},
		amf.Property{Name: "audioTrackIdInfoMap", Value: amf.Object{{Name: "1", Value: amf.Object{{Name: "language", Value: "de"}}}}}))
	hevc, av1, opus := clipOf(t, "hevc"), clipOf(t, "av1"), clipOf(t, "opus")
	all := [][]message.Message{
		sender{clip: hevc, layout: flv.OneTrack}.all(),
		sender{clip: av1, layout: flv.ManyCodecs, id: 1}.all(),
		sender{clip: opus}.all(), // the first without a number
		sender{clip: opus, layout: flv.ManyTracks, id: 1}.all(),
	}
	for i := range 20 {
		for _, ms := range all {
			f.feed(t, ms[i])
		}
	}
	require.EqualValues(t, 2, f.onAir)
	require.Len(t, f.pubs, 2)
	require.Equal(t, "video 0 hvc1.1.6.L30.90 160x90, audio 0 Opus 48000 Hz 2 ch, data 0 AMF0 data", showTracks(f.main.announced[0]))
	require.Len(t, f.main.packets, 1+19+19)
	require.Equal(t, "video 0 av01.0.00M.08 160x90", showTracks(f.pubs[2].announced[0]))
	require.Len(t, f.pubs[2].packets, 19)
	require.Equal(t, "audio 0 Opus 48000 Hz 2 ch", showTracks(f.pubs[1000].announced[0]))
	require.Equal(t, "de", f.pubs[1000].announced[0][0].Language)
	require.Empty(t, f.main.announced[0][1].Language)
	require.Len(t, f.pubs[1000].packets, 19)
	require.Equal(t, f.main.packets[len(f.main.packets)-1].DTS, f.pubs[1000].packets[18].DTS, "one clock")

	f.more.finish(nil)
	require.True(t, f.pubs[2].isClosed && f.pubs[1000].isClosed)
	require.Zero(t, f.onAir)
}

func TestSeveralTracksInOneMessage(t *testing.T) {
	var f *further
	f = newFurther(t, func(i int) *opening { return f.grant(i) })
	c := clipOf(t, "hevc")
	h := flv.Video{Frame: flv.FrameKey, Packet: flv.PacketConfig, FourCC: flv.FourCCHEVC, Layout: flv.ManyTracks}
	many := func(stamp uint32, h flv.Video, body []byte) message.Message {
		b := flv.AppendEnhancedVideo(nil, h)
		for id := range uint8(3) {
			b = flv.AppendVideoTrack(b, h, id, flv.FourCCHEVC, body)
		}
		return message.Message{Type: message.TypeVideo, Timestamp: stamp, Payload: b}
	}
	f.feed(t, many(0, h, c.Config))
	h.Packet, h.CompositionTime = flv.PacketFrames, 100
	f.feed(t, many(40, h, c.Samples[0].Payload))
	for _, p := range []*publication{f.main, f.pubs[2], f.pubs[3]} {
		require.Len(t, p.packets, 1)
		require.Equal(t, "video 40+100 key hvc1.1.6.L30.90", show(p.packets[0]))
	}
}

func TestFurtherTracksThatAreNotCarried(t *testing.T) {
	var f *further
	f = newFurther(t, func(i int) *opening {
		if i == 2 {
			return &opening{err: fault.New(fault.StreamBusy, "taken")}
		}
		return f.grant(i)
	})
	c := clipOf(t, "opus")
	opus := sender{clip: c, layout: flv.OneTrack}
	hevc := sender{clip: clipOf(t, "hevc"), layout: flv.OneTrack}
	for id := range uint8(10) {
		hevc.id, opus.id = id, id
		f.feed(t, hevc.all()[:3]...)
		f.feed(t, opus.all()[:3]...)
	}
	require.Len(t, f.main.packets, 4, "the connection's own publication goes on")
	require.Len(t, f.refused, 1+18-maxCompanions)
	require.Contains(t, f.refused, "video 1 "+string(fault.StreamBusy))
	require.Contains(t, f.refused, "audio 9 "+string(fault.LimitExceeded))

	// One that is dismissed leaves the others.
	opus.id = 1
	f.pubs[1000].cause = fault.New(fault.Superseded, "gone")
	f.feed(t, opus.all()[3:5]...)
	require.True(t, f.pubs[1000].isClosed)
	require.Contains(t, f.refused, "audio 1 "+string(fault.Superseded))
	f.more.finish(nil)
	require.Zero(t, f.onAir)
}

func TestWhatComesBeforeTheGateAnswersIsHeld(t *testing.T) {
	f := newFurther(t, func(int) *opening { return nil })
	c := clipOf(t, "hevc")
	ms := sender{clip: c, layout: flv.OneTrack, id: 1}.all()
	f.feed(t, sender{clip: c}.all()[:2]...)
	f.feed(t, ms[:11]...)
	late := newPublication()
	f.answers[2] <- opening{pub: late}
	f.feed(t, ms[11])
	require.Len(t, late.packets, 11)

	// But not without bound.
	f = newFurther(t, func(int) *opening { return nil })
	f.feed(t, sender{clip: c}.all()[:2]...)
	f.feed(t, ms...)
	for range 2 * maxHeld {
		f.feed(t, ms[2])
	}
	extra := f.more.byID[trackKey{media.Video, 1}].d
	require.LessOrEqual(t, len(extra.held), maxHeld)
	require.LessOrEqual(t, extra.heldBytes, maxHeldBytes)
	f.more.finish(nil)
}

// feeding sends until what was sent has arrived.
func feeding(t testing.TB, send func() (arrived bool)) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !send(); {
		require.True(t, time.Now().Before(deadline), "what was sent did not arrive")
		<-tick.C
	}
}

// TestMultitrackConnection publishes three tracks over one connection.
func TestMultitrackConnection(t *testing.T) {
	d := open(t, nil)
	c, err := d.dial(t, "kLive?t=s3cret", "lobby_1")
	require.NoError(t, err)
	hevc := sender{clip: clipOf(t, "hevc")}.all()
	low := sender{clip: clipOf(t, "av1"), layout: flv.OneTrack, id: 1}.all()
	german := sender{clip: clipOf(t, "opus"), layout: flv.OneTrack, id: 3}.all()
	main := await(t, d.gate.opened, "publication")
	sound := sender{clip: clipOf(t, "opus")}.all()
	for i := range 5 {
		send(t, c, hevc[i], sound[i], low[i], german[i])
	}
	byIndex := map[int]*publication{}
	for range 2 {
		p := await(t, d.gate.opened, "publication")
		byIndex[p.request.Index] = p
	}
	require.Contains(t, byIndex, 2)
	require.Contains(t, byIndex, 1002)
	require.Equal(t, main.request.Token, byIndex[2].request.Token)
	require.Equal(t, "lobby_1002", byIndex[1002].request.Name())
	i := 5
	feeding(t, func() bool {
		send(t, c, low[i%len(low)], german[i%len(german)])
		i++
		return len(byIndex[2].written()) >= 9 && len(byIndex[1002].written()) >= 9
	})
	until(t, main, 8)
	require.NoError(t, c.Unpublish("lobby_1"))
	for _, p := range []*publication{main, byIndex[2], byIndex[1002]} {
		await(t, p.closed, "close")
		require.Equal(t, fault.Unpublished, fault.ReasonOf(p.end))
	}
	require.NoError(t, c.Close())
	require.Zero(t, d.stats.FurtherTracks.Load())
}

// TestSlowGateOfAFurtherTrack ends a connection while the gate is still asked.
func TestSlowGateOfAFurtherTrack(t *testing.T) {
	asked := make(chan struct{})
	d := open(t, func(o *Options) {
		o.Gate = slowGate{gate: o.Gate.(*gate), asked: asked}
	})
	c, err := d.dial(t, "kLive?t=s3cret", "lobby_1")
	require.NoError(t, err)
	main := await(t, d.gate.opened, "publication")
	ms := sender{clip: clipOf(t, "hevc")}.all()
	send(t, c, ms[0], ms[1], sender{clip: clipOf(t, "hevc"), layout: flv.OneTrack, id: 1}.all()[0])
	await(t, asked, "question")
	require.NoError(t, c.Close())
	await(t, main.closed, "close")
}

// slowGate lets the first index in at once and the others never.
type slowGate struct {
	*gate
	asked chan struct{}
}

func (g slowGate) Open(ctx context.Context, r ingest.Request) (ingest.Publication, error) {
	if r.Index == 1 {
		return g.gate.Open(ctx, r)
	}
	close(g.asked)
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestReconnectRequest(t *testing.T) {
	draining := make(chan struct{})
	d := open(t, func(o *Options) { o.Draining = draining })
	connect := func(caps wire.Caps) *wire.ClientConn {
		c := d.client(t)
		require.NoError(t, c.Connect(wire.Connect{App: "kLive?t=s3cret", TcURL: "rtmp://h/kLive", Enhanced: wire.Enhanced{
			List: []string{"hvc1"}, Caps: caps}}))
		require.NoError(t, c.Publish("lobby_1"))
		return c
	}
	knows, plain := connect(wire.CapReconnect|wire.CapMultitrack), connect(wire.CapMultitrack)
	require.Equal(t, wire.CapReconnect|wire.CapMultitrack|wire.CapModEx|wire.CapNanoOffset, knows.Server().Caps)
	require.Contains(t, knows.Server().List, "av01")
	require.NotContains(t, knows.Server().List, "vp08")
	require.Contains(t, knows.Server().Video, wire.FourCCInfo{Name: "hvc1", Mask: wire.CanForward})
	require.Contains(t, knows.Server().Audio, wire.FourCCInfo{Name: "Opus", Mask: wire.CanForward})
	close(draining)
	said := make(chan error, 2)
	go func() { said <- knows.Serve() }()
	first, second := await(t, d.gate.opened, "publication"), await(t, d.gate.opened, "publication")
	stop := make(chan struct{})
	fed := make(chan struct{})
	go func() { // media goes on until the peer is ready to leave
		defer close(fed)
		send(t, knows, videoConfig(avcSmall))
		send(t, plain, videoConfig(avcSmall))
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for at := uint32(0); ; at += 40 {
			send(t, knows, keyFrame(at))
			send(t, plain, keyFrame(at))
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	info := status(t, await(t, said, "request"))
	require.Equal(t, wire.ReconnectRequest, info.Code)
	require.Equal(t, wire.LevelStatus, info.Level)
	n := len(first.written())
	until(t, first, n+5)
	until(t, second, 5)
	close(stop)
	await(t, fed, "end of the media")

	// The other one is told only when the server ends.
	d.stop()
	go func() { said <- plain.Serve() }()
	require.Equal(t, wire.ConnectAppShutdown, status(t, await(t, said, "goodbye")).Code)
}

// FuzzEnhanced gives the door enhanced messages of any kind.
func FuzzEnhanced(f *testing.F) {
	for _, c := range allClips(f) {
		for _, l := range []flv.Layout{flv.NoTracks, flv.OneTrack, flv.ManyTracks, flv.ManyCodecs} {
			ms := sender{clip: &c, layout: l, id: uint8(l)}.all()
			f.Add(ms[0].Type == message.TypeVideo, ms[0].Payload, ms[1].Payload, ms[2].Payload)
		}
	}
	f.Fuzz(func(t *testing.T, video bool, a, b, c []byte) {
		d := newFurther(t, func(int) *opening { return nil })
		d.bad = func(error) {}
		d.more.open = func(index int) <-chan opening {
			ch := make(chan opening, 1)
			ch <- *d.grant(index)
			return ch
		}
		kind := message.TypeAudio
		if video {
			kind = message.TypeVideo
		}
		for i, payload := range [][]byte{a, b, c, b} {
			if d.message(&message.Message{Type: kind, Timestamp: uint32(i) * 40, Payload: payload}, d.start) != nil { //nolint:gosec // four
				break
			}
		}
		_ = d.finish()
		d.more.finish(nil)
		d.pubs[1] = d.main
		for _, p := range d.pubs {
			known := map[*media.Track]bool{}
			for _, ts := range p.announced {
				for _, tr := range ts {
					known[tr] = true
				}
			}
			for _, q := range p.packets {
				require.True(t, known[q.Track], "packets point to announced tracks")
				require.GreaterOrEqual(t, q.PTS, q.DTS)
				require.NotEmpty(t, q.Payload)
			}
		}
	})
}
