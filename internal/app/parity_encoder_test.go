package app

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/media/codec/clips"
)

// protocol is one way in, as its encoders see it. Everything in which the doors
// differ by nature stands here, as data; the rows of the table have no
// protocol of their own. Adding a protocol is one file with one of these.
type protocol struct {
	name string // what sessions say they came by
	// dial publishes as a says. The error is a refusal, or a failure.
	dial func(t testing.TB, s *site, a address) (encoder, error)
	// refused is dial of somebody who is to be turned away: the protocol's own
	// code and the words it brought, "" where there are none.
	refused func(t testing.TB, s *site, a address) (code, words string)
	// drops are what encoders do that never publish: they come and go before the
	// handshake, in the middle of it, and when they have been turned away.
	drops []func(t testing.TB, s *site, a address)
	// codes are the protocol's own for the reasons of refusals.
	codes map[fault.Reason]string
	// ends is what an encoder hears when its session ends for a reason.
	ends map[fault.Reason]string
	// times are where the clock of the wire does something of its own: the row
	// of timestamps begins a second before each.
	times map[string]time.Duration
	// tick is the resolution of the clock of the wire.
	tick time.Duration
	// data are the data packets that the protocol carries.
	data map[media.Codec]func(n int) []byte
}

// protocols are all of them.
func protocols() []*protocol { return []*protocol{rtmpProtocol(), rtmpsProtocol(), srtProtocol()} }

// address is where an encoder publishes, and from where.
type address struct {
	name, token string // stream name, as lobby_1
	from        netip.Addr
}

// ip is where the encoder is: on loopback, where nothing else is said.
func (a address) ip() net.IP {
	if !a.from.IsValid() {
		return net.IPv4(127, 0, 0, 1)
	}
	return a.from.AsSlice()
}

// encoder is one connection of an encoder that publishes.
type encoder interface {
	// Write sends frames, as fast as the connection takes them.
	Write(frames ...frame) error
	// Close ends the publication with the protocol's own goodbye.
	Close() error
	// Abort is the end of an encoder that is killed: whatever its system says for
	// it, it says itself nothing.
	Abort()
	// Ended waits until the server has ended the connection. It gives what the
	// server said, in the protocol's own words.
	Ended(t testing.TB) string
}

// frame is one picture, one frame of sound, or one piece of data. Its time has
// no wrap; the encoder puts it on its wire.
type frame struct {
	kind    media.Kind
	at      time.Duration // when it is decoded; it is shown by shown later
	shown   time.Duration
	key     bool
	picture *picture // in force, of video
	sound   *sound   // in force, of audio
	units   [][]byte // NAL units of a picture
	body    []byte   // of sound and data
	data    media.Codec
}

// picture is a configuration of video. An encoder sends it before the first
// frame of it.
type picture struct {
	codec         media.Codec
	width, height int
	sets          [][]byte // parameter sets
	record        []byte   // the same as avcC or hvcC
	key, inter    [][]byte
}

// sound is a configuration of AAC-LC in stereo.
type sound struct {
	rate   int
	index  byte   // samplingFrequencyIndex (14496-3 table 1.18)
	record []byte // AudioSpecificConfig
}

// Parameter sets as x264 makes them.
func pictureSmall() *picture {
	return avcPicture(320, 180, "\x67\x42\xc0\x0c\xda\x05\x06\x7e\x7c\x04\x40\x00\x00\x03\x00\x40\x00\x00\x0c\x83\xc5\x0a\xa8", "\x68\xce\x0f\xc8")
}

func pictureLarge() *picture {
	return avcPicture(640, 360, "\x67\x64\x00\x1e\xac\xd9\x40\xa0\x2f\xf9\x70\x11\x00\x00\x03\x00\x01\x00\x00\x03\x00\x3c\x0f\x16\x2d\x96", "\x68\xef\x8f\xcb")
}

