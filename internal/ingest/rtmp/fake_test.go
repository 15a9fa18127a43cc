package rtmp

import (
	"context"
	"encoding/hex"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/rtmp/amf"
	"github.com/klive-media/klive/internal/rtmp/flv"
	"github.com/klive-media/klive/internal/rtmp/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// Configurations as x264 and ffmpeg's AAC encoder make them.
var (
	avcSmall = unhex("0142c00cffe100176742c00cda05067e7c0440000003004000000c83c50aa801000468ce0fc8")               // 320x180
	avcLarge = unhex("0164001effe1001a6764001eacd940a02ff970110000030001000003003c0f162d9601000468ef8fcbfdf8f800") // 640x360
	ascSmall = unhex("1210")                                                                                       // 44100 Hz stereo
	ascLarge = unhex("1190")                                                                                       // 48000 Hz stereo
)

// nal puts NAL units behind 4-byte lengths.
func nal(units ...string) []byte {
	var b []byte
	for _, u := range units {
		b = append(b, byte(len(u)>>24), byte(len(u)>>16), byte(len(u)>>8), byte(len(u)))
		b = append(b, u...)
	}
	return b
}

// The first bytes of slices: an IDR picture, one that is needed, one that is not.
const (
	idr        = "\x65idr"
	reference  = "\x41reference"
	disposable = "\x01disposable"
)

func video(stamp uint32, frame flv.FrameType, packet flv.PacketType, composition int32, body []byte) message.Message {
	b := flv.AppendVideo(nil, flv.Video{Frame: frame, Codec: flv.VideoAVC, Packet: packet, CompositionTime: composition})
	return message.Message{Type: message.TypeVideo, Timestamp: stamp, StreamID: 1, Payload: append(b, body...)}
}

func videoConfig(avcC []byte) message.Message {
	return video(0, flv.FrameKey, flv.PacketConfig, 0, avcC)
}

func keyFrame(stamp uint32) message.Message {
	return video(stamp, flv.FrameKey, flv.PacketFrames, 0, nal(idr))
}

func interFrame(stamp uint32) message.Message {
	return video(stamp, flv.FrameInter, flv.PacketFrames, 0, nal(reference))
}

func audio(stamp uint32, packet flv.PacketType, body []byte) message.Message {
	b := flv.AppendAudio(nil, flv.Audio{Codec: flv.AudioAAC, Packet: packet})
	return message.Message{Type: message.TypeAudio, Timestamp: stamp, StreamID: 1, Payload: append(b, body...)}
}

func audioConfig(asc []byte) message.Message { return audio(0, flv.PacketConfig, asc) }

func audioFrame(stamp uint32) message.Message { return audio(stamp, flv.PacketFrames, []byte("aac")) }

func data(t testing.TB, stamp uint32, name string, values ...amf.Value) message.Message {
	m, err := message.NewData(1, name, values...)
	require.NoError(t, err)
	m.Timestamp = stamp
	return m
}

func onMetaData(t testing.TB, properties ...amf.Property) message.Message {
	return data(t, 0, "onMetaData", amf.ECMAArray(properties))
}

// publication is a Publication that remembers.
type publication struct {
	request ingest.Request
	done    chan struct{}
	closed  chan struct{} // closed with Close

	mu        sync.Mutex // guards the fields below
	announced [][]*media.Track
	packets   []media.Packet
	cause     error // of the dismissal
	end       error // what Close was given
	isClosed  bool
	refuse    error // what Announce answers
	panics    bool  // whether Write does
	grown     chan struct{}
}

func newPublication() *publication {
	return &publication{done: make(chan struct{}), closed: make(chan struct{}), grown: make(chan struct{}, 1)}
}

func (p *publication) Announce(tracks []*media.Track) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.announced = append(p.announced, tracks)
	return p.refuse
}

func (p *publication) Write(q media.Packet) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.panics {
		panic("a test wants it so")
	}
	p.packets = append(p.packets, q)
	select {
	case p.grown <- struct{}{}:
	default:
	}
	return p.cause
}

func (p *publication) Done() <-chan struct{} { return p.done }

func (p *publication) Cause() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cause
}

func (p *publication) Close(cause error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.isClosed {
		p.isClosed, p.end = true, cause
		close(p.closed)
	}
}

func (p *publication) dismiss(cause error) {
	p.mu.Lock()
	p.cause = cause
	p.mu.Unlock()
	close(p.done)
}

func (p *publication) written() []media.Packet {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.packets
}

// gate is a Gate that lets in, or not.
type gate struct {
	refuse error
	opened chan *publication
	// prepare, when there, may change the publication before it is handed out.
	prepare func(*publication)
}

func newGate() *gate { return &gate{opened: make(chan *publication, 16)} }

func (g *gate) Open(_ context.Context, r ingest.Request) (ingest.Publication, error) {
	if g.refuse != nil {
		return nil, g.refuse
	}
	p := newPublication()
	p.request = r
	if g.prepare != nil {
		g.prepare(p)
	}
	g.opened <- p
	return p, nil
}
