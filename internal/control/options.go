package control

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"time"

	"github.com/klive-media/klive/internal/auth"
	"github.com/klive-media/klive/internal/observe"
	"github.com/klive-media/klive/internal/stream"
)

// Node is this server as the API shows it. It is implemented in app.
type Node interface {
	// Info is a snapshot.
	Info() NodeInfo
	// Drain begins to drain: no new broadcasts, readiness off. It does not wait,
	// and a second call does nothing.
	Drain(ctx context.Context) error
	// Draining is closed when the drain has begun, by whomever.
	Draining() <-chan struct{}
}

// NodeInfo is what the node knows of itself.
type NodeInfo struct {
	ID        string // from the configuration, else the host name
	Version   string
	Start     time.Time
	Listeners []Listener
}

// Listener is an address the node listens on.
type Listener struct {
	Name    string // "rtmp", "media-http", …
	Network string // "tcp" or "udp"
	Address string // IP and port as bound
}

// Addresses makes the addresses a stream is published to and watched at. It
// is implemented in app, which knows the listeners.
type Addresses interface {
	// Publish lists how to publish the stream with its secrets, best first, and
	// where to watch it.
	Publish(e stream.Entry, s stream.Secrets) AddressBook
}

// AddressBook is what an operator pastes into an encoder or a player.
type AddressBook struct {
	Publish  []PublishAddress
	Player   string // URL of the page with the player
	Playlist string // URL of the HLS playlist
}

// PublishAddress is one way to publish.
type PublishAddress struct {
	Protocol    string // "rtmp", "rtmps", "srt", "whip"
	ServerIndex int    // 0 primary, 1 backup
	URL         string // all in one, as ffmpeg takes it
	Server, Key string // as OBS asks for it
	Passphrase  string // as SRT encoders ask for it; "": none
}

// Mount is a handler of another part of the server on the control HTTP
// listener: metrics, health probes. It stands behind the same rules.
type Mount struct {
	Path    string // such as "/metrics"; with a slash at the end, all below it too
	Title   string // for the page of links; "" leaves it out
	Role    auth.Role
	Handler http.Handler
}

// Options is what a Server needs. Entries, Live, Journal, Node and Addresses
// must be set.
type Options struct {
	GRPCListen string // TCP address, port 0 picks one
	HTTPListen string
	// TLS serves both listeners over TLS; nil serves plain text. To accept
	// client certificates it holds ClientCAs and VerifyClientCertIfGiven.
	TLS           *tls.Config
	Authenticator auth.Authenticator

	Entries   stream.Entries
	Live      stream.Live
	Journal   stream.Journal
	Node      Node
	Addresses Addresses
	Mounts    []Mount

	// Bridge is the bridge to a Kaltura backend; nil: there is none.
	Bridge stream.Bridge
	// Recordings is what was recorded; nil: nothing is ever recorded.
	Recordings stream.Recordings
	// Deliveries is what waits for the Kaltura backend; nil: nothing is
	// delivered.
	Deliveries stream.Deliveries

	Logger  *slog.Logger      // nil: nothing is logged
	Metrics *observe.Registry // nil: nothing is counted

	// StopTimeout is how long running calls may take at the end; 0 is 5 s.
	StopTimeout time.Duration
	// Heartbeat is how often a quiet watch says that it lives; 0 is 15 s.
	Heartbeat time.Duration
	// MaxWatches bounds the watches that are open at once; 0 is 1000.
	MaxWatches int
}

// The defaults of Options.
const (
	defaultStopTimeout = 5 * time.Second
	defaultHeartbeat   = 15 * time.Second
	defaultMaxWatches  = 1000
)

func (o *Options) setDefaults() {
	if o.StopTimeout <= 0 {
		o.StopTimeout = defaultStopTimeout
	}
	if o.Heartbeat <= 0 {
		o.Heartbeat = defaultHeartbeat
	}
	if o.MaxWatches <= 0 {
		o.MaxWatches = defaultMaxWatches
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}
