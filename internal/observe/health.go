package observe

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/klive-media/klive/internal/fault"
)

// checkTimeout bounds all checks of one probe together; a probe that does not answer is worse than
// one that says no.
const checkTimeout = 2 * time.Second

// Check reports what keeps a part of the server from working, or nil. It returns when ctx ends.
type Check func(ctx context.Context) error

// Health answers the three probes of an orchestrator. It is alive from its making on, started after
// Started, and ready while it is started, not draining, and every check of readiness passes.
type Health struct {
	draining chan struct{} // closed by Drain

	mu      sync.Mutex // guards the fields below; never held while a check runs
	live    []namedCheck
	ready   []namedCheck
	started bool
	drained bool
}

type namedCheck struct {
	name  string
	check Check
}

// NewHealth makes a Health without checks that has not started.
func NewHealth() *Health { return &Health{draining: make(chan struct{})} }

// AddReady adds a check of readiness: while it fails, no traffic should be sent here.
func (h *Health) AddReady(name string, check Check) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready = append(h.ready, namedCheck{name, check})
}

// AddLive adds a check of liveness: while it fails, only a restart helps. Add one only for what a
// restart does help.
func (h *Health) AddLive(name string, check Check) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.live = append(h.live, namedCheck{name, check})
}

// Started says that the server has finished starting.
func (h *Health) Started() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.started = true
}

// Drain turns readiness off for good: the server takes no new work and is about to stop. It stays alive.
func (h *Health) Drain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.drained {
		h.drained = true
		close(h.draining)
	}
}

// Draining is closed when Drain is called; the gRPC health service turns NOT_SERVING then.
func (h *Health) Draining() <-chan struct{} { return h.draining }

// Report is the answer of a probe.
type Report struct {
	OK     bool          `json:"-"`
	Status string        `json:"status"` // ok or failing
	Checks []CheckResult `json:"checks"` // of every check, in the order they were added
}

// CheckResult is the answer of one check.
type CheckResult struct {
	Name   string `json:"name"`
	Status string `json:"status"`          // ok or failing
	Error  string `json:"error,omitempty"` // what is wrong; empty when ok
}

var (
	errStarting = errors.New("the server is starting")
	errDraining = errors.New("the server is draining and takes no new work")
)

// Live runs the checks of liveness.
func (h *Health) Live(ctx context.Context) Report {
	h.mu.Lock()
	checks := slices.Clone(h.live)
	h.mu.Unlock()
	return runChecks(ctx, checks)
}

// Ready runs the checks of readiness, with whether the server has started and is not draining.
func (h *Health) Ready(ctx context.Context) Report {
	checks := []namedCheck{h.startedCheck(), {"serving", func(context.Context) error {
		select {
		case <-h.draining:
			return errDraining
		default:
			return nil
		}
	}}}
	h.mu.Lock()
	checks = append(checks, h.ready...)
	h.mu.Unlock()
	return runChecks(ctx, checks)
}

// Startup tells whether the server has started.
func (h *Health) Startup(ctx context.Context) Report {
	return runChecks(ctx, []namedCheck{h.startedCheck()})
}

func (h *Health) startedCheck() namedCheck {
	return namedCheck{"started", func(context.Context) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if !h.started {
			return errStarting
		}
		return nil
	}}
}

func runChecks(ctx context.Context, checks []namedCheck) Report {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	report := Report{OK: true, Status: "ok", Checks: make([]CheckResult, 0, len(checks))}
	for _, c := range checks {
		result := CheckResult{Name: c.name, Status: "ok"}
		if err := c.check(ctx); err != nil {
			result.Status, result.Error = "failing", message(err)
			report.OK, report.Status = false, "failing"
		}
		report.Checks = append(report.Checks, result)
	}
	return report
}

// message is what a probe's caller is told: of a fault only the sentence meant for the outside.
func message(err error) string {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f.Message
	}
	return Redact(err.Error())
}

// Livez answers the liveness probe with 200 or 503 and the report as JSON.
func (h *Health) Livez() http.Handler { return probe(h.Live) }

// Readyz answers the readiness probe; see Livez.
func (h *Health) Readyz() http.Handler { return probe(h.Ready) }

// Startupz answers the startup probe; see Livez.
func (h *Health) Startupz() http.Handler { return probe(h.Startup) }

func probe(run func(context.Context) Report) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "use GET", http.StatusMethodNotAllowed)
			return
		}
		report := run(r.Context())
		body, err := json.Marshal(report)
		if err != nil { // strings only: cannot happen
			http.Error(w, "the report cannot be written", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if !report.OK {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		w.Write(append(body, '\n')) //nolint:errcheck // the caller went away; there is nobody to tell
	})
}
