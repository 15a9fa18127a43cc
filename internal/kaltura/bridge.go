// Package kaltura is the bridge to a Kaltura backend: it authenticates
// publishers there, keeps live entries registered, delivers recordings and
// reports this server. It alone knows Kaltura's words.
//
// Bridge is the type to read first: it puts the rooms below together. Each has
// one job: client speaks the API, book remembers what was granted, authority
// lets publishers in, lifecycle tells the backend what is on air, delivery
// hands recorded pieces over, profile reads what the backend wants made of a
// source, node and beacon report, cue and syncpoint carry marks in the media,
// diagnostics answers in the old engine's words.
//
// The bridge looks at what is on air and is never called back: it works from
// snapshots, so that a missed step or a restart of the server mends itself at
// the next look.
package kaltura

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/kaltura/authority"
	"github.com/klive-media/klive/internal/kaltura/beacon"
	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/cue"
	"github.com/klive-media/klive/internal/kaltura/delivery"
	"github.com/klive-media/klive/internal/kaltura/diagnostics"
	"github.com/klive-media/klive/internal/kaltura/explicit"
	"github.com/klive-media/klive/internal/kaltura/ks"
	"github.com/klive-media/klive/internal/kaltura/lifecycle"
	"github.com/klive-media/klive/internal/kaltura/node"
	"github.com/klive-media/klive/internal/kaltura/profile"
	"github.com/klive-media/klive/internal/run"
	"github.com/klive-media/klive/internal/store"
	"github.com/klive-media/klive/internal/stream"
)

// Options are what a Bridge is made of.
type Options struct {
	// SaaS: this server works for every partner of the backend, as partner -5;
	// else (eCDN) for the one partner it belongs to.
	SaaS    bool
	URL     string
	Partner int
	Secret  ks.Secret
	// Host is this server's name, exactly as the backend has it.
	Host, Application string
	ReconnectWindow   time.Duration

	Encoding       client.Encoding
	SessionVersion int
	StartSession   bool
	Timeout        time.Duration
	Profile        string // primary source of ladders: "template" or "flavors"
	NodeType       string
	NodeReport     string // "server_node", "media_server", "none"

	Delivery   delivery.Way
	SharedDir  string
	BackendDir string
	WorkDir    string
	ChunkSize  int64

	Version string
	Start   time.Time

	Store    *store.Store
	Journal  stream.Journal
	Logger   *slog.Logger
	Observer client.Observer // nil: nobody counts
}

// Bridge is the bridge to one backend.
type Bridge struct {
	opts    Options
	client  *client.Client
	health  *health
	book    *book.Book
	entries *authority.Authority
	node    *node.Node
	beacons *beacon.Beacons
	resolve *profile.Resolver

	live        atomic.Pointer[stream.Live]
	queue       *delivery.Queue
	lifecycle   *lifecycle.Lifecycle
	explicit    *explicit.Follower
	diagnostics *diagnostics.Handler
}

var _ stream.Bridge = (*Bridge)(nil)

// Open makes the bridge and reads what the store kept. Nothing is sent before
// Run. Deliver and Attach must be called in between.
func Open(ctx context.Context, o Options) (*Bridge, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Bridge{opts: o, health: newHealth(o.Journal, o.Observer)}
	var err error
	b.client, err = client.New(client.Options{
		URL: o.URL, Partner: o.Partner, Secret: o.Secret, ClientTag: "MediaServer-" + o.Host,
		Encoding: o.Encoding, SessionVersion: o.SessionVersion, StartSession: o.StartSession, Timeout: o.Timeout,
		Observer: b.health, Logger: o.Logger,
	})
	if err != nil {
		return nil, fmt.Errorf("connect the Kaltura backend: %w", err)
	}
	if b.book, err = book.Open(ctx, o.Store); err != nil {
		return nil, fmt.Errorf("open the book of grants: %w", err)
	}
	for _, key := range b.book.Unreadable() {
		o.Logger.Warn("a grant that was kept cannot be read; its publisher is authenticated anew", "key", key)
	}
	b.resolve = profile.NewResolver(b.client, o.Profile)
	b.node = node.New(node.Options{
		Client: b.client, Host: o.Host, Application: o.Application, Type: o.NodeType, Report: o.NodeReport,
		Journal: o.Journal, Logger: o.Logger,
	})
	b.entries = authority.New(authority.Options{
		Client: b.client, Book: b.book, Live: b.onAir, SaaS: o.SaaS, Partner: o.Partner,
		Host: o.Host, Application: o.Application, ReconnectWindow: o.ReconnectWindow, Journal: o.Journal, Logger: o.Logger,
	})
	b.beacons = beacon.New(beacon.Options{
		Client: b.client, Journal: o.Journal, Book: b.book, Partner: b.ownPartner(), Logger: o.Logger,
	})
	return b, nil
}

// ownPartner is the partner whose entries these are, 0 when there are many.
func (b *Bridge) ownPartner() int {
	if b.opts.SaaS {
		return 0
	}
	return b.opts.Partner
}

// Deliver makes the queue that hands recordings to the backend. group may read
// what is made for it; 0: the server's own.
func (b *Bridge) Deliver(ctx context.Context, r stream.Recordings, group int) error {
	o := b.opts
	var err error
	b.queue, err = delivery.New(ctx, delivery.Options{
		Client: b.client, Book: b.book, Store: o.Store, Recordings: r, Journal: o.Journal, Logger: o.Logger,
		Way: o.Delivery, SharedDir: o.SharedDir, BackendDir: o.BackendDir, WorkDir: o.WorkDir, ChunkSize: o.ChunkSize, Group: group,
		Profile: b.entries.Profile,
	})
	if err != nil {
		return fmt.Errorf("open the delivery queue: %w", err)
	}
	return nil
}

