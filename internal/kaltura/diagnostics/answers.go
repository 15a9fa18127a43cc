package diagnostics

import (
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/klive-media/klive/internal/media"
	"github.com/klive-media/klive/internal/stream"
)

// info is the answer to info.
type info struct {
	JarName     string  `json:"jarName"` // the program; the word is the old engine's
	Version     string  `json:"version"`
	DateStarted string  `json:"dateStarted"`
	TimeRunning string  `json:"timeRunning"` // seconds
	HostName    string  `json:"hostName"`
	CPUUsage    float64 `json:"cpuUsage"` // load over processors; 1: all are busy
	GPU         gpu     `json:"gpu"`
	Inputs      int     `json:"inputStreamsCount"`
	Outputs     int     `json:"outputStreamsCount"`
	Entries     int     `json:"entriesCount"`
}

// gpu is there for programs that read it; this server does not look at GPUs.
type gpu struct {
	Memory  string `json:"gpuUsageMemory"`
	Encoder string `json:"gpuUsageEncoder"`
	Decoder string `json:"gpuUsageDecoder"`
}

func (h *Handler) info(now time.Time) info {
	o := h.options
	out := info{
		JarName: o.Name, Version: o.Version, HostName: o.Host, DateStarted: o.Start.UTC().Format(time.RFC3339),
		TimeRunning: strconv.FormatInt(int64(now.Sub(o.Start)/time.Second), 10),
	}
	if load, ok := h.load(); ok {
		out.CPUUsage = round(load / float64(runtime.NumCPU()))
	}
	for _, e := range h.entries(now) {
		out.Entries++
		out.Inputs += len(e.Inputs)
		out.Outputs += len(e.Outputs)
	}
	return out
}

// loadAverage is the machine's load over the last minute, where it tells one.
func loadAverage() (float64, bool) {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0, false
	}
	first, _, _ := strings.Cut(string(text), " ")
	load, err := strconv.ParseFloat(first, 64)
	return load, err == nil
}

// entry is one live entry in the answer to entries: inputs by ingest index,
// outputs by rendition. When primary and backup of an entry are both here,
// what the backup has is named with "_1" behind.
type entry struct {
	CurrentTime int64               `json:"currentTime"` // milliseconds of Unix
	Inputs      map[string]describe `json:"inputs"`
	Outputs     map[string]describe `json:"outputs"`
}

// describe is one stream.
type describe struct {
	Encoder       encoder        `json:"Encoder"`
	IOPerformance performance    `json:"IOPerformance"`
	SyncPTSData   map[string]any `json:"syncPTSData"`
	Properties    properties     `json:"Properties"`
}

// encoder is what is known of how a stream is coded; bit rates in kbit/s are
// those that the encoder announced. What is not known is left out.
type encoder struct {
	VideoCodec    string  `json:"videoCodec,omitempty"`
	AudioCodec    string  `json:"audioCodec,omitempty"`
	VideoBitrate  float64 `json:"videoBitrate,omitempty"`
	AudioBitrate  float64 `json:"audioBitrate,omitempty"`
	FrameRate     float64 `json:"frameRate,omitempty"`
	Width         int     `json:"width,omitempty"`
	Height        int     `json:"height,omitempty"`
	AudioRate     int     `json:"audioSampleRate,omitempty"`
	AudioChannels int     `json:"audioChannels,omitempty"`
	VideoProfile  string  `json:"videoCodecString,omitempty"` // RFC 6381
	AudioProfile  string  `json:"audioCodecString,omitempty"`
}

// performance is what a stream carries now.
type performance struct {
	Bitrate float64 `json:"bitrate"` // kbit/s
}

// properties are of the connection; the one misspelt is so in the original.
type properties struct {
	TimeRunning   float64 `json:"timeRunningSeconds"`
	ConnectionURL string  `json:"ConectionUrl,omitempty"`
	Encoder       string  `json:"encoder,omitempty"`
	IP            string  `json:"IP,omitempty"`
	ID            uint32  `json:"Id,omitempty"` // for killConnection
	SessionID     string  `json:"SessionId,omitempty"`
}

