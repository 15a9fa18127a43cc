package mp4

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	mp4ff "github.com/Eyevinn/mp4ff/mp4"
	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment/fmp4"
)

var picture = &media.Track{
	ID: media.NewTrackID(1, media.Video, 0), Kind: media.Video, Codec: media.H264,
	Config: []byte{1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 4, 0x67, 0x64, 0, 0x1f, 1, 0, 4, 0x68, 0xee, 0x3c, 0x80},
	Video:  media.VideoInfo{Width: 1280, Height: 720, SARNum: 4, SARDen: 3}, Language: "de-CH",
}

func sound(rate int) *media.Track {
	return &media.Track{
		ID: media.NewTrackID(1, media.Audio, 0), Kind: media.Audio, Codec: media.AAC, Config: []byte{0x11, 0x90},
		Audio: media.AudioInfo{SampleRate: rate, Channels: 2, FrameSamples: 1024}, Language: "deu",
	}
}

// fragments are chunks of a track: each of n samples that last d ticks.
func fragments(t *media.Track, chunks, n int, base uint64, d uint32, offset func(i int) int32) (b []byte) {
	for c := range chunks {
		samples := make([]fmp4.Sample, n)
		var payload []byte
		for i := range samples {
			k := c*n + i
			samples[i] = fmp4.Sample{Size: uint32(5 + k%7), Duration: d, Flags: fmp4.KeyFlags}
			if t.Kind == media.Video && k%10 > 0 {
				samples[i].Flags = fmp4.DeltaFlags
			}
			if offset != nil {
				samples[i].Offset = offset(k)
			}
			payload = append(payload, bytes.Repeat([]byte{byte(k + 1)}, 5+k%7)...)
		}
		b = append(b, fmp4.Chunk(uint32(c+1), uint32(t.ID), base+uint64(c*n)*uint64(d), samples)...)
		b = append(b, payload...)
	}
	return b
}

// movie makes a movie of one file of fragments for each track.
func movie(t testing.TB, parts map[*media.Track][]byte, order ...*media.Track) *Movie {
	m := &Movie{Created: time.Unix(1e9, 0), Title: "a title", Note: []byte("a note")}
	for _, track := range order {
		init, err := fmp4.Init(track)
		require.NoError(t, err)
		list, err := Tracks(init)
		require.NoError(t, err)
		require.Len(t, list, 1)
		path := filepath.Join(t.TempDir(), "fragments")
		b := parts[track]
		require.NoError(t, os.WriteFile(path, b, 0o600))
		src := &Source{Path: path}
		require.NoError(t, Runs(bytes.NewReader(b), 0, int64(len(b)), func(r *Run) error {
			require.Equal(t, list[0].ID, r.Track)
			list[0].Append(src, r)
			return nil
		}))
		m.Tracks = append(m.Tracks, list[0])
	}
	return m
}

func write(t testing.TB, m *Movie) (path string, whole []byte) {
	path = filepath.Join(t.TempDir(), "movie.mp4")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	size, err := m.Write(context.Background(), f)
	require.NoError(t, err)
	whole, err = os.ReadFile(path)
	require.NoError(t, err)
	require.Len(t, whole, int(size))
	return path, whole
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	a := sound(44100)
	reorder := func(i int) int32 { return int32(3000 + 3000*(i*7%3)) }
	m := movie(t, map[*media.Track][]byte{
		picture: append([]byte("\x00\x00\x00\x0cfree1234"), fragments(picture, 12, 10, 900000, 3000, reorder)...),
		a:       fragments(a, 15, 11, 441500, 1024, nil),
	}, picture, a)
	require.InDelta(t, 10*time.Second+11300*time.Microsecond, m.Start(), float64(100*time.Microsecond))
	_, whole := write(t, m)

	other, err := mp4ff.DecodeFile(bytes.NewReader(whole))
	require.NoError(t, err)
	require.Less(t, other.Moov.StartPos, other.Mdat.StartPos)
	require.EqualValues(t, 120, other.Moov.Traks[0].Mdia.Minf.Stbl.Stsz.SampleNumber)
	require.Equal(t, "de-CH", other.Moov.Traks[0].Mdia.Elng.Language)
	video := other.Moov.Traks[0].Edts.Elst[0].Entries
	require.Len(t, video, 2, "the picture begins a little later than the sound")
	require.EqualValues(t, 3000, video[1].MediaTime)
	require.Len(t, other.Moov.Traks[1].Edts.Elst[0].Entries, 1)
	for _, chunk := range other.Moov.Traks[0].Mdia.Minf.Stbl.Stsc.Entries {
		require.LessOrEqual(t, chunk.SamplesPerChunk, uint32(15), "half a second stands together")
	}

	note, err := Note(bytes.NewReader(whole), int64(len(whole)))
	require.NoError(t, err)
	require.Equal(t, "a note", string(note))
	again, err := Read(bytes.NewReader(whole), int64(len(whole)), &Source{})
	require.NoError(t, err)
	require.Equal(t, m.Start(), again.Start())
	require.Equal(t, m.Duration(), again.Duration())
	for i, x := range m.Tracks {
		y := again.Tracks[i]
		require.True(t, x.Same(y))
		require.Equal(t, x.Language, y.Language)
		require.Equal(t, x.First(), y.First())
		require.Equal(t, x.Next(), y.Next())
		require.Equal(t, x.table.sizes, y.table.sizes)
		require.Equal(t, x.table.offsets, y.table.offsets)
		require.Equal(t, x.table.sync, y.table.sync)
		require.Equal(t, x.table.deltas, y.table.deltas)
		var want, got []byte
		for _, c := range x.table.chunks {
			b, err := os.ReadFile(c.src.Path)
			require.NoError(t, err)
			want = append(want, b[c.at:c.at+c.bytes]...)
		}
		for _, c := range y.table.chunks {
			got = append(got, whole[c.at:c.at+c.bytes]...)
		}
		require.Equal(t, want, got)
	}
}

