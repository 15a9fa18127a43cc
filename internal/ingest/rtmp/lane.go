package rtmp

import (
	"bytes"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec"
	"github.com/klive-media/klive/internal/rtmp/flv"
)

// wireTimeScale is RTMP's: milliseconds.
const wireTimeScale = 1000

// lane is the picture or the sound of a publication.
type lane struct {
	fourCC flv.FourCC  // looked up last
	named  media.Codec // what it named
	codec  media.Codec // of base
	format *codec.Format
	// base is what is known of the stream; track is base when it can be
	// announced, nil before. They differ only while base waits for its first
	// packet to be complete.
	base, track *media.Track
	wire        []byte      // the configuration that made base, where packets may correct it
	color       media.Color // of base, before the sender's metadata
	lengthSize  int         // of NAL units in the messages
	changed     bool        // the next packet is the first of a changed track
	// duration of a packet of sound; 0 where each says its own.
	duration time.Duration
}

// pending reports whether a packet is needed to complete the track.
func (l *lane) pending() bool { return l.base != nil && l.track == nil }

// unit is an audio or video message of one track, without its header.
type unit struct {
	codec  media.Codec
	packet flv.PacketType
	stamp  uint32        // milliseconds
	offset time.Duration // to be added to the stamp, below a millisecond
	// composition is PTS − DTS in milliseconds.
	composition int32
	frame       flv.FrameType // what the sender says of a picture
	body        []byte
}

// unit maps one message of one track.
func (d *demuxer) unit(l *lane, u *unit, now time.Time) error {
	f := l.format
	if l.codec != u.codec || f == nil {
		if f = codec.FormatOf(u.codec); f == nil {
			return unsupported(u.codec)
		}
	}
	switch u.packet {
	case flv.PacketConfig:
		if len(u.body) == 0 || f.Track == nil {
			return nil // some encoders announce themselves so before they are ready
		}
		return d.config(l, f, u, now)
	case flv.PacketFrames, flv.PacketFramesX:
		return d.frame(l, f, u, now)
	}
	// The end of a sequence, which the next message contradicts or confirms; and
	// configurations in other forms, which stand beside the usual one.
	return nil
}

// unsupported refuses a codec that no output could carry.
func unsupported(c media.Codec) error {
	instead := "H.264, HEVC, AV1 or VP9"
	if c.Kind() == media.Audio {
		instead = "AAC, Opus, FLAC, AC-3 or MP3"
	}
	return fault.New(fault.UnsupportedCodec, "the codec %s cannot be carried; set the encoder to %s", c, instead)
}

// config takes a sequence header, the first or a changed one.
func (d *demuxer) config(l *lane, f *codec.Format, u *unit, now time.Time) error {
	if l.codec == u.codec && f.Complete != nil && bytes.Equal(l.wire, u.body) {
		return nil // repeated; packets may have corrected it since
	}
	t, lengthSize, err := f.Track(u.body)
	if err != nil {
		if l.base == nil {
			return err // nothing to fall back on
		}
		d.bad(err)
		return nil
	}
	l.lengthSize = lengthSize
	if f.Complete != nil {
		l.wire = bytes.Clone(u.body)
	}
	return d.describe(l, f, u.codec, t, now)
}

// describe takes what was learned of a stream. The track is announced when it
// is complete and changed.
func (d *demuxer) describe(l *lane, f *codec.Format, c media.Codec, t *media.Track, now time.Time) error {
	color := t.Video.Color
	d.decorate(t)
	if l.track != nil && l.track == l.base && l.track.SameConfig(t) {
		return nil // repeated, as many encoders do with each key frame
	}
	l.codec, l.format, l.base, l.color = c, f, t, color
	if !f.IsComplete(t) {
		return nil
	}
	l.changed = l.track != nil
	d.forget(l.track)
	l.track, l.duration = t, 0
	if f.Samples == nil {
		l.duration = soundDuration(t, t.Audio.FrameSamples)
	}
	return d.changed(now)
}

// decorate adds what the sender's metadata say.
func (d *demuxer) decorate(t *media.Track) {
	t.TimeScale = wireTimeScale
	h := d.meta.hint(t.Kind, d.id)
	if t.Kind == media.Video {
		if t.Video.FrameRate == 0 {
			t.Video.FrameRate = h.frameRate
		}
		t.Video.Color = d.color.Merge(t.Video.Color)
	}
	t.Bitrate, t.Language = h.bitrate, h.language
}

// frame maps one picture, or one packet of sound.
func (d *demuxer) frame(l *lane, f *codec.Format, u *unit, now time.Time) error {
	if l.codec != u.codec || l.base == nil {
		if f.Track != nil {
			d.bad(fault.New(fault.BadMedia, "a frame came before the %s configuration", u.codec))
			return nil
		}
		if len(u.body) == 0 {
			return nil
		}
	}
	payload, info, err := f.Sample(d.slab, l.base, u.body, l.lengthSize)
	if err != nil {
		d.bad(err)
		return nil
	}
	if info.Config && len(u.body) > 0 {
		if err := d.learn(l, f, u, now); err != nil {
			return err
		}
	}
	if len(payload) == 0 || l.track == nil || l.codec != u.codec {
		return nil // parameter sets or fillers alone, or nothing to decode it with yet
	}
	p := media.Packet{Track: l.track, Payload: payload, Captured: d.captured(now)}
	p.DTS = d.clock.media(u.stamp) + u.offset
	p.PTS = p.DTS
	if l.track.Kind == media.Audio {
		p.Flags = media.Key
		if p.Duration = l.duration; f.Samples != nil {
			p.Duration = soundDuration(l.track, f.Samples(payload))
		}
	} else {
		// A negative composition time breaks the promise that nothing is shown
		// before it is decoded; such a picture is shown as soon as it can be.
		p.PTS += time.Duration(max(u.composition, 0)) * time.Millisecond
		if info.Sync == codec.IsSync || info.Sync == codec.AskSender && u.frame == flv.FrameKey {
			p.Flags |= media.Key
		}
		if u.frame == flv.FrameDisposable || info.Droppable {
			p.Flags |= media.Droppable
		}
	}
	if l.changed {
		p.Flags |= media.NewConfig
		l.changed = false
	}
	return d.write(p)
}

// learn takes configuration that stands in a packet. Usually it repeats the
// sequence header; an encoder that changes its picture without sending a new
// one says it only here.
func (d *demuxer) learn(l *lane, f *codec.Format, u *unit, now time.Time) error {
	base := l.base
	if l.codec != u.codec {
		base = nil // another codec began
	}
	t, err := f.Update(base, u.body, l.lengthSize)
	switch {
	case err != nil:
		d.bad(err)
		return nil
	case t == base || t == nil:
		return nil
	}
	return d.describe(l, f, u.codec, t, now)
}

// soundDuration is how long samples of sound play; 0 when not known.
func soundDuration(t *media.Track, samples int) time.Duration {
	if t.Audio.SampleRate == 0 {
		return 0
	}
	return media.FromTicks(int64(samples), uint32(t.Audio.SampleRate)) //nolint:gosec // a sample rate
}
