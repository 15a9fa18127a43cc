package segment

import (
	"os"
	"testing"
	"time"

	"github.com/Eyevinn/mp4ff/bits"
	"github.com/Eyevinn/mp4ff/mp4"
	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment/fmp4"
)

// endless feeds a cutting with packets of 40 frames a second and sound of 20 ms, so that a part is 10 + 12.5 of them.
type endless struct {
	k     *cutting
	v, a  *media.Track
	frame []byte
	sound []byte
	n     int64
	slab  media.PacketSlab
}

func newEndless(t testing.TB) *endless {
	dir, err := os.MkdirTemp("", "segment")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	st := openStore(t, Options{Dir: dir, Window: 24 * time.Second})
	_, err = st.Begin(shelfOne, Broadcast{ID: "b", Start: time.Unix(1e9, 0)}, nil)
	require.NoError(t, err)
	e := &endless{v: videoTrack(1), a: audioTrack(1, 48000), frame: make([]byte, 8000), sound: make([]byte, 200)}
	e.a.Audio.FrameSamples = 960
	e.k, err = newCutting(st.shelf(shelfOne), renditionOne(newSource(e.v, e.a)))
	require.NoError(t, err)
	return e
}

// part feeds what makes a part of picture and one of sound.
func (e *endless) part() {
	for range 10 {
		at := time.Duration(e.n) * 25 * time.Millisecond
		p := media.Packet{Track: e.v, DTS: at, PTS: at, Payload: e.frame}
		if e.n%80 == 0 {
			p.Flags = media.Key
		}
		e.k.feed(e.slab.New(p))
		for s := e.n * 5 / 4; s < (e.n+1)*5/4; s++ {
			at := time.Duration(s) * 20 * time.Millisecond
			e.k.feed(e.slab.New(media.Packet{Track: e.a, Flags: media.Key, DTS: at, PTS: at, Payload: e.sound}))
		}
		e.n++
	}
	if e.n%160 == 0 {
		e.k.store.drain()
		e.k.shelf.upkeep(time.Now().Add(time.Hour))
	}
}

func TestPartsAreCheap(t *testing.T) {
	e := newEndless(t)
	for range 200 {
		e.part()
	}
	per := testing.AllocsPerRun(320, e.part)
	t.Logf("%.1f allocations for a part of 10 pictures and one of 12 sounds, with their share of a segment's files", per)
	require.LessOrEqual(t, per, 16.0)
}

func BenchmarkPart(b *testing.B) {
	b.Run("cut and keep", func(b *testing.B) {
		e := newEndless(b)
		b.ReportAllocs()
		for b.Loop() {
			e.part()
		}
	})
	payloads := make([][]byte, 10)
	samples := make([]fmp4.Sample, 10)
	for i := range samples {
		payloads[i] = make([]byte, 8000)
		samples[i] = fmp4.Sample{Size: 8000, Duration: 2250, Flags: fmp4.DeltaFlags}
	}
	samples[0].Flags = fmp4.KeyFlags
	b.Run("header", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = fmp4.Chunk(1, 1, 1<<40, samples)
		}
	})
	b.Run("mp4ff", func(b *testing.B) { // the losing design
		b.ReportAllocs()
		room := make([]byte, 100<<10)
		for b.Loop() {
			f, err := mp4.CreateFragment(1, 1)
			if err != nil {
				b.Fatal(err)
			}
			for i, s := range samples {
				f.AddFullSample(mp4.FullSample{
					Sample: mp4.NewSample(s.Flags, s.Duration, s.Size, 0), DecodeTime: 1<<40 + uint64(i)*2250, Data: payloads[i],
				})
			}
			if err := f.EncodeSW(bits.NewFixedSliceWriterFromSlice(room)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
