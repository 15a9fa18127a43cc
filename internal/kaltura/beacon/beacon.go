// Package beacon tells the backend about publishers that were refused, so that
// whoever looks at the entry there sees why its encoder does not get in.
//
// Beacons is the type to read first.
package beacon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/run"
	"github.com/klive-media/klive/internal/stream"
)

// The bounds of what is sent. A beacon that finds no room is dropped: the
// backend itself promises nothing for them.
const (
	queueBound  = 64
	pause       = 250 * time.Millisecond // between two beacons
	callTimeout = 10 * time.Second
	readAtOnce  = 256 // events of the journal
)

// entryID is how the backend names its entries. What strangers typed instead
// is no object that it could show a beacon of.
var entryID = regexp.MustCompile(`^[0-9]_[0-9A-Za-z_]{8}$`)

// Options are what Beacons need; all but Logger are required.
type Options struct {
	Client  *client.Client
	Journal stream.Journal
	Book    *book.Book
	Partner int // of an entry whose partner is not known; 0: the client's own
	Logger  *slog.Logger
}

// Beacons follows the event log and sends a beacon for each refusal.
type Beacons struct {
	opts                  Options
	log                   *slog.Logger
	queue                 chan message
	sent, failed, dropped atomic.Uint64
}

// message is one beacon.
type message struct {
	partner            int
	entry, event, data string
}

// New makes Beacons; nothing is sent before Run.
func New(o Options) *Beacons {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Beacons{opts: o, log: o.Logger, queue: make(chan message, queueBound)}
}

// Stats counts the beacons: taken by the backend, not taken or not answered,
// and left out for want of room.
func (b *Beacons) Stats() (sent, failed, dropped uint64) {
	return b.sent.Load(), b.failed.Load(), b.dropped.Load()
}

// Run follows the event log from now on, until ctx ends.
func (b *Beacons) Run(ctx context.Context) error {
	g := run.New(ctx)
	if err := g.Go("kaltura beacon sender", b.send); err != nil {
		return errors.Join(err, g.Wait())
	}
	if err := g.Go("kaltura beacon reader", b.follow); err != nil {
		return errors.Join(err, g.Stop(err))
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// follow reads new events and queues beacons for those that ask for one.
func (b *Beacons) follow(ctx context.Context) error {
	seen, changed := b.opts.Journal.Last()
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		var last uint64
		last, changed = b.opts.Journal.Last()
		for seen < last {
			events, lost, err := b.opts.Journal.Read(ctx, seen, readAtOnce)
			if err != nil {
				if ctx.Err() == nil {
					b.log.Warn("the event log could not be read; refusals in it are not reported to the backend", "error", err)
				}
				seen = last
				break
			}
			if lost {
				b.log.Warn("events were dropped before they were read; refusals among them are not reported to the backend")
			}
			for i := range events {
				seen = events[i].Sequence
				b.take(&events[i])
			}
			if len(events) == 0 { // what is there cannot be read
				seen = last
			}
		}
	}
}

// take queues the beacon of an event that has one.
func (b *Beacons) take(e *stream.Event) {
	if e.Type != stream.PublishRefused || !entryID.MatchString(e.Stream) {
		return
	}
	m, err := b.message(e)
	if err != nil {
		b.log.Warn("a refusal could not be put into a beacon", "stream", e.Stream, "error", err)
		return
	}
	select {
	case b.queue <- m:
	default:
		b.dropped.Add(1)
	}
}

// alert is one line of a beacon, in the backend's words.
type alert struct {
	Arguments arguments
	Time      int64 // milliseconds of Unix
	Code      int
}

type arguments struct {
	Entry     string `json:"entryId"`
	Type      string `json:"alertType"`
	Parameter string `json:"parameter"` // the stream name; others send tokens
}

// health is the private data of a beacon.
type health struct {
	Alerts   []alert `json:"alerts"`
	Severity int     `json:"maxSeverity"`
}

// severity is that of every refusal.
const severity = 4

// message makes the beacon of a refusal.
func (b *Beacons) message(e *stream.Event) (message, error) {
	server, err := strconv.Atoi(e.Facts["server_index"])
	if err != nil || server < 0 {
		server = 0
	}
	name := e.Stream
	if index := e.Facts["index"]; index != "" {
		name += "_" + index
	}
	code, kind := alertOf(e)
	data, err := json.Marshal(health{Severity: severity, Alerts: []alert{{
		Arguments: arguments{Entry: e.Stream, Type: kind, Parameter: name}, Time: e.Time.UnixMilli(), Code: code,
	}}})
	if err != nil {
		return message{}, fmt.Errorf("encode the alert: %w", err)
	}
	return message{
		partner: b.partnerOf(e), entry: e.Stream, event: strconv.Itoa(server) + "_healthData", data: string(data),
	}, nil
}

// partnerOf is whose entry it is, as far as is known: what the backend
// granted before counts more than what the address says.
func (b *Beacons) partnerOf(e *stream.Event) int {
	for _, g := range b.opts.Book.Of(e.Stream) {
		if g.Partner != 0 {
			return g.Partner
		}
	}
	if p, err := strconv.Atoi(e.Facts["partner"]); err == nil && p > 0 && b.opts.Partner == 0 {
		return p
	}
	return b.opts.Partner
}

// alerts are the backend's numbers and names of refusals.
var alerts = map[fault.Reason]struct {
	code int
	kind string
}{
	fault.BadToken:       {111, "LIVE_STREAM_INVALID_TOKEN"},
	fault.BadStreamName:  {112, "INCORRECT_STREAM_NAME"},
	fault.StreamNotFound: {113, "ENTRY_ID_NOT_FOUND"},
	fault.QuotaExceeded:  {115, "LIVE_STREAM_EXCEEDED_MAX_PASSTHRU"},
}

// The other quota, and everything without a number.
const (
	codeTranscoded = 118
	kindTranscoded = "LIVE_STREAM_EXCEEDED_MAX_TRANSCODED"
	codeOther      = -1
)

// alertOf is the number and the name of a refusal.
func alertOf(e *stream.Event) (code int, kind string) {
	if e.Reason == fault.QuotaExceeded && e.Facts["code"] == kindTranscoded {
		return codeTranscoded, kindTranscoded
	}
	if a, ok := alerts[e.Reason]; ok {
		return a.code, a.kind
	}
	if answered := e.Facts["code"]; answered != "" { // what the backend itself refused with
		return codeOther, answered
	}
	return codeOther, string(e.Reason)
}

// send sends what is queued, one after the other and not too fast.
func (b *Beacons) send(ctx context.Context) error {
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-rest.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		select {
		case m := <-b.queue:
			b.deliver(ctx, m)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		rest.Reset(pause)
	}
}

// deliver sends one beacon, once.
func (b *Beacons) deliver(ctx context.Context, m message) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	taken, err := b.opts.Client.AddBeacon(ctx, m.partner, m.entry, m.event, m.data)
	if err == nil && taken {
		b.sent.Add(1)
		return
	}
	b.failed.Add(1)
	b.log.Debug("a beacon was not taken", "stream", m.entry, "error", err)
}
