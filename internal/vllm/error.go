package vllm

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// maxExcerpt bounds how much of a server's message an error quotes, in bytes.
const maxExcerpt = 500

// Error is a request to a vLLM server that failed. It never contains the key.
type Error struct {
	// Op is what was attempted, such as "list models".
	Op string
	// Status is the HTTP status, 0 when there was no answer.
	Status int
	// Message is the server's own message, shortened, or what is wrong with its answer.
	Message string
	// Err is the cause when there was no usable answer. errors.Is finds a context's error in it.
	Err error

	secret string
}

// Error returns the operation, the status, the message and the cause.
func (e *Error) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "vLLM: %s", e.Op)
	if e.Status != 0 {
		fmt.Fprintf(&text, ": HTTP %d", e.Status)
		if name := http.StatusText(e.Status); name != "" && e.Status != http.StatusOK {
			text.WriteString(" " + name)
		}
	}
	if e.Message != "" {
		text.WriteString(": " + e.Message)
	}
	if e.Err != nil {
		text.WriteString(": " + clip(e.Err.Error(), maxExcerpt))
	}
	return MaskSecrets(text.String(), e.secret)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ErrNoTokens is the cause when the answer to a completion has no token, or that to an embedding no number: the server answers, but
// doesn't work.
var ErrNoTokens = errors.New("the answer contains no output")

// ErrHung is the cause when the server reports that it is healthy, but no token comes.
var ErrHung = errors.New("the server is healthy (/health answers 200), but its engine hangs")

// slowError is the end of an exchange's own limit. It is no context error: the caller's context goes on.
type slowError struct{ limit time.Duration }

func (e *slowError) Error() string { return fmt.Sprintf("no complete answer within %s", e.limit) }

// Timeout makes it a timeout as net.Error defines it.
func (e *slowError) Timeout() bool { return true }

// IsUnauthorized reports whether the server refused the key.
func IsUnauthorized(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden)
}

// IsNotFound reports whether the server has no such route or no such model.
func IsNotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Status == http.StatusNotFound
}

// IsNotReady reports whether asking again later may help: nothing answers yet, the answer broke off or took too long, or the server
// (or a proxy in front of it) reports that it is not up yet. It is false when the caller's context ended, and for a certificate that
// can't be verified.
func IsNotReady(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return false
	}
	switch e.Status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	case 0, http.StatusOK:
	default:
		return false
	}
	if e.Err == nil || errors.Is(e.Err, context.Canceled) || errors.Is(e.Err, context.DeadlineExceeded) {
		return false
	}
	certificate := is[x509.UnknownAuthorityError](e.Err) || is[x509.HostnameError](e.Err) || is[x509.CertificateInvalidError](e.Err)
	foreign := is[*json.SyntaxError](e.Err) || is[*json.UnmarshalTypeError](e.Err) // the answer is not vLLM's
	return !certificate && !foreign && !errors.Is(e.Err, ErrNoTokens)
}

// is reports whether err is or wraps an E.
func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// IsUnsupported reports whether the server works, but the model doesn't support the request, such as an embedding model
// that is asked for a completion.
func IsUnsupported(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return false
	}
	switch e.Status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return !strings.Contains(e.Message, "The model `")
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return strings.Contains(e.Message, "does not support")
	}
	return false
}
