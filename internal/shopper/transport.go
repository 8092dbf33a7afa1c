package shopper

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-log/tflog"
)

// subsystem is the name under which requests appear in Terraform's log.
const subsystem = "shopper"

const defaultUserAgent = "terraform-provider-shopper"

// privateKeyPattern matches a private key in PEM, complete or truncated, with real or escaped line ends.
var privateKeyPattern = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|$)`)

// What RFC 9110 allows, sections 5.1 and 5.5.
var (
	headerNamePattern  = regexp.MustCompile("^[!#$%&'*+\\-.^_`|~0-9A-Za-z]+$")
	headerValuePattern = regexp.MustCompile(`^[^\x00-\x08\x0a-\x1f\x7f]*$`)
)

// transport sends one attempt: it adds the headers, limits the attempt's time, and logs it. It has no CloseIdleConnections, which
// go-retryablehttp would call after each failure, although other calls use these connections.
type transport struct {
	next    http.RoundTripper
	base    *url.URL
	headers http.Header
}

// attemptError is the error of an attempt that got no answer. text is that of err, cleaned: net/http quotes what it
// can't parse, which may be anything.
type attemptError struct {
	err  error
	text string
}

func (e *attemptError) Error() string { return e.text }
func (e *attemptError) Unwrap() error { return e.err }

// timeoutError says that an attempt's own limit has passed. It is no context error: those are about the caller's context.
type timeoutError struct{ limit time.Duration }

func (e *timeoutError) Error() string { return fmt.Sprintf("no complete answer within %s", e.limit) }

// Timeout makes it a timeout as net.Error defines it.
func (e *timeoutError) Timeout() bool { return true }

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	caller := request.Context()
	call := callFrom(caller)
	if call == nil {
		return nil, errors.New("a request outside any operation")
	}
	started := time.Now()
	limited, cancel := context.WithTimeout(caller, call.limit)
	traced := httptrace.WithClientTrace(limited, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { call.sent.Store(true) },
	})
	out := request.Clone(traced)
	t.authorize(out)
	response, err := t.next.RoundTrip(out)
	if err != nil {
		err = timedOut(caller, limited, err, call.limit)
		cancel()
		err = &attemptError{err: err, text: call.client.clean(err.Error(), maxTextBytes)}
		logAttempt(caller, call, request, started, nil, err)
		return nil, err
	}
	logAttempt(caller, call, request, started, response, nil)
	response.Body = &attemptBody{
		body: response.Body, cancel: cancel,
		explain: func(err error) error { return timedOut(caller, limited, err, call.limit) },
	}
	return response, nil
}

// authorize adds the configured headers, unless a redirect leads to another server: net/http itself would send most of them there,
// and all of them to a subdomain or to another port.
func (t *transport) authorize(out *http.Request) {
	out.Header.Set("User-Agent", defaultUserAgent)
	if agent := t.headers.Get("User-Agent"); agent != "" {
		out.Header.Set("User-Agent", agent)
	}
	if !sameService(t.base, out.URL) {
		return
	}
	for name, values := range t.headers {
		if name == "Host" {
			out.Host = values[0]
			continue
		}
		out.Header[name] = values
	}
}

// sameService reports whether a request to u goes to the configured service: the same scheme, host and port, or the change from http
// to https with the default ports.
func sameService(base, u *url.URL) bool {
	if !strings.EqualFold(base.Hostname(), u.Hostname()) {
		return false
	}
	if base.Scheme == u.Scheme {
		return effectivePort(base) == effectivePort(u)
	}
	return base.Scheme == "http" && effectivePort(base) == "80" &&
		u.Scheme == "https" && effectivePort(u) == "443"
}

func effectivePort(u *url.URL) string {
	return cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
}

// timedOut replaces the error of an attempt whose own limit has passed, unless the caller's context has ended.
func timedOut(caller, limited context.Context, err error, limit time.Duration) error {
	if caller.Err() == nil && limited.Err() != nil {
		return &timeoutError{limit: limit}
	}
	return err
}

// attemptBody applies the attempt's time limit until its body is closed.
type attemptBody struct {
	body    io.ReadCloser
	cancel  context.CancelFunc
	explain func(error) error
}

// Read implements io.Reader.
func (b *attemptBody) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.explain(err)
	}
	return n, err
}

// Close ends the attempt.
func (b *attemptBody) Close() error {
	defer b.cancel()
	return b.body.Close()
}

