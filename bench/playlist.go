package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/klive-media/klive/test/e2e/encoder"
	"github.com/klive-media/klive/test/e2e/harness"
	"github.com/klive-media/klive/test/e2e/hlscheck"
)

// playlistRequests measures the CPU of a request for a live media playlist, beside nginx serving the same text from a
// file.
func playlistRequests(ctx context.Context, b *bench) error {
	s, err := b.klive(ctx, "")
	if err != nil {
		return err
	}
	defer s.Stop() //nolint:errcheck // the figures are taken
	ids := names("list", 1)
	p, err := b.publish(ctx, publication{Host: s.RTMP, App: "kLive?t=" + secret, Names: indexed(ids)})
	if err != nil {
		return err
	}
	defer p.end()
	video, err := videoPlaylist(ctx, s, ids[0])
	if err != nil {
		return err
	}
	// The playlist has its full length when its window has passed once.
	if err := wait(ctx, pick(b, 35*time.Second, 12*time.Second)); err != nil {
		return err
	}
	pids := func() []int { return []int{s.PID()} }
	length := pick(b, 6*time.Second, 3*time.Second)
	idle, err := window(ctx, length, pids)
	if err != nil {
		return err
	}
	_, text, err := harness.Get(ctx, video)
	if err != nil {
		return err
	}
	peer, stop, err := nginxStatic(ctx, b, map[string][]byte{"index.m3u8": []byte(text)})
	if err != nil {
		return err
	}
	defer stop()
	floor, err := b.startChild("nethttp", text)
	if err != nil {
		return err
	}
	defer floor.end()
	var bare string
	if err := floor.answer(ctx, &bare); err != nil {
		return err
	}
	var plain, zipped, static, least []float64
	for range 3 {
		for _, m := range []struct {
			list    *[]float64
			address string
			gzip    bool
			pids    func() []int
			idle    float64
		}{{&zipped, video, true, pids, idle}, {&plain, video, false, pids, idle}, {&static, peer.address + "/index.m3u8", false, peer.pids, 0},
			{&least, bare, false, func() []int { return []int{floor.PID()} }, 0}} {
			each, err := perAnswer(ctx, length, m.address, m.gzip, m.pids, m.idle)
			if err != nil {
				return err
			}
			*m.list = append(*m.list, each)
		}
	}
	b.report.bar("playlist", "CPU of a request, gzip accepted", median(zipped), 25, " µs", spread(zipped, " µs"))
	b.report.bar("playlist", "CPU of a request, not compressed", median(plain), 25, " µs", spread(plain, " µs"))
	b.report.figure("playlist", fmt.Sprintf("nginx serves the same %d bytes from a file", len(text)), "%s", spread(static, " µs"))
	b.report.figure("playlist", "a Go net/http server that only writes these bytes", "%s", spread(least, " µs"))
	b.report.figure("playlist", "klive, gzip accepted / nginx", "%.2f ×", median(zipped)/median(static))
	b.report.note("Microseconds of CPU depend on what else the machine does: when it was quiet, nginx took 14 µs for a playlist from a file. The ratio to nginx in the same run says more than the bar of 25 µs.")
	return nil
}

// playlistClients are enough to keep a server busy: one that falls asleep between requests pays for waking up.
const playlistClients = 16

// nethttpRole serves constant bytes with Go's HTTP server: what no server built on it can go below.
func nethttpRole(args []string) error {
	if len(args) != 1 {
		return errors.New("the task is missing")
	}
	var text string
	if err := json.Unmarshal([]byte(args[0]), &text); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode("http://" + l.Addr().String() + "/"); err != nil {
		return err
	}
	body, length := []byte(text), strconv.Itoa(len(text))
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.apple.mpegurl")
		w.Header().Set("Content-Length", length)
		_, _ = w.Write(body) // the client may be gone
	})}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		server.Close()
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// perAnswer is the CPU of one answer in microseconds, with clients that ask as fast as they are answered; idle is
// what the process uses without them, in cores.
func perAnswer(ctx context.Context, d time.Duration, address string, gzip bool, pids func() []int, idle float64) (float64, error) {
	before, err := harness.Usages(pids()...)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	answers, _, err := hammer(ctx, playlistClients, d, []string{address}, gzip)
	if err != nil {
		return 0, err
	}
	after, err := harness.Usages(pids()...)
	if err != nil {
		return 0, err
	}
	if answers == 0 {
		return 0, errors.New("there were no answers")
	}
	cpu := (after.CPU - before.CPU).Seconds() - idle*time.Since(began).Seconds()
	return cpu / float64(answers) * 1e6, nil
}

