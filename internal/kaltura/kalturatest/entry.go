package kalturatest

import (
	"strconv"
	"time"

	"github.com/klive-media/klive/internal/kaltura/ks"
)

// RecordStatus says whether and how a live entry is recorded.
type RecordStatus int

// The ways to record.
const (
	RecordOff        RecordStatus = 0
	RecordAppended   RecordStatus = 1
	RecordPerSession RecordStatus = 2
)

// The numbers of view mode and recording status.
const (
	viewPreview = 0
	viewAll     = 1

	recordingStopped  = 0
	recordingActive   = 2
	recordingDisabled = 3
)

// Entry is the settings of a live entry. Zero fields take the backend's
// defaults.
type Entry struct {
	ID            string
	Partner       int
	Name          string
	Token         ks.Secret // the stream password
	SRTPassphrase ks.Secret // 10 to 79 characters, or none
	Profile       int       // conversion profile: ProfilePassthrough, ProfileTranscode, ProfileHD
	AdminTags     string    // joined with commas
	SourceType    string    // "32" unless it captures onTextData captions ("42")
	DVR           bool
	DVRWindow     int // minutes
	Record        RecordStatus
	SegmentLength int // milliseconds
	ExplicitLive  bool
	PushPublish   bool
}

const (
	sourceLive         = "32"
	sourceLiveCaptions = "42"
	defaultSegment     = 6000
)

func (e *Entry) setDefaults() {
	if e.SourceType == "" {
		e.SourceType = sourceLive
	}
	if e.SegmentLength == 0 {
		e.SegmentLength = defaultSegment
	}
	if e.Name == "" {
		e.Name = "Live entry " + e.ID
	}
}

// asset is one flavor of an entry; its id is what appendRecording names.
type asset struct {
	id     string
	params int
	anchor bool // its recorded length is the entry's
}

// entry is an Entry and what happened to it. Times are seconds of Unix, 0 for
// never.
type entry struct {
	Entry
	created         time.Time
	assets          []asset
	viewMode        int
	recordingStatus int
	recordedID      string
	redirectID      string
	lengthMS        int // accumulated by the anchor of the primary
	lastElapsedMS   int
	primaryNode     int
	first, last     int64 // broadcasts
	lastEnd         int64
	currentStart    int64
	exceeded        bool // all later appends fail
	numbered        map[string]int
}

func (e *entry) transcoded() bool {
	for _, a := range profileByID(e.Profile).assets {
		if a.origin == originConvert {
			return true
		}
	}
	return false
}

// find returns an entry as the caller may see it.
func (c *call) find(id string) (*entry, error) {
	if id == "" {
		return nil, fail("MISSING_MANDATORY_PARAMETER", "PARAM", "entryId")
	}
	e := c.entries[id]
	if e == nil || !c.all && e.Partner != c.partner {
		return nil, fail("ENTRY_ID_NOT_FOUND", "ENTRY_ID", id)
	}
	return e, nil
}

// findOnAir is find for calls of media servers: the entry's partner must be
// allowed to stream.
func (c *call) findOnAir() (*entry, error) {
	e, err := c.find(c.params.str("entryId"))
	if err != nil {
		return nil, err
	}
	p := c.partners[e.Partner]
	switch {
	case p.Blocked:
		return nil, fail("SERVICE_FORBIDDEN_CONTENT_BLOCKED")
	case !p.has(FeatureLive):
		return nil, fail("SERVICE_FORBIDDEN", "SERVICE", c.params.str("service"), "ACTION", c.params.str("action"))
	}
	return e, nil
}

