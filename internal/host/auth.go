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

// maxAgentKeys bounds the agent's keys that are offered; servers give up long before.
const maxAgentKeys = 64

// manyKeys is how many keys OpenSSH's server lets a client try by default (MaxAuthTries).
const manyKeys = 6

// credentials are a configuration's keys, ready to log in with.
type credentials struct {
	signers []ssh.Signer // private keys, each behind its certificate if there is one
	pinned  hostKeys     // empty at first contact
}

// credentials reads the configured keys. Errors are of kind BadKey.
func (c *Config) credentials() (credentials, error) {
	var creds credentials
	if strings.TrimSpace(c.HostKey) != "" {
		pinned, err := parseHostKeys(c.HostKey)
		if err != nil {
			return credentials{}, c.named(err)
		}
		creds.pinned = pinned
	}
	keys := make([]ssh.Signer, 0, len(c.PrivateKeys))
	for _, private := range c.PrivateKeys {
		signer, err := readSigner(private)
		if err != nil {
			return credentials{}, c.named(err)
		}
		keys = append(keys, signer)
	}
	certified, err := certify(c.Certificates, keys)
	if err != nil {
		return credentials{}, c.named(err)
	}
	creds.signers = slices.Concat(certified, keys)
	if len(creds.signers) == 0 && c.AgentSocket == "" {
		return credentials{}, &Error{
			Op: "connect to", Addr: c.name(), Kind: BadKey,
			Detail: "There is no key to log in with: neither a private key nor an SSH agent is configured.",
		}
	}
	return creds, nil
}

// named puts this machine's name into an error about one of its keys.
func (c *Config) named(err error) error {
	if e, ok := errors.AsType[*Error](err); ok {
		e.Op += " for"
		e.Addr = c.name()
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
			return nil, badKey(op, "It is not a user certificate (the file KEY-cert.pub that ssh-keygen -s makes).")
		}
		signer, err := certifiedSigner(certificate, keys)
		if err != nil {
			return nil, badKey(op, "None of the private keys belongs to the certificate for "+
				ssh.FingerprintSHA256(certificate.Key)+".")
		}
		signers = append(signers, signer)
	}
	return signers, nil
}

var errNoKeyForCertificate = errors.New("no private key for the certificate")

func certifiedSigner(certificate *ssh.Certificate, keys []ssh.Signer) (ssh.Signer, error) {
	for _, key := range keys {
		if bytes.Equal(key.PublicKey().Marshal(), certificate.Key.Marshal()) {
			return ssh.NewCertSigner(certificate, key)
		}
	}
	return nil, errNoKeyForCertificate
}

// offer is what one login offers to the machine.
type offer struct {
	signers []ssh.Signer
	sources []string // where each signer comes from
	agent   net.Conn // open for as long as the agent has to sign; nil without an agent
}

// close ends the connection to the agent.
func (o *offer) close() {
	if o.agent != nil {
		_ = o.agent.Close()
	}
}

// method offers all keys in one go: x/crypto/ssh tries each method name only once.
func (o *offer) method() ssh.AuthMethod {
	return ssh.PublicKeys(o.signers...)
}

// describe names the offered keys by fingerprint.
func (o *offer) describe() string {
	names := make([]string, len(o.signers))
	for i, signer := range o.signers {
		key := signer.PublicKey()
		names[i] = fmt.Sprintf("%s %s (%s)", key.Type(), ssh.FingerprintSHA256(key), o.sources[i])
	}
	return strings.Join(names, ", ")
}

// newOffer collects the configured keys and the agent's. The caller closes it.
func newOffer(ctx context.Context, cfg *Config, creds credentials) (*offer, error) {
	o := &offer{signers: creds.signers}
	for range creds.signers {
		o.sources = append(o.sources, "configured")
	}
	if cfg.AgentSocket == "" {
		return o, nil
	}
	signers, conn, err := askAgent(ctx, cfg.AgentSocket)
	if err != nil {
		return nil, agentError(ctx, cfg, err)
	}
	o.agent = conn
	for _, signer := range signers[:min(len(signers), maxAgentKeys)] {
		o.signers = append(o.signers, signer)
		o.sources = append(o.sources, "agent")
	}
	if len(o.signers) == 0 {
		o.close()
		return nil, &Error{
			Op: "connect to", Addr: cfg.name(), Kind: BadKey,
			Detail: "The SSH agent holds no key, and no private key is configured. ssh-add FILE adds one, ssh-add -l lists them.",
		}
	}
	return o, nil
}

// askAgent lists the agent's keys, certificates included. The keys sign through the returned
// connection, which ends with ctx.
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

func agentError(ctx context.Context, cfg *Config, err error) error {
	if ctx.Err() != nil {
		err = errors.New("it did not answer in time")
	}
	return &Error{
		Op: "connect to", Addr: cfg.name(), Kind: AgentFailed, Err: err,
		Detail: fmt.Sprintf("The SSH agent at %q could not be asked for its keys. Check SSH_AUTH_SOCK and that the agent "+
			"runs (ssh-add -l), or configure a private key instead of the agent.", cfg.AgentSocket),
	}
}

// authFailed explains a refused login.
func authFailed(cfg *Config, o *offer, err error) *Error {
	var detail strings.Builder
	fmt.Fprintf(&detail, "The machine let none of these keys log in as %q: %s. ", cfg.User, o.describe())
	if strings.Contains(err.Error(), "attempted methods [none]") {
		detail.WriteString("Its SSH server offers no login by public key at all (PubkeyAuthentication). ")
	}
	fmt.Fprintf(&detail, "Check that the user is right and that one of the keys is in its authorized_keys file on the machine "+
		"(ssh-keygen -l -f FILE shows fingerprints).")
	if len(o.signers) >= manyKeys {
		detail.WriteString(" An SSH server stops asking after a few keys (MaxAuthTries, by default 6): " +
			"offer fewer, by giving the right private key instead of a full agent.")
	}
	return &Error{Op: "log in to", Addr: cfg.name(), Kind: AuthFailed, Detail: detail.String(), Err: err}
}
