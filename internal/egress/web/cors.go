package web

import (
	"net/http"
	"slices"
)

// cors are the cross-origin headers of a mount (the Fetch standard, "CORS
// protocol"). The zero value sends none.
type cors struct {
	any     bool
	origins []string
	methods []string
	headers []string
	expose  []string
}

var (
	anyOrigin  = []string{"*"}
	varyOrigin = []string{"Origin"}
	preflight  = []string{"86400"} // seconds a browser may keep the answer to a preflight
)

func newCORS(origins []string, m Mount) cors {
	c := cors{any: slices.Contains(origins, "*"), origins: origins}
	one := func(s string) []string {
		if s == "" {
			return nil
		}
		return []string{s}
	}
	methods := m.Methods
	if methods == "" {
		methods = "GET, HEAD"
	}
	headers := m.Headers
	if headers == "" {
		headers = "Range"
	}
	c.methods, c.headers, c.expose = one(methods), one(headers), one(m.Expose)
	return c
}

// apply sets the headers; done says that the request was a preflight and is
// answered.
func (c *cors) apply(w http.ResponseWriter, r *http.Request) (done bool) {
	if len(c.origins) == 0 {
		return false
	}
	h := w.Header()
	allowed := c.any
	if c.any {
		h["Access-Control-Allow-Origin"] = anyOrigin
	} else {
		// The answer depends on who asks, also for caches between.
		h["Vary"] = varyOrigin
		if origin := r.Header.Get("Origin"); slices.Contains(c.origins, origin) {
			h["Access-Control-Allow-Origin"] = []string{origin}
			allowed = true
		}
	}
	if allowed && c.expose != nil {
		h["Access-Control-Expose-Headers"] = c.expose
	}
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	if allowed {
		h["Access-Control-Allow-Methods"] = c.methods
		h["Access-Control-Allow-Headers"] = c.headers
		h["Access-Control-Max-Age"] = preflight
	}
	w.WriteHeader(http.StatusNoContent)
	return true
}
