package app

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/config"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/stream"
)

// parityRefusals are the encoders that nobody lets in, and why. Each comes from
// an address of its own, as the event log holds few refusals of one.
var parityRefusals = []struct {
	name   string
	at     address
	reason fault.Reason
	says   string // where the protocol has words
	then   bool   // a right address is let in from there afterwards
}{
	{"wrong token", address{name: "p-a_1", token: "wrong"}, fault.BadToken, "token", true},
	{"no token", address{name: "p-b_1"}, fault.MissingArgument, "token", true},
	{"unknown stream", address{name: "nobody_1", token: token}, fault.StreamNotFound, "nobody", true},
	{"name without an index", address{name: "p-c", token: token}, fault.BadStreamName, "p-c_1", true},
	{"stopped stream", address{name: "lobby_1", token: token}, fault.StreamStopped, "stopped", true},
	{"full server", address{name: "p-d_1", token: token}, fault.TooManyStreams, "full", true},
}

// TestDoorParityRefusals: each door says the same faults in its own words, they
// are counted and events, and nobody is locked out by them.
func TestDoorParityRefusals(t *testing.T) {
	var all sync.WaitGroup
	for _, p := range protocols() {
		all.Go(func() {
			t.Run(p.name, func(t *testing.T) {
				s := openSite(t, func(c *config.Config) {
					c.Streams = append(c.Streams, config.Stream{ID: "lobby", Token: token})
					c.Limits.MaxStreams = 1
				})
				s.post(t, "/v1/streams/lobby:stop")
				x := &trial{TB: t, s: s, p: p, id: "p-right"}
				e := x.publish() // the one that there is room for
				x.write(e, newSource(0).next(time.Second))
				x.onAir()
				require.NoError(t, e.Close())
				for i, c := range parityRefusals {
					t.Run(c.name, func(t *testing.T) {
						x := *x
						x.TB, x.from = t, netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)})
						c.at.from = x.from
						code, words := p.refused(t, s, c.at)
						require.Equal(t, p.codes[c.reason], code)
						if words != "" {
							require.Contains(t, words, c.says)
						}
						x.until("count", func() bool { return s.registry.Counters().Refused()[c.reason] == 1 })
						var e stream.Event
						x.until("event", func() (ok bool) { e, ok = s.refusalFrom(t, x.from); return ok })
						require.Equal(t, c.reason, e.Reason)
						require.Equal(t, p.name, e.Facts["protocol"])
						require.NotContains(t, e.Message, token)
						require.NoError(t, x.publish().Close())
						x.until("end", func() bool { return !x.sessions()[0].End.IsZero() })
					})
				}
			})
		})
	}
	all.Wait()
}

// refusalFrom is the event of a refusal of an address.
func (s *site) refusalFrom(t testing.TB, from netip.Addr) (stream.Event, bool) {
	t.Helper()
	events, _, err := s.events.Read(t.Context(), 0, 1000)
	require.NoError(t, err)
	for _, e := range events {
		if at, err := netip.ParseAddrPort(e.Facts["remote"]); err == nil && e.Type == stream.PublishRefused && at.Addr() == from {
			return e, true
		}
	}
	return stream.Event{}, false
}

// TestDoorParityDrain: a server that stops lets nobody in, and its end reaches
// those who are there.
func TestDoorParityDrain(t *testing.T) {
	var all sync.WaitGroup
	for _, p := range protocols() {
		all.Go(func() {
			t.Run(p.name, func(t *testing.T) {
				s := openSite(t, nil)
				x := &trial{TB: t, s: s, p: p, id: "p-drain"}
				e := x.publish()
				x.write(e, newSource(0).next(time.Second))
				x.onAir()
				s.post(t, "/v1/node:drain")
				code, _ := p.refused(t, s, address{name: "p-new_1", token: token})
				require.Equal(t, p.codes[fault.ServerDraining], code)
				require.True(t, x.sessions()[0].End.IsZero(), "who is on air goes on")
				require.NoError(t, s.stop())
				require.Equal(t, p.ends[fault.ServerDraining], e.Ended(t))
				x.ended(x.sessions()[0].ID, stream.Stopped, fault.ServerDraining)
			})
		})
	}
	all.Wait()
}
