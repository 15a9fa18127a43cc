package rtmp

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/rtmp/flv"
)

// steady is a Gate and its Publication, which holds every packet to the time
// that the encoder gave it.
type steady struct {
	*publication
	step    time.Duration
	size    int
	packets [media.Data + 1]int
	wrong   []media.Packet
	end     chan struct{}
}

func (s *steady) Open(context.Context, ingest.Request) (ingest.Publication, error) { return s, nil }

func (s *steady) Write(p media.Packet) error {
	n := s.packets[p.Track.Kind]
	s.packets[p.Track.Kind]++
	if p.DTS != time.Duration(n)*s.step || p.Track.Kind == media.Video && len(p.Payload) != s.size {
		s.wrong = append(s.wrong, p)
	}
	return nil
}

func (s *steady) Close(error) { close(s.end) }

// TestLongStreams: the timestamps of RTMP need more than 24 bits after 4 h 39 m,
// in each chunk of a message, and come round after 49.7 days. Neither is seen.
func TestLongStreams(t *testing.T) {
	for about, c := range map[string]struct{ length, step time.Duration }{
		"five hours": {5 * time.Hour, 500 * time.Millisecond},
		"fifty days": {50 * 24 * time.Hour, 10 * time.Minute},
	} {
		t.Run(about, func(t *testing.T) {
			picture := nal(string(append([]byte{0x65}, bytes.Repeat([]byte("x"), 4200)...)))
			sink := &steady{publication: newPublication(), step: c.step, size: len(picture), end: make(chan struct{})}
			d := open(t, func(o *Options) { o.Gate = sink })
			conn, err := d.dial(t, "kLive?t=s3cret", "lobby_1")
			require.NoError(t, err)
			send(t, conn, videoConfig(avcSmall), audioConfig(ascSmall))
			n := int(c.length / c.step)
			for i := range n {
				stamp := uint32(time.Duration(i) * c.step / time.Millisecond) //nolint:gosec // wraps on purpose
				key, sound := video(stamp, flv.FrameKey, flv.PacketFrames, 0, picture), audioFrame(stamp)
				require.NoError(t, conn.Write(&key)) // two chunks
				require.NoError(t, conn.Write(&sound))
			}
			require.NoError(t, conn.Flush())
			require.NoError(t, conn.Unpublish("lobby_1"))
			await(t, sink.end, "end")
			require.Empty(t, sink.wrong)
			require.Equal(t, n, sink.packets[media.Video])
			require.Equal(t, n, sink.packets[media.Audio])
		})
	}
}

var (
	_ ingest.Gate        = (*steady)(nil)
	_ ingest.Publication = (*steady)(nil)
)
