package deploy

import (
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/server"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

type (
	// Machine is a machine that SSH reaches; *host.Client is one.
	Machine = server.Machine
	// Kind says how a server is run.
	Kind = server.Kind
	// State is what a server is doing.
	State = server.State
	// Ref is all it takes to find a server again. It holds no secret.
	Ref = server.Ref
	// Status is what was seen of a server.
	Status = server.Status
	// Kills are what the kernel tells of processes that it has killed because memory was full.
	Kills = server.Kills
	// GPU is one GPU of a machine.
	GPU = server.GPU
	// ContainerOptions say how a container is run.
	ContainerOptions = container.Options
	// RegistryAuth are the credentials for an image's registry.
	RegistryAuth = container.RegistryAuth
	// ProcessOptions say how vLLM is found or installed.
	ProcessOptions = process.Options
)

// The runtimes and states; see package server.
const (
	Container = server.Container
	Process   = server.Process
	Auto      = server.Auto

	Running    = server.Running
	Starting   = server.Starting
	Restarting = server.Restarting
	Orphaned   = server.Orphaned
	Exited     = server.Exited
	Gone       = server.Gone
	Unknown    = server.Unknown
)

// Request is what [Launch] and [Replace] are to bring about.
type Request struct {
	// Name names the deployment: the container's name unless Container.Name is set, and part of the process's directory.
	Name string
	// Owner identifies the deployment across crashes: the same for every launch of one deployment, different from any other's.
	// What carries it on the machine is taken to be this deployment's own; see Launch for what becomes of it.
	Owner string
	// Provider is the version of the program, for the server's label.
	Provider string
	// Note is kept on the machine with the server, for [Named] to return. It holds no secret.
	Note string
	Spec vllm.Spec
	// Runtime is Container, Process or Auto ("" = Auto).
	Runtime   Kind
	Container ContainerOptions
	Process   ProcessOptions
	// MinVRAMGiB is the memory that each GPU must have for the model, by the user's own figures, in place of the estimate. Nil
	// = estimate; 0 = none.
	MinVRAMGiB *float64
	// Ignore are codes of findings, of [Codes], that don't stop the launch: they become warnings.
	Ignore []string
	// TLS makes the server speak HTTPS; nil for plain HTTP.
	TLS *TLS
	// Embedding is set for models that don't complete (embedding, reward): they are proved by the fitting call instead.
	Embedding bool
	// Takeover is set where a finished server of the same owner is known to be left by a launch that never returned: it is
	// adopted or removed as unfinished ones are. Otherwise it may be in use, and stops the launch.
	Takeover bool
	// KeepFailed leaves a server that failed where it is, for debugging.
	KeepFailed bool
	// Public is the base URL, without a path, at which clients reach the server directly; "" when they go through the
	// machine. It is asked for a real answer too, from here.
	Public string
	// DrainTimeout is how long requests may go on when the server is stopped: the server is started with it, and
	// [Replace] and [Remove] wait so long at most, for requests that run. Nil = [DefaultDrainTimeout], 0 = not at all.
	DrainTimeout *time.Duration
	// PreviousTLS says how the server that [Replace] replaces is verified when it comes back: CA and ServerName of its
	// own settings. Nil = by TLS.
	PreviousTLS *TLS
	// Phases are the phases' shares of the time until the context's deadline.
	Phases Phases
	// ReadyTimeout is how long a server may take from its start to its first answer, within the context's deadline. 0 =
	// what Phases give.
	ReadyTimeout time.Duration
	// Progress is told what happens, at most about once a second and never with a secret in it; nil for nobody. It
	// must return quickly, and is never called by two goroutines at once.
	Progress func(Event)
}

// TLS is a server's certificate.
type TLS struct {
	// Certificate and Key are PEM. Key is a secret.
	Certificate, Key string
	// CA is PEM of the certificates that clients trust; "" = Certificate itself.
	CA string
	// ServerName is the name or address in the certificate that is checked.
	ServerName string
}

// Event is one step of an operation, for a log.
type Event struct {
	Phase   Phase
	Message string
}

// Phase is a part of an operation.
type Phase string

// The phases, in their order. The last three are not of a launch.
const (
	PhasePreflight  Phase = "preflight"
	PhasePull       Phase = "pull" // or install, for a process
	PhaseStart      Phase = "start"
	PhaseLoad       Phase = "load"
	PhaseCompletion Phase = "completion"
	PhaseStop       Phase = "stop"
	PhaseRemove     Phase = "remove"
	PhaseInspect    Phase = "inspect"
)

// Phases are shares of the time from a launch's begin to its context's deadline (an hour when it has
// none). What a phase leaves over goes to the ones after it. A share of zero has a default; the sum
// need not be one.
type Phases struct{ Preflight, Pull, Start, Load, Completion float64 }

// Policy says what [Replace] does when the new server fails.
type Policy string

// The policies.
const (
	// Rollback removes the new server and starts the old one again.
	Rollback Policy = "rollback"
	// Keep leaves the failed new server for debugging, and the old one stopped.
	Keep Policy = "keep"
)