// show renders an entry as a media server sees it: the token and the push
// targets need rights that it has not, so they are missing. The SRT passphrase
// needs none.
func (c *call) show(e *entry) object {
	ids, bitrates := "", []any{}
	for _, a := range profileByID(e.Profile).assets {
		p := flavorByID(a.params)
		if ids != "" {
			ids += ","
		}
		ids += strconv.Itoa(p.id)
		if a.origin == originIngest && p.videoBitrate > 0 {
			bitrates = append(bitrates, object{"objectType": "KalturaLiveStreamBitrate", "bitrate": p.videoBitrate, "width": p.width,
				"height": p.height, "tags": p.tags})
		}
	}
	recording := e.recordingStatus
	if !e.ExplicitLive {
		recording = recordingActive
	}
	if e.Record == RecordOff {
		recording = recordingDisabled
	}
	o := object{
		"objectType": "KalturaLiveStreamEntry", "id": e.ID, "partnerId": e.Partner, "name": e.Name, "status": "2", "type": "7",
		"sourceType": e.SourceType, "adminTags": e.AdminTags, "conversionProfileId": e.Profile, "flavorParamsIds": ids,
		"dvrStatus": boolInt(e.DVR), "dvrWindow": e.DVRWindow, "recordStatus": int(e.Record), "recordedEntryId": nil,
		"redirectEntryId": nil, "srtPass": nil, "lastElapsedRecordingTime": e.lastElapsedMS, "msDuration": e.lengthMS, "duration": e.lengthMS / 1000,
		"segmentDuration": e.SegmentLength, "explicitLive": boolInt(e.ExplicitLive), "viewMode": e.viewMode, "recordingStatus": recording,
		"pushPublishEnabled": boolInt(e.PushPublish), "streamName": e.ID + "_%i", "bitrates": bitrates, "primaryServerNodeId": e.primaryNode,
		"firstBroadcast": e.first, "lastBroadcast": e.last, "lastBroadcastEndTime": e.lastEnd, "currentBroadcastStartTime": e.currentStart,
		"liveStatus": c.liveStatus(e.ID), "capabilities": "", "createdAt": e.created.Unix(), "updatedAt": c.now.Unix(),
	}
	if e.SRTPassphrase != "" {
		o["srtPass"] = e.SRTPassphrase.Reveal()
	}
	if e.recordedID != "" {
		o["recordedEntryId"] = e.recordedID
	}
	if e.redirectID != "" {
		o["redirectEntryId"] = e.redirectID
	}
	if e.recordedID != "" && e.Record != RecordOff {
		o["recordingOptions"] = object{"objectType": "KalturaLiveEntryRecordingOptions", "shouldCopyEntitlement": 1}
	}
	return o
}

// getEntry is liveStream.get.
func getEntry(c *call) (any, error) {
	e, err := c.find(c.params.str("entryId"))
	if err != nil {
		return nil, err
	}
	return c.show(e), nil
}

// frozen are the fields that cannot change while the entry is on air, with
// how they are set otherwise.
var frozen = map[string]func(*Entry, params){
	"dvrStatus":           func(e *Entry, p params) { e.DVR = p.number("dvrStatus", 0) == 1 },
	"dvrWindow":           func(e *Entry, p params) { e.DVRWindow = p.number("dvrWindow", 0) },
	"recordStatus":        func(e *Entry, p params) { e.Record = RecordStatus(p.number("recordStatus", 0)) },
	"segmentDuration":     func(e *Entry, p params) { e.SegmentLength = p.number("segmentDuration", defaultSegment) },
	"explicitLive":        func(e *Entry, p params) { e.ExplicitLive = p.truth("explicitLive", false) },
	"conversionProfileId": func(e *Entry, p params) { e.Profile = p.number("conversionProfileId", e.Profile) },
}

// updateEntry is liveStream.update.
func updateEntry(c *call) (any, error) {
	e, err := c.find(c.params.str("entryId"))
	if err != nil {
		return nil, err
	}
	p := c.params.object("liveStreamEntry")
	if p == nil {
		return nil, fail("MISSING_MANDATORY_PARAMETER", "PARAM", "liveStreamEntry")
	}
	for field, set := range frozen {
		if _, given := p.text(field); !given {
			continue
		}
		if c.liveStatus(e.ID) != StatusStopped {
			return nil, fail("CANNOT_UPDATE_FIELDS_WHILE_ENTRY_BROADCASTING", "FIELDS", field)
		}
		if field == "conversionProfileId" && profileByID(p.number(field, 0)) == nil {
			return nil, fail("CONVERSION_PROFILE_ID_NOT_FOUND", "ID", p.str(field))
		}
		set(&e.Entry, p)
	}
	if e.ExplicitLive { // the producer's switches: both work while the entry is on air
		e.viewMode = p.number("viewMode", e.viewMode)
		e.recordingStatus = p.number("recordingStatus", e.recordingStatus)
	}
	if _, given := p.text("currentBroadcastStartTime"); given {
		e.currentStart = int64(p.float("currentBroadcastStartTime"))
	}
	if v, given := p.text("recordedEntryId"); given {
		e.recordedID = v
	}
	if v, given := p.text("redirectEntryId"); given {
		e.redirectID = v
	}
	if _, given := p.text("msDuration"); given {
		e.lengthMS = p.number("msDuration", 0)
	}
	return c.show(e), nil
}
