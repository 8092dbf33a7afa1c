package vllmdeployment

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net"
	"strings"
	"time"
)

const (
	// certificateLife is how long a certificate that the provider makes is valid.
	certificateLife = 365 * 24 * time.Hour
	// certificateRenewal is how long before that ends a plan renews it.
	certificateRenewal = 30 * 24 * time.Hour
	// clockSlack is how far a client's clock may be behind.
	clockSlack = time.Hour
)

// certificate is a server's certificate in PEM form.
type certificate struct {
	chain, key string
	// authority is the CA certificate that clients trust.
	authority string
}

// newCertificate makes a certificate for the given names and addresses. It is signed by an authority whose key is thrown
// away, so that nothing else can ever be signed by the authority that clients trust.
func newCertificate(now time.Time, names ...string) (certificate, error) {
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certificate{}, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return certificate{}, err
	}
	authority := template(now, "vLLM deployment authority")
	authority.IsCA, authority.MaxPathLenZero, authority.KeyUsage = true, true, x509.KeyUsageCertSign
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return certificate{}, err
	}
	if authority, err = x509.ParseCertificate(authorityDER); err != nil {
		return certificate{}, err
	}
	leaf := template(now, "vLLM deployment")
	leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, name := range names {
		if address := net.ParseIP(strings.Trim(name, "[]")); address != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, address)
		} else if name != "" {
			leaf.DNSNames = append(leaf.DNSNames, name)
		}
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, authority, key.Public(), authorityKey)
	if err != nil {
		return certificate{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return certificate{}, err
	}
	ca := encode("CERTIFICATE", authorityDER)
	return certificate{chain: encode("CERTIFICATE", leafDER) + ca, key: encode("PRIVATE KEY", keyDER), authority: ca}, nil
}

// template is a certificate without usages. x509.CreateCertificate gives it a random serial number.
func template(now time.Time, name string) *x509.Certificate {
	return &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
		NotBefore: now.Add(-clockSlack).UTC(), NotAfter: now.Add(certificateLife).UTC(),
	}
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// parseCertificate parses the first certificate of a PEM text.
func parseCertificate(text string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("it contains no certificate in PEM form")
	}
	found, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, errors.New("its certificate can't be read")
	}
	return found, nil
}

func checkCertificate(text string) error {
	_, err := parseCertificate(text)
	return err
}

// checkPair says what is wrong with a certificate and its key. Its error contains nothing of either.
func checkPair(chain, key string) error {
	if strings.Contains(key, "ENCRYPTED") {
		return errors.New("the private key is protected by a passphrase, which vLLM can't use: remove it from a copy (openssl pkey -in" +
			" KEY -out COPY)")
	}
	if _, err := tls.X509KeyPair([]byte(chain), []byte(key)); err != nil {
		return errors.New("the certificate and the private key don't belong together, or one of them isn't PEM")
	}
	return nil
}

// ends reports whether an authority is about to expire.
func ends(authority string, now time.Time) bool {
	found, err := parseCertificate(authority)
	return err == nil && now.Add(certificateRenewal).After(found.NotAfter)
}
