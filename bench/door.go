package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"time"

	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/ingest/rtmp"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/pipeline"
)

// doorRole is the server cut down to its way in: the RTMP door, the repair of time, and the Log, as the server has
// them, and nobody who reads the Log. It shows what ingest costs without segments, which the server itself cannot be
// told to leave out.
func doorRole([]string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(l.Addr().String()); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return rtmp.New(rtmp.Options{Listener: l, Gate: openGate{}, Grammar: ingest.CatalogGrammar("kLive")}).Run(ctx)
}

// openGate lets everybody in.
type openGate struct{}

func (openGate) Open(context.Context, ingest.Request) (ingest.Publication, error) {
	weigh := func(p *media.Packet) (int, time.Duration) { return len(p.Payload), p.DTS }
	return &logged{log: pipeline.NewLog(pipeline.Bounds{}, weigh), time: pipeline.NewNormalizer(pipeline.NormalizerOptions{})}, nil
}

// logged writes a publication into a Log.
type logged struct {
	log  *pipeline.Log[media.Packet]
	time *pipeline.Normalizer
	slab media.PacketSlab
}

func (l *logged) Announce([]*media.Track) error { return nil }

func (l *logged) Write(p media.Packet) error {
	if p.Captured.IsZero() {
		p.Captured = time.Now()
	}
	l.time.Map(&p)
	l.log.Append(l.slab.New(p), p.Track.Kind == media.Video && p.Flags.Has(media.Key))
	return nil
}

func (l *logged) Done() <-chan struct{} { return nil }
func (l *logged) Cause() error          { return nil }
func (l *logged) Close(error)           { l.log.Close() }
