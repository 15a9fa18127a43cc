package segment

import (
	"bytes"
	"testing"
	"time"

	"github.com/Eyevinn/mp4ff/mp4"
	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
)

func TestPlaylistRulesHold(t *testing.T) {
	for name, s := range map[string]script{
		"gop 1 s":             {fps: 30, gop: time.Second},
		"gop 2 s 25":          {fps: 25, gop: 2 * time.Second, ms: true},
		"gop 3 s":             {fps: 30, gop: 3 * time.Second, ms: true},
		"gop 8.3 s":           {fps: 30, gop: 8300 * time.Millisecond, ms: true},
		"gop 20 s":            {fps: 30, gop: 20 * time.Second, ms: true},
		"one key":             {fps: 30, ms: true},
		"29.97":               {fps: 30000.0 / 1001, gop: 2 * time.Second, ms: true},
		"29.97 gop 4":         {fps: 30000.0 / 1001, gop: 4004 * time.Millisecond, ms: true},
		"23.976":              {fps: 24000.0 / 1001, gop: 2 * time.Second, ms: true},
		"60":                  {fps: 60, gop: 2 * time.Second, ms: true},
		"59.94 b":             {fps: 60000.0 / 1001, gop: 2 * time.Second, ms: true, bframes: 2},
		"5 fps":               {fps: 5, gop: 2 * time.Second, ms: true},
		"4 fps":               {fps: 4, gop: 2 * time.Second, ms: true},
		"3 fps":               {fps: 3, gop: 2 * time.Second, ms: true},
		"2 fps":               {fps: 2, gop: 2 * time.Second, ms: true},
		"1 fps":               {fps: 1, gop: 2 * time.Second, ms: true},
		"0.4 fps":             {fps: 0.4, gop: 5 * time.Second, ms: true},
		"0.4 fps no audio":    {fps: 0.4, gop: 5 * time.Second, ms: true, noAudio: true},
		"vfr":                 {fps: 30, gop: 2 * time.Second, ms: true, vary: 15 * time.Millisecond, seed: 1},
		"wild vfr":            {fps: 12, gop: 2 * time.Second, ms: true, vary: 60 * time.Millisecond, seed: 2},
		"slow wild vfr":       {fps: 4, gop: 2 * time.Second, ms: true, vary: 200 * time.Millisecond, seed: 3},
		"vfr b":               {fps: 24, gop: 2500 * time.Millisecond, ms: true, vary: 15 * time.Millisecond, bframes: 3, seed: 4},
		"44.1":                {fps: 30, gop: 2 * time.Second, ms: true, rate: 44100},
		"22.05":               {fps: 30, gop: 2 * time.Second, ms: true, rate: 22050},
		"16":                  {fps: 30, gop: 2 * time.Second, ms: true, rate: 16000},
		"8":                   {fps: 30, gop: 2 * time.Second, ms: true, rate: 8000},
		"8 alone":             {rate: 8000, ms: true, noVideo: true},
		"audio only":          {noVideo: true, ms: true},
		"audio only exact":    {noVideo: true},
		"video only":          {fps: 30, gop: 2 * time.Second, noAudio: true, ms: true},
		"audio late":          {fps: 30, gop: 2 * time.Second, audioLag: 400 * time.Millisecond, ms: true},
		"audio very late":     {fps: 30, gop: 2 * time.Second, audioLag: 1400 * time.Millisecond, ms: true},
		"audio early":         {fps: 30, gop: 2 * time.Second, audioLag: -400 * time.Millisecond, ms: true},
		"audio very early":    {fps: 30, gop: 2 * time.Second, audioLag: -1400 * time.Millisecond, ms: true},
		"starts late in time": {fps: 30, gop: 2 * time.Second, start: 26*time.Hour + 37*time.Minute, ms: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s.length = 45 * time.Second
			st := openStore(t, Options{Window: time.Hour})
			w := watch(t, st)
			src := s.source()
			c := cutAll(t, st, w, src)
			c.End()
			for _, row := range []RowID{videoRow, audioRow} {
				x := w.last[row]
				if x == nil {
					continue
				}
				require.True(t, x.Ended)
				within := 10 * time.Microsecond // a tick
				if row.Kind == media.Audio {
					within = 2500 * time.Microsecond // jitter is taken out
				}
				splinters := 0
				for i := range x.Closed[:len(x.Closed)-1] {
					for _, p := range x.Closed[i].Parts {
						if p.Duration < x.Targets.Part/5 {
							splinters++
						}
					}
				}
				t.Logf("%d segments, %d splinters", len(x.Closed), splinters)
				verify(t, c.shelf, x, src.all(), within)
			}
			if mux, err := c.shelf.MuxInit("1", st.runID, 0, 1); err == nil {
				f, err := mp4.DecodeFile(bytes.NewReader(mux))
				require.NoError(t, err)
				require.Len(t, f.Moov.Traks, 2)
			}
			require.Equal(t, 1, w.kinds(Playable))
			require.Zero(t, st.Stats().WriteFailures)
		})
	}
}

