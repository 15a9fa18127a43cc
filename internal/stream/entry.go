package stream

import (
	"context"
	"log/slog"
	"time"

	"github.com/klive-media/klive/internal/egress"
	"github.com/klive-media/klive/internal/ingest"
)

// Authority knows which streams there are and who may publish them. It is
// implemented by the catalog and by the Kaltura bridge; exactly one is chosen
// in app. Errors are
// *fault.Error.
type Authority interface {
	// Authenticate decides about a publisher. The request's stream may be one
	// that the authority makes on the fly (a template).
	Authenticate(ctx context.Context, r ingest.Request) (Grant, error)
}

// Grant is what a publisher was granted.
type Grant struct {
	Stream      string // stream id
	Index       int    // ingest index
	ServerIndex int
	Partner     int // 0: none
	// Rendition is the id under which what this publisher sends is listed; ""
	// is the ingest index in decimal.
	Rendition string
	// Policy is for the broadcast that this publisher begins.
	Policy egress.Policy
}

// Entry is a stream as its authority keeps it; it never holds a token or a
// passphrase.
type Entry struct {
	ID          string
	DisplayName string
	Partner     int // 0: none
	Labels      map[string]string
	// Origin says where the entry comes from; only API entries can be changed
	// through the API.
	Origin         Origin
	Created        time.Time
	Updated        time.Time
	TokenUpdatedAt time.Time
	// Encrypted says that the stream has an SRT passphrase of its own: whoever
	// publishes it by SRT must have it.
	Encrypted bool
	// Revision changes with every change; it makes the etag. 0 for declared
	// entries.
	Revision uint64
}

// Secrets are what an encoder must have to publish a stream. They stand apart
// from the Entry, so that what shows entries cannot show them.
type Secrets struct {
	Token string
	// Passphrase is that of SRT: 10 to 79 bytes of printable text, or "" when
	// the stream has none of its own.
	Passphrase string
}

// String keeps the secrets out of whatever prints them.
func (Secrets) String() string { return "[secrets]" }

// LogValue keeps the secrets out of slog.
func (Secrets) LogValue() slog.Value { return slog.StringValue("[secrets]") }

// Origin is where an Entry comes from.
type Origin uint8

// The origins.
const (
	FromAPI      Origin = iota + 1 // created through the API, or at the first start
	FromConfig                     // declared in the configuration
	FromTemplate                   // made from a declared template such as "event-*" by its first publisher
	FromKaltura                    // an entry of the Kaltura backend
)

// Entries is how the control API reaches the authority's streams. Every error
// is a *fault.Error; entries that are not FromAPI refuse changes with
// fault.ManagedByConfig or fault.ManagedByKaltura.
type Entries interface {
	List(ctx context.Context) ([]Entry, error) // ordered by ID
	Get(ctx context.Context, id string) (Entry, error)
	// Create makes a stream. An empty token asks for a random one; an empty
	// passphrase is none. It returns the secrets, which no later Get shows.
	Create(ctx context.Context, e Entry, s Secrets) (Entry, Secrets, error)
	// Update replaces DisplayName, Partner and Labels, and the passphrase unless
	// it is nil; "" takes it away. Publishers on air stay. revision 0 does not
	// check.
	Update(ctx context.Context, e Entry, passphrase *string, revision uint64) (Entry, error)
	Delete(ctx context.Context, id string, revision uint64) error
	// RotateToken makes a new token; the passphrase stays.
	RotateToken(ctx context.Context, id string) (Entry, Secrets, error)
	// Secrets is for publish addresses only.
	Secrets(ctx context.Context, id string) (Secrets, error)
	// Changed is closed at the next change of any entry.
	Changed() <-chan struct{}
}
