package sandbox

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"sync"

	"golang.org/x/crypto/ssh"
)

// keyPool makes the sessions' RSA keys. The real service makes an RSA-4096 key for each
// session, which takes seconds because primes are hard to find. The pool reuses primes
// and gives each session another pair: n primes make n(n-1)/2 different keys. They
// have the real format, and are no secrets; they open machines on loopback.
type keyPool struct {
	bits int

	mu     sync.Mutex
	primes []*big.Int
	i, j   int // the next pair
}

// sessionKey is a session's one-time key.
type sessionKey struct {
	private string // PKCS#1 PEM
	public  string // authorized_keys form
	signer  ssh.Signer
}

// pools are shared by all sandboxes of a process, by key size.
var pools = struct {
	sync.Mutex
	bySize map[int]*keyPool
}{bySize: map[int]*keyPool{}}

func keysOf(bits int) *keyPool {
	pools.Lock()
	defer pools.Unlock()
	pool, ok := pools.bySize[bits]
	if !ok {
		pool = &keyPool{bits: bits, j: 1}
		pools.bySize[bits] = pool
	}
	return pool
}

// Next makes a key that no other session of this process has.
func (p *keyPool) Next() (sessionKey, error) {
	for {
		q, r, err := p.pair()
		if err != nil {
			return sessionKey{}, fmt.Errorf("making a session's key: %w", err)
		}
		key, ok := rsaKey(q, r)
		if !ok {
			continue // the pair doesn't fit the exponent
		}
		return encodeKey(key)
	}
}

func (p *keyPool) pair() (q, r *big.Int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.primes) <= p.j {
		prime, err := rand.Prime(rand.Reader, p.bits/2)
		if err != nil {
			return nil, nil, err
		}
		p.primes = append(p.primes, prime)
	}
	q, r = p.primes[p.i], p.primes[p.j]
	p.i++
	if p.i == p.j {
		p.i, p.j = 0, p.j+1
	}
	return q, r, nil
}

func rsaKey(q, r *big.Int) (*rsa.PrivateKey, bool) {
	const exponent = 65537
	one := big.NewInt(1)
	totient := new(big.Int).Mul(new(big.Int).Sub(q, one), new(big.Int).Sub(r, one))
	d := new(big.Int).ModInverse(big.NewInt(exponent), totient)
	if d == nil || q.Cmp(r) == 0 {
		return nil, false
	}
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(q, r), E: exponent},
		D:         d,
		Primes:    []*big.Int{new(big.Int).Set(q), new(big.Int).Set(r)},
	}
	key.Precompute()
	return key, key.Validate() == nil
}

func encodeKey(key *rsa.PrivateKey) (sessionKey, error) {
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return sessionKey{}, fmt.Errorf("making a session's key: %w", err)
	}
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	return sessionKey{
		private: string(pem.EncodeToMemory(block)),
		public:  string(ssh.MarshalAuthorizedKey(signer.PublicKey())),
		signer:  signer,
	}, nil
}
