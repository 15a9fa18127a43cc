// Package encoder is an encoder made of a recording: it reads an FLV file once and publishes it over RTMP in real time,
// in a loop without seams, as often as asked. It costs little beside what it measures, and a test can change what it
// sends.
//
// Clip and Conn are the types to read first.
package encoder

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/klive-media/klive/internal/rtmp/flv"
	"github.com/klive-media/klive/internal/rtmp/message"
)

// Tag is one FLV tag: the message that RTMP carries.
type Tag struct {
	Type    message.Type
	Time    time.Duration // decode time from the clip's start
	Payload []byte        // never written
}

// Clip is a recording that can be played in a loop: its picture and its sound end at the same time.
type Clip struct {
	Setup  []Tag // onMetaData and the sequence headers
	Media  []Tag // in order of time
	Length time.Duration
	Frames int // pictures
	Bytes  int // of Media's payloads
}

// Spec says what a clip is made of.
type Spec struct {
	Size    string
	Rate    int
	GOP     int // frames
	Video   int // bit/s
	Audio   int // bit/s
	Seconds int // a multiple of 16 has as many whole AAC frames at 48 kHz as pictures
}

// Standard is what the benchmarks publish: 2.7 Mbit/s, 960x540 with 30 frames a second, a key frame every 2 s.
var Standard = Spec{Size: "960x540", Rate: 30, GOP: 60, Video: 2_572_000, Audio: 128_000, Seconds: 16}

// Make makes the clip with ffmpeg, or takes the one made before from dir.
func Make(dir string, s Spec) (*Clip, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, fmt.Sprintf("clip-%s-%d-%d-%d-%d-%d.flv", s.Size, s.Rate, s.GOP, s.Video, s.Audio, s.Seconds))
	if _, err := os.Stat(path); err == nil {
		return Read(path, time.Duration(s.Seconds)*time.Second)
	}
	video, gop, length := strconv.Itoa(s.Video), strconv.Itoa(s.GOP), strconv.Itoa(s.Seconds)
	temporary := path + ".part"
	// nal-hrd=cbr pads quiet pictures, so that the bit rate is true.
	out, err := exec.Command("ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "error", "-y",
		"-f", "lavfi", "-i", fmt.Sprintf("testsrc2=size=%s:rate=%d,noise=alls=20:allf=t", s.Size, s.Rate),
		"-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000",
		"-t", length, "-c:v", "libx264", "-preset", "veryfast", "-profile:v", "main", "-pix_fmt", "yuv420p", "-bf", "0",
		"-g", gop, "-keyint_min", gop, "-sc_threshold", "0", "-b:v", video, "-minrate", video, "-maxrate", video, "-bufsize", video,
		"-x264-params", "nal-hrd=cbr", "-c:a", "aac", "-b:a", strconv.Itoa(s.Audio), "-ac", "2", "-f", "flv", temporary).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("make the clip with ffmpeg: %w: %s", err, out)
	}
	if err := os.Rename(temporary, path); err != nil {
		return nil, err
	}
	return Read(path, time.Duration(s.Seconds)*time.Second)
}

// Read reads an FLV file (Adobe Flash Video File Format 10.1, annex E.3) and keeps its first length.
func Read(path string, length time.Duration) (*Clip, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(b) < 13 || string(b[:3]) != "FLV" {
		return nil, fmt.Errorf("%s is not an FLV file", path)
	}
	c := &Clip{Length: length}
	for b = b[13:]; len(b) >= 15; {
		size := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
		if len(b) < 11+size+4 {
			break
		}
		at := uint32(b[7])<<24 | binary.BigEndian.Uint32(b[4:])>>8
		c.add(Tag{Type: message.Type(b[0] & 0x1f), Time: time.Duration(at) * time.Millisecond, Payload: b[11 : 11+size : 11+size]})
		b = b[11+size+4:]
	}
	if len(c.Media) == 0 {
		return nil, fmt.Errorf("%s holds no media", path)
	}
	return c, nil
}

func (c *Clip) add(t Tag) {
	switch t.Type {
	case message.TypeVideo:
		v, _, err := flv.ParseVideo(t.Payload)
		if err != nil || v.Packet == flv.PacketEnd {
			return
		}
		if v.Packet == flv.PacketConfig {
			c.Setup = append(c.Setup, t)
			return
		}
		if t.Time >= c.Length {
			return
		}
		c.Frames++
	case message.TypeAudio:
		a, _, err := flv.ParseAudio(t.Payload)
		if err != nil {
			return
		}
		if a.Packet == flv.PacketConfig {
			c.Setup = append(c.Setup, t)
			return
		}
		if t.Time >= c.Length {
			return
		}
	case message.TypeData:
		c.Setup = append(c.Setup, t)
		return
	default:
		return
	}
	c.Bytes += len(t.Payload)
	c.Media = append(c.Media, t)
}

// Bitrate is the clip's payload in bit/s.
func (c *Clip) Bitrate() int { return int(float64(c.Bytes) * 8 / c.Length.Seconds()) }
