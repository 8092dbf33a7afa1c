// Package lifecycle puts a vLLM server on a machine, verifies that it answers, explains why it doesn't, and removes it.
//
// A server is a container or, on machines without a container engine, a process. [Launch] has phases (preflight, pull, start, load,
// completion), each with its share of the context's deadline. It returns when the server has answered a real request with the
// deployment's key, or when all that it started has been removed again. Its error is an [*deploy.Error], with the phase, the cause,
// what to do, and what is left on the machine.
//
// Secrets (API key, Hugging Face token, registry credentials) are sent only in a container's environment through the Engine API, on a
// process's standard input, or in a request header. They are in no command line, log, file or error.
package lifecycle

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// Request describes the deployment that [Launch] and [Replace] create.
type Request struct {
	// Name is the deployment's: the container's name unless Container.Name is set, and part of the process's directory.
	Name string
	// Owner identifies the deployment across crashes: it is unique, and the same for every launch of the deployment. Servers on the
	// machine with this owner are the deployment's, and [Launch] may remove them.
	Owner string
	// Provider is the provider's version, for the server's label.
	Provider string
	// Note is stored on the machine with the server, and returned by [Named]. It holds no secret.
	Note string
	Spec vllm.Spec
	// Runtime is Container, Process or Auto ("" = Auto).
	Runtime   deploy.Kind
	Container container.Options
	Process   process.Options
	// MinVRAMGiB is the memory that each GPU must have, in place of the estimate for the model. Nil = estimate; 0 = none.
	MinVRAMGiB *float64
	// Ignore are [Codes] of findings that don't stop the launch: they become warnings.
	Ignore []string
	// TLS makes the server serve HTTPS; nil for plain HTTP.
	TLS *TLS
	// Embedding is set for models that don't complete text (embedding, reward): another call verifies them.
	Embedding bool
	// Takeover is set if a settled server of the owner was left by a launch that never returned: [Launch] adopts or removes it, as it
	// does with others.
	Takeover bool
	// KeepFailed leaves a failed server on the machine, for debugging.
	KeepFailed bool
	// Public is the base URL, without a path, at which clients reach the server directly; "" if they go through the machine. The server
	// must answer at it, too, as seen from this computer.
	Public string
	// DrainTimeout is how long running requests may continue when the server is stopped. The server is started with it, and [Replace]
	// and [Remove] wait no longer. Nil = [DefaultDrainTimeout], 0 = not at all.
	DrainTimeout *time.Duration
	// PreviousTLS has the CA and ServerName of the server that [Replace] replaces, to verify it if it is restored. Nil = TLS.
	PreviousTLS *TLS
	// Phases are the phases' shares of the time until the context's deadline.
	Phases Phases
	// ReadyTimeout bounds the time from a server's start to its first answer, within the context's deadline. 0 = by Phases.
	ReadyTimeout time.Duration
	// Progress gets events, at most about one per second and without secrets; nil for none. It must return quickly, and calls don't
	// overlap.
	Progress func(Event)
}

// TLS is a server's certificate.
type TLS struct {
	// Certificate and Key are PEM. Key is a secret.
	Certificate, Key string
	// CA is PEM of the certificates that clients trust; "" = Certificate.
	CA string
	// ServerName is the name or address that the certificate must have.
	ServerName string
}

// Event is one step of an operation, for a log.
type Event struct {
	Phase   deploy.Phase
	Message string
}

// Phases are shares of the time from a launch's start to its context's deadline, or of an hour. Later phases get what a phase doesn't
// use. A missing share has a default; the sum need not be one.
type Phases map[deploy.Phase]float64

// Policy is what [Replace] does if the new server fails.
type Policy string

// The policies.
const (
	// Rollback removes the new server and restores the old one.
	Rollback Policy = "rollback"
	// Keep leaves the failed new server for debugging, and the old one stopped.
	Keep Policy = "keep"
)

// maxOwner is an owner's greatest length in bytes.
const maxOwner = 512

// ownerPattern is printable ASCII: owners are compared, sent in a filter and shown.
var ownerPattern = regexp.MustCompile(`^[\x20-\x7e]+$`)

// Validate returns all that is wrong with the request, nil for nothing. It needs no machine.
func (r Request) Validate() error {
	problems := []error{r.Spec.Validate()}
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

// secrets lists the request's secret values, for masking.
func (r Request) secrets() []string {
	secrets := append(r.Spec.Secrets(), r.Container.RegistryAuth.Secrets()...)
	if r.TLS != nil {
		secrets = append(secrets, r.TLS.Key)
	}
	return secrets
}

// wanted converts the request for the runtime.
func (l *launch) wanted() (deploy.Wanted, error) {
	spec := l.request.Spec
	w := deploy.Wanted{
		Name: l.request.Name, Owner: l.request.Owner, Provider: l.request.Provider, Note: l.request.Note,
		Port: spec.ListenPort(), Listen: spec.ListenAddress(), HeldBefore: l.heldBefore(),
		APIKeyPrint:  deploy.Fingerprint(l.request.Owner, spec.APIKey),
		HFTokenPrint: deploy.Fingerprint(l.request.Owner, spec.HFToken),
	}
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

// heldBefore is the GPU memory in use before the start, without that of the deployment's own server, which is stopped first.
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

// specHash is [deploy.Wanted.Hash]. Secrets have fingerprints instead.
func specHash(kind deploy.Kind, request Request, wanted deploy.Wanted) (string, error) {
	environment := maps.Clone(wanted.Environment)
	delete(environment, vllm.EnvAPIKey)
	delete(environment, vllm.EnvHFToken)
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
		options.RegistryAuth, options.PullPolicy, options.InstallEngine = nil, "", false // these don't change the server
		content.Container = &options
	default:
		options := request.Process
		options.Install = ""
		content.Process = &options
	}
	text, err := json.Marshal(content) // which sorts the keys of maps
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), err
}
