package ts

import (
	"bytes"
	"errors"
	"slices"
	"time"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
)

// Sink takes what a Demuxer finds. An error ends the demuxing: Write returns
// it.
type Sink interface {
	// Tracks tells the tracks whose configuration is known, in a stable order;
	// it is called again at every change. complete: the program promises no
	// other. IDs are 0-based numbers within the kind. Packets point to the
	// tracks of the last call.
	Tracks(tracks []*media.Track, complete bool) error
	// Packet takes a packet, in wire time unwrapped. The payload is the sink's.
	Packet(p media.Packet) error
}

// Options is what a Demuxer needs.
type Options struct {
	Sink Sink
	// Slab is where payloads are carved from.
	Slab *media.Slab
	// Start is where the clock of Packet.Captured begins; steps of the wall
	// clock behind it do not reach the packets.
	Start time.Time
	// Bad is told of everything that is dropped because it cannot be read; nil:
	// nobody.
	Bad func(error)
}

// Stats counts what a Demuxer met.
type Stats struct {
	Packets          uint64 // transport packets
	LostSync         uint64 // bytes passed over to find the next packet
	ContinuityErrors uint64 // places where packets are missing
	Corrupt          uint64 // packets and units dropped because they cannot be read
	Scrambled        uint64 // packets dropped because they are scrambled
	Waiting          uint64 // units dropped because their configuration has not come yet
	Undecodable      uint64 // pictures dropped because they need one that was lost
}

var (
	errCorrupt   = errors.New("ts: a transport packet cannot be read")
	errScrambled = errors.New("ts: a transport packet is scrambled")
	errSync      = errors.New("ts: the bytes do not stand in transport packets")
	errMissing   = errors.New("ts: transport packets are missing")
)

// route is what becomes of the packets of one PID.
type route struct {
	pid     uint16
	counter uint8
	counted bool     // counter is set
	suspect bool     // the counter may have come round where packets are missing
	table   sections // where stream has no PES
	onTable func(b []byte) error
	stream  *stream
}

// counts is how far continuity counters count.
const counts = 16

// Demuxer turns the bytes of a transport stream into tracks and packets. It
// carries the first program. It belongs to one goroutine. Apart from the
// payloads it allocates when the stream changes.
type Demuxer struct {
	sink  Sink
	slab  *media.Slab
	start time.Time
	bad   func(error)
	now   time.Time // Captured of what is being read
	stats Stats

	rest   []byte // the beginning of a packet, and bytes that are looked through
	synced bool

	routes  []*route
	last    *route // of the packet before
	program program
	pat     []program
	pmt     []byte // the section in force
	streams []*stream
	clock   clock
}

// New makes a Demuxer.
func New(o Options) *Demuxer {
	if o.Bad == nil {
		o.Bad = func(error) {}
	}
	d := &Demuxer{sink: o.Sink, slab: o.Slab, start: o.Start, bad: o.Bad}
	d.routes = append(d.routes, &route{pid: patPID, onTable: d.onPAT})
	return d
}

// Stats are the counts up to now.
func (d *Demuxer) Stats() Stats { return d.stats }

// Write takes bytes of the stream, cut anywhere, that arrived now. retains b:
// no. The error is the sink's, or fault.UnsupportedCodec for a program whose
// picture or sound cannot be carried.
func (d *Demuxer) Write(b []byte, now time.Time) error {
	d.now = d.start.Add(now.Sub(d.start))
	if len(d.rest) > 0 {
		d.rest = append(d.rest, b...)
		b = d.rest
	}
	for len(b) >= PacketSize {
		if b[0] != syncByte || !d.synced && len(b) > PacketSize && b[PacketSize] != syncByte {
			b = b[d.resync(b):]
			continue
		}
		d.synced = true
		if err := d.packet(b[:PacketSize]); err != nil {
			return err
		}
		b = b[PacketSize:]
	}
	d.rest = append(d.rest[:0], b...)
	return nil
}

