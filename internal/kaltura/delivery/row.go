package delivery

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/klive-media/klive/internal/stream"
)

// row is what is known of one piece on its way. A row that others can see is
// never changed: changes are made on a copy, which then takes its place.
type row struct {
	Recording   string        `json:"recording"`
	Rendition   string        `json:"rendition"`
	Number      int           `json:"number"`
	Stream      string        `json:"stream"`
	ServerIndex int           `json:"server_index"`
	Partner     int           `json:"partner,omitempty"`
	Start       time.Time     `json:"start"` // of the recording: orders the recordings of a lane
	File        string        `json:"file"`
	Duration    time.Duration `json:"duration"`
	Size        int64         `json:"size"`
	Last        bool          `json:"last,omitempty"`

	State    state     `json:"state"`
	Attempts int       `json:"attempts,omitempty"`
	Queued   time.Time `json:"queued"`
	Tried    time.Time `json:"tried,omitzero"`
	Done     time.Time `json:"done,omitzero"`
	Code     string    `json:"code,omitempty"`
	Error    string    `json:"error,omitempty"`
	// Accepted is what State was when a person said that the piece counts as
	// delivered: IN_DOUBT, or REFUSED when it was given up. AcceptedBy is who.
	Accepted   state  `json:"accepted,omitempty"`
	AcceptedBy string `json:"accepted_by,omitempty"`

	Asset string `json:"asset,omitempty"`
	// Content: the backend takes whole recordings of this partner instead of
	// pieces.
	Content bool `json:"content,omitempty"`
	// Forced: somebody retried the piece although this server held that it
	// would pass the backend's limit.
	Forced bool `json:"forced,omitempty"`
	// InPlace: the backend was given the recording's own file, which must stay
	// for a while after it is delivered.
	InPlace bool `json:"in_place,omitempty"`
	// Joined is how long the whole recording is that was made for the backend.
	Joined time.Duration `json:"joined,omitempty"`
	Intent *intent       `json:"intent,omitempty"`
	Upload *upload       `json:"upload,omitempty"`

	// What follows does not outlive the process.
	key      string
	revision uint64
	next     time.Time // not tried before; zero: at once
	fails    int       // tries in a row that did not get through
	away     bool      // the last one failed because there was no answer
	stale    bool      // the backend does not know Asset: look it up anew
}

// intent is written before the call that cannot be repeated, with what is
// needed to decide later whether it was carried out.
type intent struct {
	By string `json:"by"` // the process that wrote it
	// Asked: the backend had the request by then or never gets it.
	Asked time.Time `json:"asked"`
	// Anchor: the entry's length grows by this piece when it is appended.
	Anchor bool `json:"anchor,omitempty"`
	// Certain: Before can be relied upon. Counts: it was seen that the entry's
	// length follows its pieces, so that it would have grown.
	Certain  bool   `json:"certain,omitempty"`
	Counts   bool   `json:"counts,omitempty"`
	Before   int64  `json:"before"`             // the entry's accumulated length before the call, in ms
	After    int64  `json:"after"`              // the same as the answer has it; 0: there was none
	Recorded string `json:"recorded,omitempty"` // the entry that is made of it
	// Failed: the backend answered with a failure of its own, after which the
	// piece may be there all the same.
	Failed bool `json:"failed,omitempty"`
}

// upload is a file on its way to the backend.
type upload struct {
	Token  string    `json:"token"`
	Offset int64     `json:"offset"` // bytes the backend has confirmed
	Begun  time.Time `json:"begun"`
}

// state is a stream.DeliveryState that is kept by its name.
type state stream.DeliveryState

// The states of a row.
const (
	queued    = state(stream.DeliveryQueued)
	sending   = state(stream.DeliverySending)
	delivered = state(stream.DeliveryDelivered)
	inDoubt   = state(stream.DeliveryInDoubt)
	refused   = state(stream.DeliveryRefused)
)

// MarshalText is the state's name.
func (s state) MarshalText() ([]byte, error) {
	return []byte(stream.DeliveryState(s).String()), nil
}

