package shopper

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The recorded error types of the service that prove that nothing was rented.
const (
	TypeStaleInventory   = "stale_inventory"   // 503: the offer is gone
	TypeInsufficientDisk = "insufficient_disk" // 400: leaves a pending session behind
)

// Error is a request that failed. Status 0 means that there was no answer or, where the cause is ErrInvalid, that nothing was sent.
type Error struct {
	Op     string // what was being done: "listing offers"
	Method string
	URL    string // of the service, without credentials
	Path   string // the route, without the query
	Status int

	Type      string // the service's error_type
	Message   string // the service's error
	Hint      string // the service's message, friendlier than its error
	RequestID string
	// RetryAfter is how long to wait before a retry, by the answer, one minute at most; 0 when it doesn't say.
	RetryAfter time.Duration

	// Foreign is true where the answer isn't in the service's format: it is from a proxy, or from another server at a wrong URL.
	Foreign bool
	Body    string // a short excerpt of an answer that isn't the service's
	// Attempts is how many requests were sent.
	Attempts int
	Err      error // the cause, when there is one: network, context, decoding
}

// Error says what was being done, what answered and what to check.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Op != "" {
		b.WriteString(e.Op + ": ")
	}
	switch {
	case errors.Is(e.Err, ErrInvalid):
		b.WriteString(e.Err.Error())
		return b.String()
	case e.Status == 0:
		e.writeNoAnswer(&b)
	default:
		e.writeAnswer(&b)
	}
	if e.RequestID != "" {
		fmt.Fprintf(&b, " (request ID %s)", e.RequestID)
	}
	return b.String()
}

func (e *Error) writeNoAnswer(b *strings.Builder) {
	fmt.Fprintf(b, "no answer from the shopper at %s to %s %s%s", e.URL, e.Method, e.Path, e.attempts())
	if e.Err == nil {
		return
	}
	fmt.Fprintf(b, ": %v", e.Err)
	switch {
	case isTLSFailure(e.Err):
		b.WriteString(". Check the url's scheme, the CA certificate and the client certificate")
	case IsUnreachable(e):
		b.WriteString(". Check that the shopper is running, that the url (scheme, host, port) is right, and that no firewall, VPN or" +
			" proxy blocks it")
	}
}

func (e *Error) writeAnswer(b *strings.Builder) {
	fmt.Fprintf(b, "%s %s answered %d%s", e.Method, e.Path, e.Status, e.attempts())
	if e.Type != "" {
		b.WriteString(" " + e.Type)
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.Hint != "" && e.Hint != e.Message {
		b.WriteString(" " + e.Hint)
	}
	if e.Err != nil {
		fmt.Fprintf(b, ": %v", e.Err)
	}
	if e.Body != "" {
		fmt.Fprintf(b, ": %q", e.Body)
	}
	switch {
	case e.Foreign && (e.Status == 401 || e.Status == 403):
		fmt.Fprintf(b, ". A proxy in front of the shopper at %s probably refused the request:"+
			" check the token, headers and client certificate", e.URL)
	case e.Status == 401 || e.Status == 403:
		b.WriteString(". Check the token, headers and client certificate")
	case e.Status >= 300 && e.Status < 400:
		fmt.Fprintf(b, ". Set the url, now %s, to the service's actual address", e.URL)
	case e.Foreign:
		fmt.Fprintf(b, ". This is not the shopper's error format: a proxy or another server probably answered at %s; check the url and"+
			" its path", e.URL)
	}
}

func (e *Error) attempts() string {
	if e.Attempts < 2 {
		return ""
	}
	return fmt.Sprintf(" (%d attempts)", e.Attempts)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// AmbiguousError is a request that rents or extends, whose answer was lost or an error, but which may have taken effect. It must not
// be repeated: the caller finds out by reading.
type AmbiguousError struct {
	Err error
	// Answered is true where the service itself answered with an error, so that the request is no
	// longer in progress. Otherwise it can be until CreateTimeout after it was sent.
	Answered bool
}

// Error says that the outcome is unknown, and why.
func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%v; the request may have taken effect anyway", e.Err)
}

// Unwrap returns the failed request's *Error.
func (e *AmbiguousError) Unwrap() error { return e.Err }

// IsNotFound reports whether the service itself answered 404. A 404 in another format, from a proxy or for an unknown route, proves
// nothing and doesn't count.
func IsNotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == 404 && !e.Foreign
}

// IsAmbiguous reports whether err is an *AmbiguousError: the request may have taken effect.
func IsAmbiguous(err error) bool {
	_, ok := errors.AsType[*AmbiguousError](err)
	return ok
}

// IsUnreachable reports whether no answer came because of the network or the service, and not because of the caller's context or an
// invalid argument.
func IsUnreachable(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == 0 &&
		!errors.Is(e.Err, ErrInvalid) &&
		!errors.Is(e.Err, context.Canceled) &&
		!errors.Is(e.Err, context.DeadlineExceeded)
}

// IsRateLimited reports whether the request was refused because of its rate (429): nothing was done, and it may be retried after
// RetryAfter, or after a pause of the caller's choice.
func IsRateLimited(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == 429
}

// IsUnauthorized reports whether the credentials were refused (401 or 403).
func IsUnauthorized(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Status == 401 || e.Status == 403)
}
