package rtmp

import (
	"context"
	"net/url"
	"slices"
	"testing"

	"github.com/bluenviron/gortmplib"
	"github.com/bluenviron/gortmplib/pkg/codecs"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/av1"
	peerflac "github.com/bluenviron/mediacommon/v2/pkg/codecs/flac"
	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
	peeropus "github.com/bluenviron/mediacommon/v2/pkg/codecs/opus"
	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/clips"
	"github.com/klive-media/klive/internal/media/codec/flac"
	"github.com/klive-media/klive/internal/media/codec/hevc"
)

// peer publishes clips with gortmplib, which has its own idea of Enhanced
// RTMP.
type peer struct {
	t *testing.T
	w *gortmplib.Writer
}

// track is a clip as gortmplib describes it.
func (p *peer) track(c *clips.Clip) *gortmplib.Track {
	switch c.Codec {
	case media.HEVC:
		sets, err := hevc.ParseConfig(c.Config)
		require.NoError(p.t, err)
		return &gortmplib.Track{Codec: &codecs.H265{VPS: sets.VPS[0], SPS: sets.SPS[0], PPS: sets.PPS[0]}}
	case media.AV1:
		return &gortmplib.Track{Codec: &codecs.AV1{}}
	case media.VP9:
		return &gortmplib.Track{Codec: &codecs.VP9{}}
	case media.Opus:
		return &gortmplib.Track{Codec: &codecs.Opus{IDHeader: &peeropus.IDHeader{Version: 1, ChannelCount: 2, PreSkip: 312, InputSampleRate: 48000}}}
	case media.FLAC:
		own, err := flac.ParseConfig(c.Config)
		require.NoError(p.t, err)
		info := new(peerflac.StreamInfo)
		require.NoError(p.t, info.Unmarshal(own.Info))
		return &gortmplib.Track{Codec: &codecs.FLAC{StreamInfo: info}}
	case media.AC3:
		return &gortmplib.Track{Codec: &codecs.AC3{SampleRate: 48000, ChannelCount: 2}}
	case media.MP3:
		return &gortmplib.Track{Codec: &codecs.MPEG1Audio{}}
	}
	p.t.Fatal(c.Name)
	return nil
}

// write sends one sample.
func (p *peer) write(c *clips.Clip, to *gortmplib.Track, s clips.Sample) {
	dts, pts := media.FromTicks(s.DTS, c.Scale), media.FromTicks(s.DTS+s.Offset, c.Scale)
	var err error
	switch c.Codec {
	case media.HEVC:
		var units h264.AVCC
		require.NoError(p.t, units.Unmarshal(s.Payload))
		err = p.w.WriteH265(to, pts, dts, units)
	case media.AV1:
		var units av1.Bitstream
		require.NoError(p.t, units.Unmarshal(s.Payload))
		err = p.w.WriteAV1(to, pts, units)
	case media.VP9:
		err = p.w.WriteVP9(to, pts, s.Payload)
	case media.Opus:
		err = p.w.WriteOpus(to, pts, s.Payload)
	case media.FLAC:
		err = p.w.WriteFLAC(to, pts, s.Payload)
	case media.AC3:
		err = p.w.WriteAC3(to, pts, s.Payload)
	case media.MP3:
		err = p.w.WriteMPEG1Audio(to, pts, s.Payload)
	}
	require.NoError(p.t, err)
}

// TestGortmplibPublishesManyTracks sends seven tracks of seven codecs over one
// connection.
func TestGortmplibPublishesManyTracks(t *testing.T) {
	d := open(t, nil)
	u, err := url.Parse("rtmp://" + d.addr + "/kLive/lobby_1?t=s3cret")
	require.NoError(t, err)
	c := &gortmplib.Client{URL: u, Publish: true}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, c.Initialize(ctx))
	p := peer{t: t}
	want := map[string]int{"hevc": 1, "av1": 2, "vp9": 3, "opus": 1, "flac": 1000, "ac3": 1001, "mp3": 1002}
	var order []*clips.Clip
	var tracks []*gortmplib.Track
	for _, name := range []string{"hevc", "av1", "vp9", "opus", "flac", "ac3", "mp3"} {
		clip := clipOf(t, name)
		order, tracks = append(order, clip), append(tracks, p.track(clip))
	}
	p.w = &gortmplib.Writer{Conn: c, Tracks: tracks}
	require.NoError(t, p.w.Initialize())
	const samples = 20
	for i := range samples {
		for k, clip := range order {
			p.write(clip, tracks[k], clip.Samples[i])
		}
	}
	byIndex := map[int]*publication{}
	for range 6 {
		q := await(t, d.gate.opened, "publication")
		byIndex[q.request.Index] = q
	}
	of := func(clip *clips.Clip) (out []media.Packet) {
		q := byIndex[want[clip.Name]]
		require.NotNil(t, q, clip.Name)
		for _, x := range q.written() {
			if x.Track.Kind == clip.Codec.Kind() {
				out = append(out, x)
			}
		}
		return out
	}
	// What came while the gate was asked is let go with the next packet.
	next := samples
	feeding(t, func() bool {
		for k, clip := range order {
			p.write(clip, tracks[k], clip.Samples[next%len(clip.Samples)])
		}
		next++
		return !slices.ContainsFunc(order, func(c *clips.Clip) bool { return len(of(c)) <= samples })
	})
	for _, clip := range order {
		name := clip.CodecString
		if clip.Codec == media.VP9 {
			name = "vp09.00.40.08" // gortmplib says level 4 of every picture
		}
		for i, x := range of(clip) {
			s := clip.Samples[i%len(clip.Samples)]
			require.Equal(t, name, x.Track.CodecString)
			require.Equal(t, string(s.Payload), string(x.Payload), "%s %d", clip.Name, i)
			require.Equal(t, s.Key, x.Flags.Has(media.Key))
		}
	}
	c.Close()
	for _, q := range byIndex {
		await(t, q.closed, "close")
	}
	require.Zero(t, d.stats.RefusedTracks.Load())
	require.Zero(t, d.stats.BadMessages.Load())
}