// avcPicture makes the avcC (14496-15 §5.3.3.1.2) from the parameter sets.
func avcPicture(width, height int, sps, pps string) *picture {
	record := append([]byte{1, sps[1], sps[2], sps[3], 0xff, 0xe1, 0, byte(len(sps))}, sps...)
	record = append(append(record, 1, 0, byte(len(pps))), pps...)
	if sps[1] == 100 { // High: chroma format and bit depths follow
		record = append(record, 0xfd, 0xf8, 0xf8, 0)
	}
	return &picture{
		codec: media.H264, width: width, height: height, sets: [][]byte{[]byte(sps), []byte(pps)}, record: record,
		key: [][]byte{[]byte("\x65\x88\x84key frame")}, inter: [][]byte{[]byte("\x41\x9a\x24inter frame")},
	}
}

// hevcPicture is what x265 made.
var hevcPicture = sync.OnceValues(func() (*picture, error) {
	all, err := clips.All()
	if err != nil {
		return nil, err
	}
	c := all[0]
	p := &picture{codec: media.HEVC, record: c.Config}
	b := c.Config[23:] // the arrays of hvcC (14496-15 §8.3.3.1.2)
	for range c.Config[22] {
		n := int(binary.BigEndian.Uint16(b[1:]))
		b = b[3:]
		for range n {
			size := int(binary.BigEndian.Uint16(b))
			p.sets = append(p.sets, b[2:2+size])
			b = b[2+size:]
		}
	}
	p.key, p.inter = unitsOf(c.Samples[0].Payload), unitsOf(c.Samples[1].Payload)
	return p, nil
})

// unitsOf takes NAL units from behind their 4-byte lengths.
func unitsOf(b []byte) (list [][]byte) {
	for len(b) > 4 {
		size := int(binary.BigEndian.Uint32(b))
		list, b = append(list, b[4:4+size]), b[4+size:]
	}
	return list
}

// lengthPrefixed puts NAL units behind 4-byte lengths.
func lengthPrefixed(units [][]byte) (b []byte) {
	for _, u := range units {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(u))), u...) //nolint:gosec // a test's own
	}
	return b
}

func soundOf(rate int) *sound {
	if rate == 44100 {
		return &sound{rate: rate, index: 4, record: []byte{0x12, 0x10}}
	}
	return &sound{rate: 48000, index: 3, record: []byte{0x11, 0x90}}
}

// The pictures of a source: 25 a second, a key frame each second.
const (
	frameTime = 40 * time.Millisecond
	keyEvery  = 25
)

// source makes media: picture and sound on one clock, in the order of their
// times.
type source struct {
	picture *picture
	sound   *sound

	at    time.Duration // of the next picture
	heard time.Duration // of the next frame of sound
	since int           // pictures since the last key frame
}

// newSource begins at a time of the wire.
func newSource(at time.Duration) *source {
	return &source{picture: pictureSmall(), sound: soundOf(48000), at: at, heard: at}
}

// next is the media of the next d.
func (s *source) next(d time.Duration) (list []frame) {
	for end := s.at + d; s.at < end; s.at += frameTime {
		key := s.since%keyEvery == 0
		s.since++
		f := frame{kind: media.Video, at: s.at, shown: frameTime, key: key, picture: s.picture, units: s.picture.inter}
		if key {
			f.units = s.picture.key
		}
		list = append(list, f)
		for step := 1024 * time.Second / time.Duration(s.sound.rate); s.heard < s.at+frameTime; s.heard += step {
			list = append(list, frame{kind: media.Audio, at: s.heard, sound: s.sound, body: []byte("a frame of sound")})
		}
	}
	return list
}

// skip leaves out d of media, or jumps back.
func (s *source) skip(d time.Duration) { s.at, s.heard, s.since = s.at+d, s.heard+d, 0 }

// change takes another configuration, from the next key frame on.
func (s *source) change(p *picture, a *sound) { s.picture, s.sound, s.since = p, a, 0 }

// of are the frames of a kind.
func of(k media.Kind, frames []frame) (list []frame) {
	for _, f := range frames {
		if f.kind == k {
			list = append(list, f)
		}
	}
	return list
}

func mustHEVC(t testing.TB) *picture {
	t.Helper()
	p, err := hevcPicture()
	require.NoError(t, err)
	return p
}
