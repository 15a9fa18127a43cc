// Package lifecycle tells the backend what is on air: it registers entries,
// keeps them registered, says what renditions they have, and takes them off
// again once everything recorded of them was delivered.
//
// Lifecycle is the type to read first. It looks at stream.Live and is never
// called back; what it sees of an entry at one server index goes to a keeper,
// one goroutine that does all the calls about it. What a keeper does is one
// table, state.go.
package lifecycle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/node"
	"github.com/klive-media/klive/internal/kaltura/profile"
	"github.com/klive-media/klive/internal/run"
	"github.com/klive-media/klive/internal/store"
	"github.com/klive-media/klive/internal/stream"
)

// Options are what a Lifecycle needs; all are required but those that say so.
type Options struct {
	Client   *client.Client
	Book     *book.Book
	Store    *store.Store
	Live     stream.Live
	Journal  stream.Journal
	Resolver *profile.Resolver // nil: no ladders
	Node     *node.Node        // nil: the node is looked for by its host name
	// Host is this server's name, letter by letter as the backend has it.
	Host, Application string
	// Settled reports whether all that was recorded of an entry at a server index
	// is delivered or given up; changed is closed when that may have changed.
	// nil: always.
	Settled func(entry string, index int) (settled bool, changed <-chan struct{})
	// Bitrates are measured of the listed renditions. nil: none are.
	Bitrates func(entry string, index int) []Measured
	// Plays reports whether the addresses that the backend sends players to have
	// something to play: they list whole segments, and a broadcast is playable
	// from its first part on. nil: as soon as the broadcast is.
	Plays  func(entry string, index int) bool
	Logger *slog.Logger // nil: nothing is logged
}

// Measured is what was measured of a rendition.
type Measured struct {
	Rendition                  string
	VideoBitrate, AudioBitrate int     // bit/s, peaks
	FrameRate                  float64 // frames per second
}

// Lifecycle keeps the backend's registrations as what is on air here.
type Lifecycle struct {
	opts Options
	log  *slog.Logger
	rows rows
	node atomic.Int64 // our id as found by host name; 0: not looked for
	wake chan struct{}
	side chan struct{} // holds one for each side call that runs

	// Of Run's goroutine alone.
	versions map[string]uint64 // of the streams as they were looked at last

	mu      sync.Mutex // guards the fields below
	keepers map[book.Key]*keeper
	handled map[book.Key]string // the broadcast whose end a keeper saw to
	missed  bool                // a keeper failed; look at everything again
}

// New makes a Lifecycle and reads what the store kept of the last run. Nothing
// is sent before Run.
func New(ctx context.Context, o Options) (*Lifecycle, error) {
	bucket, err := o.Store.Bucket(ctx, bucketName)
	if err != nil {
		return nil, err
	}
	return open(ctx, o, bucket)
}

// open is New with a bucket.
func open(ctx context.Context, o Options, bucket book.Records) (*Lifecycle, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Lifecycle{
		opts: o, log: o.Logger, wake: make(chan struct{}, 1), side: make(chan struct{}, sideCalls),
		versions: make(map[string]uint64), keepers: make(map[book.Key]*keeper), handled: make(map[book.Key]string),
	}
	var kept []row
	var err error
	if l.rows, kept, err = readRows(ctx, bucket); err != nil {
		return nil, err
	}
	for _, r := range kept {
		l.keepers[r.key()] = restored(l, r)
	}
	return l, nil
}

// Run keeps the backend informed until ctx ends; then it leaves everything as
// it is: broadcasts that the next run continues stay registered, and what does
// not come back the backend forgets by itself. What a restart interrupted must
// be in Live before.
func (l *Lifecycle) Run(ctx context.Context) error {
	g := run.New(ctx)
	l.mu.Lock()
	starting := make([]*keeper, 0, len(l.keepers))
	for _, k := range l.keepers {
		starting = append(starting, k)
	}
	l.mu.Unlock()
	l.look(g) // the kept ones are to know what lives before they start
	for _, k := range starting {
		l.start(g, k)
	}
	for {
		changed, granted := l.look(g)
		select {
		case <-changed:
		case <-granted:
		case <-l.wake:
		case <-ctx.Done():
			if err := g.Wait(); err != nil {
				return err
			}
			return context.Cause(ctx)
		}
	}
}

