package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/stream"
	"github.com/klive-media/klive/internal/transcode"
)

// managed is the house's catalog when a backend keeps the entries: they can be
// read, everything else is refused.
type managed struct{ catalog }

var errManaged = fault.New(fault.ManagedByKaltura, "the stream is an entry of the Kaltura backend; change it there")

func (managed) Create(context.Context, stream.Entry, stream.Secrets) (stream.Entry, stream.Secrets, error) {
	return stream.Entry{}, stream.Secrets{}, errManaged
}

func (managed) Update(context.Context, stream.Entry, *string, uint64) (stream.Entry, error) {
	return stream.Entry{}, errManaged
}

func (managed) Delete(context.Context, string, uint64) error { return errManaged }

func (managed) RotateToken(context.Context, string) (stream.Entry, stream.Secrets, error) {
	return stream.Entry{}, stream.Secrets{}, errManaged
}

func (managed) Secrets(context.Context, string) (stream.Secrets, error) {
	return stream.Secrets{}, errManaged
}

// annex is what a server with a recorder and a Kaltura backend has beside the
// house: recordings, the queue that delivers them, and the bridge.
type annex struct {
	mu         sync.Mutex // guards the fields below
	recordings []stream.Recording
	deliveries []stream.Delivery // by recording, rendition and number
	status     stream.BridgeStatus
	resyncs    int
	broken     error // what Resync answers
}

// record adds a recording of two renditions with so many pieces each, and the
// deliveries of the finished ones.
func (a *annex) record(id, of string, begin time.Time, pieces int, states ...stream.DeliveryState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := stream.Recording{ID: id, Stream: of, Broadcast: "b-" + of, Partner: 102, Mode: egress.RecordAppended, Start: begin}
	for _, rendition := range []string{"32", "36"} {
		for n := range pieces {
			p := stream.Piece{
				Rendition: rendition, Number: n + 1, Start: begin.Add(time.Duration(n) * time.Minute), Offset: time.Duration(n) * time.Minute,
				Duration: time.Minute, Finished: n < len(states), File: "/secret/place/" + rendition,
			}
			if p.Finished {
				p.Size = 1 << 20
				d := stream.Delivery{
					Recording: id, Rendition: rendition, Number: p.Number, Stream: of, Partner: 102, Asset: "0_asset" + rendition,
					Duration: p.Duration, Size: p.Size, State: states[n], Attempts: 2, Queued: p.Start, Tried: p.Start.Add(time.Second),
				}
				if d.State == stream.DeliveryRefused {
					d.Code, d.Error = "FLAVOR_ASSET_ID_NOT_FOUND", "the backend has no such rendition"
				}
				a.deliveries = append(a.deliveries, d)
			}
			r.Pieces = append(r.Pieces, p)
		}
	}
	a.recordings = append(a.recordings, r)
}

// The recorder.

type recorder struct{ *annex }

func (a recorder) List(of string) []stream.Recording {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(a.recordings), func(r stream.Recording) bool { return of != "" && r.Stream != of })
	slices.SortFunc(list, func(a, b stream.Recording) int { return b.Start.Compare(a.Start) })
	return list
}

func (a recorder) Get(id string) (stream.Recording, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.recordings, func(r stream.Recording) bool { return r.ID == id })
	if i < 0 {
		return stream.Recording{}, false
	}
	return a.recordings[i], true
}

func (a recorder) Changed() <-chan struct{} { return nil }

func (a recorder) Split(_ context.Context, of string) (int, error) {
	asked := 0
	for _, r := range a.List(of) {
		for _, p := range r.Pieces {
			if !p.Finished {
				asked++
			}
		}
	}
	if asked == 0 {
		return 0, fault.New(fault.NotRecording, "nothing is recorded of the stream %s now", of)
	}
	return asked, nil
}

func (a recorder) Join(context.Context, string, string, string) (time.Duration, error) {
	return 0, fault.New(fault.RecordingNotFound, "nothing is kept on a disk here")
}

// The queue.

type queue struct{ *annex }

