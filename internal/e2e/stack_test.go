package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	providerName = "terraform-provider-shopper"
	httpProvider = "terraform-provider-http" // the stand-in for another provider
)

// stack is a working directory of Terraform's, with a state of its own.
type stack struct {
	world *world
	dir   string
	url   string   // the service's, as the provider is told
	env   []string // what is added to the environment
	data  string   // TF_DATA_DIR
	// settings are further arguments of the provider.
	settings string
	longer   time.Duration // than other stacks' its commands may take
}

// newStack makes a working directory in which the built provider is used.
func (w *world) newStack(t *testing.T, name string) *stack {
	t.Helper()
	s := &stack{world: w, dir: filepath.Join(w.dir, name), url: w.url}
	s.data = filepath.Join(s.dir, ".terraform")
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("provider_installation {\n  dev_overrides {\n    \"cloud-gpu-shopper/shopper\" = %[1]q\n"+
		"    \"hashicorp/http\" = %[1]q\n  }\n  direct {}\n}\n", built.providers)
	if err := os.WriteFile(s.cliConfig(), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stack) cliConfig() string { return filepath.Join(s.dir, "cli.tfrc") }
func (s *stack) stateFile() string { return filepath.Join(s.dir, "terraform.tfstate") }
func (s *stack) journal() string   { return filepath.Join(s.data, "shopper") }

// write replaces the configuration by one with these blocks.
func (s *stack) write(t *testing.T, blocks ...string) {
	t.Helper()
	text := fmt.Sprintf(`terraform {
  required_providers {
    shopper = { source = "cloud-gpu-shopper/shopper" }
  }
}
provider "shopper" {
  url = %q
  %s
}
`, s.url, s.settings) + strings.Join(blocks, "\n")
	if err := os.WriteFile(filepath.Join(s.dir, "main.tf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// session is a resource of this name.
func session(name string, arguments ...string) string {
	if !strings.Contains(strings.Join(arguments, " "), "offer_id") {
		arguments = append(arguments, "requirements = {}")
	}
	return fmt.Sprintf("resource \"shopper_gpu_session\" %q {\n  name = %q\n  %s\n}\n", name, name, strings.Join(arguments, "\n  "))
}

// execution is a CLI at work.
type execution struct {
	stack *stack
	args  string
	cmd   *exec.Cmd
	out   output
	ended chan struct{}
}

// start starts the CLI in a process group of its own.
func (s *stack) start(t *testing.T, args ...string) *execution {
	t.Helper()
	e := &execution{stack: s, args: strings.Join(args, " "), ended: make(chan struct{})}
	e.cmd = exec.Command(built.cli, args...)
	e.cmd.Dir = s.dir
	e.cmd.Env = s.environment()
	e.cmd.Stdout, e.cmd.Stderr = &e.out, &e.out
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	e.cmd.WaitDelay = time.Second // a provider that outlives its CLI keeps the pipes open
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = e.cmd.Wait() // its state says it all
		close(e.ended)
	}()
	return e
}

// environment is what the stack's programs run in.
func (s *stack) environment() []string {
	env := append(cleanEnv(), s.world.mark(), "TF_CLI_CONFIG_FILE="+s.cliConfig(), "HOME="+s.world.home(),
		"TMPDIR="+s.world.tmp(), "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1")
	return append(env, s.env...)
}

// cleanEnv is the environment without what would change how the CLI or the
// provider behaves.
func cleanEnv() []string {
	var env []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "TF_") && !strings.HasPrefix(entry, "SHOPPER_") && !strings.HasPrefix(entry, "SSH_") {
			env = append(env, entry)
		}
	}
	return env
}

// wait waits for the CLI's end and returns its exit code, -1 where a signal
// ended it.
func (e *execution) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-e.ended:
	case <-time.After(2*patience + e.stack.longer):
		t.Fatalf("%s has not ended:\n%s", e.args, e.out.String())
	}
	return e.cmd.ProcessState.ExitCode()
}

