package kalturatest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// RecordedEntry is the VOD made of a live entry.
type RecordedEntry struct {
	ID      string        `json:"id"`
	Live    string        `json:"live"`
	Name    string        `json:"name"`
	Created time.Time     `json:"created,omitzero"`
	Length  time.Duration `json:"length"` // by the anchor of the primary
	Session int           `json:"session"`
}

// Segment is one accepted piece of a recording.
type Segment struct {
	Entry    string    `json:"entry"`
	Recorded string    `json:"recorded"`
	Asset    string    `json:"asset"`
	Flavor   int       `json:"flavor"` // flavor params of the asset; 0 for whole files without one
	Index    string    `json:"index"`
	Number   int       `json:"number"` // in order of arrival for this asset and index, from 0
	Duration float64   `json:"duration"`
	Last     bool      `json:"last"`
	Content  bool      `json:"content"` // a whole file of setRecordedContent
	Source   string    `json:"source"`  // where it came from: a path or an upload token
	Path     string    `json:"path"`    // where it is now; empty when there is no directory
	Size     int64     `json:"size"`
	SHA256   string    `json:"sha256"`
	Arrived  time.Time `json:"arrived,omitzero"`
}

// createRecorded makes the recorded entry where the entry's policy asks for a
// new one; the caller holds the lock.
func (c *call) createRecorded(e *entry) {
	have := c.recorded[e.recordedID]
	fresh := have == nil
	switch {
	case fresh:
	case e.Record == RecordAppended:
		fresh = c.now.Sub(have.Created) > maxRecordedAge || have.Length > maxRecordedLen
	case e.Record == RecordPerSession:
		margin := int64(reconnectTimeout / time.Second)
		fresh = e.lastEnd > 0 && e.lastEnd+margin < e.currentStart && have.Created.Unix()+margin < e.currentStart
	}
	if !fresh {
		return
	}
	r := &RecordedEntry{ID: fmt.Sprintf("0_rec%05d", c.nextID()), Live: e.ID, Name: e.Name, Created: c.now, Session: 1}
	if have != nil {
		r.Session = have.Session + 1
	}
	if e.Record == RecordPerSession {
		r.Name = fmt.Sprintf("%s %d", e.Name, r.Session)
	}
	c.recorded[r.ID] = r
	e.recordedID, e.lengthMS, e.exceeded = r.ID, 0, false
}

// createRecordedEntry is liveStream.createRecordedEntry.
func createRecordedEntry(c *call) (any, error) {
	e, err := c.findOnAir()
	if err != nil {
		return nil, err
	}
	index, err := c.index()
	if err != nil {
		return nil, err
	}
	if index == IndexPrimary && e.Record != RecordOff {
		c.createRecorded(e)
	}
	return c.show(e), nil
}

// source is the file a resource stands for.
type source struct {
	name   string // as the caller named it
	path   string
	data   []byte // instead of path
	upload *upload
	keep   bool
}

// resource finds the file of a call; the caller holds the lock.
func (c *call) resource() (*source, error) {
	p := c.params.object("resource")
	if p == nil {
		return nil, fail("MISSING_MANDATORY_PARAMETER", "PARAM", "resource")
	}
	switch p.str("objectType") {
	case "KalturaServerFileResource":
		path := p.str("localFilePath")
		if own := c.session.Partner; own != MediaServerPartner && own != batchPartner {
			// Not an error: the property is silently nulled.
			c.header.Set("KalturaServerFileResource-localFilePath-error", "SERVICE_FORBIDDEN")
			path = ""
		}
		if !below(c.options.SharedDirectory, path) {
			return nil, fail("LOCAL_FILE_NOT_FOUND", "FILE", path)
		}
		return &source{name: path, path: path, keep: p.truth("keepOriginalFile", false)}, nil
	case "KalturaUploadedFileTokenResource":
		u := c.uploads[p.str("token")]
		switch {
		case u == nil || !c.all && u.partner != c.partner:
			return nil, fail("UPLOAD_TOKEN_NOT_FOUND")
		case u.status != uploadFull:
			return nil, fail("UPLOADED_FILE_NOT_FOUND_BY_TOKEN")
		}
		return &source{name: u.id, path: u.path, data: u.data, upload: u}, nil
	default:
		return nil, fail("OBJECT_TYPE_ABSTRACT", "TYPE", "KalturaDataCenterContentResource")
	}
}