func (a queue) Of(recording string) []stream.Delivery {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(a.deliveries), func(d stream.Delivery) bool { return d.Recording != recording })
}

func (a queue) Open() []stream.Delivery {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(a.deliveries), func(d stream.Delivery) bool { return d.State == stream.DeliveryDelivered })
	slices.SortStableFunc(list, func(a, b stream.Delivery) int {
		return cmp.Or(a.Queued.Compare(b.Queued), cmp.Compare(a.Rendition, b.Rendition))
	})
	return list
}

func (a queue) Retry(_ context.Context, recording, rendition string, number int) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	taken := 0
	for i := range a.deliveries {
		d := &a.deliveries[i]
		fits := d.Recording == recording && (rendition == "" || d.Rendition == rendition) && (number == 0 || d.Number == number)
		if fits && (d.State == stream.DeliveryInDoubt || d.State == stream.DeliveryRefused) {
			d.State = stream.DeliveryQueued
			taken++
		}
	}
	if taken == 0 {
		return 0, fault.New(fault.NothingToDeliver, "no piece of the recording waits to be delivered again")
	}
	return taken, nil
}

func (a queue) Accept(ctx context.Context, recording, rendition string, number int) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	taken := 0
	for i := range a.deliveries {
		d := &a.deliveries[i]
		fits := d.Recording == recording && (rendition == "" || d.Rendition == rendition) && (number == 0 || d.Number == number)
		if fits && (d.State == stream.DeliveryInDoubt || d.State == stream.DeliveryRefused && rendition != "" && number != 0) {
			d.State, d.Accepted, d.AcceptedBy = stream.DeliveryDelivered, d.State, auth.FromContext(ctx).Name
			taken++
		}
	}
	if taken == 0 {
		return 0, fault.New(fault.NothingToDeliver, "no piece of the recording waits to be accepted")
	}
	return taken, nil
}

func (a queue) Changed() <-chan struct{} { return nil }

// The bridge.

type bridge struct{ *annex }

func (a bridge) Status() stream.BridgeStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

func (a bridge) Resync(context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.resyncs++
	a.status.Node.LastReport = birth.Add(time.Hour)
	return a.broken
}

var (
	_ stream.Entries    = managed{}
	_ stream.Recordings = recorder{}
	_ stream.Deliveries = queue{}
	_ stream.Bridge     = bridge{}
)

// register fills the bridge's page: a backend that answers and entries that it
// was told of.
func (a *annex) register(entries int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status = stream.BridgeStatus{
		Mode: "saas", URL: "https://kaltura.example", Partner: -5, Host: "live1.example", Application: "kLive",
		Available: true, Since: birth, LastAnswer: birth.Add(time.Minute),
		Node: stream.BridgeNode{ID: 7, Registered: true, LastReport: birth},
	}
	for i := range entries {
		a.status.Registrations = append(a.status.Registrations, stream.Registration{
			Stream: fmt.Sprintf("0_entry%04d", i), ServerIndex: 1, Partner: 102, Broadcast: "b", State: stream.Playable,
			Since: birth, LastTold: birth.Add(time.Second), Next: birth.Add(50 * time.Second), RecordedEntry: "0_vod", LadderFrom: "flavors",
			Ladder: transcode.Ladder{
				{ID: "32", Name: "Source", Tags: []string{"source"}, Ingest: true, Video: &transcode.VideoOut{Copy: true}, Audio: &transcode.AudioOut{Copy: true}},
				{
					ID: "34",
					Video: &transcode.VideoOut{
						Codec: media.H264, Profile: "main", Height: 360, Fit: transcode.FitHeight, Bitrate: 600_000,
						FrameRate: transcode.Rational{Num: 30000, Den: 1001}, KeyInterval: 2 * time.Second,
					},
					Audio: &transcode.AudioOut{Codec: media.AAC, Bitrate: 64_000, SampleRate: 44100, Channels: 2, Language: "en"},
				},
			},
			Streams: []stream.RegisteredStream{{Rendition: "32", Bitrate: 2_700_000, Width: 1280, Height: 720, Codec: "avc1", FrameRate: 25}},
		})
	}
}
