package app

import (
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/stream"
)

// rowPublish: what is sent is on air, whole; the goodbye is one.
func rowPublish(x *trial) {
	e := x.publish()
	src := newSource(0)
	x.write(e, src.next(3*time.Second))
	x.onAir()
	pictures, sounds := x.arrived()
	x.sameSteps(of(media.Video, x.sent), pictures)
	x.sameSteps(of(media.Audio, x.sent), sounds)
	require.Equal(x, []int{0, 25, 50}, marked(pictures, media.Key))
	require.Empty(x, marked(pictures, media.Discontinuity))
	require.Empty(x, marked(sounds, media.Discontinuity))
	require.InDelta(x, frameTime, pictures[0].CompositionOffset(), float64(x.p.tick))
	require.Equal(x, lengthPrefixed(pictureSmall().key), pictures[0].Payload)
	require.Equal(x, "a frame of sound", string(sounds[0].Payload))
	require.Equal(x, 320, pictures[0].Track.Video.Width)
	require.Equal(x, 48000, sounds[0].Track.Audio.SampleRate)

	st := x.sessions()[0]
	require.Equal(x, x.p.name, st.Protocol)
	require.Equal(x, stream.Playable, st.State)
	require.EqualValues(x, len(pictures)+len(sounds), st.Packets)
	require.Greater(x, st.WireBytes, st.Bytes)
	require.Zero(x, st.BadMessages+st.TimeRepairs+st.Discontinuities)
	require.True(x, st.Remote.Addr().IsLoopback())
	require.Equal(x, []listedSession{{x.p.name, "BROADCAST_STATE_PLAYABLE", ""}}, x.s.listed(x, x.id))
	x.s.checkHLS(x, x.id)

	require.NoError(x, e.Close())
	x.ended(st.ID, stream.Stopped, fault.Unpublished)
	require.False(x, x.broadcast().ReconnectDeadline.IsZero())
}

// rowLost: an encoder that is killed has lost its connection.
func rowLost(x *trial) {
	e := x.publish()
	x.write(e, newSource(0).next(2*time.Second))
	x.onAir()
	e.Abort()
	x.ended(x.sessions()[0].ID, stream.Failed, fault.ConnectionLost)
	require.False(x, x.broadcast().ReconnectDeadline.IsZero(), "the broadcast waits")
}

// rowReconnect: who comes back in time continues the broadcast, whatever its
// clock says now.
func rowReconnect(x *trial) {
	e := x.publish()
	x.write(e, newSource(time.Hour).next(2*time.Second))
	x.onAir()
	x.arrived()
	first, id := x.sessions()[0], x.broadcast().ID
	require.NoError(x, e.Close())
	x.ended(first.ID, stream.Stopped, fault.Unpublished)

	e = x.publish()
	x.sent = x.sent[:0]
	src := newSource(0)
	x.write(e, src.next(2*time.Second))
	pictures, at := x.resumed()
	require.Equal(x, id, x.broadcast().ID)
	require.NotEqual(x, first.ID, x.sessions()[0].ID)
	require.True(x, x.broadcast().ReconnectDeadline.IsZero())
	require.EqualValues(x, 1, x.broadcast().Discontinuities)
	require.True(x, pictures[at].Flags.Has(media.Key))
	for i := range pictures[1:] {
		require.Greater(x, pictures[i+1].DTS, pictures[i].DTS)
		require.Same(x, pictures[i].Track, pictures[i+1].Track, "the configuration did not change")
	}
	x.sameSteps(of(media.Video, x.sent), pictures[at:])
	x.until("event", func() bool { return len(x.s.told(x, x.id, stream.BroadcastResumed)) == 1 })
	x.s.checkHLS(x, x.id)
	require.NoError(x, e.Close())
}

// rowReconnectTooLate: nobody comes back in time.
func rowReconnectTooLate(x *trial) {
	e := x.publish()
	x.write(e, newSource(0).next(2*time.Second))
	x.onAir()
	id := x.broadcast().ID
	require.NoError(x, e.Close())
	x.until("STOPPED", func() bool { return x.state() == stream.Stopped })
	var over []stream.Event
	x.until("event", func() bool { over = x.s.told(x, x.id, stream.BroadcastEnded); return len(over) == 1 })
	require.Equal(x, fault.ReconnectWindowOver, over[0].Reason)
	require.True(x, x.s.checkHLS(x, x.id).Ended)

	e = x.publish()
	x.write(e, newSource(0).next(2*time.Second))
	x.onAir()
	require.NotEqual(x, id, x.broadcast().ID)
	require.NoError(x, e.Close())
}

// rowDuplicate: a second one is refused while the first is alive, and the
// first goes on unharmed.
func rowDuplicate(x *trial) {
	e := x.publish()
	stop := x.keepPlaying(e, newSource(0))
	x.onAir()
	code, words := x.p.refused(x, x.s, x.address())
	require.Equal(x, x.p.codes[fault.StreamBusy], code)
	if words != "" {
		require.Contains(x, words, "already being published")
	}
	x.until("event", func() bool {
		list := x.s.told(x, x.id, stream.PublishRefused)
		return len(list) > 0 && list[0].Reason == fault.StreamBusy
	})
	n := len(x.got(media.Video))
	x.until("more pictures", func() bool { return len(x.got(media.Video)) > n+10 })
	require.NoError(x, stop())
	require.Len(x, x.sessions(), 1)
	require.Equal(x, stream.Playable, x.sessions()[0].State)
	require.Empty(x, marked(x.got(media.Video), media.Discontinuity))
	require.NoError(x, e.Close())
}

