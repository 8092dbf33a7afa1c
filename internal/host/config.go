package host

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// Defaults and limits of a [Config].
const (
	// DefaultPort is SSH's default port.
	DefaultPort = 22
	// MaxBastions bounds a chain of jump hosts.
	MaxBastions = 4

	// defaultConnectTimeout bounds one attempt to log in: TCP, key exchange and authentication.
	defaultConnectTimeout = 20 * time.Second
	// defaultKeepAlive is the interval between two probes of the machine.
	defaultKeepAlive = 15 * time.Second
	// keepAliveMisses is how many keepalive intervals may pass without an answer before the
	// connection counts as lost (ssh_config's ServerAliveCountMax).
	keepAliveMisses = 3
)

// Config says which machine to log in to, and how.
type Config struct {
	// Host is a name or an IP address, without a port.
	Host string
	// Port is the SSH port, 1 to 65535. Zero means [DefaultPort].
	Port int
	// User is the account to log in to.
	User string

	// PrivateKeys are unencrypted private keys in PEM: OpenSSH, PKCS#1 (RSA), PKCS#8 or SEC 1 (EC).
	// They are offered in this order, before the agent's.
	PrivateKeys []string
	// Certificates are OpenSSH user certificates in authorized_keys form, each for one of
	// PrivateKeys. A key's certificate is offered before the bare key.
	Certificates []string
	// AgentSocket is the path of an SSH agent's socket (SSH_AUTH_SOCK). "" means no agent.
	AgentSocket string

	// HostKey is the key that the machine must prove to own, in authorized_keys form ("ssh-ed25519 AAAA…").
	// Several lines mean any of them, and "@cert-authority ssh-ed25519 AAAA…" means a host certificate
	// signed by that key. "" means first contact: any key is trusted, and [Client.HostKey] returns it, to be
	// set here from then on.
	HostKey string

	// Bastion is a jump host through which Host is reached. It may have a Bastion itself,
	// up to [MaxBastions] in total.
	Bastion *Config

	// Only tests set these: how the TCP connection is opened, and times other than the defaults.
	dial                      func(ctx context.Context, network, addr string) (net.Conn, error)
	connectTimeout, keepAlive time.Duration
}

// address returns host:port, with brackets around an IPv6 address.
func (c *Config) address() string {
	return net.JoinHostPort(strings.Trim(c.Host, "[]"), strconv.Itoa(c.port()))
}

// name returns the machine's name for messages: user, address and bastions.
func (c *Config) name() string {
	name := c.User + "@" + c.address()
	for at, n := c.Bastion, 0; at != nil && n < MaxBastions; at, n = at.Bastion, n+1 {
		name += " via " + at.User + "@" + at.address()
	}
	return name
}

func (c *Config) port() int { return cmp.Or(c.Port, DefaultPort) }

// target is a machine to log in to: a checked configuration with parsed keys.
type target struct {
	Config
	name      string // for messages
	signers   []ssh.Signer
	pinned    hostKeys // empty at first contact
	bastion   *target
	isBastion bool
	// id covers everything that decides which machine a login reaches, and as whom: two targets with the same id
	// may share a connection. It contains the fingerprints of keys.
	id string
}

// target checks the configuration without dialing, bastions and keys included.
func (c Config) target() (*target, error) { return c.targetAt(0) }

func (c Config) targetAt(bastions int) (*target, error) {
	problem := c.problem()
	if bastions > MaxBastions {
		problem = fmt.Sprintf("There are more than %d bastions in a row. Does a bastion refer to itself?", MaxBastions)
	}
	if problem != "" {
		return nil, &Error{Op: "connect to", Addr: c.name(), Kind: BadConfig, Detail: problem}
	}
	c.connectTimeout = cmp.Or(c.connectTimeout, defaultConnectTimeout)
	c.keepAlive = cmp.Or(c.keepAlive, defaultKeepAlive)
	t := &target{Config: c, name: c.name(), isBastion: bastions > 0}
	if err := t.readKeys(); err != nil {
		return nil, err
	}
	if c.Bastion != nil {
		var err error
		if t.bastion, err = c.Bastion.targetAt(bastions + 1); err != nil {
			return nil, err
		}
	}
	t.identify()
	return t, nil
}

func (t *target) identify() {
	t.id = fmt.Sprintf("%q at %q, keys", t.User, t.address())
	for _, signer := range t.signers {
		t.id += " " + ssh.FingerprintSHA256(signer.PublicKey())
	}
	t.id += fmt.Sprintf(", agent %q, host key %s", t.AgentSocket, t.pinned.describe())
	if t.bastion != nil {
		t.id += ", via " + t.bastion.id
	}
}

// isFirstContact reports whether any host key of the machine, or of a bastion, will be trusted.
func (t *target) isFirstContact() bool {
	return t.pinned.empty() || (t.bastion != nil && t.bastion.isFirstContact())
}

// pinnedTo returns the target with the host keys that the machine and each bastion have proved to own.
func (t *target) pinnedTo(c *Client) *target {
	same := *t
	same.pinned = c.proved
	if t.bastion != nil {
		same.bastion = t.bastion.pinnedTo(c.bastion)
	}
	same.identify()
	return &same
}

// problem says what is wrong with the address or the user, "" for nothing. It doesn't check the bastion.
func (c *Config) problem() string {
	switch {
	case c.Host == "":
		return "The machine's host name or address is empty."
	case strings.ContainsAny(c.Host, " \t\r\n/@\x00"):
		return "The host must be only a name or an IP address, without a scheme, a user or a path."
	case c.Port < 0 || c.Port > 65535:
		return fmt.Sprintf("The SSH port %d is not between 1 and 65535.", c.Port)
	case c.User == "":
		return "The user to log in as is empty."
	}
	return ""
}
