package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

const (
	servedModel = "Qwen/Qwen2.5-7B-Instruct"
	servedImage = "vllm/vllm-openai:v0.33.0"
)

// servingWorld is a world with one machine for each runtime: a VM with Docker, and
// a container that has vLLM. A model takes so long to load.
func servingWorld(t *testing.T, load time.Duration) *world {
	t.Helper()
	dir := t.TempDir()
	spec := sandbox.MachineSpec{
		Boot: sandbox.Duration(time.Second), MemoryMiB: 24564, ComputeCapability: "8.6",
		VLLM: machinefs.VLLM{Load: load, Installed: "0.33.0"},
	}
	offers := []sandbox.Offer{
		{ID: "bluelobster-1x-a5000", GPUType: "RTX A5000", GPUCount: 1, VRAMGB: 23, PricePerHour: 0.31, Machine: spec},
		{ID: "vastai-7", GPUType: "RTX 4090", GPUCount: 1, VRAMGB: 23, PricePerHour: 0.39, Reliability: 0.99, CUDAVersion: 12.9, Machine: spec},
	}
	data, err := json.Marshal(offers)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "offers.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return newWorld(t, "-offers", file)
}

// deployment is a server on the session "m".
func deployment(arguments ...string) string {
	return fmt.Sprintf(`
resource "shopper_vllm_deployment" "m" {
  session_id = shopper_gpu_session.m.id
  ssh        = shopper_gpu_session.m.ssh
  model      = %q
  %s
}
`, servedModel, strings.Join(arguments, "\n  "))
}

// roots are the directories of the world's machines.
func (w *world) roots(t *testing.T) []machinefs.Root {
	t.Helper()
	var found []machinefs.Root
	err := filepath.WalkDir(w.dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // it went meanwhile
		case err != nil:
			return err
		case entry.Name() == "facts.json":
			found = append(found, machinefs.Root(filepath.Dir(path)))
		case entry.IsDir() && strings.Count(strings.TrimPrefix(path, w.dir), "/") > 3:
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// serving are the processes that hold GPU memory on the world's machines.
func (w *world) serving(t *testing.T) []machinefs.Claim {
	t.Helper()
	var all []machinefs.Claim
	for _, root := range w.roots(t) {
		claims, err := root.Claims()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		all = append(all, claims...)
	}
	return all
}

// watch looks all the time whether two servers hold the GPU at once, until the
// returned function is called.
func (w *world) watch(t *testing.T) (stop func()) {
	t.Helper()
	ending := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ending:
				return
			case <-tick.C:
			}
			if claims := w.serving(t); len(claims) > 1 {
				t.Errorf("two servers on one GPU: %+v", claims)
				return
			}
		}
	})
	return func() {
		close(ending)
		watching.Wait()
	}
}

// logged waits until the provider's log tells of something.
func (e *execution) logged(t *testing.T, file, what string) {
	t.Helper()
	eventually(t, func() error {
		content, err := os.ReadFile(file)
		if bytes.Contains(content, []byte(what)) {
			return nil
		}
		select {
		case <-e.ended:
			t.Fatalf("%s ended without a word of %q:\n%s", e.args, what, e.out.String())
		default:
		}
		return fmt.Errorf("the log says nothing of %q: %w", what, err)
	})
}

// The provider is killed in each phase of a launch, of an update and of a removal, on
// both runtimes; a plain apply then recovers, and never do two servers hold the GPU.
func TestE2EDeploymentKilled(t *testing.T) {
	t.Parallel()
	for _, runtime := range []struct{ name, offer, arguments string }{
		{"container", "bluelobster-1x-a5000", `container = { image = "` + servedImage + `" }`},
		{"process", "vastai-7", `process = { install = "never" }`},
	} {
		for _, cycle := range []struct{ create, update string }{
			{"phase=preflight", "phase=stop"},
			{"phase=pull", "phase=start"},
			{"phase=start", "phase=load"},
			{"phase=load", "phase=completion"},
			{"phase=completion", "phase=preflight"},
			{answered, rollback},
			{"phase=ssh", "phase=ssh"},
			{"phase=load", "phase=pull"},
			{"phase=start", answered},
		} {
			t.Run(runtime.name+", "+cycle.create+", "+cycle.update, func(t *testing.T) {
				t.Parallel()
				w := servingWorld(t, 2*time.Minute)
				needProc(t)
				s := w.newStack(t, "s")
				machine := session("m", `offer_id = "`+runtime.offer+`"`)
				s.write(t, machine)
				s.apply(t)
				defer w.watch(t)()
				s.killedCycle(t, cycle.create, cycle.update, machine, runtime.arguments)
				if left := w.serving(t); len(left) > 0 {
					t.Fatalf("left after the removal: %+v", left)
				}
				s.destroy(t)
				w.quiet(t)
			})
		}
	}
}

