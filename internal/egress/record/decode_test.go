package record

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	mp4ff "github.com/Eyevinn/mp4ff/mp4"
	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/media"
)

// tool runs one of ffmpeg's programs and gives what it prints.
func tool(t testing.TB, name string, args ...string) string {
	t.Helper()
	var out, problems bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdout, cmd.Stderr = &out, &problems
	require.NoError(t, cmd.Run(), "%s %s\n%s", name, strings.Join(args, " "), problems.String())
	if name == "ffmpeg" {
		return problems.String()
	}
	return out.String()
}

// encoded are the packets of media that ffmpeg encodes, with B-frames.
func encoded(t testing.TB, seconds int) (v, a *media.Track, packets []*media.Packet) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "source.mp4")
	tool(t, "ffmpeg", "-v", "error", "-f", "lavfi", "-i", fmt.Sprintf("testsrc2=size=192x108:rate=25:duration=%d", seconds),
		"-f", "lavfi", "-i", fmt.Sprintf("sine=frequency=440:sample_rate=44100:duration=%d", seconds),
		"-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", "50", "-keyint_min", "50", "-sc_threshold", "0",
		"-c:a", "aac", "-threads", "1", "-movflags", "faststart", path)
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	file, err := mp4ff.DecodeFile(f)
	require.NoError(t, err)
	v, a = videoTrack(1), audioTrack(1, 44100)
	for _, trak := range file.Moov.Traks {
		track := v
		if sound := trak.Mdia.Minf.Stbl.Stsd.Mp4a; sound != nil {
			track = a
			track.Config = sound.Esds.DecConfigDescriptor.DecSpecificInfo.DecConfig
			track.Audio.Channels = int(sound.ChannelCount)
		} else {
			picture := trak.Mdia.Minf.Stbl.Stsd.AvcX
			var b bytes.Buffer
			require.NoError(t, picture.AvcC.Encode(&b))
			track.Config, track.Video.Width, track.Video.Height = b.Bytes()[8:], int(picture.Width), int(picture.Height)
		}
	}
	for kind, samples := range decode(t, path, 0) {
		track := map[string]*media.Track{"vide": v, "soun": a}[kind]
		for _, d := range samples {
			p := &media.Packet{Track: track, DTS: d.dts + time.Second, PTS: d.pts + time.Second, Payload: d.payload}
			if d.key {
				p.Flags = media.Key
			}
			packets = append(packets, p)
		}
	}
	slices.SortStableFunc(packets, func(x, y *media.Packet) int { return int(x.DTS - y.DTS) })
	return v, a, packets
}

var frames = regexp.MustCompile(`frame= *(\d+)`)

// TestPiecesDecode lets ffmpeg decode pieces and their join.
func TestPiecesDecode(t *testing.T) {
	const seconds = 17
	v, a, packets := encoded(t, seconds)
	s := openStudio(t, t.TempDir(), Options{SegmentDuration: 7 * time.Second, Mark: marker, MarkEvery: 4 * time.Second})
	s.onAir("b1", false)
	s.publish("1", newSource(v, a), packets)
	s.cut.End()
	s.record(egress.ErrEnded)
	list := s.verify("1")
	require.Len(t, list, 3)

	total, sound := 0, 0
	for _, p := range list {
		total += decodedFrames(t, p.File)
		sound += countPackets(t, p.File, "1")
		checkMarks(t, p.File, p.Offset, p.Start)
		duration, err := strconv.ParseFloat(strings.TrimSpace(tool(t, "ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", p.File)), 64)
		require.NoError(t, err)
		require.InDelta(t, p.Duration.Seconds(), duration, 0.001)
		start := tool(t, "ffprobe", "-v", "error", "-show_entries", "format=start_time:format_tags=creation_time,title", "-of", "json", p.File)
		require.Contains(t, start, `"title": "lobby 1 `+strconv.Itoa(p.Number)+`"`)
		require.Contains(t, start, p.Start.UTC().Format("2006-01-02T15:04:05"))
	}
	wantSound := 0
	for _, p := range packets {
		if p.Track == a && p.PTS+media.FromTicks(1024, 44100) > list[0].Offset {
			wantSound++
		}
	}
	require.Equal(t, seconds*25, total, "every picture is decoded once")
	require.Equal(t, wantSound, sound)

	path := filepath.Join(s.dir, "whole.mp4")
	_, err := s.rec.Join(context.Background(), s.only().ID, "1", path)
	require.NoError(t, err)
	require.Equal(t, seconds*25, decodedFrames(t, path))
	require.Equal(t, wantSound, countPackets(t, path, "1"))

	// A work file can be played as it is.
	s = openStudio(t, t.TempDir(), Options{SegmentDuration: time.Minute, Mark: marker})
	s.onAir("b1", false)
	s.publish("1", newSource(v, a), packets)
	s.record(egress.ErrLeaving)
	require.Equal(t, seconds*25, decodedFrames(t, s.only().Pieces[0].File))
}

