// Package diagnostics answers questions about the server on the addresses and
// in the words of the engine that Kaltura ran before, so that the dashboards
// and scripts of operators go on working:
//
//	GET /diagnostics/info                       the server
//	GET /diagnostics/entries                    what is on air
//	GET /diagnostics/errors                     the last refused publishers
//	GET /diagnostics/killConnection?clientId=N  disconnects a publisher
//
// Handler is the type to read first. What is asked here is asked better of the
// control API, which says more.
package diagnostics

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/stream"
)

// Options is what a Handler is made of; all are required but Logger.
type Options struct {
	Live    stream.Live
	Journal stream.Journal
	// Name and Version are of the program, Host is this server as the backend
	// knows it, Start when it started.
	Name, Version, Host string
	Start               time.Time
	Logger              *slog.Logger
}

// Handler answers below /diagnostics/. Whoever mounts it decides who may read;
// killConnection needs the role admin by itself. It is safe for concurrent
// use.
type Handler struct {
	options Options
	load    func() (float64, bool) // load of the machine, in processors

	mu       sync.Mutex // guards the field below
	refusals []refusal  // in the order of the journal, at most maxRefusals, each with a key of its own
}

var _ http.Handler = (*Handler)(nil)

// New makes a handler. It knows of no refusal before Run.
func New(o Options) *Handler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Handler{options: o, load: loadAverage}
}

// commands are the last parts of the addresses, in the order they are told.
var commands = []string{"info", "entries", "errors", "killConnection"}

// failure is the answer to what cannot be done.
type failure struct{ Error string }

// ServeHTTP answers one question. An unknown one is answered with status 200
// and the field Error, as it always was; what is not allowed with 403 or 405.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	command := path.Base(r.URL.Path)
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		h.answer(w, http.StatusMethodNotAllowed, failure{"use GET"})
		return
	}
	switch command {
	case "info":
		h.answer(w, http.StatusOK, h.info(time.Now()))
	case "entries":
		h.answer(w, http.StatusOK, h.entries(time.Now()))
	case "errors":
		h.answer(w, http.StatusOK, h.errors())
	case "killConnection":
		h.kill(w, r)
	default:
		h.answer(w, http.StatusOK, failure{fmt.Sprintf("Got argument: %.40s, valid arguments: %s", command, strings.Join(commands, ", "))})
	}
}

// answer writes v as JSON.
func (h *Handler) answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		h.options.Logger.Error("diagnostics could not be written as JSON", "error", err)
		status, body = http.StatusInternalServerError, []byte(`{"Error":"internal"}`)
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // who has gone needs no answer
}

// kill disconnects the publisher that clientId names: the id of a session, or
// its number in the answer to entries. The publisher may come back.
func (h *Handler) kill(w http.ResponseWriter, r *http.Request) {
	if err := auth.Require(r.Context(), auth.Admin); err != nil {
		h.answer(w, http.StatusForbidden, failure{fault.From(err).Message})
		return
	}
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET")
		h.answer(w, http.StatusMethodNotAllowed, failure{"use GET"})
		return
	}
	session, err := h.find(r.URL.Query().Get("clientId"))
	if err == nil {
		err = h.options.Live.Disconnect(r.Context(), session, fault.New(fault.StoppedByOperator, "an operator closed the connection"))
	}
	if err != nil {
		h.answer(w, http.StatusOK, failure{fault.From(err).Message})
		return
	}
	h.options.Logger.LogAttrs(r.Context(), slog.LevelInfo, "a connection was closed through the diagnostics",
		slog.String("session", session), slog.String("by", auth.FromContext(r.Context()).Name))
	h.answer(w, http.StatusOK, struct{ Succeed bool }{true})
}

// find is the living session that clientId names.
func (h *Handler) find(client string) (string, error) {
	if client == "" {
		return "", fault.New(fault.MissingArgument, "clientId is missing: give the Id or SessionId of a connection in the answer to entries")
	}
	var found []string
	for _, s := range h.options.Live.Sessions("") {
		if !s.End.IsZero() {
			continue
		}
		if s.ID == client {
			return s.ID, nil
		}
		if strconv.FormatUint(uint64(number(s.ID)), 10) == client {
			found = append(found, s.ID)
		}
	}
	switch len(found) {
	case 0:
		return "", fault.New(fault.SessionNotFound, "no connection %.40q is open", client)
	case 1:
		return found[0], nil
	}
	return "", fault.New(fault.InvalidField, "several connections have the number %.40s: give the SessionId of one", client)
}

// number is a session's id for programs that take numbers only: it is positive
// and fits into 31 bits.
func number(session string) uint32 {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(session)) // cannot fail
	return sum.Sum32() & 0x7fffffff
}

// Run keeps the last refusals: it reads those that the journal has, and
// follows it until ctx ends, which is its error. A journal that cannot be read
// is tried again.
func (h *Handler) Run(ctx context.Context) error {
	last, _ := h.options.Journal.Last()
	h.readBack(ctx, last)
	for ctx.Err() == nil {
		newest, changed := h.options.Journal.Last()
		if last < newest {
			events, _, err := h.options.Journal.Read(ctx, last, page)
			switch {
			case err != nil:
				h.options.Logger.Warn("the last refusals could not be read", "error", err)
				pause(ctx, readPause)
			case len(events) == 0: // only lines that cannot be read
				last = newest
			default:
				h.keep(events)
				last = events[len(events)-1].Sequence
			}
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

// How the journal is read.
const (
	page      = 500 // events at a time
	maxBack   = 20  // pages that are looked through for old refusals
	readPause = 5 * time.Second
)

// readBack finds the newest refusals up to the event with the number last, by
// going back page after page.
func (h *Handler) readBack(ctx context.Context, last uint64) {
	var found []stream.Event // oldest first
	for n, end := 0, last; n < maxBack && end > 0 && len(found) < maxRefusals && ctx.Err() == nil; n++ {
		begin := end - min(end, page)
		events, _, err := h.options.Journal.Read(ctx, begin, page)
		if err != nil {
			h.options.Logger.Warn("the last refusals could not be read", "error", err)
			break
		}
		var older []stream.Event
		for _, e := range events {
			if e.Type == stream.PublishRefused && e.Sequence <= end {
				older = append(older, e)
			}
		}
		found = append(older, found...)
		end = begin
	}
	h.keep(found)
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
