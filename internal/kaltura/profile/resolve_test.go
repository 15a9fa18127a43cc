package profile

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/kaltura/kalturatest"
)

const (
	templateService = "wowza_liveConversionProfile"
	flavorsService  = "flavorParams"
)

func TestResolve(t *testing.T) {
	broken := func(service string) kalturatest.Fault {
		return kalturatest.Fault{Kind: kalturatest.Code, Service: service, Code: "SERVICE_FORBIDDEN"}
	}
	html := kalturatest.Fault{Kind: kalturatest.HTML, Service: templateService}
	for name, c := range map[string]struct {
		primary string
		faults  []kalturatest.Fault
		known   bool // the profile
		from    string
		reason  string // of the fallback
	}{
		"template":                        {primary: FromTemplate, from: FromTemplate},
		"template, profile known":         {primary: FromTemplate, known: true, from: FromTemplate},
		"any other word":                  {primary: "", from: FromTemplate},
		"flavors":                         {primary: FromFlavors, from: FromFlavors},
		"flavors, profile known":          {primary: FromFlavors, known: true, from: FromFlavors, faults: []kalturatest.Fault{broken(flavorsService), broken(templateService)}},
		"the template is refused":         {primary: FromTemplate, from: FromFlavors, faults: []kalturatest.Fault{broken(templateService)}, reason: "SERVICE_FORBIDDEN"},
		"the template is HTML":            {primary: FromTemplate, known: true, from: FromFlavors, faults: []kalturatest.Fault{html}, reason: "HTML"},
		"the flavors are refused":         {primary: FromFlavors, from: FromTemplate, faults: []kalturatest.Fault{broken(flavorsService)}, reason: "SERVICE_FORBIDDEN"},
		"neither the template nor others": {primary: FromTemplate, faults: []kalturatest.Fault{html, broken(flavorsService)}, reason: "HTML"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := backend(t)
				c2 := newClient(t, b)
				e, p := load(t.Context(), t, c2, kalturatest.ProfileHD)
				want, err := p.Select(1, Facts{Height: 720, AudioCodec: "AAC"})
				require.NoError(t, err)
				if !c.known {
					p = Profile{}
				}
				for _, f := range c.faults {
					_, err := b.Inject(f)
					require.NoError(t, err)
				}
				got, err := NewResolver(c2, c.primary).Resolve(t.Context(), partner, e, p, 1, Facts{Height: 720, AudioCodec: "AAC"})
				if c.from == "" {
					require.ErrorContains(t, err, c.reason)
					require.True(t, client.HasCode(err, "SERVICE_FORBIDDEN"), "both are told")
					return
				}
				require.NoError(t, err)
				require.Equal(t, c.from, got.From)
				if c.reason == "" {
					require.NoError(t, got.Fallback)
				} else {
					require.ErrorContains(t, got.Fallback, c.reason)
				}
				if p.ID != 0 || c.from == FromFlavors {
					require.Equal(t, want, got.Ladder)
				} else {
					require.Equal(t, ids(want), ids(got.Ladder))
					require.True(t, got.Ladder[0].Ingest, "by the stock table")
				}
			})
		})
	}
}

func TestNoSuchIngestIsAnAnswer(t *testing.T) {
	for _, primary := range []string{FromTemplate, FromFlavors} {
		b := backend(t)
		c := newClient(t, b)
		e, p := load(t.Context(), t, c, kalturatest.ProfileTranscode)
		before := b.State().Counts
		_, err := NewResolver(c, primary).Resolve(t.Context(), partner, e, p, 7, Facts{})
		require.Equal(t, fault.NotInProfile, fault.ReasonOf(err), err)
		after := b.State().Counts
		if primary == FromTemplate {
			require.Equal(t, before["flavorparams.getbyconversionprofileid"], after["flavorparams.getbyconversionprofileid"], "the other way was not tried")
		} else {
			require.Zero(t, after["wowza_liveconversionprofile.serve"])
		}
	}
}

func TestAnOldProfileIsLoadedAnewBeforeItRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backend(t)
		c := newClient(t, b)
		e, old := load(t.Context(), t, c, kalturatest.ProfileTranscode)
		require.NoError(t, b.AddEntry(kalturatest.Entry{ID: string(e.ID), Partner: partner, Token: "t", Profile: kalturatest.ProfilePassthrough}))
		e.Profile = kalturatest.ProfilePassthrough
		r := NewResolver(c, FromFlavors)
		_, err := r.Resolve(t.Context(), partner, e, old, 2, Facts{})
		require.Equal(t, fault.NotInProfile, fault.ReasonOf(err), "it was just loaded")
		time.Sleep(time.Minute) // virtual
		got, err := r.Resolve(t.Context(), partner, e, old, 2, Facts{})
		require.NoError(t, err)
		require.Equal(t, []string{"36"}, ids(got.Ladder))
	})
}

func TestResolveEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := backend(t)
		_, err := b.Inject(kalturatest.Fault{Kind: kalturatest.Slow, Delay: time.Hour})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = NewResolver(newClient(t, b), FromTemplate).Resolve(ctx, partner, client.Entry{ID: "0_hdprofil", Profile: kalturatest.ProfileHD}, Profile{}, 1, Facts{})
		require.Error(t, err)
		require.NotContains(t, err.Error(), "; then", "the second way is not tried any more")
	})
}
