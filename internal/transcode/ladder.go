// Package transcode is how a source becomes several renditions: the ladder
// that says which, and later the engine that makes them.
//
// Ladder is the type to read first.
package transcode

import (
	"fmt"
	"time"

	"github.com/klive-media/klive/internal/media"
)

// Ladder is the renditions that are wanted of a source, in the order in which
// whoever asked for them listed them.
type Ladder []Rung

// Rung is one rendition of a ladder.
type Rung struct {
	// ID is the rendition's name in addresses, such as "720p", or the flavor
	// params id of a Kaltura entry.
	ID   string
	Name string   // for people
	Tags []string // free; a playlist may be asked for by tag
	// Ingest: the rendition is the stream that its publisher sends. Of it only
	// what is no Copy is ever made, and that only where the publisher sends
	// something else.
	Ingest bool
	Video  *VideoOut // nil: no picture
	Audio  *AudioOut // nil: no sound
}

// VideoOut is how a picture is made. With Copy only the fields that limit what
// may be copied count.
type VideoOut struct {
	Copy          bool // the source's picture as it is
	Codec         media.Codec
	Profile       string // "baseline", "main", "high"; "": the encoder's choice
	Width, Height int    // pixels; 0: follows from Fit
	Fit           Fit
	Bitrate       int           // bit/s; 0: follow the source
	MaxBitrate    int           // bit/s; 0: the encoder's choice
	Constant      bool          // a constant bitrate is asked for
	FrameRate     Rational      // 0/0: the source's
	SkipFrames    int           // frames left out after each one that is kept; 0: none
	KeyInterval   time.Duration // 0: on the source's key frames
	KeyFrames     int           // most frames between key frames; 0: KeyInterval counts
}

// AudioOut is how a sound is made.
type AudioOut struct {
	Copy       bool // the source's sound as it is
	Codec      media.Codec
	Bitrate    int    // bit/s; 0: follow the source
	SampleRate int    // Hz; 0: the source's
	Channels   int    // 0: the source's
	Language   string // RFC 5646; "": the source's
}

// Fit is how a picture is brought to a size.
type Fit uint8

// The ways.
const (
	FitSource Fit = iota // the source's size
	FitWidth             // Width is given, the height follows
	FitHeight            // Height is given, the width follows
	FitBox               // both are given
)

var fitNames = [...]string{"match-source", "fit-width", "fit-height", "fit-box"}

// String is the way in the words of the API.
func (f Fit) String() string {
	if int(f) < len(fitNames) {
		return fitNames[f]
	}
	return fitNames[FitSource]
}

// Rational is a fraction, such as 30000/1001 frames per second; 0/0 is
// unknown.
type Rational struct{ Num, Den int }

// Float is the value; 0 when it is unknown.
func (r Rational) Float() float64 {
	if r.Den == 0 {
		return 0
	}
	return float64(r.Num) / float64(r.Den)
}

// String is the fraction as it is written.
func (r Rational) String() string { return fmt.Sprintf("%d/%d", r.Num, r.Den) }
