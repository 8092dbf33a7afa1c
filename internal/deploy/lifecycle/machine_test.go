package lifecycle_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/engine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/tool"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

func TestMain(m *testing.M) {
	tool.Main(map[string]tool.Program{tool.VLLM: vllmserver.Main})
	// The tests wait for servers and machines most of their time, so that more of them run at once than there are processors.
	_ = flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0))) // a flag that every test has
	goleak.VerifyTestMain(m)
}

// limit is how long anything in these tests may take before it has failed.
const limit = 60 * time.Second

const (
	testKey   = "sk-planted-api-key-4711"
	testToken = "hf_plantedTokenAbcdefgh1234567890"
	image     = "vllm/vllm-openai:v0.33.0"
)

// vm are the facts of a virtual machine with Docker and one GPU.
func vm() machinefs.Facts {
	return machinefs.Facts{
		User: "ubuntu", Docker: true,
		GPUs: []machinefs.GPU{{
			Name: "NVIDIA GeForce RTX 4090", UUID: "GPU-5f3c1a2b", MemoryMiB: 24564, ComputeCapability: "8.9",
		}},
		Driver: machinefs.DriverReady, DriverVersion: "580.95.05", CUDAVersion: "13.0",
		DiskGB: 200, DiskFreeGB: 150, Speed: 300,
	}
}

// pod are the facts of a machine that is itself a container and has vLLM on its PATH.
func pod() machinefs.Facts {
	facts := vm()
	facts.Container, facts.User, facts.Docker = true, "root", false
	facts.VLLM.Installed = "0.33.0"
	return facts
}

// rig is a machine, its engine, and a connection to it.
type rig struct {
	*host.Client
	machine *machine.Machine
	engine  *engine.Engine
	config  host.Config
}

// newRig starts a machine, with images beyond those that every registry has.
func newRig(t *testing.T, facts machinefs.Facts, images ...engine.Image) *rig {
	t.Helper()
	signer, private := testkit.SSHKey(t)
	dir := testkit.Dir(t)
	m, err := machine.Start(machine.Options{
		Dir: dir, ID: "rig", Facts: facts, AuthorizedKeys: []string{string(ssh.MarshalAuthorizedKey(signer.PublicKey()))},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("closing the machine: %v", err)
		}
	})
	r := &rig{machine: m, config: host.Config{
		Host: m.Host(), Port: m.Port(), User: m.User(), PrivateKeys: []string{private}, HostKey: m.HostKey(),
	}}
	if facts.Docker || !facts.Container { // apt-get may bring its program later
		r.engine = serveEngine(t, m, images)
	}
	r.Client = r.dial(t)
	return r
}

func serveEngine(t *testing.T, m *machine.Machine, images []engine.Image) *engine.Engine {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.New(engine.Config{Root: m.Root(), Program: program, Record: m.Record, Images: images})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", m.Root().DockerSocket())
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: e, ReadHeaderTimeout: limit}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		e.Close()
		_ = server.Close()
		<-served
	})
	return e
}

