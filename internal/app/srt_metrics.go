package app

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/klive-media/klive/internal/ingest/srt"
	"github.com/klive-media/klive/internal/observe"
	wire "github.com/klive-media/klive/internal/srt"
)

// collectSRT shows what the SRT door and its port count.
func (s *Server) collectSRT(stats *srt.Stats, port *wire.Stats) {
	m := s.metrics
	counter := func(name, help string, load func() uint64) {
		m.CounterFunc(name, help, func() float64 { return float64(load()) })
	}
	m.GaugeFunc("srt_connections", "SRT connections open now.", func() float64 { return float64(stats.Connections.Load()) })
	m.GaugeFunc("srt_further_tracks", "Tracks behind the first picture and sound of an SRT connection that are on air now.", func() float64 { return float64(stats.FurtherTracks.Load()) })
	counter("srt_handshakes_total", "Callers that asked to come in by SRT.", stats.Handshakes.Load)
	counter("srt_connections_total", "SRT connections that were let in.", stats.Accepted.Load)
	counter("srt_received_bytes_total", "Payload received by SRT.", stats.BytesIn.Load)
	counter("srt_messages_total", "Messages received by SRT.", stats.Messages.Load)
	counter("srt_bad_messages_total", "Transport packets and units dropped because they could not be read.", stats.BadMessages.Load)
	counter("srt_refused_tracks_total", "Tracks behind the first picture and sound of an SRT connection that were not carried.", stats.RefusedTracks.Load)
	counter("srt_packets_total", "SRT packets received.", stats.Packets.Load)
	counter("srt_lost_packets_total", "SRT packets that did not come by themselves.", stats.Lost.Load)
	counter("srt_retransmitted_packets_total", "Lost SRT packets that came when they were sent again.", stats.Retransmitted.Load)
	counter("srt_dropped_packets_total", "Lost SRT packets that were given up.", stats.Dropped.Load)
	counter("srt_undecrypted_packets_total", "SRT packets that could not be decrypted.", stats.Undecrypted.Load)
	counter("srt_discontinuities_total", "Places in transport streams where data is missing.", stats.Discontinuities.Load)
	counter("srt_panics_total", "SRT connections ended by an error of the server.", stats.Panics.Load)
	counter("srt_datagrams_total", "Datagrams received on the SRT port.", port.Datagrams.Load)
	counter("srt_malformed_datagrams_total", "Datagrams on the SRT port that are not SRT.", port.Malformed.Load)
	counter("srt_stray_datagrams_total", "Datagrams on the SRT port for no connection, or not from its peer.", port.Strangers.Load)
	counter("srt_bad_cookies_total", "SRT handshakes whose sender may be forged.", port.BadCookies.Load)
	counter("srt_rejected_handshakes_total", "SRT callers turned away because of what they ask of the protocol, or because too many came.", port.Rejected.Load)
	counter("srt_unsent_datagrams_total", "Answers on the SRT port that the system did not take.", port.Unsent.Load)
	counter("srt_read_errors_total", "Times that the system could not give datagrams of the SRT port.", port.Unread.Load)
	refused := observe.Desc("srt_refused_total", "SRT callers turned away.", observe.LabelReason)
	s.register(&collector{[]*prometheus.Desc{refused}, func(ch chan<- prometheus.Metric) {
		byReason(ch, refused, stats.Refused())
	}})
	s.collectLinks(stats.Links)
}

// collectLinks shows the network to each encoder that publishes by SRT.
func (s *Server) collectLinks(links func() []srt.LinkInfo) {
	labels := []observe.Label{observe.LabelStream, observe.LabelIndex, observe.LabelRendition}
	rtt := observe.Desc("srt_rtt_seconds", "Round trip to the encoder of an ingest.", labels...)
	latency := observe.Desc("srt_latency_seconds", "How long missing packets of an ingest are waited for.", labels...)
	rate := observe.Desc("srt_receive_bits_per_second", "What is received of an ingest.", labels...)
	buffer := observe.Desc("srt_buffer_seconds", "Media received of an ingest and held back behind missing packets.", labels...)
	bandwidth := observe.Desc("srt_bandwidth_bits_per_second", "What the way from the encoder of an ingest is estimated to carry.", labels...)
	s.register(&collector{[]*prometheus.Desc{rtt, latency, rate, buffer, bandwidth}, func(ch chan<- prometheus.Metric) {
		shown := make(map[[3]string]bool)
		for _, l := range links() {
			at := [3]string{l.Stream, strconv.Itoa(l.ServerIndex), strconv.Itoa(l.Index)}
			// An encoder that is taken over may be here for a moment beside the new
			// one, and two values of one name would fail the whole answer.
			if shown[at] {
				continue
			}
			shown[at] = true
			emit(ch, rtt, prometheus.GaugeValue, time.Duration(l.Link.RTT.Load()).Seconds(), at[:]...)
			emit(ch, latency, prometheus.GaugeValue, time.Duration(l.Link.Latency.Load()).Seconds(), at[:]...)
			emit(ch, rate, prometheus.GaugeValue, float64(l.Link.Rate.Load()), at[:]...)
			emit(ch, buffer, prometheus.GaugeValue, time.Duration(l.Link.Buffered.Load()).Seconds(), at[:]...)
			emit(ch, bandwidth, prometheus.GaugeValue, float64(l.Link.Bandwidth.Load()), at[:]...)
		}
	}})
}