// decodedFrames decodes a file, fails on what ffmpeg complains of, and counts
// the pictures.
func decodedFrames(t testing.TB, path string) int {
	t.Helper()
	out := tool(t, "ffmpeg", "-v", "warning", "-stats", "-f", "mp4", "-i", path, "-map", "0:v", "-map", "0:a", "-fps_mode", "passthrough", "-f", "null", "-")
	for _, line := range strings.FieldsFunc(out, func(r rune) bool { return r == '\r' || r == '\n' }) {
		require.True(t, strings.HasPrefix(line, "frame="), line)
	}
	found := frames.FindAllStringSubmatch(out, -1)
	require.NotEmpty(t, found, out)
	n, err := strconv.Atoi(found[len(found)-1][1])
	require.NoError(t, err)
	return n
}

func countPackets(t testing.TB, path, streamIndex string) int {
	t.Helper()
	out := tool(t, "ffprobe", "-v", "error", "-select_streams", streamIndex, "-count_packets",
		"-show_entries", "stream=nb_read_packets", "-of", "csv=p=0", path)
	n, err := strconv.Atoi(strings.Trim(out, "\n,"))
	require.NoError(t, err)
	return n
}

// checkMarks reads the data track with ffprobe: it is the third stream, and its
// samples are at the times they tell.
func checkMarks(t testing.TB, path string, offset time.Duration, start time.Time) {
	t.Helper()
	var out struct {
		Packets []struct {
			PTS  string `json:"pts_time"`
			Data string `json:"data"`
		} `json:"packets"`
		Streams []struct {
			Type string `json:"codec_type"`
		} `json:"streams"`
	}
	text := tool(t, "ffprobe", "-v", "error", "-select_streams", "2", "-show_packets", "-show_data", "-show_streams", "-of", "json", path)
	require.NoError(t, json.Unmarshal([]byte(text), &out), text)
	require.Equal(t, "data", out.Streams[0].Type)
	require.NotEmpty(t, out.Packets, text)
	first := dumped(out.Packets[0].Data)
	require.Contains(t, first, "lobby_1")
	for i, p := range out.Packets {
		pts, err := strconv.ParseFloat(p.PTS, 64)
		require.NoError(t, err)
		text := strings.Fields(dumped(p.Data))
		require.Len(t, text, 3)
		wall, err := time.Parse(time.RFC3339Nano, text[1])
		require.NoError(t, err)
		require.InDelta(t, wall.Sub(start).Seconds(), pts, 0.0001, "mark %d", i)
		require.InDelta(t, float64(i)*4, pts, 0.05)
	}
}

// dumped reads ffprobe's dump of bytes.
func dumped(text string) string {
	var b []byte
	for _, line := range strings.Split(text, "\n") {
		_, line, ok := strings.Cut(line, ": ")
		if !ok {
			continue
		}
		hex, _, _ := strings.Cut(line, "  ")
		for _, word := range strings.Fields(hex) {
			for i := 0; i+1 < len(word); i += 2 {
				n, err := strconv.ParseUint(word[i:i+2], 16, 8)
				if err == nil {
					b = append(b, byte(n))
				}
			}
		}
	}
	return string(b)
}
