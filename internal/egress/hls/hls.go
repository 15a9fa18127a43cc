// Package hls is the door out for HTTP Live Streaming with its low-latency
// extension (RFC 8216bis), and the player page.
//
// It reads shelves (package segment) and keeps nothing but text: a playlist is
// rendered and compressed once per snapshot of a row, when the first viewer
// asks for it, and shared by all. Media go out as the shelf holds them, from a
// file by sendfile or from buffers that all viewers share.
//
// Handler is the type to read first. Addresses are in path.go, what may stand
// in a query in query.go, what a playlist says in render.go.
package hls

import (
	"net/http"
	"time"

	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/segment"
)

// Store finds shelves; segment.Store is one.
type Store interface {
	// Shelf finds a shelf; ok is false when it was never used or its retention
	// ended.
	Shelf(id segment.ShelfID) (s segment.Shelf, ok bool)
}

// Options are what a Handler needs.
type Options struct {
	Store Store
	// Playback says who may watch; nil lets everybody. It is asked for playlists
	// and media alike, but not for the player page, which says nothing of the
	// stream.
	Playback auth.Playback
	// LowLatency lists parts and answers blocking reloads; without it playlists
	// list whole segments only.
	LowLatency bool
}

// Handler answers everything below /live/ and /kLive/ that is HLS or the
// player page. It starts no goroutine and needs no closing.
type Handler struct {
	shelves    shelves
	playback   auth.Playback // nil: everybody may watch
	lowLatency bool
	page       page
	stats      Stats
}

var _ http.Handler = (*Handler)(nil)

// New makes a handler.
func New(o Options) *Handler {
	h := &Handler{
		shelves:    shelves{store: o.Store, byID: make(map[segment.ShelfID]*shelf)},
		playback:   o.Playback,
		lowLatency: o.LowLatency,
		page:       newPage(),
	}
	if _, open := h.playback.(auth.OpenPlayback); open {
		h.playback = nil
	}
	return h
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, ok := parsePath(r.URL.Path)
	var status int
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		status = h.refuse(w, r, refuse(http.StatusMethodNotAllowed, "This address can only be read; use GET."))
	case !ok:
		status = h.refuse(w, r, refuseAddress())
	default:
		status = h.dispatch(w, r, &a)
	}
	h.stats.count(a.class, status)
}

// dispatch answers a request for a and returns the status.
func (h *Handler) dispatch(w http.ResponseWriter, r *http.Request, a *address) int {
	switch a.class {
	case classPage, classAsset, classRedirect:
		return h.page.serve(h, w, r, a)
	}
	q, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return h.refuse(w, r, refuse(http.StatusBadRequest, "%s.", sentence(err)))
	}
	rest := ""
	if a.name != "" {
		if a.stream, rest, _ = splitName(a.name, h.onShelf); a.stream == "" {
			return h.refuse(w, r, refuse(http.StatusNotFound, "No stream of this address has something to play now."))
		}
	}
	if f := h.mayPlay(w, r, a.stream); f != nil {
		return h.refuse(w, r, f)
	}
	switch a.class {
	case classInit, classSegment, classPart:
		return h.serveMedia(w, r, a)
	case classMedia:
		return h.servePlaylist(w, r, a, &q)
	case classChunklist:
		return h.serveChunklist(w, r, a, &q)
	default:
		return h.serveMultivariant(w, r, a, &q, rest)
	}
}

// refuse answers with a refusal and returns its status.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, f *refusal) int {
	f.write(w, r)
	return f.status
}

// mayPlay asks whether the viewer may watch the stream. Whatever is answered
// about a restricted stream, it is for this viewer alone.
func (h *Handler) mayPlay(w http.ResponseWriter, r *http.Request, stream string) *refusal {
	if h.playback == nil {
		return nil
	}
	if h.playback.Restricted(stream) {
		w.Header()["Cache-Control"] = cachePrivate
	}
	shown := r.Header.Get("Authorization")
	err := h.playback.MayPlay(r.Context(), auth.PlayRequest{Stream: stream, Remote: r.RemoteAddr, Header: shown})
	if err == nil {
		return nil
	}
	if !h.onShelf(stream) { // nothing is kept from anybody: those who wait for it ask through one cache
		delete(w.Header(), "Cache-Control")
		return refuseStream(stream)
	}
	f := refuseFault(err)
	if shown == "" && f.status == http.StatusForbidden { // it may show something (RFC 9110 §15.5.2)
		f.status = http.StatusUnauthorized
	}
	return f
}

// onShelf reports whether the stream has a shelf at either server index.
func (h *Handler) onShelf(stream string) bool {
	for i := range 2 {
		if _, ok := h.shelves.store.Shelf(segment.ShelfID{Stream: stream, ServerIndex: i}); ok {
			return true
		}
	}
	return false
}

