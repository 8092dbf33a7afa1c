// Package deploy describes one vLLM server on a machine, in plain values, and the ways to run one: [Runtime], which
// deploy/container and deploy/process implement. Package deploy/lifecycle chooses between them and brings a server up.
package deploy

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"sync"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

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

// Removal tells a person how to remove the server; engine is the command of the container's engine, such as "docker".
func (r Ref) Removal(engine string) string {
	if r.Runtime == Container {
		return fmt.Sprintf("`%s rm -f %.12s`", engine, r.ID)
	}
	return fmt.Sprintf("`sh %[1]s/launcher.sh stop %[1]s 20 0 && rm -rf %[1]s`", host.Quote(r.Directory))
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
	// Adopted is set where a launch found the server that it was asked for, and started none.
	Adopted bool
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

// fingerprintRounds makes guessing a weak key from its fingerprint dear (tens of milliseconds a guess) and stays
// unnoticed in an apply. Changing it changes every fingerprint.
const fingerprintRounds = 50_000

const unavailable = "unavailable"

// SameSecret tells whether a fingerprint is that of a secret. It is false where a fingerprint can't be made.
func SameSecret(fingerprint, owner, secret string) bool {
	return secret != "" && fingerprint != unavailable && fingerprint == Fingerprint(owner, secret)
}

// fingerprints are those that were made already, by the SHA-256 of owner and secret.
var fingerprints sync.Map

// Fingerprint identifies a secret of a deployment without telling it. The same secret has
// different fingerprints in different deployments. It is "" for an empty secret.
func Fingerprint(owner, secret string) string {
	if secret == "" {
		return ""
	}
	salt := sha256.Sum256([]byte("terraform-provider-shopper deployment\x00" + owner))
	id := sha256.Sum256(append(salt[:], secret...))
	known, _ := fingerprints.Load(id)
	if text, ok := known.(string); ok {
		return text
	}
	key, err := pbkdf2.Key(sha256.New, secret, salt[:], fingerprintRounds, 16)
	if err != nil {
		// Only a FIPS-only build refuses such a key. Then nothing is said about the secret, and drift of it isn't seen.
		return unavailable
	}
	fingerprints.Store(id, hex.EncodeToString(key))
	return hex.EncodeToString(key)
}
