package shopper

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
)

// maxIDLength is far above the longest known ID (TensorDock's offers, about 80).
const maxIDLength = 200

var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~:@+=-]*$`)

// ErrInvalid is the cause of every error about an invalid argument, which was refused before anything was sent.
var ErrInvalid = errors.New("nothing was sent")

// ValidateID says what is wrong with the ID of a session, an offer or a template. An ID that it accepts is a single path segment; the
// client escapes it anyway.
func ValidateID(id string) error {
	switch {
	case id == "":
		return fmt.Errorf("the ID is empty: %w", ErrInvalid)
	case len(id) > maxIDLength:
		return fmt.Errorf("the ID has %d characters, at most %d are possible: %w", len(id), maxIDLength, ErrInvalid)
	case !idPattern.MatchString(id):
		return fmt.Errorf("the ID %q must contain only letters, digits and ._~:@+=-, and start with a letter or a digit:"+
			" %w", id, ErrInvalid)
	}
	return nil
}

// at returns the URL of a route of the service.
func (c *Client) at(query url.Values, segments ...string) *url.URL {
	escaped := make([]string, len(segments))
	for i, segment := range segments {
		escaped[i] = url.PathEscape(segment)
	}
	base := *c.base
	if base.Path == "" {
		base.Path = "/" // otherwise JoinPath makes a relative path
	}
	u := base.JoinPath(escaped...)
	u.RawQuery = query.Encode()
	return u
}

// about adds an ID to an operation's name, unless the ID is invalid.
func about(op, id string) string {
	if ValidateID(id) != nil {
		return op
	}
	return op + " " + id
}
