package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	gosrt "github.com/datarhei/gosrt"

	"github.com/klive-media/klive/test/e2e/encoder"
)

// srtSpec is what is published over SRT: with the transport stream's own bytes 4.8 Mbit/s.
var srtSpec = encoder.Spec{Size: "960x540", Rate: 30, GOP: 60, Video: 4_470_000, Audio: 128_000, Seconds: 16}

const (
	srtPassphrase = "correct horse battery"
	srtMessage    = 7 * 188
	srtLoops      = 5 // of the clip in one transport stream: 80 s
)

// srtTask is the task of the SRT publisher.
type srtTask struct {
	Clip  string   `json:"clip"` // folder of the recording
	Host  string   `json:"host"`
	Names []string `json:"names"` // stream names
}

// srtDone is its last answer.
type srtDone struct {
	Bytes   int64  `json:"bytes"`   // of transport streams, handed to SRT
	Frames  []int  `json:"frames"`  // pictures begun, by stream
	Sent    uint64 `json:"sent"`    // packets, those sent again left out
	Again   uint64 `json:"again"`   // packets that were reported missing and sent again
	Dropped uint64 `json:"dropped"` // packets that SRT gave up
	Error   string `json:"error"`
}

// chunk is one message of a transport stream and when it is sent.
type chunk struct {
	at     time.Duration
	data   []byte
	frames int // pictures that begin in it
}

