package rtmp

import (
	"strconv"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/rtmp/amf"
	"github.com/klive-media/klive/internal/rtmp/message"
)

// metadata is what onMetaData tells before the media comes (FLV 10.1 annex
// E.5, Enhanced RTMP v2 "Enhancing onMetaData"). All of it is a hint: encoders
// leave it out, repeat it and get it wrong.
type metadata struct {
	seen         bool
	video, audio bool // promised
	// hints are those of the tracks by number; 0 is what the metadata say of the
	// whole.
	videos, audios [maxTracks]hint
}

// hint is what is said of one track.
type hint struct {
	frameRate float64
	bitrate   int // bit/s
	language  string
}

// maxTracks is how many tracks of a kind are told apart in metadata.
const maxTracks = 8

// hint is what is said of the track with this number.
func (m *metadata) hint(k media.Kind, id uint8) hint {
	if int(id) >= maxTracks {
		return hint{}
	}
	if k == media.Video {
		return m.videos[id]
	}
	return m.audios[id]
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
	m.videos[0], m.audios[0] = readHint(v, "videodatarate"), readHint(v, "audiodatarate")
	readTracks(v, "videoTrackIdInfoMap", "videodatarate", &m.videos)
	readTracks(v, "audioTrackIdInfoMap", "audiodatarate", &m.audios)
	return m
}

// readHint reads what is said of one track; rate is the name of its bit rate.
func readHint(v amf.Value, rate string) (h hint) {
	for _, name := range [...]string{"framerate", "fps"} {
		if fps, ok := amf.LookupNumber(v, name); ok && fps > 0 && fps <= maxFrameRate {
			h.frameRate = fps
			break
		}
	}
	h.bitrate = bitrate(v, rate)
	for _, name := range [...]string{"language", "lang"} {
		if tag := amf.LookupString(v, name); isLanguage(tag) {
			h.language = tag
			break
		}
	}
	return h
}

// readTracks reads a map of hints by track number.
func readTracks(v amf.Value, name, rate string, into *[maxTracks]hint) {
	for _, p := range amf.Properties(amf.Lookup(v, name)) {
		if id, err := strconv.ParseUint(p.Name, 10, 8); err == nil && id < maxTracks {
			h := readHint(p.Value, rate)
			if id == 0 { // it may say less than the whole does
				h.merge(into[0])
			}
			into[id] = h
		}
	}
}

// merge takes from o what h does not say.
func (h *hint) merge(o hint) {
	if h.frameRate == 0 {
		h.frameRate = o.frameRate
	}
	if h.bitrate == 0 {
		h.bitrate = o.bitrate
	}
	if h.language == "" {
		h.language = o.language
	}
}

// maxLanguage bounds a language tag (RFC 5646 §4.4.1).
const maxLanguage = 35

// isLanguage reports whether a tag has the form of RFC 5646: letters, digits
// and hyphens, the first part two or more letters.
func isLanguage(tag string) bool {
	if len(tag) < 2 || len(tag) > maxLanguage {
		return false
	}
	for i, c := range []byte(tag) {
		letter := c|0x20 >= 'a' && c|0x20 <= 'z'
		if !letter && (i < 2 || c != '-' && (c < '0' || c > '9')) {
			return false
		}
	}
	return tag[len(tag)-1] != '-'
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