// killedCycle creates, updates and removes a deployment with these arguments on the
// machine, each killed at its point. A removal is killed beside an answered update.
func (s *stack) killedCycle(t *testing.T, create, update, machine, arguments string) {
	t.Helper()
	s.write(t, machine, deployment(arguments))
	s.killed(t, create)
	s.recovers(t, "create, "+create)
	if update == rollback {
		s.write(t, machine, deployment(arguments, "max_model_len = 200000")) // more than the model can
		s.killed(t, update)
	}
	s.write(t, machine, deployment(arguments, "max_model_len = 4096"))
	if update != rollback {
		s.killed(t, update)
	}
	s.recovers(t, "update, "+update)
	s.write(t, machine)
	if update == answered {
		s.killed(t, removing)
	}
	s.apply(t)
}

const (
	// answered is what the log says when all that is left is to keep the server.
	answered = "the model answered"
	// removing is what it says when a server is about to be removed.
	removing = "removing the server"
	// rollback is what it says when the new server has failed and is gone.
	rollback = "restoring the old server"
)

// killed applies and kills the provider once its log tells of something. Only after
// the answer, and in a removal, it may have been too late to cut the run short.
func (s *stack) killed(t *testing.T, when string) {
	t.Helper()
	if when == "phase=completion" {
		s.world.hang(t, true)
		defer s.world.hang(t, false)
	}
	log := filepath.Join(s.dir, "provider.log")
	if err := os.RemoveAll(log); err != nil {
		t.Fatal(err)
	}
	s.env = []string{"TF_LOG_PROVIDER=INFO", "TF_LOG_PATH=" + log}
	e := s.start(t, applyArgs...)
	s.env = nil
	e.logged(t, log, when)
	if when == answered || when == removing {
		for _, p := range s.world.providers(t) {
			_ = syscall.Kill(p.pid, syscall.SIGKILL) // it may have ended
		}
		t.Logf("killed at %q: exit code %d", when, e.wait(t))
		return
	}
	s.world.killProviders(t)
	if code := e.wait(t); code == 0 {
		t.Errorf("%s: the run was not cut short:\n%s", when, e.out.String())
	}
}

// hang lets the servers that start from now on be healthy without ever answering.
func (w *world) hang(t *testing.T, on bool) {
	t.Helper()
	var rules []sandbox.Rule
	for _, root := range w.roots(t) {
		facts, err := root.ReadFacts()
		if err != nil {
			t.Fatal(err)
		}
		if facts.Docker {
			rules = []sandbox.Rule{{Route: sandbox.EventContainer, Fault: sandbox.Hang}}
			continue
		}
		facts.VLLM.Hang = on
		if err := root.WriteFacts(facts); err != nil {
			t.Fatal(err)
		}
	}
	if !on {
		rules = nil
	}
	w.faults(t, rules...)
}

// recovers applies again, after which one server runs and nothing is left to do.
func (s *stack) recovers(t *testing.T, when string) {
	t.Helper()
	code, text := s.run(t, applyArgs...)
	if code != 0 {
		t.Fatalf("%s: the next apply ended with exit code %d:\n%s", when, code, text)
	}
	s.unchanged(t)
	if serving := s.world.serving(t); len(serving) != 1 {
		t.Errorf("%s: %d servers hold the GPU: %+v", when, len(serving), serving)
	}
}

// planted are secrets, by the variable that gives each.
var planted = map[string]string{
	"api_key":  "sk-planted-api-key-4711",
	"token":    "hf_plantedTokenAbcdefgh1234567890",
	"password": "planted-registry-password-815",
	"key":      "", // made by the test
}

const secretVariables = `
variable "api_key" {
  type      = string
  sensitive = true
  ephemeral = %[1]t
}
variable "token" {
  type      = string
  sensitive = true
  ephemeral = %[1]t
}
variable "key" {
  type      = string
  sensitive = true
  ephemeral = %[1]t
}
variable "password" {
  type      = string
  sensitive = true
  ephemeral = %[1]t
}
`

// Planted secrets are looked for in every place that other people,
// or files, could have them from, for both runtimes.
func TestE2EDeploymentSecrets(t *testing.T) {
	t.Parallel()
	t.Run("container", func(t *testing.T) {
		t.Parallel()
		looksForSecrets(t, "bluelobster-1x-a5000", planted,
			`container = { image = "`+servedImage+`", registry_auth = { username = "me", password = var.password } }`)
	})
	t.Run("process", func(t *testing.T) {
		t.Parallel()
		given := maps.Clone(planted)
		delete(given, "password") // there is no registry
		looksForSecrets(t, "vastai-7", given, `process = { install = "never" }`)
	})
}

