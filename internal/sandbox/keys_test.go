package sandbox

import (
	"crypto/x509"
	"encoding/pem"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestKeysAreRealAndDifferent(t *testing.T) {
	t.Parallel()
	pool := &keyPool{bits: 1024, j: 1}
	seen := map[string]bool{}
	for range 40 {
		key, err := pool.Next()
		if err != nil {
			t.Fatal(err)
		}
		if seen[key.public] {
			t.Fatal("two sessions got the same key")
		}
		seen[key.public] = true
		block, rest := pem.Decode([]byte(key.private))
		if block == nil || block.Type != "RSA PRIVATE KEY" || len(rest) != 0 {
			t.Fatalf("not one PKCS#1 PEM block: %.40q", key.private)
		}
		if _, err := x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.ParsePrivateKey([]byte(key.private))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(ssh.MarshalAuthorizedKey(signer.PublicKey())); got != key.public {
			t.Fatalf("public key %q doesn't belong to the private one", got)
		}
	}
	if len(pool.primes) > 12 {
		t.Errorf("40 keys took %d primes", len(pool.primes))
	}
}

func TestKeySizeFollowsTheRealServiceAtRealTime(t *testing.T) {
	t.Parallel()
	for speed, want := range map[float64]int{0: 4096, 1: 4096, 60: 2048, 300: 2048} {
		if got := (Options{Speed: speed}).withDefaults().KeyBits; got != want {
			t.Errorf("speed %v: %d bits, want %d", speed, got, want)
		}
	}
}
