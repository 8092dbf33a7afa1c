package shopper

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxTextBytes    = 2048 // of the service's message in an error
	maxExcerptBytes = 300  // of an answer that isn't the service's
)

// answer reads and closes a response's body. Its error is an *Error; one that wraps errUnreadable is worth a retry.
func (c *call) answer(response *http.Response) error {
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswerBytes+1))
	_ = response.Body.Close()
	response.Body = http.NoBody // go-retryablehttp reads the body again before a retry
	status := response.StatusCode
	success := status >= 200 && status < 300 || status == http.StatusServiceUnavailable && c.accept503
	switch {
	case err == nil && len(body) > maxAnswerBytes:
		return &Error{
			Status: status, RequestID: c.client.clean(response.Header.Get("X-Request-Id"), maxTextBytes),
			Err: fmt.Errorf("the answer is longer than %d MiB", maxAnswerBytes>>20),
		}
	case success:
		return c.readSuccess(status, response.Header, body, err)
	}
	refusal := c.client.refusal(status, response.Header, body)
	if err != nil {
		refusal.Err = fmt.Errorf("the answer was cut off: %w", err)
	}
	return refusal
}

// readSuccess decodes an answer. It decodes a truncated body, too: that may contain everything.
func (c *call) readSuccess(status int, header http.Header, body []byte, readErr error) error {
	if c.decode == nil {
		return nil
	}
	decodeErr := c.decode(body)
	if decodeErr == nil {
		return nil
	}
	result := &Error{Status: status, RequestID: c.client.clean(header.Get("X-Request-Id"), maxTextBytes)}
	if status == http.StatusServiceUnavailable {
		// It is not the report that accept503 allows, so it is an error.
		result = c.client.refusal(status, header, body)
	}
	if readErr != nil {
		result.Err = fmt.Errorf("%w: it was cut off after %d bytes: %w", errUnreadable, len(body), readErr)
		return result
	}
	// Some of encoding/json's errors quote what they couldn't parse.
	result.Err = fmt.Errorf("%w: %s", errUnreadable, c.client.clean(decodeErr.Error(), maxExcerptBytes))
	if !json.Valid(body) {
		result.Foreign = looksForeign(body)
		if c.method == http.MethodGet { // the answer to a POST may contain a private key
			result.Body = c.client.clean(string(body), maxExcerptBytes)
		}
	}
	return result
}

// looksForeign reports whether a body doesn't even begin as JSON.
func looksForeign(body []byte) bool {
	body = bytes.TrimSpace(body)
	return len(body) == 0 || body[0] != '{' && body[0] != '['
}

// refusalBody is an error of the service, or of a proxy that answers in JSON, with message, detail or error_description.
type refusalBody struct {
	Error            string `json:"error"`
	RequestID        string `json:"request_id"`
	ErrorType        string `json:"error_type"`
	Message          string `json:"message"`
	Detail           string `json:"detail"`
	ErrorDescription string `json:"error_description"`
}

// refusal returns the error for an answer that isn't a success. The service's own answers always have a message and a request ID.
func (c *Client) refusal(status int, header http.Header, body []byte) *Error {
	result := &Error{Status: status, RequestID: c.clean(header.Get("X-Request-Id"), maxTextBytes), RetryAfter: retryAfter(header)}
	if status >= 300 && status < 400 {
		result.Foreign = true
		location, _, _ := strings.Cut(header.Get("Location"), "?") // a query may contain secrets
		result.Message = "a redirect to " + c.clean(location, maxExcerptBytes) + ", which is not followed"
		return result
	}
	var read refusalBody
	err := json.Unmarshal(body, &read)
	// A field of an unexpected type leaves the others readable.
	if _, wrongType := errors.AsType[*json.UnmarshalTypeError](err); err != nil && !wrongType {
		result.Foreign = true
		result.Body = c.clean(string(body), maxExcerptBytes)
		return result
	}
	result.Foreign = read.Error == "" || read.RequestID == ""
	if read.RequestID != "" {
		result.RequestID = c.clean(read.RequestID, maxTextBytes)
	}
	result.Type = c.clean(read.ErrorType, maxTextBytes)
	result.Message, result.Hint = c.clean(read.Error, maxTextBytes), c.clean(read.Message, maxTextBytes)
	if result.Message == "" {
		result.Message, result.Hint = result.Hint, ""
	}
	for _, text := range []string{read.ErrorDescription, read.Detail} {
		if result.Foreign && text != "" {
			result.Message = strings.TrimSpace(result.Message + " " + c.clean(text, maxTextBytes))
		}
	}
	if result.Message == "" {
		result.Body = c.clean(string(body), maxExcerptBytes)
	}
	return result
}

// clean makes text from outside safe for a message: masked, on one line, without control characters, and at most limit bytes long.
func (c *Client) clean(text string, limit int) string {
	text = c.mask(strings.ToValidUTF8(text, "\uFFFD"))
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return ' '
		}
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit] + "…"
}
