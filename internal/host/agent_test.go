//go:build unix

package host

import (
	"crypto"
	"crypto/rand"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// testAgent is an SSH agent that counts its open connections.
type testAgent struct {
	socket string
	mu     sync.Mutex
	open   int
	total  int
}

func (a *testAgent) counts() (open, total int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open, a.total
}

func (a *testAgent) count(by int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open += by
	a.total += max(by, 0)
}

// startAgent starts an agent that holds keys. A nil key makes it one that never answers.
func startAgent(t *testing.T, keys ...crypto.Signer) *testAgent {
	t.Helper()
	a := &testAgent{socket: filepath.Join(testkit.Dir(t), "agent")}
	ring, mute := agent.NewKeyring(), false
	for _, key := range keys {
		if mute = key == nil; mute {
			break
		}
		if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("unix", a.socket)
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			a.count(1)
			conns.Go(func() {
				defer a.count(-1)
				if mute {
					_, _ = io.Copy(io.Discard, conn)
				} else {
					_ = agent.ServeAgent(ring, conn)
				}
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		conns.Wait()
	})
	return a
}

// certificate signs a key's certificate and returns it in authorized_keys form.
func certificate(t *testing.T, authority, key crypto.Signer, kind uint32, principal string) *ssh.Certificate {
	t.Helper()
	cert := &ssh.Certificate{
		Key: toSigner(t, key).PublicKey(), CertType: kind, KeyId: "test",
		ValidPrincipals: []string{principal}, ValidBefore: ssh.CertTimeInfinity,
		Permissions: ssh.Permissions{Extensions: map[string]string{"permit-port-forwarding": ""}},
	}
	if err := cert.SignCert(rand.Reader, toSigner(t, authority)); err != nil {
		t.Fatal(err)
	}
	return cert
}

func userCertificate(t *testing.T, authority, key crypto.Signer, user string) string {
	t.Helper()
	return authorizedKey(certificate(t, authority, key, ssh.UserCert, user))
}
