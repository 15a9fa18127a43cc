package hlscheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"time"
)

// Follower follows one media playlist as a strict low-latency player does and collects findings. It belongs to one
// goroutine.
type Follower struct {
	URL    string
	Client *http.Client
	// Ledger, when set, is told of every URL and content that was downloaded; it is shared by followers.
	Ledger *Ledger
	// Findings are the broken rules.
	Findings Findings
	Runs     []Run // one for each part, or segment whose parts were not listed, in order of decode time
	Parts    int   // parts that were checked

	// Sparse accepts holes between samples behind a full part: a picture may stay longer than PART-TARGET, but its
	// part may not.
	Sparse bool

	last     *Playlist
	playlist *Playlist              // the one whose parts are being fetched
	tracks   map[string][]TrackInfo // by URI of the init section
	done     map[string]bool        // URIs that were downloaded and checked
	whole    map[uint64]*gathering
	hint     string
	// The discontinuity number at the playlist's end where hint was.
	hintBreak uint64
	decode    decodeEdge
}

// decodeEdge is where the decode time of the row stands.
type decodeEdge struct {
	valid         bool
	discontinuity uint64
	next          map[uint32]uint64 // by track, in ticks
}

// Run is what one part held.
type Run struct {
	Segment       uint64
	Part          int
	Discontinuity uint64
	Tracks        []TrackRun
	At            time.Time // when it had been downloaded
	Listed        time.Time // when the playlist that named it had arrived
}

// Last is the newest playlist.
func (f *Follower) Last() *Playlist { return f.last }

// Follow follows until ctx ends, the playlist ends, or an error; a ctx that ends is no error.
func (f *Follower) Follow(ctx context.Context) error {
	for {
		p, err := f.Step(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if p.Ended {
			return nil
		}
	}
}

// Step fetches the playlist once, blocking for what comes next when there was one before, and checks what is new.
func (f *Follower) Step(ctx context.Context) (*Playlist, error) {
	address := f.URL
	if f.last != nil && f.last.CanBlock {
		number, part := f.last.Edge()
		query := url.Values{"_HLS_msn": {strconv.FormatUint(number, 10)}}
		if f.last.PartTarget > 0 {
			query.Set("_HLS_part", strconv.Itoa(part))
		}
		address = withQuery(f.URL, query)
	}
	text, err := f.get(ctx, address)
	if err != nil {
		return nil, err
	}
	arrived := time.Now()
	p, err := ParseMedia(string(text))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w\n%s", address, err, text)
	}
	f.playlist = p
	checkMedia(p, &f.Findings, f.Sparse)
	if f.last != nil {
		CheckNext(f.last, p, &f.Findings)
		f.checkBlocked(p)
	}
	f.last = p
	return p, f.download(ctx, p, arrived)
}

// Forget lets the next step begin anew, as a player does that reloads after the server was away. What was downloaded
// stays known.
func (f *Follower) Forget() { f.last = nil; f.hint = ""; f.decode.valid = false }

// checkBlocked checks that the answer to a blocking reload holds what was asked for.
func (f *Follower) checkBlocked(p *Playlist) {
	if !f.last.CanBlock || p.Ended {
		return
	}
	number, part := f.last.Edge()
	gotNumber, gotPart := p.Edge()
	if gotNumber < number || gotNumber == number && gotPart <= part && p.PartTarget > 0 {
		f.Findings.add("a blocking reload for %d.%d was answered with the edge at %d.%d", number, part, gotNumber, gotPart)
	}
}

func withQuery(address string, query url.Values) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	q := u.Query()
	for k, v := range query {
		q[k] = v
	}
	u.RawQuery = q.Encode()
	return u.String()
}

func (f *Follower) resolve(uri string) string {
	base, err := url.Parse(f.URL)
	if err != nil {
		return uri
	}
	ref, err := base.Parse(uri)
	if err != nil {
		return uri
	}
	return ref.String()
}

// ErrStatus is an answer that is not 200.
var ErrStatus = errors.New("the server did not answer 200")

