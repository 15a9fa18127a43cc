package ts

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
)

// FuzzDemuxer: whatever comes, what goes out is sound, and it does not depend
// on how the bytes are cut.
func FuzzDemuxer(f *testing.F) {
	for _, b := range lies() {
		f.Add(b, 1316)
	}
	m := newMux()
	m.tables()
	for i := range int64(3) {
		m.video(1<<33-3600+3600*i, 1<<33-3600+3600*i, delimiter, spsSmall, ppsSmall, idr)
		m.audio(1<<33-3600+3600*i, "one", "two")
	}
	whole := m.take()
	f.Add(whole, 1316)
	f.Add(whole[100:], 188)
	f.Add(latmStream(f), 7)
	f.Add(everyFormat(), 1316)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		read := func(size int) (*recorder, Stats, error) {
			r := new(recorder)
			d := newDemuxer(r)
			for rest := b; len(rest) > 0; {
				n := min(size, len(rest))
				if err := d.Write(rest[:n], time.Unix(1001, 0)); err != nil {
					return r, d.Stats(), err
				}
				rest = rest[n:]
			}
			err := d.Finish()
			return r, d.Stats(), err
		}
		r, stats, err := read(PacketSize * 7)
		if err != nil {
			require.NotEmpty(t, fault.ReasonOf(err))
		}
		told := make(map[*media.Track]bool)
		for _, tracks := range r.told {
			for _, track := range tracks {
				told[track] = true
				require.Less(t, int(track.ID), media.MaxTracksPerKind)
			}
		}
		for _, p := range r.packets {
			require.True(t, told[p.Track], "a packet of a track that was not told")
			require.GreaterOrEqual(t, p.PTS, p.DTS)
			require.NotEmpty(t, p.Payload)
		}
		if size = 1 + (size&0x7fff)%3000; len(b)/size > 20000 {
			return
		}
		if stats.LostSync == 0 { // else the search for the next packet depends on what is there of it
			again, _, _ := read(size)
			require.Equal(t, summary(r), summary(again))
		}
	})
}
