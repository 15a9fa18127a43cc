package rtmp

import (
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/rtmp/flv"
	"github.com/klive-media/klive/internal/rtmp/message"
)

// Bounds of what is held back until the tracks are announced. They are met
// only by media that comes faster than it plays.
const (
	maxHeld      = 512
	maxHeldBytes = 4 << 20
)

// demuxer maps RTMP messages to packets. It knows no socket: what it is given
// are messages and the time they came at, what it makes goes to a Publication.
// It belongs to one goroutine.
type demuxer struct {
	pub   ingest.Publication
	slab  *media.Slab
	bad   func(error) // told of each message that is dropped
	clock *clock      // of the connection
	meta  *metadata   // of the connection
	start time.Time   // of the clock of Packet.Captured
	id    uint8       // the number of its tracks in meta

	video, audio lane
	data         *media.Track
	color        media.Color // as the sender's metadata say

	announced bool
	frames    bool      // some frame came
	firstAt   time.Time // when the first track was known
	firstDTS  time.Duration
	held      []media.Packet
	heldBytes int

	more *tracks // the further tracks of the connection; nil: they are dropped
}

func newDemuxer(pub ingest.Publication, slab *media.Slab, now time.Time, bad func(error)) *demuxer {
	return &demuxer{pub: pub, slab: slab, start: now, bad: bad, clock: new(clock), meta: new(metadata)}
}

// message maps one audio, video or data message. The packet keeps the
// payload. A message that cannot be read is dropped and told to bad; an error
// ends the publication.
func (d *demuxer) message(m *message.Message, now time.Time) error {
	if len(m.Payload) == 0 {
		return nil // a keep-alive of some encoders
	}
	var err error
	switch m.Type {
	case message.TypeVideo:
		err = d.videoMessage(m, now)
	case message.TypeAudio:
		err = d.audioMessage(m, now)
	case message.TypeData, message.TypeDataAMF3:
		err = d.dataMessage(m, now)
	}
	if err != nil {
		return err
	}
	return d.settle(now)
}

// settle announces the tracks when they are ready.
func (d *demuxer) settle(now time.Time) error {
	if d.announced || d.pub == nil || !d.ready(now) {
		return nil
	}
	return d.announce()
}

// finish lets go what was held back for what never came.
func (d *demuxer) finish() error {
	if d.pub == nil || d.video.track == nil && d.audio.track == nil {
		return nil
	}
	if !d.announced {
		if err := d.announce(); err != nil {
			return err
		}
	}
	return d.release()
}

// legacyVideo are the codecs by their numbers in FLV.
var legacyVideo = map[flv.VideoCodec]media.Codec{flv.VideoAVC: media.H264, flv.VideoHEVC: media.HEVC}

// legacyAudio likewise.
var legacyAudio = map[flv.AudioCodec]media.Codec{
	flv.AudioAAC: media.AAC, flv.AudioMP3: media.MP3, flv.AudioMP3Slow: media.MP3,
}

func (d *demuxer) videoMessage(m *message.Message, now time.Time) error {
	if flv.IsAVC(m.Payload) {
		u := unit{codec: media.H264, stamp: m.Timestamp}
		u.frame, u.packet, u.composition, u.body = flv.SplitAVC(m.Payload)
		return d.unit(&d.video, &u, now)
	}
	h, body, err := flv.ParseVideo(m.Payload)
	if err != nil {
		d.bad(err)
		return nil
	}
	if h.Enhanced {
		return d.enhancedVideo(m.Timestamp, h, body, now)
	}
	if h.Frame == flv.FrameCommand {
		return nil
	}
	c := legacyVideo[h.Codec]
	if c == media.UnknownCodec {
		return fault.New(fault.UnsupportedCodec, "the video codec %s is not supported over RTMP; set the encoder to H.264", h.Codec)
	}
	u := unit{codec: c, packet: h.Packet, stamp: m.Timestamp, composition: h.CompositionTime, frame: h.Frame, body: body}
	return d.unit(&d.video, &u, now)
}

func (d *demuxer) audioMessage(m *message.Message, now time.Time) error {
	if flv.IsAAC(m.Payload) {
		u := unit{codec: media.AAC, stamp: m.Timestamp}
		if u.packet, u.body = flv.SplitAAC(m.Payload); len(u.body) == 0 {
			return nil
		}
		return d.unit(&d.audio, &u, now)
	}
	h, body, err := flv.ParseAudio(m.Payload)
	if err != nil {
		d.bad(err)
		return nil
	}
	if h.Enhanced {
		return d.enhancedAudio(m.Timestamp, h, body, now)
	}
	c := legacyAudio[h.Codec]
	if c == media.UnknownCodec {
		return fault.New(fault.UnsupportedCodec, "the audio codec %s is not supported over RTMP; set the encoder to AAC", h.Codec)
	}
	if len(body) == 0 {
		return nil
	}
	u := unit{codec: c, packet: h.Packet, stamp: m.Timestamp, body: body}
	return d.unit(&d.audio, &u, now)
}

// dataMessage keeps a data message, whatever its name.
func (d *demuxer) dataMessage(m *message.Message, now time.Time) error {
	data, err := message.ParseData(m)
	if err != nil {
		d.bad(err)
		return nil
	}
	if data.Clear {
		return nil
	}
	if data.Name == "onMetaData" {
		*d.meta = readMetadata(&data)
	}
	if d.data == nil {
		d.data = &media.Track{Kind: media.Data, Codec: media.AMF0, TimeScale: wireTimeScale}
		if d.announced {
			if err := d.announce(); err != nil {
				return err
			}
		}
	}
	at := d.clock.data(m.Timestamp)
	return d.write(media.Packet{Track: d.data, Flags: media.Key, DTS: at, PTS: at, Captured: d.captured(now), Payload: data.Body})
}

// captured is the wall clock of the publication's start moved by monotonic
// time, so that a step of the wall clock does not reach the packets.
func (d *demuxer) captured(now time.Time) time.Time { return d.start.Add(now.Sub(d.start)) }
