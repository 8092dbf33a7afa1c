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

// call is one operation: one request or, for a read, as many as retries allows. It is not safe for concurrent use.
type call struct {
	op     string
	method string
	url    *url.URL
	body   []byte

	// limit bounds one attempt.
	limit time.Duration
	// retries is how often the request may be retried; 0 for a request that rents, extends or destroys.
	retries int
	// keep500 makes a 500 final: on some routes it means that the service doesn't support the request.
	keep500 bool
	// accept503 makes a 503 with a readable body a success.
	accept503 bool
	// decode reads a successful answer. Its error makes the answer unreadable.
	decode func(body []byte) error

	client   *Client
	begun    time.Time
	attempts int         // that have ended, without redirects
	spared   int         // attempts that don't count as retries
	sent     atomic.Bool // an attempt got a connection
	failed   *Error      // the last attempt's failure
}

type callKey struct{}

// callFrom returns the call that a request's context belongs to, nil for none.
func callFrom(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

// read returns a call that may be retried.
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

// get reads a value, with all times in UTC. check, unless nil, returns what an answer lacks.
func get[T any](ctx context.Context, c *call, check func(*T) error) (T, error) {
	var value, none T
	c.decode = func(body []byte) error {
		var decoded T // without fields of an earlier attempt
		if err := json.Unmarshal(body, &decoded); err != nil {
			return err
		}
		if times, ok := any(&decoded).(interface{ toUTC() }); ok {
			times.toUTC()
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
		return none, err
	}
	return value, nil
}

// getByID reads a value that belongs to a session, offer or template. kind says which of these, and idOf returns the ID in an answer,
// which must be id.
func getByID[T any](ctx context.Context, c *call, kind, id string, idOf func(*T) string) (T, error) {
	if err := ValidateID(id); err != nil {
		var none T
		return none, c.invalid(err)
	}
	return get(ctx, c, func(value *T) error {
		if got := idOf(value); got != id {
			return fmt.Errorf("it is about %s %q", kind, c.client.clean(got, maxExcerptBytes))
		}
		return nil
	})
}

// invalid returns the error for an argument that was refused before sending.
func (c *call) invalid(cause error) *Error {
	if !errors.Is(cause, ErrInvalid) {
		cause = fmt.Errorf("%w: %w", cause, ErrInvalid)
	}
	return &Error{Op: c.op, Method: c.method, URL: c.client.URL(), Err: cause}
}

// failure returns the *Error for what ended an attempt, with the request that it belongs to.
func (c *call) failure(cause error) *Error {
	e, ok := errors.AsType[*Error](cause)
	if !ok {
		if wrapped, ok := errors.AsType[*url.Error](cause); ok {
			cause = wrapped.Err // without the URL, which the *Error has
		}
		e = &Error{Err: cause}
	}
	e.Op, e.Method, e.Attempts = c.op, c.method, c.attempts
	e.URL, e.Path = c.client.URL(), c.url.EscapedPath()
	return e
}

// endedBy adds the error of the caller's context, which ended the call, however the network reported that.
func (e *Error) endedBy(ended error) {
	if errors.Is(ended, context.DeadlineExceeded) {
		ended = fmt.Errorf("timed out: %w", ended)
	}
	if e.Err != nil {
		ended = fmt.Errorf("%w: %w", ended, e.Err)
	}
	e.Err = ended
}
