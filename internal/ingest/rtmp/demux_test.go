package rtmp

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/rtmp/amf"
	"github.com/klive-media/klive/internal/rtmp/flv"
	"github.com/klive-media/klive/internal/rtmp/message"
)

// show is a packet in one line: kind, DTS and PTS in milliseconds, flags, bytes.
func show(p media.Packet) string {
	s := fmt.Sprintf("%s %d", p.Track.Kind, p.DTS.Milliseconds())
	if p.PTS != p.DTS {
		s += fmt.Sprintf("+%d", (p.PTS - p.DTS).Milliseconds())
	}
	if f := p.Flags.String(); f != "" {
		s += " " + f
	}
	switch p.Track.Kind {
	case media.Video:
		s += " " + p.Track.CodecString
	case media.Audio:
		s += fmt.Sprintf(" %d Hz", p.Track.Audio.SampleRate)
	case media.Data:
		s += " " + string(p.Payload[3:3+p.Payload[2]])
	}
	return s
}

// tracks is an announcement in one line.
func showTracks(ts []*media.Track) string {
	var out []string
	for _, t := range ts {
		out = append(out, t.String())
	}
	return strings.Join(out, ", ")
}

// demuxCases are messages and what becomes of them. They seed the fuzz target.
func demuxCases(t testing.TB) []demuxCase {
	both := onMetaData(t, amf.Property{Name: "videocodecid", Value: 7.0}, amf.Property{Name: "audiocodecid", Value: "mp4a"},
		amf.Property{Name: "framerate", Value: 25.0}, amf.Property{Name: "videodatarate", Value: 2500.0})
	return append([]demuxCase{
		{
			name:      "as OBS sends",
			in:        []message.Message{both, audioConfig(ascSmall), videoConfig(avcLarge), keyFrame(0), audioFrame(0), interFrame(33), audioFrame(23)},
			announced: []string{"video 0 avc1.64001e 640x360, audio 0 mp4a.40.2 44100 Hz 2 ch, data 0 AMF0 data"},
			packets: []string{"data 0 key onMetaData", "video 0 key avc1.64001e", "audio 0 key 44100 Hz", "video 33 avc1.64001e",
				"audio 23 key 44100 Hz"},
		},
		{
			name:      "no metadata, no audio",
			in:        []message.Message{videoConfig(avcSmall), keyFrame(0), interFrame(40)},
			announced: []string{"video 0 avc1.42c00c 320x180"},
			packets:   []string{"video 0 key avc1.42c00c", "video 40 avc1.42c00c"},
		},
		{
			name:      "no video",
			in:        []message.Message{onMetaData(t, amf.Property{Name: "hasAudio", Value: true}), audioConfig(ascLarge), audioFrame(0), audioFrame(21)},
			announced: []string{"audio 0 mp4a.40.2 48000 Hz 2 ch, data 0 AMF0 data"},
			packets:   []string{"data 0 key onMetaData", "audio 0 key 48000 Hz", "audio 21 key 48000 Hz"},
		},
		{
			name:      "a promised track comes late",
			in:        []message.Message{both, videoConfig(avcSmall), keyFrame(0), interFrame(200), audioConfig(ascSmall), audioFrame(210)},
			announced: []string{"video 0 avc1.42c00c 320x180, audio 0 mp4a.40.2 44100 Hz 2 ch, data 0 AMF0 data"},
			packets:   []string{"data 0 key onMetaData", "video 0 key avc1.42c00c", "video 200 avc1.42c00c", "audio 210 key 44100 Hz"},
		},
		{
			name: "a promised track comes too late",
			in: []message.Message{both, videoConfig(avcSmall), keyFrame(0), interFrame(480), interFrame(520), audioConfig(ascSmall),
				audioFrame(530)},
			announced: []string{"video 0 avc1.42c00c 320x180, data 0 AMF0 data",
				"video 0 avc1.42c00c 320x180, audio 0 mp4a.40.2 44100 Hz 2 ch, data 0 AMF0 data"},
			packets: []string{"data 0 key onMetaData", "video 0 key avc1.42c00c", "video 480 avc1.42c00c", "video 520 avc1.42c00c",
				"audio 530 key 44100 Hz"},
		},
		{
			name: "the picture changes",
			in: []message.Message{videoConfig(avcSmall), keyFrame(0), videoConfig(avcSmall), videoConfig(avcLarge), keyFrame(40),
				interFrame(80)},
			announced: []string{"video 0 avc1.42c00c 320x180", "video 0 avc1.64001e 640x360"},
			packets:   []string{"video 0 key avc1.42c00c", "video 40 key|newconfig avc1.64001e", "video 80 avc1.64001e"},
		},
		{
			name: "the picture changes inside a frame",
			in: []message.Message{videoConfig(avcSmall), keyFrame(0),
				video(40, flv.FrameKey, flv.PacketFrames, 0, nal("\x09\xf0", string(avcLarge[8:34]), string(avcLarge[37:42]), idr))},
			announced: []string{"video 0 avc1.42c00c 320x180", "video 0 avc1.64001e 640x360"},
			packets:   []string{"video 0 key avc1.42c00c", "video 40 key|newconfig avc1.64001e"},
		},
		{
			name:      "the sound changes",
			in:        []message.Message{audioConfig(ascSmall), audioFrame(0), audioConfig(ascLarge), audioFrame(21)},
			announced: []string{"audio 0 mp4a.40.2 44100 Hz 2 ch", "audio 0 mp4a.40.2 48000 Hz 2 ch"},
			packets:   []string{"audio 0 key 44100 Hz", "audio 21 key|newconfig 48000 Hz"},
		},
		{
			name:      "a configuration that changes before the announcement",
			in:        []message.Message{both, videoConfig(avcSmall), keyFrame(0), videoConfig(avcLarge), keyFrame(40), audioConfig(ascSmall)},
			announced: []string{"video 0 avc1.64001e 640x360, audio 0 mp4a.40.2 44100 Hz 2 ch, data 0 AMF0 data"},
			packets:   []string{"data 0 key onMetaData", "video 40 key|newconfig avc1.64001e"},
		},
	}, moreDemuxCases(t)...)
}

