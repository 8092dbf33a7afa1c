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
	// DefaultPort is SSH's own.
	DefaultPort = 22
	// MaxBastions bounds a chain of jump hosts.
	MaxBastions = 4

	// defaultConnectTimeout bounds one attempt to log in: TCP, key exchange and authentication.
	defaultConnectTimeout = 20 * time.Second
	// defaultKeepAlive is the pause between two questions whether the machine is still there.
	defaultKeepAlive = 15 * time.Second
	// keepAliveMisses is how many keepalive intervals may pass without an answer
	// before the connection counts as lost (ssh_config's ServerAliveCountMax).
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
	// AgentSocket is the path of an SSH agent's socket (SSH_AUTH_SOCK). Empty means no agent.
	AgentSocket string

	// HostKey is what the machine must prove to own, in authorized_keys form ("ssh-ed25519 AAAA…");
	// several lines mean any of them, and "@cert-authority ssh-ed25519 AAAA…" means a host
	// certificate signed by that key. Empty means that the key seen at this first contact is
	// trusted; [Client.HostKey] returns it, to be given here from then on.
	HostKey string

	// Bastion is a jump host through which Host is reached. It may have a Bastion itself,
	// up to [MaxBastions] in all.
	Bastion *Config

	// Only tests set these: how the TCP connection is opened, and other times than the defaults.
	dial                      func(ctx context.Context, network, addr string) (net.Conn, error)
	connectTimeout, keepAlive time.Duration
}

// address is host:port, with brackets around an IPv6 address.
func (c *Config) address() string {
	return net.JoinHostPort(strings.Trim(c.Host, "[]"), strconv.Itoa(c.port()))
}

// name is the address as messages show it: user, address and bastions.
func (c *Config) name() string {
	name := c.User + "@" + c.address()
	at := c.Bastion
	for range MaxBastions {
		if at == nil {
			break
		}
		name += " via " + at.User + "@" + at.address()
		at = at.Bastion
	}
	return name
}

func (c *Config) port() int { return cmp.Or(c.Port, DefaultPort) }

// target is a machine to log in to: a configuration that has been checked, with its keys read.
type target struct {
	Config
	name      string // for messages
	signers   []ssh.Signer
	pinned    hostKeys // empty at first contact
	bastion   *target
	isBastion bool
	// id stands for everything that decides which machine a login reaches and as whom: two targets with the same id
	// may share a connection. It holds keys by their fingerprints.
	id string
}

// target reads the configuration, bastions and keys included, and finds what can be found wrong without dialling.
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

// isFirstContact tells whether the machine, or a bastion, will be trusted as it is found.
func (t *target) isFirstContact() bool {
	return t.pinned.empty() || (t.bastion != nil && t.bastion.isFirstContact())
}

// pinnedTo is the target with the host keys that the machine and each bastion have proved to own.
func (t *target) pinnedTo(c *Client) *target {
	same := *t
	same.pinned = c.proved
	if t.bastion != nil {
		same.bastion = t.bastion.pinnedTo(c.bastion)
	}
	same.identify()
	return &same
}

// problem says what is wrong with this machine's own address, or "".
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
