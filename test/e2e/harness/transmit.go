package harness

import (
	"io"
	"os/exec"
	"testing"
)

// StartTransmit publishes a transport stream with srt-live-transmit, libsrt's own tool, until the test's end or until it
// is stopped. The stream is what an ffmpeg makes of the picture, in real time.
func StartTransmit(t *testing.T, address string, p Picture) *Encoder {
	t.Helper()
	media, err := pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer media.w.Close() // the children have their own
	defer media.r.Close()
	source := exec.Command("ffmpeg", append(p.args(), "-flush_packets", "1", "-f", "mpegts", "pipe:1")...)
	source.Stdout = media.w
	ffmpeg, err := StartProcess(source, outputFile(t.TempDir(), "ffmpeg"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ffmpeg.KillGroup)
	return StartTransmitOf(t, address, media.r)
}

// StartTransmitOf is StartTransmit with a transport stream that is there. srt-live-transmit reads it from a pipe, as it
// can not wait for a file, and stays connected when the stream is over.
func StartTransmitOf(t *testing.T, address string, stream io.Reader) *Encoder {
	t.Helper()
	cmd := exec.Command("srt-live-transmit", "-v", "-loglevel:note", "-a:no", "-chunk:1316", "file://con", address)
	cmd.Stdin = stream
	process, err := StartProcess(cmd, outputFile(t.TempDir(), "srt-live-transmit"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.KillGroup()
		if t.Failed() {
			t.Logf("srt-live-transmit says:\n%s", process.Tail(3000))
		}
	})
	return &Encoder{process}
}

// PublishNoisyClock is PublishClock with noise over the picture, so that it takes the bit rate of a camera's.
func PublishNoisyClock(dir, address string, keys int) (*Encoder, error) {
	return publishClock(dir, keys, "-vf", "noise=alls=16:allf=t", "-f", container(address), address)
}