// rowTakeover: a newcomer takes the place of one that went silent, at once.
func rowTakeover(x *trial) {
	silent := x.publish()
	x.write(silent, newSource(0).next(2*time.Second))
	x.onAir()
	old, id := x.sessions()[0], x.broadcast().ID
	x.arrived()
	x.until("silence", func() bool { return time.Since(x.sessions()[0].LastMedia) > parityTakeover+100*time.Millisecond })

	e := x.publish()
	x.ended(old.ID, stream.Failed, fault.Superseded)
	require.Equal(x, x.p.ends[fault.Superseded], silent.Ended(x))
	x.write(e, newSource(0).next(2*time.Second))
	x.resumed()
	require.Equal(x, id, x.broadcast().ID)
	require.EqualValues(x, 1, x.broadcast().Discontinuities)
	x.s.checkHLS(x, x.id)
	require.NoError(x, e.Close())
}

// rowIdle: a silent one is ended.
func rowIdle(x *trial) {
	e := x.publish()
	x.write(e, newSource(0).next(2*time.Second))
	x.onAir()
	require.Equal(x, x.p.ends[fault.Idle], e.Ended(x))
	st := x.ended(x.sessions()[0].ID, stream.Failed, fault.Idle)
	require.InDelta(x, parityIdle, st.End.Sub(st.LastMedia), float64(2*time.Second))
}

// rowNoMedia: so is one that never said anything.
func rowNoMedia(x *trial) {
	e := x.publish()
	require.Equal(x, x.p.ends[fault.NoMedia], e.Ended(x))
	x.ended(x.sessions()[0].ID, stream.Failed, fault.NoMedia)
}

// rowWireClocks: neither the wrap of a wire clock nor where it stands is seen.
func rowWireClocks(x *trial) {
	for about, at := range x.p.times {
		x.sent = nil
		y := *x
		y.id += "-" + wordOf(about)
		e := y.publish()
		src := newSource(at - time.Second)
		y.write(e, src.next(3*time.Second))
		y.onAir()
		pictures, sounds := y.arrived()
		y.sameSteps(of(media.Video, y.sent), pictures)
		y.sameSteps(of(media.Audio, y.sent), sounds)
		require.Empty(x, marked(pictures, media.Discontinuity), about)
		require.Empty(x, marked(sounds, media.Discontinuity), about)
		require.Zero(x, y.sessions()[0].TimeRepairs, about)
		require.Less(x, pictures[0].DTS, time.Second, "the time of a stream begins with it")
		y.s.checkHLS(x, y.id)
		require.NoError(x, e.Close())
	}
}

// rowJump: when the encoder's clock jumps the stream goes on without the jump.
func rowJump(x *trial, by time.Duration) {
	e := x.publish()
	src := newSource(2 * time.Hour)
	x.play(e, src, time.Second)
	src.skip(by)
	x.play(e, src, time.Second)
	x.onAir()
	pictures, sounds := x.arrived()
	require.Equal(x, []int{25}, marked(pictures, media.Discontinuity))
	require.Len(x, marked(sounds, media.Discontinuity), 1)
	require.Less(x, pictures[25].DTS-pictures[24].DTS, time.Second)
	x.sameSteps(of(media.Video, x.sent)[:25], pictures[:25])
	x.sameSteps(of(media.Video, x.sent)[25:], pictures[25:])
	require.EqualValues(x, 1, x.broadcast().Discontinuities)
	require.EqualValues(x, 2, x.sessions()[0].Discontinuities, "of picture and sound")
	x.until("event", func() bool { return len(x.s.told(x, x.id, stream.TimelineRepaired)) == 1 })
	x.s.checkHLS(x, x.id)
	require.NoError(x, e.Close())
}

// rowChange: another configuration in mid-stream is one for readers, too, and
// needs no new session.
func rowChange(x *trial, p *picture, a *sound) {
	e := x.publish()
	src := newSource(0)
	if p.width == src.picture.width { // the picture does not change
		p = src.picture
	}
	if a.rate == src.sound.rate {
		a = src.sound
	}
	x.write(e, src.next(2*time.Second))
	picture, sound := p != src.picture, a != src.sound
	src.change(p, a)
	x.write(e, src.next(2*time.Second))
	x.onAir()
	pictures, sounds := x.arrived()
	at := marked(pictures, media.NewConfig)
	if picture {
		require.Equal(x, []int{50}, at)
		require.True(x, pictures[50].Flags.Has(media.Key))
		require.Equal(x, p.codec, pictures[50].Track.Codec)
		if p.width > 0 {
			require.Equal(x, p.width, pictures[50].Track.Video.Width)
			require.Equal(x, p.height, pictures[50].Track.Video.Height)
		}
	} else {
		require.Empty(x, at)
	}
	if at := marked(sounds, media.NewConfig); sound {
		require.Len(x, at, 1)
		require.Equal(x, a.rate, sounds[at[0]].Track.Audio.SampleRate)
		require.Equal(x, 48000, sounds[at[0]-1].Track.Audio.SampleRate)
	} else {
		require.Empty(x, at)
	}
	require.Empty(x, marked(pictures, media.Discontinuity), "nothing was lost")
	require.Len(x, x.sessions(), 1)
	require.Zero(x, x.sessions()[0].BadMessages)
	x.s.checkHLS(x, x.id)
	require.NoError(x, e.Close())
}

