package harness

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/clips"
	"github.com/klive-media/klive/internal/rtmp"
	"github.com/klive-media/klive/internal/rtmp/flv"
	"github.com/klive-media/klive/internal/rtmp/message"
)

// ClipTrack is a clip of package clips as one track of an Enhanced RTMP connection, played over and over.
type ClipTrack struct {
	Clip string
	// ID is its number; those above 0 are sent as multitrack.
	ID uint8

	clip   *clips.Clip
	length int64 // of the clip, in its ticks
	next   int   // sample
	round  int64
}

// tick is how often what is due is sent.
const tick = 20 * time.Millisecond

// PublishClips publishes tracks over Enhanced RTMP in real time, as encoders do that this machine has none of, until
// ctx ends. before is sent first; it may be nil. It returns the packets sent of each track.
func PublishClips(ctx context.Context, address, app, name string, before []message.Message, tracks ...ClipTrack) ([]int, error) {
	all, err := clips.All()
	if err != nil {
		return nil, err
	}
	for i := range tracks {
		if err := tracks[i].find(all); err != nil {
			return nil, err
		}
	}
	nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := rtmp.NewClientConn(nc, rtmp.Options{})
	defer c.Close()
	offer := rtmp.Enhanced{List: []string{"*"}, Caps: rtmp.CapMultitrack | rtmp.CapReconnect}
	if err := c.Connect(rtmp.Connect{App: app, TcURL: "rtmp://" + address + "/" + app, FlashVer: "clips", Enhanced: offer}); err != nil {
		return nil, err
	}
	if err := c.Publish(name); err != nil {
		return nil, err
	}
	sent := make([]int, len(tracks))
	for i := range before {
		if err := c.Write(&before[i]); err != nil {
			return sent, err
		}
	}
	for i := range tracks {
		if m, ok := tracks[i].config(); ok {
			if err := c.Write(&m); err != nil {
				return sent, err
			}
		}
	}
	beat := time.NewTicker(tick)
	defer beat.Stop()
	for start := time.Now(); ; {
		for i := range tracks {
			n, err := tracks[i].send(c, time.Since(start))
			if sent[i] += n; err != nil {
				return sent, err
			}
		}
		if err := c.Flush(); err != nil {
			return sent, err
		}
		select {
		case <-beat.C:
		case <-ctx.Done():
			if err := c.Unpublish(name); err != nil {
				return sent, err
			}
			return sent, c.CloseGently()
		}
	}
}

func (t *ClipTrack) find(all []clips.Clip) error {
	for i := range all {
		if all[i].Name == t.Clip {
			t.clip = &all[i]
			last := t.clip.Samples[len(t.clip.Samples)-1]
			t.length = last.DTS + t.clip.Samples[0].Duration // the last of sound is cut
			return nil
		}
	}
	return fmt.Errorf("there is no clip %q", t.Clip)
}

// send writes what is due.
func (t *ClipTrack) send(c *rtmp.ClientConn, until time.Duration) (n int, err error) {
	for {
		s := t.clip.Samples[t.next]
		dts := media.FromTicks(t.round*t.length+s.DTS, t.clip.Scale)
		if dts > until {
			return n, nil
		}
		stamp := dts.Round(time.Millisecond).Milliseconds()
		pts := media.FromTicks(t.round*t.length+s.DTS+s.Offset, t.clip.Scale).Round(time.Millisecond).Milliseconds()
		m := t.message(stamp, flv.PacketFrames, pts-stamp, s.Key, s.Payload)
		if err := c.Write(&m); err != nil {
			return n, err
		}
		n++
		if t.next++; t.next == len(t.clip.Samples) {
			t.next = 0
			t.round++
		}
	}
}

// config is the sequence header, of the codecs that have one.
func (t *ClipTrack) config() (message.Message, bool) {
	body := t.clip.Config
	switch t.clip.Codec {
	case media.MP3, media.AC3, media.EAC3:
		return message.Message{}, false
	case media.FLAC:
		body = append([]byte("fLaC"), body[4:]...)
	case media.Opus:
		head := append([]byte("OpusHead\x01"), body[1]) // RFC 7845, 5.1: like dOps, the other way round
		head = binary.LittleEndian.AppendUint16(head, binary.BigEndian.Uint16(body[2:]))
		head = binary.LittleEndian.AppendUint32(head, binary.BigEndian.Uint32(body[4:]))
		head = append(head, 0, 0, 0)
		body = head
	}
	return t.message(0, flv.PacketConfig, 0, true, body), true
}

func (t *ClipTrack) message(stamp int64, p flv.PacketType, composition int64, key bool, body []byte) message.Message {
	m := message.Message{Timestamp: uint32(stamp)} //nolint:gosec // minutes
	f := flv.FourCC(binary.BigEndian.Uint32([]byte(t.clip.Codec.Info().FourCC)))
	layout := flv.NoTracks
	if t.ID > 0 {
		layout = flv.OneTrack
	}
	if t.clip.Codec.Kind() == media.Audio {
		h := flv.Audio{Packet: p, FourCC: f, Layout: layout}
		m.Type, m.Payload = message.TypeAudio, flv.AppendEnhancedAudio(nil, h)
		if t.ID > 0 {
			m.Payload = flv.AppendAudioTrack(m.Payload, h, t.ID, f, body)
			return m
		}
	} else {
		h := flv.Video{Frame: flv.FrameInter, Packet: p, FourCC: f, Layout: layout, CompositionTime: int32(composition)} //nolint:gosec // a second at most
		if key {
			h.Frame = flv.FrameKey
		}
		m.Type, m.Payload = message.TypeVideo, flv.AppendEnhancedVideo(nil, h)
		if t.ID > 0 {
			m.Payload = flv.AppendVideoTrack(m.Payload, h, t.ID, f, body)
			return m
		}
	}
	m.Payload = append(m.Payload, body...)
	return m
}
