package deploy

import (
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

// Machine is a machine that SSH reaches; *host.Client is one.
type Machine interface {
	// Run runs a command. A non-zero exit status is no error.
	Run(ctx context.Context, cmd host.Command) (host.Result, error)
	// Pipe runs a command and returns its standard input and output as a connection.
	Pipe(ctx context.Context, args ...string) (net.Conn, error)
	// DialContext opens a connection from the machine.
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// Runtime runs servers on one machine in one way. Every method ends with its context.
type Runtime interface {
	Kind() Kind
	// Ready pulls the image, or installs vLLM, for Start.
	Ready(ctx context.Context, progress func(string)) error
	// Release is the vLLM release that Start runs, "" if unknown.
	Release() string
	// TLSFiles are the paths where Start puts a certificate and its key.
	TLSFiles() (certificate, key string)

	// Find lists the owner's servers, running or not.
	Find(ctx context.Context, owner string) ([]Status, error)
	// Named returns the server of a deployment's name, with its owner; [Gone] if this provider started none.
	Named(ctx context.Context, name string) (Status, error)
	// Inspect returns a server's status, [Gone] if there is no such server.
	Inspect(ctx context.Context, ref Ref) (Status, error)
	// State is a cheaper Inspect for loops. Fields that are slow to read may be empty.
	State(ctx context.Context, ref Ref) (Status, error)
	// Log returns the last lines of a server's log.
	Log(ctx context.Context, ref Ref, lines int) ([]string, error)
	// Follow streams a server's log from its last lines on, until ctx ends or the caller closes it. A container's stream also ends
	// with the container. A process's log has [EndLine] when the server has ended.
	Follow(ctx context.Context, ref Ref, lines int) (io.ReadCloser, error)
	// APIKey returns a running server's API key, "" for none. It is a secret.
	APIKey(ctx context.Context, ref Ref) (string, error)
	// Ports looks at the ports that a running server has open on the machine besides its own: open stay open, closed are closed
	// in the machine's firewall. A container has none, because its other ports are not published.
	Ports(ctx context.Context, ref Ref) (open []OpenPort, closed []int, err error)
	// Reach describes, for a person, how to read the server's log and how to remove the server.
	Reach(ref Ref) string

	// Start starts a server. With an error, there may be one although the reference has no ID: Find finds it by its owner.
	Start(ctx context.Context, wanted Wanted) (Ref, error)
	// Settle makes the runtime restart the server by itself from now on.
	Settle(ctx context.Context, ref Ref) error
	// Restart restarts a server with unchanged settings. A process gets a new ID.
	Restart(ctx context.Context, ref Ref, stop Stop) (Ref, error)
	// SetAside stops a server in a way that [Aside.Restore] can undo.
	SetAside(ctx context.Context, ref Ref, stop Stop) (Aside, error)
	// Remove stops and removes the server and checks that it is gone. A server that is gone already is a success. The note, mostly
	// "", says what the machine still has of it.
	Remove(ctx context.Context, ref Ref, stop Stop) (note string, err error)

	// Close closes the runtime's connections.
	Close() error
}

// EndLine begins the line of a process's log that says that the server has ended (process/launcher.sh).
const EndLine = "[launcher] ended "

// OpenPort is a port besides the server's own that is open on all addresses of the machine.
type OpenPort struct {
	Number int
	// Why is the error with which the machine's firewall refused to close it; "" for a public server, whose ports are left alone.
	Why string
}

// Wanted describes a server to start.
type Wanted struct {
	Name  string
	Owner string
	// Provider is the provider's version.
	Provider string
	// Arguments come after "vllm". They hold no secret.
	Arguments []string
	// Environment includes secrets: it must not be logged or stored.
	Environment map[string]string
	Port        int
	Listen      string
	// Note is stored with the server and returned in its [Status]. It holds no secret.
	Note string
	// Hash identifies all settings whose change needs a restart, except for the secrets.
	Hash         string
	APIKeyPrint  string
	HFTokenPrint string
	// HeldBefore is the GPU memory in MiB that is in use before the start, by GPU.
	HeldBefore []int
	// Certificate and Key are PEM for the runtime's TLSFiles; "" for none.
	Certificate string `json:"-"`
	Key         string `json:"-"`
}

// Stop says how much time a server has to end by itself.
type Stop struct {
	// Force leaves it almost none, for a server that has failed or that nobody uses.
	Force bool
	// Drain is how long requests may continue. A server that doesn't drain, or has no requests, ends at once.
	Drain time.Duration
}

// Aside is a server that was stopped to make room and can be restored.
type Aside struct {
	Ref Ref
	// WasRunning is false for a server that had died before and can't be restored.
	WasRunning bool
	// APIKey and Arguments are the server's, to verify it once it is restored.
	APIKey    string
	Arguments []string
	// Restore starts the server with unchanged settings and returns its new reference.
	Restore func(ctx context.Context) (Ref, error)
}

// Facts parses a script's output: lines of a key, a space and a value. Of several lines with one key, the last counts.
func Facts(output string) map[string]string {
	facts := map[string]string{}
	for line := range strings.Lines(output) {
		key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), " ")
		facts[key] = value
	}
	return facts
}

// Lost reports whether an operation failed because the connection was lost, which some libraries' errors don't say.
func Lost(machine Machine, err error) bool {
	if kind := host.KindOf(err); kind != "" {
		return kind == host.Lost
	}
	connection, ok := machine.(interface{ Err() error })
	return ok && host.KindOf(connection.Err()) == host.Lost
}

// OfConnection reports whether err is about the connection to the machine, so that it says nothing about the machine.
func OfConnection(err error) bool {
	return slices.Contains([]host.Kind{host.Lost, host.Closed, host.Unreachable, host.HostKeyChanged, host.AuthFailed}, host.KindOf(err))
}
