package harness

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/klive-media/klive/test/e2e/stamp"
)

// Picture says what ffmpeg generates and how it encodes it. The zero value is a 320x180 test picture with 30 frames a
// second, a key frame every second, and a tone.
type Picture struct {
	Size     string  // "320x180"
	Rate     int     // frames a second
	GOP      int     // frames from key frame to key frame
	Filter   string  // further video filters
	NoAudio  bool    // leave the sound out
	NoVideo  bool    // leave the picture out
	Bitrate  string  // of the picture; empty: 400k
	Duration float64 // seconds; 0: until stopped
	BFrames  int
	Extra    []string // further output options
}

func (p Picture) withDefaults() Picture {
	if p.Size == "" {
		p.Size = "320x180"
	}
	if p.Rate == 0 {
		p.Rate = 30
	}
	if p.GOP == 0 {
		p.GOP = p.Rate
	}
	if p.Bitrate == "" {
		p.Bitrate = "400k"
	}
	return p
}

// args are ffmpeg's arguments up to the output.
func (p Picture) args() []string {
	p = p.withDefaults()
	args := []string{"-hide_banner", "-nostdin", "-loglevel", "info", "-nostats"}
	if !p.NoVideo {
		picture := "testsrc2=size=" + p.Size + ":rate=" + strconv.Itoa(p.Rate)
		if p.Filter != "" {
			picture += "," + p.Filter
		}
		args = append(args, "-re", "-f", "lavfi", "-i", picture)
	}
	if !p.NoAudio {
		args = append(args, "-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000")
	}
	if !p.NoVideo {
		gop := strconv.Itoa(p.GOP)
		args = append(args, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", gop, "-keyint_min", gop,
			"-sc_threshold", "0", "-bf", strconv.Itoa(p.BFrames), "-b:v", p.Bitrate, "-maxrate", p.Bitrate, "-bufsize", p.Bitrate, "-threads", "1")
		if p.BFrames == 0 {
			args = append(args, "-tune", "zerolatency")
		}
	}
	if !p.NoAudio {
		args = append(args, "-c:a", "aac", "-b:a", "64k", "-ac", "1")
	}
	if p.Duration > 0 {
		args = append(args, "-t", strconv.FormatFloat(p.Duration, 'f', 3, 64))
	}
	return append(args, p.Extra...)
}

// Encoder is an ffmpeg that publishes.
type Encoder struct{ *Process }

// encoders numbers the output files of this process.
var encoders atomic.Int64

// outputFile is a new file below dir for the output of a program.
func outputFile(dir, program string) string {
	return filepath.Join(dir, program+"-"+strconv.FormatInt(encoders.Add(1), 10)+".log")
}

// Publish starts ffmpeg, which encodes the picture in real time and sends it to the address; its output goes to a file
// below dir.
func Publish(dir, address string, p Picture) (*Encoder, error) {
	cmd := exec.Command("ffmpeg", append(p.args(), "-f", container(address), address)...)
	process, err := StartProcess(cmd, outputFile(dir, "ffmpeg"))
	if err != nil {
		return nil, err
	}
	return &Encoder{process}, nil
}

// container is what carries media to an address.
func container(address string) string {
	if strings.HasPrefix(address, "srt:") {
		return "mpegts"
	}
	return "flv"
}

// Freeze stops the encoder in its tracks: its connection stays open and nothing is sent.
func (e *Encoder) Freeze() { e.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen encoder go on.
func (e *Encoder) Thaw() { e.Signal(syscall.SIGCONT) }

// Kill kills the encoder: its connection is closed by the kernel, without a goodbye in RTMP.
func (e *Encoder) Kill() { e.KillGroup() }

// Stop ends the encoder in good order: it says goodbye.
func (e *Encoder) Stop() {
	e.Signal(syscall.SIGINT)
	if !e.Wait(10 * time.Second) {
		e.KillGroup()
	}
}

// Run runs a program to its end and returns what it wrote to standard output and to standard error.
func Run(timeout time.Duration, name string, args ...string) (stdout, stderr string, err error) {
	var out, diag strings.Builder
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &diag
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return "", "", err
	}
	timer := time.AfterFunc(timeout, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer timer.Stop()
	err = cmd.Wait()
	return out.String(), diag.String(), err
}

// PublishClock publishes a picture that carries the clock (package stamp) with a beep every second, encoded as an
// encoder at low latency does, with a key frame every keys pictures.
func PublishClock(dir, address string, keys int) (*Encoder, error) {
	return publishClock(dir, keys, "-f", container(address), address)
}

func publishClock(dir string, keys int, output ...string) (*Encoder, error) {
	picture, err := pipe()
	if err != nil {
		return nil, err
	}
	defer picture.r.Close()
	sound, err := pipe()
	if err != nil {
		picture.w.Close()
		return nil, err
	}
	defer sound.r.Close()
	args := []string{"-hide_banner", "-nostdin", "-loglevel", "info", "-nostats", "-fflags", "nobuffer",
		"-probesize", "32", "-analyzeduration", "0", "-f", "rawvideo", "-pix_fmt", "yuv420p",
		"-video_size", fmt.Sprintf("%dx%d", stamp.Width, stamp.Height), "-framerate", strconv.Itoa(stamp.Rate), "-i", "pipe:3",
		"-f", "s16le", "-ar", strconv.Itoa(stamp.SampleRate), "-ac", "1", "-i", "pipe:4",
		"-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-profile:v", "baseline", "-g", strconv.Itoa(keys),
		"-keyint_min", strconv.Itoa(keys), "-sc_threshold", "0", "-b:v", "1500k", "-maxrate", "1500k", "-bufsize", "750k", "-threads", "1",
		"-c:a", "aac", "-b:a", "96k", "-flush_packets", "1"}
	cmd := exec.Command("ffmpeg", append(args, output...)...)
	cmd.ExtraFiles = []*os.File{picture.r, sound.r}
	p, err := StartProcess(cmd, outputFile(dir, "ffmpeg-clock"))
	if err != nil {
		picture.w.Close()
		sound.w.Close()
		return nil, err
	}
	feed := func(w *os.File, write func(io.Writer) error) {
		defer w.Close()
		_ = write(w) // ends when ffmpeg does
	}
	go feed(picture.w, stamp.Write)
	go feed(sound.w, stamp.WriteSound)
	return &Encoder{p}, nil
}

// ends are both ends of a pipe.
type ends struct{ r, w *os.File }

func pipe() (ends, error) {
	r, w, err := os.Pipe()
	return ends{r, w}, err
}
