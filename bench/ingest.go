package main

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	"github.com/klive-media/klive/test/e2e/encoder"
	"github.com/klive-media/klive/test/e2e/harness"
	"github.com/klive-media/klive/test/e2e/hlscheck"
)

// publishers is how many encoders publish at once.
const publishers = 50

// contestant is one way to take the streams in.
type contestant struct {
	name  string
	warm  time.Duration // from the start of the load to the window
	again time.Duration // the same for later turns
	task  func(round int) publication
	pids  func() []int
	after func(ctx context.Context, frames []int) error // looks at the output, after the window
	// before and grown are for memory: resident bytes without load, and at the window's end.
	before, grown int64
	cores         []float64
}

// ingestion measures what 50 publishers cost, in turns (A B C A B C), so that a drift of the machine hits all.
func ingestion(ctx context.Context, b *bench) error {
	list, stop, err := contestants(ctx, b)
	defer stop()
	if err != nil {
		return err
	}
	length := pick(b, 20*time.Second, 8*time.Second)
	// Sink and door are close to each other and to their bar: they take more turns than the others.
	for round, among := range [][]*contestant{list, list[:2], list, list[:2]} {
		for _, c := range among {
			if err := c.round(ctx, b, round, length); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	sink := median(list[0].cores)
	b.report.figure("ingest", "TCP sink: a Go program that only reads", "%.2f %% of a core (%s)", 100*sink, spread(percent(list[0].cores), " %"))
	for _, c := range list[1:] {
		ratio := median(c.cores) / sink
		detail := fmt.Sprintf("%.1f %% of a core; %s", 100*median(c.cores), spread(ratios(c.cores, list[0].cores), ""))
		switch c.name {
		case "door":
			b.report.bar("ingest", "50 publishers, door and Log alone / sink", ratio, 1.3, " ×", detail)
			b.report.note("The bar of 1.3 × for ingest alone is measured with segmenting left out (a program of the server's RTMP door, repair of time and Log): the server has no switch for it.")
		case "klive":
			b.report.bar("ingest", "50 publishers, klive as shipped, LL-HLS on / sink", ratio, 2.5, " ×", detail)
			b.report.bar("ingest", "memory a stream, klive as shipped", float64(c.grown-c.before)/publishers/1e6, 3, " MB",
				fmt.Sprintf("resident %.0f MB idle, %.0f MB with %d streams", float64(c.before)/1e6, float64(c.grown)/1e6, publishers))
		default:
			b.report.figure("ingest", "50 publishers, "+c.name+" / sink", "%.2f × (%s)", ratio, detail)
		}
	}
	return nil
}

func percent(list []float64) []float64 {
	out := slices.Clone(list)
	for i := range out {
		out[i] *= 100
	}
	return out
}

// ratios divides round by round.
func ratios(list, by []float64) []float64 {
	every := 1
	if len(by) > len(list) { // took every other turn
		every = 2
	}
	out := slices.Clone(list)
	for i := range out {
		out[i] /= by[every*i]
	}
	return out
}

func (c *contestant) round(ctx context.Context, b *bench, round int, length time.Duration) error {
	if c.before == 0 {
		u, err := harness.Usages(c.pids()...)
		if err != nil {
			return err
		}
		c.before = u.RSS
	}
	p, err := b.publish(ctx, c.task(round))
	if err != nil {
		return err
	}
	defer p.end()
	if err := wait(ctx, c.warm); err != nil {
		return err
	}
	cores, err := window(ctx, length, c.pids)
	if err != nil {
		return err
	}
	u, err := harness.Usages(c.pids()...)
	if err != nil {
		return err
	}
	c.cores = append(c.cores, cores)
	if c.grown == 0 { // later on the server still holds what it keeps of the streams of the first turn
		c.grown = u.RSS
	}
	c.warm = min(c.warm, c.again)
	frames, err := unpublish(ctx, p)
	if err != nil {
		return err
	}
	if c.after != nil {
		return c.after(ctx, frames)
	}
	return nil
}

// contestants starts all servers; they idle until it is their turn.
func contestants(ctx context.Context, b *bench) (list []*contestant, stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, f := range slices.Backward(stops) {
			f()
		}
	}
	warm := pick(b, 8*time.Second, 3*time.Second)
	for _, role := range []string{"sink", "door"} {
		p, err := b.startChild(role, nil)
		if err != nil {
			return nil, stop, err
		}
		stops = append(stops, p.end)
		var address string
		if err := p.answer(ctx, &address); err != nil {
			return nil, stop, err
		}
		list = append(list, &contestant{name: role, warm: warm, again: warm, pids: func() []int { return []int{p.PID()} },
			task: func(round int) publication {
				return publication{Host: address, Raw: role == "sink", App: "kLive?t=" + secret, Names: indexed(names(fmt.Sprint(role, round), publishers))}
			}})
	}
	s, err := b.klive(ctx, "")
	if err != nil {
		return nil, stop, err
	}
	stops = append(stops, func() { _ = s.Stop() })
	// The first window begins more than 60 s after the start; in every one Log and playlists are full.
	list = append(list, kliveContestant(b, s, pick(b, 60*time.Second, 12*time.Second), pick(b, 35*time.Second, 12*time.Second)))
	for _, hls := range []bool{false, true} {
		c, end, err := nginxContestant(ctx, b, hls, warm)
		if err != nil {
			return nil, stop, err
		}
		stops = append(stops, end)
		list = append(list, c)
	}
	return list, stop, nil
}

func kliveContestant(b *bench, s *harness.Server, warm, again time.Duration) *contestant {
	var ids []string
	c := &contestant{name: "klive", warm: warm, again: again, pids: func() []int { return []int{s.PID()} }}
	c.task = func(round int) publication {
		ids = names(fmt.Sprint("klive", round), publishers)
		return publication{Host: s.RTMP, App: "kLive?t=" + secret, Names: indexed(ids)}
	}
	c.after = func(ctx context.Context, frames []int) error {
		counted, err := countOutput(ctx, s, ids, frames)
		if err != nil {
			return err
		}
		b.report.note("klive, %s", counted)
		return nil
	}
	return c
}

func nginxContestant(ctx context.Context, b *bench, hls bool, warm time.Duration) (*contestant, func(), error) {
	address, err := harness.FreePort()
	if err != nil {
		return nil, nil, err
	}
	name, extra := "nginx-rtmp", ""
	if hls {
		name, extra = "nginx-rtmp with HLS", "hls on; hls_path "+filepath.Join(b.dir, "nginx-hls")+"; hls_fragment 4s; hls_playlist_length 30s; hls_nested on;"
	}
	p, _, err := b.nginx(ctx, address, fmt.Sprintf("rtmp { access_log off; server { listen %s; chunk_size 4096; application kLive { live on; %s } } }\n", address, extra))
	if err != nil {
		return nil, nil, fmt.Errorf("start %s: %w", name, err)
	}
	c := &contestant{name: name, warm: warm, again: warm, pids: family(p), task: func(round int) publication {
		return publication{Host: address, App: "kLive", Names: names(fmt.Sprint("nginx", hls, round), publishers)}
	}}
	return c, func() { stopNginx(p) }, nil
}

// settle is how long the last pictures of a publisher that left may take until they are listed: a part that is not full
// waits for more.
const settle = 10 * time.Second

// countOutput reads the playlists of all streams whole and holds the pictures in them against what was sent.
func countOutput(ctx context.Context, s *harness.Server, ids []string, frames []int) (string, error) {
	total, listed := 0, 0
	for i, id := range ids {
		video, err := videoPlaylist(ctx, s, id)
		if err != nil {
			return "", err
		}
		waiting, cancel := context.WithTimeout(ctx, settle)
		var came, n int
		err = harness.Until(waiting, 250*time.Millisecond, func() (bool, error) {
			came, n, err = countPictures(ctx, video)
			return came >= frames[i]-1, err
		})
		cancel()
		if err != nil || came > frames[i]+1 {
			return "", fmt.Errorf("stream %s: %d pictures were published and %d came out: %w", id, frames[i], came, err)
		}
		total, listed = total+frames[i], listed+n
	}
	return fmt.Sprintf("%d streams: %d pictures were published and came out; the %d still listed were read and counted, no playlist rule broken", len(ids), total, listed), nil
}

// countPictures reads a playlist and everything it lists: how many pictures there were since the stream began, and how
// many of them are listed.
func countPictures(ctx context.Context, playlist string) (came, listed int, err error) {
	f := hlscheck.Follower{URL: playlist}
	if _, err := f.Step(ctx); err != nil {
		return 0, 0, err
	}
	if list := f.Findings.List(); len(list) > 0 {
		return 0, 0, fmt.Errorf("the playlist: %v", list)
	}
	end := 0.0
	for _, run := range f.Runs {
		for _, t := range run.Tracks {
			listed += len(t.Samples)
			end = max(end, float64(t.Decode+t.Ticks())/float64(t.Track.Timescale))
		}
	}
	// Decode times are contiguous (checked), so the end says how many pictures there were.
	return int(math.Round(end * float64(encoder.Standard.Rate))), listed, nil
}

// videoPlaylist waits for the address of a stream's media playlist with pictures.
func videoPlaylist(ctx context.Context, s *harness.Server, id string) (address string, err error) {
	master := s.Play("/live/" + id + "/index.m3u8")
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err = harness.Until(ctx, 20*time.Millisecond, func() (bool, error) {
		status, body, err := harness.Get(ctx, master)
		if err != nil || status != 200 {
			return false, nil //nolint:nilerr // not yet
		}
		m, err := hlscheck.ParseMultivariant(body)
		if err != nil || len(m.Variants) == 0 {
			return false, err
		}
		address, err = resolve(master, m.Variants[0].URI)
		return err == nil, err
	})
	return address, err
}
