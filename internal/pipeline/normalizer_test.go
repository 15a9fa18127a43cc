package pipeline

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
)

// TestNormalizer reads like a trace: each line is a packet: track, its wire
// time and the arrival in milliseconds, and what must come out.
func TestNormalizer(t *testing.T) {
	for name, c := range map[string]struct {
		join  int
		trace string
	}{
		"a stream begins where it is joined, whatever its clock says": {5000, `
			v 3600000 0    -> 5000
			a 3600010 10   -> 5010
			v 3600040 40   -> 5040
			a 3600033 41   -> 5033`},
		"sound before picture at the start is moved up, not lost": {0, `
			v 1000 0  -> 0
			a 980  1  -> 0 nudged
			a 1001 20 -> 1`},
		"a jump forward is taken out, once for both tracks": {0, `
			v 0    0  -> 0
			a 5    5  -> 5
			v 40   40 -> 40
			v 9000080 80 -> 80 jumped discontinuity
			a 28   81 -> 28 discontinuity
			a 9000051 82 -> 51
			v 9000120 120 -> 120
			a 9000074 121 -> 74`},
		"a jump back is taken out": {0, `
			v 90000 0  -> 0
			a 90005 5  -> 5
			v 90040 40 -> 40
			v 0     80 -> 80 jumped discontinuity
			a 5     85 -> 85 discontinuity
			v 40   120 -> 120`},
		"a pause that the wall clock explains is no jump": {0, `
			v 0    0    -> 0
			a 0    0    -> 0
			v 7000 7000 -> 7000
			a 7010 7010 -> 7010`},
		"a stalled connection that catches up is no jump": {0, `
			v 0   0    -> 0
			v 40  5000 -> 40
			v 80  5000 -> 80
			v 5000 5001 -> 5000`},
		"frames the encoder dropped while it was stalled are no jump": {0, `
			v 0    0    -> 0
			v 40   5000 -> 40
			v 4900 5010 -> 4900`},
		"a file pushed faster than real time keeps its own clock": {0, `
			v 0    0  -> 0
			v 500  5  -> 500
			v 1000 10 -> 1000
			v 1500 15 -> 1500
			v 2000 20 -> 2000`},
		"disorder within a track is nudged": {0, `
			v 0   0  -> 0
			v 40  40 -> 40
			v 40  41 -> 40.1 nudged
			v 20  42 -> 40.2 nudged
			v 80  80 -> 80`},
		"small steps back that add up are a jump": {0, `
			v 500 0  -> 0
			v 540 40 -> 40
			v 400 80 -> 40.1 nudged
			v 260 120 -> 80.1 jumped discontinuity
			v 300 160 -> 120.1`},
		"a late track far from the others is anchored by arrival": {0, `
			v 100000 0  -> 0
			v 100040 40 -> 40
			a 7      50 -> 50 jumped discontinuity
			v 100080 80 -> 80 discontinuity
			a 30     81 -> 73`},
	} {
		t.Run(name, func(t *testing.T) {
			n := NewNormalizer(NormalizerOptions{})
			n.Join(time.Duration(c.join) * time.Millisecond)
			start := time.Unix(1e9, 0)
			for line := range strings.Lines(strings.TrimSpace(c.trace)) {
				line = strings.TrimSpace(line)
				in, want, _ := strings.Cut(line, "->")
				var track rune
				var wire, arrived int
				_, err := fmt.Sscanf(in, "%c %d %d", &track, &wire, &arrived)
				require.NoError(t, err, line)
				p := packetAt(media.TrackID(track), time.Duration(wire)*time.Millisecond, start.Add(time.Duration(arrived)*time.Millisecond))
				got := []string{""}
				switch n.Map(&p) {
				case Nudged:
					got = append(got, "nudged")
				case Jumped:
					got = append(got, "jumped")
				}
				if p.Flags.Has(media.Discontinuity) {
					got = append(got, "discontinuity")
				}
				got[0] = fmt.Sprint(float64(p.DTS) / 1e6)
				require.Equal(t, strings.TrimSpace(want), strings.Join(got, " "), line)
				if !strings.Contains(line, "nudged") { // a nudge takes from the composition offset
					require.Equal(t, 80*time.Millisecond, p.CompositionOffset(), line)
				}
			}
		})
	}
}

func packetAt(id media.TrackID, wire time.Duration, arrived time.Time) media.Packet {
	return media.Packet{Track: &media.Track{ID: id}, DTS: wire, PTS: wire + 80*time.Millisecond, Captured: arrived}
}

// FuzzNormalizer holds what Normalizer promises for any input.
func FuzzNormalizer(f *testing.F) {
	f.Add(int64(0), []byte{0, 0, 40, 0, 40, 1, 0, 20, 0, 0, 0, 0xff, 0xff, 0, 1})
	f.Add(int64(5e9), []byte{0, 0x80, 0, 0, 0, 1, 0x7f, 0xff, 0, 0, 2, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, join int64, steps []byte) {
		if join < 0 || join > 1e15 {
			return
		}
		n := NewNormalizer(NormalizerOptions{})
		n.Join(time.Duration(join))
		last := map[media.TrackID]time.Duration{}
		var wire time.Duration
		now := time.Unix(1e9, 0)
		for ; len(steps) >= 5; steps = steps[5:] {
			id := media.TrackID(steps[0] % 20)
			wire += time.Duration(int16(binary.BigEndian.Uint16(steps[1:]))) * time.Duration(steps[0]) * time.Millisecond
			now = now.Add(time.Duration(int16(binary.BigEndian.Uint16(steps[3:]))) * time.Millisecond)
			p := packetAt(id, wire, now)
			if n.Map(&p) == Dropped {
				continue
			}
			before, seen := last[id]
			if seen && p.DTS <= before {
				t.Fatalf("track %d went from %v to %v", id, before, p.DTS)
			}
			if p.DTS < time.Duration(join) || p.PTS < p.DTS {
				t.Fatalf("DTS %v, PTS %v, joined at %v", p.DTS, p.PTS, join)
			}
			last[id] = p.DTS
		}
	})
}

func TestMapDoesNotAllocate(t *testing.T) {
	n := NewNormalizer(NormalizerOptions{})
	p := packetAt(1, 0, time.Unix(1e9, 0))
	wire := time.Duration(0)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		wire += 40 * time.Millisecond
		p.DTS, p.PTS, p.Flags = wire, wire, 0
		p.Captured = p.Captured.Add(40 * time.Millisecond)
		n.Map(&p)
	}))
}

func BenchmarkNormalizer(b *testing.B) {
	n := NewNormalizer(NormalizerOptions{})
	p := packetAt(1, 0, time.Unix(1e9, 0))
	wire := time.Duration(0)
	b.ReportAllocs()
	for range b.N {
		wire += 40 * time.Millisecond
		p.DTS, p.PTS, p.Flags = wire, wire, 0
		p.Captured = p.Captured.Add(40 * time.Millisecond)
		n.Map(&p)
	}
}
