package client

import (
	"context"
	"strconv"

	"github.com/klive-media/klive/internal/kaltura/ks"
)

// Status is the state of a registration in the backend's numbers.
type Status int

// The states a media server gives or sees.
const (
	StatusStopped           Status = 0
	StatusPlayable          Status = 1
	StatusBroadcasting      Status = 2
	StatusAuthenticated     Status = 3
	StatusMarkedForDeletion Status = 4
)

// Place is where an entry is on air: this host at a server index (0 primary,
// 1 backup).
type Place struct {
	Entry string
	Host  string // exactly as the backend knows the server node
	Index int
}

func (p Place) params(more Params) Params {
	out := Params{"entryId": p.Entry, "hostname": p.Host, "mediaServerIndex": strconv.Itoa(p.Index)}
	for k, v := range more {
		out[k] = v
	}
	return out
}

// Entry is a live entry as far as a media server needs it.
type Entry struct {
	ID              Text `json:"id"`
	Partner         Int  `json:"partnerId"`
	Name            Text `json:"name"`
	SourceType      Text `json:"sourceType"`
	AdminTags       Text `json:"adminTags"`
	Profile         Int  `json:"conversionProfileId"`
	FlavorParams    Text `json:"flavorParamsIds"`          // joined with commas
	DVR             Bool `json:"dvrStatus"`                //
	DVRWindow       Int  `json:"dvrWindow"`                // minutes; 0: the server's default
	Record          Int  `json:"recordStatus"`             // 0 off, 1 appended, 2 per session
	RecordedEntry   Text `json:"recordedEntryId"`          //
	RecordedLength  Int  `json:"msDuration"`               // milliseconds
	LastElapsed     Int  `json:"lastElapsedRecordingTime"` // milliseconds
	SegmentDuration Int  `json:"segmentDuration"`          // milliseconds
	ExplicitLive    Bool `json:"explicitLive"`
	ViewMode        Int  `json:"viewMode"`        // 0 preview, 1 everybody
	RecordingStatus Int  `json:"recordingStatus"` // 0 stopped, 1 paused, 2 active, 3 disabled
	PushPublish     Bool `json:"pushPublishEnabled"`
	LiveStatus      Int  `json:"liveStatus"`
	// CurrentStart is seconds of Unix, although the backend's documentation
	// says milliseconds; 0 when off air.
	CurrentStart Float `json:"currentBroadcastStartTime"`
}

// Authenticate asks whether an encoder may publish. With a host it also
// registers the entry as AUTHENTICATED — and takes an entry that is on air at
// this index off air until it is registered as PLAYABLE again.
func (c *Client) Authenticate(ctx context.Context, partner int, at Place, token, application string) (e Entry, err error) {
	return e, c.Do(ctx, Call{Service: "liveStream", Action: "authenticate", Partner: partner, Idempotent: true,
		Params: at.params(Params{"token": token, "applicationName": application})}, &e)
}

// VerifyToken asks whether a token is an entry's, without registering anything:
// an entry that is on air stays so.
func (c *Client) VerifyToken(ctx context.Context, partner int, entry, token string) (e Entry, err error) {
	return e, c.Do(ctx, Call{Service: "liveStream", Action: "authenticate", Partner: partner, Idempotent: true,
		Params: Params{"entryId": entry, "token": token}}, &e)
}

// GetEntry reads a live entry. Partner 0 as partner -5 sees those of all
// partners: so the partner of an entry is found.
func (c *Client) GetEntry(ctx context.Context, partner int, id string) (e Entry, err error) {
	return e, c.Do(ctx, Call{Service: "liveStream", Action: "get", Partner: partner, Idempotent: true, Params: Params{"entryId": id}}, &e)
}

// GetPassphrase is GetEntry with the SRT passphrase of the entry, "" when it
// has none. It stands beside the entry and not in it, because entries are kept
// on the disk.
func (c *Client) GetPassphrase(ctx context.Context, partner int, id string) (e Entry, passphrase ks.Secret, err error) {
	var out struct {
		Entry

		SRTPass Text `json:"srtPass"`
	}
	err = c.Do(ctx, Call{Service: "liveStream", Action: "get", Partner: partner, Idempotent: true, Params: Params{"entryId": id}}, &out)
	return out.Entry, ks.Secret(out.SRTPass), err
}

