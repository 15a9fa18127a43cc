package kalturatest

import (
	"crypto/subtle"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/klive-media/klive/internal/kaltura/ks"
)

// actions is the table of services and their actions, in lower case.
func (b *Backend) actions() map[string]map[string]handler {
	table := map[string]map[string]handler{
		"session": {"start": {run: startSession, files: true}},
		"livestream": {
			"authenticate":                   {right: rightMediaServer, run: authenticate},
			"get":                            {right: rightSession, run: getEntry},
			"update":                         {right: rightMediaServer, run: updateEntry},
			"registermediaserver":            {right: rightMediaServer, run: register},
			"unregistermediaserver":          {right: rightMediaServer, run: unregister},
			"validateregisteredmediaservers": {right: rightBatch, run: getEntry},
			"islive":                         {run: isLive},
			"getdetails":                     {right: rightSession, run: getDetails},
			"createrecordedentry":            {right: rightMediaServer, run: createRecordedEntry},
			"appendrecording":                {right: rightMediaServer, run: appendRecording, files: true},
			"setrecordedcontent":             {right: rightMediaServer, run: setRecordedContent, files: true},
		},
		"entryservernode": {
			"list":         {right: rightMediaServer, run: listRows},
			"get":          {right: rightMediaServer, run: getRow},
			"update":       {right: rightMediaServer, run: updateRow},
			"updatestatus": {right: rightMediaServer, run: updateRowStatus},
		},
		"servernode": {
			"add":          {right: rightNode, run: addNode},
			"get":          {right: rightNode, run: getNode},
			"list":         {right: rightNode, run: listNodes},
			"update":       {right: rightNodeUpdate, run: updateNode},
			"enable":       {right: rightNodeUpdate, run: setNodeStatus(NodeActive)},
			"disable":      {right: rightNodeUpdate, run: setNodeStatus(NodeDisabled)},
			"reportstatus": {right: rightNode, run: reportNode},
		},
		"conversionprofileassetparams": {"list": {right: rightSession, run: listProfileAssets}},
		"flavorparams": {
			"getbyconversionprofileid": {right: rightOwn, run: profileFlavors},
			"list":                     {right: rightSession, run: listFlavors},
			"get":                      {right: rightSession, run: getFlavor},
		},
		"flavorasset":                 {"list": {right: rightSession, run: listAssets}},
		"wowza_liveconversionprofile": {"serve": {run: serveTemplate, asks: true}},
		"uploadtoken": {
			"add":    {right: rightSession, run: addUpload},
			"get":    {right: rightOwn, run: getUpload},
			"list":   {right: rightSession, run: listUploads},
			"upload": {right: rightSession, run: receive, files: true},
		},
		"media":             {"cancelreplace": {right: rightSession, run: cancelReplace}},
		"beacon_beacon":     {"add": {right: rightSession, run: addBeacon}},
		"cuepoint_cuepoint": {"add": {right: rightSession, run: addCuePoint}},
		"permission":        {"get": {right: rightSession, run: getPermission}},
	}
	if b.options.Legacy {
		table["mediaserver"] = map[string]handler{"reportstatus": {right: rightMediaServer, run: reportMediaServer}}
	}
	return table
}

// maxSession is the longest life of a session that the backend itself starts.
const maxSession = 24 * time.Hour

// startSession is session.start.
func startSession(c *call) (any, error) {
	partner := c.params.number("partnerId", 0)
	secret, expiry := c.params.str("secret"), c.params.number("expiry", int(maxSession/time.Second))
	for _, known := range c.secrets(partner) {
		if subtle.ConstantTimeCompare([]byte(secret), []byte(known.Reveal())) == 1 {
			return ks.Sign(known, ks.Session{Partner: partner, Type: ks.Type(c.params.number("type", 0)), User: c.params.str("userId"),
				Expires: c.now.Add(min(time.Duration(expiry)*time.Second, maxSession)), Privileges: ks.ParsePrivileges(c.params.str("privileges"))}).Reveal(), nil
		}
	}
	return nil, fail("START_SESSION_ERROR", "PARTNER_ID", strconv.Itoa(partner))
}

// Beacon is a message about an object's health.
type Beacon struct {
	Object      string    `json:"object"`
	Event       string    `json:"event"`
	PrivateData string    `json:"privateData"`
	Valid       bool      `json:"valid"` // PrivateData is JSON
	Arrived     time.Time `json:"arrived,omitzero"`
}

// CuePoint is a cue point as it came.
type CuePoint struct {
	ID     string            `json:"id"`
	Entry  string            `json:"entry"`
	Type   string            `json:"type"`
	Fields map[string]string `json:"fields"`
}

// The bounds of what is remembered of things that only pile up.
const maxRemembered = 1000

func addBeacon(c *call) (any, error) {
	p := c.params.object("beacon")
	if p == nil {
		return nil, fail("MISSING_MANDATORY_PARAMETER", "PARAM", "beacon")
	}
	data := p.str("privateData")
	c.beacons = append(c.beacons[max(0, len(c.beacons)-maxRemembered+1):], Beacon{Object: p.str("objectId"), Event: p.str("eventType"),
		PrivateData: data, Valid: json.Valid([]byte(data)), Arrived: c.now})
	return true, nil
}

func addCuePoint(c *call) (any, error) {
	p := c.params.object("cuePoint")
	if p.str("objectType") == "" || p.str("objectType") == "KalturaCuePoint" {
		return nil, fail("OBJECT_TYPE_ABSTRACT", "TYPE", "KalturaCuePoint")
	}
	e, err := c.find(p.str("entryId"))
	if err != nil {
		return nil, err
	}
	cue := CuePoint{ID: "0_cue" + strconv.Itoa(c.nextID()), Entry: e.ID, Type: p.str("objectType"), Fields: map[string]string{}}
	for name := range p {
		cue.Fields[name] = p.str(name)
	}
	c.cuePoints = append(c.cuePoints[max(0, len(c.cuePoints)-maxRemembered+1):], cue)
	o := echo(cue.Type, p)
	o["id"] = cue.ID
	return o, nil
}

// getPermission is permission.get: whether the partner has a feature.
func getPermission(c *call) (any, error) {
	name := c.params.str("permissionName")
	if !c.partners[c.partner].has(name) {
		return nil, fail("PERMISSION_NOT_FOUND", "NAME", name)
	}
	return object{"objectType": "KalturaPermission", "name": name, "status": 1, "partnerId": c.partner}, nil
}

// Call is one call as the backend saw it.
type Call struct {
	At        time.Time `json:"at,omitzero"`
	Service   string    `json:"service"` // lower case
	Action    string    `json:"action"`
	Partner   int       `json:"partner"` // the context
	Entry     string    `json:"entry"`
	ClientTag string    `json:"clientTag"`
	Code      string    `json:"code"` // of the error; empty: done
}

// remember notes a call.
func (b *Backend) remember(c *call, err error) {
	n := Call{At: c.now, Service: c.service, Action: c.action, Partner: c.partner, Entry: c.params.str("entryId"), ClientTag: c.params.str("clientTag")}
	if err != nil {
		n.Code = failureOf(err).code
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls[max(0, len(b.calls)-maxCalls+1):], n)
	b.counts[strings.ToLower(c.service+"."+c.action)]++
}
