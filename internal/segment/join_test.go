package segment

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
)

// requireWhole requires numbers without holes, and that all that is listed can
// be opened.
func requireWhole(t *testing.T, h Shelf, x *Index) {
	t.Helper()
	for i := range x.Closed {
		s := &x.Closed[i]
		require.Equal(t, x.Closed[0].Number+uint64(i), s.Number, "a hole in the row's numbers")
		if s.Gap {
			continue
		}
		c, err := h.Open(x.Row, s.Run, s.Number, -1)
		require.NoError(t, err)
		require.Len(t, read(t, c), int(s.Size))
	}
}

// lateTrack is a source whose picture or sound comes so much later, with this
// flag in its first packet.
func lateTrack(kind media.Kind, late time.Duration, flag media.Flags) *source {
	s := script{fps: 30, gop: 2 * time.Second, length: 24 * time.Second, rate: 48000}
	v, a := videoTrack(1), audioTrack(1, s.rate)
	s.edit = func(p *media.Packet) bool {
		if p.Track.Kind != kind || p.DTS < late {
			return p.Track.Kind != kind
		}
		p.Flags |= flag
		flag = 0
		return true
	}
	src := newSource(a)
	if kind == media.Audio {
		src = newSource(v)
	}
	src.append(s.packets(v, a)...)
	src.log.Close()
	return src
}

func TestTrackThatJoinsOnAnOlderRowLeavesNoHole(t *testing.T) {
	for _, restart := range []bool{false, true} {
		for _, late := range []struct {
			kind media.Kind
			flag media.Flags
		}{{media.Video, 0}, {media.Audio, 0}, {media.Video, media.Discontinuity}, {media.Audio, media.Discontinuity}} {
			dir := t.TempDir()
			st := openStore(t, Options{Dir: dir, Window: time.Hour})
			w := watch(t, st)
			cutAll(t, st, w, script{fps: 30, gop: 2 * time.Second, length: 9 * time.Second}.source()).End()
			if restart {
				st = openStore(t, Options{Dir: dir, Window: time.Hour})
				w = watch(t, st)
			}
			c, err := st.Begin(shelfOne, Broadcast{ID: "b2", Start: time.Unix(1_700_000_020, 0)}, w.observe)
			require.NoError(t, err)
			require.NoError(t, c.Run(t.Context(), renditionOne(lateTrack(late.kind, 14*time.Second, late.flag))))
			st.drain()
			h := st.shelf(shelfOne)
			v, a := h.Index(videoRow), h.Index(audioRow)
			requireWhole(t, h, v)
			requireWhole(t, h, a)
			require.Equal(t, v.Closed[len(v.Closed)-1].Number, a.Closed[len(a.Closed)-1].Number)
			c.End()
		}
	}
}
