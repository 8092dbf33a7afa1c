package deploy

import (
	"context"
	"io"
	"net"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

// Machine is a machine that SSH reaches; *host.Client is one.
type Machine interface {
	// Run runs a command; a non-zero exit status is no error.
	Run(ctx context.Context, cmd host.Command) (host.Result, error)
	// Pipe runs a command and returns its standard input and output as a connection.
	Pipe(ctx context.Context, args ...string) (net.Conn, error)
	// DialContext opens a connection from the machine.
	DialContext(ctx context.Context, network, addr string) (net.Conn, error)
}

// Runtime runs servers on one machine in one way. Every method ends with its context.
type Runtime interface {
	Kind() Kind
	// Ready gets what a start needs: an image, or a vLLM.
	Ready(ctx context.Context, progress func(string)) error
	// Release is the vLLM release that Start runs, "" where that isn't known.
	Release() string
	// TLSFiles are the paths where Start puts a certificate and its key.
	TLSFiles() (certificate, key string)

	// Find lists the owner's servers, running or not.
	Find(ctx context.Context, owner string) ([]Status, error)
	// Named is the server of a deployment's name, with its owner; [Gone] where there is none that this provider started.
	Named(ctx context.Context, name string) (Status, error)
	Inspect(ctx context.Context, ref Ref) (Status, error)
	// State is Inspect for a loop that waits.
	State(ctx context.Context, ref Ref) (Status, error)
	// Log returns the last lines of a server's log.
	Log(ctx context.Context, ref Ref, lines int) ([]string, error)
	// Follow returns the last lines of a server's log and then what is written to it. A container's ends when the container
	// does; all end with ctx, or when they are closed. A process's log says [EndLine] when the server has ended.
	Follow(ctx context.Context, ref Ref, lines int) (io.ReadCloser, error)
	// APIKey is the key that a running server has, "" for none. It is a secret.
	APIKey(ctx context.Context, ref Ref) (string, error)
	// Ports looks at the ports that a running server has open on the machine besides its own: open stay open, closed are closed
	// in the machine's firewall. A container has none, because its other ports are not published.
	Ports(ctx context.Context, ref Ref) (open []OpenPort, closed []int, err error)
	// Reach describes, for a person, how to read the server's log and how to remove the server.
	Reach(ref Ref) string

	// Start returns a reference with an ID, also together with an error, as soon as there is something to remove.
	Start(ctx context.Context, wanted Wanted) (Ref, error)
	// Settle lets the runtime start the server again by itself from now on.
	Settle(ctx context.Context, ref Ref) error
	// Restart starts a server again as it is. A process has a new ID afterwards.
	Restart(ctx context.Context, ref Ref, stop Stop) (Ref, error)
	// SetAside stops a server so that it can be brought back.
	SetAside(ctx context.Context, ref Ref, stop Stop) (Aside, error)
	// Remove stops and removes the server and checks that it is gone; one that is gone already is a success. It returns what is
	// worth knowing although it is gone.
	Remove(ctx context.Context, ref Ref, stop Stop) (note string, err error)

	Close() error
}

// EndLine is how a line of a process's log begins that says that the server has ended (process/launcher.sh).
const EndLine = "[launcher] ended "

// OpenPort is a port besides the server's own that is open on all addresses of the machine.
type OpenPort struct {
	Number int
	// Why is the error with which the machine's firewall refused to close it; "" for a public server, whose ports are left alone.
	Why string
}

// Wanted is a server to be started.
type Wanted struct {
	Name  string
	Owner string
	// Provider is the version of the program that asks for it.
	Provider string
	// Arguments come after "vllm". They hold no secret.
	Arguments []string
	// Environment holds the secrets too: it must not be logged or written down.
	Environment map[string]string
	Port        int
	Listen      string
	// Note is kept with the server as it is, for [Status]. It holds no secret.
	Note string
	// Hash identifies everything that a restart would be needed for, but the secrets.
	Hash         string
	APIKeyPrint  string
	HFTokenPrint string
	// HeldBefore is the GPU memory in MiB that is in use before the start, by GPU.
	HeldBefore []int
	// Certificate and Key are PEM for the runtime's TLSFiles; "" for none.
	Certificate string `json:"-"`
	Key         string `json:"-"`
}

// Stop says how much time a server is given to end by itself.
type Stop struct {
	// Force gives it next to none: it has failed, or nobody uses it.
	Force bool
	// Drain is how long running requests may go on before the server has to end. A server that doesn't drain, or has no
	// request, ends at once.
	Drain time.Duration
}

// Aside is a server that was stopped to make room and can be started again.
type Aside struct {
	Ref Ref
	// WasRunning is false for a server that had died before: there is nothing to go back to.
	WasRunning bool
	// APIKey and ServedName are what it takes to prove it once it is back. Arguments are its own.
	APIKey    string
	Arguments []string
	// Restore starts the server again as it was and returns its new reference.
	Restore func(ctx context.Context) (Ref, error)
}

// Lost tells whether something failed because the connection was lost: not every library keeps that in its error.
func Lost(machine Machine, err error) bool {
	if kind := host.KindOf(err); kind != "" {
		return kind == host.Lost
	}
	connection, ok := machine.(interface{ Err() error })
	return ok && host.KindOf(connection.Err()) == host.Lost
}

// OfConnection tells whether an attempt failed because of the connection to the machine: then it says nothing of the machine.
func OfConnection(err error) bool {
	switch host.KindOf(err) {
	case host.Lost, host.Closed, host.Unreachable, host.HostKeyChanged, host.AuthFailed:
		return true
	default:
		return false
	}
}