// static is an nginx that serves files.
type static struct {
	address string
	pids    func() []int
}

func nginxStatic(ctx context.Context, b *bench, files map[string][]byte) (*static, func(), error) {
	listen, err := harness.FreePort()
	if err != nil {
		return nil, nil, err
	}
	p, dir, err := b.nginx(ctx, listen, "http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; types { application/vnd.apple.mpegurl m3u8; video/mp4 m4s; } server { listen "+listen+"; root files; } }\n")
	if err != nil {
		return nil, nil, fmt.Errorf("start nginx: %w", err)
	}
	stop := func() { stopNginx(p) }
	if err := os.MkdirAll(filepath.Join(dir, "files"), 0o755); err != nil {
		return nil, stop, err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, "files", name), content, 0o600); err != nil {
			return nil, stop, err
		}
	}
	return &static{address: "http://" + listen, pids: family(p)}, stop, nil
}

// The crowd of blockingReloads.
const (
	liveStreams = 20
	viewers     = 200
)

// sighting is the answer to one blocking reload.
type sighting struct {
	at   time.Time
	hint string // the preload hint, which names the edge
}

// blockingReloads measures what a part costs that 200 players wait for, ten at each of 20 streams, and how long after
// the picture that completes a part they have the playlist that lists it.
func blockingReloads(ctx context.Context, b *bench) error {
	s, err := b.klive(ctx, "")
	if err != nil {
		return err
	}
	defer s.Stop() //nolint:errcheck // the figures are taken
	ids := names("crowd", liveStreams)
	path := filepath.Join(b.dir, "ledger")
	p, err := b.publish(ctx, publication{Host: s.RTMP, App: "kLive?t=" + secret, Names: indexed(ids), Ledger: path})
	if err != nil {
		return err
	}
	defer p.end()
	times, err := openLedger(path, liveStreams)
	if err != nil {
		return err
	}
	lists := make([]string, len(ids))
	for i, id := range ids {
		if lists[i], err = videoPlaylist(ctx, s, id); err != nil {
			return err
		}
	}
	if err := wait(ctx, 5*time.Second); err != nil {
		return err
	}
	pids := func() []int { return []int{s.PID()} }
	length := pick(b, 40*time.Second, 10*time.Second)
	idle, err := window(ctx, length/2, pids)
	if err != nil {
		return err
	}
	crowd, edges, stop := gather(ctx, lists)
	if err := wait(ctx, 3*time.Second); err != nil {
		return err
	}
	from := time.Now()
	busy, err := window(ctx, length, pids)
	to := time.Now()
	failures := stop()
	if err != nil {
		return err
	}
	if len(failures) > 0 {
		return fmt.Errorf("%d players failed, the first with: %w", len(failures), failures[0])
	}
	delays, answers := crowdDelays(crowd, edges, times, from, to)
	if answers == 0 || len(delays) == 0 {
		return errors.New("no playlist was delivered")
	}
	each := (busy - idle) * to.Sub(from).Seconds() / float64(answers) * 1e6

	b.report.bar("blocking", fmt.Sprintf("CPU of a delivered playlist, %d players on %d streams", viewers, liveStreams), each, 25, " µs",
		fmt.Sprintf("%d delivered, %.1f a second and player; %.1f %% of a core without players, %.1f %% with", answers, float64(answers)/to.Sub(from).Seconds()/viewers, 100*idle, 100*busy))
	b.report.figure("blocking", "from the picture that completes a part to the playlist at the player", "p50 %.1f ms, p99 %.1f ms, max %.1f ms",
		ms(harness.Percentile(delays, 0.5)), ms(harness.Percentile(delays, 0.99)), ms(harness.Percentile(delays, 1)))
	return nil
}

