package host

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"
)

// maxHostKeys bounds the lines of a pinned host key.
const maxHostKeys = 16

// certAuthority marks a host key that signs certificates, as in known_hosts.
const certAuthority = "@cert-authority"

// ParsePrivateKey checks that a private key in PEM can be used to log in. Its error is an [*Error] of kind [BadKey] whose Detail says
// what is wrong and what to do. The error contains nothing of the key.
func ParsePrivateKey(private string) error {
	_, err := readSigner(private)
	return err
}

// PublicKeyOf returns the public key of a private key in authorized_keys form, without a comment and a line end. Its errors are those
// of [ParsePrivateKey].
func PublicKeyOf(private string) (string, error) {
	signer, err := readSigner(private)
	if err != nil {
		return "", err
	}
	return authorizedKey(signer.PublicKey()), nil
}

// ParseHostKey checks that s is a valid [Config.HostKey]. Its error is an [*Error] of kind [BadKey].
func ParseHostKey(s string) error {
	_, err := parseHostKeys(s)
	return err
}

func badKey(op, detail string) *Error {
	return &Error{Op: op, Kind: BadKey, Detail: detail}
}

// authorizedKey returns a key in authorized_keys form, without a comment and a line end.
func authorizedKey(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func readSigner(private string) (ssh.Signer, error) {
	const op = "read a private key"
	text := strings.TrimSpace(private)
	signer, err := ssh.ParsePrivateKey([]byte(text))
	if err == nil {
		return signer, nil
	}
	if _, encrypted := errors.AsType[*ssh.PassphraseMissingError](err); encrypted {
		return nil, badKey(op, passphraseAdvice)
	}
	return nil, badKey(op, whyNotAKey(text))
}

const passphraseAdvice = "The key is protected by a passphrase, which the provider can't ask for. Load the key into an SSH agent" +
	" (ssh-add) and use the agent, or use a key without a passphrase (ssh-keygen -p -f COPY -N '' removes it from a copy)."

// whyNotAKey says why a text is not a usable private key. It repeats nothing of the text but a PEM block's type.
func whyNotAKey(text string) string {
	block, _ := pem.Decode([]byte(text))
	switch {
	case text == "":
		return "The key is empty."
	case strings.HasPrefix(text, "PuTTY-User-Key-File"):
		return "The key is in PuTTY's format. Convert it to OpenSSH format: puttygen KEY.ppk -O private-openssh-new -o KEY."
	case looksPublic(text):
		return "This is a public key; the private one is needed (the file without .pub)."
	case block == nil && !strings.Contains(text, "\n") && !strings.HasPrefix(text, "-----"):
		return "This is not a key. If it is a path, pass the file's content: file(\"PATH\")."
	case block == nil:
		return "The key is not valid PEM. It must keep its line breaks, and no line of it may be indented or missing."
	case block.Type == "ENCRYPTED PRIVATE KEY":
		return passphraseAdvice
	case block.Type == "DSA PRIVATE KEY":
		return "SSH servers no longer accept DSA keys. Create a new one: ssh-keygen -t ed25519."
	case !strings.HasSuffix(block.Type, "PRIVATE KEY"):
		return fmt.Sprintf("The PEM block is a %q, not a private key.", block.Type)
	}
	return "The key is damaged or of an unsupported type. Supported are RSA, ECDSA and Ed25519 keys; ssh-keygen -y -f KEY checks one."
}

func looksPublic(text string) bool {
	_, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text)) //nolint:dogsled // only whether it parses matters
	return err == nil
}

// hostKeys are the pinned keys of a machine.
type hostKeys struct {
	keys        []ssh.PublicKey
	authorities []ssh.PublicKey
}

func (h hostKeys) empty() bool { return len(h.keys)+len(h.authorities) == 0 }

func parseHostKeys(s string) (hostKeys, error) {
	const op = "read a host key"
	var pinned hostKeys
	for number, line := range strings.Split(strings.TrimSpace(s), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if number >= maxHostKeys {
			return hostKeys{}, badKey(op, fmt.Sprintf("There are more than %d lines.", maxHostKeys))
		}
		key, authority, err := parseHostKeyLine(line)
		if err != nil {
			return hostKeys{}, badKey(op, fmt.Sprintf("Line %d: %s", number+1, err))
		}
		if authority {
			pinned.authorities = append(pinned.authorities, key)
		} else {
			pinned.keys = append(pinned.keys, key)
		}
	}
	if pinned.empty() {
		return hostKeys{}, badKey(op, "The host key is empty.")
	}
	return pinned, nil
}

var errHostKeyForm = errors.New("a host key is written as in authorized_keys (\"ssh-ed25519 AAAA…\"), " +
	"and ssh-keyscan HOST shows it after the host's name")

func parseHostKeyLine(line string) (key ssh.PublicKey, authority bool, err error) {
	if rest, found := strings.CutPrefix(line, certAuthority); found {
		line, authority = strings.TrimSpace(rest), true
	}
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(line))
	switch {
	case err != nil || len(options) > 0 || len(bytes.TrimSpace(rest)) > 0:
		return nil, false, errHostKeyForm
	case isCertificate(key):
		return nil, false, errors.New("this is a certificate; use the host's own key, or \"" +
			certAuthority + " \" and the key that signs certificates")
	}
	return key, authority, nil
}

func isCertificate(key ssh.PublicKey) bool {
	_, is := key.(*ssh.Certificate)
	return is
}
