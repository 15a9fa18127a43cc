package kalturatest

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// State is everything the backend knows, at one moment. It is a copy; secrets
// and tokens are not in it.
type State struct {
	Entries          []EntryState    `json:"entries"`
	Registrations    []Registration  `json:"registrations"`
	Nodes            []Node          `json:"nodes"`
	Recorded         []RecordedEntry `json:"recorded"`
	Segments         []Segment       `json:"segments"`
	CancelledReplace []string        `json:"cancelledReplace"`
	Beacons          []Beacon        `json:"beacons"`
	CuePoints        []CuePoint      `json:"cuePoints"`
	Faults           []Fault         `json:"faults"`
	Calls            []Call          `json:"calls"`  // the newest 1000
	Counts           map[string]int  `json:"counts"` // calls by service.action in lower case
}

// EntryState is an entry and what happened to it. Times are seconds of Unix,
// 0 for never.
type EntryState struct {
	ID                   string         `json:"id"`
	Partner              int            `json:"partner"`
	Name                 string         `json:"name"`
	LiveStatus           int            `json:"liveStatus"`
	Recorded             string         `json:"recorded"`
	LengthMS             int            `json:"lengthMs"`
	LastElapsedMS        int            `json:"lastElapsedMs"`
	FirstBroadcast       int64          `json:"firstBroadcast"`
	LastBroadcast        int64          `json:"lastBroadcast"`
	LastBroadcastEnd     int64          `json:"lastBroadcastEnd"`
	CurrentBroadcastTime int64          `json:"currentBroadcastTime"`
	Assets               map[int]string `json:"assets"` // asset id by flavor params
}

// Registration is an entry at one server index.
type Registration struct {
	ID      int                 `json:"id"`
	Entry   string              `json:"entry"`
	Index   string              `json:"index"`
	Status  int                 `json:"status"`
	Node    int                 `json:"node"`
	Created time.Time           `json:"created,omitzero"`
	Updated time.Time           `json:"updated,omitzero"`
	Expires time.Time           `json:"expires,omitzero"` // of the PLAYABLE registration; zero: never was
	Streams []map[string]string `json:"streams"`
}

// State copies everything the backend knows.
func (b *Backend) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.settle(time.Now())
	s := State{Segments: slices.Clone(b.segments), CancelledReplace: slices.Clone(b.cancelled), Beacons: slices.Clone(b.beacons),
		CuePoints: slices.Clone(b.cuePoints), Calls: slices.Clone(b.calls), Counts: maps.Clone(b.counts)}
	for _, id := range slices.Sorted(maps.Keys(b.entries)) {
		e := b.entries[id]
		shown := EntryState{ID: id, Partner: e.Partner, Name: e.Name, LiveStatus: b.liveStatus(id), Recorded: e.recordedID, LengthMS: e.lengthMS,
			LastElapsedMS: e.lastElapsedMS, FirstBroadcast: e.first, LastBroadcast: e.last, LastBroadcastEnd: e.lastEnd,
			CurrentBroadcastTime: e.currentStart, Assets: map[int]string{}}
		for _, a := range e.assets {
			shown.Assets[a.params] = a.id
		}
		s.Entries = append(s.Entries, shown)
	}
	for _, k := range b.sortedRows() {
		r := b.rows[k]
		shown := Registration{ID: r.id, Entry: k.entry, Index: k.index, Status: r.status, Node: r.node, Created: r.created, Updated: r.updated, Expires: r.cached}
		for _, stream := range r.streams {
			fields := map[string]string{}
			for name := range stream {
				fields[name] = stream.str(name)
			}
			shown.Streams = append(shown.Streams, fields)
		}
		s.Registrations = append(s.Registrations, shown)
	}
	for _, n := range b.nodes {
		s.Nodes = append(s.Nodes, *n)
	}
	for _, r := range b.recorded {
		s.Recorded = append(s.Recorded, *r)
	}
	slices.SortFunc(s.Recorded, func(x, y RecordedEntry) int { return cmp.Compare(x.ID, y.ID) })
	for _, f := range b.faults {
		s.Faults = append(s.Faults, *f)
	}
	return s
}

// Entry finds an entry by its id.
func (s State) Entry(id string) (EntryState, bool) {
	i := slices.IndexFunc(s.Entries, func(e EntryState) bool { return e.ID == id })
	if i < 0 {
		return EntryState{}, false
	}
	return s.Entries[i], true
}

// Registration finds the registration of an entry at a server index.
func (s State) Registration(entry, index string) (Registration, bool) {
	i := slices.IndexFunc(s.Registrations, func(r Registration) bool { return r.Entry == entry && r.Index == index })
	if i < 0 {
		return Registration{}, false
	}
	return s.Registrations[i], true
}

// Count is how often an action was called: "liveStream.authenticate".
func (s State) Count(action string) int { return s.Counts[strings.ToLower(action)] }
