package engine

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	containertypes "github.com/moby/moby/api/types/container"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

const cdiPrefix = "nvidia.com/gpu="

// hookError is the engine's report that NVIDIA's runtime hook refused.
func hookError(message string) error {
	return refusal(http.StatusInternalServerError, "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error running prestart hook #0: exit status 1, stdout: , stderr: Auto-detected mode as 'legacy'\nnvidia-container-cli: %s: unknown", message)
}

// gpus returns a container's GPUs as a value for vllmserver.GPUsEnv, or why it can't have
// those that it requests.
func (e *Engine) gpus(c *container) (string, error) {
	facts := e.facts()
	if f, ok := vllmserver.FindFailure(facts.VLLM.Fail); ok && f.Container {
		return "", refusal(http.StatusInternalServerError, "%s", f.Message)
	}
	wanted := slices.Clone(c.host.DeviceRequests)
	if c.host.Runtime == "nvidia" {
		wanted = append(wanted, containertypes.DeviceRequest{Count: -1, Capabilities: [][]string{{"gpu"}}})
	}
	chosen := []string{}
	for _, request := range wanted {
		indices, err := resolveDevices(request, facts)
		if err != nil {
			return "", err
		}
		chosen = append(chosen, indices...)
	}
	if len(wanted) > 0 {
		if err := checkDriver(facts); err != nil {
			return "", err
		}
	}
	if len(chosen) == 0 {
		return "none", nil
	}
	slices.Sort(chosen)
	return strings.Join(slices.Compact(chosen), ","), nil
}

func resolveDevices(request containertypes.DeviceRequest, facts machinefs.Facts) ([]string, error) {
	if request.Driver == "cdi" {
		return resolveCDI(request, facts)
	}
	if facts.Podman != "" {
		return nil, nil // Podman passes over whatever isn't CDI
	}
	if !hasNVIDIARuntime(facts) || !wantsGPU(request) || request.Driver != "" && request.Driver != "nvidia" {
		return nil, refusal(http.StatusInternalServerError, "could not select device driver %q with capabilities: %v",
			request.Driver, request.Capabilities)
	}
	ids := request.DeviceIDs
	if len(ids) == 0 {
		count := request.Count
		if count < 0 {
			count = len(facts.GPUs)
		}
		if count > len(facts.GPUs) {
			return nil, hookError("device error: " + strconv.Itoa(len(facts.GPUs)) + ": unknown device")
		}
		for i := range count {
			ids = append(ids, strconv.Itoa(i))
		}
	}
	var indices []string
	for _, id := range ids {
		found, ok := findGPU(id, facts)
		if !ok {
			return nil, hookError("device error: " + id + ": unknown device")
		}
		indices = append(indices, found...)
	}
	return indices, nil
}

// resolveCDI finds devices of the container device interface. Without NVIDIA's toolkit,
// which describes them, there are none.
func resolveCDI(request containertypes.DeviceRequest, facts machinefs.Facts) ([]string, error) {
	var indices []string
	for _, id := range request.DeviceIDs {
		found, ok := findGPU(strings.TrimPrefix(id, cdiPrefix), facts)
		if facts.NoGPURuntime || !strings.HasPrefix(id, cdiPrefix) || !ok {
			return nil, refusal(http.StatusInternalServerError, "%s unresolvable CDI devices %s", whereCDIFails(facts), strings.Join(request.DeviceIDs, ", "))
		}
		indices = append(indices, found...)
	}
	return indices, nil
}

// hasNVIDIARuntime reports whether Docker has the runtime for requests by capability.
func hasNVIDIARuntime(facts machinefs.Facts) bool { return !facts.NoGPURuntime && !facts.CDIOnly }

func whereCDIFails(facts machinefs.Facts) string {
	if facts.Podman != "" {
		return "setting up CDI devices:"
	}
	return "failed to create task for container: failed to create shim task: OCI runtime create failed: could not apply required modification to OCI specification: error modifying OCI spec: failed to inject CDI devices:"
}

func wantsGPU(request containertypes.DeviceRequest) bool {
	return slices.ContainsFunc(request.Capabilities, func(all []string) bool { return slices.Contains(all, "gpu") })
}

func findGPU(id string, facts machinefs.Facts) ([]string, bool) {
	var all []string
	for i, gpu := range facts.GPUs {
		index := strconv.Itoa(i)
		if id == index || id == gpu.UUID && id != "" {
			return []string{index}, true
		}
		all = append(all, index)
	}
	return all, id == "all"
}

func checkDriver(facts machinefs.Facts) error {
	switch facts.Driver {
	case machinefs.DriverMissing:
		return hookError("initialization error: load library failed: libnvidia-ml.so.1: cannot open shared object file: no such file or directory")
	case machinefs.DriverBuilding:
		if time.Now().Before(facts.DriverReadyAt) {
			return hookError("initialization error: nvml error: driver not loaded")
		}
	case machinefs.DriverReady:
	}
	return nil
}
