package stream

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/ingest"
)

func TestASessionShowsTheLinkOfItsDoor(t *testing.T) {
	tell := func(l *ingest.Link) {
		l.RTT.Store(int64(30 * time.Millisecond))
		l.Latency.Store(int64(120 * time.Millisecond))
		l.Buffered.Store(int64(110 * time.Millisecond))
		l.Rate.Store(2_800_000)
		l.Bandwidth.Store(95_000_000)
		l.Packets.Store(1000)
		l.Lost.Store(6)
		l.Retransmitted.Store(5)
		l.Dropped.Store(1)
		l.Undecrypted.Store(2)
		l.Discontinuities.Store(3)
		l.Encrypted.Store(true)
	}
	want := LinkStatus{
		RTT: 30 * time.Millisecond, Latency: 120 * time.Millisecond, Buffered: 110 * time.Millisecond, Rate: 2_800_000, Bandwidth: 95_000_000,
		Packets: 1000, Lost: 6, Retransmitted: 5, Dropped: 1, Undecrypted: 2, Discontinuities: 3, Encrypted: true,
	}
	onStation(t, nil, func(st *station) {
		req := request(1, 0)
		pub, err := st.reg.Open(t.Context(), req)
		require.NoError(t, err)
		require.Nil(t, st.reg.Sessions("lobby")[0].Link, "the door has told nothing")

		tell(&req.Counters.Link)
		living := st.reg.Sessions("lobby")[0]
		require.Equal(t, want, *living.Link)

		pub.Close(nil)
		req.Counters.Link.Packets.Store(1001) // a door looks once more at its end
		require.Equal(t, want, *living.Link, "a snapshot does not change")
		ended, ok := st.reg.Session(living.ID)
		require.True(t, ok)
		require.False(t, ended.End.IsZero())
		require.Equal(t, uint64(1001), ended.Link.Packets)
		require.True(t, ended.Link.Encrypted)
	})
}