// gather starts the players; stop ends them and returns their failures.
func gather(ctx context.Context, lists []string) (crowd [][]sighting, edges []map[string]time.Duration, stop func() []error) {
	ctx, cancel := context.WithCancel(ctx)
	crowd, edges = make([][]sighting, viewers), make([]map[string]time.Duration, len(lists))
	errs := make([]error, viewers)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: viewers, MaxConnsPerHost: 0}, Timeout: 15 * time.Second}
	var all sync.WaitGroup
	for v := range viewers {
		stream := v % len(lists)
		if v < len(lists) {
			edges[stream] = make(map[string]time.Duration)
		}
		all.Go(func() {
			var follow map[string]time.Duration
			if v < len(lists) {
				follow = edges[stream] // one player of each stream keeps the books
			}
			crowd[v], errs[v] = player(ctx, client, lists[stream], follow)
		})
	}
	return crowd, edges, func() []error {
		cancel()
		all.Wait()
		var failed []error
		for _, err := range errs {
			if err != nil {
				failed = append(failed, err)
			}
		}
		return failed
	}
}

// player reloads a playlist with blocking requests until ctx ends. With books it notes at which time of the stream the
// edge of each answer stands.
func player(ctx context.Context, client *http.Client, list string, books map[string]time.Duration) ([]sighting, error) {
	var seen []sighting
	ends := make(map[uint64]time.Duration) // by segment: where it ends
	address := list
	for {
		body, err := fetch(ctx, client, address)
		if ctx.Err() != nil {
			return seen, nil
		}
		if err != nil {
			return seen, err
		}
		seen = append(seen, sighting{at: time.Now(), hint: hintOf(body)})
		number, part := edgeOf(body)
		address = list + "?_HLS_msn=" + strconv.FormatUint(number, 10) + "&_HLS_part=" + strconv.Itoa(part)
		if books != nil {
			if err := book(body, ends, books); err != nil {
				return seen, err
			}
		}
	}
}

func fetch(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(res.Body); err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s is answered with %s: %.200s", address, res.Status, buf.Bytes())
	}
	return buf.Bytes(), nil
}

// hintOf is the URI of the preload hint.
func hintOf(body []byte) string {
	_, rest, _ := bytes.Cut(body, []byte("#EXT-X-PRELOAD-HINT:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	_, uri, _ := bytes.Cut(line, []byte(`URI="`))
	uri, _, _ = bytes.Cut(uri, []byte(`"`))
	return string(uri)
}

// edgeOf counts what to ask for next, without reading the playlist properly: 200 players share the machine with the
// server.
func edgeOf(body []byte) (number uint64, part int) {
	_, rest, _ := bytes.Cut(body, []byte("#EXT-X-MEDIA-SEQUENCE:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	number, _ = strconv.ParseUint(string(bytes.TrimSpace(line)), 10, 64)
	number += uint64(bytes.Count(body, []byte("#EXTINF:"))) //nolint:gosec // small
	if i := bytes.LastIndex(body, []byte("#EXTINF:")); i >= 0 {
		body = body[i:]
	}
	return number, bytes.Count(body, []byte("#EXT-X-PART:"))
}

// book notes at which time of the stream the edge of a playlist stands. It must see the playlist from the stream's
// first segment on.
func book(body []byte, ends map[uint64]time.Duration, books map[string]time.Duration) error {
	p, err := hlscheck.ParseMedia(string(body))
	if err != nil {
		return err
	}
	for _, seg := range p.Segments {
		if seg.Number > 0 && ends[seg.Number-1] == 0 && len(ends) > 0 {
			return fmt.Errorf("segment %d was missed", seg.Number-1)
		}
		ends[seg.Number] = ends[seg.Number-1] + seg.Duration // of an unknown number: 0, the stream's start
	}
	number, _ := p.Edge()
	at := ends[number-1]
	if p.Open != nil {
		for _, part := range p.Open.Parts {
			at += part.Duration
		}
	}
	books[p.Hint] = at
	return nil
}

// crowdDelays compares when players had a playlist with when the picture was sent that completes its newest part: the
// first one behind the part, whose time ends it.
func crowdDelays(crowd [][]sighting, edges []map[string]time.Duration, times ledger, from, to time.Time) (delays []time.Duration, answers int) {
	for v, list := range crowd {
		stream := v % len(edges)
		for i, s := range list {
			if i == 0 || s.at.Before(from) || s.at.After(to) {
				continue
			}
			answers++
			at, ok := edges[stream][s.hint]
			if !ok {
				continue
			}
			frame := int((at*time.Duration(encoder.Standard.Rate) + time.Second/2) / time.Second)
			if sent, ok := times.at(stream, frame); ok && s.at.After(sent) {
				delays = append(delays, s.at.Sub(sent))
			} else {
				delays = append(delays, 0) // the part was listed before the picture behind it was sent
			}
		}
	}
	return delays, answers
}
