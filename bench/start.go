package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/klive-media/klive/test/e2e/encoder"
	"github.com/klive-media/klive/test/e2e/harness"
	"github.com/klive-media/klive/test/e2e/hlscheck"
)

// handshakes measures the time from connect to the grant of publish.
func handshakes(ctx context.Context, b *bench) error {
	s, err := b.klive(ctx, "")
	if err != nil {
		return err
	}
	defer s.Stop() //nolint:errcheck // the figures are taken
	var took []time.Duration
	for i := range pick(b, 400, 100) {
		began := time.Now()
		c, err := encoder.Dial(ctx, encoder.Catalog(s.RTMP, fmt.Sprintf("load-hand-%d", i), secret))
		if err != nil {
			return err
		}
		took = append(took, time.Since(began))
		c.Close()
	}
	p95 := harness.Percentile(took, 0.95)
	b.report.bar("handshake", "connect to publish granted, p95", ms(p95), 5, " ms",
		fmt.Sprintf("p50 %.2f ms, max %.2f ms, %d tries", ms(harness.Percentile(took, 0.5)), ms(harness.Percentile(took, 1)), len(took)))
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func resolve(base, ref string) (string, error) {
	u, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	r, err := u.Parse(ref)
	if err != nil {
		return "", err
	}
	return r.String(), nil
}

// firstParts measures the time from the request to publish until a part was downloaded, playlists first, as a player
// that already waits does it.
func firstParts(ctx context.Context, b *bench) error {
	s, err := b.klive(ctx, "")
	if err != nil {
		return err
	}
	defer s.Stop() //nolint:errcheck // the figures are taken
	clip, err := b.media()
	if err != nil {
		return err
	}
	var took []time.Duration
	for i := range pick(b, 40, 20) {
		d, err := firstPart(ctx, s, clip, fmt.Sprintf("load-first-%d", i))
		if err != nil {
			return err
		}
		took = append(took, d)
	}
	b.report.bar("firstpart", "publish asked for to first part downloaded, p95", harness.Percentile(took, 0.95).Seconds(), 0.6, " s",
		fmt.Sprintf("p50 %.3f s, max %.3f s, %d tries", harness.Percentile(took, 0.5).Seconds(), harness.Percentile(took, 1).Seconds(), len(took)))
	return nil
}

func firstPart(ctx context.Context, s *harness.Server, clip *encoder.Clip, id string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	began := time.Now()
	c, err := encoder.Dial(ctx, encoder.Catalog(s.RTMP, id, secret))
	if err != nil {
		return 0, err
	}
	played := make(chan error, 1)
	playing, stop := context.WithCancel(ctx)
	go func() { played <- c.Play(playing, clip, time.Now(), 0, nil) }()
	defer func() {
		stop()
		<-played //nolint:errcheck // that the stream was cut off
		c.Close()
	}()
	master := s.Play("/live/" + id + "/index.m3u8")
	err = harness.Until(ctx, 5*time.Millisecond, func() (bool, error) {
		status, body, err := harness.Get(ctx, master)
		if err != nil || status != http.StatusOK {
			return false, err
		}
		m, err := hlscheck.ParseMultivariant(body)
		if err != nil || len(m.Variants) == 0 {
			return false, err
		}
		return firstOf(ctx, master, m.Variants[0].URI)
	})
	return time.Since(began), err
}

// firstOf downloads the first part that a media playlist lists.
func firstOf(ctx context.Context, master, uri string) (bool, error) {
	address, err := resolve(master, uri)
	if err != nil {
		return false, err
	}
	status, body, err := harness.Get(ctx, address)
	if err != nil || status != http.StatusOK {
		return false, err
	}
	p, err := hlscheck.ParseMedia(body)
	if err != nil {
		return false, err
	}
	all := p.All()
	if len(all) == 0 || len(all[0].Parts) == 0 {
		return false, nil
	}
	if !all[0].Parts[0].Independent {
		return false, fmt.Errorf("the first part does not begin with a key frame")
	}
	part, err := resolve(address, all[0].Parts[0].URI)
	if err != nil {
		return false, err
	}
	status, _, err = harness.Get(ctx, part)
	return status == http.StatusOK, err
}
