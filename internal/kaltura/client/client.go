// Package client speaks API v3 of a Kaltura backend: requests in form or JSON
// encoding, several in one round trip, typed errors, and the care a server
// needs that must go on while its backend is slow, confused or away.
//
// Client is the type to read first. Do runs one action, Batch several, Fetch
// one that answers with a file; the methods named after actions are thin
// wrappers with types. Every method is safe for concurrent use.
//
// What can go wrong is one of two things: *Error, the backend's own answer
// with its code, or *Unavailable, no answer that can be read. Unavailable
// says whether the action may have been carried out all the same.
package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/klive-media/klive/internal/kaltura/ks"
)

// The defaults and bounds of a client.
const (
	DefaultTimeout = 30 * time.Second // of one attempt
	connectTimeout = 10 * time.Second
	maxAnswer      = 8 << 20 // bytes of an answer, after decompression
	maxAttempts    = 3       // of a call that may be repeated
	firstBackoff   = 250 * time.Millisecond
	maxBackoff     = 4 * time.Second
	maxIdle        = 16 // connections kept to the backend
	idleTimeout    = 50 * time.Second
)

// Encoding is how parameters travel.
type Encoding uint8

// The encodings. Both say the same; JSON is smaller for nested objects, form
// is what the oldest backends know.
const (
	JSON Encoding = iota
	Form
)

// Observer is told what the client does, for metrics. Its methods return at
// once and may be called concurrently.
type Observer interface {
	// Called is one attempt of an action. The outcome is "ok", a code of the
	// API, or a Cause. A batch is "multirequest" without an action; when it was
	// answered, each action in it is told too, before it, with a took of 0: it
	// had no round trip of its own.
	Called(service, action, outcome string, took time.Duration)
	// BreakerChanged says whether calls are refused without trying.
	BreakerChanged(open bool)
	// SessionRenewed says that a new session is in use.
	SessionRenewed()
}

// Options is what a Client is made of. URL, Partner and Secret are required.
type Options struct {
	URL       string    // of the backend without /api_v3
	Partner   int       // whose session it is: -5, or an eCDN partner
	Secret    ks.Secret // the partner's admin secret
	ClientTag string    // free text that the backend logs: MediaServer-<host>
	Encoding  Encoding
	// SessionVersion is 2 unless the backend is so old that it needs 1.
	SessionVersion int
	// StartSession asks the backend for sessions (session.start) instead of
	// signing them here.
	StartSession bool
	SessionLife  time.Duration     // 24 h when 0; sessions are renewed at half of it
	Timeout      time.Duration     // of one attempt; DefaultTimeout when 0
	Transport    http.RoundTripper // nil: a pool of its own
	Observer     Observer          // nil: nobody looks
	// Logger gets a line for each exchange at level debug, without parameters
	// that are secret; nil writes none.
	Logger *slog.Logger
}

// Client calls one backend as one partner.
type Client struct {
	options  Options
	http     http.Client
	sessions *sessions
	breaker  *breaker
}

