// Package machinefs defines the layout of a sandbox machine's directory, and reads and
// writes the files that a machine shares with its programs: its facts, and the GPU
// memory that processes claim. It also is the machine's loopback network: a service on
// a machine's 127.0.0.1:8000 is a unix socket in that directory, so that machines never
// compete for a port.
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

// Env is the environment variable with the machine's directory, for every process on the
// machine.
const Env = "SHOPPER_SANDBOX_MACHINE"

// Root is a machine's directory. Keep its path short: unix socket paths are
// limited to about a hundred bytes.
type Root string

// FromEnv returns the machine that this process runs on, if it runs on one.
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

// Bin has the machine's programs, and is first on PATH.
func (r Root) Bin() string { return filepath.Join(string(r), "bin") }

// Home is the login user's home and the directory in which commands start.
func (r Root) Home() string { return filepath.Join(string(r), "home") }

// Tmp is the machine's TMPDIR.
func (r Root) Tmp() string { return filepath.Join(string(r), "tmp") }

// DockerSocket is where the machine's container engine listens.
func (r Root) DockerSocket() string { return filepath.Join(string(r), "docker.sock") }

// Lifeline is a unix socket of the machine. A long-running program keeps a connection to
// it, and exits when that closes, so that nothing outlives a sandbox that was killed.
func (r Root) Lifeline() string { return filepath.Join(string(r), "life.sock") }

func (r Root) netDir() string    { return filepath.Join(string(r), "net") }
func (r Root) claimDir() string  { return filepath.Join(string(r), "gpu") }
func (r Root) factsFile() string { return filepath.Join(string(r), "facts.json") }

// Instrumentation returns environment variables for the programs of machines, for tests
// that measure coverage or use the race detector: programs take part in the
// measurement, and don't wait a second for reports of other threads when they exit.
func Instrumentation() []string {
	settings := []string{"GORACE=atexit_sleep_ms=0"}
	if dir, ok := os.LookupEnv("GOCOVERDIR"); ok {
		settings = append(settings, "GOCOVERDIR="+dir)
	}
	return settings
}

// Driver is the state of the machine's NVIDIA driver.
type Driver string

// The states of a driver.
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
	// HeldMiB is memory that a process outside the sandbox holds.
	HeldMiB int `json:"held_mib,omitempty"`
	// NotAvailable makes nvidia-smi show "[N/A]" for utilization and temperature.
	NotAvailable bool `json:"not_available,omitempty"`
}

// Facts describe a machine to the programs that run on it.
type Facts struct {
	// Container is true for a machine that is a container: root logs in, and there is no
	// Docker. False is a VM: a user with passwordless sudo logs in.
	Container bool   `json:"container"`
	User      string `json:"user"`
	// PublicAddress is the address at which the machine's open ports are reached from
	// outside; "" = only SSH is reachable.
	PublicAddress string `json:"public_address,omitempty"`
	// Packages are the distribution's packages that the machine has from the start, such as
	// "gcc", as far as they matter here; nil is Toolchain. Root.Packages are those that
	// were installed since.
	Packages []string `json:"packages"`
	// Python is the version of its python3, such as "3.10"; "" is 3.12.
	Python string `json:"python,omitempty"`
	// DpkgLockedUntil is when dpkg's lock is released, which another program holds.
	DpkgLockedUntil time.Time `json:"dpkg_locked_until,omitzero"`
	// Docker is true if a container engine answers on DockerSocket.
	Docker bool `json:"docker"`
	// Podman is the release of the Podman that is the engine, such as "5.4.2"; "" = Docker.
	Podman string `json:"podman,omitempty"`
	// DockerNeedsRoot is true if the login user is not in the group docker, and needs sudo.
	DockerNeedsRoot bool `json:"docker_needs_root,omitempty"`
	// ContainerdImages is true if containerd keeps Docker's images.
	ContainerdImages bool `json:"containerd_images,omitempty"`
	// NoBridge is true if the engine has no network for containers (dockerd --bridge none).
	NoBridge bool `json:"no_bridge,omitempty"`
	// NoGPURuntime is true if the engine lacks NVIDIA's container toolkit, or, with Podman,
	// its description of the GPUs.
	NoGPURuntime bool `json:"no_gpu_runtime,omitempty"`
	// CDIOnly is true if Docker has GPUs only as devices of the container device interface,
	// without NVIDIA's runtime.
	CDIOnly       bool      `json:"cdi_only,omitempty"`
	GPUs          []GPU     `json:"gpus"`
	Driver        Driver    `json:"driver"`
	DriverVersion string    `json:"driver_version"`
	CUDAVersion   string    `json:"cuda_version"`
	DriverReadyAt time.Time `json:"driver_ready_at,omitzero"`
	// DriverMismatch is true if the old driver's module is loaded while the driver is built.
	DriverMismatch bool `json:"driver_mismatch,omitempty"`
	// DiskGB is the size of the machine's disk, DiskFreeGB what is left.
	DiskGB     int `json:"disk_gb"`
	DiskFreeGB int `json:"disk_free_gb"`
	// Speed divides every duration of the machine's programs; 1 = real time.
	Speed float64 `json:"speed"`
	VLLM  VLLM    `json:"vllm,omitzero"`
}

// VLLM changes how the vLLM stand-in behaves on a machine.
type VLLM struct {
	// Installed is the version of the `vllm` program on the machine's PATH; "" = none.
	// Containers have their own.
	Installed string `json:"installed,omitempty"`
	// Load is how long a start takes before it is divided by Speed; 0 = 90 s.
	Load time.Duration `json:"load,omitempty"`
	// Fail is the name of the failure (see package vllmserver) of every start; "" = none.
	Fail string `json:"fail,omitempty"`
	// ExitAfter ends a server that long after it became ready; 0 = never.
	ExitAfter time.Duration `json:"exit_after,omitempty"`
	// Hang makes the engine hang: /health stays 200, completions never answer.
	Hang bool `json:"hang,omitempty"`
	// AnyModel makes every string the name of a model, also one that the Hugging Face hub
	// would refuse: a test can then show that a hostile value stays data all the way.
	AnyModel bool `json:"any_model,omitempty"`
}

// Scale returns how long something takes on this machine that really takes d.
func (f Facts) Scale(d time.Duration) time.Duration {
	if f.Speed <= 0 {
		return d
	}
	return time.Duration(float64(d) / f.Speed)
}

// WriteFacts replaces the machine's facts.
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

// Claims returns what running processes hold, by pid. Those of processes that have ended
// are dropped: a driver releases their memory.
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

// alive reports whether a process runs. A zombie holds no GPU memory.
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
