package engine_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/engine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

func TestPortConflicts(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick)
	first := r.create("first", published("8000"))
	r.start(first)
	loopback := published("8000")
	loopback.PortBindings = network.PortMap{network.MustParsePort("8000/tcp"): {{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: "8000"}}}
	second := r.create("second", loopback)
	_, err := r.docker.ContainerStart(r.ctx(), second, client.ContainerStartOptions{})
	wantError(t, err, "driver failed programming external connectivity on endpoint second")
	wantError(t, err, "Bind for 127.0.0.1:8000 failed: port is already allocated")
	if s := r.inspect(second).State; s.Status != container.StateCreated || s.ExitCode != 128 || !strings.Contains(s.Error, "port is already allocated") {
		t.Errorf("state: %+v", s)
	}

	// A port that isn't exposed is not published.
	bare := &container.Config{Image: testImage, Entrypoint: []string{"sleep", "60"}}
	r.start(r.createRaw("hidden", bare, published("8000")))

	// A port that something else on the machine listens on.
	other, err := r.root.Listen(9000)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	third := r.create("third", published("9000"))
	_, err = r.docker.ContainerStart(r.ctx(), third, client.ContainerStartOptions{})
	wantError(t, err, "address already in use")

	// The port is free again when the first one stops.
	zero := 0
	if _, err := r.docker.ContainerStop(r.ctx(), first, client.ContainerStopOptions{Timeout: &zero}); err != nil {
		t.Fatal(err)
	}
	r.start(second)
	r.awaitReady(8000)
	if ports := r.inspect(second).NetworkSettings.Ports[network.MustParsePort("8000/tcp")]; len(ports) != 1 || ports[0].HostPort != "8000" {
		t.Errorf("Ports = %v", ports)
	}
}

// TestPortsOfTwoMachines: the same port on two machines is two ports, and two
// containers of one machine both have a port 8000 of their own.
func TestPortsOfTwoMachines(t *testing.T) {
	t.Parallel()
	a, b := newRig(t, quick), newRig(t, quick)
	for _, r := range []*rig{a, b} {
		r.start(r.create("vllm", published("8000"), testModel, "--gpu-memory-utilization", "0.4"))
	}
	a.start(a.create("other", published("8001"), testModel, "--gpu-memory-utilization", "0.4"))
	a.awaitReady(8000)
	a.awaitReady(8001)
	b.awaitReady(8000)
	if err := a.engine.KillContainer("vllm"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(a.t, "the closed port", func() bool { return !a.healthy(8000) })
	if !b.healthy(8000) || !a.healthy(8001) {
		t.Error("another server's port closed as well")
	}
}

// TestLoopbackInAContainerIsOutOfReach: a server that listens on the container's
// own loopback can't be reached through a published port.
func TestLoopbackInAContainerIsOutOfReach(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick)
	id := r.create("vllm", published("8000"), testModel, "--host", "127.0.0.1")
	r.start(id)
	testkit.Eventually(r.t, "the server's start", func() bool {
		_, stderr := r.logs(id, everything)
		return strings.Contains(stderr, "Application startup complete.")
	})
	if r.healthy(8000) {
		t.Error("reached a container's loopback through a published port")
	}
}

func TestHostNetwork(t *testing.T) {
	t.Parallel()
	r := newRig(t, quick)
	host := published("9000") // ignored, as the engine ignores it
	host.NetworkMode = "host"
	id := r.create("vllm", host, testModel, "--host", "127.0.0.1", "--port", "8123", "--gpu-memory-utilization", "0.4")
	r.start(id)
	r.awaitReady(8123)
	second := r.create("second", host, testModel, "--port", "8123", "--gpu-memory-utilization", "0.4")
	r.start(second)
	testkit.Eventually(r.t, "the second server's end", func() bool { return !r.inspect(second).State.Running })
	if _, stderr := r.logs(second, everything); !strings.Contains(stderr, "[Errno 98] Address already in use") {
		t.Errorf("stderr: %s", stderr)
	}
}

func TestGPUs(t *testing.T) {
	t.Parallel()
	cdi := []container.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=all"}}}
	for _, test := range []struct {
		name    string
		change  func(*machinefs.Facts)
		devices []container.DeviceRequest
		runtime string
		want    string // in the start's error
		log     string // in the container's output
	}{
		{name: "all", devices: allGPUs(), log: "Application startup complete."},
		{name: "CDI", devices: cdi, log: "Application startup complete."},
		{name: "nvidia runtime", runtime: "nvidia", log: "Application startup complete."},
		{name: "one of two", devices: []container.DeviceRequest{{Count: 1, Capabilities: [][]string{{"gpu"}}}}, log: "larger than the number of available GPUs (1)"},
		{name: "none asked for", log: "Failed to infer device type"},
		{name: "no toolkit", change: func(f *machinefs.Facts) { f.NoGPURuntime = true }, devices: allGPUs(), want: `could not select device driver "" with capabilities: [[gpu]]`},
		{name: "no toolkit, CDI", change: func(f *machinefs.Facts) { f.NoGPURuntime = true }, devices: cdi, want: "unresolvable CDI devices nvidia.com/gpu=all"},
		{name: "too many", devices: []container.DeviceRequest{{Count: 3, Capabilities: [][]string{{"gpu"}}}}, want: "unknown device"},
		{name: "no driver", change: func(f *machinefs.Facts) { f.Driver = machinefs.DriverMissing }, devices: allGPUs(), want: "libnvidia-ml.so.1"},
		{name: "driver too old for the image", change: func(f *machinefs.Facts) { f.VLLM.Fail = "cuda_requirement" }, devices: allGPUs(), want: "unsatisfied condition: cuda>="},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, quick, func(_ *engine.Config, f *machinefs.Facts) {
				if test.change != nil {
					test.change(f)
				}
			})
			host := &container.HostConfig{Runtime: test.runtime, Resources: container.Resources{DeviceRequests: test.devices}}
			id := r.create("vllm", host, testModel, "--tensor-parallel-size", "2")
			_, err := r.docker.ContainerStart(r.ctx(), id, client.ContainerStartOptions{})
			if test.want != "" {
				wantError(t, err, test.want)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(r.t, "the log line "+test.log, func() bool {
				stdout, stderr := r.logs(id, everything)
				return strings.Contains(stdout+stderr, test.log)
			})
		})
	}
}
