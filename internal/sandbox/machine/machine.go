// Package machine plays one rented machine: an SSH server on loopback with its own host
// keys. Commands run in a real shell, in the machine's directory, with the machine's
// programs (package tool) first on PATH.
package machine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/tool"
)

// Options describe the machine to start.
type Options struct {
	// Dir is where the machine makes its directory; "" is the system's for temporary files.
	// Keep it short: a unix socket's path has about a hundred bytes.
	Dir string
	// ID is the machine's host name; "" is "sandbox".
	ID string
	// Facts are what the machine's programs report. User defaults to root for a container
	// and to "user" for a VM.
	Facts machinefs.Facts
	// AuthorizedKeys are the first lines of the login user's ~/.ssh/authorized_keys.
	AuthorizedKeys []string
	// NotListening leaves the port closed until ResumeListening, as while booting.
	NotListening bool
	// Idle is how long a connection may be idle before a proxy cuts it; 0 = forever.
	Idle time.Duration
	// Routes are addresses (host:port) outside the machine that forwarded connections
	// reach, as through a jump host.
	Routes []string
}

// endTime bounds the wait for the end of the machine's processes.
const endTime = 10 * time.Second

// Machine is a running machine. Its methods may be called concurrently, at any time.
type Machine struct {
	root     machinefs.Root
	home     *os.Root // the machine's directory, which SFTP can't leave
	hostname string
	routes   []string
	idle     time.Duration
	port     *port
	frozen   machinefs.Gate
	refuse   atomic.Bool
	traffic  traffic

	ctx  context.Context //nolint:containedctx // the machine's own life, which Close ends
	stop context.CancelFunc
	work sync.WaitGroup // accept loops, connections and what they start

	mu       sync.Mutex
	facts    machinefs.Facts
	hostKeys hostKeys
	conns    map[net.Conn]struct{}
	commands []string // the record, kept when the directory is removed
	lifeline net.Listener
	closed   bool
	closing  sync.Once
	closeErr error
}

// Start starts a machine. Close ends it.
func Start(opts Options) (*Machine, error) {
	if !tool.Ready() {
		return nil, errors.New("starting a sandbox machine: this program has to call tool.Main first thing in main or TestMain")
	}
	hearIgnored()
	root, err := makeRoot(opts.Dir)
	if err != nil {
		return nil, fmt.Errorf("starting a sandbox machine: %w", err)
	}
	if err := shared.watch(root); err != nil {
		return nil, errors.Join(fmt.Errorf("starting a sandbox machine: %w", err), os.RemoveAll(string(root)))
	}
	m := &Machine{
		root: root, hostname: cmp.Or(opts.ID, "sandbox"), routes: opts.Routes, idle: opts.Idle, facts: opts.Facts,
		conns: map[net.Conn]struct{}{},
	}
	m.ctx, m.stop = context.WithCancel(context.Background())
	if err := m.begin(opts); err != nil {
		return nil, errors.Join(fmt.Errorf("starting a sandbox machine: %w", err), m.Close())
	}
	return m, nil
}

// begin fills the machine's directory, and makes the machine reachable.
func (m *Machine) begin(opts Options) error {
	if m.facts.Container {
		m.facts.User = cmp.Or(m.facts.User, "root")
	}
	m.facts.User = cmp.Or(m.facts.User, "user")
	if m.facts.Packages == nil {
		m.facts.Packages = machinefs.Toolchain()
	}
	m.facts.Python = cmp.Or(m.facts.Python, "3.12")
	var err error
	if m.home, err = os.OpenRoot(string(m.root)); err != nil {
		return err
	}
	if err := errors.Join(m.writeFacts(m.facts), m.writeAuthorizedKeys(opts.AuthorizedKeys)); err != nil {
		return err
	}
	if m.hostKeys, err = newHostKeys(); err != nil {
		return err
	}
	if m.lifeline, err = net.Listen("unix", m.root.Lifeline()); err != nil {
		return err
	}
	m.work.Go(m.holdLifelines)
	if m.port, err = openPort("127.0.0.1:0"); err != nil || opts.NotListening {
		return err
	}
	return m.ResumeListening()
}

