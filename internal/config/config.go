// Package config is the server's configuration: one typed tree with its defaults, the loader that
// fills it from a YAML file and the environment, and the rules it must satisfy.
//
// Nothing else in the program reads the environment or the configuration file. A Config is a value:
// it is complete and valid when Load returns it, and nobody changes it afterwards. Read Config first;
// the struct tags hold what a user is told about each key (doc), its bounds (min, max) and the words
// it takes (enum).
package config

import "time"

// Config is the whole configuration.
type Config struct {
	DataDir   string    `key:"data_dir" doc:"Directory for everything durable: streams, the event log, segments. It is created when missing and belongs to one server process."`
	Log       Log       `key:"log" doc:"What the server writes about itself, on standard error."`
	RTMP      RTMP      `key:"rtmp" doc:"The RTMP door, where encoders publish."`
	SRT       SRT       `key:"srt" doc:"The SRT door, where encoders publish over networks that lose packets."`
	MediaHTTP MediaHTTP `key:"media_http" doc:"The HTTP listener viewers use: HLS and the player page."`
	Control   Control   `key:"control" doc:"The control API: gRPC, and REST with metrics and health on HTTP."`
	Auth      Auth      `key:"auth" doc:"Who may call the control API."`
	Streams   []Stream  `key:"streams" doc:"Streams declared here, beside those made through the API. An id that ends in * is a template for every id that begins with what stands before it. SRT encoders of a stream with srt_passphrase (10 to 79 bytes) must have it." example:"[{ id: lobby, token: \"s3cret\" }, { id: \"event-*\", token: \"s3cret\", partner: 102 }]"`
	Kaltura   Kaltura   `key:"kaltura" doc:"The bridge to a Kaltura backend, which then says who may publish, and is told what is on air."`
	HLS       HLS       `key:"hls" doc:"How streams are cut and listed for HLS."`
	Recording Recording `key:"recording" doc:"How broadcasts are recorded. Whether one is, the Kaltura entry says, or a call of the control API."`
	Limits    Limits    `key:"limits" doc:"Time, memory and number limits of the running server."`
	Telemetry Telemetry `key:"telemetry" doc:"What the server tells monitoring systems."`
}

// Log is the section log.
type Log struct {
	Level  string `key:"level" enum:"debug,info,warn,error" doc:"Least severe level that is written."`
	Format string `key:"format" enum:"auto,text,json" doc:"Form of a log line; auto is text on a terminal and JSON otherwise."`
}

// RTMP is the section rtmp.
type RTMP struct {
	Listen           string        `key:"listen" doc:"TCP address of the RTMP listener. Port 0 picks a free port and logs it."`
	MaxConnections   int           `key:"max_connections" min:"0" max:"1000000" doc:"Most RTMP connections open at once, publishing or not; 0 is no limit."`
	MaxWaiting       int           `key:"max_waiting_per_address" min:"0" max:"1000000" doc:"Most RTMP connections of one address that do not publish yet: room for all encoders of a site that come back at once, and one address cannot take every place; 0 is no limit."`
	HandshakeTimeout time.Duration `key:"handshake_timeout" min:"500ms" max:"1m" doc:"Time a new connection has from TCP accept until it publishes."`
	WriteTimeout     time.Duration `key:"write_timeout" min:"500ms" max:"1m" doc:"Time a peer has to take what the server sends before the connection is closed."`
	TLS              RTMPTLS       `key:"tls" doc:"RTMPS: the same door over TLS, beside the plain one. It is open once certificate and key are set."`
}

// RTMPTLS is the section rtmp.tls.
type RTMPTLS struct {
	Listen string `key:"listen" doc:"TCP address of the RTMPS listener. Port 0 picks a free port and logs it."`
	Cert   string `key:"cert" doc:"PEM file with the certificate chain. A renewed file is taken up without a restart."`
	Key    string `key:"key" doc:"PEM file with the private key of the certificate."`
}

