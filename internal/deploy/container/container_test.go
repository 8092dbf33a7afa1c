package container

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	"go.uber.org/goleak"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDeviceRequests(t *testing.T) {
	t.Parallel()
	gpu := [][]string{{"gpu"}}
	tests := []struct {
		gpus    string
		support GPUSupport
		want    []container.DeviceRequest
	}{
		{"", ByCapability, []container.DeviceRequest{{Count: -1, Capabilities: gpu}}},
		{"all", Untold, []container.DeviceRequest{{Count: -1, Capabilities: gpu}}},
		{"none", ByCapability, nil},
		{"2", ByCapability, []container.DeviceRequest{{Count: 2, Capabilities: gpu}}},
		{"0,1", ByCapability, []container.DeviceRequest{{DeviceIDs: []string{"0", "1"}, Capabilities: gpu}}},
		{"device=1", ByCapability, []container.DeviceRequest{{DeviceIDs: []string{"1"}, Capabilities: gpu}}},
		{"GPU-5f3c-1a, MIG-9/1/0", ByCapability, []container.DeviceRequest{{DeviceIDs: []string{"GPU-5f3c-1a", "MIG-9/1/0"}, Capabilities: gpu}}},
		{"all", ByCDI, []container.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=all"}}}},
		{"2", ByCDI, []container.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=0", "nvidia.com/gpu=1"}}}},
		{"device=1", ByCDI, []container.DeviceRequest{{Driver: "cdi", DeviceIDs: []string{"nvidia.com/gpu=1"}}}},
	}
	for _, test := range tests {
		t.Run(test.gpus+" by "+string(test.support), func(t *testing.T) {
			t.Parallel()
			choice, err := parseGPUs(test.gpus)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, deviceRequests(choice, test.support)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestGPUSupport(t *testing.T) {
	t.Parallel()
	runc := map[string]system.RuntimeWithStatus{"runc": {}}
	nvidia := map[string]system.RuntimeWithStatus{"runc": {}, "nvidia": {}}
	cdi := []system.DeviceInfo{{Source: "cdi", ID: "nvidia.com/gpu=0"}}
	tests := []struct {
		name string
		info system.Info
		want GPUSupport
	}{
		{"NVIDIA's runtime", system.Info{Runtimes: nvidia}, ByCapability},
		{"both", system.Info{Runtimes: nvidia, DiscoveredDevices: cdi}, ByCapability},
		{"CDI only", system.Info{Runtimes: runc, DiscoveredDevices: cdi}, ByCDI},
		{"other CDI devices", system.Info{Runtimes: runc, DiscoveredDevices: []system.DeviceInfo{{Source: "cdi", ID: "vendor.com/nic=0"}}}, NoGPUs},
		{"CDI turned on by hand", system.Info{ServerVersion: "27.1.0", Runtimes: runc, CDISpecDirs: []string{"/etc/cdi"}}, ByCDI},
		{"CDI without devices", system.Info{ServerVersion: "28.4.0", Runtimes: runc, CDISpecDirs: []string{"/etc/cdi"}}, NoGPUs},
		{"neither", system.Info{Runtimes: runc}, NoGPUs},
		{"not told", system.Info{}, Untold},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := gpuSupport(test.info); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	e := &Engine{options: Options{Image: "i:1"}, Facts: Facts{GPUs: ByCapability}}
	wanted := deploy.Wanted{
		Name: "chat", Owner: "o", Provider: "1.0.0", Hash: "h", Port: 8000, Listen: "127.0.0.1",
		Arguments:   []string{"serve", "m", "--host", "127.0.0.1", "--port", "8000"},
		Environment: map[string]string{"B": "2", "A": "1"},
	}
	config, hostConfig, err := e.settings(wanted)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(config.Env, []string{"A=1", "B=2"}) || config.Labels[labelOwner] != "o" || config.Labels[labelSpec] != "h" {
		t.Errorf("config %+v", config)
	}
	if hostConfig.NetworkMode != "" || hostConfig.IpcMode != "private" || hostConfig.ShmSize != defaultShmSize || !*hostConfig.Init || !hostConfig.RestartPolicy.IsNone() {
		t.Errorf("host config %+v", hostConfig)
	}
	want := []mount.Mount{
		{Type: mount.TypeVolume, Source: "shopper-vllm-huggingface", Target: "/root/.cache/huggingface"},
		{Type: mount.TypeVolume, Source: "shopper-vllm-vllm", Target: "/root/.cache/vllm"},
	}
	if diff := cmp.Diff(want, hostConfig.Mounts); diff != "" {
		t.Error(diff)
	}

	e.options = Options{Image: "i:1", User: "2000:0", Cache: "/data/cache", ShmSize: 1 << 30}
	config, hostConfig, err = e.settings(wanted)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(config.Env, "HOME=/home/vllm") || !slices.Equal(hostConfig.Binds, []string{"/data/cache/home:/home/vllm"}) {
		t.Errorf("environment %q, binds %q", config.Env, hostConfig.Binds)
	}
	if hostConfig.ShmSize != 1<<30 {
		t.Errorf("shared memory %d", hostConfig.ShmSize)
	}
}

func TestCacheWarning(t *testing.T) {
	t.Parallel()
	for user, warned := range map[string]bool{"": false, "root": false, "0:0": false, "2000:0": false, "2000:root": false, "1000:1000": true, "1000": true} {
		if got := (Options{User: user}).CacheWarning() != ""; got != warned {
			t.Errorf("user %q: warned %t, want %t", user, got, warned)
		}
	}
}

func TestPullProgress(t *testing.T) {
	t.Parallel()
	sum := layers{}
	var last string
	for _, message := range []jsonstream.Message{
		{Status: "Pulling from vllm/vllm-openai", ID: "v0.33.0"},
		{Status: "Pulling fs layer", ID: "a"},
		{Status: "Already exists", ID: "b"},
		{Status: "Downloading", ID: "a", Progress: &jsonstream.Progress{Current: 1e9, Total: 4e9}},
		{Status: "Downloading", ID: "a", Progress: &jsonstream.Progress{Current: 2e9, Total: 4e9}},
	} {
		last = sum.add(message)
	}
	if want := "2.0 of 4.0 GB downloaded, 1 of 2 layers ready"; last != want {
		t.Errorf("got %q, want %q", last, want)
	}
	last = sum.add(jsonstream.Message{Status: "Pull complete", ID: "a"})
	if want := "4.0 of 4.0 GB downloaded, 2 of 2 layers ready"; last != want {
		t.Errorf("got %q, want %q", last, want)
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	tests := []struct {
		image   string
		digests []string
		want    string
	}{
		{"vllm/vllm-openai:v1", []string{"other/x@sha256:0", "vllm/vllm-openai@sha256:1"}, "sha256:1"},
		{"vllm/vllm-openai:v1", []string{"docker.io/vllm/vllm-openai@sha256:1"}, "sha256:1"},
		{"localhost:5000/x@sha256:2", []string{"localhost:5000/x@sha256:2"}, "sha256:2"},
		{"x:1", []string{"y@sha256:3"}, "sha256:3"},
		{"x:1", nil, "sha256:id"},
		{"x:1", []string{"broken"}, "sha256:id"},
	}
	for _, test := range tests {
		if got := digest(test.image, test.digests, "sha256:id"); got != test.want {
			t.Errorf("%s: got %s, want %s", test.image, got, test.want)
		}
	}
}

func TestKnownCauses(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want string
	}{
		{text: `could not select device driver "" with capabilities: [[gpu]]`, want: "has no GPU support"},
		{text: "nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1", want: "has no GPU support"},
		{text: "nvidia-container-cli: initialization error: nvml error: driver/library version mismatch", want: "driver was updated"},
		{text: "nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.9, please update your driver", want: "driver"},
		{text: "nvidia-container-cli: device error: 7: unknown device: unknown", want: "a GPU that the machine doesn't have"},
		{text: "could not inject: unresolvable CDI devices nvidia.com/gpu=all", want: "has no GPU support"},
		{text: "could not inject: unresolvable CDI devices nvidia.com/gpu=3", want: "a GPU that the machine doesn't have"},
		{text: "write /var/lib/docker: no space left on device", want: "disk is full"},
		{text: "driver failed programming: port is already allocated", want: "port"},
		{text: "toomanyrequests: You have reached your pull rate limit", want: "rate limit"},
		{text: "manifest for vllm/vllm-openai:v9 not found: manifest unknown", want: "no such tag"},
		{text: "pull access denied for x, repository does not exist", want: "denies access to the image"},
		{text: "Get https://registry: dial tcp: lookup registry: no such host", want: "reach the registry"},
		{text: "something else"},
	}
	for _, test := range tests {
		err := known(deploy.Failed(t.Context(), "do it", errors.New(test.text)))
		e, ok := errors.AsType[*deploy.Error](err)
		if !ok || !strings.Contains(e.Cause, test.want) || (test.want == "") != (e.Cause == "") || (e.Cause == "") != (e.WayOut == "") {
			t.Errorf("%s: %#v", test.text, err)
		}
	}
}

// An id or name that could be anything else in a URL's path is refused before it is sent.
func TestIdsAreValidated(t *testing.T) {
	t.Parallel()
	e := &Engine{}
	for _, id := range []string{"", "a", "../containers/x", "a/b", "a?force=1", "a b", strings.Repeat("a", 12) + "\n"} {
		ref := deploy.Ref{ID: id}
		if _, err := e.Inspect(t.Context(), ref); err == nil || !strings.Contains(err.Error(), "neither a container ID nor a name") {
			t.Errorf("inspecting %q: %v", id, err)
		}
		if _, err := e.Log(t.Context(), ref, 1); err == nil || !strings.Contains(err.Error(), "It has no ID.") {
			t.Errorf("reading the log of %q: %v", id, err)
		}
		if _, err := e.Remove(t.Context(), ref, deploy.Stop{Force: true}); err == nil || !strings.Contains(err.Error(), "It has no ID.") {
			t.Errorf("removing %q: %v", id, err)
		}
	}
}

// shell is a machine where a pipe's command fails with a text.
type shell struct{ says error }

func (s shell) Run(context.Context, host.Command) (host.Result, error) {
	return host.Result{}, errors.ErrUnsupported
}

func (s shell) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

func (s shell) Pipe(context.Context, ...string) (net.Conn, error) { return &failing{err: s.says}, nil }

// failing is the connection of a command that has ended.
type failing struct {
	net.Conn
	err error
}

func (f *failing) Read([]byte) (int, error) { return 0, f.err }
func (f *failing) Close() error             { return nil }

// The first command that reaches an engine is used. If none does, the error has the output of each.
func TestConnectTriesEveryWay(t *testing.T) {
	t.Parallel()
	const (
		works   = "#!/bin/sh\necho \"I am $0 $*\"\n"
		denied  = "#!/bin/sh\necho permission denied >&2; exit 1\n"
		runs    = "#!/bin/sh\nshift; exec /bin/sh \"${0%/*}/root-$1\" \"$@\"\n" // sudo, whose PATH has other programs
		refuses = "#!/bin/sh\necho a password is required >&2; exit 1\n"
	)
	for name, test := range map[string]struct {
		programs map[string]string
		way      string
		is       error
		words    []string
	}{
		"docker":           {map[string]string{"docker": works, "podman": works}, "docker", nil, nil},
		"docker as root":   {map[string]string{"docker": denied, "sudo": runs, "root-docker": works, "podman": works}, "sudo -n docker", nil, nil},
		"podman":           {map[string]string{"podman": works}, "podman", nil, nil},
		"podman as root":   {map[string]string{"podman": denied, "sudo": runs, "root-docker": denied, "root-podman": works}, "sudo -n podman", nil, nil},
		"nothing":          {nil, "", ErrNoEngine, []string{"no Docker and no Podman"}},
		"not for the user": {map[string]string{"docker": denied, "sudo": refuses}, "", ErrUnreachable, []string{"permission denied", "password is required"}},
		"no sudo":          {map[string]string{"docker": denied}, "", ErrUnreachable, []string{"permission denied"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bin := t.TempDir()
			for program, text := range test.programs {
				if err := os.WriteFile(filepath.Join(bin, program), []byte(text), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			command := exec.CommandContext(t.Context(), "/bin/sh", "-c", dialScript)
			command.Env = []string{"PATH=" + bin}
			var said strings.Builder
			command.Stderr = &said
			output, err := command.Output()
			if first, rest, _ := strings.Cut(string(output), "\n"); test.way != "" {
				if err != nil || first != wayMark+test.way || !strings.HasSuffix(rest, " system dial-stdio\n") {
					t.Errorf("%q, %v: %s", output, err, said.String())
				}
				return
			}
			if err == nil || len(output) > 0 {
				t.Fatalf("%q, %v", output, err)
			}
			_, err = Connect(t.Context(), shell{&host.Error{Kind: host.CommandFailed, Err: errors.New(said.String())}}, Options{})
			if !errors.Is(err, test.is) {
				t.Fatalf("got %v, want %v", err, test.is)
			}
			for _, word := range test.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q is missing in %v", word, err)
				}
			}
		})
	}
	lost := &host.Error{Kind: host.Lost, Err: io.ErrUnexpectedEOF}
	if _, err := Connect(t.Context(), shell{lost}, Options{}); !errors.Is(err, lost) || errors.Is(err, ErrNoEngine) || errors.Is(err, ErrUnreachable) {
		t.Errorf("a lost connection is %v", err)
	}
}

func TestEnvironmentOfAContainerHidesSecrets(t *testing.T) {
	t.Parallel()
	config := &container.Config{Env: []string{"A=1", "VLLM_API_KEY=s", "HF_TOKEN=s", "HUGGING_FACE_HUB_TOKEN=s", "B=x=y", "C"}}
	got := describe(deploy.Ref{}, container.InspectResponse{Config: config}).Environment
	if diff := cmp.Diff(map[string]string{"A": "1", "B": "x=y", "C": ""}, got); diff != "" {
		t.Error(diff)
	}
}

func TestRestartLoop(t *testing.T) {
	t.Parallel()
	now := time.Now().UTC()
	tests := []struct {
		name     string
		restarts int
		state    container.ContainerState
		started  time.Time
		want     bool
	}{
		{"fresh", 0, container.StateRunning, now, false},
		{"one restart", 1, container.StateRestarting, now, false},
		{"restarting again and again", 4, container.StateRestarting, now, true},
		{"just started again", 4, container.StateRunning, now, true},
		{"has run for hours since", 4, container.StateRunning, now.Add(-3 * time.Hour), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			status := describe(deploy.Ref{}, container.InspectResponse{
				RestartCount: test.restarts, State: &container.State{Status: test.state, StartedAt: test.started.Format(time.RFC3339Nano)},
			})
			if status.RestartLoop != test.want {
				t.Errorf("loop %t, want %t", status.RestartLoop, test.want)
			}
		})
	}
}

// A state that this version doesn't know is Unknown, and no error.
func TestUnknownStateWord(t *testing.T) {
	t.Parallel()
	for word, want := range map[container.ContainerState]deploy.State{
		"running": deploy.Running, "paused": deploy.Running, "created": deploy.Starting, "restarting": deploy.Restarting,
		"exited": deploy.Exited, "dead": deploy.Exited, "removing": deploy.Exited, "stopped": deploy.Exited,
		"hibernating": deploy.Unknown, "": deploy.Unknown,
	} {
		if got := stateOf(word); got != want {
			t.Errorf("%q is %s, want %s", word, got, want)
		}
	}
}

func TestInContainerd(t *testing.T) {
	t.Parallel()
	store := [][2]string{{"driver-type", "io.containerd.snapshotter.v1"}}
	for name, test := range map[string]struct {
		info system.Info
		want bool
	}{
		"overlay2":            {system.Info{DriverStatus: [][2]string{{"Backing Filesystem", "extfs"}}}, false},
		"containerd":          {system.Info{DriverStatus: store, Containerd: &system.ContainerdInfo{Address: "/run/containerd/containerd.sock"}}, true},
		"an address not told": {system.Info{DriverStatus: store}, true},
		"Docker's containerd": {system.Info{DriverStatus: store, Containerd: &system.ContainerdInfo{Address: "/var/run/docker/containerd/containerd.sock"}}, false},
	} {
		if got := inContainerd(test.info); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A server's port is published where the server is to listen, and what is read back of its container is that again.
func TestPublishedPort(t *testing.T) {
	t.Parallel()
	port := network.MustParsePort("8123/tcp")
	for listen, want := range map[string]struct{ published, read string }{
		"127.0.0.1": {"127.0.0.1", "127.0.0.1"},
		"localhost": {"127.0.0.1", "127.0.0.1"},
		"::1":       {"::1", "::1"},
		"0.0.0.0":   {"", "0.0.0.0"},
		"::":        {"", "0.0.0.0"}, // both families
	} {
		e := &Engine{options: Options{Image: "i:1"}}
		arguments := []string{"serve", "m", "--host", listen, "--port", "8123", "--dtype", "half"}
		config, hostConfig, err := e.settings(deploy.Wanted{Port: 8123, Listen: listen, Arguments: arguments})
		if err != nil {
			t.Fatal(err)
		}
		bindings := hostConfig.PortBindings[port]
		if _, exposed := config.ExposedPorts[port]; !exposed || len(bindings) != 1 || bindings[0].HostPort != "8123" {
			t.Fatalf("%s: exposed %v, published %v", listen, config.ExposedPorts, hostConfig.PortBindings)
		}
		if at := bindings[0].HostIP; (want.published == "") == at.IsValid() || (at.IsValid() && at.String() != want.published) {
			t.Errorf("%s is published at %q, want %q", listen, at, want.published)
		}
		if inside := config.Cmd[3]; inside != "0.0.0.0" || arguments[3] != listen {
			t.Errorf("%s listens on %q in the container", listen, inside)
		}
		status := describe(deploy.Ref{}, container.InspectResponse{Config: config, HostConfig: hostConfig})
		if status.Port != 8123 || status.Listen != want.read || status.Arguments[3] != want.read {
			t.Errorf("%s is read as %+v", listen, status)
		}
	}
}

// The published address is read of containers that others created, too, and of one in the machine's own network.
func TestReadAddress(t *testing.T) {
	t.Parallel()
	port := network.MustParsePort("8000/tcp")
	loopback, all := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("0.0.0.0")
	for name, test := range map[string]struct {
		bindings network.PortMap
		want     []string
		port     int
	}{
		"the machine's network": {nil, []string{"--host", "0.0.0.0", "--port", "8000"}, 8000},
		"another port":          {network.PortMap{port: {{HostIP: loopback, HostPort: "9000"}}}, []string{"--host", "127.0.0.1", "--port", "9000"}, 9000},
		"also outside": {
			network.PortMap{port: {{HostIP: loopback, HostPort: "8000"}, {HostIP: all, HostPort: "8000"}}},
			[]string{"--host", "0.0.0.0", "--port", "8000"},
			8000,
		},
		"a port of the engine's choice": {network.PortMap{port: {{}}}, []string{"--host", "0.0.0.0", "--port", ""}, 0},
	} {
		config := &container.Config{Entrypoint: []string{"vllm"}, Cmd: []string{"--host", "0.0.0.0", "--port", "8000"}}
		status := describe(deploy.Ref{}, container.InspectResponse{Config: config, HostConfig: &container.HostConfig{PortBindings: test.bindings}})
		if !slices.Equal(status.Arguments, test.want) || status.Port != test.port {
			t.Errorf("%s: %q, port %d", name, status.Arguments, status.Port)
		}
	}
}