func TestTimes(t *testing.T) {
	for _, x := range []struct{ ticks, want int64 }{{0, 0}, {1, 1}, {2, 1}, {3, 2}, {-1, -1}, {-3, -2}, {90000 * 3600 * 1000, 48000 * 3600 * 1000}} {
		require.Equal(t, x.want, rescale(x.ticks, 90000, 48000), "%d", x.ticks)
	}
	require.EqualValues(t, 2, rescaleUp(3, 90000, 48000))
	require.EqualValues(t, 720000, movieScale([]*Track{{Scale: 90000}, {Scale: 48000}}))
	require.EqualValues(t, 4410000, movieScale([]*Track{{Scale: 90000}, {Scale: 44100}, {Scale: 90000}}))
	require.EqualValues(t, 90000, movieScale([]*Track{{Scale: 90000}, {Scale: 4294967291}}))
}

func TestATableKeepsPresentation(t *testing.T) {
	var tb table
	pts := []int64{100, 50, 50, 300, 1000}
	for _, at := range pts { // decode times that stand still or go back
		tb.add(at, Sample{Size: 1, Duration: 10, Sync: at == 100})
	}
	var got []int64
	last := int64(-1)
	tb.each(func(i int, dts int64, s Sample) {
		require.Greater(t, dts, last)
		last = dts
		got = append(got, dts+int64(s.Offset))
		require.Equal(t, i == 0, s.Sync)
	})
	require.Equal(t, pts, got)
	require.EqualValues(t, 50, tb.lowest)
	require.EqualValues(t, 1010, tb.end)
}

// TestPicturesPresentedBeforeTheyAreDecoded has negative composition offsets
// from the first sample on.
func TestPicturesPresentedBeforeTheyAreDecoded(t *testing.T) {
	m := movie(t, map[*media.Track][]byte{
		picture: fragments(picture, 2, 10, 900000, 3000, func(i int) int32 { return -6000 + 3000*int32(i%3) }),
	}, picture)
	_, whole := write(t, m)
	again, err := Read(bytes.NewReader(whole), int64(len(whole)), &Source{})
	require.NoError(t, err)
	require.Equal(t, m.Start(), again.Start())
	require.Equal(t, m.Duration(), again.Duration())
}

func TestJoinWithAnotherScale(t *testing.T) {
	one := movie(t, map[*media.Track][]byte{
		picture: fragments(picture, 4, 10, 0, 3000, nil), sound(48000): nil,
	}, picture)
	a, b := sound(48000), sound(44100)
	b.Config = []byte{0x12, 0x10}
	one.Tracks = append(one.Tracks, movie(t, map[*media.Track][]byte{a: fragments(a, 4, 10, 0, 1024, nil)}, a).Tracks...)
	two := movie(t, map[*media.Track][]byte{
		picture: fragments(picture, 4, 10, 30*90000, 3000, nil),
		b:       fragments(b, 4, 10, 30*44100, 1024, nil),
	}, picture, b)
	whole := &Movie{Note: []byte("n")}
	whole.Join(one, 0)
	whole.Join(two, 20*time.Second)
	require.Len(t, whole.Tracks, 2)
	require.Equal(t, 160, whole.Samples())
	require.Len(t, whole.Tracks[0].Entries, 1)
	require.Len(t, whole.Tracks[1].Entries, 2)
	_, bytes1 := write(t, whole)
	again, err := Read(bytes.NewReader(bytes1), int64(len(bytes1)), &Source{})
	require.NoError(t, err)
	var starts []time.Duration
	again.Tracks[1].table.each(func(i int, dts int64, _ Sample) {
		if i == 0 || i == 40 {
			starts = append(starts, media.FromTicks(dts, again.Tracks[1].Scale))
		}
	})
	require.Equal(t, []time.Duration{0, 10 * time.Second}, starts)
	require.NotEmpty(t, whole.String())
}

