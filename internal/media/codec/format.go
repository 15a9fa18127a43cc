// Package codec binds the rows of media's codec table to the rooms below it,
// so that a door asks a codec's Format what to do with its bytes and never
// which codec it is. A new codec is a room, a row in media's table and a row
// here.
//
// Format is the type to read first.
package codec

import (
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/aac"
	"github.com/klive-media/klive/internal/media/codec/ac3"
	"github.com/klive-media/klive/internal/media/codec/av1"
	"github.com/klive-media/klive/internal/media/codec/flac"
	"github.com/klive-media/klive/internal/media/codec/h264"
	"github.com/klive-media/klive/internal/media/codec/hevc"
	"github.com/klive-media/klive/internal/media/codec/mp3"
	"github.com/klive-media/klive/internal/media/codec/opus"
	"github.com/klive-media/klive/internal/media/codec/vp9"
)

// Sync says whether decoding can start with a packet.
type Sync uint8

// What a packet can say of it.
const (
	// NoSync: it cannot.
	NoSync Sync = iota
	// AskSender: the packet does not say; the sender's mark counts.
	AskSender
	// IsSync: it can.
	IsSync
)

// Unit is what a packet tells of itself.
type Unit struct {
	Sync Sync
	// Droppable: no other packet refers to this one.
	Droppable bool
	// Config: it holds configuration, or the track waits for some: Format.Update
	// is to be called before the packet is passed on.
	Config bool
}

// Format is what can be done with the bytes of a codec in the form that the
// file format and those who follow it (RTMP) give them. Fields that are nil
// have nothing to do.
type Format struct {
	// Track describes a stream with a configuration as senders give it; nil when
	// the codec has none and its tracks come from Update alone. lengthSize is the
	// size of NAL unit lengths in the packets, 0 for codecs without. ID,
	// TimeScale and Language are left to the caller. config is not kept. Errors
	// are fault.Errors.
	Track func(config []byte) (t *media.Track, lengthSize int, err error)
	// Sample makes of a packet's bytes what media.Packet holds; the result is a
	// part of body, or carved from slab, and empty when there is no media in it.
	// t is the newest track. It allocates nothing else and does not write body.
	// Errors are fault.BadMedia.
	Sample func(slab *media.Slab, t *media.Track, body []byte, lengthSize int) ([]byte, Unit, error)
	// Update describes the stream by t, nil when there is none, and what stands
	// in the packet. t itself means that nothing changed. Neither is kept. Errors
	// are fault.Errors.
	Update func(t *media.Track, body []byte, lengthSize int) (*media.Track, error)
	// Complete reports whether a track can be announced; nil: every one can. One
	// that cannot is completed by Update.
	Complete func(t *media.Track) bool
	// Samples is how many samples of sound a packet holds; 0 when it does not
	// say. nil: always Track.Audio.FrameSamples.
	Samples func(sample []byte) int
}

var formats = [...]Format{
	media.H264: {Track: h264Track, Sample: h264Sample, Update: h264Update},
	media.HEVC: {Track: hevcTrack, Sample: hevcSample, Update: hevcUpdate},
	media.AV1:  {Track: plain(av1.Track), Sample: av1Sample, Update: bare(av1.Update), Complete: hasSize},
	media.VP9:  {Track: plain(vp9.Track), Sample: vp9Sample, Update: bare(vp9.Update), Complete: hasSize},
	media.AAC:  {Track: plain(aac.Track), Sample: sound},
	media.Opus: {Track: plain(opus.Track), Sample: opusSample, Update: opusUpdate, Complete: hasFrame, Samples: opus.Samples},
	media.FLAC: {Track: plain(flac.Track), Sample: sound, Samples: flac.Samples},
	media.MP3:  {Sample: describedSound, Update: bare(mp3.Update)},
	media.AC3:  {Sample: describedSound, Update: bare(ac3.Update)},
	media.EAC3: {Sample: describedSound, Update: bare(ac3.Update)},
}

// FormatOf is the codec's row; nil when packets of the codec are not
// understood.
func FormatOf(c media.Codec) *Format {
	if int(c) >= len(formats) || formats[c].Sample == nil {
		return nil
	}
	return &formats[c]
}

// IsComplete reports whether t can be announced.
func (f *Format) IsComplete(t *media.Track) bool {
	return t != nil && (f.Complete == nil || f.Complete(t))
}

// plain is Track for codecs without NAL units.
func plain(track func([]byte) (*media.Track, error)) func([]byte) (*media.Track, int, error) {
	return func(config []byte) (*media.Track, int, error) {
		t, err := track(config)
		return t, 0, err
	}
}