// at cuts what two scripts say, one behind the other in the same log.
func (s script) then(d script, sameTracks bool) *source {
	if s.rate == 0 {
		s.rate = 48000
	}
	d.rate = s.rate
	v, a := videoTrack(1), audioTrack(1, s.rate)
	src := newSource(v, a)
	src.append(s.packets(v, a)...)
	if !sameTracks {
		v2 := *v
		v2.Config = append([]byte{}, v.Config...)
		v2.Config[3]++
		v = &v2
	}
	src.append(d.packets(v, a)...)
	return src
}

func flagFirst(flag media.Flags, kinds ...media.Kind) func(p *media.Packet) bool {
	done := map[media.Kind]bool{}
	return func(p *media.Packet) bool {
		for _, k := range kinds {
			if k == p.Track.Kind && !done[k] {
				done[k] = true
				p.Flags |= flag
			}
		}
		return true
	}
}

func TestDiscontinuityCutsBothRowsOnce(t *testing.T) {
	for name, c := range map[string]struct {
		second script
		same   bool
		inits  int
		discs  uint64
	}{
		"break":              {script{fps: 30, gop: 2 * time.Second, start: 11 * time.Second, edit: flagFirst(media.Discontinuity, media.Video, media.Audio)}, true, 1, 1},
		"break, audio late":  {script{fps: 30, gop: 2 * time.Second, start: 11 * time.Second, audioLag: 200 * time.Millisecond, edit: flagFirst(media.Discontinuity, media.Video, media.Audio)}, true, 1, 1},
		"break, audio early": {script{fps: 30, gop: 2 * time.Second, start: 11 * time.Second, audioLag: -200 * time.Millisecond, edit: flagFirst(media.Discontinuity, media.Video, media.Audio)}, true, 1, 1},
		"new config":         {script{fps: 30, gop: 2 * time.Second, start: 10 * time.Second, edit: flagFirst(media.NewConfig, media.Video)}, false, 2, 1},
		"both":               {script{fps: 30, gop: 2 * time.Second, start: 14 * time.Second, edit: flagFirst(media.NewConfig|media.Discontinuity, media.Video, media.Audio)}, false, 2, 1},
		"audio alone":        {script{fps: 30, gop: 2 * time.Second, start: 10 * time.Second, edit: flagFirst(media.Discontinuity, media.Audio)}, true, 1, 1},
		"only time":          {script{fps: 30, gop: 2 * time.Second, start: 15 * time.Second}, true, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			st := openStore(t, Options{Window: time.Hour})
			w := watch(t, st)
			c.second.length = 10 * time.Second
			src := script{fps: 30, gop: 2 * time.Second, length: 10 * time.Second}.then(c.second, c.same)
			h := cutAll(t, st, w, src).shelf
			video, audio := w.last[videoRow], w.last[audioRow]
			require.Len(t, audio.Closed, len(video.Closed))
			inits := map[int]bool{}
			for i := range video.Closed {
				v, a := video.Closed[i], audio.Closed[i]
				inits[v.Init] = true
				t.Logf("%d: %v+%v disc %d key %v | %v+%v disc %d", v.Number, v.Start, v.Duration, v.Discontinuity, v.Independent, a.Start, a.Duration, a.Discontinuity)
				require.Equal(t, v.Discontinuity, a.Discontinuity)
				require.InDelta(t, v.Start, a.Start, float64(600*time.Millisecond))
			}
			require.Len(t, inits, c.inits)
			require.Equal(t, c.discs, video.Closed[len(video.Closed)-1].Discontinuity)
			verify(t, h, video, src.all(), 10*time.Microsecond)
			verify(t, h, audio, src.all(), 6*time.Millisecond) // the second script's sound is half a frame off
		})
	}
}