// said waits until the CLI has printed text.
func (e *execution) said(t *testing.T, text string) {
	t.Helper()
	eventually(t, func() error {
		if strings.Contains(e.out.String(), text) {
			return nil
		}
		select {
		case <-e.ended:
			t.Fatalf("%s ended without saying %q:\n%s", e.args, text, e.out.String())
		default:
		}
		return fmt.Errorf("%s has not said %q:\n%s", e.args, text, e.out.String())
	})
}

// signal sends a signal to the CLI's process group.
func (e *execution) signal(t *testing.T, signal syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(-e.cmd.Process.Pid, signal); err != nil {
		t.Fatal(err)
	}
}

// run runs the CLI to its end.
func (s *stack) run(t *testing.T, args ...string) (code int, text string) {
	t.Helper()
	e := s.start(t, args...)
	code = e.wait(t)
	return code, plain(e.out.String())
}

// plain takes away how the CLI draws and wraps its diagnostics, which depends on
// its mood.
func plain(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Trim(line, "│╷╵ \r\n"))
	}
	return strings.Join(strings.Fields(strings.Join(lines, " ")), " ")
}

var (
	applyArgs   = []string{"apply", "-auto-approve", "-input=false", "-no-color"}
	destroyArgs = []string{"destroy", "-auto-approve", "-input=false", "-no-color"}
	planArgs    = []string{"plan", "-detailed-exitcode", "-input=false", "-no-color"}
)

// apply applies the configuration, which must work, and returns what was said.
func (s *stack) apply(t *testing.T, args ...string) string {
	t.Helper()
	return s.must(t, 0, append(applyArgs[:len(applyArgs):len(applyArgs)], args...)...)
}

func (s *stack) destroy(t *testing.T, args ...string) string {
	t.Helper()
	return s.must(t, 0, append(destroyArgs[:len(destroyArgs):len(destroyArgs)], args...)...)
}

// unchanged plans and wants to be told that there is nothing to do.
func (s *stack) unchanged(t *testing.T) {
	t.Helper()
	s.must(t, 0, planArgs...)
}

// must runs the CLI, which has to end with the exit code.
func (s *stack) must(t *testing.T, code int, args ...string) string {
	t.Helper()
	got, text := s.run(t, args...)
	if got != code {
		t.Fatalf("%s ended with exit code %d, want %d:\n%s", strings.Join(args, " "), got, code, text)
	}
	return text
}

// says checks that a text contains all of these.
func says(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("it doesn't say %q:\n%s", w, text)
		}
	}
}

// state is what a test reads of a state file.
type state struct {
	Resources []struct {
		Type      string `json:"type"`
		Name      string `json:"name"`
		Instances []struct {
			Status     string         `json:"status"`
			Attributes map[string]any `json:"attributes"`
		} `json:"instances"`
	} `json:"resources"`
}

func (s *stack) state(t *testing.T) state {
	t.Helper()
	var parsed state
	data, err := os.ReadFile(s.stateFile())
	if errors.Is(err, fs.ErrNotExist) {
		return parsed
	}
	if err == nil && len(data) > 0 {
		err = json.Unmarshal(data, &parsed)
	}
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// sessions are the ids of the sessions in state.
func (s *stack) sessions(t *testing.T) []string {
	t.Helper()
	var ids []string
	for _, r := range s.state(t).Resources {
		for _, instance := range r.Instances {
			if id, ok := instance.Attributes["id"].(string); ok && r.Type == "shopper_gpu_session" {
				ids = append(ids, id)
			}
		}
	}
	return ids
}

// attributes are those of the one session with this name in the configuration.
func (s *stack) attributes(t *testing.T, name string) map[string]any {
	t.Helper()
	for _, r := range s.state(t).Resources {
		if r.Type == "shopper_gpu_session" && r.Name == name && len(r.Instances) == 1 {
			return r.Instances[0].Attributes
		}
	}
	t.Fatalf("%s is not in state", name)
	return nil
}

// entries are the files of the journal's entries.
func (s *stack) entries(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.journal(), "*", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// must runs a program and returns what it prints.
func must(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return string(out)
}
