package app

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/config"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/stream"
)

// The limits of the server that the rows run on.
const (
	parityReconnect = 4 * time.Second
	parityTakeover  = 2 * time.Second
	parityIdle      = 8 * time.Second
)

// parityRows are what every door must show alike. A row knows no protocol: in
// what the doors differ by nature stands in their protocol.
var parityRows = []struct {
	name string
	run  func(x *trial)
}{
	{"publish", rowPublish},
	{"lost connection", rowLost},
	{"reconnect", rowReconnect},
	{"reconnect window is over", rowReconnectTooLate},
	{"duplicate", rowDuplicate},
	{"takeover", rowTakeover},
	{"idle", rowIdle},
	{"no media", rowNoMedia},
	{"wire clocks", rowWireClocks},
	{"jump forward", func(x *trial) { rowJump(x, time.Hour) }},
	{"jump back", func(x *trial) { rowJump(x, -20*time.Minute) }},
	{"another size", func(x *trial) { rowChange(x, pictureLarge(), soundOf(48000)) }},
	{"another codec", func(x *trial) { rowChange(x, mustHEVC(x), soundOf(48000)) }},
	{"another sound", func(x *trial) { rowChange(x, pictureSmall(), soundOf(44100)) }},
	{"data", rowData},
	{"half a second without packets", rowPause},
	{"half a second left out", rowGap},
	{"disconnect", rowDisconnect},
	{"stop", rowStop},
}

// TestDoorParity runs every row on every door, all at the same time: they
// mostly wait.
func TestDoorParity(t *testing.T) {
	s := openSite(t, func(c *config.Config) {
		c.Limits.ReconnectWindow, c.Limits.TakeoverAfter, c.Limits.IdleTimeout = parityReconnect, parityTakeover, parityIdle
	})
	var all sync.WaitGroup
	for i, row := range parityRows {
		for k, p := range protocols() {
			all.Go(func() {
				t.Run(row.name+"/"+p.name, func(t *testing.T) {
					from := netip.AddrFrom4([4]byte{127, 0, byte(i + 2), byte(k + 1)})
					row.run(&trial{TB: t, s: s, p: p, id: fmt.Sprintf("p-%d-%s", i, p.name), from: from})
				})
			})
		}
	}
	all.Wait()
	s.tap.mu.Lock()
	defer s.tap.mu.Unlock()
	require.Empty(t, s.tap.bad)
}

// trial is one row on one door, with a stream of its own.
type trial struct {
	testing.TB
	s    *site
	p    *protocol
	id   string     // of the stream
	from netip.Addr // where its encoders are, as refusals of one address share few events

	sent []frame // by write, on every connection
}

// publish lets an encoder in and waits for its session.
func (x *trial) publish() encoder {
	x.Helper()
	before := len(x.sessions())
	e, err := x.p.dial(x, x.s, x.address())
	require.NoError(x, err)
	x.until("session", func() bool { return len(x.sessions()) > before })
	return e
}

// address is the right one.
func (x *trial) address() address { return address{name: x.id + "_1", token: token, from: x.from} }

// write sends frames and keeps what was sent.
func (x *trial) write(e encoder, frames []frame) {
	x.Helper()
	require.NoError(x, e.Write(frames...))
	x.sent = append(x.sent, frames...)
}

// play sends d of media in real time.
func (x *trial) play(e encoder, src *source, d time.Duration) {
	x.Helper()
	tick := time.NewTicker(frameTime)
	defer tick.Stop()
	for ; d > 0; d -= frameTime {
		x.write(e, src.next(frameTime))
		<-tick.C
	}
}

// keepPlaying sends media in real time until stop is called, which gives what
// was wrong with it.
func (x *trial) keepPlaying(e encoder, src *source) (stop func() error) {
	quit, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(frameTime)
		defer tick.Stop()
		for {
			if err := e.Write(src.next(frameTime)...); err != nil {
				ended <- err
				return
			}
			select {
			case <-quit:
				ended <- nil
				return
			case <-tick.C:
			}
		}
	}()
	return func() error {
		close(quit)
		return <-ended
	}
}

