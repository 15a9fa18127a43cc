package kalturatest

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// The states of a registration that a media server causes or sees.
const (
	StatusStopped           = 0
	StatusPlayable          = 1
	StatusBroadcasting      = 2
	StatusAuthenticated     = 3
	StatusMarkedForDeletion = 4
)

// The server indexes.
const (
	IndexPrimary  = "0"
	IndexBackup   = "1"
	indexClipping = "2"
)

// rank orders the states for the one shown of the entry.
var rank = map[int]int{StatusAuthenticated: 1, StatusBroadcasting: 2, StatusPlayable: 3}

type rowKey struct{ entry, index string }

// row is a registration: one entry at one server index on one node.
type row struct {
	id               int
	status           int
	node             int
	created, updated time.Time
	cached           time.Time // end of the PLAYABLE registration; zero: none
	cachedNode       int
	viewMode         int
	streams          []params
	recordingInfo    []params
}

// maxRecordingInfo is how many recordings a registration tells of.
const maxRecordingInfo = 20

// liveStatus is the furthest state of an entry's registrations.
func (b *Backend) liveStatus(id string) int {
	best := StatusStopped
	for _, index := range []string{IndexPrimary, IndexBackup} {
		if r := b.rows[rowKey{id, index}]; r != nil && rank[r.status] > rank[best] {
			best = r.status
		}
	}
	return best
}

// settle lets the validator run for every period that has passed; the caller
// holds b.mu. Between calls nothing changes, so it need not run by itself.
func (b *Backend) settle(now time.Time) {
	for ; !b.settled.Add(validatorPeriod).After(now); b.settled = b.settled.Add(validatorPeriod) {
		at := b.settled.Add(validatorPeriod)
		for k, r := range b.rows {
			marked := r.status == StatusMarkedForDeletion
			dead := !at.Before(r.created.Add(minRowAge)) && at.Sub(r.updated) > cacheExpiry && !(r.cached.After(at) && r.cachedNode == r.node)
			if dead && (!marked || at.Sub(r.created) > markedExpiry) {
				b.drop(k, at)
			}
		}
		if len(b.rows) == 0 { // nothing more can happen before now
			b.settled = now.Add(-now.Sub(b.started) % validatorPeriod)
			return
		}
	}
}

// drop deletes a registration, or marks it while its recording is finished.
func (b *Backend) drop(k rowKey, now time.Time) {
	r, e := b.rows[k], b.entries[k.entry]
	recorded := b.recorded[e.recordedID]
	if e.Record != RecordOff && k.index == IndexPrimary && recorded != nil && recorded.Length == 0 && now.Sub(r.created) <= markedExpiry &&
		b.partners[e.Partner].has(FeatureRecording) {
		r.status, r.updated = StatusMarkedForDeletion, now
	} else {
		delete(b.rows, k)
	}
	if k.index == IndexPrimary {
		e.lastEnd = now.Unix()
	}
	b.offAir(e)
}

// offAir does what the backend does when no playable registration is left.
func (b *Backend) offAir(e *entry) {
	for _, index := range []string{IndexPrimary, IndexBackup} {
		if r := b.rows[rowKey{e.ID, index}]; r != nil && r.status == StatusPlayable {
			return
		}
	}
	e.currentStart, e.redirectID = 0, e.recordedID
	if e.ExplicitLive {
		e.viewMode, e.recordingStatus = viewPreview, recordingStopped
	}
}

// upsert makes or changes a registration; the last caller wins.
func (c *call) upsert(e *entry, index string, n *Node, status int) *row {
	k := rowKey{e.ID, index}
	r, was := c.rows[k], StatusStopped
	if r != nil {
		was = r.status
	} else {
		r = &row{id: c.nextID(), status: status, node: n.ID, created: c.now, updated: c.now, viewMode: e.viewMode}
		c.rows[k] = r
		if index == IndexPrimary {
			e.primaryNode = n.ID
			if e.currentStart == 0 {
				e.currentStart = c.now.Unix()
			}
		}
	}
	if r.status != status || r.node != n.ID { // the same again touches nothing
		r.status, r.node, r.updated = status, n.ID, c.now
	}
	if status == StatusPlayable {
		r.cached, r.cachedNode = c.now.Add(cacheExpiry), n.ID
		if index == IndexPrimary && e.first == 0 {
			e.first = c.now.Unix()
		}
		if index == IndexPrimary && was != StatusPlayable {
			e.last = c.now.Unix()
		}
	} else if was == StatusPlayable {
		c.offAir(e)
	}
	return r
}

// index reads and checks the parameter mediaServerIndex.
func (c *call) index() (string, error) {
	v, ok := c.params.text("mediaServerIndex")
	switch {
	case !ok:
		return "", fail("MISSING_MANDATORY_PARAMETER", "PARAM", "mediaServerIndex")
	case v != IndexPrimary && v != IndexBackup && v != indexClipping:
		return "", fail("INVALID_ENUM_VALUE", "VALUE", v, "PARAM", "mediaServerIndex")
	}
	return v, nil
}

