package profile

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/transcode"
)

// The ways to a ladder, as the configuration and Resolved call them.
const (
	FromTemplate = "template" // the transcoding template that the backend writes
	FromFlavors  = "flavors"  // the flavors of the conversion profile, and Select
)

// codeNoIngest is the backend's answer that an entry has no such ingest.
const codeNoIngest = "INGEST_NOT_FOUND_IN_CONVERSION_PROFILE"

// freshProfile is how old a profile may be whose word it is that an ingest
// does not exist; an older one is loaded anew first.
const freshProfile = 30 * time.Second

// Resolver finds the ladder of an ingest in one of two ways, and in the other
// when that fails. It is safe for concurrent use.
type Resolver struct {
	client *client.Client
	order  [2]string
}

// NewResolver makes a resolver whose first way is primary: FromTemplate or
// FromFlavors. Any other word means FromTemplate.
func NewResolver(c *client.Client, primary string) *Resolver {
	r := &Resolver{client: c, order: [2]string{FromTemplate, FromFlavors}}
	if primary == FromFlavors {
		slices.Reverse(r.order[:])
	}
	return r
}

// Resolved is a ladder and where it came from.
type Resolved struct {
	Ladder transcode.Ladder
	From   string // FromTemplate or FromFlavors
	// Fallback is why the first way did not do; nil when it did.
	Fallback error
}

// Resolve finds the ladder of an entry's ingest. The profile may be the zero
// one: it is then loaded when it is needed.
//
// That the profile has no such ingest is an answer and no reason to try the
// other way: the error is then a *fault.Error with NotInProfile. Any other
// error holds those of both ways.
func (r *Resolver) Resolve(ctx context.Context, partner int, e client.Entry, p Profile, ingest int, f Facts) (Resolved, error) {
	var failed [len(r.order)]error
	for i, way := range r.order {
		ladder, err := r.try(ctx, way, partner, e, &p, ingest, f)
		if err == nil {
			complete(ladder, p, ingest)
			return Resolved{Ladder: ladder, From: way, Fallback: failed[0]}, nil
		}
		if isAnswer(err) || ctx.Err() != nil {
			return Resolved{}, err
		}
		failed[i] = err
	}
	return Resolved{}, fmt.Errorf("resolve the ladder of %s_%d: %w; then %w", e.ID, ingest, failed[0], failed[1])
}

// isAnswer reports whether an error says that there is no such ingest.
func isAnswer(err error) bool { return fault.ReasonOf(err) == fault.NotInProfile }

// try goes one way. A profile that it has to load is left in p.
func (r *Resolver) try(ctx context.Context, way string, partner int, e client.Entry, p *Profile, ingest int, f Facts) (transcode.Ladder, error) {
	if way == FromTemplate {
		text, err := r.client.Template(ctx, string(e.ID)+"_"+strconv.Itoa(ingest), f.JSON())
		if client.HasCode(err, codeNoIngest) {
			return nil, notInProfile(ingest)
		}
		if err != nil {
			return nil, err
		}
		return ParseTemplate(text, string(e.ID))
	}
	if len(p.Flavors) > 0 {
		ladder, err := p.Select(ingest, f)
		if err == nil || time.Since(p.Loaded) < freshProfile {
			return ladder, err
		}
	}
	loaded, err := Load(ctx, r.client, partner, e)
	if err != nil {
		return nil, err
	}
	*p = loaded
	return p.Select(ingest, f)
}

// complete adds what a template does not say: which rung is the ingest itself,
// and, where the profile is known, the tags and languages of its flavors.
func complete(ladder transcode.Ladder, p Profile, ingest int) {
	own := RenditionOf(p, ingest)
	for i := range ladder {
		rung := &ladder[i]
		rung.Ingest = rung.ID == own
		id, err := strconv.Atoi(rung.ID)
		if err != nil {
			continue
		}
		flavor, ok := p.ByID(id)
		if !ok {
			continue
		}
		if len(rung.Tags) == 0 {
			rung.Tags = slices.Clone(flavor.Tags)
		}
		if rung.Audio != nil && rung.Audio.Language == "" {
			rung.Audio.Language = language(flavor.Language)
		}
	}
}
