package segment

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
)

func TestPublisherWhoseTimeStandsStillIsRefused(t *testing.T) {
	const most = 1 << 20
	big := make([]byte, most/16)
	still := func(t *media.Track, at time.Duration, n int, payload []byte) (out []*media.Packet) {
		for range n {
			out = append(out, &media.Packet{Track: t, DTS: at, PTS: at, Flags: media.Key, Payload: payload})
		}
		return out
	}
	v, a := videoTrack(1), audioTrack(1, 48000)
	delta := func(list []*media.Packet) []*media.Packet {
		for _, p := range list {
			p.Flags = 0
		}
		return list
	}
	normal := script{fps: 30, gop: time.Second, length: 2 * time.Second, rate: 48000}.packets(v, a)
	last := normal[len(normal)-1].DTS
	for name, packets := range map[string][]*media.Packet{
		"at the start":      still(v, 0, 100, big),
		"in the middle":     append(normal[:len(normal):len(normal)], still(v, last+40*time.Millisecond, 100, big)...),
		"sound before all":  still(a, 0, 100, big),
		"sound that waits":  append(normal[:len(normal):len(normal)], still(a, last+100*time.Millisecond, 100, big)...),
		"many small ones":   append(normal[:len(normal):len(normal)], delta(still(v, last+40*time.Millisecond, 20000, []byte{1}))...),
		"packets of no one": append(normal[:len(normal):len(normal)], still(a, last+100*time.Millisecond, 20000, nil)...),
	} {
		t.Run(name, func(t *testing.T) {
			st := openStore(t, Options{HeldBytes: most})
			w := watch(t, st)
			c, err := st.Begin(shelfOne, Broadcast{ID: "b1", Start: time.Unix(1e9, 0)}, w.observe)
			require.NoError(t, err)
			src := newSource(v, a)
			src.append(packets...)
			src.log.Close()
			err = c.Run(t.Context(), renditionOne(src))
			require.Equal(t, fault.LimitExceeded, fault.ReasonOf(err), "%v", err)
			for _, x := range w.last {
				for i := range x.Closed {
					for _, p := range x.Closed[i].Parts {
						require.LessOrEqual(t, p.Size, int64(2*most))
					}
				}
			}
			st.drain()
			c.End()
		})
	}
}

func TestPartsInMemoryAreBoundedInBytes(t *testing.T) {
	const most = 1 << 20
	st := openStore(t, Options{HeldBytes: most})
	w := watch(t, st)
	s := script{fps: 30, gop: 2 * time.Second, length: 6 * time.Second, noAudio: true}
	s.edit = func(p *media.Packet) bool {
		p.Payload = append(p.Payload, make([]byte, 60<<10)...)
		return true
	}
	src := s.source()
	src.log.Close()
	c, err := st.Begin(shelfOne, Broadcast{ID: "b1", Start: time.Unix(1e9, 0)}, w.observe)
	require.NoError(t, err)
	require.NoError(t, c.Run(t.Context(), renditionOne(src)))
	require.LessOrEqual(t, st.Stats().MemoryBytes, int64(most))
	requireWhole(t, st.shelf(shelfOne), w.last[videoRow])
}
