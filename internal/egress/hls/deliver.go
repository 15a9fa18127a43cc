package hls

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/segment"
)

// serveMedia answers with an init section, a segment or a part.
func (h *Handler) serveMedia(w http.ResponseWriter, r *http.Request, a *address) int {
	s := h.shelves.find(segment.ShelfID{Stream: a.stream, ServerIndex: a.server})
	if s == nil {
		return h.refuse(w, r, refuseStream(a.stream))
	}
	if a.class == classInit {
		init, err := s.init(a)
		if err != nil {
			return h.refuseMedia(w, r, err)
		}
		return h.deliver(w, r, a.kind, []*segment.Content{{Size: int64(len(init)), Buffers: [][]byte{init}}})
	}
	if a.kind == media.UnknownKind {
		contents, err := s.openPair(a)
		if err != nil {
			return h.refuseMedia(w, r, err)
		}
		return h.deliver(w, r, a.kind, contents)
	}
	id := segment.RowID{Rendition: a.rendition, Kind: a.kind}
	c, err := s.shelf.Open(id, a.run, a.number, a.part)
	if err != nil && a.class == classPart && h.lowLatency {
		var status int
		if c, status, err = h.awaitPart(w, r, s, a); status != 0 {
			return status
		}
	}
	if err != nil {
		return h.refuseMedia(w, r, err)
	}
	return h.deliver(w, r, a.kind, []*segment.Content{c})
}

// refuseMedia answers for media that is not there.
func (h *Handler) refuseMedia(w http.ResponseWriter, r *http.Request, err error) int {
	if errors.Is(err, fault.New(fault.NotPlayable, "")) {
		return h.refuse(w, r, refuse(http.StatusNotFound, "This piece of the stream does not exist or has expired; reload the playlist."))
	}
	return h.refuse(w, r, refuseFault(err))
}

// awaitPart opens a part that the preload hint names and holds the request
// until it exists (RFC 8216bis §6.2.6). A non-zero status says that the answer
// was given.
func (h *Handler) awaitPart(w http.ResponseWriter, r *http.Request, s *shelf, a *address) (*segment.Content, int, error) {
	v := s.row(h, a.rendition, a.kind)
	if v == nil {
		return nil, 0, notPlayable()
	}
	hinted := segment.PartID{Run: a.run, Segment: a.number, Part: a.part}
	var c *segment.Content
	var err error
	status := h.hold(w, r, v, func(x *segment.Index) (bool, *refusal) {
		// x was read first: if its hint is past the part and the part cannot be
		// opened, the part will never exist.
		c, err = s.shelf.Open(v.id, a.run, a.number, a.part)
		return err == nil || x.Next != hinted || x.Ended, nil
	})
	return c, status, err
}

func notPlayable() error {
	return fault.New(fault.NotPlayable, "this piece of the stream does not exist")
}

// init reads the init section a names.
func (s *shelf) init(a *address) ([]byte, error) {
	video := segment.RowID{Rendition: a.rendition, Kind: media.Video}
	audio := segment.RowID{Rendition: a.rendition, Kind: media.Audio}
	switch {
	case a.kind == media.Video || a.kind == media.UnknownKind && a.initSound == missing:
		return s.shelf.Init(video, a.run, a.init)
	case a.kind == media.Audio:
		return s.shelf.Init(audio, a.run, a.init)
	case a.init == missing:
		return s.shelf.Init(audio, a.run, a.initSound)
	}
	return s.shelf.MuxInit(a.rendition, a.run, a.init, a.initSound)
}

// rowsOf are the rows a rendition can have: picture and sound.
func rowsOf(rendition string) [2]segment.RowID {
	return [2]segment.RowID{
		{Rendition: rendition, Kind: media.Video},
		{Rendition: rendition, Kind: media.Audio},
	}
}

// openPair opens segment n of picture and of sound. A row that has a gap in its
// place or, as far as the rows tell, never had it is left out; one whose
// segment has expired or is still to come is not, so that the bytes at an
// address do not depend on when they are asked for.
func (s *shelf) openPair(a *address) (contents []*segment.Content, err error) {
	list, _ := s.shelf.Renditions()
	t := s.tracks(a.rendition, list)
	for i, x := range []*segment.Index{t.video, t.audio} {
		other, done := t.audio, t.videoDone
		if i == 1 {
			other, done = t.video, t.audioDone
		}
		if x == nil || without(x, done, other, a.number) {
			continue
		}
		c, err := s.shelf.Open(x.Row, a.run, a.number, whole)
		if err == nil {
			contents = append(contents, c)
			continue
		}
		if beganLater(x, other, a.number) {
			continue
		}
		closeAll(contents)
		return nil, err
	}
	if len(contents) == 0 {
		return nil, notPlayable()
	}
	return contents, nil
}

// beganLater reports that x, which cannot open segment n any more, never had
// it: the other row lists it still, and the rows keep what they do not list for
// as long again.
func beganLater(x, other *segment.Index, n uint64) bool {
	first, ok := firstNumber(x)
	return ok && n < first && byNumber(other, n) != nil
}

// without reports whether segment n is the other row's alone.
func without(x *segment.Index, done bool, other *segment.Index, n uint64) bool {
	if listed := byNumber(x, n); listed != nil {
		return listed.Gap
	}
	last := n
	if other != nil && len(other.Closed) > 0 {
		last = max(n, other.Closed[len(other.Closed)-1].Number)
	}
	return lacks(x, done, n, last) == never
}