func (x *trial) until(what string, ok func() bool) {
	x.Helper()
	require.Eventually(x, ok, patience, 10*time.Millisecond, what)
}

// sessions are those of the stream, the newest first.
func (x *trial) sessions() []stream.SessionStatus { return x.s.registry.Sessions(x.id) }

func (x *trial) broadcast() stream.BroadcastStatus {
	x.Helper()
	st, ok := x.s.registry.Status(x.id)
	require.True(x, ok)
	require.Len(x, st.Broadcasts, 1)
	return st.Broadcasts[0]
}

func (x *trial) state() stream.State {
	st, _ := x.s.registry.Status(x.id)
	return st.State
}

// onAir waits until the stream can be watched.
func (x *trial) onAir() {
	x.Helper()
	x.until("PLAYABLE", func() bool { return x.state() == stream.Playable })
}

// ended waits for the end of the newest session that began before others.
func (x *trial) ended(id string, state stream.State, reason fault.Reason) stream.SessionStatus {
	x.Helper()
	var st stream.SessionStatus
	x.until("end of the session", func() bool {
		st, _ = x.s.registry.Session(id)
		return !st.End.IsZero()
	})
	require.Equal(x, reason, st.Reason, st.Message)
	require.Equal(x, state, st.State)
	return st
}

// got are the packets of a kind that readers of the stream were given.
func (x *trial) got(k media.Kind) []media.Packet { return x.s.tap.packets(x.id, k) }

// arrived waits until readers have all that was sent, and gives pictures and
// sound. The last picture may be kept by a wire on which only the next one
// shows where it ends.
func (x *trial) arrived() (pictures, sounds []media.Packet) {
	x.Helper()
	video, audio := len(of(media.Video, x.sent)), len(of(media.Audio, x.sent))
	x.until(fmt.Sprintf("%d pictures and %d frames of sound", video, audio), func() bool {
		pictures, sounds = x.got(media.Video), x.got(media.Audio)
		return len(pictures) >= video-1 && len(sounds) >= audio
	})
	require.LessOrEqual(x, len(pictures), video)
	require.Len(x, sounds, audio)
	for _, list := range [][]media.Packet{pictures, sounds} {
		for i := range list {
			require.GreaterOrEqual(x, list[i].PTS, list[i].DTS)
			if i > 0 {
				require.Greater(x, list[i].DTS, list[i-1].DTS, "the time of a stream goes on")
			}
		}
	}
	return pictures, sounds
}

// marked are the places of packets with a flag.
func marked(list []media.Packet, f media.Flags) (at []int) {
	for i := range list {
		if list[i].Flags.Has(f) {
			at = append(at, i)
		}
	}
	return at
}

// sameSteps holds packets to the distances that their frames were sent with.
func (x *trial) sameSteps(sent []frame, got []media.Packet) {
	x.Helper()
	for i := range got {
		want, have := sent[i].at-sent[0].at, got[i].DTS-got[0].DTS
		require.LessOrEqual(x, (want - have).Abs(), x.p.tick+time.Microsecond, "packet %d is at %s, not %s", i, have, want)
	}
}

// resumed waits for the second half of a stream of two times two seconds, and
// gives all pictures and the place of the one discontinuity between.
func (x *trial) resumed() (pictures []media.Packet, at int) {
	x.Helper()
	x.until("pictures behind a discontinuity", func() bool {
		pictures = x.got(media.Video)
		places := marked(pictures, media.Discontinuity)
		if len(places) == 0 {
			return false
		}
		at = places[0]
		require.Len(x, places, 1)
		return len(pictures)-at >= 2*keyEvery-1
	})
	require.GreaterOrEqual(x, at, 2*keyEvery-1)
	return pictures, at
}
