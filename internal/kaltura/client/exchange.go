package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"
)

// request is one HTTP exchange.
type request struct {
	service, action string // action is empty for a multirequest
	params          Params
	file            *File
	timeout         time.Duration
}

// answer is an HTTP 200 with its body.
type answer struct {
	header http.Header
	body   []byte
}

// exchange sends a request and reads the answer, within the timeout. All
// parameters travel in the body: addresses end up in logs.
func (c *Client) exchange(ctx context.Context, r *request) (a answer, err error) {
	began := time.Now()
	defer func() { c.trace(ctx, r, a.header, err, time.Since(began)) }()
	timeout := r.timeout
	if timeout == 0 {
		timeout = c.options.Timeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var sent atomic.Bool // set by the transport's goroutine
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { sent.Store(true) }})

	req, err := c.build(ctx, r)
	if err != nil {
		return answer{}, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return answer{}, away(r, sent.Load(), err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case resp.StatusCode != http.StatusOK:
		return answer{header: resp.Header}, &Unavailable{Service: r.service, Action: r.action, Cause: CauseStatus, Status: resp.StatusCode, Doubt: true, err: redirected(req.URL, resp)}
	case err != nil:
		return answer{}, away(r, true, err)
	case len(body) > maxAnswer:
		return answer{}, unreadable(r.service, r.action, fmt.Errorf("the answer is longer than %d bytes", maxAnswer))
	}
	return answer{resp.Header, body}, nil
}

// redirected is where a redirect leads, without its path: what is wrong then is
// the configured address, such as http of a backend that answers at https. It
// is nil when there is none, or it leads to the same place.
func redirected(from *url.URL, resp *http.Response) error {
	if resp.StatusCode/100 != 3 {
		return nil
	}
	to, err := resp.Location()
	if err != nil || to.Host == "" {
		return nil //nolint:nilerr // nothing to tell
	}
	if to.Scheme == from.Scheme && to.Host == from.Host {
		return nil
	}
	return fmt.Errorf("the backend answers at %s://%s; set kaltura.url to that", to.Scheme, to.Host)
}

// trace writes a line about the exchange for whoever follows one. The backend's
// own log is found by the session id and the host that answered.
func (c *Client) trace(ctx context.Context, r *request, h http.Header, err error, took time.Duration) {
	log := c.options.Logger
	if !log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := []slog.Attr{slog.String("service", r.service), slog.String("action", r.action), slog.Duration("took", took)}
	for _, name := range []string{"entryId", "partnerId", "hostName", "hostname", "mediaServerIndex", "liveEntryStatus"} {
		if v, ok := r.params[name]; ok {
			attrs = append(attrs, slog.Any(name, v))
		}
	}
	for _, name := range []string{"X-Kaltura-Session", "X-Me", "X-Kaltura"} {
		if v := h.Get(name); v != "" {
			attrs = append(attrs, slog.String(name, v))
		}
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	log.LogAttrs(ctx, slog.LevelDebug, "backend call", attrs...)
}

// away is the error of an exchange that got no answer.
func away(r *request, sent bool, err error) *Unavailable {
	u := &Unavailable{Service: r.service, Action: r.action, Cause: CauseNetwork, Doubt: sent, err: err}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		u.err = wrapped.Err // the address says nothing new
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		u.Cause = CauseTimeout
	}
	return u
}

func unreadable(service, action string, err error) *Unavailable {
	return &Unavailable{Service: service, Action: action, Cause: CauseUnreadable, Doubt: true, err: err}
}

// build makes the HTTP request.
func (c *Client) build(ctx context.Context, r *request) (*http.Request, error) {
	target := c.options.URL + "/api_v3/service/" + url.PathEscape(r.service)
	if r.action != "" {
		target += "/action/" + url.PathEscape(r.action)
	}
	body, contentType, length, err := c.encode(r)
	if err != nil {
		return nil, fmt.Errorf("encode %s.%s: %w", r.service, r.action, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	req.ContentLength = length
	req.Header.Set("Content-Type", contentType)
	return req, nil
}

// encode renders the parameters, and the file where there is one.
func (c *Client) encode(r *request) (body io.Reader, contentType string, length int64, err error) {
	switch {
	case r.file != nil:
		return encodeFile(r.params, r.file)
	case c.options.Encoding == Form:
		text, err := encodeForm(r.params)
		return bytes.NewReader(text), "application/x-www-form-urlencoded", int64(len(text)), err
	default:
		text, err := encodeJSON(r.params)
		// The exact text: with a charset the backend drops the body.
		return bytes.NewReader(text), "application/json", int64(len(text)), err
	}
}