// Enabled reports whether a certificate is configured.
func (t RTMPTLS) Enabled() bool { return t.Cert != "" }

// MediaHTTP is the section media_http.
type MediaHTTP struct {
	Listen      string   `key:"listen" doc:"TCP address of the media HTTP listener. Port 0 picks a free port and logs it."`
	TLS         TLS      `key:"tls" doc:"Serve HTTPS (with HTTP/2) instead of HTTP; both files or neither."`
	CORSOrigins []string `key:"cors_origins" doc:"Web origins whose pages may play streams; * allows every origin. An empty list sends no CORS headers." example:"[\"https://www.example.com\"]"`
}

// TLS names a certificate and its key.
type TLS struct {
	Cert string `key:"cert" doc:"PEM file with the certificate chain."`
	Key  string `key:"key" doc:"PEM file with the private key of the certificate."`
}

// Enabled reports whether a certificate is configured.
func (t TLS) Enabled() bool { return t.Cert != "" }

// Control is the section control.
type Control struct {
	GRPCListen string     `key:"grpc_listen" doc:"TCP address of the gRPC listener. An address other machines can reach needs auth.tokens, control.tls.client_ca, or kaltura.mode (an admin KS of the configured partner is a credential)."`
	HTTPListen string     `key:"http_listen" doc:"TCP address of the control HTTP listener: REST, metrics and health. An address other machines can reach needs auth.tokens, control.tls.client_ca, or kaltura.mode (an admin KS of the configured partner is a credential)."`
	TLS        ControlTLS `key:"tls" doc:"Serve both control listeners over TLS; certificate and key, or neither."`
}

// ControlTLS is the section control.tls.
type ControlTLS struct {
	Cert     string `key:"cert" doc:"PEM file with the certificate chain of both control listeners."`
	Key      string `key:"key" doc:"PEM file with the private key of the certificate."`
	ClientCA string `key:"client_ca" doc:"PEM file with the authorities whose client certificates are accepted (mutual TLS); needs cert and key."`
}

// Enabled reports whether a certificate is configured.
func (t ControlTLS) Enabled() bool { return t.Cert != "" }

// Auth is the section auth.
type Auth struct {
	Tokens []Token `key:"tokens" doc:"Bearer tokens of the control API. The role is admin (everything) or viewer (reads only). With kaltura.mode an admin KS of the configured partner is accepted as admin beside them." example:"[{ name: ops, token: \"change-me\", role: admin }]"`
}

// Token is one bearer token of the control API.
type Token struct {
	Name  string `key:"name" doc:"Name the logs and the API show for the caller."`
	Token Secret `key:"token" doc:"The secret the caller sends as Authorization: Bearer."`
	Role  Role   `key:"role" enum:"admin,viewer" doc:"What the caller may do."`
}

// Role says what a token of the control API allows.
type Role string

// The roles.
const (
	RoleAdmin  Role = "admin"  // every call
	RoleViewer Role = "viewer" // reading calls and watches
)

// Stream is one declared stream, or a template for many.
type Stream struct {
	ID            string `key:"id" doc:"Stream id: letters, digits, _ and -, at most 63; it may not end in _ and 1 to 4 digits. A trailing * makes a template."`
	Token         Secret `key:"token" doc:"The secret a publisher must send."`
	SRTPassphrase Secret `key:"srt_passphrase" doc:"Passphrase that SRT encoders of the stream must have, 10 to 79 bytes, in place of srt.passphrase; callers without encryption are refused. Empty is none of its own."`
	Partner       int    `key:"partner" min:"0" max:"2147483647" doc:"Partner number a publisher may name; 0 is none."`
}

// IsTemplate reports whether the entry stands for every id that begins with Prefix.
func (s Stream) IsTemplate() bool { return len(s.ID) > 0 && s.ID[len(s.ID)-1] == '*' }

