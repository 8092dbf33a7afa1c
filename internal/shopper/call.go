package shopper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
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
	attempts int            // sent so far, redirects not counted
	spared   int            // attempts that don't count
	sent     atomic.Bool    // an attempt got a connection
	wait     time.Duration  // before the next attempt
	ended    error          // why no further attempt was made: the caller's context
	last     error          // the failed attempt before this one
	read     *http.Response // the last response whose body was read
}

type callKey struct{}

// callFrom is how the round tripper and the redirect policy learn which
// operation a request belongs to.
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
		return c.failure(ctx, err)
	}
	ctx = c.client.logContext(context.WithValue(ctx, callKey{}, c))
	var body any
	if c.body != nil {
		body = bytes.NewReader(c.body)
	}
	request, err := retryablehttp.NewRequestWithContext(ctx, c.method, c.url.String(), body)
	if err != nil {
		return c.failure(ctx, err)
	}
	request.Header.Set("Accept", "application/json")
	if c.body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	request.SetResponseHandler(c.answer)

	c.begun = time.Now()
	response, err := c.retrier().Do(request)
	if response != nil && response != c.read {
		// The retries are used up, or a redirect was refused: this body is nobody
		// else's to close.
		if answer := c.answer(response); err == nil {
			err = answer
		}
	}
	if err != nil {
		return c.failure(ctx, err)
	}
	return nil
}

// retrier is made for each call, around the client's one http.Client, because
// go-retryablehttp hands neither request nor context to Backoff.
func (c *call) retrier() *retryablehttp.Client {
	return &retryablehttp.Client{
		HTTPClient:     c.client.http,
		RetryMax:       math.MaxInt32, // checkRetry counts
		CheckRetry:     c.checkRetry,
		Backoff:        func(_, _ time.Duration, _ int, _ *http.Response) time.Duration { return c.wait },
		ErrorHandler:   retryablehttp.PassthroughErrorHandler,
		RequestLogHook: func(_ retryablehttp.Logger, _ *http.Request, earlier int) { c.attempts = earlier + 1 },
	}
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

// failure turns whatever ended the call into its *Error.
func (c *call) failure(ctx context.Context, cause error) *Error {
	result, ok := errors.AsType[*Error](cause)
	if !ok {
		result = &Error{Err: c.noAnswer(ctx, cause)}
	} else if c.ended != nil {
		result.Err = errors.Join(result.Err, c.ended)
	}
	return c.identify(result)
}

// identify says which request an error is about.
func (c *call) identify(e *Error) *Error {
	e.Op, e.Method, e.Attempts = c.op, c.method, c.attempts
	e.URL, e.Path = c.client.URL(), c.url.EscapedPath()
	return e
}

// noAnswer is the cause of a call that got no answer. The end of the caller's
// context is recognisable in it however the network reported it.
func (c *call) noAnswer(ctx context.Context, cause error) error {
	cause = withoutURL(cause)
	if c.last != nil && ctx.Err() != nil {
		// Cancelled while waiting: what was waited for is worth knowing.
		cause = fmt.Errorf("%w; the last attempt ended with: %v", cause, c.last) //nolint:errorlint // the context's error is the cause
	}
	ended := c.ended
	if ctx.Err() != nil {
		ended = ctx.Err()
	}
	if ended != nil && !errors.Is(cause, ended) {
		cause = fmt.Errorf("%w: %w", ended, cause)
	}
	return cause
}

// withoutURL drops what net/http puts around an error: the *Error has the
// address already.
func withoutURL(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}
