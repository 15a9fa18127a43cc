package delivery

import (
	"context"
	"fmt"
	"strconv"

	"github.com/klive-media/klive/internal/kaltura/book"
	"github.com/klive-media/klive/internal/kaltura/profile"
)

// maxProfiles bounds the profiles kept beside the book's, and the lengths.
const maxProfiles = 1000

// profileOf is the newest profile of an entry that is at hand; the zero
// Profile when there is none. It also finds the partner.
func (q *Queue) profileOf(entry string, index int) (p profile.Profile, partner int) {
	q.mu.Lock()
	p = q.profiles[entry]
	q.mu.Unlock()
	if q.opts.Book == nil {
		return p, 0
	}
	// The other index has the same entry, and thus the same assets.
	for _, k := range []int{index, 1 - index} {
		g, ok := q.opts.Book.Get(book.Key{Entry: entry, Index: k})
		if !ok {
			continue
		}
		if partner == 0 {
			partner = g.Partner
		}
		if len(g.Profile.Flavors) > 0 && (len(p.Flavors) == 0 || g.Profile.Loaded.After(p.Loaded)) {
			p = g.Profile
		}
	}
	return p, partner
}

// loadProfile asks the backend for an entry's profile and keeps it.
func (q *Queue) loadProfile(ctx context.Context, partner int, entry string) (profile.Profile, error) {
	p, err := q.opts.Profile(ctx, partner, entry)
	if err != nil {
		return p, fmt.Errorf("look up the assets of entry %s: %w", entry, err)
	}
	q.answered()
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.profiles) >= maxProfiles {
		clear(q.profiles)
	}
	q.profiles[entry] = p
	return p, nil
}

// assetOf finds the partner, the flavor and the asset of a row.
func (q *Queue) assetOf(ctx context.Context, r *row) (profile.Flavor, error) {
	id, err := strconv.Atoi(r.Rendition)
	if err != nil {
		id = -1 // no flavor is called so
	}
	p, partner := q.profileOf(r.Stream, r.ServerIndex)
	if r.Partner == 0 {
		r.Partner = partner
	}
	if r.Partner == 0 { // uploads would be made in the wrong name
		e, err := q.opts.Client.GetEntry(ctx, 0, r.Stream)
		if err != nil {
			return profile.Flavor{}, fmt.Errorf("find whose entry %s is: %w", r.Stream, err)
		}
		q.answered()
		r.Partner = int(e.Partner)
	}
	f, ok := p.ByID(id)
	if ok && f.Asset != "" && !r.stale {
		r.Asset = f.Asset
		return f, nil
	}
	if q.opts.Profile != nil {
		if p, err = q.loadProfile(ctx, r.Partner, r.Stream); err != nil {
			return f, err
		}
		f, ok = p.ByID(id)
	}
	switch {
	case !ok || f.Asset == "":
		return f, &ownError{codeAssetUnknown, fmt.Sprintf("the backend has no asset of entry %s for rendition %s", r.Stream, r.Rendition), somePatience}
	case r.stale && f.Asset == r.Asset:
		return f, &ownError{codeAssetGone, fmt.Sprintf("the backend does not take asset %s of entry %s, although it lists it", r.Asset, r.Stream), refusal}
	}
	r.Asset, r.stale = f.Asset, false
	return f, nil
}

// sourceOf is the rendition that the encoder sends: what a whole recording is
// made of.
func (q *Queue) sourceOf(entry string, index int) string {
	p, _ := q.profileOf(entry, index)
	return profile.RenditionOf(p, 1)
}
