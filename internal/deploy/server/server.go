// Package server describes one vLLM server on a machine, in plain values: what is
// wanted, how it is referred to later, and what was seen of it. Package deploy and its
// runtimes (deploy/container, deploy/process) share these types; whoever uses package deploy
// finds them there under the same names.
package server

import (
	"context"
	"net"
	"path"
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

// Kind says how a server is run.
type Kind string

// The runtimes.
const (
	Container Kind = "container"
	Process   Kind = "process"
	// Auto is for requests only: the first of the others that preflight says will work.
	Auto Kind = "auto"
)

// State is what a server is doing, as its runtime sees it. Whether it answers is another question.
type State string

// The states of a server.
const (
	Running State = "running"
	// Starting is a server that was made and not started yet.
	Starting State = "starting"
	// Restarting is a server that died and that its runtime is about to start again.
	Restarting State = "restarting"
	// Orphaned is a process that still runs although its supervisor was killed: nothing would start it again.
	Orphaned State = "orphaned"
	Exited   State = "exited"
	// Gone is a server that its runtime knows nothing of.
	Gone State = "gone"
	// Unknown is a state word that this version doesn't know.
	Unknown State = "unknown"
)

// Alive tells whether the server has, or is about to get, a running process.
func (s State) Alive() bool {
	return s == Running || s == Restarting || s == Starting || s == Orphaned
}

// Ref is all it takes to find a server again. It holds no secret; keep it whole.
type Ref struct {
	Runtime Kind
	// ID is a container's id, or a process's "PID-STARTTIME" as /proc/PID/stat tells them.
	ID    string
	Name  string
	Owner string
	// Port is where the server listens on the machine, Listen the address that reaches it from there.
	Port   int
	Listen string
	// Directory is where a process keeps its log and its record; "" for containers.
	Directory string
}

// Base is the directory that holds a process's own; "" for containers.
func (r Ref) Base() string {
	if r.Directory == "" {
		return ""
	}
	return path.Dir(path.Dir(r.Directory))
}

// GPU is one GPU of a machine. A figure that nvidia-smi doesn't tell is zero.
type GPU struct {
	Index             int
	UUID              string
	Name              string
	MemoryMiB         int
	UsedMiB           int
	DriverVersion     string
	ComputeCapability string // such as "8.9"
	TemperatureC      int    // degrees Celsius
}

// Status is what was seen of a server.
type Status struct {
	Ref
	State State
	// ExitCode is that of the last end; it means something only where State is Exited or Restarting.
	ExitCode int
	// Reason is the runtime's own word on why the server isn't running, such as "out of memory"; often "".
	Reason string
	// OOMKilled is set where the runtime says that the kernel killed a process of the server because memory was full.
	OOMKilled bool
	// RestartCount is how often the runtime has started the server again by itself.
	RestartCount int
	// RestartLoop is set for a server that keeps dying soon after each start.
	RestartLoop bool
	StartedAt   time.Time // UTC; zero when it never started

	Image       string            // as it was asked for; "" for processes
	ImageDigest string            // "sha256:…"; "" for processes
	Arguments   []string          // after "vllm", as the server was really started
	Environment map[string]string // as it was really started, without its secrets and what the image brings

	// SpecHash is [Wanted.Hash] of the launch that made the server.
	SpecHash string
	// APIKeyPrint and HFTokenPrint are the fingerprints of the secrets that the server really has; "" for none.
	APIKeyPrint  string
	HFTokenPrint string
	// Note is [Wanted.Note] of the launch that made the server.
	Note string
	// RestartsItself is set once the runtime starts the server again when it dies, or after a reboot.
	RestartsItself bool

	// VLLMVersion and ServedMaxModelLen are what the server itself answers; zero when it wasn't asked or didn't say.
	VLLMVersion       string
	ServedMaxModelLen int
	GPUs              []GPU
	// LoadSeconds is the time from the start to the first proof, on the launch that proved it.
	LoadSeconds float64
	// HeldBefore is the GPU memory in MiB that was in use before the start, by GPU; for processes only.
	HeldBefore []int
	// Kills are the kernel's counters from before the start, on the launch that proved it.
	Kills Kills
	// Warnings are things that didn't stop the launch and that the user should know.
	Warnings []string
}

// Kills are what the kernel tells of processes that it has killed because memory was full. Counters begin with the boot; nil is
// one that the machine doesn't show.
type Kills struct {
	// Own counts those of the container that the machine is itself (memory.events or memory.oom_control of its cgroup).
	Own *int `json:",omitempty"`
	// OwnOnly is set where Own counts all that concern the machine: with cgroup v2.
	OwnOnly bool `json:",omitempty"`
	// Kernel counts those of the kernel (oom_kill of /proc/vmstat), which may have other machines' too.
	Kernel *int `json:",omitempty"`
	// Line is the kernel's log line of the last one, "" where the log can't be read.
	Line string `json:",omitempty"`
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
	// Note is kept with the server for whoever started it, as it is. It holds no secret.
	Note string
	// Hash identifies everything that a restart would be needed for, but the secrets.
	Hash         string
	APIKeyPrint  string
	HFTokenPrint string
	// HeldBefore is the GPU memory in MiB that is in use before the start, by GPU.
	HeldBefore []int
	// Certificate and Key are PEM for TLSCertificatePath and TLSKeyPath of the runtime; "" for none.
	Certificate string
	Key         string
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
