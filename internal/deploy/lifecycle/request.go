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
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
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
	// Note is kept on the machine with the server, for [Named] to return. It holds no secret.
	Note string
	Spec vllm.Spec
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
	// Progress gets what happens, at most about once a second and never with a secret in it; nil for nobody. It
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
// none). What a phase leaves over goes to the ones after it. A share that isn't given has a default; the sum
// need not be one.
type Phases map[deploy.Phase]float64

// Policy says what [Replace] does when the new server fails.
type Policy string

// The policies.
const (
	// Rollback removes the new server and starts the old one again.
	Rollback Policy = "rollback"
	// Keep leaves the failed new server for debugging, and the old one stopped.
	Keep Policy = "keep"
)

// maxOwner keeps an owner short enough for a label and a file.
const maxOwner = 512

// ownerPattern is printable ASCII: it is compared, sent in a filter and shown.
var ownerPattern = regexp.MustCompile(`^[\x20-\x7e]+$`)

// Validate says everything that is wrong with the request; nil when nothing is. It needs no machine.
func (r Request) Validate() error {
	var problems []error
	problems = append(problems, r.Spec.Validate())
	if len(r.Owner) > maxOwner || !ownerPattern.MatchString(r.Owner) {
		problems = append(problems, fmt.Errorf("the owner must be 1 to %d printable characters", maxOwner))
	}
	if r.TLS != nil && (r.TLS.Certificate == "" || r.TLS.Key == "") {
		problems = append(problems, errors.New("tls needs both a certificate and its key"))
	}
	for _, code := range r.Ignore {
		if !slices.Contains(Codes(), code) {
			problems = append(problems, fmt.Errorf("preflight.ignore: %q is not one of the codes %s", code, strings.Join(Codes(), ", ")))
		}
	}
	switch r.Runtime {
	case deploy.Container:
		problems = append(problems, r.Container.Validate(r.Name))
	case deploy.Process:
		problems = append(problems, r.Process.Validate(r.Name))
	case deploy.Auto, "":
		problems = append(problems, r.Container.Validate(r.Name), r.Process.Validate(r.Name))
	default:
		problems = append(problems, fmt.Errorf("runtime must be container, process or auto; got %q", r.Runtime))
	}
	return errors.Join(problems...)
}

// secrets are all secret values of the request, for masking.
func (r Request) secrets() []string {
	secrets := append(r.Spec.Secrets(), r.Container.RegistryAuth.Secrets()...)
	if r.TLS != nil {
		secrets = append(secrets, r.TLS.Key)
	}
	return secrets
}

// wanted turns a request into what a runtime starts.
func (l *launch) wanted() (deploy.Wanted, error) {
	spec := l.request.Spec
	w := deploy.Wanted{
		Name: l.request.Name, Owner: l.request.Owner, Provider: l.request.Provider, Note: l.request.Note,
		Port: spec.ListenPort(), Listen: spec.ListenAddress(),
		APIKeyPrint:  deploy.Fingerprint(l.request.Owner, spec.APIKey),
		HFTokenPrint: deploy.Fingerprint(l.request.Owner, spec.HFToken),
	}
	w.HeldBefore = l.heldBefore()
	if tls := l.request.TLS; tls != nil {
		w.Certificate, w.Key = tls.Certificate, tls.Key
		spec.TLSCertFile, spec.TLSKeyFile = l.runtime.TLSFiles()
	}
	spec.DrainSeconds = l.drainSeconds()
	w.Arguments, w.Environment = spec.CommandLine(), spec.Environment()
	var err error
	w.Hash, err = specHash(l.runtime.Kind(), l.request, w)
	return w, err
}

// heldBefore is what the GPUs hold before the start, without what a server of the deployment holds that makes room first.
func (l *launch) heldBefore() []int {
	for _, own := range l.own {
		if own.State.Alive() && len(own.HeldBefore) > 0 {
			return own.HeldBefore
		}
	}
	held := make([]int, 0, len(l.gpus))
	for _, gpu := range l.gpus {
		held = append(held, gpu.UsedMiB)
	}
	return held
}

// specHash identifies everything that a restart would be needed for, but the secrets: those have fingerprints.
func specHash(kind deploy.Kind, request Request, wanted deploy.Wanted) (string, error) {
	environment := map[string]string{}
	for name, value := range wanted.Environment {
		if name != vllm.EnvAPIKey && name != vllm.EnvHFToken {
			environment[name] = value
		}
	}
	content := struct {
		Runtime     deploy.Kind
		Arguments   []string
		Environment map[string]string
		Certificate string
		Container   *container.Options `json:",omitempty"`
		Process     *process.Options   `json:",omitempty"`
	}{Runtime: kind, Arguments: wanted.Arguments, Environment: environment, Certificate: wanted.Certificate}
	switch kind {
	case deploy.Container:
		options := request.Container
		options.RegistryAuth, options.PullPolicy, options.InstallEngine = nil, "", false // how it comes there doesn't change it
		content.Container = &options
	default:
		options := request.Process
		options.Install = ""
		content.Process = &options
	}
	text, err := json.Marshal(content) // maps are written in the order of their keys
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}