func closeAll(contents []*segment.Content) {
	for _, c := range contents {
		_ = c.Close()
	}
}

// deliver sends the contents one after the other, or the range of them the
// request asks for, and closes them.
func (h *Handler) deliver(w http.ResponseWriter, r *http.Request, kind media.Kind, contents []*segment.Content) int {
	defer closeAll(contents)
	var size int64
	for _, c := range contents {
		size += c.Size
	}
	head := w.Header()
	head["Content-Type"] = typeVideo
	if kind == media.Audio {
		head["Content-Type"] = typeAudio
	}
	cacheAs(head, cacheForever)
	head["Accept-Ranges"] = rangesBytes
	start, length, status := int64(0), size, http.StatusOK
	// Media has no validator, so no If-Range can match one (RFC 9110 §13.1.5).
	if spec := r.Header.Get("Range"); spec != "" && r.Header.Get("If-Range") == "" {
		start, length, status = parseRange(spec, size)
	}
	switch status {
	case http.StatusRequestedRangeNotSatisfiable:
		head["Content-Range"] = []string{fmt.Sprintf("bytes */%d", size)}
		return h.refuse(w, r, refuse(status, "The piece has %d bytes; the range begins after its end.", size))
	case http.StatusPartialContent:
		head["Content-Range"] = []string{fmt.Sprintf("bytes %d-%d/%d", start, start+length-1, size)}
	}
	head["Content-Length"] = []string{strconv.FormatInt(length, 10)}
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return status
	}
	for _, c := range contents {
		n := min(length, c.Size-start)
		if n <= 0 {
			start -= c.Size
			continue
		}
		sent, err := send(w, c, start, n)
		h.stats.bytes.Add(uint64(sent))
		if err != nil {
			// The viewer hung up or the disk failed. Less was sent than
			// Content-Length promised, so net/http ends the connection.
			break
		}
		start, length = 0, length-n
	}
	return status
}

// parseRange reads a Range header of one range (RFC 9110 §14.2). Anything else
// is ignored, as the standard allows: the whole is sent.
func parseRange(spec string, size int64) (start, length int64, status int) {
	set, ok := strings.CutPrefix(spec, "bytes=")
	from, to, dash := strings.Cut(set, "-")
	if !ok || !dash {
		return 0, size, http.StatusOK
	}
	first, ok1 := parseOffset(from)
	last, ok2 := parseOffset(to)
	switch {
	case from == "" && ok2: // the last bytes
		if last == 0 || size == 0 {
			return 0, 0, http.StatusRequestedRangeNotSatisfiable
		}
		last = min(last, size)
		return size - last, last, http.StatusPartialContent
	case !ok1 || to != "" && (!ok2 || last < first):
		return 0, size, http.StatusOK
	case first >= size:
		return 0, 0, http.StatusRequestedRangeNotSatisfiable
	case to == "" || last >= size:
		last = size - 1
	}
	return first, last - first + 1, http.StatusPartialContent
}

func parseOffset(s string) (int64, bool) {
	n, err := strconv.ParseUint(s, 10, 62)
	return int64(n), err == nil && s[0] != '+'
}

// send writes length bytes of c from start on. A file goes to the response as
// it is, so that the network reads it by sendfile.
func send(w http.ResponseWriter, c *segment.Content, start, length int64) (int64, error) {
	if c.Buffers != nil {
		return sendBuffers(w, c.Buffers, start, length)
	}
	if c.File == nil {
		return 0, io.ErrUnexpectedEOF
	}
	offset := start
	if _, ok := c.File.(*os.File); ok {
		offset += c.Offset
	}
	if offset > 0 {
		if _, err := c.File.Seek(offset, io.SeekStart); err != nil {
			return 0, err
		}
	}
	return io.CopyN(w, c.File, length)
}

const (
	// smallBuffer is the size below which buffers are gathered before they are
	// written: a system call costs as much as copying some kilobytes.
	smallBuffer = 8 << 10
	// gatherSize is how much is gathered.
	gatherSize = 64 << 10
)

var gathers = sync.Pool{New: func() any { b := make([]byte, 0, gatherSize); return &b }}

// sendBuffers writes large buffers as they are and gathers small ones.
func sendBuffers(w io.Writer, buffers [][]byte, start, length int64) (sent int64, err error) {
	held := gathers.Get().(*[]byte)
	defer func() {
		*held = (*held)[:0]
		gathers.Put(held)
	}()
	write := func(p []byte) {
		if len(p) > 0 && err == nil {
			var n int
			n, err = w.Write(p)
			sent += int64(n)
		}
	}
	flush := func() {
		write(*held)
		*held = (*held)[:0]
	}
	for i, b := range buffers {
		if start >= int64(len(b)) {
			start -= int64(len(b))
			continue
		}
		b = b[start:]
		start = 0
		b = b[:min(int64(len(b)), length)]
		length -= int64(len(b))
		last := length == 0 || i == len(buffers)-1
		switch {
		case len(b) >= smallBuffer || len(*held) == 0 && last:
			flush()
			write(b)
		default:
			if len(*held)+len(b) > gatherSize {
				flush()
			}
			*held = append(*held, b...)
		}
		if last {
			break
		}
	}
	flush()
	if err == nil && length > 0 {
		err = io.ErrUnexpectedEOF
	}
	return sent, err
}
