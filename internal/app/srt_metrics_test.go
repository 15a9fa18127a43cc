package app

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/klive-media/klive/internal/config"
	"github.com/klive-media/klive/internal/control"
	"github.com/klive-media/klive/internal/ingest"
	"github.com/klive-media/klive/internal/ingest/srt"
	"github.com/klive-media/klive/internal/observe"
	"github.com/klive-media/klive/internal/stream"
)

func TestLinksAreShownOncePerIngest(t *testing.T) {
	link := func(rtt time.Duration) *ingest.Link {
		l := new(ingest.Link)
		l.RTT.Store(int64(rtt))
		return l
	}
	s := &Server{metrics: observe.NewRegistry(observe.Build{})}
	s.collectLinks(func() []srt.LinkInfo {
		return []srt.LinkInfo{
			{Stream: "lobby", Index: 1, Link: link(20 * time.Millisecond)},
			{Stream: "lobby", Index: 1, Link: link(30 * time.Millisecond)}, // takes it over
			{Stream: "lobby", Index: 2, Link: link(40 * time.Millisecond)},
			{Stream: "lobby", Index: 1, ServerIndex: 1, Link: link(50 * time.Millisecond)},
		}
	})
	families, err := s.metrics.Gatherer().Gather()
	require.NoError(t, err, "two of one name would fail every metric")
	got := make(map[string]float64)
	for _, f := range families {
		if f.GetName() != "klive_srt_rtt_seconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			l := m.GetLabel() // by name: index, rendition, stream
			require.Len(t, l, 3)
			got[l[2].GetValue()+" "+l[0].GetValue()+" "+l[1].GetValue()] = m.GetGauge().GetValue()
		}
	}
	require.Equal(t, map[string]float64{"lobby 0 1": 0.02, "lobby 0 2": 0.04, "lobby 1 1": 0.05}, got)
}

func TestFFmpegIsToldAPassphraseAsItReadsOne(t *testing.T) {
	const url = `srt://127.0.0.1:8890?mode=caller&streamid=%23%21%3A%3Ar%3Dlive_1%2Cm%3Dpublish%2Ctoken%3Dtok`
	for passphrase, want := range map[string]string{
		"":                       `"` + url + `"`,
		"plain-._~phrase":        `"` + url + `&passphrase=plain-._~phrase"`,
		"with a space":           `-passphrase 'with a space' "` + url + `"`,
		"a+b&c%20d":              `-passphrase 'a+b&c%20d' "` + url + `"`,
		"bang!bang!":             `-passphrase 'bang!bang!' "` + url + `"`, // in double quotes it is a shell's history
		"it's\"$HOME\" `quoted`": `-passphrase 'it'\''s"$HOME" ` + "`quoted`" + `' "` + url + `"`,
	} {
		s := &Server{grammar: ingest.CatalogGrammar(application), listeners: []control.Listener{{Name: "srt", Address: "127.0.0.1:8890"}}}
		s.cfg.SRT.Passphrase = config.Secret(passphrase)
		require.Equal(t, want, (*addresses)(s).srtForFFmpeg(stream.Entry{ID: "live"}, "tok"))
	}
}
