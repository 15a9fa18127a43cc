package segment

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/Eyevinn/mp4ff/mp4"
	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment/fmp4"
)

// marking gives each segment a message that names it.
func marking(_ ShelfID, row RowID, number uint64, at time.Time) []byte {
	return fmt.Appendf(nil, "ID3 %s %s %d %d", row.Rendition, row.Kind, number, at.UnixNano())
}

// checkMark reads the message in front of a segment with another library.
func checkMark(t *testing.T, h Shelf, x *Index, s *Segment, b []byte) {
	t.Helper()
	f, err := mp4.DecodeFile(bytes.NewReader(b))
	require.NoError(t, err)
	var found []*mp4.EmsgBox
	for _, box := range f.Children {
		if e, ok := box.(*mp4.EmsgBox); ok {
			found = append(found, e)
		}
	}
	require.Len(t, found, 1)
	e := found[0]
	require.Same(t, e, f.Children[0])
	init, err := h.Init(x.Row, s.Run, s.Init)
	require.NoError(t, err)
	i, err := mp4.DecodeFile(bytes.NewReader(init))
	require.NoError(t, err)
	scale := i.Moov.Trak.Mdia.Mdhd.Timescale
	require.EqualValues(t, 1, e.Version)
	require.Equal(t, fmp4.ID3Scheme, e.SchemeIDURI)
	require.Empty(t, e.Value)
	require.Equal(t, scale, e.TimeScale)
	require.EqualValues(t, uint32(math.MaxUint32), e.EventDuration)
	require.Equal(t, uint32(s.Number), e.ID)
	require.InDelta(t, s.Start, media.FromTicks(int64(e.PresentationTime), scale), float64(20*time.Microsecond))
	require.Equal(t, string(marking(ShelfID{}, x.Row, s.Number, s.Time)), string(e.MessageData))
}

func TestSegmentsOfTheLeadingRowAreMarked(t *testing.T) {
	for name, s := range map[string]script{
		"picture and sound": {fps: 30, gop: 2 * time.Second, length: 10 * time.Second},
		"b-frames":          {fps: 25, gop: 2 * time.Second, length: 10 * time.Second, bframes: 2},
		"sound alone":       {length: 10 * time.Second, noVideo: true},
		"picture alone":     {fps: 30, gop: 2 * time.Second, length: 10 * time.Second, noAudio: true},
	} {
		t.Run(name, func(t *testing.T) {
			st := openStore(t, Options{Window: time.Hour, Mark: marking})
			w := watch(t, st)
			src := s.source()
			h := cutAll(t, st, w, src).shelf
			leading := videoRow
			if s.noVideo {
				leading = audioRow
			}
			for _, row := range []RowID{videoRow, audioRow} {
				x := w.last[row]
				if x == nil {
					continue
				}
				require.Greater(t, len(x.Closed), 2)
				for i := range x.Closed {
					seg := &x.Closed[i]
					c, err := h.Open(row, seg.Run, seg.Number, -1)
					require.NoError(t, err)
					b := read(t, c)
					require.Len(t, b, int(seg.Size))
					if row != leading {
						require.False(t, bytes.Contains(b, []byte("emsg")))
						continue
					}
					checkMark(t, h, x, seg, b)
					found, err := fmp4.Walk(bytes.NewReader(b), int64(len(b)))
					require.NoError(t, err)
					require.Len(t, found, len(seg.Parts))
					for n, p := range seg.Parts {
						require.Equal(t, p.Offset, found[n].Offset)
						require.Equal(t, p.Size, found[n].Size)
						require.Equal(t, n == 0, found[n].Moof > found[n].Offset, "in the first part only")
					}
				}
				verify(t, h, x, src.all(), 2500*time.Microsecond)
			}
		})
	}
}

func TestMarksAreInLivePartsAndSurviveACrash(t *testing.T) {
	var dir string
	var was *Index
	goLive(t, Options{Window: time.Hour, Mark: marking}, func(l *live) {
		src, done := l.publish(1, script{fps: 30, gop: 2 * time.Second, length: 20 * time.Second}, 0)
		l.at(17300 * time.Millisecond)
		was = l.index(videoRow)
		require.NotNil(t, was.Open)
		c, err := l.shelf.Open(videoRow, was.Open.Run, was.Open.Number, 0)
		require.NoError(t, err)
		require.NotNil(t, c.Buffers, "from memory")
		checkMark(t, l.shelf, was, was.Open, read(t, c))
		dir = crash(t, l.st.opts.Dir)
		l.at(21 * time.Second)
		src.log.Close()
		<-done
	})
	st := openStore(t, Options{Dir: dir, Window: time.Hour})
	require.Empty(t, st.Damage())
	sh, ok := st.Shelf(shelfOne)
	require.True(t, ok)
	x := sh.Index(videoRow)
	require.Len(t, x.Closed, len(was.Closed)+1)
	last := &x.Closed[len(was.Closed)]
	require.Equal(t, was.Open.Size, last.Size, "to the last whole part")
	for i := range x.Closed {
		c, err := sh.Open(videoRow, x.Closed[i].Run, x.Closed[i].Number, -1)
		require.NoError(t, err)
		checkMark(t, sh, x, &x.Closed[i], read(t, c))
	}
	decodeRow(t, sh, x)
}

func TestASegmentThatHasOnlyItsMarkIsNone(t *testing.T) {
	whole := append(fmp4.Event(1000, 7, 1, []byte("ID3")), fmp4.Chunk(1, 68, 9000, []fmp4.Sample{{Size: 3, Duration: 10}})...)
	whole = append(whole, 1, 2, 3)
	for n := range whole {
		found, err := fmp4.Walk(bytes.NewReader(whole[:n]), int64(n))
		require.NoError(t, err)
		require.Empty(t, found, n)
	}
	found, err := fmp4.Walk(bytes.NewReader(whole), int64(len(whole)))
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.EqualValues(t, len(whole), found[0].Size)

	long := bytes.Clone(whole) // a message that says it is longer than ours may be
	binary.BigEndian.PutUint32(long, fmp4.MaxEvent+1)
	long = append(long, make([]byte, 2*fmp4.MaxEvent)...)
	found, err = fmp4.Walk(bytes.NewReader(long), int64(len(long)))
	require.NoError(t, err)
	require.Empty(t, found)
}

func TestWhatIsNoMarkIsLeftOut(t *testing.T) {
	for name, c := range map[string]struct {
		size  int
		marks bool
	}{
		"none": {0, false}, "longest": {MaxMark, true}, "too long": {MaxMark + 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			st := openStore(t, Options{Mark: func(ShelfID, RowID, uint64, time.Time) []byte { return make([]byte, c.size) }})
			w := watch(t, st)
			h := cutAll(t, st, w, script{fps: 30, gop: 2 * time.Second, length: 5 * time.Second}.source()).shelf
			x := w.last[videoRow]
			decodeRow(t, h, x)
			content, err := h.Open(videoRow, x.Closed[0].Run, x.Closed[0].Number, -1)
			require.NoError(t, err)
			require.Equal(t, c.marks, bytes.Contains(read(t, content), []byte("emsg")))

			again := openStore(t, Options{Dir: crash(t, st.opts.Dir)})
			require.Empty(t, again.Damage())
			require.Len(t, again.shelf(shelfOne).Index(videoRow).Closed, len(x.Closed))
		})
	}
}