// backup is what the names of a backup's streams end with.
func backup(name string, serverIndex int) string {
	if serverIndex == 0 {
		return name
	}
	return name + "_" + strconv.Itoa(serverIndex)
}

// entries is the answer to entries: what is on air now.
func (h *Handler) entries(now time.Time) map[string]*entry {
	out := make(map[string]*entry)
	at := func(stream string) *entry {
		if out[stream] == nil {
			out[stream] = &entry{CurrentTime: now.UnixMilli(), Inputs: map[string]describe{}, Outputs: map[string]describe{}}
		}
		return out[stream]
	}
	feeding := make(map[string]stream.SessionStatus)
	for _, s := range h.options.Live.Sessions("") {
		if !s.End.IsZero() {
			continue
		}
		feeding[s.ID] = s
		at(s.Stream).Inputs[backup(strconv.Itoa(s.Index), s.ServerIndex)] = h.input(s, now)
	}
	list, _ := h.options.Live.Statuses()
	for _, st := range list {
		for _, b := range st.Broadcasts {
			if !b.State.Live() {
				continue
			}
			e := at(st.Stream)
			for _, r := range b.Renditions {
				d := describe{Encoder: encoderOf(r.Tracks), SyncPTSData: map[string]any{}, Properties: properties{TimeRunning: seconds(now.Sub(b.Start))}}
				if s, ok := feeding[r.Session]; ok { // it is passed through
					d.IOPerformance.Bitrate = kbps(s.Bitrate)
				}
				e.Outputs[backup(r.ID, b.ServerIndex)] = d
			}
		}
	}
	return out
}

// input describes a publisher's stream.
func (h *Handler) input(s stream.SessionStatus, now time.Time) describe {
	d := describe{Encoder: encoderOf(s.Tracks), IOPerformance: performance{kbps(s.Bitrate)}, SyncPTSData: map[string]any{}}
	if s.OffsetMethod != "" {
		d.SyncPTSData["offset"] = s.Offset.Milliseconds()
		d.SyncPTSData["method"] = s.OffsetMethod
		d.SyncPTSData["repairs"] = s.TimeRepairs
	}
	d.Properties = properties{TimeRunning: seconds(now.Sub(s.Start)), Encoder: s.Encoder, ID: number(s.ID), SessionID: s.ID,
		ConnectionURL: s.Protocol + "://" + h.options.Host + "/" + s.Stream + "_" + strconv.Itoa(s.Index)}
	if s.Remote.IsValid() {
		d.Properties.IP = s.Remote.Addr().Unmap().String()
	}
	return d
}

// encoderOf describes the first picture and the first sound.
func encoderOf(tracks []*media.Track) encoder {
	var e encoder
	for _, t := range tracks {
		switch {
		case t.Kind == media.Video && e.VideoCodec == "":
			e.VideoCodec, e.VideoProfile, e.VideoBitrate = codec(t), t.CodecString, kbps(t.Bitrate)
			e.FrameRate, e.Width, e.Height = round(t.Video.FrameRate), t.Video.Width, t.Video.Height
		case t.Kind == media.Audio && e.AudioCodec == "":
			e.AudioCodec, e.AudioProfile, e.AudioBitrate = codec(t), t.CodecString, kbps(t.Bitrate)
			e.AudioRate, e.AudioChannels = t.Audio.SampleRate, t.Audio.Channels
		}
	}
	return e
}

// codec is a codec's name as the old engine wrote it: H264.
func codec(t *media.Track) string {
	return strings.NewReplacer(".", "", "-", "").Replace(strings.ToUpper(t.Codec.String()))
}

func kbps(bits int) float64 { return round(float64(bits) / 1000) }

func seconds(d time.Duration) float64 { return round(d.Seconds()) }

// round keeps three digits behind the point.
func round(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return math.Round(v*1000) / 1000
}