// authenticate is liveStream.authenticate, its checks in the backend's order.
func authenticate(c *call) (any, error) {
	e, err := c.findOnAir()
	if err != nil {
		return nil, err
	}
	token, given := c.params.text("token")
	if !given {
		return nil, fail("MISSING_MANDATORY_PARAMETER", "PARAM", "token")
	}
	if !e.lets(token) {
		return nil, fail("LIVE_STREAM_INVALID_TOKEN", "ENTRY_ID", e.ID)
	}
	host := c.params.str("hostname")
	if _, has := c.params.text("mediaServerIndex"); has && host != "" {
		index, err := c.index()
		if err != nil {
			return nil, err
		}
		n := c.mediaServer(host)
		if n == nil {
			return nil, fail("MEDIA_SERVER_NOT_FOUND", "HOST", host)
		}
		if r := c.rows[rowKey{e.ID, index}]; r != nil && (r.status == StatusPlayable || r.status == StatusBroadcasting) && r.node != n.ID {
			if other := c.nodeByID(r.node); other != nil && other.Environment != n.Environment {
				return nil, fail("LIVE_STREAM_ALREADY_BROADCASTING", "ENTRY_ID", e.ID, "SERVER", other.HostName)
			}
		}
		// A row is left behind even if the quota refuses below.
		c.upsert(e, index, n, StatusAuthenticated)
	}
	if err := c.checkQuota(e); err != nil {
		return nil, err
	}
	return c.show(e), nil
}

// checkQuota counts the partner's other entries that hold a registration.
func (c *call) checkQuota(e *entry) error {
	p := c.partners[e.Partner]
	count := func(match func(*entry) bool) int {
		n := 0
		for id, other := range c.entries {
			if id != e.ID && other.Partner == e.Partner && rank[c.liveStatus(id)] > 0 && match(other) {
				n++
			}
		}
		return n
	}
	limited := false
	for tag, limit := range p.TagLimits {
		tagged := func(x *entry) bool { return slices.Contains(strings.Split(x.AdminTags, ","), tag) }
		if !tagged(e) {
			continue
		}
		limited = true
		if count(tagged) >= limit {
			return fail("LIVE_STREAM_EXCEEDED_MAX_CONCURRENT_BY_ADMIN_TAG", "ENTRY_ID", e.ID, "TAG", tag, "LIMIT", strconv.Itoa(limit))
		}
	}
	switch {
	case limited:
	case e.transcoded() && count((*entry).transcoded) >= p.transcodedQuota():
		return fail("LIVE_STREAM_EXCEEDED_MAX_TRANSCODED", "ENTRY_ID", e.ID)
	case !e.transcoded() && count(func(x *entry) bool { return !x.transcoded() }) >= p.passthroughQuota():
		return fail("LIVE_STREAM_EXCEEDED_MAX_PASSTHRU", "ENTRY_ID", e.ID)
	}
	return nil
}

// register is liveStream.registerMediaServer.
func register(c *call) (any, error) {
	e, err := c.findOnAir()
	if err != nil {
		return nil, err
	}
	index, err := c.index()
	if err != nil {
		return nil, err
	}
	host, given := c.params.text("hostname")
	if !given {
		return nil, fail("MISSING_MANDATORY_PARAMETER", "PARAM", "hostname")
	}
	status := c.params.number("liveEntryStatus", StatusPlayable)
	if status < -1 || status > 9 {
		return nil, fail("INVALID_ENUM_VALUE", "VALUE", strconv.Itoa(status), "PARAM", "liveEntryStatus")
	}
	n := c.mediaServer(host)
	if n == nil {
		return nil, fail("MEDIA_SERVER_NOT_FOUND", "HOST", host)
	}
	c.upsert(e, index, n, status)
	if index == IndexPrimary && e.Record != RecordOff && (status == StatusBroadcasting || status == StatusPlayable) &&
		c.params.truth("shouldCreateRecordedEntry", true) {
		c.createRecorded(e)
	}
	return c.show(e), nil
}

// unregister is liveStream.unregisterMediaServer. It does not ask whether the
// registration is the caller's: a host that lost the entry to another one
// takes it off the air.
func unregister(c *call) (any, error) {
	e, err := c.find(c.params.str("entryId"))
	if err != nil {
		return nil, err
	}
	index, err := c.index()
	if err != nil {
		return nil, err
	}
	host := c.params.str("hostname")
	if c.mediaServer(host) == nil {
		return nil, fail("SERVER_NODE_NOT_FOUND", "HOST", host)
	}
	k := rowKey{e.ID, index}
	if c.rows[k] == nil {
		return nil, fail("ENTRY_SERVER_NODE_NOT_FOUND", "ENTRY_ID", e.ID, "TYPE", index)
	}
	c.drop(k, c.now)
	return c.show(e), nil
}

// isLive is liveStream.isLive.
func isLive(c *call) (any, error) {
	e, err := c.find(c.params.str("id"))
	if err != nil {
		return nil, err
	}
	return c.liveStatus(e.ID) == StatusPlayable, nil
}

// getDetails is liveStream.getDetails.
func getDetails(c *call) (any, error) {
	const offline, preview, live = 1, 2, 3
	e, err := c.find(c.params.str("id"))
	if err != nil {
		return nil, err
	}
	at := func(index string) int {
		if r := c.rows[rowKey{e.ID, index}]; r != nil {
			return r.status
		}
		return StatusStopped
	}
	broadcast := offline
	if c.liveStatus(e.ID) == StatusPlayable {
		broadcast = live
		if e.ExplicitLive && e.viewMode == viewPreview {
			broadcast = preview
		}
	}
	return object{"objectType": "KalturaLiveStreamDetails", "primaryStreamStatus": at(IndexPrimary), "secondaryStreamStatus": at(IndexBackup),
		"viewMode": e.viewMode, "wasBroadcast": e.first > 0, "broadcastStatus": broadcast}, nil
}