// New makes a client. Nothing is sent before the first call.
func New(o Options) (*Client, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("the backend's address is %q, but looks like https://www.example.com", o.URL)
	}
	if o.Secret == "" {
		return nil, errors.New("the admin secret of the partner is missing")
	}
	if o.SessionVersion != 0 && o.SessionVersion != 1 && o.SessionVersion != 2 {
		return nil, fmt.Errorf("session version %d does not exist; use 2, or 1 for an old backend", o.SessionVersion)
	}
	o.URL = strings.TrimSuffix(strings.TrimSuffix(o.URL, "/"), "/api_v3")
	if o.SessionLife == 0 {
		o.SessionLife = 24 * time.Hour
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Observer == nil {
		o.Observer = unobserved{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Transport == nil {
		o.Transport = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: connectTimeout}).DialContext,
			TLSHandshakeTimeout:    connectTimeout,
			MaxIdleConns:           maxIdle,
			MaxIdleConnsPerHost:    maxIdle,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2:      true,
		}
	}
	c := &Client{options: o, breaker: newBreaker(o.Observer.BreakerChanged), http: http.Client{Transport: o.Transport,
		// A redirected POST would come back as a GET without its parameters.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	c.sessions = &sessions{life: o.SessionLife, renew: c.newSession, renewed: o.Observer.SessionRenewed}
	return c, nil
}

// Close lets go of idle connections. Calls that run go on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

type unobserved struct{}

func (unobserved) Called(string, string, string, time.Duration) {}
func (unobserved) BreakerChanged(bool)                          {}
func (unobserved) SessionRenewed()                              {}

// Params are the parameters of an action: text, bool, int, int64, float64,
// Params with an objectType, or []Params.
type Params map[string]any

// File is what a call uploads: Size bytes of From at Offset. From must stay
// readable while the call runs; it is read again when the call is repeated.
type File struct {
	Field, Name  string
	From         readerAt
	Offset, Size int64
}

// Call is one action.
type Call struct {
	Service, Action string
	Params          Params
	Partner         int  // in whose name; 0: the client's own
	Idempotent      bool // may be repeated when it fails
	File            *File
	Timeout         time.Duration // of one attempt; the client's when 0
	// Aside is for what nobody waits for, such as an upload: how it ends says
	// nothing to the breaker, and while that is open it is refused and never the
	// call that tries. So it cannot keep publishers out.
	Aside bool
	open  bool // runs without a session
}

// Do runs an action and decodes its result into out, which may be nil. It
// repeats idempotent calls that failed for a passing reason, with jittered
// pauses, at most three attempts and within ctx; and any call, once, that was
// refused because of the session, because it was then not carried out.
func (c *Client) Do(ctx context.Context, call Call, out any) error {
	return c.repeat(ctx, call.Idempotent, call, func(ctx context.Context, token ks.Secret) error {
		answer, err := c.exchange(ctx, &request{service: call.Service, action: call.Action, params: c.params(call, token), file: call.File, timeout: call.Timeout})
		if err != nil {
			return err
		}
		return decodeResult(answer.body, call, out)
	})
}

// params are those of a call with the standard ones.
func (c *Client) params(call Call, token ks.Secret) Params {
	p := Params{"format": 1}
	for k, v := range call.Params {
		p[k] = v
	}
	if token != "" {
		p["ks"] = token.Reveal()
	}
	if call.Partner != 0 {
		p["partnerId"] = call.Partner
	}
	if c.options.ClientTag != "" {
		p["clientTag"] = c.options.ClientTag
	}
	return p
}

// repeat runs attempt with a session until it succeeds or may not be
// repeated.
func (c *Client) repeat(ctx context.Context, idempotent bool, call Call, attempt func(context.Context, ks.Secret) error) error {
	refused := false
	for n := 1; ; n++ {
		err := c.attempt(ctx, call, attempt)
		switch {
		case err == nil:
			return nil
		case HasCode(err, CodeInvalidSession) && !refused && !call.open:
			refused = true // a new session is made for the next attempt, at once
			n--
			continue
		case !idempotent || n == maxAttempts || !passing(err) || ctx.Err() != nil:
			return err
		}
		limit := min(firstBackoff<<(n-1), maxBackoff)
		pause := time.NewTimer(limit/2 + rand.N(limit/2))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

// attempt runs one attempt and tells breaker, session and observer.
func (c *Client) attempt(ctx context.Context, call Call, attempt func(context.Context, ks.Secret) error) error {
	var token ks.Secret
	if !call.open {
		var err error
		if token, err = c.sessions.get(ctx); err != nil {
			return sessionError(call, err)
		}
	}
	began := time.Now()
	pass, allowed := c.breaker.enter(began, call.Aside)
	if !allowed {
		err := &Unavailable{Service: call.Service, Action: call.Action, Cause: CauseBreaker}
		c.options.Observer.Called(call.Service, call.Action, string(CauseBreaker), 0)
		return err
	}
	err := attempt(ctx, token)
	_, isAway := errors.AsType[*Unavailable](err)
	switch {
	case call.Aside, isAway && errors.Is(ctx.Err(), context.Canceled): // given up by the caller: says nothing of the backend
		c.breaker.leave(pass, time.Now(), unknown)
	case isAway:
		c.breaker.leave(pass, time.Now(), failed)
	default:
		c.breaker.leave(pass, time.Now(), answered)
	}
	outcome := outcomeOf(err)
	if refused, ok := errors.AsType[*Error](err); ok {
		if refused.Code == CodeInvalidSession {
			c.sessions.drop(token)
		}
		err = refused.without(token)
	}
	c.options.Observer.Called(call.Service, call.Action, outcome, time.Since(began))
	return err
}

// outcomeOf is how a call ended, in an Observer's words.
func outcomeOf(err error) string {
	if away, ok := errors.AsType[*Unavailable](err); ok {
		return string(away.Cause)
	}
	if refused, ok := errors.AsType[*Error](err); ok {
		return refused.Code
	}
	return "ok"
}

// sessionError is why a call could not be made for want of a session. The
// call itself was not carried out, whatever happened to the session's.
func sessionError(call Call, err error) error {
	if u, ok := errors.AsType[*Unavailable](err); ok {
		return &Unavailable{Service: call.Service, Action: call.Action, Cause: u.Cause, Status: u.Status, err: err}
	}
	return fmt.Errorf("get a session for %s.%s: %w", call.Service, call.Action, err)
}

// newSession makes a session, here or there.
func (c *Client) newSession(ctx context.Context) (ks.Secret, error) {
	o := c.options
	// The fixed session key keeps all media servers of a site on one index of
	// the backend, so that they read what they wrote.
	const privileges = "disableentitlement,sessionkey:kalturaWowzaPermanentSessionKey"
	const user = "MediaServer"
	if o.StartSession {
		var token string
		err := c.Do(ctx, Call{Service: "session", Action: "start", Idempotent: true, open: true, Params: Params{"secret": o.Secret.Reveal(),
			"userId": user, "type": int(ks.Admin), "partnerId": o.Partner, "expiry": int(o.SessionLife / time.Second), "privileges": privileges}}, &token)
		return ks.Secret(token), err
	}
	s := ks.Session{Partner: o.Partner, Type: ks.Admin, Expires: time.Now().Add(o.SessionLife), User: user, Privileges: ks.ParsePrivileges(privileges)}
	if o.SessionVersion == 1 {
		return ks.SignV1(o.Secret, s, fmt.Sprint(rand.IntN(1<<30))), nil
	}
	return ks.Sign(o.Secret, s), nil
}