func (f *Follower) get(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	client := f.Client
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: %s said %s: %.200s", ErrStatus, address, res.Status, body)
	}
	return body, nil
}

// download fetches and checks the parts and segments of p that are new.
func (f *Follower) download(ctx context.Context, p *Playlist, arrived time.Time) error {
	if f.done == nil {
		f.done, f.tracks = make(map[string]bool), make(map[string][]TrackInfo)
		f.whole = make(map[uint64]*gathering)
	}
	for _, s := range p.All() {
		if s.Gap {
			f.decode.valid = false
			continue
		}
		for i, part := range s.Parts {
			if err := f.fetch(ctx, s, i, part, arrived); err != nil {
				return err
			}
		}
		if s.URI == "" {
			continue
		}
		if err := f.fetch(ctx, s, -1, Part{URI: s.URI, Duration: s.Duration, Independent: false}, arrived); err != nil {
			return err
		}
	}
	// A server that was killed keeps its promises to viewers but for this one: its URIs hold an id of the run, and what
	// it hinted at while nobody published may become a gap.
	gap := len(p.Segments) > 0 && p.Segments[len(p.Segments)-1].Gap
	// Nor can it be kept when media was lost instead, which is a discontinuity.
	sameRun := path.Dir(f.hint) == path.Dir(p.Hint) && !gap && newest(p) == f.hintBreak
	if f.hint != "" && f.hint != p.Hint && !f.done[f.resolve(f.hint)] && !p.Ended && sameRun {
		f.Findings.add("the preload hint %s never became a part", f.hint)
	}
	f.hint, f.hintBreak = p.Hint, newest(p)
	return nil
}

// newest is the discontinuity number at the end of a playlist.
func newest(p *Playlist) uint64 {
	all := p.All()
	if len(all) == 0 {
		return p.DiscontinuitySequence
	}
	return all[len(all)-1].Discontinuity
}

// fetch downloads one part, or the whole segment when index is -1.
func (f *Follower) fetch(ctx context.Context, s Segment, index int, part Part, arrived time.Time) error {
	address := f.resolve(part.URI)
	if f.done[address] {
		return nil
	}
	tracks, err := f.init(ctx, s.Map)
	if err != nil {
		return err
	}
	body, err := f.get(ctx, address)
	if err != nil {
		return err
	}
	f.done[address] = true
	f.Ledger.note(address, body)
	runs, err := ParseFragments(body, tracks)
	if err != nil {
		f.Findings.add("%s: %v", part.URI, err)
		return nil
	}
	name := fmt.Sprintf("part %d of segment %d", index, s.Number)
	if index >= 0 {
		f.Parts++
		f.gather(s.Number, index, body)
		f.Runs = append(f.Runs, Run{Segment: s.Number, Part: index, Discontinuity: s.Discontinuity, Tracks: runs, At: time.Now(), Listed: arrived})
		f.checkDecode(name, s.Discontinuity, runs)
		checkIndependent(name, part, runs, &f.Findings)
	} else {
		f.checkSegmentStart(s, runs)
		name = fmt.Sprintf("segment %d", s.Number)
		if f.checkWhole(s, body) {
			f.Runs = append(f.Runs, Run{Segment: s.Number, Part: -1, Discontinuity: s.Discontinuity, Tracks: runs, At: time.Now(), Listed: arrived})
			f.checkDecode(name, s.Discontinuity, runs)
		}
	}
	if index >= 0 || !f.Sparse {
		checkDuration(name, part.Duration, runs, &f.Findings)
	}
	return nil
}

func (f *Follower) init(ctx context.Context, uri string) ([]TrackInfo, error) {
	if uri == "" {
		return nil, fmt.Errorf("a segment has no init section")
	}
	address := f.resolve(uri)
	if t, ok := f.tracks[address]; ok {
		return t, nil
	}
	body, err := f.get(ctx, address)
	if err != nil {
		return nil, err
	}
	f.Ledger.note(address, body)
	t, err := ParseInit(body)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", address, err)
	}
	f.tracks[address] = t
	return t, nil
}