// UnmarshalText reads a name; an unknown one is an error, as a row whose state
// is guessed could be sent twice.
func (s *state) UnmarshalText(text []byte) error {
	for _, known := range []state{queued, sending, delivered, inDoubt, refused} {
		if stream.DeliveryState(known).String() == string(text) {
			*s = known
			return nil
		}
	}
	return fmt.Errorf("%q is not the state of a delivery", text)
}

// passed reports whether the pieces behind may go on.
func (s state) passed() bool { return s == delivered || s == inDoubt }

// pieceID names a piece.
type pieceID struct {
	recording, rendition string
	number               int
}

func (r *row) id() pieceID { return pieceID{r.Recording, r.Rendition, r.Number} }

// keyOf is a row's key in the store. Bytes of the rendition's id that a key
// cannot hold, such as the ~ of a simulcast layer, are written as -hh.
func keyOf(recording, rendition string, number int) string {
	return escape(recording) + "_" + escape(rendition) + "_" + fmt.Sprint(number)
}

func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "-%02x", c)
		}
	}
	return b.String()
}

// newRow is the row of a finished piece.
func newRow(rec *stream.Recording, p stream.Piece, now time.Time) *row {
	return &row{
		Recording: rec.ID, Rendition: p.Rendition, Number: p.Number, Stream: rec.Stream, ServerIndex: rec.ServerIndex,
		Partner: rec.Partner, Start: rec.Start.Round(0), File: p.File, Duration: p.Duration, Size: p.Size, Last: p.Last,
		State: queued, Queued: now, key: keyOf(rec.ID, p.Rendition, p.Number),
	}
}

func decodeRow(key string, value []byte, revision uint64) (*row, error) {
	r := &row{key: key, revision: revision}
	if err := json.Unmarshal(value, r); err != nil {
		return nil, fmt.Errorf("read the delivery %s: %w", key, err)
	}
	if want := keyOf(r.Recording, r.Rendition, r.Number); want != key {
		return nil, fmt.Errorf("read the delivery %s: it is that of %s", key, want)
	}
	return r, nil
}

// copy is a row that may be changed.
func (r *row) copy() *row {
	c := *r
	if r.Intent != nil {
		i := *r.Intent
		c.Intent = &i
	}
	if r.Upload != nil {
		u := *r.Upload
		c.Upload = &u
	}
	return &c
}

// shown is the row for others; busy: it is being worked on.
func (r *row) shown(busy bool) stream.Delivery {
	d := stream.Delivery{
		Recording: r.Recording, Rendition: r.Rendition, Number: r.Number, Stream: r.Stream, ServerIndex: r.ServerIndex,
		Partner: r.Partner, Asset: r.Asset, Duration: r.Duration, Size: r.Size, Last: r.Last,
		State: stream.DeliveryState(r.State), Attempts: r.Attempts, Queued: r.Queued, Tried: r.Tried, Done: r.Done,
		Code: r.Code, Error: r.Error, Accepted: stream.DeliveryState(r.Accepted), AcceptedBy: r.AcceptedBy,
	}
	switch {
	case r.State == queued && busy:
		d.State = stream.DeliverySending
	case r.State == queued || r.State == sending:
		d.Next = r.next
	}
	return d
}

// facts are what an event says of the row.
func (r *row) facts() map[string]string {
	f := map[string]string{
		"recording": r.Recording, "rendition": r.Rendition, "number": fmt.Sprint(r.Number),
		"server_index": fmt.Sprint(r.ServerIndex), "attempts": fmt.Sprint(r.Attempts),
	}
	if r.Asset != "" {
		f["asset"] = r.Asset
	}
	if r.Code != "" {
		f["code"] = r.Code
	}
	if r.Accepted != 0 {
		f["accepted"], f["principal"] = stream.DeliveryState(r.Accepted).String(), r.AcceptedBy
	}
	return f
}

// comparePieces is the order of showing within a recording.
func comparePieces(a, b *row) int {
	return cmp.Or(cmp.Compare(a.Rendition, b.Rendition), cmp.Compare(a.Number, b.Number))
}

// compareRows is the order of sending within a lane.
func compareRows(a, b *row) int {
	return cmp.Or(a.Start.Compare(b.Start), cmp.Compare(a.Recording, b.Recording),
		cmp.Compare(a.Rendition, b.Rendition), cmp.Compare(a.Number, b.Number))
}