// demuxCase: in is what comes, announced and packets what is made of it, bad
// how many messages are dropped, reason why it ends.
type demuxCase struct {
	name      string
	in        []message.Message
	announced []string
	packets   []string
	bad       int
	reason    fault.Reason
}

func moreDemuxCases(t testing.TB) []demuxCase {
	vc, ac := videoConfig(avcSmall), audioConfig(ascSmall)
	return []demuxCase{
		{
			name: "composition times, also negative",
			in: []message.Message{vc, keyFrame(0), video(40, flv.FrameInter, flv.PacketFrames, 80, nal(reference)),
				video(80, flv.FrameInter, flv.PacketFrames, -40, nal(disposable))},
			announced: []string{"video 0 avc1.42c00c 320x180"},
			packets:   []string{"video 0 key avc1.42c00c", "video 40+80 avc1.42c00c", "video 80 droppable avc1.42c00c"},
		},
		{
			name:      "timestamps wrap",
			in:        []message.Message{vc, keyFrame(0xffffffe0), interFrame(0xfffffff8), interFrame(0x20)},
			announced: []string{"video 0 avc1.42c00c 320x180"},
			packets:   []string{"video 4294967264 key avc1.42c00c", "video 4294967288 avc1.42c00c", "video 4294967328 avc1.42c00c"},
		},
		{
			name:      "timestamps jump back and forward, data does not",
			in:        []message.Message{vc, keyFrame(100_000), interFrame(40), interFrame(500_000), data(t, 0, "onCuePoint", 1.0)},
			announced: []string{"video 0 avc1.42c00c 320x180", "video 0 avc1.42c00c 320x180, data 0 AMF0 data"},
			packets: []string{"video 100000 key avc1.42c00c", "video 40 avc1.42c00c", "video 500000 avc1.42c00c",
				"data 500000 key onCuePoint"},
		},
		{
			name:      "a relay that joins late sends metadata at 0",
			in:        []message.Message{onMetaData(t), vc, ac, keyFrame(3_600_000), data(t, 0, "onCuePoint")},
			announced: []string{"video 0 avc1.42c00c 320x180, audio 0 mp4a.40.2 44100 Hz 2 ch, data 0 AMF0 data"},
			packets:   []string{"data 3600000 key onMetaData", "video 3600000 key avc1.42c00c", "data 3600000 key onCuePoint"},
		},
		{
			name: "data of any name is kept",
			in:   []message.Message{vc, ac, data(t, 1, "onTextData", "x"), data(t, 2, "whatever"), data(t, 3, "onCuePoint", amf.Object{})},
			announced: []string{"video 0 avc1.42c00c 320x180, audio 0 mp4a.40.2 44100 Hz 2 ch",
				"video 0 avc1.42c00c 320x180, audio 0 mp4a.40.2 44100 Hz 2 ch, data 0 AMF0 data"},
			packets: []string{"data 1 key onTextData", "data 2 key whatever", "data 3 key onCuePoint"},
		},
		{
			name: "bad messages are dropped",
			in: []message.Message{keyFrame(0), audioFrame(0), vc, video(40, flv.FrameKey, flv.PacketFrames, 0, []byte{0, 0, 1, 0, 5}),
				video(40, flv.FrameKey, flv.PacketConfig, 0, []byte("nonsense")), {Type: message.TypeVideo, Payload: []byte{0x17}},
				{Type: message.TypeAudio, Payload: []byte{0xaf}}, {Type: message.TypeData, Payload: []byte{5}}, keyFrame(80)},
			announced: []string{"video 0 avc1.42c00c 320x180"},
			packets:   []string{"video 80 key avc1.42c00c"},
			bad:       7,
		},
		{
			name: "what means nothing is ignored",
			in: []message.Message{vc, {Type: message.TypeVideo}, {Type: message.TypeAudio}, video(0, flv.FrameKey, flv.PacketEnd, 0, nil),
				{Type: message.TypeVideo, Payload: []byte{0x57, 0}}, video(0, flv.FrameInter, flv.PacketFrames, 0, nil),
				ac, audio(0, flv.PacketFrames, nil)},
			announced: []string{"video 0 avc1.42c00c 320x180, audio 0 mp4a.40.2 44100 Hz 2 ch"},
		},
		{name: "a configuration that nobody can read", in: []message.Message{videoConfig([]byte("nonsense"))}, reason: fault.BadMedia},
		{name: "a sound configuration that nobody can read", in: []message.Message{audioConfig([]byte{0xff})}, reason: fault.BadMedia},
		{name: "Sorenson", in: []message.Message{{Type: message.TypeVideo, Payload: []byte{0x12, 1}}}, reason: fault.UnsupportedCodec},
		{name: "Nellymoser", in: []message.Message{{Type: message.TypeAudio, Payload: []byte{0x6f, 1}}}, reason: fault.UnsupportedCodec},
		{
			name:      "MP3 without a FourCC",
			in:        []message.Message{{Type: message.TypeAudio, Payload: []byte("\x2f\xff\xfb\x90\x00")}},
			announced: []string{"audio 0 mp4a.6B 44100 Hz 2 ch"},
			packets:   []string{"audio 0 key 44100 Hz"},
		},
		{
			name:      "H.264 becomes VP8 in mid-stream",
			in:        []message.Message{vc, keyFrame(0), {Type: message.TypeVideo, Payload: []byte("\x90vp08config")}},
			announced: []string{"video 0 avc1.42c00c 320x180"},
			packets:   []string{"video 0 key avc1.42c00c"},
			reason:    fault.UnsupportedCodec,
		},
		{name: "an unknown FourCC", in: []message.Message{{Type: message.TypeVideo, Payload: []byte("\x90xxxxconfig")}}, reason: fault.UnsupportedCodec},
		{name: "a picture's FourCC on sound", in: []message.Message{{Type: message.TypeAudio, Payload: []byte("\x90avc1config")}}, reason: fault.UnsupportedCodec},
		{
			name: "H.264 with a FourCC",
			in: []message.Message{{Type: message.TypeVideo, Payload: append([]byte("\x90avc1"), avcSmall...)},
				{Type: message.TypeVideo, Payload: append([]byte("\x91avc1\x00\x00\x28"), nal(idr)...)},
				{Type: message.TypeVideo, Timestamp: 40, Payload: append([]byte("\xa3avc1"), nal(reference)...)},
				{Type: message.TypeVideo, Payload: []byte("\x92avc1")}, {Type: message.TypeVideo, Payload: []byte("\x95avc1ts")},
				{Type: message.TypeVideo, Payload: []byte("\xd1\x00")}},
			announced: []string{"video 0 avc1.42c00c 320x180"},
			packets:   []string{"video 0+40 key avc1.42c00c", "video 40 avc1.42c00c"},
		},
	}
}

