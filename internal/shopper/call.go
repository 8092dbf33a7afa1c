package shopper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

// call is one operation of a caller: one request, or for a read as many as
// its retries allow. It is not safe for concurrent use.
type call struct {
	op     string
	method string
	url    *url.URL
	body   []byte

	// limit is for one attempt.
	limit time.Duration
	// retries is how often the request may be repeated; 0 for whatever rents,
	// extends or destroys.
	retries int
	// keep500 makes a 500 final: on some routes the service answers so to say
	// that it will never do it.
	keep500 bool
	// accept503 makes a 503 with a readable body a success.
	accept503 bool
	// decode reads a successful answer. Its error makes the answer unreadable.
	decode func(body []byte) error

	client   *Client
	begun    time.Time
	attempts int         // that ended, redirects not counted
	spared   int         // attempts that don't count
	sent     atomic.Bool // an attempt got a connection
	failed   *Error      // the last attempt's failure
}

type callKey struct{}

// callFrom is how an attempt's steps (retries, round tripper) learn which
// operation they belong to.
func callFrom(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// read returns a call that may be repeated.
func (c *Client) read(op string, u *url.URL) *call {
	return &call{op: op, method: http.MethodGet, url: u, limit: c.requestTimeout, retries: c.maxRetries, client: c}
}

// write returns a call that is sent once.
func (c *Client) write(op, method string, u *url.URL, limit time.Duration) *call {
	return &call{op: op, method: method, url: u, limit: limit, client: c}
}

// do sends the call's request and decodes its answer. Its error is an *Error.
func (c *call) do(ctx context.Context) error {
	if len(c.body) > maxRequestBytes {
		return c.invalid(fmt.Errorf("the request has %d bytes, the service takes at most %d: %w", len(c.body), maxRequestBytes, ErrInvalid))
	}
	if err := ctx.Err(); err != nil {
		return c.failure(err)
	}
	ctx = c.client.logContext(context.WithValue(ctx, callKey{}, c))
	var body any
	if c.body != nil {
		body = bytes.NewReader(c.body)
	}
	request, err := retryablehttp.NewRequestWithContext(ctx, c.method, c.url.String(), body)
	if err != nil {
		return c.failure(err)
	}
	request.Header.Set("Accept", "application/json")
	if c.body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	c.begun = time.Now()
	_, err = c.client.retrying.Do(request) //nolint:bodyclose // checkRetry has read and closed it
	switch {
	case c.failed == nil && err == nil:
		return nil
	case c.failed == nil:
		return c.failure(err)
	}
	if ended := ctx.Err(); ended != nil && !errors.Is(c.failed, ended) {
		c.failed.endedBy(ended)
	}
	return c.failed
}

// decodeJSON reads an answer's body into v, with all times in UTC.
func decodeJSON(body []byte, v any) error {
	if err := json.Unmarshal(body, v); err != nil {
		return err
	}
	if times, ok := v.(interface{ toUTC() }); ok {
		times.toUTC()
	}
	return nil
}

// get reads one thing. check says what an answer lacks.
func get[T any](ctx context.Context, c *call, check func(*T) error) (T, error) {
	var value T
	c.decode = func(body []byte) error {
		var decoded T // an earlier attempt's fields must not shine through
		if err := decodeJSON(body, &decoded); err != nil {
			return err
		}
		if check != nil {
			if err := check(&decoded); err != nil {
				return err
			}
		}
		value = decoded
		return nil
	}
	if err := c.do(ctx); err != nil {
		var none T
		return none, err
	}
	return value, nil
}

// invalid is the error for an argument that was refused before sending.
func (c *call) invalid(cause error) *Error {
	if !errors.Is(cause, ErrInvalid) {
		cause = fmt.Errorf("%w: %w", cause, ErrInvalid)
	}
	return &Error{Op: c.op, Method: c.method, URL: c.client.URL(), Err: cause}
}

// failure is the *Error for whatever ended an attempt: it says which request
// that was.
func (c *call) failure(cause error) *Error {
	e, ok := errors.AsType[*Error](cause)
	if !ok {
		if wrapped, ok := errors.AsType[*url.Error](cause); ok {
			cause = wrapped.Err // the *Error has the address already
		}
		e = &Error{Err: cause}
	}
	e.Op, e.Method, e.Attempts = c.op, c.method, c.attempts
	e.URL, e.Path = c.client.URL(), c.url.EscapedPath()
	return e
}

// endedBy adds that the caller's context ended the call: that stays
// recognizable however the network reported it.
func (e *Error) endedBy(ended error) {
	ended = fmt.Errorf("timed out: %w", ended)
	if e.Err != nil {
		ended = fmt.Errorf("%w: %w", ended, e.Err)
	}
	e.Err = ended
}
