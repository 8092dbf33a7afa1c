package engine_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/engine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

const dockerSocket = "/var/run/docker.sock"

// realEngine connects to this computer's own Docker engine.
func realEngine(t *testing.T) *client.Client {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "unix", dockerSocket)
	if err != nil {
		t.Skip("SKIPPED: no Docker engine on this machine")
	}
	_ = conn.Close()
	docker, err := client.New(client.WithHost("unix://" + dockerSocket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = docker.Close() })
	return docker
}

// newDockerRig is newRig with a real Docker engine behind the machine's socket.
func newDockerRig(t *testing.T, change ...func(*engine.Config, *machinefs.Facts)) *rig {
	t.Helper()
	docker := realEngine(t)
	var root machinefs.Root
	t.Cleanup(func() { nothingLeft(t, docker, root) }) // after the engine's end
	r := newRig(t, append(change, func(cfg *engine.Config, _ *machinefs.Facts) { cfg.Docker = dockerSocket })...)
	root = r.root
	return r
}

// nothingLeft fails the test when a machine left anything in the real engine.
func nothingLeft(t *testing.T, docker *client.Client, root machinefs.Root) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	own := client.Filters{}.Add("label", "io.shopper-sandbox.machine="+string(root))
	containers, err := docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: own})
	if err != nil || len(containers.Items) != 0 {
		t.Errorf("containers left behind: %+v, %v", containers.Items, err)
	}
	volumes, err := docker.VolumeList(ctx, client.VolumeListOptions{Filters: own})
	if err != nil || len(volumes.Items) != 0 {
		t.Errorf("volumes left behind: %+v, %v", volumes.Items, err)
	}
	_ = os.RemoveAll(string(root))
}

// TestTheWordsForPortsAndGPUsAreTheRealOnes: those refusals the stand-in speaks for
// a real engine too, which on this computer has neither the machine's ports nor
// its GPUs. So a real engine is brought to say them.
func TestTheWordsForPortsAndGPUsAreTheRealOnes(t *testing.T) {
	t.Parallel()
	docker := realEngine(t)
	r := newDockerRig(t, quick) // brings the image, and removes what has its label
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().(*net.TCPAddr).AddrPort()
	_ = listener.Close()
	start := func(name string, change func(*container.HostConfig)) (string, error) {
		t.Helper()
		host := &container.HostConfig{Binds: []string{"/bin:/bin:ro", "/usr:/usr:ro", "/lib:/lib:ro", "/lib64:/lib64:ro"}}
		change(host)
		created, err := docker.ContainerCreate(r.ctx(), client.ContainerCreateOptions{
			Name: filepath.Base(string(r.root)) + "-" + name, HostConfig: host,
			Config: &container.Config{
				Image: "shopper-sandbox/vllm:" + strconv.Itoa(os.Getpid()), Entrypoint: []string{"/bin/sleep", "60"},
				ExposedPorts: exposed(host),
				Labels:       map[string]string{"io.shopper-sandbox.machine": string(r.root)},
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = docker.ContainerStart(r.ctx(), created.ID, client.ContainerStartOptions{})
		return created.ID, err
	}
	publish := func(host *container.HostConfig) {
		host.PortBindings = network.PortMap{network.MustParsePort("8000/tcp"): {{HostIP: address.Addr(), HostPort: strconv.Itoa(int(address.Port()))}}}
	}
	if _, err := start("first", publish); err != nil {
		t.Fatal(err)
	}
	second, err := start("second", publish)
	wantError(t, err, "driver failed programming external connectivity on endpoint "+filepath.Base(string(r.root))+"-second")
	wantError(t, err, "Bind for "+address.String()+" failed: port is already allocated")
	got, err := docker.ContainerInspect(r.ctx(), second, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if s := got.Container.State; s.Status != container.StateCreated || s.ExitCode != 128 || !strings.Contains(s.Error, "port is already allocated") {
		t.Errorf("state: %+v", s)
	}
	info, err := docker.Info(r.ctx(), client.InfoOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if info.Info.Runtimes["nvidia"].Path != "" {
		t.Skip("SKIPPED: what an engine says without NVIDIA's toolkit: this one has it")
	}
	_, err = start("gpus", func(host *container.HostConfig) { host.DeviceRequests = allGPUs() })
	wantError(t, err, `could not select device driver "" with capabilities: [[gpu]]`)
}

// TestARealEngineIsNotTheMachines: a machine sees nothing of the tester's engine
// but what it made itself, and no directory of the tester's.
func TestARealEngineIsNotTheMachines(t *testing.T) {
	t.Parallel()
	a, b := newDockerRig(t, quick), newDockerRig(t, quick)
	id := a.create("vllm", withGPUs())
	b.create("vllm", nil) // the same name on another machine
	_, err := b.docker.ContainerInspect(b.ctx(), id, client.ContainerInspectOptions{})
	wantError(t, err, "No such container: "+id)
	list, err := b.docker.ContainerList(b.ctx(), client.ContainerListOptions{All: true})
	if err != nil || len(list.Items) != 1 || list.Items[0].ID == id {
		t.Errorf("list: %+v, %v", list.Items, err)
	}
	for path, want := range map[string]int{"/containers/prune": 404, "/images/prune": 404, "/networks": 404, "/swarm": 404} {
		if status := b.get(path); status != want {
			t.Errorf("GET %s: %d", path, status)
		}
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("the tester's own"), 0o600); err != nil {
		t.Fatal(err)
	}
	reads := &container.Config{Image: testImage, Entrypoint: []string{"sh"}, Cmd: []string{"-c", "ls -A /data; id -u; echo end"}}
	reader := b.createRaw("reads", reads, &container.HostConfig{Binds: []string{filepath.Dir(secret) + ":/data"}})
	b.start(reader)
	b.eventually("the end", func() bool { return !b.inspect(reader).State.Running })
	if out, errs := b.logs(reader, everything); out != strconv.Itoa(os.Getuid())+"\nend\n" || errs != "" {
		t.Errorf("%q %q", out, errs)
	}
}

// TestWhatAKilledSandboxLeftIsRemoved: by the next one.
func TestWhatAKilledSandboxLeftIsRemoved(t *testing.T) {
	t.Parallel()
	docker := realEngine(t)
	gone := machinefs.Root(filepath.Join(t.TempDir(), "gone"))
	own := map[string]string{"io.shopper-sandbox.machine": string(gone)}
	name := filepath.Base(filepath.Dir(string(gone))) + "-" + strconv.Itoa(os.Getpid())
	if _, err := docker.VolumeCreate(t.Context(), client.VolumeCreateOptions{Name: name, Labels: own}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = docker.VolumeRemove(context.WithoutCancel(t.Context()), name, client.VolumeRemoveOptions{Force: true})
	})
	newDockerRig(t, quick)
	nothingLeft(t, docker, gone)
}
