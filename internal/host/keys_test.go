//go:build unix

package host

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// encrypted is a key in OpenSSH's format with a passphrase.
func encrypted(t *testing.T, key crypto.PrivateKey) string {
	t.Helper()
	block, err := ssh.MarshalPrivateKeyWithPassphrase(key, "test", []byte("secret words"))
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block))
}

func TestParsePrivateKey_Accepts(t *testing.T) {
	t.Parallel()
	rsaKey, ecKey, edKey := newRSA(t), newECDSA(t), newEd25519(t)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(edKey)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalPKCS8PrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		pem string
		key crypto.Signer
	}{
		"RSA, PKCS#1":       {pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), rsaKey},
		"RSA, OpenSSH":      {openSSH(t, rsaKey), rsaKey},
		"ECDSA, PKCS#8":     {pemOf("PRIVATE KEY", sec1), ecKey},
		"ECDSA, OpenSSH":    {openSSH(t, ecKey), ecKey},
		"Ed25519, PKCS#8":   {pemOf("PRIVATE KEY", pkcs8), edKey},
		"Ed25519, OpenSSH":  {openSSH(t, edKey), edKey},
		"no last line end":  {strings.TrimSpace(openSSH(t, edKey)), edKey},
		"Windows line ends": {strings.ReplaceAll(openSSH(t, edKey), "\n", "\r\n"), edKey},
		"blank lines around": {
			"\n\n" + openSSH(t, edKey) + "\n\n", edKey,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := ParsePrivateKey(test.pem); err != nil {
				t.Fatal(err)
			}
			public, err := PublicKeyOf(test.pem)
			if err != nil || public != publicLine(t, test.key) {
				t.Errorf("public key %q, %v", public, err)
			}
		})
	}
}

func TestParsePrivateKey_ExplainsWhatItCantUse(t *testing.T) {
	t.Parallel()
	key := newEd25519(t)
	whole := openSSH(t, key)
	lines := strings.Split(whole, "\n")
	for name, test := range map[string]struct{ pem, advice string }{
		"encrypted, OpenSSH": {encrypted(t, key), "passphrase"},
		"encrypted, PKCS#8":  {pemOf("ENCRYPTED PRIVATE KEY", []byte("xxxx")), "passphrase"},
		"encrypted, old PEM": {
			"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n", "passphrase",
		},
		"empty":         {" \n", "empty"},
		"a public key":  {publicLine(t, key), "public key"},
		"a path":        {"~/.ssh/id_ed25519", "file(\"PATH\")"},
		"PuTTY":         {"PuTTY-User-Key-File-3: ssh-ed25519\n", "puttygen"},
		"indented":      {strings.ReplaceAll(whole, "\n", "\n    "), "indented"},
		"on one line":   {strings.ReplaceAll(whole, "\n", " "), "line breaks"},
		"cut off":       {strings.Join(lines[:3], "\n"), "line breaks"},
		"damaged":       {pemOf("OPENSSH PRIVATE KEY", []byte("openssh-key-v1\x00nonsense")), "damaged"},
		"a certificate": {pemOf("CERTIFICATE", []byte("xx")), "\"CERTIFICATE\""},
		"DSA":           {pemOf("DSA PRIVATE KEY", []byte("xx")), "DSA"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := ParsePrivateKey(test.pem)
			e := asKind(t, err, BadKey)
			if !strings.Contains(e.Detail, test.advice) {
				t.Errorf("no %q in %q", test.advice, e.Detail)
			}
			if text := e.Error() + e.Detail; len(lines[1]) > 20 && strings.Contains(text, lines[1][:20]) {
				t.Error("the error repeats the key")
			}
			if _, err := PublicKeyOf(test.pem); KindOf(err) != BadKey {
				t.Errorf("PublicKeyOf: %v", err)
			}
		})
	}
}

func TestParseHostKey(t *testing.T) {
	t.Parallel()
	key := publicLine(t, newEd25519(t))
	other := publicLine(t, newRSA(t))
	for name, test := range map[string]struct {
		text string
		good bool
	}{
		"a key":                 {key, true},
		"with a comment":        {key + " root@machine\n", true},
		"two keys":              {key + "\n# the other one\n\n" + other, true},
		"an authority":          {certAuthority + " " + key, true},
		"empty":                 {"", false},
		"only a comment":        {"# nothing", false},
		"half a key":            {key[:30], false},
		"as known_hosts has it": {"machine " + key, false},
		"with options":          {"no-pty " + key, false},
		"a fingerprint":         {"SHA256:abcdefgh", false},
		"a private key":         {openSSH(t, newEd25519(t)), false},
		"a certificate":         {userCertificate(t, newEd25519(t), newEd25519(t), "root"), false},
		"too many":              {strings.Repeat(key+"\n", maxHostKeys+1), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := ParseHostKey(test.text)
			if test.good {
				if err != nil {
					t.Errorf("%v", err)
				}
				return
			}
			wantKind(t, err, BadKey)
		})
	}
}