// PollEntry is GetEntry, aside, for those who ask again in a moment anyway.
func (c *Client) PollEntry(ctx context.Context, partner int, id string) (e Entry, err error) {
	return e, c.Do(ctx, Call{Service: "liveStream", Action: "get", Partner: partner, Idempotent: true, Aside: true, Params: Params{"entryId": id}}, &e)
}

// SetBroadcastStart writes when the broadcast began, in seconds of Unix; only
// the primary does.
func (c *Client) SetBroadcastStart(ctx context.Context, partner int, id string, seconds int64) error {
	return c.Do(ctx, Call{Service: "liveStream", Action: "update", Partner: partner, Idempotent: true, Params: Params{"entryId": id,
		"liveStreamEntry": Params{"objectType": "KalturaLiveStreamEntry", "currentBroadcastStartTime": seconds}}}, nil)
}

// Register says that an entry is on air here. Only PLAYABLE keeps it there:
// it must be said again within 120 s, and within 120 s after BROADCASTING.
func (c *Client) Register(ctx context.Context, partner int, at Place, application string, status Status, record bool) (e Entry, err error) {
	return e, c.Do(ctx, Call{Service: "liveStream", Action: "registerMediaServer", Partner: partner, Idempotent: true,
		Params: at.params(Params{"applicationName": application, "liveEntryStatus": int(status), "shouldCreateRecordedEntry": record})}, &e)
}

// Unregister says that an entry is off air at an index, on whatever host: see
// Registrations before. That it already is counts as done.
func (c *Client) Unregister(ctx context.Context, partner int, at Place) error {
	err := c.Do(ctx, Call{Service: "liveStream", Action: "unregisterMediaServer", Partner: partner, Idempotent: true, Params: at.params(nil)}, nil)
	if HasCode(err, "ENTRY_SERVER_NODE_NOT_FOUND") {
		return nil
	}
	return err
}

// Registration is an entry at one index, as the backend has it.
type Registration struct {
	ID    Int  `json:"id"`
	Entry Text `json:"entryId"`
	// Index is the server index in decimal; plugins of the backend have rows
	// whose index is a name.
	Index  Text `json:"serverType"`
	Node   Int  `json:"serverNodeId"`
	Status Int  `json:"status"`
	// Streams are the renditions it was told, also those of a broadcast before:
	// the backend keeps a registration whose recording is not finished.
	Streams []struct {
		Flavor Text `json:"flavorId"`
	} `json:"streams"`
}

// Registrations lists where an entry is on air.
func (c *Client) Registrations(ctx context.Context, partner int, entry string) ([]Registration, error) {
	var l List[Registration]
	err := c.Do(ctx, Call{Service: "entryServerNode", Action: "list", Partner: partner, Idempotent: true, Params: Params{
		"filter": Params{"objectType": "KalturaLiveEntryServerNodeFilter", "entryIdEqual": entry}, "pager": wholePage()}}, &l)
	return l.Objects, err
}

// Stream is a rendition as players will see it.
type Stream struct {
	Flavor                 string // flavor params id
	Bitrate, Width, Height int    // bit/s, pixels
	Codec                  string // h264, aac, …
	FrameRate              float64
	Language               string // three letters
}

// UpdateStreams tells the renditions of a registration; the backend writes
// its playlists from them.
func (c *Client) UpdateStreams(ctx context.Context, partner int, registration Int, streams []Stream) error {
	list := make([]Params, 0, len(streams))
	for _, s := range streams {
		p := Params{"objectType": "KalturaLiveStreamParams", "flavorId": s.Flavor, "bitrate": s.Bitrate, "width": s.Width, "height": s.Height,
			"codec": s.Codec, "frameRate": int(s.FrameRate + 0.5)}
		if s.Language != "" {
			p["language"] = s.Language
		}
		list = append(list, p)
	}
	return c.Do(ctx, Call{Service: "entryServerNode", Action: "update", Partner: partner, Idempotent: true, Params: Params{"id": int64(registration),
		"entryServerNode": Params{"objectType": "KalturaLiveEntryServerNode", "streams": list}}}, nil)
}

// wholePage asks for the longest page a list has: the default of 30 is
// shorter than a catalogue of flavors.
func wholePage() Params {
	return Params{"objectType": "KalturaFilterPager", "pageSize": 500, "pageIndex": 1}
}
