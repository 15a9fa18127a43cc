package observe

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

func TestRegistryServesMetrics(t *testing.T) {
	r := NewRegistry(Build{Version: "1.2.3", Revision: "abc"})
	r.Counter("ingest_bytes_total", "Bytes received.", LabelProtocol).WithLabelValues("rtmp").Add(5)
	r.CounterFunc("ticks_total", "Ticks.", func() float64 { return 7 })
	r.Gauge("streams", "Streams on air.").WithLabelValues().Set(2)
	r.GaugeFunc("log_bytes", "Bytes in logs.", func() float64 { return 8 })
	r.Histogram("publish_handshake_seconds", "Handshakes.", []float64{0.1, 1}).WithLabelValues().Observe(0.5)

	problems, err := testutil.GatherAndLint(r.Gatherer(), "klive_ingest_bytes_total", "klive_ticks_total", "klive_streams",
		"klive_log_bytes", "klive_publish_handshake_seconds", "klive_build_info")
	require.NoError(t, err)
	require.Empty(t, problems)

	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, w.Code)
	for _, line := range []string{
		`klive_build_info{revision="abc",version="1.2.3"} 1`,
		`klive_ingest_bytes_total{protocol="rtmp"} 5`,
		"klive_ticks_total 7",
		"klive_streams 2",
		"klive_log_bytes 8",
		`klive_publish_handshake_seconds_bucket{le="1"} 1`,
		"go_goroutines ",
		"process_cpu_seconds_total ",
	} {
		require.Contains(t, w.Body.String(), line)
	}
}

func TestRegistryRefusesMistakes(t *testing.T) {
	r := NewRegistry(Build{})
	require.Panics(t, func() { r.Counter("bytes", "h") })
	require.Panics(t, func() { r.CounterFunc("bytes", "h", nil) })
	require.Panics(t, func() { r.Gauge("bytes_total", "h") })
	require.Panics(t, func() { r.GaugeFunc("bytes_total", "h", nil) })
	require.Panics(t, func() { r.Histogram("bytes_total", "h", nil) })
	r.Counter("bytes_total", "h")
	require.Panics(t, func() { r.Counter("bytes_total", "h") })
}

// onAir is a collector that describes the streams on air when it is asked.
type onAir struct{ desc *prometheus.Desc }

func (c onAir) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }
func (c onAir) Collect(ch chan<- prometheus.Metric) {
	ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, 1, "lobby")
}

func TestRegisterCollector(t *testing.T) {
	r := NewRegistry(Build{})
	c := onAir{Desc("stream_sessions", "Sessions of a stream.", LabelStream)}
	require.NoError(t, r.Register(c))
	require.ErrorContains(t, r.Register(c), "register metrics")
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Contains(t, w.Body.String(), `klive_stream_sessions{stream="lobby"} 1`)
}
