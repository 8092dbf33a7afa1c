package machinefs

import (
	"os"
	"path/filepath"
	"slices"
)

// Toolchain is what an installation of vLLM, its start and a closed port need.
func Toolchain() []string {
	return []string{"ca-certificates", "curl", "g++", "gcc", "iptables", "libc6-dev", "python3", "python3-dev", "python3-pip", "uv"}
}

func (r Root) packageDir() string { return filepath.Join(string(r), "packages") }

// What changes a machine's facts: the package of Docker, and the mark of its NVIDIA runtime.
const (
	dockerPackage = "docker.io"
	GPURuntime    = ".nvidia-runtime"
)

// withPackages changes facts according to what was installed since.
func (r Root) withPackages(f Facts) Facts {
	installed := r.Packages()
	if !f.Docker && slices.Contains(installed, dockerPackage) {
		f.Docker, f.DockerNeedsRoot, f.NoGPURuntime = true, true, true
	}
	if slices.Contains(installed, GPURuntime) {
		f.NoGPURuntime = false
	}
	return f
}

// AddPackage records that a package was installed.
func (r Root) AddPackage(name string) error {
	if err := os.MkdirAll(r.packageDir(), 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.packageDir(), name), nil, 0o600)
}

// Packages are the packages that were installed since the machine started, sorted.
func (r Root) Packages() []string {
	entries, _ := os.ReadDir(r.packageDir()) // there is no folder before the first one
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}
