// Package stamp draws pictures that carry the wall clock so that a machine can read it: 40 black or white blocks in
// the top row are the milliseconds of the Unix time modulo 2^32, the highest bit first, and a check byte. Below it a
// bar moves, so that a person sees that the picture lives.
package stamp

import (
	"encoding/binary"
	"io"
	"math"
	"time"
)

// The picture's format: planar YUV 4:2:0, as ffmpeg's yuv420p.
const (
	Width  = 640
	Height = 360
	Rate   = 30

	block = 16
	bits  = Width / block
)

// SampleRate is of the sound that WriteSound makes: signed 16 bit, little endian, mono.
const SampleRate = 48000

const (
	black, white, grey = 16, 235, 90
	check              = 0x5a
)

// Size is the size of a picture in bytes.
const Size = Width * Height * 3 / 2

// Draw draws the picture of the moment into dst, which has Size bytes.
func Draw(dst []byte, now time.Time) {
	luma, chroma := dst[:Width*Height], dst[Width*Height:]
	for i := range luma {
		luma[i] = grey
	}
	for i := range chroma {
		chroma[i] = 128
	}
	// A bar crosses the picture every two seconds.
	x := int(now.UnixMilli() % 2000 * (Width - 2*block) / 2000)
	for y := 4 * block; y < Height-4*block; y++ {
		for i := range 2 * block {
			luma[y*Width+x+i] = white
		}
	}
	var code [bits / 8]byte
	binary.BigEndian.PutUint32(code[:], uint32(now.UnixMilli())) //nolint:gosec // modulo 2^32 is what we want
	code[4] = code[0] ^ code[1] ^ code[2] ^ code[3] ^ check
	for i := range bits {
		v := byte(black)
		if code[i/8]>>(7-i%8)&1 == 1 {
			v = white
		}
		for y := range block {
			for k := range block {
				luma[y*Width+i*block+k] = v
			}
		}
	}
}

// Write writes pictures to w in real time, at Rate, until a write fails: the encoder ended.
func Write(w io.Writer) error {
	picture := make([]byte, Size)
	start := time.Now()
	for n := 0; ; n++ {
		wait(start, time.Duration(n)*time.Second/Rate)
		Draw(picture, time.Now())
		if _, err := w.Write(picture); err != nil {
			return err
		}
	}
}

// WriteSound writes a beep of 100 ms at each full second to w, in real time, until a write fails.
func WriteSound(w io.Writer) error {
	const slice = SampleRate / 50
	sound := make([]byte, 2*slice)
	start := time.Now()
	for n := 0; ; n++ {
		wait(start, time.Duration(n)*time.Second/50)
		for i := range slice {
			t := float64((n*slice+i)%SampleRate) / SampleRate
			v := 0.0
			if t < 0.1 {
				v = 8000 * math.Sin(2*math.Pi*1000*t)
			}
			binary.LittleEndian.PutUint16(sound[2*i:], uint16(int16(v))) //nolint:gosec // two's complement
		}
		if _, err := w.Write(sound); err != nil {
			return err
		}
	}
}

// wait waits until start plus at.
func wait(start time.Time, at time.Duration) {
	if d := time.Until(start.Add(at)); d > 0 {
		<-time.After(d)
	}
}
