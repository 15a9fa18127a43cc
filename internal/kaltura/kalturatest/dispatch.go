package kalturatest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/klive-media/klive/internal/kaltura/ks"
)

// call is one action being run.
type call struct {
	*Backend
	service, action string // lower case
	params          params
	files           map[string]*multipart.FileHeader
	header          http.Header // of the answer
	session         *ks.Session // nil: called without
	partner         int         // the context: impersonated, else the session's
	all             bool        // no impersonation by an internal partner: entries of all partners are seen
	now             time.Time
}

// right says who may run an action.
type right uint8

const (
	rightAnyone      right = iota
	rightSession           // any valid session
	rightOwn               // the same, but partner -5 only in its own name
	rightMediaServer       // partner -5, or a partner that may act as a media server
	rightNode              // partner -5, or a partner with server nodes
	rightNodeUpdate        // the same, but partner -5 only without Options.KeepNodeStatus
	rightBatch             // the backend's own batch jobs
)

// handler is one action. Unless it says that it reads files, it runs with
// Backend.mu held and after the validator was settled.
type handler struct {
	right right
	run   func(*call) (any, error)
	files bool // takes Backend.mu itself, because it reads or writes files
	asks  bool // returns a document: failures inside are an empty body
}

// serveAPI is the front door of API v3.
func (b *Backend) serveAPI(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Me", "simulator")
	req, err := readRequest(w, r)
	if err != nil {
		http.Error(w, "the request cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	if r.MultipartForm != nil {
		defer r.MultipartForm.RemoveAll() //nolint:errcheck // files of this request only
	}
	format := req.params.str("format")
	if strings.EqualFold(req.params.str("service"), "multirequest") || req.params.object("1") != nil && req.params.str("action") == "" {
		b.serveMany(w, r, req, format)
		return
	}
	after := b.faultBefore(w, r, req.params)
	if after == answered {
		return
	}
	result, err := b.runOne(w.Header(), req)
	if after == lost {
		panic(http.ErrAbortHandler) // the documented way to drop a connection without an answer
	}
	if _, file := errors.AsType[*emptyAnswer](err); file {
		f := failureOf(err)
		w.Header().Set("X-Kaltura", "error- "+f.code)
		w.Header().Set("X-Kaltura-App", "exiting on error "+f.code+" - "+f.message)
		w.WriteHeader(http.StatusOK)
		return
	}
	write(w, format, result, err)
}

// emptyAnswer is a failure inside an action that returns a file.
type emptyAnswer struct{ *failure }

func (e *emptyAnswer) Unwrap() error { return e.failure }

// serveMany runs the numbered requests of a multirequest, one after the other.
func (b *Backend) serveMany(w http.ResponseWriter, r *http.Request, outer request, format string) {
	var results []any
	after := unharmed
	for i := 1; ; i++ {
		inner := outer.params.object(strconv.Itoa(i))
		if inner == nil || inner.str("service") == "" || inner.str("action") == "" {
			break
		}
		for _, name := range []string{"ks", "partnerId", "p", "clientTag"} {
			if _, have := inner[name]; !have && outer.params[name] != nil {
				inner[name] = outer.params[name]
			}
		}
		resolvePlaceholders(inner, results)
		switch b.faultBefore(w, r, inner) {
		case answered:
			return
		case lost:
			after = lost
		}
		one := request{params: inner, files: map[string]*multipart.FileHeader{}}
		for k, f := range outer.files {
			if name, ok := strings.CutPrefix(k, strconv.Itoa(i)+":"); ok {
				one.files[name] = f
			}
		}
		result, err := b.runOne(w.Header(), one)
		if err != nil {
			result = failureOf(err)
		}
		if _, file := result.(document); file {
			write(w, format, result, nil)
			return
		}
		results = append(results, result)
	}
	if after == lost {
		panic(http.ErrAbortHandler)
	}
	write(w, format, results, nil)
}

// runOne finds the action, checks who calls, and runs it.
func (b *Backend) runOne(header http.Header, req request) (result any, err error) {
	c := &call{Backend: b, params: req.params, files: req.files, header: header, now: time.Now(),
		service: strings.ToLower(req.params.str("service")), action: strings.ToLower(req.params.str("action"))}
	defer func() { b.remember(c, err) }()
	if c.service == "" {
		return nil, fail("SERVICE_NOT_SPECIFIED")
	}
	services := b.actions()
	actions, known := services[c.service]
	if !known {
		return nil, fail("SERVICE_DOES_NOT_EXISTS", "SERVICE", req.params.str("service"))
	}
	h, known := actions[c.action]
	if !known {
		return nil, fail("ACTION_DOES_NOT_EXISTS", "ACTION", req.params.str("action"), "SERVICE", req.params.str("service"))
	}
	if code := b.faultCode(req.params); code != "" {
		return nil, fail(code)
	}
	if err := c.authorize(h.right); err != nil {
		return nil, err
	}
	if !h.files {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.settle(c.now)
	}
	result, err = h.run(c)
	if err != nil && h.asks {
		return nil, &emptyAnswer{failureOf(err)}
	}
	return result, err
}

// authorize checks the session, the impersonation and the right.
func (c *call) authorize(needed right) error {
	if err := c.openSession(); err != nil {
		return err
	}
	if c.session == nil {
		if needed == rightAnyone {
			c.all = true
			return nil
		}
		return fail("MISSING_KS")
	}
	forbidden := fail("SERVICE_FORBIDDEN", "SERVICE", c.params.str("service"), "ACTION", c.params.str("action"))
	own := c.session.Partner
	internal := own == MediaServerPartner || own == batchPartner
	c.partner, c.all = own, internal
	as, given := c.params.text("p")
	if !given {
		as, given = c.params.text("partnerId")
	}
	if given && as != "" && leadingInt(as) != own {
		if !internal {
			return forbidden
		}
		c.partner, c.all = leadingInt(as), false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	caller, context := c.partners[own], c.partners[c.partner]
	switch {
	case caller == nil || context == nil, needed == rightOwn && own == MediaServerPartner && c.partner != own:
		return forbidden
	case context.Blocked:
		return fail("SERVICE_FORBIDDEN_CONTENT_BLOCKED")
	case c.service == "livestream" && !internalPartner(c.partner) && !context.has(FeatureLive):
		return forbidden
	case needed == rightMediaServer && own != MediaServerPartner && !caller.has(FeatureMediaServer),
		(needed == rightNode || needed == rightNodeUpdate) && own != MediaServerPartner && !caller.has(FeatureServerNode),
		needed == rightNodeUpdate && own == MediaServerPartner && c.options.KeepNodeStatus,
		needed == rightBatch && own != batchPartner,
		needed >= rightMediaServer && !c.session.IsAdmin():
		return forbidden
	}
	return nil
}

func internalPartner(id int) bool { return id < 0 }

// openSession verifies the session of the call, if it has one.
func (c *call) openSession() error {
	token := c.params.str("ks")
	if token == "" {
		return nil
	}
	s, err := ks.Verify(token, c.now, c.secrets)
	sum := sha256.Sum256([]byte(token))
	c.mu.Lock()
	if c.seen[sum] {
		err = errors.New("LOGOUT")
	} else if len(c.seen) < maxSessions {
		c.seen[sum] = false
	}
	c.mu.Unlock()
	if err != nil {
		return fail("INVALID_KS", "KSID", err.Error(), "ERR_CODE", "-1", "ERR_DESC", "INVALID_STR")
	}
	c.session = &s
	return nil
}

// resolvePlaceholders puts earlier results where {N:result:path} stands.
func resolvePlaceholders(p params, results []any) {
	for k, v := range p {
		switch v := v.(type) {
		case params:
			resolvePlaceholders(v, results)
		case []any:
			for _, item := range v {
				if o, ok := item.(params); ok {
					resolvePlaceholders(o, results)
				}
			}
		case string:
			if inner, ok := strings.CutPrefix(v, "{"); ok && strings.HasSuffix(inner, "}") {
				if path := strings.Split(strings.TrimSuffix(inner, "}"), ":"); len(path) >= 2 && path[1] == "result" {
					p[k] = lookUp(path, results)
				}
			}
		}
	}
}

// lookUp is the scalar a placeholder means; "" when there is none.
func lookUp(path []string, results []any) string {
	n, err := strconv.Atoi(path[0])
	if err != nil || n < 1 || n > len(results) {
		return ""
	}
	at := results[n-1]
	for i, name := range path[2:] {
		switch v := at.(type) {
		case object:
			at = v[name]
		case []any:
			if name == "_all" {
				var all []string
				for _, item := range v {
					all = append(all, lookUp(append([]string{"1", "result"}, path[2+i+1:]...), []any{item}))
				}
				return strings.Join(all, ",")
			}
			index, err := strconv.Atoi(name)
			if err != nil || index < 0 || index >= len(v) {
				return ""
			}
			at = v[index]
		default:
			return ""
		}
	}
	switch v := at.(type) {
	case nil, object, []any, *failure:
		return ""
	case bool:
		return strconv.Itoa(boolInt(v))
	default:
		return fmt.Sprint(v)
	}
}
