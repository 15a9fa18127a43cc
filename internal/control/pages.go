package control

import (
	_ "embed"
	"html/template"
	"net/http"
	"strings"

	"github.com/klive-media/klive/gen/openapi"
	"github.com/klive-media/klive/internal/auth"
)

//go:embed links.html
var linksSource string

var linksPage = template.Must(template.New("links").Parse(linksSource))

type link struct{ Path, Title string }

// linksHandler is the page at /: what there is to look at, without a script.
func linksHandler(o *Options, version string) http.Handler {
	links := []link{
		{"/v1/streams", "Streams"},
		{"/v1/streams/-/sessions", "Sessions of all streams"},
		{"/v1/streams/-/recordings", "Recordings of all streams"},
		{"/v1/events", "Events, newest first"},
		{"/v1/node", "This node"},
		{"/v1/streams:watch", "Watch streams (does not end)"},
		{"/v1/events:watch", "Watch events (does not end)"},
		{"/openapi.json", "OpenAPI document"},
	}
	if o.Bridge != nil {
		links = append(links, link{"/v1/kalturaBridge", "The bridge to the Kaltura backend"})
	}
	for _, m := range o.Mounts {
		if m.Title != "" {
			links = append(links, link{m.Path, m.Title})
		}
	}
	var page strings.Builder
	if err := linksPage.Execute(&page, map[string]any{"Version": version, "Links": links}); err != nil {
		page.WriteString("the page could not be made: " + err.Error()) // a mistake in the template; a test finds it
	}
	return serveBytes("text/html; charset=utf-8", []byte(page.String()))
}

func openapiHandler() http.Handler { return serveBytes(jsonContentType, openapi.Document) }

// serveBytes answers GET and HEAD with what never changes.
func serveBytes(contentType string, body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		_, _ = w.Write(body) // the caller is gone; nobody to tell
	})
}

// routes is everything on the control HTTP listener, behind the guard.
func routes(o *Options, version string, gateway http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/v1/", withRole(auth.Viewer, gateway))
	mux.Handle("GET /openapi.json", openapiHandler())
	mux.Handle("GET /{$}", linksHandler(o, version))
	for _, m := range o.Mounts {
		mux.Handle(m.Path, withRole(m.Role, m.Handler))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		routingError(r.Context(), nil, nil, w, r, http.StatusNotFound)
	})
	return guard{o.Authenticator, mux}
}

// withRole lets only callers with the role through.
func withRole(need auth.Role, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := requireHTTP(r.Context(), need); err != nil {
			writeError(w, r, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}
