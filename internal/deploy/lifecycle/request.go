// Package lifecycle puts a vLLM server on a machine, proves that it answers, explains why it
// doesn't, and takes it away again.
//
// A server is started as a container through the Docker Engine API, or, on machines without
// an engine, as a process. [Launch] goes through phases (preflight, pull, start, load,
// completion), each with its share of the context's deadline, and returns only when the
// server has answered a real request with the deployment's own key, or when everything that it
// started has been removed again. Whatever fails is an [*deploy.Error] that says in which phase, why, what
// to do, and what is left on the machine.
//
// Secrets (API key, Hugging Face token, registry credentials) travel only in a container's
// environment through the Engine API, on a process's standard input, or in a request header. They are
// in no command line, log, file or error.
package lifecycle

import (
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
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
	Spec     vllm.Spec
	// Runtime is Container, Process or Auto ("" = Auto).
	Runtime   deploy.Kind
	Container container.Options
	Process   process.Options
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
	Phase   deploy.Phase
	Message string
}

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