func TestWhatCannotBeWritten(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "x"))
	require.NoError(t, err)
	defer f.Close()
	_, err = (&Movie{}).Write(context.Background(), f)
	require.ErrorIs(t, err, ErrMalformed)
	m := movie(t, map[*media.Track][]byte{picture: fragments(picture, 1, 10, 0, 3000, nil)}, picture)
	m.Note = make([]byte, MaxNote+1)
	_, err = m.Write(context.Background(), f)
	require.Error(t, err)
	m.Note = nil
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := errors.New("enough")
	cancel(stop)
	_, err = m.Write(ctx, f)
	require.ErrorIs(t, err, stop)
	m.Tracks[0].table.chunks[0].src = &Source{Path: filepath.Join(t.TempDir(), "nothing")}
	_, err = m.Write(context.Background(), f)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestCopyByHand(t *testing.T) {
	from := filepath.Join(t.TempDir(), "from")
	want := bytes.Repeat([]byte("0123456789"), 100_000)
	require.NoError(t, os.WriteFile(from, want, 0o600))
	f, err := os.Create(filepath.Join(t.TempDir(), "to"))
	require.NoError(t, err)
	defer f.Close()
	c := &copier{dst: f, room: make([]byte, 3000)}
	defer c.close()
	require.NoError(t, c.copy(&Source{Path: from}, 10, 900_000))
	got, err := os.ReadFile(f.Name())
	require.NoError(t, err)
	require.Equal(t, want[10:900_010], got)
	require.Error(t, c.copy(&Source{Path: from}, 999_000, 5000), "it is not that long")
}

// seeds are a segment, an init section and a whole file.
func seeds(f *testing.F) (segment, init, whole []byte) {
	segment = fragments(picture, 2, 3, 900, 3000, func(i int) int32 { return int32(i * 10) })
	a := sound(48000)
	m := movie(f, map[*media.Track][]byte{picture: segment, a: fragments(a, 3, 4, 480, 1024, nil)}, picture, a)
	_, whole = write(f, m)
	init, err := fmp4.Init(picture, a)
	require.NoError(f, err)
	return segment, init, whole
}

func FuzzRuns(f *testing.F) {
	segment, _, _ := seeds(f)
	f.Add(segment)
	f.Add(segment[:len(segment)-1])
	f.Add([]byte("\x00\x00\x00\x08moof"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = Runs(bytes.NewReader(b), 0, int64(len(b)), func(r *Run) error {
			if r.Data < 0 || r.Bytes < 0 || r.Data+r.Bytes > int64(len(b)) || len(r.Samples) == 0 {
				t.Fatalf("%d bytes at %d of %d", r.Bytes, r.Data, len(b))
			}
			return nil
		})
	})
}

func FuzzRead(f *testing.F) {
	_, init, whole := seeds(f)
	f.Add(whole)
	f.Add(init)
	f.Add(whole[:len(whole)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = Tracks(b)
		m, err := Read(bytes.NewReader(b), int64(len(b)), &Source{})
		if err != nil {
			return
		}
		for _, x := range m.Tracks {
			for _, c := range x.table.chunks {
				if c.at < 0 || c.at+c.bytes > int64(len(b)) {
					t.Fatalf("a chunk at %d of %d bytes in %d", c.at, c.bytes, len(b))
				}
			}
		}
		_ = m.Duration()
		whole := &Movie{}
		whole.Join(m, time.Second)
		tracks := whole.filled()
		if len(tracks) > 0 {
			_ = whole.head(tracks, plan(tracks))
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	// 15 min of 30 pictures a second and sound, in parts of a third of a second.
	a := sound(48000)
	m := movie(b, map[*media.Track][]byte{
		picture: fragments(picture, 2700, 10, 0, 3000, nil), a: fragments(a, 2700, 16, 0, 1024, nil),
	}, picture, a)
	path := filepath.Join(b.TempDir(), "x")
	b.ReportAllocs()
	for b.Loop() {
		f, err := os.Create(path)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := m.Write(context.Background(), f); err != nil {
			b.Fatal(err)
		}
		_ = f.Close()
	}
}
