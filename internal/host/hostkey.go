package host

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// hostKeyCheck verifies and records the key that a machine presents during one handshake. It is not safe for concurrent use.
type hostKeyCheck struct {
	pinned  hostKeys
	seen    ssh.PublicKey // the key that the machine presented
	proved  hostKeys      // the keys to pin from now on
	problem error         // why the key was not accepted
}

var errUnpinnedKey = errors.New("the machine's host key is not the pinned one")

// verify is an ssh.HostKeyCallback. At first contact it accepts any key.
func (h *hostKeyCheck) verify(address string, remote net.Addr, key ssh.PublicKey) error {
	h.seen = key
	if certificate, is := key.(*ssh.Certificate); is {
		h.problem = h.verifyCertificate(address, remote, certificate)
		return h.problem
	}
	if !h.pinned.empty() && !containsKey(h.pinned.keys, key) {
		h.problem = errUnpinnedKey
		return h.problem
	}
	h.proved.keys = []ssh.PublicKey{key}
	return nil
}

func (h *hostKeyCheck) verifyCertificate(address string, remote net.Addr, certificate *ssh.Certificate) error {
	checker := ssh.CertChecker{IsHostAuthority: func(authority ssh.PublicKey, _ string) bool {
		return containsKey(h.pinned.authorities, authority)
	}}
	if err := checker.CheckHostKey(address, remote, certificate); err != nil {
		return err
	}
	h.proved.authorities = []ssh.PublicKey{certificate.SignatureKey}
	return nil
}

func containsKey(keys []ssh.PublicKey, key ssh.PublicKey) bool {
	return slices.ContainsFunc(keys, func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), key.Marshal()) })
}

// algorithms returns the host key algorithms to negotiate: those of the pinned keys, so that a machine with several keys presents one
// that can be compared. At first contact it returns all that x/crypto/ssh considers secure, Ed25519 first, but no certificates, which
// only a pinned authority can prove.
func (h *hostKeyCheck) algorithms() []string {
	var names []string
	for _, key := range h.pinned.keys {
		names = append(names, keyAlgorithms(key.Type())...)
	}
	for _, name := range ssh.SupportedAlgorithms().HostKeys {
		isCert := strings.Contains(name, "-cert-")
		if (isCert && len(h.pinned.authorities) > 0) || (!isCert && h.pinned.empty()) {
			names = append(names, name)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { return algorithmRank(a) - algorithmRank(b) })
	return slices.Compact(names)
}

func algorithmRank(name string) int {
	if name == ssh.KeyAlgoED25519 {
		return 0
	}
	return 1
}

// keyAlgorithms returns the signature algorithms of a key type. For RSA they are SHA-2 only: SHA-1 (ssh-rsa) is no longer safe
// (RFC 8332).
func keyAlgorithms(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{keyType}
}

// String returns the keys in the form of [Config.HostKey].
func (h hostKeys) String() string {
	lines := make([]string, 0, len(h.keys)+len(h.authorities))
	for _, key := range h.keys {
		lines = append(lines, authorizedKey(key))
	}
	for _, key := range h.authorities {
		lines = append(lines, certAuthority+" "+authorizedKey(key))
	}
	return strings.Join(lines, "\n")
}

// describe lists the pinned keys by type and fingerprint.
func (h hostKeys) describe() string {
	names := make([]string, 0, len(h.keys)+len(h.authorities))
	for _, key := range h.keys {
		names = append(names, key.Type()+" "+ssh.FingerprintSHA256(key))
	}
	for _, key := range h.authorities {
		names = append(names, "a certificate signed by "+key.Type()+" "+ssh.FingerprintSHA256(key))
	}
	return strings.Join(names, " or ")
}

// hostKeyChanged returns the error for a machine that could not prove to own a pinned key. peerOffers are its host key algorithms
// where the handshake failed before it presented a key.
func (t *target) hostKeyChanged(seen ssh.PublicKey, peerOffers []string, err error) *Error {
	presented := "no key of a pinned type, only of " + strings.Join(peerOffers, ", ")
	accept := "its new key (ssh-keyscan -p " + fmt.Sprint(t.port()) + " " + t.Host + " shows it)"
	if seen != nil {
		presented = seen.Type() + " " + ssh.FingerprintSHA256(seen)
		if !isCertificate(seen) {
			accept = fmt.Sprintf("%q", authorizedKey(seen))
		}
	}
	who, setting, otherwise := "machine", "ssh.host_key", "; otherwise replace the machine (terraform apply -replace=ADDRESS)"
	if t.isBastion {
		who, setting, otherwise = "jump host", "ssh.bastion.host_key", ""
	}
	return t.failed(HostKeyChanged, err, fmt.Sprintf("Pinned is %s; the %s presented %s. Either another machine answers at this address now "+
		"(it was reinstalled, or the address now belongs to someone else's machine), or the connection is being intercepted. "+
		"Nothing was sent to it. If the change is expected and the new key is confirmed by the %s's console or its owner, "+
		"accept it by setting %s to %s%s.",
		t.pinned.describe(), who, presented, who, setting, accept, otherwise))
}
