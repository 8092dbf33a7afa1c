package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// realOffers are one machine of each kind that are up at once.
func realOffers(n int) []Offer {
	offers := make([]Offer, 0, 2*n)
	for i := range n {
		at := func(cloud string) Offer {
			return Offer{
				ID: fmt.Sprintf("%s-%d", cloud, i), GPUType: "RTX 4090", PricePerHour: 0.4, CUDAVersion: 13,
				Machine: MachineSpec{Boot: Duration(time.Second)},
			}
		}
		offers = append(offers, at(VastAI), at(TensorDock))
	}
	return offers
}

// tenant is somebody with a running session on a real machine.
type tenant struct {
	client
	id, key string
}

func rentReal(t *testing.T, s *Sandbox, offer string) tenant {
	t.Helper()
	c := client{t: t, s: s}
	r := <-c.send(t.Context(), http.MethodPost, "/api/v1/sessions", order("c", offer))
	if r.status != http.StatusCreated {
		t.Fatalf("%d %s %v", r.status, r.text, r.err)
	}
	n := tenant{c, r.str("session", "id"), r.str("ssh_private_key")}
	testkit.Eventually(t, "the session to run", func() bool { return c.status(n.id) == statusRunning })
	return n
}

// login logs in as the service's answers say, and returns the host key that was seen.
func (n tenant) login() (*ssh.Client, string, error) {
	n.t.Helper()
	row, err := n.s.sessions.Get(n.id)
	if err != nil {
		n.t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey([]byte(n.key))
	if err != nil {
		n.t.Fatal(err)
	}
	var seen string
	client, err := ssh.Dial("tcp", fmt.Sprintf("%s:%d", row.Host, row.Port), &ssh.ClientConfig{
		User: row.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, Timeout: 10 * time.Second,
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			seen = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
			return nil
		},
	})
	return client, seen, err
}