// bare is Update for codecs without NAL units.
func bare(update func(*media.Track, []byte) (*media.Track, error)) func(*media.Track, []byte, int) (*media.Track, error) {
	return func(t *media.Track, body []byte, _ int) (*media.Track, error) { return update(t, body) }
}

func hasSize(t *media.Track) bool  { return t.Video.Width > 0 }
func hasFrame(t *media.Track) bool { return t.Audio.FrameSamples > 0 }

// sound is Sample for codecs whose packets are samples as they are.
func sound(_ *media.Slab, _ *media.Track, body []byte, _ int) ([]byte, Unit, error) {
	return body, Unit{Sync: IsSync}, nil
}

// describedSound is sound for codecs whose packets describe themselves.
func describedSound(_ *media.Slab, _ *media.Track, body []byte, _ int) ([]byte, Unit, error) {
	return body, Unit{Sync: IsSync, Config: true}, nil
}

func h264Track(config []byte) (*media.Track, int, error) {
	c, err := h264.ParseConfig(config)
	if err != nil {
		return nil, 0, err
	}
	t, err := h264.Track(config)
	return t, c.LengthSize, err
}

func h264Sample(slab *media.Slab, _ *media.Track, body []byte, lengthSize int) ([]byte, Unit, error) {
	out, info, err := h264.NormalizePayload(slab, body, lengthSize)
	u := Unit{Droppable: info.Droppable, Config: info.ParameterSets}
	// What is in the picture counts: with periodic intra refresh encoders mark
	// pictures as key from which the picture is only whole some later.
	switch {
	case info.Slices == 0:
	case info.IDR || info.Recovery && info.RecoveryFrames == 0:
		u.Sync = IsSync
	case !info.Recovery:
		u.Sync = AskSender
	}
	return out, u, err
}

func h264Update(t *media.Track, body []byte, lengthSize int) (*media.Track, error) {
	return updateSets(t, body, lengthSize, h264.UpdateConfig, h264.Track)
}

func hevcTrack(config []byte) (*media.Track, int, error) {
	c, err := hevc.ParseConfig(config)
	if err != nil {
		return nil, 0, err
	}
	t, err := hevc.Track(config)
	return t, c.LengthSize, err
}

func hevcSample(slab *media.Slab, t *media.Track, body []byte, lengthSize int) ([]byte, Unit, error) {
	layers := 0
	if t != nil {
		layers = hevc.TemporalLayers(t.Config)
	}
	out, info, err := hevc.NormalizePayload(slab, body, lengthSize, layers)
	u := Unit{Droppable: info.Droppable, Config: info.ParameterSets}
	if info.RandomAccess {
		u.Sync = IsSync
	}
	return out, u, err
}

func hevcUpdate(t *media.Track, body []byte, lengthSize int) (*media.Track, error) {
	return updateSets(t, body, lengthSize, hevc.UpdateConfig, hevc.Track)
}

// updateSets is Update for codecs with parameter sets.
func updateSets(t *media.Track, body []byte, lengthSize int, update func(config, payload []byte, lengthSize int) ([]byte, bool, error),
	track func([]byte) (*media.Track, error),
) (*media.Track, error) {
	var config []byte
	if t != nil {
		config = t.Config
	}
	config, changed, err := update(config, body, lengthSize)
	if err != nil || !changed {
		return t, err
	}
	return track(config)
}

func av1Sample(slab *media.Slab, _ *media.Track, body []byte, _ int) ([]byte, Unit, error) {
	out, info, err := av1.NormalizePayload(slab, body)
	u := Unit{Config: info.Sequence}
	if info.Key {
		u.Sync = IsSync
	}
	return out, u, err
}

func vp9Sample(_ *media.Slab, _ *media.Track, body []byte, _ int) ([]byte, Unit, error) {
	f, err := vp9.ParseFrame(body)
	u := Unit{Config: f.Key}
	if f.Key {
		u.Sync = IsSync
	}
	return body, u, err
}

func opusSample(_ *media.Slab, t *media.Track, body []byte, _ int) ([]byte, Unit, error) {
	if opus.Samples(body) == 0 {
		return nil, Unit{}, fault.New(fault.BadMedia, "an Opus packet cannot be read")
	}
	return body, Unit{Sync: IsSync, Config: t != nil && !hasFrame(t)}, nil
}

// opusUpdate learns from the first packet how long they are.
func opusUpdate(t *media.Track, body []byte, _ int) (*media.Track, error) {
	if t == nil || hasFrame(t) {
		return t, nil
	}
	n := *t
	n.Audio.FrameSamples = opus.Samples(body)
	return &n, nil
}