func looksForSecrets(t *testing.T, offer string, planted map[string]string, runtime string) {
	t.Helper()
	w := servingWorld(t, 20*time.Second)
	needProc(t)
	s := w.newStack(t, "s")
	certificate, key := testkit.Certificate(t, "127.0.0.1")
	write(t, filepath.Join(s.dir, "server.crt"), certificate)
	secrets := maps.Clone(planted)
	secrets["key"] = key
	machine := session("m", `offer_id = "`+offer+`"`)
	log := filepath.Join(s.dir, "trace.log")
	s.env = []string{"TF_LOG=TRACE", "TF_LOG_PATH=" + log, "TF_VAR_password=unused"}
	for name, value := range secrets {
		s.env = append(s.env, "TF_VAR_"+name+"="+value)
	}
	stop := w.watchCommandLines(t, maps.Clone(secrets))
	defer stop()

	s.write(t, fmt.Sprintf(secretVariables, true), machine, deployment(strings.ReplaceAll(runtime, "password =", "password_wo ="),
		"api_key_wo = var.api_key", "api_key_wo_version = 1", "hf_token_wo = var.token", "hf_token_wo_version = 1",
		"tls = { certificate = file(\"server.crt\"), private_key_wo = var.key, private_key_wo_version = 1 }"))
	plan := filepath.Join(s.dir, "plan")
	said := s.must(t, 0, "plan", "-out="+plan, "-input=false", "-no-color")
	said += s.must(t, 0, "apply", "-auto-approve", "-input=false", "-no-color", plan)
	written := slices.Collect(maps.Keys(secrets))
	s.nowhere(t, secrets, "plan file", planText(t, plan), written...)
	s.nowhere(t, secrets, "state", s.stateText(t), written...)
	s.nowhere(t, secrets, "what was said", said, written...)
	w.checkMachine(t, secrets)

	// Plainly given, each is in state in its own attribute, once, and nowhere else.
	s.write(t, fmt.Sprintf(secretVariables, false), machine, deployment(runtime, "api_key = var.api_key", "hf_token = var.token",
		"tls = { certificate = file(\"server.crt\"), private_key = var.key }", "max_model_len = 4096"))
	said = s.apply(t)
	// What fails says a lot: none of it is a secret.
	s.write(t, fmt.Sprintf(secretVariables, false), machine, deployment(runtime, "api_key = var.api_key", "hf_token = var.token",
		"tls = { certificate = file(\"server.crt\"), private_key = var.key }", "max_model_len = 200000"))
	said += s.must(t, 1, applyArgs...)
	says(t, said, "32768", "is running again")
	for name := range secrets {
		s.nowhere(t, secrets, "what was said", said, name)
		if n := strings.Count(s.stateText(t), encoded(t, secrets[name])); n != 1 {
			t.Errorf("%s is %d times in state, want once", name, n)
		}
	}
	w.checkMachine(t, secrets)
	trace, err := os.ReadFile(log)
	if err != nil || !bytes.Contains(trace, []byte("phase=completion")) {
		t.Fatalf("the trace tells nothing: %v", err)
	}
	private, ok := s.attributes(t, "m")["ssh"].(map[string]any)
	if !ok {
		t.Fatal("the session has no ssh")
	}
	secrets["session"] = fmt.Sprint(private["private_key"])
	for name := range secrets {
		s.nowhere(t, secrets, "the trace", string(trace), name)
	}
	s.destroy(t)
}

// nowhere fails the test when one of these secrets is part of a text.
func (s *stack) nowhere(t *testing.T, secrets map[string]string, where, text string, names ...string) {
	t.Helper()
	for _, name := range names {
		for _, form := range forms(t, secrets[name]) {
			if at := strings.Index(text, form); at >= 0 {
				t.Errorf("%s is in %s: …%.200q", name, where, text[max(0, at-150):at])
				break
			}
		}
	}
}

// forms are the ways in which a secret may be written: as it is, as JSON, and of a
// key its middle, on one line.
func forms(t *testing.T, secret string) []string {
	t.Helper()
	all := []string{secret, encoded(t, secret)}
	if lines := strings.Split(strings.TrimSpace(secret), "\n"); len(lines) > 2 {
		all = append(all, lines[len(lines)/2])
	}
	return all
}

// encoded is a text as it stands in JSON.
func encoded(t *testing.T, text string) string {
	t.Helper()
	data, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Trim(string(data), `"`)
}

func (s *stack) stateText(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(s.stateFile())
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// checkMachine looks at what the machines have recorded and what their engine tells
// of a container's command.
func (w *world) checkMachine(t *testing.T, secrets map[string]string) {
	t.Helper()
	recorded := 0
	for _, root := range w.roots(t) {
		commands, err := root.Commands()
		if err != nil {
			t.Fatal(err)
		}
		recorded += len(commands)
		for _, command := range commands {
			for name, secret := range secrets {
				if slices.ContainsFunc(forms(t, secret), func(form string) bool { return strings.Contains(command, form) }) {
					t.Errorf("%s is in a command on the machine: %s", name, command)
				}
			}
		}
		for _, line := range containerCommands(t, root) {
			for name, secret := range secrets {
				if strings.Contains(line, secret) {
					t.Errorf("%s is in a container's command: %s", name, line)
				}
			}
		}
	}
	if recorded == 0 {
		t.Error("no machine has recorded a command")
	}
}
