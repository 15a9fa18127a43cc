package segment

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
			cutAll(t, st, w, s.source()).End()
			for _, row := range []RowID{videoRow, audioRow} {
				x := w.last[row]
				if x == nil {
					continue
				}
				require.True(t, x.Ended)
				var total time.Duration
				for i := range x.Closed {
					total += x.Closed[i].Duration
				}
				t.Logf("%v: targets %v, %d segments, %d parts, fps %.3f, peak %d, total %v, forced %d", row.Kind, x.Targets, len(x.Closed), w.count[row], x.FrameRate, x.PeakBitrate, total, st.Stats().ForcedCuts)
				for i := range min(6, len(x.Closed)) {
					c := x.Closed[i]
					t.Logf("   %d start %v dur %v key %v gap %v parts %d first %v", c.Number, c.Start, c.Duration, c.Independent, c.Gap, len(c.Parts), c.Parts)
				}
			}
			require.Equal(t, 1, w.kinds(Playable))
			require.Zero(t, st.Stats().WriteFailures)
		})
	}
}
