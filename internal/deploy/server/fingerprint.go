package server

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
)

// fingerprintRounds makes guessing a weak key from its fingerprint dear (tens of milliseconds a guess) and stays
// unnoticed in an apply. Changing it changes every fingerprint.
const fingerprintRounds = 50_000

const unavailable = "unavailable"

// Same tells whether a fingerprint is that of a secret. It is false where a fingerprint can't be made.
func Same(fingerprint, owner, secret string) bool {
	return secret != "" && fingerprint != unavailable && fingerprint == Fingerprint(owner, secret)
}

// Fingerprint identifies a secret of a deployment without telling it. The same secret has
// different fingerprints in different deployments. It is "" for an empty secret.
func Fingerprint(owner, secret string) string {
	if secret == "" {
		return ""
	}
	salt := sha256.Sum256([]byte("terraform-provider-shopper deployment\x00" + owner))
	key, err := pbkdf2.Key(sha256.New, secret, salt[:], fingerprintRounds, 16)
	if err != nil {
		// Only a FIPS-only build refuses such a key. Then nothing is said about the secret, and drift of it isn't seen.
		return unavailable
	}
	return hex.EncodeToString(key)
}
