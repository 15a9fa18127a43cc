// Package kalturatest is a Kaltura backend in one process, as far as a media
// server can tell: API v3 over real HTTP, with the backend's habits that have
// caught implementers (the exact Content-Type, errors as HTTP 200, permission
// nulls, registrations that die after 120 s), and with faults on demand.
//
// It keeps its state in memory; only uploaded and appended files go to disk,
// when a folder is given. It serves tests, demos and operators who want to
// try the bridge, never the public.
//
// Backend is the type to read first: New makes one, it is an http.Handler,
// State shows everything it knows, Inject breaks it.
package kalturatest

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/klive-media/klive/internal/kaltura/ks"
)

// The times of the backend that a media server must know.
const (
	cacheExpiry      = 120 * time.Second // life of a PLAYABLE registration that is not renewed
	validatorPeriod  = 30 * time.Second  // how often dead registrations are looked for
	minRowAge        = 120 * time.Second // younger registrations are left alone
	markedExpiry     = 7 * 24 * time.Hour
	heartbeatExpiry  = 120 * time.Second
	reconnectTimeout = 180 * time.Second // a PER_SESSION recording goes on within it
	maxRecordedAge   = 7 * 24 * time.Hour
	maxRecordedLen   = 24 * time.Hour
	maxAppended      = 25 * time.Hour
)

// The partner numbers with a meaning of their own.
const (
	MediaServerPartner = -5
	batchPartner       = -1
	stockPartner       = 0
)

// Options is what a Backend is made of. The zero value is a backend without
// partners.
type Options struct {
	Partners []Partner
	Entries  []Entry
	Nodes    []Node
	// Directory receives appended and uploaded files. Empty: uploads stay in
	// memory, and files on a shared disk are only read.
	Directory string
	// SharedDirectory is the disk the API host shares with the media servers:
	// a KalturaServerFileResource outside of it is not found. Empty: none is.
	SharedDirectory string
	// MediaURL is where players reach the media server, for the playlists the
	// backend makes: http://127.0.0.1:8080.
	MediaURL string
	// Legacy answers mediaServer.reportStatus, as backends before 2016 do.
	Legacy bool
	// KeepNodeStatus refuses serverNode.enable, disable and update to partner
	// -5, as backends do whose role for it lacks SERVER_NODE_UPDATE.
	KeepNodeStatus bool
}

// Backend is the simulated backend. It is safe for concurrent use.
type Backend struct {
	options Options
	started time.Time

	mu        sync.Mutex // guards the fields below
	settled   time.Time  // the validator has run up to here
	partners  map[int]*Partner
	entries   map[string]*entry
	recorded  map[string]*RecordedEntry
	rows      map[rowKey]*row
	nodes     []*Node
	uploads   map[string]*upload
	segments  []Segment
	cancelled []string // recorded entries whose replacement was cancelled
	beacons   []Beacon
	cuePoints []CuePoint
	calls     []Call // the newest maxCalls
	counts    map[string]int
	faults    []*Fault
	seen      map[[sha256.Size]byte]bool // sessions met; true: revoked
	lastID    int
}

// maxCalls is how many calls are remembered one by one.
const maxCalls = 1000

// maxSessions bounds the sessions remembered for revoking.
const maxSessions = 100_000

// New makes a backend. It fails when an entry names an unknown partner or
// profile.
func New(o Options) (*Backend, error) {
	now := time.Now()
	b := &Backend{options: o, started: now, settled: now, partners: map[int]*Partner{}, entries: map[string]*entry{},
		recorded: map[string]*RecordedEntry{}, rows: map[rowKey]*row{}, uploads: map[string]*upload{}, counts: map[string]int{},
		seen: map[[sha256.Size]byte]bool{}}
	for _, p := range o.Partners {
		b.partners[p.ID] = &p
	}
	for _, e := range o.Entries {
		if err := b.AddEntry(e); err != nil {
			return nil, err
		}
	}
	for _, n := range o.Nodes {
		b.lastID++
		n.ID = b.lastID
		b.nodes = append(b.nodes, &n)
	}
	return b, nil
}

// AddEntry adds a live entry, or replaces the settings of one.
func (b *Backend) AddEntry(e Entry) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.partners[e.Partner] == nil {
		return fmt.Errorf("entry %s: partner %d is unknown", e.ID, e.Partner)
	}
	if profileByID(e.Profile) == nil {
		return fmt.Errorf("entry %s: conversion profile %d is unknown", e.ID, e.Profile)
	}
	e.setDefaults()
	if have := b.entries[e.ID]; have != nil {
		have.Entry = e
		return nil
	}
	fresh := &entry{Entry: e, created: time.Now(), viewMode: viewAll, recordingStatus: recordingActive}
	if e.ExplicitLive {
		fresh.viewMode, fresh.recordingStatus = viewPreview, recordingStopped
	}
	for i, a := range profileByID(e.Profile).assets {
		b.lastID++
		fresh.assets = append(fresh.assets, asset{id: fmt.Sprintf("0_as%06d", b.lastID), params: a.params, anchor: i == 0})
	}
	b.entries[e.ID] = fresh
	return nil
}

// SetPartner adds a partner or replaces its settings, for example to block it.
func (b *Backend) SetPartner(p Partner) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.partners[p.ID] = &p
}

// RevokeSessions makes every session met so far invalid; new ones are good.
func (b *Backend) RevokeSessions() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k := range b.seen {
		b.seen[k] = true
	}
}

// ServeHTTP answers the API below /api_v3/, the playlists below /p/ and the
// simulator's own switches below /simulator/.
func (b *Backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/api_v3/"):
		b.serveAPI(w, r)
	case strings.HasPrefix(r.URL.Path, "/p/"):
		b.servePlaylist(w, r)
	case strings.HasPrefix(r.URL.Path, "/simulator/"):
		b.serveAdmin(w, r)
	default:
		http.NotFound(w, r)
	}
}

// secrets are the admin secrets of a partner, for verifying sessions.
func (b *Backend) secrets(partner int) []ks.Secret {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.partners[partner]
	if p == nil {
		return nil
	}
	return p.secrets()
}

// nextID gives the next number of objects; the caller holds b.mu.
func (b *Backend) nextID() int {
	b.lastID++
	return b.lastID
}