// makeRoot makes a new directory for a machine. Its path has no symlinks: a machine's
// processes are recognized by it.
func makeRoot(parent string) (machinefs.Root, error) {
	dir, err := os.MkdirTemp(parent, "m")
	if err != nil {
		return "", err
	}
	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	root := machinefs.Root(resolved)
	if len(root.DockerSocket()) > maxSocketPath {
		return "", errors.Join(fmt.Errorf("%s is too long a name: no unix socket fits below it", resolved), os.RemoveAll(dir))
	}
	return root, root.Create()
}

// maxSocketPath is the length of a unix socket's path that all systems allow.
const maxSocketPath = 103

// holdLifelines accepts lifelines, and closes them when the machine ends.
func (m *Machine) holdLifelines() {
	var held []net.Conn
	for {
		conn, err := m.lifeline.Accept()
		if err != nil {
			break
		}
		held = append(held, conn)
	}
	for _, conn := range held {
		_ = conn.Close()
	}
}

// Host is the address of the machine's SSH server.
func (m *Machine) Host() string { return m.port.host }

// Port is its port, which only ChangePort changes.
func (m *Machine) Port() int { return m.port.current() }

// Addr is Host and Port as one address.
func (m *Machine) Addr() string { return net.JoinHostPort(m.Host(), strconv.Itoa(m.Port())) }

// User is the login user's name.
func (m *Machine) User() string { return m.Facts().User }

// Root is the machine's directory.
func (m *Machine) Root() machinefs.Root { return m.root }

// HostKey is the machine's ed25519 host key as a line of authorized_keys.
func (m *Machine) HostKey() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return authorizedLine(m.hostKeys.ed25519.PublicKey())
}

// HostKeys are all its host keys in that form. A client's order of algorithms decides which
// one it sees.
func (m *Machine) HostKeys() []string {
	m.mu.Lock()
	keys := m.hostKeys
	m.mu.Unlock()
	return []string{authorizedLine(keys.ed25519.PublicKey()), authorizedLine(keys.rsa.PublicKey())}
}

func authorizedLine(key ssh.PublicKey) string {
	line := ssh.MarshalAuthorizedKey(key)
	return string(line[:len(line)-1])
}

// Facts returns what the machine's programs report now.
func (m *Machine) Facts() machinefs.Facts {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.facts
}

// SetFacts changes the machine while it runs. Its programs report the new facts, and
// programs appear and disappear accordingly. Running processes may keep the old facts.
func (m *Machine) SetFacts(change func(*machinefs.Facts)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return net.ErrClosed
	}
	facts := m.facts
	facts.GPUs = slices.Clone(facts.GPUs)
	change(&facts)
	// The lock is held while the files change: two calls must not mix.
	if err := m.writeFacts(facts); err != nil {
		return err
	}
	m.facts = facts
	return nil
}

// Record adds a command line to CommandLog that was not started through SSH.
func (m *Machine) Record(argv []string) {
	_ = m.root.Record(strings.Join(argv, " ")) // fails only once the machine is gone
}

// CommandLog returns every command line that ran on the machine, oldest first: those of
// SSH clients word for word; those of the machine's programs, and of Record, with
// spaces between the arguments. It can be called after Close.
func (m *Machine) CommandLog() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return slices.Clone(m.commands)
	}
	return m.record()
}

func (m *Machine) record() []string {
	commands, err := m.root.Commands()
	if err != nil {
		commands = append(commands, "(the rest of the record can't be read: "+err.Error()+")")
	}
	return commands
}

// Close ends the machine: its connections, its processes in all sessions and process
// groups, and its directory. It returns within seconds; the error says what could not
// be ended or removed. Further calls return the same.
func (m *Machine) Close() error {
	m.closing.Do(func() { m.closeErr = m.end() })
	return m.closeErr
}

func (m *Machine) end() error {
	m.mu.Lock()
	m.stop()
	m.mu.Unlock()
	if m.port != nil { // nil, as others here, if the start failed before
		m.port.close()
	}
	if m.lifeline != nil {
		_ = m.lifeline.Close()
	}
	m.DropConnections()
	m.work.Wait() // after this nothing starts a process
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	err := m.root.EndProcesses(ctx)
	m.mu.Lock()
	m.closed, m.commands = true, m.record()
	m.mu.Unlock()
	if m.home != nil {
		err = errors.Join(err, m.home.Close())
	}
	return errors.Join(err, os.RemoveAll(string(m.root)), shared.forget(m.root))
}
