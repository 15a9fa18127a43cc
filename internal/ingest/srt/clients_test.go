package srt

import (
	"bytes"
	"context"
	"os/exec"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
)

// client runs a program that publishes and gives what it said.
func client(t testing.TB, input []byte, name string, args ...string) (output string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// ffmpeg publishes a second of a test picture and a tone.
func ffmpeg(t testing.TB, url string) (string, error) {
	t.Helper()
	return client(t, nil, "ffmpeg", "-nostdin", "-v", "verbose", "-re", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=1.5",
		"-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000:duration=1.5", "-c:v", "libx264", "-preset", "ultrafast",
		"-tune", "zerolatency", "-g", "25", "-c:a", "aac", "-f", "mpegts", url)
}

// clientCase is one address and what becomes of it.
type clientCase struct {
	about, query string // of the URL
	reason       fault.Reason
	says         string // in srt-live-transmit's log
}

const (
	clientPass = "correct horse battery"
	// appDefined is what srt-live-transmit says of every code that is not libsrt's.
	appDefined = "Application-defined rejection reason"
	// encoded is a stream id as Grammar.SRTPaste puts it into a URL.
	encoded = "%23%21%3A%3Ar%3Dlobby_1%2Cm%3Dpublish%2Ctoken%3Ds3cret"
)

var clientCases = []clientCase{
	{about: "encoded stream id", query: "passphrase=" + clientPass + "&streamid=" + encoded},
	{about: "256 bits, raw stream id", query: "passphrase=" + clientPass + "&pbkeylen=32&streamid=#!::r=lobby_1,m=publish,token=s3cret"},
	{about: "short form", query: "passphrase=" + clientPass + "&streamid=publish:lobby_1:s3cret"},
	{about: "wrong passphrase", query: "passphrase=" + clientPass + "s&streamid=" + encoded, says: "Incorrect passphrase"},
	{about: "no passphrase", query: "streamid=" + encoded, says: "Password required or unexpected"},
	{about: "bad token", query: "passphrase=" + clientPass + "&streamid=publish:lobby_1:wrong", reason: fault.BadToken, says: appDefined},
	{about: "unknown stream", query: "passphrase=" + clientPass + "&streamid=publish:hall_1:s3cret", reason: fault.StreamNotFound, says: appDefined},
	{about: "bad stream id", query: "passphrase=" + clientPass + "&streamid=lobby", reason: fault.MissingArgument, says: appDefined},
}

func clientDoor(t testing.TB) *door {
	t.Helper()
	return open(t, tokenGate(), func(o *Options) { o.ServerPassphrase = clientPass })
}

func TestFFmpegPublishes(t *testing.T) {
	d := clientDoor(t)
	for _, c := range clientCases {
		t.Run(c.about, func(t *testing.T) {
			out, err := ffmpeg(t, "srt://"+d.addr.String()+"?mode=caller&"+c.query)
			if c.says != "" {
				require.Error(t, err)
				require.Contains(t, out, "Input/output error", "ffmpeg shows no code")
				require.NotZero(t, c.reason == "" || d.stats.Refused()[c.reason] > 0)
				return
			}
			require.NoError(t, err, out)
			checkPublished(t, d, 5)
		})
	}
}

// checkPublished looks at the publication of a client that is done.
func checkPublished(t testing.TB, d *door, pictures int) {
	t.Helper()
	p := await(t, d.gate.opened, "publication")
	await(t, p.closed, "end")
	require.Equal(t, fault.Unpublished, fault.ReasonOf(p.ended()))
	n := map[media.Kind]int{}
	for _, q := range p.written() {
		n[q.Track.Kind]++
	}
	// What is still held back for the latency when the client leaves is lost.
	require.GreaterOrEqual(t, n[media.Video], pictures)
	require.GreaterOrEqual(t, n[media.Audio], pictures)
	require.Zero(t, p.request.Counters.BadMessages.Load())
}

func TestSRTLiveTransmitPublishes(t *testing.T) {
	d := clientDoor(t)
	stream := slices.Concat(messages(t, 50, 1)...)
	for _, c := range clientCases {
		t.Run(c.about, func(t *testing.T) {
			out, err := client(t, stream, "srt-live-transmit", "-v", "-loglevel:note", "-a:no", "-to:1", "file://con", "srt://"+d.addr.String()+"?mode=caller&"+c.query)
			if c.says != "" {
				require.Contains(t, out, c.says)
				require.Empty(t, d.gate.opened)
				return
			}
			require.NoError(t, err, out)
			p := await(t, d.gate.opened, "publication")
			await(t, p.closed, "end")
			require.True(t, p.request.Counters.Link.Encrypted.Load())
		})
	}
}
