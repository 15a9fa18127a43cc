package app

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/klive-media/klive/internal/kaltura/client"
	"github.com/klive-media/klive/internal/observe"
	"github.com/klive-media/klive/internal/stream"
)

// callBuckets are seconds: a near backend answers in tens of milliseconds, a
// busy one in seconds, and after 30 s a call is given up.
var callBuckets = []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// bridgeCalls counts what the bridge asks of the backend.
type bridgeCalls struct {
	calls   *prometheus.CounterVec
	took    *prometheus.HistogramVec
	away    prometheus.Gauge
	renewed prometheus.Counter
}

var _ client.Observer = (*bridgeCalls)(nil)

func newBridgeCalls(m *observe.Registry) *bridgeCalls {
	return &bridgeCalls{
		calls: m.Counter("kaltura_calls_total",
			"Calls of the Kaltura backend; the code is ok, a code of the backend, or why there was no answer. The method multirequest is a round trip of several calls, which are counted as well.", observe.LabelMethod, observe.LabelCode),
		took:    m.Histogram("kaltura_call_seconds", "How long round trips to the Kaltura backend took.", callBuckets, observe.LabelMethod),
		away:    m.Gauge("kaltura_backend_away", "1 while the Kaltura backend does not answer and is left alone.").WithLabelValues(),
		renewed: m.Counter("kaltura_sessions_total", "Kaltura sessions made.").WithLabelValues(),
	}
}

// Called implements client.Observer.
func (b *bridgeCalls) Called(service, action, outcome string, took time.Duration) {
	method := service
	if action != "" {
		method += "." + action
	}
	b.calls.WithLabelValues(method, outcome).Inc()
	if took > 0 { // else it had no round trip of its own: the breaker's, and a part of a multirequest
		b.took.WithLabelValues(method).Observe(took.Seconds())
	}
}

// BreakerChanged implements client.Observer.
func (b *bridgeCalls) BreakerChanged(open bool) {
	b.away.Set(0)
	if open {
		b.away.Set(1)
	}
}

// SessionRenewed implements client.Observer.
func (b *bridgeCalls) SessionRenewed() { b.renewed.Inc() }

// collectBridge shows what the bridge has to do.
func (s *Server) collectBridge() {
	registrations := observe.Desc("kaltura_registrations", "Entries at a server index, by what the backend was told last.", observe.LabelState)
	deliveries := observe.Desc("kaltura_deliveries", "Pieces of recordings on their way to the backend.", observe.LabelState)
	decided := observe.Desc("kaltura_deliveries_total",
		"What became of pieces since the start: the backend has them, their answer was lost, it refused them, or somebody accepted them as delivered.", observe.LabelState)
	oldest := observe.Desc("kaltura_oldest_delivery_seconds", "How long the oldest piece has been waiting to be delivered.")
	known := observe.Desc("kaltura_node_registered", "1 while the backend knows this server.")
	s.register(&collector{[]*prometheus.Desc{registrations, deliveries, decided, oldest, known}, func(ch chan<- prometheus.Metric) {
		status := s.bridge.Status()
		registered := 0.0
		if status.Node.Registered {
			registered = 1
		}
		emit(ch, known, prometheus.GaugeValue, registered)
		states := map[stream.State]int{stream.Authenticated: 0, stream.Broadcasting: 0, stream.Playable: 0, stream.Stopped: 0}
		for _, r := range status.Registrations {
			states[r.State]++
		}
		for state, n := range states {
			emit(ch, registrations, prometheus.GaugeValue, float64(n), state.String())
		}
		stats := s.bridge.Deliveries().Stats()
		for state, n := range map[stream.DeliveryState]int{
			stream.DeliveryQueued: stats.Queued, stream.DeliverySending: stats.Sending,
			stream.DeliveryInDoubt: stats.InDoubt, stream.DeliveryRefused: stats.Refused,
		} {
			emit(ch, deliveries, prometheus.GaugeValue, float64(n), state.String())
		}
		for state, n := range map[string]uint64{
			stream.DeliveryDelivered.String(): stats.Sent, stream.DeliveryInDoubt.String(): stats.Doubted,
			stream.DeliveryRefused.String(): stats.Rejected, "ACCEPTED": stats.Accepted,
		} {
			emit(ch, decided, prometheus.CounterValue, float64(n), state)
		}
		age := 0.0
		if !stats.Oldest.IsZero() {
			age = time.Since(stats.Oldest).Seconds()
		}
		emit(ch, oldest, prometheus.GaugeValue, age)
	}})
	decisions := observe.Desc("kaltura_decisions_total", "Publishers decided about: from the book of grants, from memory, by the backend, or not asked for as too many were.", observe.LabelKind)
	s.register(&collector{[]*prometheus.Desc{decisions}, func(ch chan<- prometheus.Metric) {
		d := s.bridge.Decisions()
		emit(ch, decisions, prometheus.CounterValue, float64(d.FromBook), "book")
		emit(ch, decisions, prometheus.CounterValue, float64(d.FromMemory), "memory")
		emit(ch, decisions, prometheus.CounterValue, float64(d.Asked), "backend")
		emit(ch, decisions, prometheus.CounterValue, float64(d.TooMany), "too_many")
	}})
	beacons := observe.Desc("kaltura_beacons_total", "Alerts about publishers for the backend.", observe.LabelCode)
	s.register(&collector{[]*prometheus.Desc{beacons}, func(ch chan<- prometheus.Metric) {
		sent, failed, dropped := s.bridge.Beacons()
		emit(ch, beacons, prometheus.CounterValue, float64(sent), "sent")
		emit(ch, beacons, prometheus.CounterValue, float64(failed), "failed")
		emit(ch, beacons, prometheus.CounterValue, float64(dropped), "dropped")
	}})
}