// below reports whether a path is inside the folder.
func below(folder, path string) bool {
	if folder == "" || !filepath.IsAbs(path) {
		return false
	}
	folder, err := filepath.Abs(folder)
	return err == nil && strings.HasPrefix(filepath.Clean(path), folder+string(filepath.Separator))
}

// appendRecording is liveStream.appendRecording. It is not idempotent: the
// same call twice appends the segment twice.
func appendRecording(c *call) (any, error) {
	segment, from, err := c.checkAppend()
	if err != nil {
		return nil, err
	}
	if err := c.take(&segment, from); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.commit(segment, from)
}

// checkAppend does what precedes the file's move, in the backend's order.
func (c *call) checkAppend() (Segment, *source, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle(c.now)
	e, err := c.find(c.params.str("entryId"))
	if err != nil {
		return Segment{}, nil, err
	}
	if c.partners[e.Partner].has(FeatureRecording) {
		return Segment{}, nil, fail("KALTURA_RECORDING_ENABLED", "PARTNER_ID", fmt.Sprint(e.Partner))
	}
	segment := Segment{Entry: e.ID, Asset: c.params.str("assetId"), Duration: c.params.float("duration"),
		Last: c.params.truth("isLastChunk", false), Arrived: c.now}
	for _, a := range e.assets {
		if a.id == segment.Asset {
			segment.Flavor = a.params
		}
	}
	if segment.Flavor == 0 {
		return segment, nil, fail("ASSET_ID_NOT_FOUND", "ASSET_ID", segment.Asset)
	}
	if segment.Index, err = c.index(); err != nil {
		return segment, nil, err
	}
	if _, given := c.params.text("duration"); !given {
		return segment, nil, fail("MISSING_MANDATORY_PARAMETER", "PARAM", "duration")
	}
	var have time.Duration
	if r := c.recorded[e.recordedID]; r != nil {
		have = r.Length
	}
	if e.exceeded || have+seconds(segment.Duration) > maxAppended {
		e.exceeded = true
		return segment, nil, fail("LIVE_STREAM_EXCEEDED_MAX_RECORDED_DURATION", "ENTRY_ID", e.ID)
	}
	from, err := c.resource()
	return segment, from, err
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// take measures the file and brings it into the backend's directory, where
// there is one. It works without the lock.
func (c *call) take(s *Segment, from *source) error {
	s.Source = from.name
	if from.data != nil {
		sum := sha256.Sum256(from.data)
		s.Size, s.SHA256 = int64(len(from.data)), hex.EncodeToString(sum[:])
		return nil
	}
	notFound := fail("LOCAL_FILE_NOT_FOUND", "FILE", from.path)
	in, err := os.Open(from.path)
	if err != nil {
		return notFound
	}
	defer in.Close()
	sum := sha256.New()
	if c.options.Directory == "" {
		s.Size, err = io.Copy(sum, in)
	} else {
		c.mu.Lock()
		name := fmt.Sprintf("%s.%s.%s.%d%s", s.Entry, s.Asset, s.Index, c.nextID(), filepath.Ext(from.path))
		c.mu.Unlock()
		s.Path = filepath.Join(c.options.Directory, name)
		s.Size, err = save(s.Path, io.TeeReader(in, sum))
	}
	if err != nil {
		return fmt.Errorf("take %s: %w", from.path, err)
	}
	s.SHA256 = hex.EncodeToString(sum.Sum(nil))
	if s.Path != "" && !from.keep {
		if err := os.Remove(from.path); err != nil { // moved, as seen from outside
			return fmt.Errorf("take %s: %w", from.path, err)
		}
	}
	return nil
}

// save writes a file as a whole and returns its size.
func save(path string, from io.Reader) (int64, error) {
	out, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	size, err := io.Copy(out, from)
	return size, errors.Join(err, out.Close())
}

// commit makes an accepted file part of the recording; the caller holds the
// lock.
func (c *call) commit(s Segment, from *source) (any, error) {
	e := c.entries[s.Entry]
	if from.upload != nil {
		from.upload.status, from.upload.data = uploadClosed, nil
	}
	if e.numbered == nil {
		e.numbered = map[string]int{}
	}
	key := s.Asset + "/" + s.Index
	s.Number = e.numbered[key]
	e.numbered[key]++
	if s.Index == IndexPrimary {
		if e.Record != RecordOff && c.recorded[e.recordedID] == nil {
			c.createRecorded(e)
		}
		s.Recorded = e.recordedID
		anchor := false
		for _, a := range e.assets {
			anchor = anchor || a.anchor && a.id == s.Asset
		}
		if r := c.recorded[e.recordedID]; anchor && r != nil {
			r.Length += seconds(s.Duration)
			e.lengthMS = int(r.Length.Milliseconds())
			if s.Last {
				e.lastElapsedMS = e.lengthMS
			}
		}
	}
	c.segments = append(c.segments, s)
	return c.show(e), nil
}

// setRecordedContent is liveStream.setRecordedContent: whole files, where the
// partner's recordings are made by the controller.
func setRecordedContent(c *call) (any, error) {
	segment, from, err := c.checkContent()
	if err != nil || from == nil {
		return segment.shown, err
	}
	if err := c.take(&segment.Segment, from); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.recorded[segment.Recorded]; r != nil {
		r.Length = seconds(segment.Duration)
	}
	if from.upload != nil {
		from.upload.status, from.upload.data = uploadClosed, nil
	}
	c.segments = append(c.segments, segment.Segment)
	return c.show(c.entries[segment.Entry]), nil
}

// content is a whole file, or what is answered without taking it.
type content struct {
	Segment
	shown any
}

func (c *call) checkContent() (content, *source, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle(c.now)
	e, err := c.find(c.params.str("entryId"))
	if err != nil {
		return content{}, nil, err
	}
	if !c.partners[e.Partner].has(FeatureRecording) {
		return content{}, nil, fail("KALTURA_RECORDING_DISABLED", "PARTNER_ID", fmt.Sprint(e.Partner))
	}
	index, err := c.index()
	if err != nil {
		return content{}, nil, err
	}
	if index != IndexPrimary {
		return content{shown: c.show(e)}, nil, nil
	}
	wanted := c.params.str("recordedEntryId")
	if wanted == "" {
		c.createRecorded(e)
		wanted = e.recordedID
	}
	if r := c.recorded[wanted]; r == nil || r.Live != e.ID {
		return content{}, nil, fail("RECORDED_ENTRY_LIVE_MISMATCH", "RECORDED", wanted, "ENTRY_ID", e.ID)
	}
	from, err := c.resource()
	return content{Segment: Segment{Entry: e.ID, Recorded: wanted, Flavor: c.params.number("flavorParamsId", 0), Index: index,
		Duration: c.params.float("duration"), Content: true, Arrived: c.now}}, from, err
}

// cancelReplace is media.cancelReplace.
func cancelReplace(c *call) (any, error) {
	id := c.params.str("entryId")
	if c.recorded[id] == nil {
		return nil, fail("ENTRY_ID_NOT_FOUND", "ENTRY_ID", id)
	}
	c.cancelled = append(c.cancelled, id)
	return object{"objectType": "KalturaMediaEntry", "id": id}, nil
}
