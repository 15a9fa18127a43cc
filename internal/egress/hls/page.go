package hls

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

// files are the player page, its script and style, and, once `make web` ran,
// hls.js in dist. A bare clone has no hls.js: the page then uses what the
// browser can play itself, and says so.
//
//go:embed web
var files embed.FS

// securityPolicy lets the page load its own files and media only: hls.js feeds
// the video element through blob: addresses and works in a blob: worker.
const securityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
	"media-src 'self' blob:; worker-src 'self' blob:; img-src 'self' data:; base-uri 'none'; form-action 'none'"

var (
	pagePolicy    = []string{securityPolicy}
	pageReferrer  = []string{"no-referrer"}
	cacheAsset    = []string{"public, max-age=3600"}
	cacheNewAsset = []string{"no-cache"}
)

// page serves the player. It is made once and only read.
type page struct {
	index  asset
	assets map[string]asset // by name below /live/-/
}

type asset struct {
	*text
	kind []string // Content-Type
	etag []string
}

func newPage() page {
	p := page{assets: make(map[string]asset)}
	for name, file := range map[string]string{
		"player.js":  "web/player.js",
		"player.css": "web/player.css",
		"hls.min.js": "web/dist/hls.min.js",
	} {
		if body, err := fs.ReadFile(files, file); err == nil {
			p.assets[name] = newAsset(name, body)
		}
	}
	body, err := fs.ReadFile(files, "web/index.html")
	if err != nil {
		panic(err) // embedded by the compiler
	}
	p.index = newAsset("index.html", body)
	return p
}

func newAsset(name string, body []byte) asset {
	sum := sha256.Sum256(body)
	kind := mime.TypeByExtension(path.Ext(name))
	return asset{
		text: newText(body),
		kind: []string{kind},
		etag: []string{`"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`},
	}
}

// serve answers for the page, its files, and its address without the last
// slash.
func (p *page) serve(h *Handler, w http.ResponseWriter, r *http.Request, a *address) int {
	switch a.class {
	case classRedirect:
		to := a.stream + "/"
		if r.URL.RawQuery != "" {
			to += "?" + r.URL.RawQuery
		}
		// Relative, as a proxy may have put us below another path.
		w.Header()["Location"] = []string{to}
		w.Header()["Content-Length"] = []string{"0"}
		w.WriteHeader(http.StatusMovedPermanently)
		return http.StatusMovedPermanently
	case classPage:
		head := w.Header()
		head["Content-Security-Policy"] = pagePolicy
		head["Referrer-Policy"] = pageReferrer
		return p.index.serve(h, w, r, cacheNewAsset)
	}
	f, ok := p.assets[a.file]
	switch {
	case ok:
		return f.serve(h, w, r, cacheAsset)
	case a.file == "hls.min.js":
		return h.refuse(w, r, refuse(http.StatusNotFound, "This server was built without hls.js; run make web and build it again."))
	}
	return h.refuse(w, r, refuseAddress())
}

func (f *asset) serve(h *Handler, w http.ResponseWriter, r *http.Request, cache []string) int {
	head := w.Header()
	head["Content-Type"] = f.kind
	head["X-Content-Type-Options"] = nosniff
	head["Cache-Control"] = cache
	head["Etag"] = f.etag
	varyByEncoding(head)
	if match := r.Header.Get("If-None-Match"); match != "" && strings.Contains(match, f.etag[0]) {
		w.WriteHeader(http.StatusNotModified)
		return http.StatusNotModified
	}
	body, length := f.body, f.length
	if acceptsGzip(r.Header) {
		body, length = f.compressed(&h.stats)
		head["Content-Encoding"] = encodingGzip
	}
	head["Content-Length"] = length
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		n, _ := w.Write(body)
		h.stats.bytes.Add(uint64(n))
	}
	return http.StatusOK
}