// choose picks the shelf that answers a request: the one the viewer named, or
// the primary while it is live, else the backup while that is, else what is
// left of either. there says whether a shelf has what is asked for, and whether
// that is live. nil when neither has it.
func (h *Handler) choose(stream string, server int, there func(*shelf) (has, live bool)) *shelf {
	if server != anyServer {
		s := h.shelves.find(segment.ShelfID{Stream: stream, ServerIndex: server})
		if s == nil {
			return nil
		}
		if has, _ := there(s); !has {
			return nil
		}
		return s
	}
	var ended *shelf
	for i := range 2 {
		s := h.shelves.find(segment.ShelfID{Stream: stream, ServerIndex: i})
		if s == nil {
			continue
		}
		has, live := there(s)
		if has && live {
			return s
		}
		if has && ended == nil {
			ended = s
		}
	}
	return ended
}

// servePlaylist answers with a row's media playlist.
func (h *Handler) servePlaylist(w http.ResponseWriter, r *http.Request, a *address, q *query) int {
	id := segment.RowID{Rendition: a.rendition, Kind: a.kind}
	s := h.choose(a.stream, q.server, func(s *shelf) (bool, bool) {
		x := s.shelf.Index(id)
		return x != nil && playable(x, h.lowLatency), x != nil && !x.Ended
	})
	var v *row
	if s != nil {
		v = s.row(h, a.rendition, a.kind)
	}
	if v == nil {
		return h.refuse(w, r, refuseStream(a.stream))
	}
	s.asked.Store(time.Now().UnixNano())
	if q.blocking && h.lowLatency {
		if status := h.hold(w, r, v, q.reached); status != 0 {
			return status
		}
	}
	how := variant(0)
	if q.skip && h.lowLatency {
		how |= delta
	}
	if q.server != anyServer {
		how |= chosen
	}
	p := v.playlist(how)
	if p == nil {
		return h.refuse(w, r, refuseStream(a.stream))
	}
	cache := cacheSecond
	if q.blocking && h.lowLatency && !p.index.Ended {
		cache = cacheSixTargets(p.index.Targets.Segment)
	}
	h.writeText(w, r, p.text, cache)
	return http.StatusOK
}

// hold keeps the request waiting. It returns 0 when the wait is over, else the
// status of the answer.
func (h *Handler) hold(w http.ResponseWriter, r *http.Request, v *row, done func(*segment.Index) (bool, *refusal)) int {
	result := h.await(r.Context(), v, done)
	switch {
	case result.gone:
		// Nobody reads this, unless it is the server that goes away.
		h.refuse(w, r, refuse(http.StatusServiceUnavailable, "The server is stopping; try again."))
		return statusViewerGone
	case result.refusal != nil:
		return h.refuse(w, r, result.refusal)
	}
	return 0
}

// serveMultivariant answers with the playlist of playlists of either layout.
// rest is what follows the id in a name of Kaltura's layout.
func (h *Handler) serveMultivariant(w http.ResponseWriter, r *http.Request, a *address, q *query, rest string) int {
	s := h.choose(a.stream, q.server, func(s *shelf) (has, live bool) {
		list, _ := s.shelf.Renditions()
		for _, g := range s.ladder(list, h.lowLatency) {
			has = true
			live = live || g.video != nil && !g.video.Ended || g.audio != nil && !g.audio.Ended
		}
		return has, live
	})
	if s == nil {
		return h.refuse(w, r, refuseStream(a.stream))
	}
	s.asked.Store(time.Now().UnixNano())
	if a.name == "" {
		t := s.multivariant(h, q.carry())
		if t == nil {
			return h.refuse(w, r, refuseStream(a.stream))
		}
		h.writeText(w, r, t, cacheSecond)
		return http.StatusOK
	}
	list, _ := s.shelf.Renditions()
	body := s.renderKaltura(list, flavorFilter(a.name, rest, q.flavors, list), q.carry())
	if body == nil {
		return h.refuse(w, r, refuse(http.StatusNotFound, "The stream %q has no flavor of this address to play now.", a.stream))
	}
	h.stats.renders.Add(1)
	h.writeText(w, r, newText(body), cacheSecond)
	return http.StatusOK
}

// serveChunklist answers with a rendition's playlist of picture and sound in
// one.
func (h *Handler) serveChunklist(w http.ResponseWriter, r *http.Request, a *address, q *query) int {
	rows := rowsOf(a.rendition)
	s := h.choose(a.stream, q.server, func(s *shelf) (has, live bool) {
		for _, id := range rows {
			if x := s.shelf.Index(id); x != nil {
				has, live = true, live || !x.Ended
			}
		}
		return has, live
	})
	var t *text
	if s != nil {
		t = s.chunklist(h, a.rendition)
	}
	if t == nil {
		return h.refuse(w, r, refuseStream(a.stream))
	}
	s.asked.Store(time.Now().UnixNano())
	h.writeText(w, r, t, cacheSecond)
	return http.StatusOK
}
