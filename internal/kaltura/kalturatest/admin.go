package kalturatest

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxAdminBody bounds what the simulator's own switches read.
const maxAdminBody = 64 << 10

// faultRequest is a Fault with a delay that people can write.
type faultRequest struct {
	Fault
	Delay string `json:"delay"`
}

// serveAdmin answers the simulator's own switches. They have no password:
// whoever may reach the simulator may break it.
//
//	GET    /simulator/state            everything the backend knows
//	POST   /simulator/faults           {"kind":"down","action":"authenticate","times":3}
//	DELETE /simulator/faults[/{id}]    end one fault, or all
//	POST   /simulator/sessions:revoke  make every session met so far invalid
//	POST   /simulator/partners/{id}:block, …:unblock
//	POST   /simulator/entries/{id}:goLive, …:preview   what a producer does to an entry with explicitLive
func (b *Backend) serveAdmin(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/simulator/")
	partner, isPartner := strings.CutPrefix(path, "partners/")
	entry, isEntry := strings.CutPrefix(path, "entries/")
	fault, isFault := strings.CutPrefix(path, "faults/")
	switch {
	case path == "state" && r.Method == http.MethodGet:
		sendJSON(w, http.StatusOK, b.State())
	case path == "faults" && r.Method == http.MethodPost:
		b.adminInject(w, r)
	case (path == "faults" || isFault) && r.Method == http.MethodDelete:
		id := 0
		if isFault {
			var err error
			if id, err = strconv.Atoi(fault); err != nil || id < 1 {
				sendError(w, http.StatusBadRequest, "a fault has a number: DELETE /simulator/faults/7")
				return
			}
		}
		b.ClearFaults(id)
		sendJSON(w, http.StatusOK, map[string]any{"faults": append([]Fault{}, b.State().Faults...)})
	case path == "sessions:revoke" && r.Method == http.MethodPost:
		b.RevokeSessions()
		sendJSON(w, http.StatusOK, map[string]any{})
	case isPartner && r.Method == http.MethodPost:
		b.adminPartner(w, partner)
	case isEntry && r.Method == http.MethodPost:
		b.adminEntry(w, entry)
	default:
		sendError(w, http.StatusNotFound, "no such switch; see GET /simulator/state, POST and DELETE /simulator/faults, "+
			"POST /simulator/sessions:revoke, POST /simulator/partners/{id}:block, POST /simulator/entries/{id}:goLive")
	}
}

func (b *Backend) adminInject(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAdminBody))
	if err != nil {
		sendError(w, http.StatusRequestEntityTooLarge, "the fault is too long")
		return
	}
	var f faultRequest
	if err := json.Unmarshal(body, &f); err != nil {
		sendError(w, http.StatusBadRequest, `a fault is an object such as {"kind":"slow","delay":"5s"}: `+err.Error())
		return
	}
	if f.Delay != "" {
		if f.Fault.Delay, err = time.ParseDuration(f.Delay); err != nil {
			sendError(w, http.StatusBadRequest, `a delay looks like "5s" or "200ms"`)
			return
		}
	}
	id, err := b.Inject(f.Fault)
	if err != nil {
		sendError(w, http.StatusBadRequest, err.Error())
		return
	}
	sendJSON(w, http.StatusOK, map[string]any{"id": id})
}

func (b *Backend) adminPartner(w http.ResponseWriter, path string) {
	number, verb, _ := strings.Cut(path, ":")
	id, err := strconv.Atoi(number)
	b.mu.Lock()
	p := b.partners[id]
	known := err == nil && p != nil && (verb == "block" || verb == "unblock")
	if known {
		changed := *p
		changed.Blocked = verb == "block"
		b.partners[id] = &changed
	}
	b.mu.Unlock()
	if !known {
		sendError(w, http.StatusNotFound, "POST /simulator/partners/{id}:block or :unblock of a partner that exists")
		return
	}
	sendJSON(w, http.StatusOK, map[string]any{"partner": id, "blocked": verb == "block"})
}

func (b *Backend) adminEntry(w http.ResponseWriter, path string) {
	id, verb, _ := strings.Cut(path, ":")
	if (verb != "goLive" && verb != "preview") || !b.Explicit(id, verb == "goLive") {
		sendError(w, http.StatusNotFound, "POST /simulator/entries/{id}:goLive or :preview of an entry with explicitLive")
		return
	}
	sendJSON(w, http.StatusOK, map[string]any{"entry": id, "live": verb == "goLive"})
}

// Explicit does what a producer does to an entry with explicitLive: shows it
// to everybody and records it, or takes both back. It reports whether the entry
// is such a one.
func (b *Backend) Explicit(entry string, live bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[entry]
	if e == nil || !e.ExplicitLive {
		return false
	}
	e.viewMode, e.recordingStatus = viewPreview, recordingStopped
	if live {
		e.viewMode, e.recordingStatus = viewAll, recordingActive
	}
	return true
}

func sendJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		http.Error(w, "cannot encode", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

func sendError(w http.ResponseWriter, status int, message string) {
	sendJSON(w, status, map[string]string{"error": message})
}
