package rental

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// A Mark is the consumer_id of a rental: who rents, under which name, and a token that is unique to each request. A rental
// whose answer was lost is found by it.
type Mark struct {
	Consumer, Name, Token string
}

// namePattern excludes the slash, which separates the parts of a mark.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// Names are the names under which a resource rents: Name, and every name that NewName makes of Prefix. Either may be "".
type Names struct {
	Name, Prefix string
}

// String returns the prefix, or the name where there is none.
func (n Names) String() string { return cmp.Or(n.Prefix, n.Name) }

// suffix is how many hexadecimal digits NewName adds.
const suffix = 12

var suffixPattern = regexp.MustCompile(fmt.Sprintf("^[0-9a-f]{%d}$", suffix))

// NewName returns a unique name that begins with the prefix.
func NewName(prefix string) string { return prefix + randomHex(suffix/2) }

// MadeOf reports whether the name has the form of those that NewName makes of the prefix.
func MadeOf(prefix, name string) bool {
	rest, begins := strings.CutPrefix(name, prefix)
	return begins && suffixPattern.MatchString(rest)
}

// ValidatePrefix says what is wrong with s as an argument of NewName.
func ValidatePrefix(s string) error {
	if err := ValidateName(s); err != nil || len(s)+suffix > 63 {
		return fmt.Errorf("%q is not a valid prefix: use 1 to %d letters, digits, '.', '_' or '-', beginning with a letter or a digit", s, 63-suffix)
	}
	return nil
}

// tokenPattern matches the tokens that newMark makes.
var tokenPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)

// ValidateName says what is wrong with s as a consumer or a session's name: it
// must be 1 to 63 letters, digits, dots, underscores or hyphens, the first one a
// letter or digit.
func ValidateName(s string) error {
	if !namePattern.MatchString(s) {
		return fmt.Errorf("%q is not a valid name: use 1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or a digit", s)
	}
	return nil
}

func newMark(consumer, name string) Mark {
	return Mark{Consumer: consumer, Name: name, Token: randomHex(16)}
}

func randomHex(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b)
}

// ParseMark parses a session's consumer_id. It returns false for sessions that this package didn't rent.
func ParseMark(consumerID string) (Mark, bool) {
	parts := strings.Split(consumerID, "/")
	if len(parts) != 3 || ValidateName(parts[0]) != nil || ValidateName(parts[1]) != nil || !tokenPattern.MatchString(parts[2]) {
		return Mark{}, false
	}
	return Mark{Consumer: parts[0], Name: parts[1], Token: parts[2]}, true
}

// String returns the mark as a consumer_id.
func (m Mark) String() string {
	return m.Consumer + "/" + m.Name + "/" + m.Token
}

// sameName reports whether other has the same consumer and name.
func (m Mark) sameName(other Mark) bool {
	return m.Consumer == other.Consumer && m.Name == other.Name
}
