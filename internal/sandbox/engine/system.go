package engine

import (
	"net/http"
	"time"

	"github.com/moby/moby/api/types/system"
)

func (e *Engine) ping(w http.ResponseWriter, req *http.Request) error {
	w.Header().Set("Cache-Control", "no-cache, no-store, must-revalidate")
	w.Header().Set("Builder-Version", "2")
	w.Header().Set("Swarm", "inactive")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if req.Method != http.MethodHead {
		_, _ = w.Write([]byte("OK"))
	}
	return nil
}

func (e *Engine) version(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, e.self().Version)
}

func (e *Engine) info(w http.ResponseWriter, _ *http.Request) error {
	machine, info := e.facts(), e.self().Info
	if machine.Podman == "" { // Podman reports nothing about GPUs
		if runtimes, ok := info["Runtimes"].(map[string]any); ok && hasNVIDIARuntime(machine) {
			runtimes["nvidia"] = system.Runtime{Path: "nvidia-container-runtime"}
		}
		if !machine.NoGPURuntime {
			info["DiscoveredDevices"] = []system.DeviceInfo{{Source: "cdi", ID: cdiPrefix + "all"}}
		}
	}
	if machine.ContainerdImages {
		info["DriverStatus"] = [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}}
	}
	containers, running := e.all(), 0
	for _, c := range containers {
		if c.snapshot().Running {
			running++
		}
	}
	e.mu.Lock()
	info["Images"] = len(e.local)
	e.mu.Unlock()
	info["Containers"], info["ContainersRunning"], info["ContainersStopped"] = len(containers), running, len(containers)-running
	info["SystemTime"] = timestamp(time.Now())
	return writeJSON(w, http.StatusOK, info)
}

// timestamp formats a time as the engine does: UTC, RFC 3339, nanoseconds.
func timestamp(t time.Time) string {
	if t.IsZero() {
		return "0001-01-01T00:00:00Z"
	}
	return t.UTC().Format(time.RFC3339Nano)
}
