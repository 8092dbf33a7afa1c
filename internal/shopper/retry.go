package shopper

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
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
	// limitPatience is how long retries of a request that was refused because of its rate (429 with Retry-After) don't count: a
	// plan over hundreds of sessions takes longer, but doesn't fail.
	limitPatience = 2 * time.Minute
)

// errUnreadable marks an answer that is damaged, or not what the route returns. A read is then retried.
var errUnreadable = errors.New("the answer can't be decoded")

// checkRetry is called by go-retryablehttp after each attempt. It reads the answer, records in the call how the attempt failed, and
// decides whether to retry. It never returns an error: the call reports the failure.
func checkRetry(ctx context.Context, response *http.Response, err error) (bool, error) {
	c := callFrom(ctx)
	c.attempts++
	if err == nil {
		err = c.answer(response)
	}
	c.failed = nil
	if err == nil {
		return false, nil
	}
	c.failed = c.failure(err)
	return c.retries > 0 && ctx.Err() == nil && c.failed.retryable(c.keep500) && c.mayRetry(ctx), nil
}

// mayRetry reports whether a retry is left, and time for it.
func (c *call) mayRetry(ctx context.Context) bool {
	wait := c.failed.RetryAfter
	if IsRateLimited(c.failed) && wait > 0 && time.Since(c.begun) <= limitPatience {
		c.spared++
	}
	if c.attempts-c.spared > c.retries {
		return false
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
		c.failed.endedBy(context.DeadlineExceeded)
		return false
	}
	tflog.SubsystemInfo(ctx, subsystem, "Retrying the request to the shopper", map[string]any{
		"operation": c.op, "attempt": c.attempts, "reason": c.failed.Error(),
	})
	return true
}

// retryable reports whether a retry of the same read may succeed. It is false for errors that it doesn't know.
func (e *Error) retryable(keep500 bool) bool {
	switch {
	case e.Status == 0:
		return connectionFailed(e.Err)
	case errors.Is(e.Err, errUnreadable), e.Status == http.StatusTooManyRequests:
		return true
	case e.Status == http.StatusInternalServerError:
		return !keep500
	}
	return e.Status > http.StatusNotImplemented
}

// connectionFailed reports whether the network failed in a way that may be temporary. An untrusted certificate, a name that
// doesn't exist and a server that doesn't speak TLS are not.
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
		return true // an alert of the other side, in crypto/tls
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	// net/http turns a RecordHeaderError from an http server into plain text.
	return strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// backoff is called by go-retryablehttp for the pause before a retry: what the service asked for, or a random time below a limit that
// doubles with each attempt ("full jitter"), so that many clients don't retry at once. earlier counts from 0.
func backoff(base, most time.Duration, earlier int, response *http.Response) time.Duration {
	if response != nil {
		if wait := retryAfter(response.Header); wait > 0 {
			return wait
		}
	}
	limit := min(most, base<<min(earlier, 16))
	return rand.N(limit) + 1 //nolint:gosec // jitter needs no secrecy
}

// retryAfter parses the header Retry-After (RFC 9110, section 10.2.3), which has seconds or a date. It returns retryAfterMax at most,
// and 0 for a past date or anything else.
func retryAfter(header http.Header) time.Duration {
	text := strings.TrimSpace(header.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(text, 10, 63); err == nil {
		return time.Duration(min(seconds, uint64(retryAfterMax/time.Second))) * time.Second
	}
	date, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	return min(max(time.Until(date), 0), retryAfterMax)
}
