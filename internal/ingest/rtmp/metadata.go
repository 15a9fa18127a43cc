package rtmp

import (
	"github.com/klive-media/klive/internal/rtmp/amf"
	"github.com/klive-media/klive/internal/rtmp/message"
)

// metadata is what onMetaData tells before the media comes (FLV 10.1 annex
// E.5). All of it is a hint: encoders leave it out, repeat it and get it wrong.
type metadata struct {
	seen         bool
	video, audio bool // promised
	frameRate    float64
	videoBitrate int // bit/s
	audioBitrate int
}

// Hints above these are not believed.
const (
	maxFrameRate = 1000
	maxKilobits  = 1e7
)

// readMetadata reads an onMetaData message.
func readMetadata(d *message.Data) metadata {
	m := metadata{seen: true}
	values, err := d.Values()
	if err != nil || len(values) == 0 {
		return m
	}
	v := values[0]
	m.video = promised(v, "hasVideo", "videocodecid", "width", "videodatarate")
	m.audio = promised(v, "hasAudio", "audiocodecid", "audiosamplerate", "audiodatarate")
	for _, name := range [...]string{"framerate", "fps"} {
		if rate, ok := amf.LookupNumber(v, name); ok && rate > 0 && rate <= maxFrameRate {
			m.frameRate = rate
			break
		}
	}
	m.videoBitrate, m.audioBitrate = bitrate(v, "videodatarate"), bitrate(v, "audiodatarate")
	return m
}

// promised reports whether metadata speak of a track: has says so outright,
// any of the others when it is there and not 0.
func promised(v amf.Value, has string, others ...string) bool {
	if there, ok := amf.Lookup(v, has).(bool); ok {
		return there
	}
	for _, name := range others {
		switch x := amf.Lookup(v, name).(type) {
		case float64:
			if x > 0 {
				return true
			}
		case string:
			if x != "" {
				return true
			}
		}
	}
	return false
}

// bitrate turns kilobits per second into bit/s; 0 when they are not sensible.
func bitrate(v amf.Value, name string) int {
	if k, ok := amf.LookupNumber(v, name); ok && k > 0 && k <= maxKilobits {
		return int(k * 1000)
	}
	return 0
}
