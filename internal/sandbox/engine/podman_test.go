package engine_test

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/engine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// TestPodman: Podman is told by its version's components, tells nothing of GPUs, passes
// over requests for them that aren't CDI, and has learnt to change containers.
func TestPodman(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick, func(_ *engine.Config, f *machinefs.Facts) { f.Podman = "4.9.4" })
	version, err := r.docker.ServerVersion(r.ctx(), client.ServerVersionOptions{})
	if err != nil || len(version.Components) == 0 || version.Components[0].Name != "Podman Engine" || version.APIVersion != "1.41" {
		t.Errorf("version %+v, %v", version, err)
	}
	info, err := r.docker.Info(r.ctx(), client.InfoOptions{})
	if _, nvidia := info.Info.Runtimes["nvidia"]; err != nil || nvidia || len(info.Info.DiscoveredDevices) > 0 {
		t.Errorf("info %+v, %v", info.Info, err)
	}
	byCapability := &container.HostConfig{Resources: container.Resources{DeviceRequests: allGPUs()}}
	id := r.create("vllm", byCapability)
	r.start(id)
	testkit.Eventually(r.t, "a server without GPUs", func() bool {
		_, stderr := r.logs(id, everything)
		return strings.Contains(stderr, "Failed to infer device type")
	})
	policy := client.ContainerUpdateOptions{RestartPolicy: &container.RestartPolicy{Name: container.RestartPolicyAlways}}
	if _, err := r.docker.ContainerUpdate(r.ctx(), id, policy); !errdefs.IsNotFound(err) {
		t.Errorf("an old Podman changes a container: %v", err)
	}
	r.setFacts(func(f *machinefs.Facts) { f.Podman = "5.1.0" })
	if _, err := r.docker.ContainerUpdate(r.ctx(), id, policy); err != nil {
		t.Error(err)
	}
}

// TestDockerWithCDIOnly: it lists devices, has no runtime of NVIDIA's, and refuses a
// request by capability.
func TestDockerWithCDIOnly(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick, func(_ *engine.Config, f *machinefs.Facts) { f.CDIOnly = true })
	info, err := r.docker.Info(r.ctx(), client.InfoOptions{})
	if _, nvidia := info.Info.Runtimes["nvidia"]; err != nil || nvidia || len(info.Info.DiscoveredDevices) != 1 {
		t.Errorf("info %+v, %v", info.Info, err)
	}
	refused := r.create("refused", &container.HostConfig{Resources: container.Resources{DeviceRequests: allGPUs()}})
	_, err = r.docker.ContainerStart(r.ctx(), refused, client.ContainerStartOptions{})
	wantError(t, err, "could not select device driver")
	cdi := []container.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=1"}}}
	r.start(r.create("given", &container.HostConfig{Resources: container.Resources{DeviceRequests: cdi}}))
}
