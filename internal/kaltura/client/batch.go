package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/klive-media/klive/internal/kaltura/ks"
)

// Result is what one call of a batch gave.
type Result struct {
	call Call
	raw  json.RawMessage
	Err  error // *Error, or nil
}

// Decode reads the result into out, or returns Err.
func (r Result) Decode(out any) error {
	if r.Err != nil {
		return r.Err
	}
	return decodeResult(r.raw, r.call, out)
}

// Placeholder stands in a parameter of a batch for a value that an earlier
// call gives: Placeholder(1, "id"), Placeholder(2, "objects", "0", "status").
// Calls are counted from 1.
func Placeholder(call int, path ...string) string {
	return "{" + strings.Join(append([]string{strconv.Itoa(call), "result"}, path...), ":") + "}"
}

// Batch runs several actions in one round trip, in order. One that fails does
// not stop the others; err is only about the whole. The batch is repeated as
// Do repeats a call, when every call of it is idempotent. Partner and Timeout
// are those of the first call; files cannot be sent.
func (c *Client) Batch(ctx context.Context, calls ...Call) ([]Result, error) {
	if len(calls) == 0 {
		return nil, nil
	}
	idempotent := true
	params := Params{}
	for i, call := range calls {
		idempotent = idempotent && call.Idempotent
		if call.File != nil {
			return nil, errors.New("a file cannot be sent in a batch")
		}
		one := Params{"service": call.Service, "action": call.Action}
		for k, v := range call.Params {
			one[k] = v
		}
		params[strconv.Itoa(i+1)] = one
	}
	whole := Call{Service: "multirequest", Params: params, Partner: calls[0].Partner, Timeout: calls[0].Timeout}
	var results []Result
	err := c.repeat(ctx, idempotent, whole, func(ctx context.Context, token ks.Secret) error {
		answer, err := c.exchange(ctx, &request{service: whole.Service, params: c.params(whole, token), timeout: whole.Timeout})
		if err != nil {
			return err
		}
		var raw []json.RawMessage
		if err := decodeResult(answer.body, whole, &raw); err != nil {
			return err
		}
		if len(raw) != len(calls) {
			return unreadable(whole.Service, "", fmt.Errorf("%d answers to %d calls", len(raw), len(calls)))
		}
		results = make([]Result, len(calls))
		for i, one := range raw {
			results[i] = Result{call: calls[i], raw: one}
			if e, ok := errors.AsType[*Error](asError(bytes.TrimSpace(one), calls[i])); ok {
				results[i].Err = e.without(token)
			}
		}
		if HasCode(results[0].Err, CodeInvalidSession) { // then it holds for all: nothing was carried out
			return results[0].Err
		}
		for i, r := range results {
			c.options.Observer.Called(calls[i].Service, calls[i].Action, outcomeOf(r.Err), 0)
		}
		return nil
	})
	return results, err
}

// Fetch runs an action that answers with a file and returns the file. Such an
// action fails with an empty body and says why in a header.
func (c *Client) Fetch(ctx context.Context, call Call) ([]byte, error) {
	var body []byte
	err := c.repeat(ctx, call.Idempotent, call, func(ctx context.Context, token ks.Secret) error {
		a, err := c.exchange(ctx, &request{service: call.Service, action: call.Action, params: c.params(call, token), timeout: call.Timeout})
		if err != nil {
			return err
		}
		body = bytes.TrimSpace(a.body)
		switch code, failed := strings.CutPrefix(a.header.Get("X-Kaltura"), "error- "); {
		case failed:
			_, message, _ := strings.Cut(a.header.Get("X-Kaltura-App"), " - ")
			return &Error{Service: call.Service, Action: call.Action, Code: strings.TrimSpace(code), Message: message}
		case len(body) == 0:
			return unreadable(call.Service, call.Action, errors.New("the file is empty"))
		case body[0] == '{' && json.Valid(body):
			return asError(body, call)
		case strings.EqualFold(a.header.Get("Content-Type"), "text/html") || bytes.HasPrefix(body, []byte("<html")):
			return unreadable(call.Service, call.Action, errors.New("the answer is a page of HTML"))
		}
		return asXMLError(body, call)
	})
	if err != nil {
		return nil, err
	}
	return body, nil
}