// Air is what the bridge needs of what is on air. All are required.
type Air struct {
	Live stream.Live
	// Measured is of the listed renditions of an entry at a server index.
	Measured func(entry string, index int) []lifecycle.Measured
	// Plays reports whether the addresses the backend sends players to have
	// something to play.
	Plays func(entry string, index int) bool
	// Record says whether and how a broadcast is recorded from now on.
	Record func(entry string, index int, mode egress.RecordingMode) error
}

// Attach gives the bridge what is on air; it is called once, before Run.
func (b *Bridge) Attach(ctx context.Context, air Air) error {
	b.live.Store(&air.Live)
	o := b.opts
	var err error
	b.lifecycle, err = lifecycle.New(ctx, lifecycle.Options{
		Client: b.client, Book: b.book, Store: o.Store, Live: air.Live, Journal: o.Journal, Resolver: b.resolve, Node: b.node,
		Host: o.Host, Application: o.Application, Settled: b.queue.Settled, Bitrates: air.Measured, Plays: air.Plays, Logger: o.Logger,
	})
	if err != nil {
		return fmt.Errorf("open the registrations: %w", err)
	}
	b.explicit = explicit.New(explicit.Options{
		Client: b.client, Book: b.book, Live: air.Live, Record: air.Record, Logger: o.Logger,
		Wanted: func(e client.Entry) egress.RecordingMode { return authority.PolicyOf(e).Recording },
	})
	b.diagnostics = diagnostics.New(diagnostics.Options{
		Live: air.Live, Journal: o.Journal, Name: "klive", Version: o.Version, Host: o.Host, Start: o.Start,
		Logger: o.Logger,
	})
	return nil
}

func (b *Bridge) onAir() stream.Live {
	if live := b.live.Load(); live != nil {
		return *live
	}
	return nil
}

// Run keeps the backend and this server agreed until ctx ends. The registry
// must have restored what a restart interrupted before.
func (b *Bridge) Run(ctx context.Context) error {
	g := run.New(ctx)
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"kaltura node", b.node.Run},
		{"kaltura authority", b.entries.Run},
		{"kaltura lifecycle", b.lifecycle.Run},
		{"kaltura explicit live", b.explicit.Run},
		{"kaltura delivery", b.queue.Run},
		{"kaltura beacons", b.beacons.Run},
		{"kaltura diagnostics", b.diagnostics.Run},
	} {
		if err := g.Go(part.name, func(ctx context.Context) error {
			err := part.run(ctx)
			if err == nil && ctx.Err() == nil {
				return errors.New("ended by itself")
			}
			if ctx.Err() != nil { // it was asked to
				return nil
			}
			return err
		}); err != nil {
			break // one of those before has failed; Wait tells
		}
	}
	err := g.Wait()
	b.client.Close()
	return err
}

// Authority decides about publishers.
func (b *Bridge) Authority() stream.Authority { return b.entries }

// Passphrase is the SRT passphrase of the entry that a publisher asks for; see
// authority.Authority.Passphrase.
func (b *Bridge) Passphrase(ctx context.Context, r ingest.Request) (string, error) {
	return b.entries.Passphrase(ctx, r)
}

// Entries are the streams as the backend has them.
func (b *Bridge) Entries() stream.Entries { return b.entries.Entries() }

// Playback says who may watch; v knows the bearers that may preview.
func (b *Bridge) Playback(v auth.Verifier) auth.Playback { return b.entries.Playback(v) }

// Verifier knows admin sessions of the partner.
func (b *Bridge) Verifier() auth.Verifier {
	return authority.NewVerifier(b.opts.Partner, b.opts.Secret)
}

// Outputs are what the bridge reads of every broadcast.
func (b *Bridge) Outputs() []egress.Output {
	return []egress.Output{cue.New(cue.Options{Client: b.client, Journal: b.opts.Journal, Logger: b.opts.Logger})}
}

// Deliveries is the queue that hands recordings over.
func (b *Bridge) Deliveries() *delivery.Queue { return b.queue }

// Holds reports whether a piece must be kept; before Deliver it must.
func (b *Bridge) Holds(recording, rendition string, number int) bool {
	return b.queue == nil || b.queue.Holds(recording, rendition, number)
}

// Diagnostics answers below /diagnostics/.
func (b *Bridge) Diagnostics() http.Handler { return b.diagnostics }

// Beacons counts the alerts that were sent.
func (b *Bridge) Beacons() (sent, failed, dropped uint64) { return b.beacons.Stats() }

// Decisions counts how publishers were decided about.
func (b *Bridge) Decisions() authority.Stats { return b.entries.Stats() }

// Status implements stream.Bridge.
func (b *Bridge) Status() stream.BridgeStatus {
	mode := "ecdn"
	if b.opts.SaaS {
		mode = "saas"
	}
	s := stream.BridgeStatus{
		Mode: mode, URL: b.opts.URL, Partner: b.opts.Partner, Host: b.opts.Host, Application: b.opts.Application,
		Node: b.node.Status(), Registrations: b.lifecycle.Registrations(),
	}
	b.health.fill(&s)
	return s
}

// Resync implements stream.Bridge.
func (b *Bridge) Resync(context.Context) error {
	b.node.Resync()
	b.lifecycle.Resync()
	b.queue.Resync()
	return nil
}
