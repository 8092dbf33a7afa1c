// Package deploy describes a vLLM server on a machine, and the interface of what runs it: [Runtime], which deploy/container and
// deploy/process implement. Package deploy/lifecycle chooses between them and starts servers.
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

// Kind is a way to run a server.
type Kind string

// The runtimes.
const (
	Container Kind = "container"
	Process   Kind = "process"
	// Auto is for requests only: a container if preflight says that it will work, else a process.
	Auto Kind = "auto"
)

// State is a server's state, as its runtime reports it. It doesn't say whether the server answers.
type State string

// The states of a server.
const (
	Running State = "running"
	// Starting is a server that was created and not started yet.
	Starting State = "starting"
	// Restarting is a server that died and that its runtime is about to restart.
	Restarting State = "restarting"
	// Orphaned is a process that still runs although its supervisor was killed: nothing would restart it.
	Orphaned State = "orphaned"
	Exited   State = "exited"
	// Gone is a server that its runtime doesn't know.
	Gone State = "gone"
	// Unknown is a state that this version doesn't know.
	Unknown State = "unknown"
)

// Alive reports whether the server has, or is about to get, a running process.
func (s State) Alive() bool {
	return s == Running || s == Restarting || s == Starting || s == Orphaned
}

// Ref identifies a server. It holds no secret. Finding the server may take all of its fields.
type Ref struct {
	Runtime Kind
	// ID is a container's ID, or a process's "PID-STARTTIME" as in /proc/PID/stat.
	ID    string
	Name  string
	Owner string
	// Port is the server's port on the machine, and Listen the address there.
	Port   int
	Listen string
	// Directory holds a process's log and record; "" for containers.
	Directory string
}

// Base is the process runtime's directory, which holds the server's; "" for containers.
func (r Ref) Base() string {
	if r.Directory == "" {
		return ""
	}
	return path.Dir(path.Dir(r.Directory))
}

// Removal is a command for a person that removes the server; engine is the container engine's command, such as "docker".
func (r Ref) Removal(engine string) string {
	if r.Runtime == Container {
		return fmt.Sprintf("`%s rm -f %.12s`", engine, r.ID)
	}
	return fmt.Sprintf("`sh %[1]s/launcher.sh stop %[1]s 20 0 && rm -rf %[1]s`", host.Quote(r.Directory))
}

// GPU is one GPU of a machine. Figures that nvidia-smi doesn't report are zero.
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

// Status is a server's status.
type Status struct {
	Ref
	State State
	// ExitCode is that of the last run, if State is Exited or Restarting.
	ExitCode int
	// Reason is why the server isn't running, in the runtime's words, such as "out of memory"; often "".
	Reason string
	// OOMKilled is set if the runtime reports that the kernel killed a process of the server because memory was full.
	OOMKilled bool
	// RestartCount is how often the runtime has restarted the server by itself.
	RestartCount int
	// RestartLoop is set for a server that keeps dying soon after each start.
	RestartLoop bool
	StartedAt   time.Time // UTC; zero if it never started

	Image       string            // as requested; "" for processes
	ImageDigest string            // "sha256:…"; "" for processes
	Arguments   []string          // after "vllm", of the actual server
	Environment map[string]string // of the actual server, without its secrets and the image's variables

	// SpecHash is [Wanted.Hash] of the launch that started the server.
	SpecHash string
	// APIKeyPrint and HFTokenPrint are the fingerprints of the actual server's secrets; "" for none.
	APIKeyPrint  string
	HFTokenPrint string
	// Note is [Wanted.Note] of the launch that started the server.
	Note string
	// RestartsItself is set if the runtime restarts the server when it dies or after a reboot.
	RestartsItself bool

	// VLLMVersion and ServedMaxModelLen are the server's answers; zero if it wasn't asked or didn't say.
	VLLMVersion       string
	ServedMaxModelLen int
	GPUs              []GPU
	// Adopted is set where a launch found the requested server running and started none.
	Adopted bool
	// LoadSeconds is the time from the start to the first answer, on the launch that verified it.
	LoadSeconds float64
	// HeldBefore is the GPU memory in MiB that was in use before the start, by GPU; for processes only.
	HeldBefore []int
	// Kills are the kernel's counters from before the start, on the launch that verified it.
	Kills Kills
	// Warnings are for the user; they didn't stop the launch.
	Warnings []string
}

// Kills are the kernel's counters, since boot, of processes that it killed because memory was full; nil if unknown.
type Kills struct {
	// Own counts those of the container that the machine is (memory.events or memory.oom_control of its cgroup).
	Own *int `json:",omitempty"`
	// OwnOnly is set if Own counts all that concern the machine: with cgroup v2.
	OwnOnly bool `json:",omitempty"`
	// Kernel counts those of the kernel (oom_kill of /proc/vmstat), which other machines may share.
	Kernel *int `json:",omitempty"`
	// Line is the kernel's log line of the last one, "" if the log can't be read.
	Line string `json:",omitempty"`
}

// fingerprintRounds makes a guess of a weak key cost tens of milliseconds, which an apply doesn't notice. Changing it changes every
// fingerprint.
const fingerprintRounds = 50_000

const unavailable = "unavailable"

// SameSecret reports whether a fingerprint is that of a secret. It is false if no fingerprint can be made.
func SameSecret(fingerprint, owner, secret string) bool {
	return secret != "" && fingerprint != unavailable && fingerprint == Fingerprint(owner, secret)
}

// fingerprints caches fingerprints by the SHA-256 of owner and secret.
var fingerprints sync.Map

// Fingerprint identifies a secret of a deployment without revealing it. The same secret has different fingerprints in different
// deployments. It is "" for an empty secret.
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
		// Only a FIPS-only build refuses such a key. Drift of the secret then goes unnoticed.
		return unavailable
	}
	fingerprints.Store(id, hex.EncodeToString(key))
	return hex.EncodeToString(key)
}
