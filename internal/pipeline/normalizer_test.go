package pipeline

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
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
			a 30     81 -> 73
			v 100120 120 -> 120`},
		"sound that starts at 0 while the picture does not comes to its clock later": {0, `
			a 0       0  -> 0
			v 5000000 5  -> 5 jumped discontinuity
			a 5000018 23 -> 23 discontinuity
			v 5000040 45 -> 45
			a 5000041 46 -> 46`},
		"sound behind the picture follows a jump without overlap, the picture makes room": {0, `
			v 1000 0   -> 0
			a 1000 0   -> 0
			a 1100 1   -> 100
			v 1040 40  -> 40
			v 5    80  -> 80 jumped discontinuity
			a 5    81  -> 200 shifted discontinuity
			v 45   120 -> 240
			a 105  121 -> 300`},
		"picture far before the sound that came first is not lost": {0, `
			a 1000 0  -> 0
			v 500  1  -> 0 shifted
			a 1020 20 -> 520
			v 540  40 -> 40`},
		"one wrong time is left and returned from": {0, `
			v 1000 0   -> 0
			a 1000 0   -> 0
			v 1040 40  -> 40
			v 7    80  -> 80 jumped discontinuity
			a 1090 90  -> 90 discontinuity
			v 1120 120 -> 120 jumped discontinuity
			a 1110 121 -> 110 discontinuity
			v 1160 160 -> 160`},
		"one wrong time of a track alone": {0, `
			v 1000 0   -> 0
			v 1040 40  -> 40
			v 9999 80  -> 80 jumped discontinuity
			v 1120 120 -> 120 jumped discontinuity
			v 1160 160 -> 160`},
		"a jump during a burst goes on at the pace of the track": {0, `
			v 0    0    -> 0
			v 40   3000 -> 40
			v 80   3000 -> 80
			v 9999999 3000 -> 120 jumped discontinuity`},
		"a jump after a pause counts the pause": {0, `
			v 5000 0    -> 0
			v 5040 40   -> 40
			v 0    3040 -> 3040 jumped discontinuity
			v 40   3080 -> 3080`},
		"a slide every ten seconds": {0, `
			v 0     0     -> 0
			a 0     0     -> 0
			a 5000  5000  -> 5000
			a 10000 10000 -> 10000
			v 10000 10001 -> 10000
			a 15000 15000 -> 15000`},
		"a slide every ten seconds of a file pushed ten times too fast": {0, `
			v 0     0    -> 0
			a 0     0    -> 0
			a 900   90   -> 900
			a 1800  180  -> 1800
			a 2700  270  -> 2700
			v 2700  271  -> 2700
			a 3600  360  -> 3600`},
		"a slow wire clock is followed": {0, `
			v 0  0   -> 0
			v 40 80  -> 40
			v 80 160 -> 80
			v 120 240 -> 120`},
		"metadata without time stands where the picture is": {1000, `
			d 0      0  -> 1000
			v 777000 5  -> 1000
			d 0      6  -> 1000.1
			v 777040 45 -> 1040
			d 777045 46 -> 1045
			d 0      47 -> 1045.1
			v 777080 85 -> 1080`},
		"a track too many is dropped": {0, `
			v 0 0 -> 0
			* 0 0 -> 0
			z 5 5 -> dropped`},
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
				at := start.Add(time.Duration(arrived) * time.Millisecond)
				p := packetAt(media.TrackID(track), time.Duration(wire)*time.Millisecond, at)
				switch track {
				case 'd':
					p.Track.Kind = media.Data
				case '*': // as many tracks as there may be
					for i := range media.TrackID(maxTracks - 2) {
						more := packetAt(1000+i, p.DTS, at)
						require.Equal(t, NoRepair, n.Map(&more))
					}
				}
				require.Equal(t, strings.TrimSpace(want), outcome(n, &p), line)
				if !strings.Contains(line, "nudged") && !strings.Contains(line, "dropped") { // a nudge takes from the composition offset
					require.Equal(t, 80*time.Millisecond, p.CompositionOffset(), line)
				}
			}
		})
	}
}

// outcome maps the packet and writes what became of it like a trace does.
func outcome(n *Normalizer, p *media.Packet) string {
	repair := n.Map(p)
	words := []string{fmt.Sprint(float64(p.DTS) / 1e6)}
	switch repair {
	case Dropped:
		return "dropped"
	case Nudged:
		words = append(words, "nudged")
	case Shifted:
		words = append(words, "shifted")
	case Jumped:
		words = append(words, "jumped")
	}
	if p.Flags.Has(media.Discontinuity) {
		words = append(words, "discontinuity")
	}
	return strings.Join(words, " ")
}

func TestJoinByOffset(t *testing.T) {
	n := NewNormalizer(NormalizerOptions{})
	n.JoinOffset(-9 * time.Second)
	now := time.Unix(1e9, 0)
	v, a := packetAt(1, 10*time.Second, now), packetAt(2, 9990*time.Millisecond, now)
	require.Equal(t, "1000", outcome(n, &v))
	require.Equal(t, "1000 nudged", outcome(n, &a), "nothing before the point of joining")
	require.Equal(t, -9*time.Second, n.Offset())
	early := NewNormalizer(NormalizerOptions{})
	early.JoinOffset(-time.Hour)
	v = packetAt(1, time.Second, now)
	require.Equal(t, "0", outcome(early, &v), "no stream time before its beginning")
}

func TestJoinAgainNeverGoesBack(t *testing.T) {
	n := NewNormalizer(NormalizerOptions{})
	now := time.Unix(1e9, 0)
	v, a := packetAt(1, 10*time.Second, now), packetAt(2, 10*time.Second, now)
	require.Equal(t, "0", outcome(n, &v))
	require.Equal(t, "0", outcome(n, &a))
	n.Join(3 * time.Second)
	v, a = packetAt(1, time.Second, now), packetAt(2, 1010*time.Millisecond, now)
	require.Equal(t, "3000", outcome(n, &v))
	require.Equal(t, "3010", outcome(n, &a))
	n.Join(0)
	v, a = packetAt(1, time.Second, now), packetAt(2, 1010*time.Millisecond, now)
	require.Equal(t, "3000.1", outcome(n, &v))
	require.Equal(t, "3010.1", outcome(n, &a))
	require.Zero(t, n.Stats().Jumps)
}

// TestLongSession runs one hour of picture and sound whose sender's clock
// is off by 100 ppm, with jitter, a stall that drops frames and a jump every
// ten minutes: the stream stays with the wall clock, and sound and picture
// with each other.
func TestLongSession(t *testing.T) {
	n := NewNormalizer(NormalizerOptions{})
	start := time.Unix(1e9, 0)
	rnd := rand.New(rand.NewPCG(1, 2))
	var jump time.Duration
	out := map[media.TrackID]time.Duration{}
	var wall time.Duration
	send := func(id media.TrackID, at time.Duration) {
		wire := at + at/10000 + jump
		late := time.Duration(rnd.Int64N(int64(80 * time.Millisecond)))
		wall = max(wall, at+late) // a connection keeps the order
		p := packetAt(id, wire, start.Add(wall))
		n.Map(&p)
		require.Greater(t, p.DTS, out[id]-1)
		out[id] = p.DTS
	}
	frame, sample := 40*time.Millisecond, 1024*time.Second/48000
	var v, a time.Duration
	for v < time.Hour {
		if v <= a {
			send(1, v)
			v += frame
		} else {
			send(2, a)
			a += sample
		}
		switch v % (10 * time.Minute) {
		case 5 * time.Minute:
			v, a = v+4*time.Second+frame, a+4*time.Second
		case 0:
			v += frame
			jump = time.Duration(rnd.Int64N(int64(time.Hour)))
		}
	}
	require.Less(t, (out[1] - out[2]).Abs(), 150*time.Millisecond)
	// 100 ppm of an hour, and at most a jitter for each of the jumps.
	require.InDelta(t, time.Hour.Seconds(), out[1].Seconds(), 1)
	require.Equal(t, uint64(5), n.Stats().Jumps)
	require.Zero(t, n.Stats().Nudges)
}

func packetAt(id media.TrackID, wire time.Duration, arrived time.Time) media.Packet {
	return media.Packet{Track: &media.Track{ID: id}, DTS: wire, PTS: wire + 80*time.Millisecond, Captured: arrived}
}

// FuzzNormalizer holds what Normalizer promises for any input: 5 bytes are a
// packet's track, step on the wire and step of arrival; some steps are wild.
func FuzzNormalizer(f *testing.F) {
	f.Add(int64(0), []byte{0, 0, 40, 0, 40, 1, 0, 20, 0, 0, 0, 0xff, 0xff, 0, 1})
	f.Add(int64(5e9), []byte{0, 0x80, 0, 0, 0, 1, 0x7f, 0xff, 0, 0, 2, 0, 0, 0, 0})
	f.Add(int64(5e9), []byte{0, 0, 0, 0, 0, 9, 0x7f, 0xff, 0, 0, 8, 0, 0, 0, 0, 1, 0, 40, 0, 40, 31, 9, 9, 9, 9})
	f.Add(int64(-1), []byte{0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 24, 1, 1, 1, 1, 0, 0, 40, 0, 40, 1, 0, 40, 0, 40})
	f.Fuzz(func(t *testing.T, join int64, steps []byte) {
		n := NewNormalizer(NormalizerOptions{})
		var joined time.Duration
		if join < 0 {
			n.JoinOffset(time.Duration(join))
		} else {
			joined = min(time.Duration(join), farthest)
			n.Join(joined)
		}
		last := map[media.TrackID]time.Duration{}
		wires := map[bool]time.Duration{}
		now := time.Unix(1e9, 0)
		for ; len(steps) >= 5; steps = steps[5:] {
			id, wild := media.TrackID(steps[0]%4), steps[0]&8 != 0
			step := time.Duration(int16(binary.BigEndian.Uint16(steps[1:]))) * time.Millisecond
			if wild {
				step *= 1 << (steps[0] >> 4 * 2)
			}
			wire := wires[steps[0]&4 != 0] + step
			wires[steps[0]&4 != 0] = wire
			now = now.Add(time.Duration(int16(binary.BigEndian.Uint16(steps[3:]))) * time.Millisecond)
			p := packetAt(id, wire, now)
			if steps[0]&16 != 0 {
				p.PTS = time.Duration(math.MinInt64)
			}
			if id == 3 {
				p.Track.Kind = media.Data
			}
			jumps := n.Stats().Jumps
			r := n.Map(&p)
			before, seen := last[id]
			switch {
			case r == Dropped:
				t.Fatal("a known track was dropped")
			case seen && p.DTS <= before:
				t.Fatalf("track %d went from %v to %v", id, before, p.DTS)
			case p.DTS < joined || p.PTS < p.DTS:
				t.Fatalf("DTS %v, PTS %v, joined at %v", p.DTS, p.PTS, joined)
			case r == Jumped && !p.Flags.Has(media.Discontinuity):
				t.Fatal("a jump is not flagged")
			case (r == Jumped) != (n.Stats().Jumps == jumps+1):
				t.Fatal("a jump is not counted")
			}
			last[id] = p.DTS
		}
	})
}

func TestMapDoesNotAllocate(t *testing.T) {
	next := session()
	require.Zero(t, testing.AllocsPerRun(10000, next))
}

func BenchmarkNormalizer(b *testing.B) {
	next := session()
	b.ReportAllocs()
	for range b.N {
		next()
	}
}

// session gives a function that maps the next packet of a session with picture
// and sound whose clock jumps every 500 packets.
func session() func() {
	n := NewNormalizer(NormalizerOptions{})
	tracks := [2]media.Packet{packetAt(1, 0, time.Unix(1e9, 0)), packetAt(2, 0, time.Unix(1e9, 0))}
	i, wire, now := 0, time.Duration(0), time.Unix(1e9, 0)
	return func() {
		i++
		wire += 20 * time.Millisecond
		now = now.Add(20 * time.Millisecond)
		if i%500 == 0 {
			wire += time.Hour
		}
		p := &tracks[i&1]
		p.DTS, p.PTS, p.Captured, p.Flags = wire, wire, now, 0
		n.Map(p)
	}
}
