package hls

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/klive-media/klive/internal/segment"
)

// codes are the statuses the handler answers with; 499 is a viewer that went
// away while it waited.
var codes = [...]int{
	http.StatusOK, http.StatusPartialContent, http.StatusMovedPermanently, http.StatusNotModified, http.StatusBadRequest,
	http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone,
	http.StatusRequestedRangeNotSatisfiable, statusViewerGone, http.StatusInternalServerError,
	http.StatusServiceUnavailable,
}

const statusViewerGone = 499

// Stats are what the handler counted since it was made. All methods may be
// called at any time.
type Stats struct {
	requests     [classCount][len(codes) + 1]atomic.Uint64
	bytes        atomic.Uint64
	renders      atomic.Uint64
	compressions atomic.Uint64
	blocked      atomic.Uint64
	waiting      atomic.Int64
}

func (s *Stats) count(c class, status int) {
	for i, code := range codes {
		if code == status {
			s.requests[c][i].Add(1)
			return
		}
	}
	s.requests[c][len(codes)].Add(1)
}

// Requests tells the number of answered requests by class ("multivariant",
// "media_playlist", "chunklist", "init", "segment", "part", "page", "asset",
// "redirect", or "none" for addresses that name nothing) and HTTP status; a
// status of 0 stands for all others. Pairs that never happened are left out.
func (s *Stats) Requests(tell func(class string, status int, n uint64)) {
	for c := range s.requests {
		for i := range s.requests[c] {
			n := s.requests[c][i].Load()
			status := 0
			if i < len(codes) {
				status = codes[i]
			}
			if n > 0 {
				tell(class(c).String(), status, n)
			}
		}
	}
}

// Bytes is the number of body bytes handed to the network.
func (s *Stats) Bytes() uint64 { return s.bytes.Load() }

// Renders is the number of playlists written.
func (s *Stats) Renders() uint64 { return s.renders.Load() }

// Compressions is the number of playlists compressed.
func (s *Stats) Compressions() uint64 { return s.compressions.Load() }

// Blocked is the number of requests that had to wait for media.
func (s *Stats) Blocked() uint64 { return s.blocked.Load() }

// Waiting is the number of requests that wait for media now.
func (s *Stats) Waiting() int { return int(s.waiting.Load()) }

// Stats returns the handler's counters.
func (h *Handler) Stats() *Stats { return &h.stats }

// Audience is what is known of a stream's HLS viewers without telling them
// apart.
type Audience struct {
	// Waiting requests for a part that is yet to come. A low-latency player
	// keeps one open for its picture and one for its sound.
	Waiting int
	// LastRequest is when a playlist was last asked for; zero when never.
	LastRequest time.Time
}

// Audience tells about the viewers of a shelf.
func (h *Handler) Audience(id segment.ShelfID) Audience {
	s := h.shelves.known(id)
	if s == nil {
		return Audience{}
	}
	a := Audience{Waiting: int(s.waiting.Load())}
	if at := s.asked.Load(); at != 0 {
		a.LastRequest = time.Unix(0, at)
	}
	return a
}
