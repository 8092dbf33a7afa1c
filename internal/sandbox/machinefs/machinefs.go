// Package machinefs says where things are inside a sandbox machine's directory,
// and holds the small files through which a machine and the programs that run on
// it tell each other what they need: the machine's facts and the GPU memory each
// process claims. It also is the machine's loopback network: a service on a
// machine's 127.0.0.1:8000 is a unix socket in that machine's directory, so two
// machines never compete for a port and nothing needs a free one.
package machinefs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Env is the environment variable that names the machine's directory to every
// process that runs on the machine.
const Env = "SHOPPER_SANDBOX_MACHINE"

// Root is a machine's directory. Keep its path short: unix socket paths are
// limited to about a hundred bytes.
type Root string

// FromEnv returns the machine this process runs on, if it runs on one.
func FromEnv() (Root, bool) {
	dir := os.Getenv(Env)
	return Root(dir), dir != ""
}

// Create makes the machine's directories.
func (r Root) Create() error {
	for _, dir := range []string{r.Bin(), r.Home(), r.Tmp(), r.netDir(), r.claimDir()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making a sandbox machine: %w", err)
		}
	}
	return nil
}

// Bin holds the machine's programs and comes first in PATH.
func (r Root) Bin() string { return filepath.Join(string(r), "bin") }

// Home is the login user's home and the directory in which commands start.
func (r Root) Home() string { return filepath.Join(string(r), "home") }

// Tmp is the machine's TMPDIR.
func (r Root) Tmp() string { return filepath.Join(string(r), "tmp") }

// DockerSocket is where the machine's container engine listens.
func (r Root) DockerSocket() string { return filepath.Join(string(r), "docker.sock") }

// Lifeline is a unix socket that the machine accepts and never answers on. A
// long-running program keeps one connection to it and ends when that closes,
// so that nothing outlives a sandbox that was killed.
func (r Root) Lifeline() string { return filepath.Join(string(r), "life.sock") }

func (r Root) netDir() string    { return filepath.Join(string(r), "net") }
func (r Root) claimDir() string  { return filepath.Join(string(r), "gpu") }
func (r Root) factsFile() string { return filepath.Join(string(r), "facts.json") }

// Instrumentation returns the settings by which a program of a machine, started
// with an environment of its own, behaves under the tester's instrumentation as
// it does without: it takes part in a coverage measurement, if one is under way,
// and doesn't wait the second for other threads' reports with which the race
// detector ends every program.
func Instrumentation() []string {
	settings := []string{"GORACE=atexit_sleep_ms=0"}
	if dir, ok := os.LookupEnv("GOCOVERDIR"); ok {
		settings = append(settings, "GOCOVERDIR="+dir)
	}
	return settings
}

// Driver says what state the machine's NVIDIA driver is in.
type Driver string

// The states of a driver that the sandbox can play.
const (
	DriverReady    Driver = "ready"
	DriverBuilding Driver = "building" // nvidia-smi fails until Facts.DriverReadyAt
	DriverMissing  Driver = "missing"  // there is no nvidia-smi
)

// GPU is one GPU of a machine.
type GPU struct {
	Name              string `json:"name"`
	UUID              string `json:"uuid"`
	MemoryMiB         int    `json:"memory_mib"`
	ComputeCapability string `json:"compute_capability"`
	// HeldMiB is memory that some process outside the sandbox's control holds.
	HeldMiB int `json:"held_mib,omitempty"`
	// NotAvailable makes the utilisation and temperature fields read "[N/A]".
	NotAvailable bool `json:"not_available,omitempty"`
}

// Facts describe a machine to the programs that run on it.
type Facts struct {
	// Container is true for a machine that is itself a container: login as root,
	// no Docker. False is a VM: a user with passwordless sudo.
	Container bool   `json:"container"`
	User      string `json:"user"`
	// PublicAddress is the address outside at which the machine's open ports are
	// reached; "" for a machine of which SSH alone is reachable.
	PublicAddress string `json:"public_address,omitempty"`
	// Packages are the distribution's packages that count here and that the machine has
	// from the start, such as "gcc"; nil is Toolchain. Root.Packages are those installed
	// since.
	Packages []string `json:"packages"`
	// Python is the version of its python3, such as "3.10"; "" is 3.12.
	Python string `json:"python,omitempty"`
	// DpkgLockedUntil is how long something on the machine holds dpkg's lock.
	DpkgLockedUntil time.Time `json:"dpkg_locked_until,omitzero"`
	// Docker is true where a container engine answers on DockerSocket.
	Docker bool `json:"docker"`
	// Podman is the release of the Podman, such as "5.4.2", that is the engine instead
	// of Docker; "" for Docker.
	Podman string `json:"podman,omitempty"`
	// DockerNeedsRoot is true where the login user is outside the group docker:
	// only through sudo does the engine answer.
	DockerNeedsRoot bool `json:"docker_needs_root,omitempty"`
	// ContainerdImages is true where Docker has containerd keep its images.
	ContainerdImages bool `json:"containerd_images,omitempty"`
	// NoBridge is true where the engine has no network for containers (dockerd --bridge none).
	NoBridge bool `json:"no_bridge,omitempty"`
	// NoGPURuntime is true where the engine lacks NVIDIA's container toolkit, or
	// nobody has had it describe the GPUs to Podman.
	NoGPURuntime bool `json:"no_gpu_runtime,omitempty"`
	// CDIOnly is true where Docker has GPUs as devices of the container device
	// interface, and not NVIDIA's runtime.
	CDIOnly       bool      `json:"cdi_only,omitempty"`
	GPUs          []GPU     `json:"gpus"`
	Driver        Driver    `json:"driver"`
	DriverVersion string    `json:"driver_version"`
	CUDAVersion   string    `json:"cuda_version"`
	DriverReadyAt time.Time `json:"driver_ready_at,omitzero"`
	// DriverMismatch is a driver that is built while the old one's module is loaded.
	DriverMismatch bool `json:"driver_mismatch,omitempty"`
	// DiskGB is the size of the machine's disk, DiskFreeGB what is left.
	DiskGB     int `json:"disk_gb"`
	DiskFreeGB int `json:"disk_free_gb"`
	// Speed divides every duration that the machine's programs play (1 = real time).
	Speed float64 `json:"speed"`
	VLLM  VLLM    `json:"vllm,omitzero"`
}

