package host

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Defaults and limits of a [Config].
const (
	// DefaultPort is SSH's own.
	DefaultPort = 22
	// DefaultConnectTimeout bounds one attempt to log in: TCP, key exchange and authentication.
	DefaultConnectTimeout = 20 * time.Second
	// DefaultKeepAlive is the pause between two questions whether the machine is still there.
	DefaultKeepAlive = 15 * time.Second
	// MaxBastions bounds a chain of jump hosts.
	MaxBastions = 4

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

	// ConnectTimeout bounds one attempt to log in. Zero means [DefaultConnectTimeout].
	ConnectTimeout time.Duration
	// KeepAlive is how often the machine is asked whether it is still there; it counts as lost
	// after three intervals without an answer. Zero means [DefaultKeepAlive].
	KeepAlive time.Duration

	// Bastion is a jump host through which Host is reached. It may have a Bastion itself,
	// up to [MaxBastions] in all.
	Bastion *Config

	// dial opens the TCP connection. Only tests set it.
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
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

func (c *Config) port() int {
	if c.Port == 0 {
		return DefaultPort
	}
	return c.Port
}

func (c *Config) connectTimeout() time.Duration {
	if c.ConnectTimeout <= 0 {
		return DefaultConnectTimeout
	}
	return c.ConnectTimeout
}

func (c *Config) keepAlive() time.Duration {
	if c.KeepAlive <= 0 {
		return DefaultKeepAlive
	}
	return c.KeepAlive
}

// check finds what can be found wrong without dialling, bastions and keys included.
func (c *Config) check() error {
	bastions := 0
	for at := c; at != nil; at = at.Bastion {
		if problem := at.problem(); problem != "" {
			return &Error{Op: "connect to", Addr: at.name(), Kind: BadConfig, Detail: problem}
		}
		if _, err := at.credentials(); err != nil {
			return err
		}
		if at != c {
			bastions++
		}
		if bastions > MaxBastions {
			return &Error{
				Op: "connect to", Addr: c.address(), Kind: BadConfig,
				Detail: fmt.Sprintf("There are more than %d bastions in a row. Does a bastion refer to itself?", MaxBastions),
			}
		}
	}
	return nil
}

// problem says what is wrong with this machine's own address, or "".
func (c *Config) problem() string {
	switch {
	case c.Host == "":
		return "The machine's host name or address is empty."
	case strings.ContainsAny(c.Host, " \t\r\n/@\x00"):
		return "The host must be a name or an IP address alone, without a scheme, a user or a path."
	case c.Port < 0 || c.Port > 65535:
		return fmt.Sprintf("The SSH port %d is not between 1 and 65535.", c.Port)
	case c.User == "":
		return "The user to log in as is empty."
	}
	return ""
}