// dial makes another connection to the machine.
func (r *rig) dial(t *testing.T) *host.Client {
	t.Helper()
	client, err := host.Dial(within(t, limit), r.config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// events keeps an operation's events.
type events struct {
	mu   sync.Mutex
	list []lifecycle.Event
	on   func(lifecycle.Event)
}

func (e *events) add(event lifecycle.Event) {
	e.mu.Lock()
	e.list = append(e.list, event)
	on := e.on
	e.mu.Unlock()
	if on != nil {
		on(event)
	}
}

func (e *events) text() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var text strings.Builder
	for _, event := range e.list {
		text.WriteString(string(event.Phase) + ": " + event.Message + "\n")
	}
	return text.String()
}

// request is a deployment in a container.
func request() lifecycle.Request {
	return lifecycle.Request{
		Name: "chat", Owner: "test/chat", Provider: "1.2.3",
		Spec: vllm.Spec{
			Model: "Qwen/Qwen2.5-7B-Instruct", ServedModelName: "chat", MaxModelLen: 4096, APIKey: testKey, HFToken: testToken,
		},
		Runtime:   deploy.Container,
		Container: container.Options{Image: image},
	}
}

// processRequest is the same deployment as a process.
func processRequest() lifecycle.Request {
	r := request()
	r.Runtime = deploy.Process
	r.Container = container.Options{}
	r.Process.Version = "0.33.0"
	return r
}

func launch(t *testing.T, r *rig, request lifecycle.Request) deploy.Status {
	t.Helper()
	begun := time.Now()
	seen := &events{on: func(e lifecycle.Event) { t.Logf("%5.2fs %s: %s", time.Since(begun).Seconds(), e.Phase, e.Message) }}
	request.Progress = seen.add
	status, err := lifecycle.Launch(within(t, limit), r, request)
	if err != nil {
		t.Fatalf("launching: %v\n%s\nprogress:\n%s", err, describe(err), seen.text())
	}
	noSecrets(t, r, seen.text())
	return status
}

func launchFails(t *testing.T, r *rig, request lifecycle.Request, timeout time.Duration) *deploy.Error {
	t.Helper()
	seen := &events{}
	if request.Progress == nil {
		request.Progress = seen.add
	}
	_, err := lifecycle.Launch(within(t, timeout), r, request)
	return wantError(t, r, err)
}

// wantError takes the typed error out of err and looks for secrets in it.
func wantError(t *testing.T, r *rig, err error) *deploy.Error {
	t.Helper()
	var failed *deploy.Error
	if !errors.As(err, &failed) {
		t.Fatalf("got %v (%T), want a *deploy.Error", err, err)
	}
	if r != nil {
		noSecrets(t, r, failed.Error(), failed.Description())
	}
	return failed
}

func describe(err error) string {
	var failed *deploy.Error
	if errors.As(err, &failed) {
		return failed.Description()
	}
	return ""
}

// noSecrets looks for the planted secrets in texts, in every command line that was ever run on the machine, and in
// those of the processes that run now.
func noSecrets(t *testing.T, r *rig, texts ...string) {
	t.Helper()
	texts = append(texts, r.machine.CommandLog()...)
	for _, pid := range r.machine.Root().Processes() {
		line, err := os.ReadFile("/proc/" + itoa(pid) + "/cmdline")
		if err == nil {
			texts = append(texts, string(line))
		}
	}
	for _, text := range texts {
		for _, secret := range []string{testKey, testToken} {
			if strings.Contains(text, secret) {
				t.Errorf("a secret is in: %q", text)
			}
		}
	}
}

// servers counts the vLLM processes of the machine.
func (r *rig) servers(t *testing.T) int {
	t.Helper()
	claims, err := r.machine.Root().Claims()
	if err != nil {
		t.Fatal(err)
	}
	return len(claims)
}

// answers asks the deployment a question, through the machine.
func answers(t *testing.T, r *rig, status deploy.Status, key string) error {
	t.Helper()
	transport := r.HTTPTransport()
	defer transport.CloseIdleConnections()
	client := vllm.NewClient(transport, "http://127.0.0.1:"+itoa(status.Port), key)
	_, err := client.Complete(within(t, limit), "chat")
	return err
}

func remove(t *testing.T, r *rig, status deploy.Status) {
	t.Helper()
	begun := time.Now()
	if warning, err := lifecycle.Remove(within(t, limit), r, status.Ref, lifecycle.Request{}); err != nil || warning != "" {
		t.Fatalf("removing: %v; %s", err, warning)
	}
	t.Logf("removed in %s", time.Since(begun))
	after, err := lifecycle.Inspect(within(t, limit), r, status.Ref)
	if err != nil || after.State != deploy.Gone {
		t.Fatalf("after the removal: %s, %v; want gone", after.State, err)
	}
	if n := r.servers(t); n != 0 {
		t.Errorf("%d servers are left", n)
	}
}

// containerInfo is what the engine lists of a container.
type containerInfo struct {
	ID     string `json:"Id"`
	Names  []string
	State  string
	Labels map[string]string
}

// api calls the machine's engine directly.
func (r *rig) api(t *testing.T, method, path, body string, out any) int {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.machine.Root().DockerSocket())
	}}
	req, err := http.NewRequestWithContext(within(t, limit), method, "http://engine"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if out != nil {
		if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

func (r *rig) containers(t *testing.T) []containerInfo {
	t.Helper()
	var list []containerInfo
	r.api(t, http.MethodGet, "/v1.41/containers/json?all=1", "", &list)
	return list
}

// clean checks that nothing of a deployment is left: no container, no server, no GPU memory.
func (r *rig) clean(t *testing.T) {
	t.Helper()
	if r.engine != nil {
		if left := r.containers(t); len(left) > 0 {
			t.Errorf("containers are left: %+v", left)
		}
	}
	if n := r.servers(t); n != 0 {
		t.Errorf("%d servers hold GPU memory", n)
	}
}

// facts changes the machine's facts.
func (r *rig) facts(t *testing.T, change func(*machinefs.Facts)) {
	t.Helper()
	if err := r.machine.SetFacts(change); err != nil {
		t.Fatal(err)
	}
}

// kinds are the two ways to run a deployment, each with a machine that suits it.
var kinds = []struct {
	name    string
	facts   func() machinefs.Facts
	request func() lifecycle.Request
}{
	{"container", vm, request},
	{"process", pod, processRequest},
}

// bothWays runs a test for both runtimes.
func bothWays(t *testing.T, test func(t *testing.T, r *rig, request func() lifecycle.Request)) {
	t.Helper()
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			test(t, newRig(t, kind.facts()), kind.request)
		})
	}
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("%q is missing in:\n%s", part, text)
		}
	}
}

func hasFinding(findings []deploy.Finding, code string, severity deploy.Severity) bool {
	return slices.ContainsFunc(findings, func(f deploy.Finding) bool { return f.Code == code && f.Severity == severity })
}