// Prefix returns what an id made from the template begins with, or the id itself when the entry is no template.
func (s Stream) Prefix() string {
	if s.IsTemplate() {
		return s.ID[:len(s.ID)-1]
	}
	return s.ID
}

// HLS is the section hls.
type HLS struct {
	SegmentDuration time.Duration `key:"segment_duration" min:"1s" max:"30s" doc:"Longest segment, and the distance at which segments are cut when key frames allow it."`
	PartDuration    time.Duration `key:"part_duration" min:"100ms" max:"1s" doc:"Length of a low-latency part, about: PART-TARGET is a whole number of frames near it that segments can be divided by evenly. At most half the segment duration."`
	LowLatency      bool          `key:"low_latency" doc:"List parts and answer blocking reloads (LL-HLS); false lists whole segments only."`
	Window          time.Duration `key:"window" min:"3s" max:"1h" doc:"How much of the past a live playlist lists; at least three segments."`
}

// Limits is the section limits.
type Limits struct {
	ReconnectWindow time.Duration `key:"reconnect_window" min:"0s" max:"1h" doc:"How long a stream waits for a publisher that went away before its broadcast ends."`
	TakeoverAfter   time.Duration `key:"takeover_after" min:"500ms" max:"1m" doc:"How long a publisher must have sent no media before another one with a valid token may take its place."`
	IdleTimeout     time.Duration `key:"idle_timeout" min:"1s" max:"1h" doc:"A publisher that sent no media for this long is closed; not shorter than takeover_after."`
	DrainTimeout    time.Duration `key:"drain_timeout" min:"0s" max:"1h" doc:"How long a stop waits for publishers to leave by themselves before it disconnects them; a second signal ends the wait."`
	MaxStreams      int           `key:"max_streams" min:"0" max:"1000000" doc:"Most streams on air at once; 0 is no limit."`
	MaxViewers      int           `key:"max_viewers" min:"0" max:"10000000" doc:"Most viewers served at once, over all streams; 0 is no limit."`
	LogBytes        Size          `key:"log_bytes" min:"256KiB" max:"1GiB" doc:"Most memory the packets of one rendition may take before the oldest are dropped."`
	LogDuration     time.Duration `key:"log_duration" min:"500ms" max:"1m" doc:"Longest stretch of packets kept in memory for one rendition; the bound met first counts."`
}

// Telemetry is the section telemetry.
type Telemetry struct {
	Metrics bool `key:"metrics" doc:"Serve Prometheus metrics at /metrics on the control HTTP listener."`
}

// Default returns the configuration of a server nobody configured. It is valid.
func Default() Config {
	return Config{
		DataDir: "./data",
		Log:     Log{Level: "info", Format: "auto"},
		RTMP: RTMP{
			Listen:           ":1935",
			MaxConnections:   1000,
			MaxWaiting:       256,
			HandshakeTimeout: 10 * time.Second,
			WriteTimeout:     10 * time.Second,
			TLS:              RTMPTLS{Listen: ":1936"},
		},
		SRT:       defaultSRT(),
		MediaHTTP: MediaHTTP{Listen: ":8080", CORSOrigins: []string{"*"}},
		Control:   Control{GRPCListen: "127.0.0.1:9090", HTTPListen: "127.0.0.1:8081"},
		Kaltura:   defaultKaltura(),
		HLS: HLS{
			SegmentDuration: 4 * time.Second,
			PartDuration:    250 * time.Millisecond,
			LowLatency:      true,
			Window:          30 * time.Second,
		},
		Recording: Recording{SegmentDuration: 15 * time.Minute},
		Limits: Limits{
			ReconnectWindow: 30 * time.Second,
			TakeoverAfter:   3 * time.Second,
			IdleTimeout:     60 * time.Second,
			DrainTimeout:    3 * time.Second,
			LogBytes:        8 << 20,
			LogDuration:     4 * time.Second,
		},
		Telemetry: Telemetry{Metrics: true},
	}
}