// gathering are the parts of one segment, one after the other.
type gathering struct {
	bytes.Buffer
	next   int
	broken bool // a part was not seen: we joined in the middle
	cut    bool // the server was restarted since: parts that it made last were perhaps never seen
}

// gather keeps the bytes of a segment's parts until the segment is compared.
func (f *Follower) gather(number uint64, index int, body []byte) {
	g := f.whole[number]
	if g == nil {
		g = new(gathering)
		f.whole[number] = g
	}
	g.broken = g.broken || index != g.next
	g.next = index + 1
	g.Write(body)
}

// checkWhole compares a finished segment with its parts, and reports whether its parts were not seen.
func (f *Follower) checkWhole(s Segment, body []byte) bool {
	g, ok := f.whole[s.Number]
	if !ok {
		return true
	}
	delete(f.whole, s.Number)
	if g.cut && bytes.HasPrefix(body, g.Bytes()) {
		return false
	}
	if !g.broken && !bytes.Equal(g.Bytes(), body) {
		f.Findings.add("segment %d (%d bytes) is not its parts one after the other (%d bytes)", s.Number, len(body), g.Len())
	}
	return false
}

// Interrupted tells that the server went away: what its open segments hold at their end may never have been listed.
func (f *Follower) Interrupted() {
	for _, g := range f.whole {
		g.cut = true
	}
}

// checkDecode checks that decode times are contiguous where there is no discontinuity.
func (f *Follower) checkDecode(name string, discontinuity uint64, runs []TrackRun) {
	if !f.decode.valid || f.decode.discontinuity != discontinuity {
		f.decode = decodeEdge{valid: true, discontinuity: discontinuity, next: make(map[uint32]uint64)}
	}
	for _, run := range runs {
		want, ok := f.decode.next[run.Track.ID]
		if ok && want != run.Decode && (run.Decode < want || !f.Sparse) {
			f.Findings.add("%s: the decode time of track %d is %d where %d follows", name, run.Track.ID, run.Decode, want)
		}
		f.decode.next[run.Track.ID] = run.Decode + run.Ticks()
	}
}

// checkSegmentStart checks EXT-X-INDEPENDENT-SEGMENTS (section 4.4.2.1), which speaks of every segment.
func (f *Follower) checkSegmentStart(s Segment, runs []TrackRun) {
	for _, run := range runs {
		if !run.Track.Video || len(run.Samples) == 0 {
			continue
		}
		if f.playlist.Independent && !run.Samples[0].Sync {
			f.Findings.add("segment %d begins without a key frame and the playlist says EXT-X-INDEPENDENT-SEGMENTS", s.Number)
		}
		return // only the first fragment counts
	}
}

// checkIndependent checks INDEPENDENT=YES against the part's first picture.
func checkIndependent(name string, part Part, runs []TrackRun, f *Findings) {
	for _, run := range runs {
		if !run.Track.Video || len(run.Samples) == 0 {
			continue
		}
		first := run.Samples[0]
		if first.Sync != first.IDR && run.Track.Codec == "avc1" {
			f.add("%s: its first sample is marked sync=%t and IDR=%t", name, first.Sync, first.IDR)
		}
		if part.Independent && !first.Sync {
			f.add("%s says INDEPENDENT=YES and begins without a key frame", name)
		}
		if !part.Independent && first.Sync {
			f.add("%s begins with a key frame and does not say INDEPENDENT=YES", name)
		}
		return // only the first fragment counts
	}
}

// checkDuration checks the listed duration against the samples of the longest track, video if there is one.
func checkDuration(name string, listed time.Duration, runs []TrackRun, f *Findings) {
	sums := make(map[uint32]time.Duration)
	var got time.Duration
	video := false
	for _, run := range runs {
		sums[run.Track.ID] += time.Duration(run.Ticks() * 1e9 / uint64(run.Track.Timescale)) //nolint:gosec // short
		if run.Track.Video == video || run.Track.Video {
			got, video = sums[run.Track.ID], run.Track.Video
		}
	}
	if (got - listed).Abs() > decimals {
		f.add("%s is listed with %v and its samples last %v", name, listed, got)
	}
}