// checkRedirect allows reads to follow a few redirects. A request that rents, extends or destroys is only sent to the configured URL:
// it returns the 3xx.
func checkRedirect(request *http.Request, via []*http.Request) error {
	if via[0].Method != http.MethodGet {
		return http.ErrUseLastResponse
	}
	if via[0].URL.Scheme == "https" && request.URL.Scheme != "https" {
		return refusedRedirect(request, "the service redirects from https to http, which is not followed")
	}
	if len(via) > maxRedirects {
		return refusedRedirect(request, fmt.Sprintf("the service redirects more than %d times", maxRedirects))
	}
	return nil
}

func refusedRedirect(request *http.Request, message string) *Error {
	return &Error{Status: request.Response.StatusCode, Foreign: true, Message: message}
}

// requestHeaders returns the configured headers. Its errors contain their names, but no values.
func requestHeaders(cfg Config) (http.Header, error) {
	headers := http.Header{"User-Agent": {defaultUserAgent}}
	if cfg.UserAgent != "" {
		headers.Set("User-Agent", cfg.UserAgent)
	}
	if cfg.Token != "" {
		headers.Set("Authorization", "Bearer "+cfg.Token)
	}
	given := map[string]bool{}
	for name, value := range cfg.Headers {
		canonical := http.CanonicalHeaderKey(name)
		switch canonical {
		case "Connection", "Content-Length", "Content-Type", "Transfer-Encoding", "Upgrade", "Trailer", "Te":
			return nil, fmt.Errorf("the header %q belongs to the connection and can't be set", name)
		case "Idempotency-Key", "X-Idempotency-Key":
			// net/http itself repeats a POST that has one of these.
			return nil, fmt.Errorf("the header %q can't be set: with it, requests that rent could be sent twice, and the service"+
				" ignores it", name)
		case "Authorization":
			if cfg.Token != "" {
				return nil, errors.New("the Authorization header and the token exclude each other")
			}
		}
		if !headerNamePattern.MatchString(name) {
			return nil, fmt.Errorf("%q is not a valid header name", name)
		}
		if given[canonical] {
			return nil, fmt.Errorf("the header %q is set twice", canonical)
		}
		given[canonical] = true
		headers.Set(canonical, value)
	}
	for name, values := range headers {
		if !headerValuePattern.MatchString(values[0]) {
			return nil, fmt.Errorf("the value of the header %q contains characters that are not allowed", name)
		}
	}
	return headers, nil
}

// secretsOf lists what must not appear in a log or an error.
func secretsOf(cfg Config) []string {
	var secrets []string
	for _, value := range cfg.Headers {
		secrets = append(secrets, value)
		// "Basic …" and "Bearer …": the credential alone is as secret.
		if _, credential, ok := strings.Cut(value, " "); ok {
			secrets = append(secrets, credential)
		}
	}
	secrets = append(secrets, cfg.Token, strings.TrimSpace(cfg.ClientKey))
	// Masking "1" or "on" would garble every text and protect nothing.
	return slices.DeleteFunc(secrets, func(secret string) bool { return len(secret) < 4 })
}

// mask replaces secrets and private keys in text from outside.
func (c *Client) mask(text string) string {
	for _, secret := range c.secrets {
		text = strings.ReplaceAll(text, secret, "***")
	}
	return privateKeyPattern.ReplaceAllString(text, "***")
}

// logContext returns a context for the log of one operation.
func (c *Client) logContext(ctx context.Context) context.Context {
	ctx = tflog.NewSubsystem(ctx, subsystem, tflog.WithRootFields())
	if len(c.secrets) > 0 {
		ctx = tflog.SubsystemMaskLogStrings(ctx, subsystem, c.secrets...)
	}
	return tflog.SubsystemMaskLogRegexes(ctx, subsystem, privateKeyPattern)
}

// logAttempt logs an attempt, without headers, query and bodies.
func logAttempt(ctx context.Context, call *call, request *http.Request, started time.Time, response *http.Response, err error) {
	fields := map[string]any{
		"operation": call.op, "method": request.Method, "path": request.URL.EscapedPath(),
		"attempt": call.attempts + 1, "duration_ms": time.Since(started).Milliseconds(),
	}
	if err != nil {
		fields["error"] = err.Error()
		tflog.SubsystemDebug(ctx, subsystem, "Request to the shopper failed", fields)
		return
	}
	fields["status"] = response.StatusCode
	if id := response.Header.Get("X-Request-Id"); id != "" {
		fields["request_id"] = id
	}
	tflog.SubsystemDebug(ctx, subsystem, "Request to the shopper answered", fields)
}
