package tool

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// What an installation of Docker with GPUs uses.
const (
	nvidiaToolkit = "nvidia-container-toolkit"
	nvidiaKey     = "https://nvidia.github.io/libnvidia-container/gpgkey"
	nvidiaList    = "/etc/apt/sources.list.d/nvidia-container-toolkit.list"
)

// install copies a file to an absolute path of the machine's system, as root.
func install(c *call) int {
	files, bad := getopt(c.args, []string{"-m --mode=", "-D"}, func(string, string) {}, nil)
	switch {
	case bad != nil:
		return c.failf(1, "install: %s", bad.gnu())
	case len(files) != 2 || !filepath.IsAbs(files[1]):
		return c.failf(1, "install: not part of a sandbox machine, which has `install -m MODE FILE /PATH`")
	case c.user() != "root":
		return c.failf(1, "install: cannot create regular file '%s': Permission denied", files[1])
	}
	data, err := os.ReadFile(files[0])
	if err == nil {
		err = c.writeSystemFile(files[1], data)
	}
	if err != nil {
		return c.failf(1, "install: %v", err)
	}
	return 0
}

// systemFile is the real path of a file of the machine's system.
func (c *call) systemFile(path string) string { return filepath.Join(string(c.root), "system", path) }

func (c *call) writeSystemFile(path string, data []byte) error {
	file := c.systemFile(path)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return os.WriteFile(file, data, 0o600)
}

// knowsNVIDIA reports whether apt-get has NVIDIA's list of packages, and the key that signs them.
func (c *call) knowsNVIDIA() bool {
	list, err := os.ReadFile(c.systemFile(nvidiaList))
	_, rest, _ := strings.Cut(string(list), "[signed-by=")
	key, _, signed := strings.Cut(rest, "]")
	if err != nil || !signed {
		return false
	}
	_, err = os.Stat(c.systemFile(key))
	return err == nil
}

// systemctl restarts Docker, and nothing else.
func systemctl(c *call) int {
	switch {
	case strings.Join(c.args, " ") != "restart docker":
		return refuse(c)
	case c.user() != "root":
		return c.failf(1, "Failed to restart docker.service: Interactive authentication required.")
	case !c.facts.Docker:
		return c.failf(5, "Failed to restart docker.service: Unit docker.service not found.")
	}
	return 0
}

// detectVirt reports that the machine is no container. Containers don't have this program.
func detectVirt(c *call) int {
	if strings.Join(c.args, " ") != "--container" {
		return c.failf(1, "systemd-detect-virt: not part of a sandbox machine, which has `--container`")
	}
	c.printf("none\n")
	return 1
}

// configureRuntime gives Docker NVIDIA's runtime.
func configureRuntime(c *call) int {
	if c.user() != "root" {
		return c.failf(1, "unable to create config directory /etc/docker: mkdir /etc/docker: permission denied")
	}
	return c.done(c.root.AddPackage(machinefs.GPURuntime))
}
