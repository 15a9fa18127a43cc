package rtmp

import (
	"bytes"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/h264"
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
	clock clock
	meta  metadata
	start time.Time // of the clock of Packet.Captured

	video, audio, data *media.Track
	lengthSize         int  // of NAL units in video messages
	videoNew, audioNew bool // the next packet is the first of a changed track

	announced bool
	frames    bool      // some frame came
	firstAt   time.Time // when the first track was known
	firstDTS  time.Duration
	held      []media.Packet
	heldBytes int
}

func newDemuxer(pub ingest.Publication, slab *media.Slab, now time.Time, bad func(error)) *demuxer {
	return &demuxer{pub: pub, slab: slab, start: now, bad: bad}
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
	if err != nil || d.announced || !d.ready(now) {
		return err
	}
	return d.announce()
}

// finish lets go what was held back for what never came.
func (d *demuxer) finish() error {
	if d.video == nil && d.audio == nil {
		return nil
	}
	if !d.announced {
		if err := d.announce(); err != nil {
			return err
		}
	}
	return d.release()
}

func (d *demuxer) videoMessage(m *message.Message, now time.Time) error {
	h, body, err := flv.ParseVideo(m.Payload)
	switch {
	case err != nil:
		d.bad(err)
		return nil
	case h.Enhanced:
		return unsupportedEnhanced("video", h.FourCC, "H.264")
	case h.Frame == flv.FrameCommand:
		return nil
	case h.Codec != flv.VideoAVC:
		return fault.New(fault.UnsupportedCodec, "the video codec %s is not supported over RTMP; set the encoder to H.264", h.Codec)
	}
	switch h.Packet {
	case flv.PacketConfig:
		if len(body) == 0 {
			return nil // some encoders announce themselves so before they are ready
		}
		return d.videoConfig(body, now)
	case flv.PacketFrames:
		return d.videoFrame(m.Timestamp, h, body, now)
	}
	return nil // the end of a sequence, which the next message contradicts or confirms
}

// videoConfig takes a sequence header, the first or a changed one.
func (d *demuxer) videoConfig(avcC []byte, now time.Time) error {
	t, lengthSize, err := avcTrack(avcC)
	if err != nil {
		return d.badConfig(d.video, err)
	}
	d.lengthSize = lengthSize
	return d.setVideo(t, now)
}

func (d *demuxer) setVideo(t *media.Track, now time.Time) error {
	if d.video != nil && bytes.Equal(d.video.Config, t.Config) {
		return nil // repeated, as many encoders do with each key frame
	}
	if t.Video.FrameRate == 0 {
		t.Video.FrameRate = d.meta.frameRate
	}
	t.Bitrate = d.meta.videoBitrate
	d.videoNew = d.video != nil
	d.forget(d.video)
	d.video = t
	return d.changed(now)
}

func (d *demuxer) videoFrame(stamp uint32, h flv.Video, body []byte, now time.Time) error {
	if d.video == nil {
		d.bad(fault.New(fault.BadMedia, "a video frame came before the H.264 configuration"))
		return nil
	}
	payload, info, err := h264.NormalizePayload(d.slab, body, d.lengthSize)
	if err != nil {
		d.bad(err)
		return nil
	}
	if info.ParameterSets {
		if err := d.inBandConfig(body, now); err != nil {
			return err
		}
	}
	if len(payload) == 0 {
		return nil // parameter sets or fillers alone
	}
	p := media.Packet{Track: d.video, Payload: payload, Captured: d.captured(now)}
	p.DTS = d.clock.media(stamp)
	// A negative composition time breaks the promise that nothing is shown
	// before it is decoded; such a picture is shown as soon as it can be.
	p.PTS = p.DTS + time.Duration(max(h.CompositionTime, 0))*time.Millisecond
	if isKey(h.Frame, info) {
		p.Flags |= media.Key
	}
	if h.Frame == flv.FrameDisposable || info.Droppable {
		p.Flags |= media.Droppable
	}
	if d.videoNew {
		p.Flags |= media.NewConfig
		d.videoNew = false
	}
	return d.write(p)
}

