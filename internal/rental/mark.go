package rental

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// A Mark is what the consumer_id of a rental says: who rents, under which name,
// and a token that no other attempt to rent has ever used. It is how a rental
// whose answer was lost is found again.
type Mark struct {
	Consumer, Name, Token string
}

// namePattern leaves out the slash that separates the parts of a mark.
var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)

// tokenPattern is what newMark makes.
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
	token := make([]byte, 16)
	_, _ = rand.Read(token) // never fails: crypto/rand ends the program instead
	return Mark{Consumer: consumer, Name: name, Token: hex.EncodeToString(token)}
}

// ParseMark reads a session's consumer_id. It reports false for sessions that
// something else than this package rented.
func ParseMark(consumerID string) (Mark, bool) {
	parts := strings.Split(consumerID, "/")
	if len(parts) != 3 || ValidateName(parts[0]) != nil || ValidateName(parts[1]) != nil || !tokenPattern.MatchString(parts[2]) {
		return Mark{}, false
	}
	return Mark{Consumer: parts[0], Name: parts[1], Token: parts[2]}, true
}

// String is the consumer_id that carries the mark.
func (m Mark) String() string {
	return m.Consumer + "/" + m.Name + "/" + m.Token
}

// sameName reports whether other is a mark of the same consumer and name.
func (m Mark) sameName(other Mark) bool {
	return m.Consumer == other.Consumer && m.Name == other.Name
}
