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

// maxExcerpt bounds what of a server's words is repeated, in bytes.
const maxExcerpt = 500

// Error is a request to a vLLM server that failed. It never contains the key.
type Error struct {
	// Op says what was tried, such as "list models".
	Op string
	// Status is the HTTP status, 0 when there was no answer.
	Status int
	// Message is the server's own text, shortened, or ours when the answer couldn't be used.
	Message string
	// Err is the cause when there was no usable answer; a context's error stays recognizable in it.
	Err error

	secret string
}

// Error says what was tried, the status, the message and the cause.
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

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// ErrNoTokens is the cause when the server answered a completion without a single token, or an embedding without a
// number: it answers, but it doesn't work.
var ErrNoTokens = errors.New("the answer contains no output")

// ErrHung is the cause when the server says that it is healthy, and no token comes.
var ErrHung = errors.New("the server is healthy (/health answers 200), but its engine hangs")

// slowError is our own limit of one exchange. It is no context error: the caller's context is still good.
type slowError struct{ limit time.Duration }

func (e *slowError) Error() string { return fmt.Sprintf("no complete answer within %s", e.limit) }

// Timeout makes it a timeout by net.Error's measure.
func (e *slowError) Timeout() bool { return true }

// IsUnauthorized tells whether the server refused the key.
func IsUnauthorized(err error) bool {
	var e *Error
	return errors.As(err, &e) && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden)
}

// IsNotFound tells whether the server knows no such route or no such model.
func IsNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

// IsNotReady tells whether asking again later may help: nothing answers yet, the answer broke off or took too long, or the server (or a
// proxy before it) says that it is not there yet. A caller's own canceled context and a certificate that doesn't
// verify are neither.
func IsNotReady(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
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
	return !isCertificate(e.Err) && !errors.Is(e.Err, ErrNoTokens) && !isSyntax(e.Err)
}

func isCertificate(err error) bool {
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	return errors.As(err, &unknown) || errors.As(err, &name) || errors.As(err, &invalid)
}

// IsUnsupported tells whether the server runs, but this model doesn't do what was asked, such as an embedding model
// asked for a completion.
func IsUnsupported(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
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

// isSyntax tells whether an answer came, but not one of vLLM's.
func isSyntax(err error) bool {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	return errors.As(err, &syntax) || errors.As(err, &kind)
}