// makeTransport makes the transport stream with ffmpeg, or takes the one made before, and spreads its messages over time
// by its clock references.
func makeTransport(dir string) ([]chunk, error) {
	if _, err := encoder.Make(dir, srtSpec); err != nil {
		return nil, err
	}
	s := srtSpec
	clip := filepath.Join(dir, fmt.Sprintf("clip-%s-%d-%d-%d-%d-%d.flv", s.Size, s.Rate, s.GOP, s.Video, s.Audio, s.Seconds))
	path := filepath.Join(dir, fmt.Sprintf("transport-%d-%d.ts", s.Video, srtLoops))
	if _, err := os.Stat(path); err != nil {
		temporary := path + ".part"
		out, err := exec.Command("ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "error", "-y", "-stream_loop", strconv.Itoa(srtLoops-1),
			"-i", clip, "-c", "copy", "-f", "mpegts", temporary).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("make the transport stream with ffmpeg: %w: %s", err, out)
		}
		if err := os.Rename(temporary, path); err != nil {
			return nil, err
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return pace(b)
}

// pace gives each message its time: evenly between two clock references (ISO/IEC 13818-1, 2.4.3.5).
func pace(b []byte) ([]chunk, error) {
	type mark struct {
		at     time.Duration
		offset int
	}
	var marks []mark
	for i := 0; i+188 <= len(b); i += 188 {
		p := b[i : i+188]
		if p[3]&0x20 == 0 || p[4] < 7 || p[5]&0x10 == 0 {
			continue
		}
		base := uint64(p[6])<<25 | uint64(p[7])<<17 | uint64(p[8])<<9 | uint64(p[9])<<1 | uint64(p[10])>>7
		marks = append(marks, mark{time.Duration(base) * time.Second / 90000, i})
	}
	if len(marks) < 2 {
		return nil, errors.New("the transport stream has no clock")
	}
	var list []chunk
	m := 0
	for i := marks[0].offset; i+srtMessage <= marks[len(marks)-1].offset; i += srtMessage {
		for i >= marks[m+1].offset {
			m++
		}
		from, to := marks[m], marks[m+1]
		part := float64(i-from.offset) / float64(to.offset-from.offset)
		at := from.at - marks[0].at + time.Duration(part*float64(to.at-from.at))
		data := b[i : i+srtMessage : i+srtMessage]
		list = append(list, chunk{at, data, pictures(data)})
	}
	// The tables stand before the first clock reference: begin with them.
	head := b[:min(marks[0].offset/188*188, srtMessage)]
	if len(head) > 0 {
		list = append([]chunk{{0, head, pictures(head)}}, list...)
	}
	return list, nil
}

// videoPID is where ffmpeg puts the first picture track.
const videoPID = 0x100

// pictures counts those that begin in whole transport packets (ISO/IEC 13818-1, 2.4.3.2: payload_unit_start_indicator).
func pictures(b []byte) (n int) {
	for ; len(b) >= 188; b = b[188:] {
		if b[1]&0x40 != 0 && int(b[1]&0x1f)<<8|int(b[2]) == videoPID {
			n++
		}
	}
	return n
}

// srtPublisherRole publishes until its standard input ends. The SRT is not ours.
func srtPublisherRole(args []string) error {
	if len(args) != 1 {
		return errors.New("the task is missing")
	}
	var task srtTask
	if err := json.Unmarshal([]byte(args[0]), &task); err != nil {
		return err
	}
	list, err := makeTransport(task.Clip)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends when the parent says so
		cancel()
	}()
	ends := newEndings()
	conns := make([]gosrt.Conn, len(task.Names))
	for i, name := range task.Names {
		c := gosrt.DefaultConfig()
		c.StreamId, c.Passphrase, c.PBKeylen, c.Logger = "#!::r="+name+",m=publish,token="+secret, srtPassphrase, 16, ends
		if conns[i], err = gosrt.Dial("srt", task.Host, c); err != nil {
			return fmt.Errorf("publish %s: %w", name, err)
		}
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(onAir{len(conns)}); err != nil {
		return err
	}
	return out.Encode(playTransport(ctx, list, conns, ends))
}

// srtDrain is how long a publisher stays when all is sent: what libsrt still holds back for its latency would be lost.
const srtDrain = 500 * time.Millisecond

// playTransport sends the stream on all connections; their key frames are spread over the time between two.
func playTransport(ctx context.Context, list []chunk, conns []gosrt.Conn, ends *endings) srtDone {
	result := srtDone{Frames: make([]int, len(conns))}
	var mu sync.Mutex // guards result but for the elements of Frames
	var all sync.WaitGroup
	start := time.Now()
	gop := time.Duration(srtSpec.GOP) * time.Second / time.Duration(srtSpec.Rate)
	for i, c := range conns {
		all.Go(func() {
			begin := start.Add(gop * time.Duration(i) / time.Duration(len(conns)))
			sent := int64(0)
			var failed error
			for _, m := range list {
				if d := time.Until(begin.Add(m.at)); d > time.Millisecond && wait(ctx, d) != nil || ctx.Err() != nil {
					break
				}
				if _, err := c.Write(m.data); err != nil {
					failed = fmt.Errorf("after %v: %w", time.Since(begin).Round(time.Millisecond), ends.why(c.SocketId(), err))
					break
				}
				sent += int64(len(m.data))
				result.Frames[i] += m.frames
			}
			time.Sleep(srtDrain)
			var st gosrt.Statistics
			c.Stats(&st)
			_ = c.Close()
			mu.Lock()
			defer mu.Unlock()
			result.Bytes += sent
			result.Sent += st.Accumulated.PktSentUnique
			result.Again += st.Accumulated.PktRetrans
			result.Dropped += st.Accumulated.PktSendDrop
			if failed != nil {
				result.Error = failed.Error()
			}
		})
	}
	all.Wait()
	return result
}

// endings says how connections of gosrt ended: its io.EOF means that, or that a queue is full.
type endings struct {
	gosrt.Logger
	mu    sync.Mutex
	first map[uint32]string // by socket: what was logged first of its end
}

func newEndings() *endings {
	return &endings{Logger: gosrt.NewLogger([]string{"connection:close"}), first: make(map[uint32]string)}
}

// why explains an error of Write.
func (e *endings) why(socket uint32, err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		select {
		case line := <-e.Listen():
			if _, ok := e.first[line.SocketId]; !ok {
				e.first[line.SocketId] = line.Message
			}
			continue
		default:
		}
		break
	}
	if text, ok := e.first[socket]; ok {
		return fmt.Errorf("the connection is over (%s): %w", text, err)
	}
	return fmt.Errorf("the publisher's queue is full, this machine does not keep up: %w", err)
}
