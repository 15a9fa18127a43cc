package observe

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// namespace begins the name of every metric that is ours.
const namespace = "klive"

// Label is a dimension of a metric. The ones there are have few values, or one for each stream; there
// is none for a viewer, an address or a session, because a server would drown in such series.
type Label string

// The labels.
const (
	LabelStream    Label = "stream"    // stream id
	LabelRendition Label = "rendition" // rendition of a stream
	LabelIndex     Label = "index"     // server index: 0 primary, 1 backup
	LabelProtocol  Label = "protocol"  // rtmp, hls, …
	LabelKind      Label = "kind"      // of media, request or event; a fixed set each
	LabelReason    Label = "reason"    // of a refusal or an end, from the table of reasons
	LabelState     Label = "state"     // of a stream or session
	LabelMethod    Label = "method"    // of an API
	LabelCode      Label = "code"      // of an answer
	LabelDirection Label = "direction" // in or out
)

// Build is what the program knows of its making.
type Build struct {
	Version  string // such as 0.1.0
	Revision string // of the source; may be empty
}

// Registry holds the metrics of one server. Its constructors give names the prefix klive_ and panic
// on a name or a label that breaks the rules or exists already: that is a mistake in the program,
// and every test that builds the server finds it.
type Registry struct{ registry *prometheus.Registry }

// NewRegistry makes a registry with the metrics of the process, of the Go runtime and of the build.
func NewRegistry(b Build) *Registry {
	r := &Registry{registry: prometheus.NewRegistry()}
	r.registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewBuildInfoCollector(),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace:   namespace,
			Name:        "build_info",
			Help:        "The build that runs, in its labels; always 1.",
			ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision},
		}, func() float64 { return 1 }),
	)
	return r
}

// Counter makes a counter for each combination of the labels' values. The name has its unit and ends
// in _total: "ingest_bytes_total".
func (r *Registry) Counter(name, help string, labels ...Label) *prometheus.CounterVec {
	mustEnd(name, "_total")
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, names(labels))
	r.registry.MustRegister(c)
	return c
}

// CounterFunc makes a counter that is read from fn when metrics are collected.
func (r *Registry) CounterFunc(name, help string, fn func() float64) {
	mustEnd(name, "_total")
	r.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, fn))
}

// Gauge makes a gauge for each combination of the labels' values. The name ends in its base unit where
// it has one: "log_bytes", "playlist_age_seconds".
func (r *Registry) Gauge(name, help string, labels ...Label) *prometheus.GaugeVec {
	mustNotEnd(name, "_total")
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, names(labels))
	r.registry.MustRegister(g)
	return g
}

// GaugeFunc makes a gauge that is read from fn when metrics are collected.
func (r *Registry) GaugeFunc(name, help string, fn func() float64) {
	mustNotEnd(name, "_total")
	r.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help}, fn))
}

// Histogram makes a histogram for each combination of the labels' values. The name ends in its base
// unit: "publish_handshake_seconds".
func (r *Registry) Histogram(name, help string, buckets []float64, labels ...Label) *prometheus.HistogramVec {
	mustNotEnd(name, "_total")
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}, names(labels))
	r.registry.MustRegister(h)
	return h
}

// Register adds a collector made elsewhere, such as one that walks the streams on air when metrics are
// collected; its metrics should have the prefix klive_.
func (r *Registry) Register(c prometheus.Collector) error {
	if err := r.registry.Register(c); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	return nil
}

// Desc describes a metric of a collector given to Register: prefix, name, help and labels.
func Desc(name, help string, labels ...Label) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, names(labels), nil)
}

// Handler serves the metrics to Prometheus.
func (r *Registry) Handler() http.Handler {
	return promhttp.HandlerFor(r.registry, promhttp.HandlerOpts{Registry: r.registry, EnableOpenMetrics: true})
}

// Gatherer gives the metrics to tests.
func (r *Registry) Gatherer() prometheus.Gatherer { return r.registry }

func names(labels []Label) []string {
	out := make([]string, len(labels))
	for i, l := range labels {
		out[i] = string(l)
	}
	return out
}

func mustEnd(name, suffix string) {
	if !strings.HasSuffix(name, suffix) {
		panic("observe: the name of the counter " + name + " must end in " + suffix)
	}
}

func mustNotEnd(name, suffix string) {
	if strings.HasSuffix(name, suffix) {
		panic("observe: " + name + " is no counter and may not end in " + suffix)
	}
}