// isKey reports whether decoding can start with a frame. What is in it counts:
// with periodic intra refresh encoders mark frames as key from which the
// picture is only whole some frames later. Where it says nothing, the sender's
// mark does.
func isKey(frame flv.FrameType, info h264.Info) bool {
	switch {
	case info.Slices == 0:
		return false
	case info.Recovery && !info.IDR:
		return info.RecoveryFrames == 0
	}
	return info.IDR || frame == flv.FrameKey
}

// inBandConfig takes parameter sets that stand in a frame. Usually they repeat
// the sequence header; an encoder that changes its picture without sending a
// new one says it only here.
func (d *demuxer) inBandConfig(body []byte, now time.Time) error {
	config, changed, err := h264.UpdateConfig(d.video.Config, body, d.lengthSize)
	if err == nil && changed {
		var t *media.Track
		if t, _, err = avcTrack(config); err == nil {
			return d.setVideo(t, now)
		}
	}
	if err != nil {
		d.bad(err)
	}
	return nil
}

func (d *demuxer) audioMessage(m *message.Message, now time.Time) error {
	h, body, err := flv.ParseAudio(m.Payload)
	switch {
	case err != nil:
		d.bad(err)
		return nil
	case h.Enhanced:
		return unsupportedEnhanced("audio", h.FourCC, "AAC")
	case h.Codec != flv.AudioAAC:
		return fault.New(fault.UnsupportedCodec, "the audio codec %s is not supported over RTMP; set the encoder to AAC", h.Codec)
	}
	switch h.Packet {
	case flv.PacketConfig:
		if len(body) == 0 {
			return nil
		}
		return d.audioConfig(body, now)
	case flv.PacketFrames:
		return d.audioFrame(m.Timestamp, body, now)
	}
	return nil
}

func (d *demuxer) audioConfig(asc []byte, now time.Time) error {
	if d.audio != nil && bytes.Equal(d.audio.Config, asc) {
		return nil
	}
	t, err := aacTrack(asc)
	if err != nil {
		return d.badConfig(d.audio, err)
	}
	t.Bitrate = d.meta.audioBitrate
	d.audioNew = d.audio != nil
	d.forget(d.audio)
	d.audio = t
	return d.changed(now)
}

func (d *demuxer) audioFrame(stamp uint32, body []byte, now time.Time) error {
	switch {
	case d.audio == nil:
		d.bad(fault.New(fault.BadMedia, "an audio frame came before the AAC configuration"))
		return nil
	case len(body) == 0:
		return nil
	}
	p := media.Packet{Track: d.audio, Flags: media.Key, Payload: body, Captured: d.captured(now)}
	p.DTS = d.clock.media(stamp)
	p.PTS = p.DTS
	p.Duration = frameDuration(d.audio)
	if d.audioNew {
		p.Flags |= media.NewConfig
		d.audioNew = false
	}
	return d.write(p)
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
		d.meta = readMetadata(&data)
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

// badConfig is what becomes of a configuration that cannot be read: with
// nothing to fall back on, the end.
func (d *demuxer) badConfig(current *media.Track, err error) error {
	if current == nil {
		return err
	}
	d.bad(err)
	return nil
}

// captured is the wall clock of the publication's start moved by monotonic
// time, so that a step of the wall clock does not reach the packets.
func (d *demuxer) captured(now time.Time) time.Time { return d.start.Add(now.Sub(d.start)) }

// unsupportedEnhanced refuses a codec named by FourCC.
func unsupportedEnhanced(kind string, f flv.FourCC, instead string) error {
	if f == 0 {
		return fault.New(fault.UnsupportedCodec, "several %s tracks over Enhanced RTMP are not supported yet; send one", kind)
	}
	return fault.New(fault.UnsupportedCodec, "codec %s over Enhanced RTMP is not supported yet; set the encoder to %s", f, instead)
}
