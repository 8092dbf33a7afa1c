package shopper

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-log/tflog"
)

const (
	backoffBase   = 500 * time.Millisecond
	backoffMax    = 30 * time.Second
	retryAfterMax = 60 * time.Second
	// limitPatience is how long a service that only says to come back later (429
	// with Retry-After) is asked again without that counting as a failed attempt: a
	// plan over hundreds of sessions takes longer, and doesn't fail.
	limitPatience = 2 * time.Minute
)

// errUnreadable marks an answer that arrived damaged or isn't what the route
// gives. A read that gets one is repeated.
var errUnreadable = errors.New("the answer can't be read")

// checkRetry decides whether the call is sent again. It never returns an
// error: what failed is reported by the caller of the retrier.
func (c *call) checkRetry(ctx context.Context, response *http.Response, err error) (bool, error) {
	return c.retries > 0 && c.retryable(response, err) && c.hasTime(ctx, response, err), nil
}

// hasTime reports whether the caller's context allows another attempt, and
// prepares it.
func (c *call) hasTime(ctx context.Context, response *http.Response, err error) bool {
	if c.ended = ctx.Err(); c.ended != nil {
		return false
	}
	if c.limited(response) {
		c.spared++
	}
	if c.attempts-c.spared > c.retries {
		return false
	}
	c.wait = backoff(c.attempts-1, response)
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= c.wait {
		c.ended = fmt.Errorf("no time is left for another attempt: %w", context.DeadlineExceeded)
		return false
	}
	c.last = withoutURL(err)
	if err == nil {
		c.last = fmt.Errorf("status %d", response.StatusCode)
	}
	tflog.SubsystemInfo(ctx, subsystem, "The shopper is asked again", map[string]any{
		"operation": c.op, "attempt": c.attempts, "wait_ms": c.wait.Milliseconds(), "reason": c.last.Error(),
	})
	return true
}

// limited reports whether the service has asked for patience, and still gets it.
func (c *call) limited(response *http.Response) bool {
	if response == nil || response.StatusCode != http.StatusTooManyRequests || time.Since(c.begun) > limitPatience {
		return false
	}
	_, told := retryAfter(response.Header.Get("Retry-After"), time.Now())
	return told
}

// retryable reports whether the same read can get a better answer later. What
// it doesn't recognise is not repeated.
func (c *call) retryable(response *http.Response, err error) bool {
	if err != nil {
		return errors.Is(err, errUnreadable) || connectionFailed(err)
	}
	switch status := response.StatusCode; status {
	case http.StatusTooManyRequests:
		return true
	case http.StatusInternalServerError:
		return !c.keep500
	case http.StatusNotImplemented:
		return false
	case http.StatusServiceUnavailable:
		return !c.accept503
	default:
		return status > http.StatusNotImplemented
	}
}

// connectionFailed tells a network that failed, and may work in a moment, from
// one that will go on refusing: a certificate that isn't trusted, a name that
// doesn't exist, a server that doesn't speak TLS.
func connectionFailed(err error) bool {
	attempt, ok := errors.AsType[*attemptError](err)
	if !ok {
		return false
	}
	if dns, ok := errors.AsType[*net.DNSError](attempt.err); ok && dns.IsNotFound {
		return false
	}
	return !isTLSFailure(attempt.err)
}

func isTLSFailure(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	if alert, ok := errors.AsType[*net.OpError](err); ok && alert.Op == "remote error" {
		return true // crypto/tls's name for an alert of the other side
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	// net/http turns a RecordHeaderError from an http server into plain text.
	return strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// backoff is the pause before the next attempt: what the service asked for, or
// a random time below a limit that doubles with each attempt ("full jitter"),
// so that many clients don't come back at once. earlier counts from 0.
func backoff(earlier int, response *http.Response) time.Duration {
	if response != nil {
		if wait, ok := retryAfter(response.Header.Get("Retry-After"), time.Now()); ok && wait > 0 {
			return wait
		}
	}
	limit := backoffMax
	if earlier < 6 { // 500 ms doubled six times is above the limit
		limit = min(backoffMax, backoffBase<<earlier)
	}
	return rand.N(limit) + 1 //nolint:gosec // jitter needs no secrecy
}

// retryAfter reads the header of RFC 9110, 10.2.3: seconds or a date. It is
// capped, because nothing that the service says may stop the client for hours,
// and ignored when it is neither.
func retryAfter(header string, now time.Time) (time.Duration, bool) {
	header = strings.TrimSpace(header)
	if header == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseUint(header, 10, 63); err == nil {
		if seconds > uint64(retryAfterMax/time.Second) {
			return retryAfterMax, true
		}
		return time.Duration(seconds) * time.Second, true
	}
	date, err := http.ParseTime(header)
	if err != nil {
		return 0, false
	}
	return min(max(date.Sub(now), 0), retryAfterMax), true
}