// demux maps messages that come at once.
func demux(in []message.Message) (*publication, int, error) {
	p, bad := newPublication(), 0
	now := time.Now()
	d := newDemuxer(p, new(media.Slab), now, func(error) { bad++ })
	for i := range in {
		if err := d.message(&in[i], now); err != nil {
			return p, bad, err
		}
	}
	return p, bad, d.finish()
}

func TestDemux(t *testing.T) {
	for _, tc := range demuxCases(t) {
		t.Run(tc.name, func(t *testing.T) {
			p, bad, err := demux(tc.in)
			require.Equal(t, tc.reason, fault.ReasonOf(err), err)
			require.Equal(t, tc.bad, bad)
			var announced, packets []string
			for _, ts := range p.announced {
				announced = append(announced, showTracks(ts))
			}
			for _, q := range p.packets {
				packets = append(packets, show(q))
			}
			require.Equal(t, tc.announced, announced)
			require.Equal(t, tc.packets, packets)
		})
	}
}

func TestPayloadsAreSamples(t *testing.T) {
	plain := keyFrame(0)
	p, _, err := demux([]message.Message{videoConfig(avcSmall), plain})
	require.NoError(t, err)
	require.Equal(t, nal(idr), p.packets[0].Payload)
	require.Same(t, &plain.Payload[5], &p.packets[0].Payload[0], "the fast path must not copy")

	// In-band parameter sets and delimiters stay out.
	p, _, err = demux([]message.Message{videoConfig(avcSmall),
		video(0, flv.FrameKey, flv.PacketFrames, 0, nal("\x09\xf0", string(avcSmall[8:31]), string(avcSmall[34:38]), idr))})
	require.NoError(t, err)
	require.Equal(t, nal(idr), p.packets[0].Payload)
	require.Len(t, p.announced, 1, "the parameter sets are those of the configuration")

	// 2-byte lengths become 4-byte lengths, and the configuration says so.
	two := bytes.Clone(avcSmall)
	two[4] = 0xfd
	p, _, err = demux([]message.Message{videoConfig(two), video(0, flv.FrameKey, flv.PacketFrames, 0, []byte("\x00\x04"+idr))})
	require.NoError(t, err)
	require.Equal(t, nal(idr), p.packets[0].Payload)
	require.EqualValues(t, 0xff, p.announced[0][0].Config[4])

	a := audioFrame(0)
	p, _, err = demux([]message.Message{audioConfig(ascSmall), a})
	require.NoError(t, err)
	require.Same(t, &a.Payload[2], &p.packets[0].Payload[0])
	require.Equal(t, 23219955*time.Nanosecond, p.packets[0].Duration)
}