// Missing tells that so many transport packets are missing before what is
// written next. What the continuity counters show by themselves it does not
// have to be told; but they only count to sixteen.
func (d *Demuxer) Missing(packets int) {
	if packets > 0 {
		d.rest = d.rest[:0] // the rest of it does not come
	}
	if packets < counts {
		return
	}
	for _, r := range d.routes {
		r.suspect = true
	}
}

// resync is how many bytes to pass over: up to the next sync byte behind the
// first.
func (d *Demuxer) resync(b []byte) int {
	if d.synced {
		d.synced = false
		d.bad(errSync)
	}
	n := bytes.IndexByte(b[1:], syncByte) + 1
	if n == 0 {
		n = len(b)
	}
	d.stats.LostSync += uint64(n)
	return n
}

// Finish hands out what is unfinished only because the stream ended.
func (d *Demuxer) Finish() error {
	for _, s := range d.streams {
		if s.pes.want > 0 { // it says itself that it is not whole
			continue
		}
		if err := s.finish(); err != nil {
			return err
		}
	}
	return nil
}

// packet takes one transport packet.
func (d *Demuxer) packet(b []byte) error {
	d.stats.Packets++
	p := readPacket(b)
	if p.pid == nullPID {
		return nil
	}
	r := d.last
	if r == nil || r.pid != p.pid {
		if r = d.route(p.pid); r == nil {
			return nil
		}
		d.last = r
	}
	switch {
	case p.corrupt:
		d.stats.Corrupt++
		d.bad(errCorrupt)
		return nil // what it held shows as missing
	case p.payload == nil:
		return nil
	case p.scrambled:
		d.stats.Scrambled++
		d.bad(errScrambled)
		return nil
	}
	if repeated := d.count(r, &p); repeated {
		return nil
	}
	if r.stream != nil && r.stream.parse != nil {
		return r.stream.add(&p)
	}
	ok, err := r.table.add(p.payload, p.start, r.onTable)
	if !ok {
		d.stats.Corrupt++
		d.bad(errTableShort)
	}
	return err
}

// count holds the continuity counter to its rule (13818-1 §2.4.3.3): it goes
// up by one with each packet that has a payload, and a packet may be sent
// twice.
func (d *Demuxer) count(r *route, p *packet) (repeated bool) {
	before, counted, suspect := r.counter, r.counted, r.suspect
	r.counter, r.counted, r.suspect = p.counter, true, false
	switch {
	case !counted, p.counter == (before+1)%counts && !suspect:
		return false
	case p.discontinuity: // the sender says so: nothing is missing, but nothing goes on either
		r.lose(false)
		return false
	case p.counter == before && !suspect:
		return true
	}
	d.stats.ContinuityErrors++
	d.bad(errMissing)
	r.lose(true)
	return false
}

// lose forgets what is unfinished of a route.
func (r *route) lose(missing bool) {
	r.table.lose()
	if s := r.stream; s != nil {
		was := s.discontinuity
		s.lose()
		s.discontinuity = was || missing
	}
}

// spoiled drops what is unfinished of a stream because it cannot be read.
func (d *Demuxer) spoiled(s *stream, err error) {
	d.stats.Corrupt++
	d.bad(err)
	s.lose()
}

func (d *Demuxer) route(pid uint16) *route {
	for _, r := range d.routes {
		if r.pid == pid {
			return r
		}
	}
	return nil
}

// unroute forgets a PID.
func (d *Demuxer) unroute(pid uint16) {
	d.last = nil
	d.routes = slices.DeleteFunc(d.routes, func(r *route) bool { return r.pid == pid })
}

// onPAT takes a program association section: the program in force stays while
// it is listed, else the first takes its place.
func (d *Demuxer) onPAT(b []byte) error {
	if b[0] != tablePAT {
		return nil
	}
	list, current, err := readPAT(b, d.pat[:0])
	if err != nil {
		d.stats.Corrupt++
		d.bad(err)
		return nil
	}
	d.pat = list
	if !current || len(list) == 0 || slices.Contains(list, d.program) {
		return nil
	}
	if d.program.number != 0 {
		d.unroute(d.program.pid)
	}
	d.program, d.pmt = list[0], nil
	if d.program.pid == patPID || d.program.pid == nullPID {
		d.program = program{}
		return nil
	}
	d.unroute(d.program.pid) // an elementary stream of the program before
	d.routes = append(d.routes, &route{pid: d.program.pid, onTable: d.onPMT})
	return nil
}