// output runs a command on the machine.
func (n tenant) output(command string) string {
	n.t.Helper()
	client, _, err := n.login()
	if err != nil {
		n.t.Fatal(err)
	}
	defer client.Close()
	session, err := client.NewSession()
	if err != nil {
		n.t.Fatal(err)
	}
	defer session.Close()
	out, err := session.CombinedOutput(command)
	if err != nil {
		n.t.Fatalf("%s: %v: %s", command, err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestARentedMachineIsWhatItsOfferSays(t *testing.T) {
	t.Parallel()
	s := startSandbox(t, Options{Machines: Friendly, Speed: 300, Offers: realOffers(1)})
	vm, box := rentReal(t, s, "tensordock-0"), rentReal(t, s, "vastai-0")
	if got := vm.output("id -un; nvidia-smi -L | cut -d'(' -f1; sudo -n id -un"); got != "user\nGPU 0: NVIDIA GeForce RTX 4090 \nroot" {
		t.Errorf("the VM: %q", got)
	}
	if got := box.output("id -un; command -v docker || echo none"); got != "root\nnone" {
		t.Errorf("the container: %q", got)
	}
	if key := s.Machine(vm.id).HostKey(); key == s.Machine(box.id).HostKey() {
		t.Error("two machines have the same host key")
	}
	if s.Engine(vm.id) == nil || s.Engine(box.id) != nil {
		t.Error("the container engine is on the wrong machine")
	}
	if log := strings.Join(s.Machine(vm.id).CommandLog(), "\n"); !strings.Contains(log, "nvidia-smi -L") {
		t.Errorf("the record: %s", log)
	}
	if seen := s.Traffic(); seen.Logins < 3 || seen.Exchanges < 2 {
		t.Errorf("after two commands and the service's own look: %+v", seen)
	}
	stranger := vm
	stranger.key = box.key
	if _, _, err := stranger.login(); err == nil {
		t.Error("another session's key opens the machine")
	}
	if r := <-vm.send(t.Context(), http.MethodDelete, "/api/v1/sessions/"+vm.id, nil); r.status != http.StatusOK {
		t.Fatalf("%d %s", r.status, r.text)
	}
	if _, _, err := vm.login(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a machine that was destroyed: %v", err)
	}
	if s.Machine(vm.id) != nil {
		t.Error("it is still handed out")
	}
}

func TestTheDockerSocketAnswers(t *testing.T) {
	t.Parallel()
	s := startSandbox(t, Options{Machines: Friendly, Speed: 300, Offers: realOffers(1)})
	vm := rentReal(t, s, "tensordock-0")
	socket := s.Machine(vm.id).Root().DockerSocket()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	r := read((&http.Client{Transport: transport}).Get("http://docker/version"))
	if r.status != http.StatusOK || r.str("ApiVersion") == "" {
		t.Errorf("%d %s %v", r.status, r.text, r.err)
	}
}

func TestStrikesOnARealMachine(t *testing.T) {
	t.Parallel()
	s := startSandbox(t, Options{Machines: Friendly, Speed: 300, Offers: realOffers(1)})
	vm := rentReal(t, s, "tensordock-0")
	strike := func(fault Fault, value any) {
		t.Helper()
		if err := s.Strike(vm.id, fault, value); err != nil {
			t.Fatal(err)
		}
	}
	client, before, err := vm.login()
	if err != nil {
		t.Fatal(err)
	}
	strike(ChangeHostKey, nil)
	strike(ChangeAddress, nil)
	if err := client.Wait(); err == nil {
		t.Error("the connection survived the move")
	}
	row, _ := s.sessions.Get(vm.id)
	if again, after, err := vm.login(); err != nil || after == before || row.Port != s.Machine(vm.id).Port() {
		t.Errorf("after the move: %v, host key changed: %v", err, after != before)
	} else {
		_ = again.Close()
	}
	strike(LoseSSH, "10m")
	if _, _, err := vm.login(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("while SSH is lost: %v", err)
	}
	testkit.Eventually(t, "SSH to come back", func() bool {
		client, _, err := vm.login()
		if err == nil {
			_ = client.Close()
		}
		return err == nil
	})
	strike(DriverBuilding, "30m")
	if got := vm.output("nvidia-smi || echo failed"); !strings.HasSuffix(got, "failed") {
		t.Errorf("while the driver is being built: %s", got)
	}
	s.Advance(30 * time.Minute)
	if got := vm.output("nvidia-smi -L"); !strings.Contains(got, "RTX 4090") {
		t.Errorf("after that: %s", got)
	}
	strike(RefuseKey, nil)
	if _, _, err := vm.login(); err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
		t.Errorf("refused key: %v", err)
	}
}

func TestTheKeyIsToldOnceAndInFullLength(t *testing.T) {
	t.Parallel()
	f := new(fleet)
	s := startSandbox(t, Options{KeyBits: 2048, Machines: Friendly, Speed: 300, Offers: realOffers(1), start: f.start, login: f.login})
	n := rentReal(t, s, "vastai-0")
	signer, err := ssh.ParsePrivateKey([]byte(n.key))
	if err != nil {
		t.Fatal(err)
	}
	var fields struct {
		Name []byte
		E, N []byte
	}
	if err := ssh.Unmarshal(signer.PublicKey().Marshal(), &fields); err != nil || len(fields.N) != 257 {
		t.Errorf("modulus of %d bytes: %v", len(fields.N), err)
	}
	data, err := json.Marshal(n.get("/api/v1/sessions/" + n.id).body)
	if err != nil || strings.Contains(string(data), "PRIVATE KEY") {
		t.Error("the key is told twice")
	}
}

// TestAContainersStartsFailAsTheRulesSay starts the same container twice through
// the machine's engine: the first start is struck, the second isn't.
func TestAContainersStartsFailAsTheRulesSay(t *testing.T) {
	t.Parallel()
	s := startSandbox(t, Options{Machines: Friendly, Speed: 300, Offers: realOffers(1), Faults: []Rule{
		{Route: EventContainer, Nth: 1, Fault: FailStart, Value: "trust_remote_code"},
	}})
	vm := rentReal(t, s, "tensordock-0")
	socket := s.Machine(vm.id).Root().DockerSocket()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	docker := func(method, path, body string) reading {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://docker"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		r := read((&http.Client{Transport: transport}).Do(req))
		if r.err != nil || r.status >= 400 {
			t.Fatalf("%s %s: %d %s %v", method, path, r.status, r.text, r.err)
		}
		return r
	}
	docker(http.MethodPost, "/images/create?fromImage=vllm/vllm-openai&tag=v0.33.0", "")
	docker(http.MethodPost, "/containers/create?name=vllm", `{
		"Image": "vllm/vllm-openai:v0.33.0", "Cmd": ["Qwen/Qwen2.5-0.5B-Instruct", "--port", "8000"],
		"HostConfig": {"NetworkMode": "host", "DeviceRequests": [{"Count": -1, "Capabilities": [["gpu"]]}]}}`)
	docker(http.MethodPost, "/containers/vllm/start", "")
	if r := docker(http.MethodPost, "/containers/vllm/wait", ""); r.body["StatusCode"] == 0.0 {
		t.Errorf("the first start: %s", r.text)
	}
	if log := docker(http.MethodGet, "/containers/vllm/logs?stdout=1&stderr=1", ""); !strings.Contains(log.text, "trust_remote_code") {
		t.Errorf("its log: %s", log.text)
	}
	docker(http.MethodPost, "/containers/vllm/start", "")
	testkit.Eventually(t, "the second start to be ready", func() bool {
		return strings.Contains(docker(http.MethodGet, "/containers/vllm/logs?stdout=1&stderr=1", "").text, "Application startup complete")
	})
	if count := s.Faults()[0]; count.Matched != 2 || count.Struck != 1 {
		t.Errorf("counted %+v", count)
	}
	if log := strings.Join(s.Machine(vm.id).CommandLog(), "\n"); strings.Count(log, "Qwen/Qwen2.5-0.5B-Instruct") < 2 {
		t.Errorf("the record: %s", log)
	}
}
