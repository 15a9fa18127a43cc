package app

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/klive-media/klive/internal/fault"
	"github.com/klive-media/klive/internal/ingest/rtmp"
	"github.com/klive-media/klive/internal/observe"
)

// collector reads what others count when metrics are asked for, so that
// counting costs an atomic add and nothing more.
type collector struct {
	describe []*prometheus.Desc
	collect  func(chan<- prometheus.Metric)
}

var _ prometheus.Collector = (*collector)(nil)

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.describe {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) { c.collect(ch) }

// emit sends one value; d is always one of the collector's own descriptions
// with that many labels, so it cannot fail.
func emit(ch chan<- prometheus.Metric, d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
}

func (s *Server) register(c *collector) {
	if err := s.metrics.Register(c); err != nil {
		panic(err) // two metrics of one name: every test that builds the server finds it
	}
}

// collectRTMP shows what the RTMP door counts.
func (s *Server) collectRTMP(stats *rtmp.Stats) {
	m := s.metrics
	m.GaugeFunc("rtmp_connections", "RTMP connections open now.", func() float64 { return float64(stats.Connections.Load()) })
	m.CounterFunc("rtmp_connections_total", "RTMP connections accepted.", func() float64 { return float64(stats.Accepted.Load()) })
	m.CounterFunc("rtmp_received_bytes_total", "Bytes received by RTMP, protocol overhead included.", func() float64 { return float64(stats.BytesIn.Load()) })
	m.CounterFunc("rtmp_messages_total", "Audio, video and data messages received by RTMP.", func() float64 { return float64(stats.Messages.Load()) })
	m.CounterFunc("rtmp_bad_messages_total", "RTMP messages dropped because they could not be read.", func() float64 { return float64(stats.BadMessages.Load()) })
	m.GaugeFunc("rtmp_further_tracks", "Tracks behind the first picture and sound of an RTMP connection that are on air now.", func() float64 { return float64(stats.FurtherTracks.Load()) })
	m.CounterFunc("rtmp_refused_tracks_total", "Tracks behind the first picture and sound of an RTMP connection that were not carried.", func() float64 { return float64(stats.RefusedTracks.Load()) })
	m.CounterFunc("rtmp_panics_total", "RTMP connections ended by an error of the server.", func() float64 { return float64(stats.Panics.Load()) })
	refused := observe.Desc("rtmp_refused_total", "RTMP connections and publications turned away.", observe.LabelReason)
	s.register(&collector{[]*prometheus.Desc{refused}, func(ch chan<- prometheus.Metric) {
		byReason(ch, refused, stats.Refused())
	}})
}

func byReason(ch chan<- prometheus.Metric, d *prometheus.Desc, counts map[fault.Reason]uint64) {
	for reason, n := range counts {
		emit(ch, d, prometheus.CounterValue, float64(n), string(reason))
	}
}

// collectStreams shows what is on air.
func (s *Server) collectStreams() {
	s.collectCounters()
	sessions := observe.Desc("sessions", "Publishing sessions that live.", observe.LabelProtocol, observe.LabelState)
	state := observe.Desc("stream_state", "1 for the state a stream is in.", observe.LabelStream, observe.LabelState)
	bitrate := observe.Desc("rendition_bitrate_bits_per_second", "Media received for a rendition.", observe.LabelStream, observe.LabelIndex, observe.LabelRendition)
	logBytes := observe.Desc("log_bytes", "What the packet log of a rendition holds.", observe.LabelStream, observe.LabelIndex, observe.LabelRendition)
	logSpan := observe.Desc("log_span_seconds", "How much time the packet log of a rendition holds.", observe.LabelStream, observe.LabelIndex, observe.LabelRendition)
	laps := observe.Desc("log_laps_total", "Readers of a rendition's packet log that were too slow and were lapped.", observe.LabelStream, observe.LabelIndex, observe.LabelRendition)
	s.register(&collector{[]*prometheus.Desc{sessions, state, bitrate, logBytes, logSpan, laps}, func(ch chan<- prometheus.Metric) {
		rates := make(map[string]float64) // by session
		living := make(map[[2]string]int)
		for _, p := range s.registry.Sessions("") {
			if p.State.Live() {
				living[[2]string{p.Protocol, p.State.String()}]++
				rates[p.ID] = float64(p.Bitrate)
			}
		}
		for key, n := range living {
			emit(ch, sessions, prometheus.GaugeValue, float64(n), key[0], key[1])
		}
		list, _ := s.registry.Statuses()
		for _, st := range list {
			emit(ch, state, prometheus.GaugeValue, 1, st.Stream, st.State.String())
			for _, b := range st.Broadcasts {
				if !b.State.Live() {
					continue
				}
				for _, rd := range b.Renditions {
					at := []string{st.Stream, strconv.Itoa(b.ServerIndex), rd.ID}
					emit(ch, bitrate, prometheus.GaugeValue, rates[rd.Session], at...)
					emit(ch, logBytes, prometheus.GaugeValue, float64(rd.LogBytes), at...)
					emit(ch, logSpan, prometheus.GaugeValue, rd.LogSpan.Seconds(), at...)
					emit(ch, laps, prometheus.CounterValue, float64(rd.LogLaps), at...)
				}
			}
		}
	}})
}

