package machine

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/crypto/ssh"
)

const rsaBits = 2048

// hostKeys are a machine's host keys.
type hostKeys struct {
	ed25519 ssh.Signer
	rsa     *lazyRSA
}

func newHostKeys() (hostKeys, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return hostKeys{}, fmt.Errorf("making a host key: %w", err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return hostKeys{}, fmt.Errorf("making a host key: %w", err)
	}
	return hostKeys{ed25519: signer, rsa: &lazyRSA{make: sync.OnceValues(makeRSA)}}, nil
}

func makeRSA() (ssh.MultiAlgorithmSigner, error) {
	private, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return nil, err
	}
	multi, ok := signer.(ssh.MultiAlgorithmSigner)
	if !ok {
		return nil, errors.New("an RSA signer with one algorithm only")
	}
	return multi, nil
}

// lazyRSA is an RSA host key that is made when the first client needs it, because that
// takes a tenth of a second, and hundreds of machines may start at once.
type lazyRSA struct {
	make func() (ssh.MultiAlgorithmSigner, error)
}

var rsaAlgorithms = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}

// Algorithms doesn't make the key yet.
func (k *lazyRSA) Algorithms() []string { return rsaAlgorithms }

// PublicKey doesn't make the key yet.
func (k *lazyRSA) PublicKey() ssh.PublicKey { return lazyRSAPublic{k} }

// Sign signs with the better of Algorithms.
func (k *lazyRSA) Sign(random io.Reader, data []byte) (*ssh.Signature, error) {
	return k.SignWithAlgorithm(random, data, ssh.KeyAlgoRSASHA512)
}

// SignWithAlgorithm signs with one of Algorithms.
func (k *lazyRSA) SignWithAlgorithm(random io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	signer, err := k.make()
	if err != nil {
		return nil, err
	}
	return signer.SignWithAlgorithm(random, data, algorithm)
}

// lazyRSAPublic is the public half, of which most handshakes need only the type.
type lazyRSAPublic struct{ key *lazyRSA }

// Type is the key's format, not an algorithm.
func (p lazyRSAPublic) Type() string { return ssh.KeyAlgoRSA }

// Marshal returns the key in SSH's wire format, or nil if it can't be made.
func (p lazyRSAPublic) Marshal() []byte {
	signer, err := p.key.make()
	if err != nil {
		return nil
	}
	return signer.PublicKey().Marshal()
}

// Verify checks a signature by the key.
func (p lazyRSAPublic) Verify(data []byte, sig *ssh.Signature) error {
	signer, err := p.key.make()
	if err != nil {
		return err
	}
	return signer.PublicKey().Verify(data, sig)
}

var errNotAuthorized = errors.New("not an authorized key")

// authorize accepts the keys that are now in the login user's authorized_keys: as on a
// real machine, that file can be changed.
func (m *Machine) authorize(conn ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	if m.refuse.Load() || conn.User() != m.User() {
		return nil, errNotAuthorized
	}
	file, err := os.Open(m.authorizedKeysFile())
	if err != nil {
		return nil, errNotAuthorized
	}
	defer file.Close()
	rest, err := io.ReadAll(io.LimitReader(file, 1<<20))
	if err != nil {
		return nil, errNotAuthorized
	}
	for len(rest) > 0 {
		var authorized ssh.PublicKey
		authorized, _, _, rest, err = ssh.ParseAuthorizedKey(rest)
		if err != nil {
			break // no more keys
		}
		if bytes.Equal(authorized.Marshal(), key.Marshal()) {
			return &ssh.Permissions{}, nil
		}
	}
	return nil, errNotAuthorized
}