// TestSoundIsBackBeforeThePicture: after a loss pictures begin again with a key
// frame only; no row's segment gets longer than it may.
func TestSoundIsBackBeforeThePicture(t *testing.T) {
	for _, c := range []struct{ back, lag time.Duration }{
		{11250 * time.Millisecond, 100 * time.Millisecond},
		{11250 * time.Millisecond, 400 * time.Millisecond},
		{11250 * time.Millisecond, 700 * time.Millisecond},
		{11250 * time.Millisecond, 900 * time.Millisecond}, // the picture is there first
		{10800 * time.Millisecond, 100 * time.Millisecond},
		{11900 * time.Millisecond, 100 * time.Millisecond},
	} {
		st := openStore(t, Options{Window: time.Hour})
		w := watch(t, st)
		lost := map[media.Kind]bool{}
		src := script{fps: 30, gop: 2 * time.Second, length: 30 * time.Second, audioLag: c.lag, edit: func(p *media.Packet) bool {
			kind := p.Track.Kind
			missing := p.DTS >= 9*time.Second && p.DTS < c.back
			missing = missing || kind == media.Video && lost[kind] && !p.Flags.Has(media.Key)
			if !missing && lost[kind] {
				p.Flags |= media.Discontinuity
			}
			lost[kind] = missing
			return !missing
		}}.source()
		cutAll(t, st, w, src).End()
		require.EqualValues(t, 1, w.last[videoRow].Closed[len(w.last[videoRow].Closed)-1].Discontinuity)
		for _, row := range []RowID{videoRow, audioRow} {
			for _, x := range w.last[row].Closed {
				t.Logf("%v %d: %v+%v break %d", row.Kind, x.Number, x.Start, x.Duration, x.Discontinuity)
				parts := time.Duration(0)
				for _, p := range x.Parts {
					parts += p.Duration
				}
				require.Less(t, x.Duration, 4500*time.Millisecond)
				require.InDelta(t, parts, x.Duration, float64(2*time.Millisecond), "%v segment %d", row.Kind, x.Number)
			}
		}
	}
}

func TestPictureThatStopsLeavesGaps(t *testing.T) {
	st := openStore(t, Options{Window: time.Hour})
	w := watch(t, st)
	s := script{fps: 30, gop: 2 * time.Second, length: 40 * time.Second, edit: func(p *media.Packet) bool {
		return p.Track.Kind == media.Audio || p.DTS < 9*time.Second || p.DTS >= 26*time.Second
	}}
	cutAll(t, st, w, s.source())
	video, audio := w.last[videoRow], w.last[audioRow]
	gaps := 0
	for i := range video.Closed {
		v, a := video.Closed[i], audio.Closed[i]
		t.Logf("%d: %v+%v key %v gap %v | %v+%v", v.Number, v.Start, v.Duration, v.Independent, v.Gap, a.Start, a.Duration)
		require.Equal(t, v.Number, a.Number)
		require.False(t, a.Gap)
		if v.Gap {
			gaps++
			require.InDelta(t, a.Start, v.Start, float64(100*time.Millisecond))
		}
	}
	require.GreaterOrEqual(t, gaps, 2)
	require.False(t, video.Closed[len(video.Closed)-1].Gap)
}

func TestSoundThatStopsLeavesGaps(t *testing.T) {
	st := openStore(t, Options{Window: time.Hour})
	w := watch(t, st)
	s := script{fps: 30, gop: 2 * time.Second, length: 30 * time.Second, edit: func(p *media.Packet) bool {
		return p.Track.Kind == media.Video || p.DTS < 5*time.Second || p.DTS >= 18*time.Second
	}}
	cutAll(t, st, w, s.source())
	video, audio := w.last[videoRow], w.last[audioRow]
	require.Len(t, audio.Closed, len(video.Closed))
	gaps := 0
	for i := range audio.Closed {
		if audio.Closed[i].Gap {
			gaps++
		}
		require.InDelta(t, video.Closed[i].Start, audio.Closed[i].Start, float64(2100*time.Millisecond))
	}
	require.Equal(t, 2, gaps)
}