// rowData: data arrive as data, at their time.
func rowData(x *trial) {
	e := x.publish()
	src := newSource(time.Minute)
	x.write(e, src.next(time.Second))
	var sent []frame
	for codec, body := range x.p.data {
		for n := range 2 {
			f := frame{kind: media.Data, at: src.at, data: codec, body: body(n)}
			sent = append(sent, f)
			x.write(e, []frame{f})
			x.write(e, src.next(time.Second))
		}
	}
	x.onAir()
	pictures, _ := x.arrived()
	x.until("data", func() bool { return len(x.got(media.Data)) >= len(sent) })
	list := x.got(media.Data)
	require.Len(x, list, len(sent))
	for i, q := range list {
		require.Equal(x, sent[i].data, q.Track.Codec)
		require.Equal(x, string(sent[i].body), string(q.Payload))
		at := sent[i].at - time.Minute + pictures[0].DTS
		require.LessOrEqual(x, (q.DTS - at).Abs(), 2*frameTime, "a section has the time of where it stands")
		if i > 0 {
			require.GreaterOrEqual(x, q.DTS, list[i-1].DTS)
		}
	}
	require.Len(x, x.sessions(), 1)
	require.Zero(x, x.sessions()[0].BadMessages)
	require.NoError(x, e.Close())
}

// halfASecond is how long nothing comes.
const halfASecond = 500 * time.Millisecond

// rowPause: the network holds media back for a while; nothing is lost.
func rowPause(x *trial) {
	e := x.publish()
	src := newSource(0)
	x.play(e, src, time.Second)
	<-time.After(halfASecond)
	x.write(e, src.next(halfASecond)) // what was held back comes at once
	x.play(e, src, time.Second)
	x.onAir()
	pictures, sounds := x.arrived()
	x.steady(pictures, sounds)
	require.NoError(x, e.Close())
}

// rowGap: the encoder leaves half a second out, and its clock says so.
func rowGap(x *trial) {
	e := x.publish()
	src := newSource(0)
	x.play(e, src, 1400*time.Millisecond)
	<-time.After(halfASecond)
	src.at, src.heard = src.at+halfASecond, src.heard+halfASecond // and the next picture is no key frame
	x.play(e, src, time.Second)
	x.onAir()
	pictures, sounds := x.arrived()
	x.steady(pictures, sounds)
	require.NoError(x, e.Close())
}

// steady holds the stream to the encoder's own clock.
func (x *trial) steady(pictures, sounds []media.Packet) {
	x.Helper()
	x.sameSteps(of(media.Video, x.sent), pictures)
	x.sameSteps(of(media.Audio, x.sent), sounds)
	require.Empty(x, marked(pictures, media.Discontinuity))
	require.Empty(x, marked(sounds, media.Discontinuity))
	require.Equal(x, stream.Playable, x.state())
	require.Zero(x, x.sessions()[0].TimeRepairs)
	x.s.checkHLS(x, x.id)
}

// rowDisconnect: a session that is dismissed hangs up; its encoder may come
// back.
func rowDisconnect(x *trial) {
	e := x.publish()
	x.write(e, newSource(0).next(2*time.Second))
	x.onAir()
	id := x.sessions()[0].ID
	x.s.post(x, "/v1/streams/"+x.id+"/sessions/"+id+":disconnect")
	require.Equal(x, x.p.ends[fault.StoppedByOperator], e.Ended(x))
	x.ended(id, stream.Stopped, fault.StoppedByOperator)
	require.False(x, x.broadcast().ReconnectDeadline.IsZero())
	require.NoError(x, x.publish().Close())
}

// rowStop: a stream that is stopped is over.
func rowStop(x *trial) {
	e := x.publish()
	x.write(e, newSource(0).next(2*time.Second))
	x.onAir()
	id := x.sessions()[0].ID
	x.s.post(x, "/v1/streams/"+x.id+":stop")
	require.Equal(x, x.p.ends[fault.StoppedByOperator], e.Ended(x))
	x.ended(id, stream.Stopped, fault.StoppedByOperator)
	x.until("STOPPED", func() bool { return x.state() == stream.Stopped })
	code, _ := x.p.refused(x, x.s, x.address())
	require.Equal(x, x.p.codes[fault.StreamStopped], code)
}

// wordOf makes a part of a stream id.
func wordOf(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c == ' ' {
			b[i] = '-'
		}
	}
	return string(b)
}
