package segment

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// dvr cuts 15 minutes of picture in segments of 2 s, of which 10 are listed.
func dvr(t *testing.T, dir string) (*DiskStore, *Index) {
	t.Helper()
	st := openStore(t, Options{Dir: dir})
	c, err := st.Begin(shelfOne, Broadcast{
		ID: "b1", Start: time.Unix(1_700_000_000, 0), SegmentDuration: 2 * time.Second, Window: 10 * time.Minute,
	}, nil)
	require.NoError(t, err)
	src := script{fps: 5, gop: 2 * time.Second, length: 15 * time.Minute, noAudio: true}.source()
	src.log.Close()
	require.NoError(t, c.Run(t.Context(), renditionOne(src)))
	st.drain()
	return st, st.shelf(shelfOne).Index(videoRow)
}

func TestABroadcastMayListMoreOfThePast(t *testing.T) {
	st, x := dvr(t, "")
	require.Len(t, x.Closed, 300)
	first := x.Closed[0]
	c, err := st.shelf(shelfOne).Open(videoRow, first.Run, first.Number, -1)
	require.NoError(t, err)
	require.Len(t, read(t, c), int(first.Size))
	withParts := 0
	for i := range x.Closed {
		if x.Closed[i].Parts != nil {
			withParts++
		}
	}
	require.LessOrEqual(t, withParts, roomMost+2*defaultSegments+6+1, "of old segments the parts are forgotten")
	require.LessOrEqual(t, cap(x.Closed), 300+roomMost+2*defaultSegments)

	again := openStore(t, Options{Dir: crash(t, st.opts.Dir)})
	require.Equal(t, 10*time.Minute, again.Interrupted()[0].Broadcast.Window)
	y := again.shelf(shelfOne).Index(videoRow)
	require.Len(t, y.Closed, 300, "also after a restart")
	require.Equal(t, first.Number, y.Closed[0].Number)

	// The next broadcast is another's wish.
	again.EndInterrupted(shelfOne)
	next, err := again.Begin(shelfOne, Broadcast{ID: "b2", Start: time.Unix(1_700_001_000, 0)}, nil)
	require.NoError(t, err)
	src := script{fps: 5, gop: 2 * time.Second, length: 9 * time.Second, noAudio: true}.source()
	src.log.Close()
	require.NoError(t, next.Run(t.Context(), renditionOne(src)))
	require.LessOrEqual(t, len(again.shelf(shelfOne).Index(videoRow).Closed), 17)
}

func TestAWindowIsBoundedAndNeverLessThanTheStores(t *testing.T) {
	st := openStore(t, Options{Window: time.Minute})
	for wish, want := range map[time.Duration]time.Duration{
		0: time.Minute, time.Second: time.Minute, time.Hour: time.Hour, 1000 * time.Hour: MaxWindow, -time.Hour: time.Minute,
	} {
		c, err := st.Begin(shelfOne, Broadcast{ID: wish.String(), Start: time.Now(), Window: wish}, nil)
		require.NoError(t, err)
		require.Equal(t, want, st.shelf(shelfOne).window(), wish)
		c.End()
	}
}
