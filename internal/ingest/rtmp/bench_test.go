package rtmp

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/rtmp/message"
)

// mapping is a demuxer on air and a second of media: 30 pictures of 16 kB and
// 43 frames of sound, as an encoder at 4 Mbit/s sends them.
func mapping(t testing.TB, config message.Message, picture func(stamp uint32, body []byte) message.Message) (*demuxer, *discard, []message.Message) {
	pub := new(discard)
	d := newDemuxer(pub, new(media.Slab), time.Unix(1e9, 0), func(err error) { t.Fatal(err) })
	ac := audioConfig(ascSmall)
	require.NoError(t, d.message(&config, time.Unix(1e9, 0)))
	require.NoError(t, d.message(&ac, time.Unix(1e9, 0)))
	var ms []message.Message
	body := bytes.Repeat([]byte{0xa5}, 16<<10)
	for i := range uint32(30) {
		ms = append(ms, picture(i*33, body), audioFrame(i*33))
	}
	return d, pub, ms
}

func avcPicture(stamp uint32, body []byte) message.Message {
	m := interFrame(stamp)
	m.Payload = append(m.Payload[:5:5], nal("\x41"+string(body))...)
	return m
}

func BenchmarkDemux(b *testing.B) {
	d, pub, ms := mapping(b, videoConfig(avcLarge), avcPicture)
	now := time.Unix(1e9, 0)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		for i := range ms {
			if err := d.message(&ms[i], now); err != nil {
				b.Fatal(err)
			}
		}
	}
	require.Equal(b, b.N*len(ms), pub.n)
}
