package stream

import (
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/segment"
)

// This file is what becomes of a Grant: under which id a rendition is listed,
// and what a broadcast keeps for as long as it lives.

// maxRenditionID bounds the id that an authority gives a rendition, which
// becomes part of file names and URLs.
const maxRenditionID = 64

// calledBy is the id of the rendition that was granted.
func calledBy(g *Grant) (string, error) {
	id := g.Rendition
	if id == "" {
		return strconv.Itoa(g.Index), nil
	}
	if len(id) > maxRenditionID || strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._~-") != "" {
		return "", fault.New(fault.InternalError, "the rendition cannot be called %.80q; tell the operator of this server", id)
	}
	return id, nil
}

// claim reports whether the rendition at a place may be called so: no other
// index is. A rendition keeps the id that it has in the broadcast already; r.mu
// is held.
func (r *Registry) claim(at place, id string) error {
	if b := r.broadcasts[at.shelf]; b != nil && !b.leaving {
		if b.rendition(at.index) != nil {
			return nil
		}
		if err := b.free(id, at.index); err != nil {
			return err
		}
	}
	for p, s := range r.places {
		if p.shelf == at.shelf && p.index != at.index && s.called == id {
			return twice(id, p.index)
		}
	}
	return nil
}

// free reports whether no other index has the rendition id; Registry.mu is
// held.
func (b *broadcast) free(id string, index int) error {
	for _, rd := range b.renditions {
		if rd.id == id && rd.index != index {
			return twice(id, rd.index)
		}
	}
	return nil
}

func twice(id string, index int) error {
	return fault.New(fault.StreamBusy, "ingest %d already sends rendition %s of this stream; publish each ingest as a rendition of its own", index, id)
}

// intended is what a broadcast keeps of the grant that began it, also across
// restarts of the server: as the note on its shelf.
type intended struct {
	Partner int           `json:"partner,omitempty"`
	Policy  egress.Policy `json:"policy,omitzero"`
	// Since is when the wish to record it changed last, in milliseconds of Unix
	// time; 0: it is as it was at the beginning.
	Since int64 `json:"recording_since,omitempty"`
}

// recordingSince is Since as a time; zero: at the beginning.
func (i intended) recordingSince() (t time.Time) {
	if i.Since != 0 {
		t = time.UnixMilli(i.Since)
	}
	return t
}

// Segment durations that an authority may ask for; others are ignored.
const (
	minSegment = time.Second
	maxSegment = 20 * time.Second
)

func intendedOf(g *Grant) intended { return intended{Partner: g.Partner, Policy: g.Policy}.sane() }

// sane leaves out what makes no sense.
func (i intended) sane() intended {
	if d := i.Policy.SegmentDuration; d < minSegment || d > maxSegment {
		i.Policy.SegmentDuration = 0
	}
	i.Policy.DVR.Window = min(max(i.Policy.DVR.Window, 0), segment.MaxWindow)
	return i
}

// window is how far back viewers may go; 0: as the store lets them.
func (i intended) window() time.Duration {
	if !i.Policy.DVR.Enabled {
		return 0
	}
	return i.Policy.DVR.Window
}

// note is what the shelf keeps.
func (i intended) note() []byte {
	if i == (intended{}) {
		return nil
	}
	b, err := json.Marshal(i)
	if err != nil || len(b) > segment.MaxNote {
		return nil // plain fields marshal; only a mode of that length would not fit
	}
	return b
}

// intendedBy reads a note. One that cannot be read intends nothing.
func intendedBy(note []byte) intended {
	var i intended
	if json.Unmarshal(note, &i) != nil {
		return intended{}
	}
	return i.sane()
}
