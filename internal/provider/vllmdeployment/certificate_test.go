package vllmdeployment

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/reach"
)

func TestNewCertificate(t *testing.T) {
	t.Parallel()
	now := time.Now()
	made, err := newCertificate(now, "gpu.example.org", "192.0.2.7", "2001:db8::1", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair([]byte(made.chain), []byte(made.key))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(made.authority)) {
		t.Fatal("no authority")
	}
	for _, name := range []string{"gpu.example.org", "192.0.2.7", "2001:db8::1", "127.0.0.1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"other.example.org", "192.0.2.8"} {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots}); err == nil {
			t.Errorf("it is good for %s too", name)
		}
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 398*24*time.Hour || leaf.IsCA {
		t.Errorf("valid for %s, CA: %v", life, leaf.IsCA)
	}
	if ends(made.authority, now) || !ends(made.authority, now.Add(certificateLife-certificateRenewal+time.Hour)) || ends("", now) {
		t.Error("it is renewed at the wrong time")
	}
	if other, err := newCertificate(now, "x"); err != nil || other.authority == made.authority {
		t.Errorf("the same authority twice: %v", err)
	}
}

func TestCheckPair(t *testing.T) {
	t.Parallel()
	one, err := newCertificate(time.Now(), "a.example", "*.b.example")
	if err != nil {
		t.Fatal(err)
	}
	other, err := newCertificate(time.Now(), "a.example")
	if err != nil {
		t.Fatal(err)
	}
	if err := checkPair(one.chain, one.key); err != nil {
		t.Error(err)
	}
	for name, key := range map[string]string{
		"another's": other.key, "none": "", "encrypted": "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
	} {
		err := checkPair(one.chain, key)
		if err == nil || (key != "" && strings.Contains(err.Error(), strings.Split(key, "\n")[1])) {
			t.Errorf("%s key: %v", name, err)
		}
	}
	for host, want := range map[string]string{"a.example": "a.example", "x.b.example": "x.b.example", "192.0.2.1": "a.example"} {
		if got := reach.ServerName(one.chain, host); got != want {
			t.Errorf("%s is called %s, want %s", host, got, want)
		}
	}
	for _, text := range []string{"", "x", one.key} {
		if checkCertificate(text) == nil {
			t.Errorf("%.20q is taken for a certificate", text)
		}
	}
}
