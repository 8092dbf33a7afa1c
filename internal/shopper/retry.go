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
	// limitPatience is how long a service that only says to come back later (429
	// with Retry-After) is asked again without that counting as a failed attempt: a
	// plan over hundreds of sessions takes longer, and doesn't fail.
	limitPatience = 2 * time.Minute
)

// errUnreadable marks an answer that arrived damaged or isn't what the route
// gives. A read that gets one is repeated.
var errUnreadable = errors.New("the answer can't be decoded")

// checkRetry is go-retryablehttp's question after each attempt. It reads the
// answer, notes in the call how the attempt failed, and decides whether it is
// made again. It never returns an error: what failed is the call's to report.
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

// mayRetry reports whether an attempt is left, and time for it.
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

// retryable reports whether the same read can get a better answer later. What
// it doesn't recognize is not repeated.
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

// backoff is go-retryablehttp's question for the pause before the next attempt:
// what the service asked for, or a random time below a limit that doubles with
// each attempt ("full jitter"), so that many clients don't come back at once.
// earlier counts from 0.
func backoff(base, most time.Duration, earlier int, response *http.Response) time.Duration {
	if response != nil {
		if wait := retryAfter(response.Header); wait > 0 {
			return wait
		}
	}
	limit := min(most, base<<min(earlier, 16))
	return rand.N(limit) + 1 //nolint:gosec // jitter needs no secrecy
}

// retryAfter reads the header of RFC 9110, 10.2.3: seconds or a date. It is
// capped, because nothing that the service says may stop the client for hours;
// 0 when it is neither, or over.
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
