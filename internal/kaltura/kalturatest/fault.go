package kalturatest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// FaultKind is a way to misbehave.
type FaultKind string

// The kinds of faults.
const (
	Down   FaultKind = "down"   // the connection is dropped before anything is done
	Lost   FaultKind = "lost"   // the call is carried out, its answer is dropped
	Slow   FaultKind = "slow"   // the call is carried out after Delay
	Status FaultKind = "status" // answered with the HTTP status and a page of HTML; default 500
	HTML   FaultKind = "html"   // answered with status 200 and a page of HTML
	Empty  FaultKind = "empty"  // answered with status 200 and nothing
	Code   FaultKind = "code"   // answered with an error of the API
)

// Fault is a misbehaviour that lasts until it is cleared or used up.
type Fault struct {
	ID      int           `json:"id"`                // given by Inject
	Kind    FaultKind     `json:"kind"`              //
	Service string        `json:"service,omitempty"` // empty: every service; as on the wire, any case
	Action  string        `json:"action,omitempty"`  // empty: every action
	Times   int           `json:"times,omitempty"`   // how often; 0: until cleared
	Delay   time.Duration `json:"delay,omitempty"`   // of Slow, in nanoseconds
	Status  int           `json:"status,omitempty"`  // of Status
	Code    string        `json:"code,omitempty"`    // of Code: SERVICE_FORBIDDEN, INTERNAL_SERVERL_ERROR, …
}

func (f *Fault) check() error {
	kinds := []FaultKind{Down, Lost, Slow, Status, HTML, Empty, Code}
	switch {
	case !slices.Contains(kinds, f.Kind):
		return fmt.Errorf("fault kind %q is unknown; use one of %v", f.Kind, kinds)
	case f.Kind == Code && f.Code == "":
		return fmt.Errorf("a fault of kind %q needs the code of the error", Code)
	case f.Delay < 0 || f.Times < 0:
		return fmt.Errorf("a fault's delay and times are not negative")
	case f.Status != 0 && (f.Status < 300 || f.Status > 599):
		return fmt.Errorf("status %d is no failure; use 300 to 599", f.Status)
	}
	return nil
}

// Inject adds a fault and returns its number.
func (b *Backend) Inject(f Fault) (int, error) {
	if err := f.check(); err != nil {
		return 0, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	f.ID = b.nextID()
	b.faults = append(b.faults, &f)
	return f.ID, nil
}

// ClearFaults ends the fault with the number; 0 ends all.
func (b *Backend) ClearFaults(id int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = slices.DeleteFunc(b.faults, func(f *Fault) bool { return id == 0 || f.ID == id })
}

// harm is what is left to do after the faults that strike before a call.
type harm uint8

const (
	unharmed harm = iota
	lost          // run the call, drop the answer
	answered      // the answer was sent
)

// takeFaults uses up the faults that strike a call.
func (b *Backend) takeFaults(p params, strikes func(FaultKind) bool) []Fault {
	b.mu.Lock()
	defer b.mu.Unlock()
	var hit []Fault
	b.faults = slices.DeleteFunc(b.faults, func(f *Fault) bool {
		if !strikes(f.Kind) || f.Service != "" && !strings.EqualFold(f.Service, p.str("service")) ||
			f.Action != "" && !strings.EqualFold(f.Action, p.str("action")) {
			return false
		}
		hit = append(hit, *f)
		if f.Times == 0 {
			return false
		}
		f.Times--
		return f.Times == 0
	})
	return hit
}

// page is what a broken proxy sends instead of an answer.
const page = "<html><head><title>Oops</title></head><body><h1>We will be right back</h1></body></html>"

// faultBefore lets the faults strike that work on the HTTP exchange.
func (b *Backend) faultBefore(w http.ResponseWriter, r *http.Request, p params) harm {
	after := unharmed
	for _, f := range b.takeFaults(p, func(k FaultKind) bool { return k != Code }) {
		switch f.Kind {
		case Down:
			panic(http.ErrAbortHandler) // the documented way to drop a connection without an answer
		case Lost:
			after = lost
		case Slow:
			wait := time.NewTimer(f.Delay)
			select {
			case <-wait.C:
			case <-r.Context().Done():
				wait.Stop()
			}
		case Status:
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(max(f.Status, http.StatusInternalServerError*boolInt(f.Status == 0)))
			_, _ = w.Write([]byte(page))
			return answered
		case HTML:
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte(page))
			return answered
		case Empty:
			w.WriteHeader(http.StatusOK)
			return answered
		}
	}
	return after
}

// faultCode is the error of the API a call is answered with, or "".
func (b *Backend) faultCode(p params) string {
	for _, f := range b.takeFaults(p, func(k FaultKind) bool { return k == Code }) {
		return f.Code
	}
	return ""
}
