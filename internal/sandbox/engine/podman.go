package engine

import (
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/system"
)

// podmanAPI is the version of Docker's API that every Podman says it speaks.
const podmanAPI = "1.41"

// podman is the release of the Podman that the engine plays, "" for Docker.
func (e *Engine) podman() string { return e.facts().Podman }

// podmanHeaders are what Podman's service says of itself on every answer.
func podmanHeaders(release string) map[string]string {
	return map[string]string{
		"Api-Version": podmanAPI, "Libpod-Api-Version": release, "Server": "Libpod/" + release + " (linux)",
	}
}

func podmanVersion(w http.ResponseWriter, release string) error {
	details := map[string]string{"APIVersion": release, "MinAPIVersion": "4.0.0", "Arch": runtime.GOARCH, "Experimental": "false", "Os": "linux"}
	component := func(name, version string) map[string]any {
		return map[string]any{"Name": name, "Version": version, "Details": map[string]string{"Package": "Unknown"}}
	}
	return writeJSON(w, http.StatusOK, map[string]any{
		"Platform": map[string]string{"Name": "linux/amd64/ubuntu-24.04"}, "Version": release, "ApiVersion": podmanAPI, "MinAPIVersion": "1.24",
		"Os": "linux", "Arch": runtime.GOARCH, "KernelVersion": "6.8.0-79-generic",
		"Components": []any{
			map[string]any{"Name": "Podman Engine", "Version": release, "Details": details},
			component("Conmon", "2.1.12"), component("OCI Runtime (crun)", "1.21"),
		},
	})
}

// podmanInfo tells nothing of GPUs.
func podmanInfo(release string) system.Info {
	runtimes := map[string]system.RuntimeWithStatus{}
	for _, name := range []string{"crun", "runc", "kata"} {
		runtimes[name] = system.RuntimeWithStatus{Runtime: system.Runtime{Path: "/usr/bin/" + name}}
	}
	return system.Info{
		ID: "7d0c6c39-8d5b-4b6e-9a42-sandbox", Driver: "overlay", CgroupDriver: "systemd", CgroupVersion: "2", DefaultRuntime: "crun",
		MemoryLimit: true, SwapLimit: true, PidsLimit: true, IPv4Forwarding: true, ExperimentalBuild: true,
		KernelVersion: "6.8.0-79-generic", OperatingSystem: "ubuntu", OSVersion: "24.04", OSType: "linux", Architecture: runtime.GOARCH,
		NCPU: 16, MemTotal: 128 << 30, DockerRootDir: "/var/lib/containers/storage", Name: "sandbox", ServerVersion: release,
		SystemTime: timestamp(time.Now()), Runtimes: runtimes,
		SecurityOptions: []string{"name=seccomp,profile=default"}, Warnings: []string{},
	}
}

// canUpdate tells whether a Podman has Docker's call to change a container, which came
// with release 5.1.
func canUpdate(release string) bool {
	first, rest, _ := strings.Cut(release, ".")
	second, _, _ := strings.Cut(rest, ".")
	major, _ := strconv.Atoi(first) // no number: as old as can be
	minor, _ := strconv.Atoi(second)
	return major > 5 || major == 5 && minor >= 1
}
