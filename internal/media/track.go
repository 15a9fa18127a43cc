package media

import (
	"bytes"
	"fmt"
)

// TrackID tells the tracks of one stream apart. It is unique among all tracks
// of all renditions of a stream, so that segments of different tracks can
// stand together under one init section. 0 is not a track.
type TrackID uint32

// TrackIDs of a rendition are made of its ingest index (1 to 9999), the kind,
// and a number within the kind (0 to 15): see NewTrackID.
const (
	// MaxTracksPerKind is how many tracks of one kind a rendition can have.
	MaxTracksPerKind = 16
	trackNumbers     = MaxTracksPerKind
	trackKinds       = 4
)

// NewTrackID gives the ID of the n-th track (from 0) of a kind in the
// rendition with this ingest index.
func NewTrackID(index int, k Kind, n int) TrackID {
	return TrackID(index*trackKinds*trackNumbers + int(k)*trackNumbers + n%trackNumbers)
}

// Kind is what a track carries.
type Kind uint8

// The kinds of tracks.
const (
	UnknownKind Kind = iota
	Video
	Audio
	Data
)

// String is "video", "audio", "data" or "unknown".
func (k Kind) String() string {
	switch k {
	case Video:
		return "video"
	case Audio:
		return "audio"
	case Data:
		return "data"
	}
	return "unknown"
}

// VideoInfo is what the codec configuration says of the picture.
type VideoInfo struct {
	Width, Height int // pixels, as coded and cropped, before sample aspect
	// SARNum and SARDen are the sample aspect ratio; 0 when not said.
	SARNum, SARDen int
	// FrameRate in frames per second as the configuration or the sender's
	// metadata says; 0 when unknown. It is a hint, never a clock.
	FrameRate float64
	// Color says what the numbers of the picture mean; zero when unknown.
	Color Color
}

// AudioInfo is what the codec configuration says of the sound.
type AudioInfo struct {
	SampleRate int // Hz, of the decoded sound
	Channels   int
	// FrameSamples is the number of samples of one packet at SampleRate; 0 when
	// it varies.
	FrameSamples int
}

// Track is the immutable description of one elementary stream. A change makes
// a new Track with the same ID.
type Track struct {
	ID    TrackID
	Kind  Kind
	Codec Codec
	// TimeScale in ticks per second is what the sender counts in: 1000 for
	// RTMP, 90000 for MPEG-TS. Outputs choose their own.
	TimeScale uint32
	// Config is the codec's configuration as an ISO-BMFF sample entry holds it:
	// the body of avcC, hvcC, av1C, vpcC, dOps, dfLa, dac3 or dec3 (version and
	// flags included where the box has them), an AudioSpecificConfig; empty for
	// MP3. It is owned by the Track and never written.
	Config []byte
	// CodecString is the RFC 6381 name, such as "avc1.64001f" or "mp4a.40.2";
	// "" for data.
	CodecString string
	Video       VideoInfo
	Audio       AudioInfo
	// Language is an RFC 5646 tag; "" when unknown.
	Language string
	// Bitrate in bit/s as the sender announced it; 0 when not said.
	Bitrate int
}

// SameConfig reports whether a decoder set up for t can decode o and shows it
// right, so that no new init section is needed between them. Size, colour and
// sound layout count beside the configuration, as that of some codecs does not
// say them (VP9, MP3) and an init section does.
func (t *Track) SameConfig(o *Track) bool {
	return t == o || t != nil && o != nil &&
		t.ID == o.ID && t.Kind == o.Kind && t.Codec == o.Codec &&
		t.Video.Width == o.Video.Width && t.Video.Height == o.Video.Height && t.Video.Color == o.Video.Color &&
		t.Audio.SampleRate == o.Audio.SampleRate && t.Audio.Channels == o.Audio.Channels &&
		bytes.Equal(t.Config, o.Config)
}

// String is a short description for logs, such as
// "video 68 avc1.64001f 1280x720".
func (t *Track) String() string {
	name := t.CodecString
	if name == "" {
		name = t.Codec.String()
	}
	switch t.Kind {
	case Video:
		return fmt.Sprintf("video %d %s %dx%d", t.ID, name, t.Video.Width, t.Video.Height)
	case Audio:
		return fmt.Sprintf("audio %d %s %d Hz %d ch", t.ID, name, t.Audio.SampleRate, t.Audio.Channels)
	}
	return fmt.Sprintf("%s %d %s", t.Kind, t.ID, name)
}
