package client

import (
	"context"
	"io"
	"strconv"
	"strings"
	"time"
)

const (
	// uploadTimeout is of one chunk: the backend may wait 45 s for others.
	uploadTimeout = 3 * time.Minute
	// appendTimeout is of one piece of a recording. The backend lets itself run
	// for 60 s, and giving up before it does leaves a doubt that need not be.
	appendTimeout = 90 * time.Second
)

// Asset is one flavor of an entry.
type Asset struct {
	ID     Text `json:"id"` // what Append names
	Flavor Int  `json:"flavorParamsId"`
	Tags   Text `json:"tags"`
}

// IsAnchor reports whether the length of this asset's recording is the
// entry's.
func (a Asset) IsAnchor() bool {
	for tag := range strings.SplitSeq(string(a.Tags), ",") {
		if tag == "recording_anchor" {
			return true
		}
	}
	return false
}

// Origin says where a flavor comes from.
type Origin Int

// The origins of flavors.
const (
	OriginConvert Origin = 0 // encoded by the media server
	OriginIngest  Origin = 1 // sent by the encoder
)

// ProfileFlavor is one flavor of a conversion profile.
type ProfileFlavor struct {
	Flavor Int `json:"assetParamsId"`
	Origin Int `json:"origin"`
}

// Template reads the transcoding template for an ingest as XML. The facts are
// what is known of the ingest, as a JSON object of texts; unknown ones are
// left out, never zero.
func (c *Client) Template(ctx context.Context, streamName, facts string) ([]byte, error) {
	params := Params{"streamName": streamName}
	if facts != "" {
		params["extraParams"] = facts
	}
	return c.Fetch(ctx, Call{Service: "wowza_liveConversionProfile", Action: "serve", Idempotent: true, Params: params})
}

// Segment is a piece of a recording to be appended.
type Segment struct {
	Entry    string
	Asset    string // Asset.ID, not the flavor
	Index    int
	Duration time.Duration
	Last     bool
	// Either a path on a disk that the backend shares, or an upload.
	Path   string
	Upload string
	// Keep: the backend must leave the file at Path where it is; else it may
	// take it.
	Keep bool
}

// resource is the file as the backend takes it.
func (s Segment) resource() Params {
	if s.Upload != "" {
		return Params{"objectType": "KalturaUploadedFileTokenResource", "token": s.Upload}
	}
	return Params{"objectType": "KalturaServerFileResource", "localFilePath": s.Path, "keepOriginalFile": s.Keep}
}

// Append hands over a piece of a recording. It is not idempotent and never
// repeated by itself: after an *Unavailable with Doubt the piece may be there.
func (c *Client) Append(ctx context.Context, partner int, s Segment) (e Entry, err error) {
	return e, c.Do(ctx, Call{Service: "liveStream", Action: "appendRecording", Partner: partner, Timeout: appendTimeout,
		Params: Params{"entryId": s.Entry, "assetId": s.Asset, "mediaServerIndex": strconv.Itoa(s.Index), "resource": s.resource(),
			"duration": s.Duration.Seconds(), "isLastChunk": s.Last}}, &e)
}

// SetContent hands over a whole recording, where the partner's recordings are
// not appended to. The backend finds the recorded entry and makes the flavors
// itself; Asset and Last are not used. Like Append it is not repeated.
func (c *Client) SetContent(ctx context.Context, partner int, s Segment) (e Entry, err error) {
	return e, c.Do(ctx, Call{Service: "liveStream", Action: "setRecordedContent", Partner: partner, Timeout: appendTimeout,
		Params: Params{"entryId": s.Entry, "mediaServerIndex": strconv.Itoa(s.Index), "resource": s.resource(), "duration": s.Duration.Seconds()}}, &e)
}

// CancelReplace takes back a replacement of a recorded entry that waits, so
// that it does not race with the one that the last piece makes.
func (c *Client) CancelReplace(ctx context.Context, partner int, recorded string) error {
	return c.Do(ctx, Call{Service: "media", Action: "cancelReplace", Partner: partner, Idempotent: true, Params: Params{"entryId": recorded}}, nil)
}

// Upload is an upload token.
type Upload struct {
	ID       Text `json:"id"`
	Status   Int  `json:"status"` // UploadPending …; everything above is the end of it
	Uploaded Int  `json:"uploadedFileSize"`
}

// NewUpload makes an upload token for a file. A token whose answer is lost is
// never used: the backend forgets it.
func (c *Client) NewUpload(ctx context.Context, partner int, name string, size int64) (u Upload, err error) {
	return u, c.Do(ctx, Call{Service: "uploadToken", Action: "add", Partner: partner, Idempotent: true,
		Params: Params{"uploadToken": Params{"objectType": "KalturaUploadToken", "fileName": name, "fileSize": size}}}, &u)
}

// GetUpload reads how far an upload is.
func (c *Client) GetUpload(ctx context.Context, partner int, id string) (u Upload, err error) {
	err = c.Do(ctx, Call{Service: "uploadToken", Action: "get", Partner: partner, Idempotent: true, Params: Params{"uploadTokenId": id}}, &u)
	if !HasCode(err, "SERVICE_FORBIDDEN") {
		return u, err
	}
	// Partner -5 may not get another partner's, but list them.
	var l List[Upload]
	err = c.Do(ctx, Call{Service: "uploadToken", Action: "list", Partner: partner, Idempotent: true, Params: Params{
		"filter": Params{"objectType": "KalturaUploadTokenFilter", "idEqual": id}, "pager": wholePage()}}, &l)
	for _, u := range l.Objects {
		if string(u.ID) == id {
			return u, err
		}
	}
	if err == nil {
		err = &Error{Service: "uploadToken", Action: "list", Code: "UPLOAD_TOKEN_NOT_FOUND", Message: "Upload token not found"}
	}
	return Upload{}, err
}

// The states of an upload that matter here.
const (
	UploadPending Int = 0 // nothing has come
	UploadPartial Int = 1 // the first Uploaded bytes have
	UploadFull    Int = 2 // it can be used
)

// UploadChunk sends size bytes of a file at an offset. Chunks go to their
// offset, so that one that failed is sent again; final says that it is the
// last. The first, at offset 0, begins the upload anew.
func (c *Client) UploadChunk(ctx context.Context, partner int, id string, from io.ReaderAt, offset, size int64, final bool) (Upload, error) {
	var u Upload
	err := c.Do(ctx, Call{Service: "uploadToken", Action: "upload", Partner: partner, Idempotent: true, Aside: true, Timeout: uploadTimeout,
		File:   &File{Field: "fileData", Name: "chunk", From: from, Offset: offset, Size: size},
		Params: Params{"uploadTokenId": id, "resume": offset > 0, "finalChunk": final, "resumeAt": offset}}, &u)
	if final && HasCode(err, "UPLOAD_TOKEN_INVALID_STATUS_FOR_UPLOAD") {
		// The answer to an earlier attempt may have been lost.
		if now, getErr := c.GetUpload(ctx, partner, id); getErr == nil && now.Status == UploadFull {
			return now, nil
		}
	}
	return u, err
}
