package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// maxAgentKeys bounds how many of the agent's keys are offered; servers disconnect after fewer.
const maxAgentKeys = 64

// manyKeys is how many keys OpenSSH's server lets a client try by default (MaxAuthTries).
const manyKeys = 6

// readKeys parses the private keys, each preceded by its certificate if there is one, and the pinned host keys. Errors are of kind
// BadKey.
func (t *target) readKeys() error {
	var err error
	if strings.TrimSpace(t.HostKey) != "" {
		if t.pinned, err = parseHostKeys(t.HostKey); err != nil {
			return t.named(err)
		}
	}
	keys := make([]ssh.Signer, len(t.PrivateKeys))
	for i, private := range t.PrivateKeys {
		if keys[i], err = readSigner(private); err != nil {
			return t.named(err)
		}
	}
	certified, err := certify(t.Certificates, keys)
	if err != nil {
		return t.named(err)
	}
	t.signers = slices.Concat(certified, keys)
	if len(t.signers) == 0 && t.AgentSocket == "" {
		return t.failed(BadKey, nil, "No key to log in with: neither a private key nor an SSH agent is configured.")
	}
	return nil
}

// named adds the machine's name to an error about one of its keys.
func (t *target) named(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		e.Op += " for"
		e.Addr = t.name
	}
	return err
}

// certify pairs each certificate with the private key that it is for.
func certify(certificates []string, keys []ssh.Signer) ([]ssh.Signer, error) {
	const op = "read a certificate"
	signers := make([]ssh.Signer, 0, len(certificates)+len(keys))
	for _, line := range certificates {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return nil, badKey(op, "It is not in authorized_keys form (\"ssh-ed25519-cert-v01@openssh.com AAAA…\").")
		}
		certificate, is := key.(*ssh.Certificate)
		if !is || certificate.CertType != ssh.UserCert {
			return nil, badKey(op, "It is not a user certificate (the file KEY-cert.pub that ssh-keygen -s writes).")
		}
		at := slices.IndexFunc(keys, func(key ssh.Signer) bool {
			return bytes.Equal(key.PublicKey().Marshal(), certificate.Key.Marshal())
		})
		if at < 0 {
			return nil, badKey(op, "None of the private keys matches the certificate for "+ssh.FingerprintSHA256(certificate.Key)+".")
		}
		signer, err := ssh.NewCertSigner(certificate, keys[at])
		if err != nil {
			return nil, badKey(op, err.Error()+".")
		}
		signers = append(signers, signer)
	}
	return signers, nil
}

// offer holds the keys that one login offers to the machine.
type offer struct {
	signers    []ssh.Signer
	configured int      // how many of signers are configured, the first ones; the others are the agent's
	agent      net.Conn // open while the agent may have to sign; nil without an agent
}

// close ends the connection to the agent.
func (o *offer) close() {
	if o.agent != nil {
		_ = o.agent.Close()
	}
}

// describe names the offered keys by fingerprint.
func (o *offer) describe() string {
	names := make([]string, len(o.signers))
	for i, signer := range o.signers {
		key, source := signer.PublicKey(), "configured"
		if i >= o.configured {
			source = "agent"
		}
		names[i] = fmt.Sprintf("%s %s (%s)", key.Type(), ssh.FingerprintSHA256(key), source)
	}
	return strings.Join(names, ", ")
}

// offer collects the configured keys and the agent's. The caller closes it.
func (t *target) offer(ctx context.Context) (*offer, error) {
	o := &offer{signers: slices.Clip(t.signers), configured: len(t.signers)}
	if t.AgentSocket == "" {
		return o, nil
	}
	signers, conn, err := askAgent(ctx, t.AgentSocket)
	if err != nil {
		if ctx.Err() != nil {
			err = errors.New("it did not answer in time")
		}
		return nil, t.failed(AgentFailed, err, fmt.Sprintf("The SSH agent at %q didn't list its keys. Check SSH_AUTH_SOCK and that the"+
			" agent is running (ssh-add -l), or configure a private key instead of the agent.", t.AgentSocket))
	}
	o.agent = conn
	o.signers = append(o.signers, signers[:min(len(signers), maxAgentKeys)]...)
	if len(o.signers) == 0 {
		o.close()
		return nil, t.failed(BadKey, nil,
			"The SSH agent has no keys, and no private key is configured. Add one with ssh-add FILE; ssh-add -l lists them.")
	}
	return o, nil
}

// askAgent lists the agent's keys, certificates included. The keys sign through the returned connection, which is closed when ctx
// ends.
func askAgent(ctx context.Context, socket string) ([]ssh.Signer, net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	signers, err := agent.NewClient(conn).Signers()
	if err != nil {
		stop()
		_ = conn.Close()
		return nil, nil, err
	}
	return signers, conn, nil
}

// authFailed explains a refused login.
func (t *target) authFailed(o *offer, err error) *Error {
	var detail strings.Builder
	fmt.Fprintf(&detail, "The machine accepted none of these keys for user %q: %s. ", t.User, o.describe())
	if strings.Contains(err.Error(), "attempted methods [none]") {
		detail.WriteString("Its SSH server doesn't allow public keys at all (PubkeyAuthentication). ")
	}
	fmt.Fprintf(&detail, "Check that the user is right and that one of the keys is in its authorized_keys file on the machine "+
		"(ssh-keygen -l -f FILE shows fingerprints).")
	if len(o.signers) >= manyKeys {
		detail.WriteString(" An SSH server disconnects after a few keys (MaxAuthTries, 6 by default): configure the right private key" +
			" instead of an agent with many.")
	}
	return &Error{Op: "log in to", Addr: t.name, Kind: AuthFailed, Detail: detail.String(), Err: err}
}
