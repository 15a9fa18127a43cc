package rtmp

import (
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/rtmp/flv"
)

// enhancedVideo maps a video message of Enhanced RTMP, whose tracks may be
// several.
func (d *demuxer) enhancedVideo(stamp uint32, h flv.Video, body []byte, now time.Time) error {
	if h.Frame == flv.FrameCommand && h.Packet != flv.PacketMetadata {
		return nil
	}
	walk := flv.NewTracks(h.Layout, h.FourCC, body)
	for {
		var t flv.Track
		if more, err := walk.Next(&t); err != nil || !more {
			d.badIf(err)
			return nil
		}
		own, frames, err := t.VideoBody(h)
		if err != nil {
			d.bad(err)
			return nil
		}
		u := unit{packet: h.Packet, stamp: stamp, offset: time.Duration(h.NanoOffset), composition: own.CompositionTime,
			frame: h.Frame, body: frames}
		if err := d.route(media.Video, &t, &u, now); err != nil {
			return err
		}
	}
}

// enhancedAudio maps an audio message of Enhanced RTMP.
func (d *demuxer) enhancedAudio(stamp uint32, h flv.Audio, body []byte, now time.Time) error {
	if h.Packet == flv.PacketMultichannel {
		return nil // the codecs that are carried say it themselves
	}
	walk := flv.NewTracks(h.Layout, h.FourCC, body)
	for {
		var t flv.Track
		if more, err := walk.Next(&t); err != nil || !more {
			d.badIf(err)
			return nil
		}
		u := unit{packet: h.Packet, stamp: stamp, offset: time.Duration(h.NanoOffset), body: t.Body}
		if err := d.route(media.Audio, &t, &u, now); err != nil {
			return err
		}
	}
}

func (d *demuxer) badIf(err error) {
	if err != nil {
		d.bad(err)
	}
}

// route gives a message of one track to the demuxer of its publication.
func (d *demuxer) route(k media.Kind, t *flv.Track, u *unit, now time.Time) error {
	if d.more == nil {
		return d.enhancedUnit(k, t.FourCC, u, now)
	}
	return d.more.route(d, k, t, u, now)
}

// enhancedUnit maps a message of one track whose codec has a FourCC.
func (d *demuxer) enhancedUnit(k media.Kind, f flv.FourCC, u *unit, now time.Time) error {
	l := &d.audio
	if k == media.Video {
		l = &d.video
		if u.packet == flv.PacketMetadata {
			return d.videoMetadata(u.body, now)
		}
	}
	u.codec = l.codecOf(f)
	if u.codec.Kind() != k {
		return fault.New(fault.UnsupportedCodec, "the %s codec %s over Enhanced RTMP is not known; set the encoder to %s", k, f,
			map[media.Kind]string{media.Video: "H.264, HEVC, AV1 or VP9", media.Audio: "AAC, Opus, FLAC, AC-3 or MP3"}[k])
	}
	if k == media.Audio && len(u.body) == 0 {
		return nil
	}
	return d.unit(l, u, now)
}

// codecOf looks a FourCC up, mostly where it was found before.
func (l *lane) codecOf(f flv.FourCC) media.Codec {
	if f != l.fourCC || l.named == media.UnknownCodec {
		l.fourCC, l.named = f, media.CodecByFourCC(uint32(f))
	}
	return l.named
}