// onPMT takes a program map section.
func (d *Demuxer) onPMT(b []byte) error {
	if b[0] != tablePMT || bytes.Equal(b, d.pmt) {
		return nil
	}
	number, list, current, err := readPMT(b)
	if err != nil {
		d.stats.Corrupt++
		d.bad(err)
		return nil
	}
	if !current || number != d.program.number {
		return nil
	}
	d.pmt = append(d.pmt[:0], b...)
	if err := checkCarried(list); err != nil {
		return err
	}
	return d.setStreams(list)
}

// checkCarried refuses a program whose picture, or whose sound, is only of
// kinds that are not carried.
func checkCarried(list []elementary) error {
	for _, kind := range [...]media.Kind{media.Video, media.Audio} {
		of := func(e elementary) bool { return e.format.kind() == kind }
		carried := func(e elementary) bool { return of(e) && e.format.carried() }
		at := slices.IndexFunc(list, of)
		if at < 0 || slices.ContainsFunc(list, carried) {
			continue
		}
		instead := "H.264"
		if kind == media.Audio {
			instead = "AAC"
		}
		return fault.New(fault.UnsupportedCodec, "the %s codec %s is not supported over SRT; set the encoder to %s", kind, nameOf(&list[at]), instead)
	}
	return nil
}

// setStreams makes the elementary streams those of a list. Streams that stay
// keep their state and their number.
func (d *Demuxer) setStreams(list []elementary) error {
	before := d.streams
	var after []*stream
	for i := range list {
		e := &list[i]
		if !d.wanted(e, after) {
			continue
		}
		at := slices.IndexFunc(before, func(s *stream) bool { return s.pid == e.pid && s.format == e.format })
		if at >= 0 {
			before[at].language = e.language
			after = append(after, before[at])
			continue
		}
		after = append(after, newStream(d, e))
	}
	for _, s := range before {
		if slices.Contains(after, s) {
			continue
		}
		if err := s.finish(); err != nil {
			return err
		}
		d.unroute(s.pid)
	}
	number(after, before)
	d.streams = after
	for _, s := range after {
		if d.route(s.pid) == nil {
			d.routes = append(d.routes, &route{pid: s.pid, stream: s, onTable: s.section})
		}
		if s.track != nil && s.track.Language != s.language {
			t := *s.track
			s.track = s.described(&t)
		}
	}
	return d.tell()
}

// wanted reports whether a track is to be made of an entry: there is room for
// it, and its PID is its own.
func (d *Demuxer) wanted(e *elementary, have []*stream) bool {
	if !e.format.carried() || e.pid == patPID || e.pid == nullPID || e.pid == d.program.pid {
		return false
	}
	n := 0
	for _, s := range have {
		if s.pid == e.pid {
			return false
		}
		if s.format.kind() == e.format.kind() {
			n++
		}
	}
	return n < media.MaxTracksPerKind
}

// number gives those streams of after that are not in before the lowest free
// numbers of their kind.
func number(after, before []*stream) {
	for i, s := range after {
		if slices.Contains(before, s) {
			continue
		}
		var taken [media.MaxTracksPerKind]bool
		for j, o := range after {
			if o.format.kind() == s.format.kind() && (j < i || slices.Contains(before, o)) {
				taken[o.number] = true
			}
		}
		s.number = max(0, slices.Index(taken[:], false))
		if s.track != nil {
			s.track = s.described(s.track)
		}
	}
}

// tell tells the sink of the tracks.
func (d *Demuxer) tell() error {
	var tracks []*media.Track
	complete := true
	for _, kind := range [...]media.Kind{media.Video, media.Audio, media.Data} {
		for _, s := range d.streams {
			switch {
			case s.format.kind() != kind:
			case s.track == nil:
				complete = false
			default:
				tracks = append(tracks, s.track)
			}
		}
	}
	if len(tracks) == 0 {
		return nil
	}
	return d.sink.Tracks(tracks, complete)
}
