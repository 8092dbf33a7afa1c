package shopper

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
)

// maxIDLength is far above the longest id seen (TensorDock's offers, about 80).
const maxIDLength = 200

var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~:@+=-]*$`)

// ErrInvalid is the cause of every error about an argument that was refused
// before anything was sent.
var ErrInvalid = errors.New("nothing was sent")

// ValidateID says what is wrong with the id of a session, an offer or a
// template. What it accepts can't leave its place in a path; it is escaped
// there all the same.
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

// at is the address of a route below the service's own.
func (c *Client) at(query url.Values, segments ...string) *url.URL {
	escaped := make([]string, len(segments))
	for i, segment := range segments {
		escaped[i] = url.PathEscape(segment)
	}
	base := *c.base
	if base.Path == "" {
		base.Path = "/" // else JoinPath makes a relative path
	}
	u := base.JoinPath(escaped...)
	u.RawQuery = query.Encode()
	return u
}

// about names an operation's object, unless its id is one that can't be shown.
func about(op, id string) string {
	if ValidateID(id) != nil {
		return op
	}
	return op + " " + id
}
