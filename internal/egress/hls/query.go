package hls

import (
	"errors"
	"net/url"
	"strings"
)

// anyServer in query.server: the request does not say which server index.
const anyServer = -1

// Errors of the query, for the viewer. RFC 8216bis §6.2.5.2.
var (
	errServer     = errors.New("the parameter i is 0 for the primary stream or 1 for the backup")
	errSequence   = errors.New("_HLS_msn must be a whole number")
	errPart       = errors.New("_HLS_part must be a whole number")
	errPartAlone  = errors.New("_HLS_part needs _HLS_msn beside it")
	errSkip       = errors.New("_HLS_skip must be YES or v2")
	errFlavorList = errors.New("flavorIds must be a list of flavor ids with commas between them")
)

// query is what the server understands of a request's query. Unknown
// parameters are ignored.
type query struct {
	server   int // 0, 1 or anyServer
	blocking bool
	msn      uint64
	part     int // or whole
	skip     bool
	flavors  string // comma between; "" means all
}

// carry is what the children of a playlist add to their addresses so that they
// stay on the server index the viewer chose.
func (q *query) carry() string {
	switch q.server {
	case 0:
		return "?i=0"
	case 1:
		return "?i=1"
	}
	return ""
}

// parseQuery reads a raw query without allocating for what players send.
func parseQuery(raw string) (query, error) {
	q := query{server: anyServer, part: whole}
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		key, value, _ := strings.Cut(pair, "=")
		var ok bool
		switch key {
		case "i":
			if value != "0" && value != "1" {
				return q, errServer
			}
			q.server = int(value[0] - '0')
		case "_HLS_msn":
			if q.msn, ok = parseNumber(value); !ok {
				return q, errSequence
			}
			q.blocking = true
		case "_HLS_part":
			if q.part, ok = parseSmall(value); !ok {
				return q, errPart
			}
		case "_HLS_skip":
			if value != "YES" && value != "v2" {
				return q, errSkip
			}
			q.skip = true
		case "flavorIds":
			list, err := url.QueryUnescape(value)
			if err != nil {
				return q, errFlavorList
			}
			q.flavors = list
		}
	}
	if q.part != whole && !q.blocking {
		return q, errPartAlone
	}
	return q, nil
}