// look sees what is on air and gives it to the keepers. It returns what to
// wait for until it is worth looking again.
func (l *Lifecycle) look(g *run.Group) (changed, granted <-chan struct{}) {
	granted = l.opts.Book.Changed()
	list, changed := l.opts.Live.Statuses()
	l.mu.Lock()
	if l.missed {
		clear(l.versions)
		l.missed = false
	}
	l.mu.Unlock()
	here := make(map[string]bool, len(list))
	for _, s := range list {
		here[s.Stream] = true
		if v, ok := l.versions[s.Stream]; ok && v == s.Version {
			continue
		}
		l.versions[s.Stream] = s.Version
		for i, v := range viewsOf(s, l.opts.Live.Sessions(s.Stream)) {
			l.see(g, book.Key{Entry: s.Stream, Index: i}, v)
		}
	}
	for stream := range l.versions {
		if !here[stream] {
			delete(l.versions, stream)
			for i := range serverIndexes {
				l.see(g, book.Key{Entry: stream, Index: i}, view{})
			}
		}
	}
	l.lookUp()
	return changed, granted
}

// see gives a view to the keeper of the key; one is made when there is
// something to do.
func (l *Lifecycle) see(g *run.Group, key book.Key, v view) {
	v.authenticated = l.authenticated(key)
	l.mu.Lock()
	k := l.keepers[key]
	if k != nil {
		k.put(v)
		l.mu.Unlock()
		return
	}
	over := v.broadcast != nil && v.living() == nil
	if v.broadcast == nil {
		delete(l.handled, key)
	}
	if over && len(v.sessions) == 0 && l.handled[key] == v.broadcast.ID || v.broadcast == nil && len(v.sessions) == 0 {
		l.mu.Unlock()
		return
	}
	k = newKeeper(l, key)
	k.put(v)
	l.keepers[key] = k
	l.mu.Unlock()
	l.start(g, k)
}

// lookUp tells the keepers of grants that the backend was asked for anew.
func (l *Lifecycle) lookUp() {
	l.mu.Lock()
	all := make([]*keeper, 0, len(l.keepers))
	for _, k := range l.keepers {
		all = append(all, k)
	}
	l.mu.Unlock()
	for _, k := range all {
		k.regrant(l.authenticated(k.key))
	}
}

func (l *Lifecycle) authenticated(key book.Key) time.Time {
	g, _ := l.opts.Book.Get(key)
	return g.Authenticated
}

// start runs a keeper. One that fails is replaced at the next look.
func (l *Lifecycle) start(g *run.Group, k *keeper) {
	err := g.Detach("kaltura entry "+k.key.String(), k.run, func(err error) {
		if err == nil || g.Context().Err() != nil {
			return
		}
		l.log.Error("the registration of an entry failed; it begins anew", "stream", k.key.Entry, "server_index", k.key.Index, "error", err)
		l.mu.Lock()
		if l.keepers[k.key] == k {
			delete(l.keepers, k.key)
			l.missed = true
		}
		l.mu.Unlock()
		l.rouse()
	})
	if err != nil {
		l.log.Debug("no registration is begun any more", "stream", k.key.Entry, "error", err)
	}
}

// rouse makes Run look again.
func (l *Lifecycle) rouse() {
	select {
	case l.wake <- struct{}{}:
	default: // it will
	}
}

// retire forgets a keeper that has nothing left to do, unless it was given
// something new meanwhile.
func (l *Lifecycle) retire(k *keeper) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.unread() {
		return false
	}
	delete(l.keepers, k.key)
	if k.closed {
		l.handled[k.key] = k.broadcast
	}
	return true
}

// Registrations is a snapshot of what the backend was told, ordered by stream
// and server index.
func (l *Lifecycle) Registrations() []stream.Registration {
	l.mu.Lock()
	all := make([]*keeper, 0, len(l.keepers))
	for _, k := range l.keepers {
		all = append(all, k)
	}
	l.mu.Unlock()
	list := make([]stream.Registration, 0, len(all))
	for _, k := range all {
		list = append(list, k.registration())
	}
	slices.SortFunc(list, func(a, b stream.Registration) int {
		return cmp.Or(cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.ServerIndex, b.ServerIndex))
	})
	return list
}

// Resync reads every entry that is on air anew and tells everything again, at
// once.
func (l *Lifecycle) Resync() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range l.keepers {
		k.again()
	}
}

// errNoNode: the backend shows us no node of ours, as it does when the node is
// another partner's; it takes registrations of its host name all the same.
var errNoNode = errors.New("the backend shows no server node")

// nodeID is this server's number in the backend, looked for when it is not
// known; anew looks for it in any case.
func (l *Lifecycle) nodeID(ctx context.Context, anew bool) (int64, error) {
	if !anew {
		if l.opts.Node != nil && l.opts.Node.ID() != 0 {
			return l.opts.Node.ID(), nil
		}
		if id := l.node.Load(); id != 0 {
			return id, nil
		}
	}
	found, ok, err := l.opts.Client.FindNode(ctx, l.opts.Host)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, fmt.Errorf("%w with the host name %s", errNoNode, l.opts.Host)
	}
	l.node.Store(int64(found.ID))
	return int64(found.ID), nil
}