// VLLM changes how the vLLM stand-in behaves on a machine.
type VLLM struct {
	// Installed is the version of the `vllm` program on the machine's PATH; "" for
	// none. Containers bring their own.
	Installed string `json:"installed,omitempty"`
	// Load is how long a start takes before it is divided by Speed; 0 = 90 s.
	Load time.Duration `json:"load,omitempty"`
	// Fail names a row of the failure table (see package vllmserver) that every
	// start runs into; "" for none.
	Fail string `json:"fail,omitempty"`
	// ExitAfter ends a server that long after it became ready; 0 = never.
	ExitAfter time.Duration `json:"exit_after,omitempty"`
	// Hang makes the engine hang: /health stays 200, completions never answer.
	Hang bool `json:"hang,omitempty"`
	// AnyModel makes every string a model that exists, also one that the Hugging
	// Face hub would refuse: a test can then prove that a hostile value travels
	// all the way through as data.
	AnyModel bool `json:"any_model,omitempty"`
}

// Scale returns how long a real duration d takes on this machine.
func (f Facts) Scale(d time.Duration) time.Duration {
	if f.Speed <= 0 {
		return d
	}
	return time.Duration(float64(d) / f.Speed)
}

// WriteFacts replaces the machine's facts at once, never half of them.
func (r Root) WriteFacts(f Facts) error {
	return writeJSON(r.factsFile(), f)
}

// ReadFacts returns the machine's facts.
func (r Root) ReadFacts() (Facts, error) {
	var f Facts
	data, err := os.ReadFile(r.factsFile())
	if err == nil {
		err = json.Unmarshal(data, &f)
	}
	if err != nil {
		return f, fmt.Errorf("reading a sandbox machine's facts: %w", err)
	}
	return r.withPackages(f), nil
}

// Claim is the GPU memory that one process holds.
type Claim struct {
	PID  int         `json:"pid"`
	Name string      `json:"name"`
	MiB  map[int]int `json:"mib"` // by GPU index
	// Ready is when the process began to serve; zero before.
	Ready time.Time `json:"ready,omitzero"`
}

// SetClaim records what the process c.PID holds, replacing its earlier claim.
func (r Root) SetClaim(c Claim) error {
	return writeJSON(r.claimFile(c.PID), c)
}

// DropClaim forgets what the process held.
func (r Root) DropClaim(pid int) error {
	return removeIfThere(r.claimFile(pid))
}

// Claims returns what living processes hold, by pid. A claim whose process has
// ended is dropped: a driver gives memory back when a process dies.
func (r Root) Claims() ([]Claim, error) {
	entries, err := os.ReadDir(r.claimDir())
	if err != nil {
		return nil, err
	}
	var claims []Claim
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue // being written
		}
		var c Claim
		data, err := os.ReadFile(filepath.Join(r.claimDir(), entry.Name()))
		if err != nil || json.Unmarshal(data, &c) != nil {
			continue // dropped between the listing and the reading
		}
		if !alive(c.PID) {
			_ = r.DropClaim(c.PID)
			continue
		}
		claims = append(claims, c)
	}
	slices.SortFunc(claims, func(a, b Claim) int { return a.PID - b.PID })
	return claims, nil
}

func (r Root) claimFile(pid int) string {
	return filepath.Join(r.claimDir(), strconv.Itoa(pid)+".json")
}

// alive reports whether a process runs. One that has ended and that its parent hasn't waited for yet holds no GPU memory.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // systems without /proc have no such file
	if _, state, ok := bytes.Cut(stat, []byte(") ")); err == nil && ok && bytes.HasPrefix(state, []byte("Z")) {
		return false
	}
	err = syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return replaceFile(path, data)
}

// replaceFile writes a whole file at once: readers see the old one or the new one.
func replaceFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // a no-op once renamed
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