// collectCounters shows what the registry and the segment store count.
func (s *Server) collectCounters() {
	m, c := s.metrics, s.registry.Counters()
	counter := func(name, help string, load func() uint64) {
		m.CounterFunc(name, help, func() float64 { return float64(load()) })
	}
	counter("publications_total", "Publishers let in.", c.Admitted.Load)
	counter("broadcasts_total", "Broadcasts begun.", c.Broadcasts.Load)
	counter("packets_total", "Packets of media taken into the pipeline.", c.Packets.Load)
	counter("media_bytes_total", "Payload of these packets.", c.MediaBytes.Load)
	counter("discontinuities_total", "Packets that begin a new timeline.", c.Discontinuities.Load)
	counter("time_repairs_total", "Packets whose time had to be repaired.", c.TimeRepairs.Load)
	counter("dropped_packets_total", "Packets that could not be carried.", c.DroppedPackets.Load)
	counter("media_gaps_total", "Stretches of media that are missing in segments.", c.Gaps.Load)
	counter("forced_cuts_total", "Segments that had to begin without a key frame.", c.ForcedCuts.Load)
	counter("events_dropped_total", "Events that could not be written to the event log.", s.events.Dropped)
	counter("refusals_unrecorded_total", "Refusals that came too often to stand in the event log.", s.registry.UntoldRefusals)
	refused := observe.Desc("publish_refused_total", "Publishers turned away.", observe.LabelReason)
	ended := observe.Desc("sessions_ended_total", "Sessions that ended.", observe.LabelReason)
	s.register(&collector{[]*prometheus.Desc{refused, ended}, func(ch chan<- prometheus.Metric) {
		byReason(ch, refused, c.Refused())
		byReason(ch, ended, c.Ended())
	}})

	m.GaugeFunc("segment_memory_bytes", "Parts held in memory.", func() float64 { return float64(s.shelves.Stats().MemoryBytes) })
	m.GaugeFunc("segment_disk_bytes", "Segments on disk.", func() float64 { return float64(s.shelves.Stats().DiskBytes) })
	counter("segments_total", "Segments made.", func() uint64 { return s.shelves.Stats().Segments })
	counter("parts_total", "Parts made.", func() uint64 { return s.shelves.Stats().Parts })
	counter("segment_write_failures_total", "Writes of segments that the disk refused.", func() uint64 { return s.shelves.Stats().WriteFailures })
}

// collectPlayback shows what viewers ask for.
func (s *Server) collectPlayback() {
	stats := s.playlists.Stats()
	m := s.metrics
	requests := observe.Desc("hls_requests_total", "HLS requests answered.", observe.LabelKind, observe.LabelCode)
	s.register(&collector{[]*prometheus.Desc{requests}, func(ch chan<- prometheus.Metric) {
		stats.Requests(func(class string, status int, n uint64) {
			code := "other"
			if status != 0 {
				code = strconv.Itoa(status)
			}
			emit(ch, requests, prometheus.CounterValue, float64(n), class, code)
		})
	}})
	m.CounterFunc("hls_sent_bytes_total", "Bytes of HLS bodies handed to the network.", func() float64 { return float64(stats.Bytes()) })
	m.CounterFunc("hls_renders_total", "Playlists written.", func() float64 { return float64(stats.Renders()) })
	m.CounterFunc("hls_compressions_total", "Playlists compressed.", func() float64 { return float64(stats.Compressions()) })
	m.CounterFunc("hls_blocked_requests_total", "Requests that waited for media.", func() float64 { return float64(stats.Blocked()) })
	m.GaugeFunc("hls_waiting_requests", "Requests that wait for media now.", func() float64 { return float64(stats.Waiting()) })

	listener := s.media.Stats()
	m.GaugeFunc("media_http_connections", "Connections to the media HTTP listener open now.", func() float64 { return float64(listener.Connections()) })
	m.GaugeFunc("media_http_viewers", "Of these, connections of viewers.", func() float64 { return float64(listener.Viewers()) })
	m.CounterFunc("media_http_connections_total", "Connections accepted by the media HTTP listener.", func() float64 { return float64(listener.Accepted()) })
	m.CounterFunc("media_http_refused_total", "Requests refused because limits.max_viewers was reached.", func() float64 { return float64(listener.Refused()) })
	m.CounterFunc("media_http_sent_bytes_total", "Bytes written to viewers, headers and TLS included.", func() float64 { return float64(listener.Bytes()) })
	m.CounterFunc("media_http_panics_total", "Requests ended by an error of the server.", func() float64 { return float64(listener.Panics()) })
}