func TestMetadataHints(t *testing.T) {
	p, _, err := demux([]message.Message{onMetaData(t, amf.Property{Name: "videocodecid", Value: "avc1"},
		amf.Property{Name: "framerate", Value: 25.0}, amf.Property{Name: "videodatarate", Value: 2500.0},
		amf.Property{Name: "audiodatarate", Value: 0.0}), videoConfig(avcSmall), keyFrame(0)})
	require.NoError(t, err)
	require.Equal(t, 2_500_000, p.announced[0][0].Bitrate)
	require.InDelta(t, 25, p.announced[0][0].Video.FrameRate, 0.01)
}

func TestAnnouncementWaitsByTheWallClockToo(t *testing.T) {
	p := newPublication()
	now := time.Now()
	d := newDemuxer(p, new(media.Slab), now, func(err error) { t.Error(err) })
	feed := func(m message.Message) { require.NoError(t, d.message(&m, now)) }
	feed(onMetaData(t, amf.Property{Name: "hasVideo", Value: true}, amf.Property{Name: "hasAudio", Value: true}))
	feed(videoConfig(avcSmall))
	now = now.Add(ingest.AnnounceWait - time.Millisecond)
	feed(keyFrame(0))
	require.Empty(t, p.announced)
	now = now.Add(time.Millisecond)
	feed(interFrame(1))
	require.Len(t, p.announced, 1)
	require.Len(t, p.packets, 3)
	require.Equal(t, ingest.AnnounceWait, p.packets[2].Captured.Sub(d.start))
}

