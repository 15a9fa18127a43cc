package kalturatest

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
)

// The changes below which an update of streams is ignored.
const (
	bitrateTolerance   = 0.10
	frameRateTolerance = 0.15
)

func (c *call) showRow(k rowKey, r *row) object {
	streams, infos := []any{}, []any{}
	for _, s := range r.streams {
		streams = append(streams, echo("KalturaLiveStreamParams", s))
	}
	for _, i := range r.recordingInfo {
		infos = append(infos, echo("KalturaLiveEntryServerNodeRecordingInfo", i))
	}
	return object{"objectType": "KalturaLiveEntryServerNode", "id": r.id, "entryId": k.entry, "serverType": k.index, "serverNodeId": r.node,
		"partnerId": c.entries[k.entry].Partner, "status": r.status, "createdAt": r.created.Unix(), "updatedAt": r.updated.Unix(), "dc": 0,
		"viewMode": r.viewMode, "streams": streams, "recordingInfo": infos}
}

// echo gives an object back as it came.
func echo(kind string, p params) object {
	o := object{"objectType": kind}
	for name := range p {
		if v, ok := p.text(name); ok && name != "objectType" {
			o[name] = v
		}
	}
	return o
}

// sortedRows are the registrations in a stable order.
func (b *Backend) sortedRows() []rowKey {
	keys := make([]rowKey, 0, len(b.rows))
	for k := range b.rows {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(x, y rowKey) int { return cmp.Compare(b.rows[x].id, b.rows[y].id) })
	return keys
}

func listRows(c *call) (any, error) {
	f := c.params.object("filter")
	in := func(list, value string) bool { return list == "" || slices.Contains(strings.Split(list, ","), value) }
	var all []any
	for _, k := range c.sortedRows() {
		r := c.rows[k]
		if (c.all || c.entries[k.entry].Partner == c.partner) && in(f.str("entryIdEqual"), k.entry) && in(f.str("entryIdIn"), k.entry) &&
			in(f.str("serverTypeEqual"), k.index) && in(f.str("serverTypeIn"), k.index) && in(f.str("statusEqual"), strconv.Itoa(r.status)) &&
			in(f.str("statusIn"), strconv.Itoa(r.status)) && in(f.str("serverNodeIdEqual"), strconv.Itoa(r.node)) {
			all = append(all, c.showRow(k, r))
		}
	}
	return c.page("KalturaEntryServerNodeListResponse", all), nil
}

// findRow finds the row that the call names; missing is the code when there is
// none: actions differ in it.
func (c *call) findRow(missing string) (rowKey, *row, error) {
	id := c.params.number("id", 0)
	for k, r := range c.rows {
		if r.id == id && (c.all || c.entries[k.entry].Partner == c.partner) {
			return k, r, nil
		}
	}
	return rowKey{}, nil, fail(missing, "ID", strconv.Itoa(id), "ENTRY_ID", strconv.Itoa(id), "TYPE", "")
}

func getRow(c *call) (any, error) {
	k, r, err := c.findRow("ENTRY_SERVER_NODE_NOT_FOUND")
	if err != nil {
		return nil, err
	}
	return c.showRow(k, r), nil
}

func updateRow(c *call) (any, error) {
	k, r, err := c.findRow("INVALID_OBJECT_ID")
	if err != nil {
		return nil, err
	}
	p := c.params.object("entryServerNode")
	if p.str("objectType") == "" {
		return nil, fail("OBJECT_TYPE_ABSTRACT", "TYPE", "KalturaEntryServerNode")
	}
	if streams, given := p.list("streams"); given && !alike(r.streams, streams) {
		r.streams, r.updated = streams, c.now
	}
	if infos, given := p.list("recordingInfo"); given {
		r.recordingInfo = infos[max(0, len(infos)-maxRecordingInfo):]
	}
	return c.showRow(k, r), nil
}

// alike reports whether new streams differ too little to be taken over.
func alike(have, fresh []params) bool {
	if len(have) != len(fresh) {
		return false
	}
	near := func(a, b, tolerance float64) bool { return a == b || math.Abs(a-b) <= tolerance*a }
	for i := range have {
		if have[i].str("flavorId") != fresh[i].str("flavorId") || !near(have[i].float("bitrate"), fresh[i].float("bitrate"), bitrateTolerance) ||
			!near(have[i].float("frameRate"), fresh[i].float("frameRate"), frameRateTolerance) {
			return false
		}
	}
	return true
}

func updateRowStatus(c *call) (any, error) {
	k, r, err := c.findRow("INVALID_OBJECT_ID")
	if err != nil {
		return nil, err
	}
	r.status, r.updated = c.params.number("status", r.status), c.now
	return c.showRow(k, r), nil
}

// The pages of lists.
const (
	defaultPage = 30
	maxPage     = 500
)

// page cuts a list as the pager of the call asks.
func (c *call) page(kind string, all []any) object {
	pager := c.params.object("pager")
	size := min(pager.number("pageSize", defaultPage), maxPage)
	if size < 1 {
		size = defaultPage
	}
	from := min((max(pager.number("pageIndex", 1), 1)-1)*size, len(all))
	return listOf(kind, all[from:min(from+size, len(all))], len(all))
}
