package engine_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"go.uber.org/goleak"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/engine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// TestMain is also the program that containers run.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "vllm" {
		os.Exit(vllmserver.Main(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

const (
	testImage = "vllm/vllm-openai:v0.11.0"
	testModel = "Qwen/Qwen2.5-0.5B-Instruct"
)

// rig is an engine on a machine of its own, behind a real socket.
type rig struct {
	t      *testing.T
	root   machinefs.Root
	engine *engine.Engine
	docker *client.Client

	mu   sync.Mutex
	argv [][]string
}

func defaultFacts() machinefs.Facts {
	return machinefs.Facts{
		User: "ubuntu", Docker: true, Driver: machinefs.DriverReady, DriverVersion: "580.95.05", CUDAVersion: "13.0", Speed: 300,
		GPUs:   []machinefs.GPU{{Name: "NVIDIA L4", UUID: "GPU-1", MemoryMiB: 23034, ComputeCapability: "8.9"}, {Name: "NVIDIA L4", UUID: "GPU-2", MemoryMiB: 23034, ComputeCapability: "8.9"}},
		DiskGB: 200, DiskFreeGB: 150,
	}
}

func newRig(t *testing.T, change ...func(*engine.Config, *machinefs.Facts)) *rig {
	t.Helper()
	dir := testkit.Dir(t)
	r := &rig{t: t, root: machinefs.Root(dir)}
	if err := r.root.Create(); err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	facts := defaultFacts()
	cfg := engine.Config{Root: r.root, Program: program, Record: func(argv []string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.argv = append(r.argv, argv)
	}}
	for _, f := range change {
		f(&cfg, &facts)
	}
	if err := r.root.WriteFacts(facts); err != nil {
		t.Fatal(err)
	}
	if r.engine, err = engine.New(cfg); err != nil {
		t.Fatal(err)
	}
	r.serve()
	return r
}

// serve mounts the engine on the machine's docker socket.
func (r *rig) serve() {
	r.t.Helper()
	listener, err := net.Listen("unix", r.root.DockerSocket())
	if err != nil {
		r.t.Fatal(err)
	}
	server := &http.Server{Handler: r.engine, ReadHeaderTimeout: time.Minute}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	r.docker, err = client.New(client.WithHost("unix://" + r.root.DockerSocket()))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = r.docker.Close()
		_ = server.Close()
		<-served
		r.engine.Close()
	})
}

func (r *rig) setFacts(change func(*machinefs.Facts)) {
	r.t.Helper()
	facts, err := r.root.ReadFacts()
	if err != nil {
		r.t.Fatal(err)
	}
	change(&facts)
	if err := r.root.WriteFacts(facts); err != nil {
		r.t.Fatal(err)
	}
}

// ctx ends before the test's own deadline does.
func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	r.t.Cleanup(cancel)
	return ctx
}

func (r *rig) pull(ref string) {
	r.t.Helper()
	response, err := r.docker.ImagePull(r.ctx(), ref, client.ImagePullOptions{})
	if err != nil {
		r.t.Fatalf("pulling %s: %v", ref, err)
	}
	if err := response.Wait(r.ctx()); err != nil {
		r.t.Fatalf("pulling %s: %v", ref, err)
	}
}

func allGPUs() []container.DeviceRequest {
	return []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}}
}

// withGPUs keeps vLLM running: without a GPU it ends at once.
func withGPUs() *container.HostConfig {
	return &container.HostConfig{Resources: container.Resources{DeviceRequests: allGPUs()}}
}

// published is a host configuration with the server's port on a port of the
// machine's loopback, and the GPUs.
func published(port string) *container.HostConfig {
	host := withGPUs()
	host.PortBindings = network.PortMap{network.MustParsePort("8000/tcp"): {{HostPort: port}}}
	return host
}

// exposed are the ports that a host configuration publishes: the engine publishes
// none that the container doesn't expose.
func exposed(host *container.HostConfig) network.PortSet {
	ports := network.PortSet{}
	for port := range host.PortBindings {
		ports[port] = struct{}{}
	}
	return ports
}

func (r *rig) create(name string, host *container.HostConfig, cmd ...string) string {
	r.t.Helper()
	if len(cmd) == 0 {
		cmd = []string{testModel}
	}
	config := &container.Config{Image: testImage, Cmd: cmd, Env: []string{"VLLM_API_KEY=sk-secret"}, Labels: map[string]string{"shopper": "yes"}}
	if host != nil {
		config.ExposedPorts = exposed(host)
	}
	created, err := r.docker.ContainerCreate(r.ctx(), client.ContainerCreateOptions{Name: name, HostConfig: host, Config: config})
	if err != nil {
		r.t.Fatalf("creating %s: %v", name, err)
	}
	return created.ID
}

func (r *rig) start(id string) {
	r.t.Helper()
	if _, err := r.docker.ContainerStart(r.ctx(), id, client.ContainerStartOptions{}); err != nil {
		r.t.Fatalf("starting: %v", err)
	}
}

func (r *rig) inspect(id string) container.InspectResponse {
	r.t.Helper()
	got, err := r.docker.ContainerInspect(r.ctx(), id, client.ContainerInspectOptions{})
	if err != nil {
		r.t.Fatalf("inspecting: %v", err)
	}
	return got.Container
}

func (r *rig) logs(id string, options client.ContainerLogsOptions) (stdout, stderr string) {
	r.t.Helper()
	stream, err := r.docker.ContainerLogs(r.ctx(), id, options)
	if err != nil {
		r.t.Fatalf("logs: %v", err)
	}
	defer stream.Close()
	var out, errs bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &errs, stream); err != nil {
		r.t.Fatalf("logs: %v", err)
	}
	return out.String(), errs.String()
}

var everything = client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true}

// web talks to a port of the machine's loopback.
func (r *rig) web(port int) *http.Client {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return r.root.Dial(ctx, port)
	}}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// socket talks to the engine without the client.
func (r *rig) socket() *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.root.DockerSocket())
	}}
	r.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (r *rig) healthy(port int) bool {
	response, err := r.web(port).Get("http://machine/health")
	if err != nil {
		return false
	}
	_ = response.Body.Close()
	return response.StatusCode == http.StatusOK
}

func (r *rig) awaitReady(port int) {
	r.t.Helper()
	testkit.Eventually(r.t, "the server's health", func() bool { return r.healthy(port) })
}

func (r *rig) commands() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	for _, argv := range r.argv {
		b.WriteString(strings.Join(argv, " ") + "\n")
	}
	return b.String()
}

func gone(pid int) bool { return syscall.Kill(pid, 0) != nil }

func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error = %v, want one with %q", err, text)
	}
}