func TestHeldDataIsBounded(t *testing.T) {
	p := newPublication()
	d := newDemuxer(p, new(media.Slab), time.Now(), func(err error) { t.Error(err) })
	m := data(t, 0, "onTextData", strings.Repeat("x", 60_000))
	for range 1000 {
		require.NoError(t, d.message(&m, d.start))
	}
	require.LessOrEqual(t, d.heldBytes, maxHeldBytes)
	require.LessOrEqual(t, len(d.held), maxHeld)
}

func TestDemuxingAllocatesNothing(t *testing.T) {
	p := &discard{}
	now := time.Now()
	d := newDemuxer(p, new(media.Slab), now, func(err error) { t.Error(err) })
	for _, m := range []message.Message{videoConfig(avcSmall), audioConfig(ascSmall)} {
		require.NoError(t, d.message(&m, now))
	}
	v, a := interFrame(0), audioFrame(0)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		v.Timestamp += 40
		a.Timestamp += 40
		if d.message(&v, now) != nil || d.message(&a, now) != nil {
			t.Fatal("a frame was refused")
		}
	}))
	require.Positive(t, p.n)
}

// discard is a Publication that only counts.
type discard struct {
	publication
	n int
}

func (*discard) Announce([]*media.Track) error { return nil }
func (d *discard) Write(media.Packet) error    { d.n++; return nil }

func FuzzDemux(f *testing.F) {
	for _, tc := range demuxCases(f) {
		var b []byte
		for i := range tc.in {
			b = message.AppendSubMessage(b, &tc.in[i])
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var ms []message.Message
		a := message.NewAggregate(&message.Message{Payload: in})
		for {
			var m message.Message
			if more, err := a.Next(&m); err != nil || !more {
				break
			}
			ms = append(ms, m)
		}
		p, _, _ := demux(ms)
		known := map[*media.Track]bool{}
		for _, ts := range p.announced {
			for _, tr := range ts {
				known[tr] = true
			}
		}
		for _, q := range p.packets {
			require.True(t, known[q.Track], "packets point to announced tracks")
			require.GreaterOrEqual(t, q.PTS, q.DTS)
			require.NotEmpty(t, q.Payload)
		}
	})
}
