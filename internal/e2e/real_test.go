//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// realVLLM names the directory that tools/realvllm has made.
const realVLLM = "SHOPPER_REAL_VLLM"

// realMachine is this computer behind a real sshd, with a real vLLM on its PATH.
type realMachine struct {
	world *world
	vllm  string // what tools/realvllm has made
	dir   string
	port  int
	user  string
}

// newRealMachine starts an sshd whose logins find vLLM, and keep what they write
// below the world's directory. It ends with the test.
func (w *world) newRealMachine(t *testing.T) *realMachine {
	t.Helper()
	vllm := os.Getenv(realVLLM)
	if vllm == "" {
		t.Skip("SKIPPED: " + realVLLM + " names no real vLLM; make test-vllm makes one")
	}
	sshd := ""
	for _, program := range []string{"sshd", "/usr/sbin/sshd"} {
		if path, err := exec.LookPath(program); err == nil {
			sshd = path
		}
	}
	if sshd == "" {
		t.Skip("SKIPPED: no sshd on this machine (Debian package openssh-server)")
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	m := &realMachine{world: w, vllm: vllm, dir: filepath.Join(w.dir, "m"), port: testkit.FreePort(t), user: me.Username}
	for _, dir := range []string{m.dir, m.home(), m.tmp(), m.file("bin")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// What the README's lines call.
	for name, command := range map[string]string{
		"terraform": built.cli,
		"python3":   filepath.Join(vllm, "venv", "bin", "python"),
		"ssh":       "/usr/bin/ssh -F none", // not as this computer's user has configured it
	} {
		if err := os.WriteFile(filepath.Join(m.file("bin"), name), []byte("#!/bin/sh\nexec "+command+` "$@"`+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if os.Geteuid() == 0 { // where it drops its privileges to; a service manager makes it otherwise
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"host", "client"} {
		must(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", m.file(name))
	}
	m.write(t, "config", fmt.Sprintf(`ListenAddress 127.0.0.1:%d
HostKey %s
AuthorizedKeysFile %s
PidFile none
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
SetEnv %s HOME=%s TMPDIR=%s DOCKER_HOST=%s PATH=%s:/usr/local/bin:/usr/bin:/bin
`, m.port, m.file("host"), m.file("client.pub"), w.mark(), m.home(), m.tmp(), os.Getenv("DOCKER_HOST"), filepath.Join(vllm, "bin")))
	server := exec.Command(sshd, "-D", "-e", "-f", m.file("config"))
	log := &output{}
	server.Stderr = log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		if t.Failed() {
			t.Logf("sshd's log ends with:\n%s", log.tail(20))
		}
	})
	eventually(t, func() error { return dial(m.port) })
	return m
}

func (m *realMachine) file(name string) string { return filepath.Join(m.dir, name) }
func (m *realMachine) home() string            { return m.file("home") }
func (m *realMachine) tmp() string             { return m.file("tmp") }

func (m *realMachine) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(m.file(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// realServer is a deployment of the tiny model on a real machine.
type realServer struct {
	*realMachine
	runtime string // arguments of the deployment that say how it runs
	model   string // where the server finds it
	port    int
	local   int // this computer's end of the tunnel
	// has tells whether a process is one of the server's.
	has func(pid int) bool
	// left returns what there is of the server besides processes and sockets.
	left func() []string
}

// config is the deployment, and what the README's lines read.
func (r *realServer) config(arguments ...string) string {
	return fmt.Sprintf(`resource "shopper_vllm_deployment" "a" {
  ssh = {
    host        = "127.0.0.1"
    port        = %d
    user        = %q
    private_key = file(%q)
    host_key    = trimspace(file(%q))
  }
  model             = %q
  served_model_name = "Qwen/Qwen2.5-7B-Instruct"
  port              = %d
  env               = { VLLM_CPU_KVCACHE_SPACE = "1", HF_HUB_OFFLINE = "1", VLLM_NO_USAGE_STATS = "1", VLLM_CACHE_ROOT = %q }
  %s
}
`, r.realMachine.port, r.user, r.file("client"), r.file("host.pub"), r.model, r.port, r.file("cache"), strings.Join(append(arguments, r.runtime), "\n  ")) +
		fmt.Sprintf(`# The machine is this computer: the tunnel's two ends can't have one port.
output "tunnel_command" { value = replace(shopper_vllm_deployment.a.tunnel_command, "-L 127.0.0.1:%[1]d:", "-L 127.0.0.1:%[2]d:") }
output "base_url" { value = replace(shopper_vllm_deployment.a.base_url, "%[1]d", "%[2]d") }
output "api_key" {
  value     = shopper_vllm_deployment.a.api_key
  sensitive = true
}
output "private_key" {
  value     = file(%[3]q)
  sensitive = true
}
`, r.port, r.local, r.file("client"))
}

// readmeLines are what the README tells people to type in order to talk to their model.
func readmeLines(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "Then talk to the model.")
	_, rest, _ = strings.Cut(rest, "```sh\n")
	lines, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("the README doesn't say how to talk to a model")
	}
	return lines
}

// ask talks to the model by the README's lines as they stand: through a tunnel of the
// ssh program's, with curl and the official Python client, which comes with vLLM.
func (r *realServer) ask(t *testing.T, s *stack) {
	t.Helper()
	shell := exec.Command("bash", "-euc", "set -o pipefail\n"+readmeLines(t))
	shell.Dir = s.dir
	shell.Env = append(s.environment(), "PATH="+r.file("bin")+":"+os.Getenv("PATH"))
	said, err := os.Create(filepath.Join(s.dir, "said")) // a file, which the tunnel may keep open
	if err != nil {
		t.Fatal(err)
	}
	shell.Stdout, shell.Stderr = said, said
	err = shell.Run()
	_ = said.Close()
	tunnel := fmt.Sprintf("127.0.0.1:%d:", r.local) // this server's: the other subtest has one too
	for _, p := range r.world.processes(t) {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid)) // it may have ended
		if p.command == "ssh" && bytes.Contains(line, []byte(tunnel)) {
			_ = syscall.Kill(p.pid, syscall.SIGTERM)
		}
	}
	text, _ := os.ReadFile(said.Name())
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	says(t, string(text), `"completion_tokens":`, "ChatCompletion(", "completion_tokens=")
}

// processes returns the server's with this word in their command line.
func (r *realServer) processes(t *testing.T, word string) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, file := range files {
		line, err := os.ReadFile(file)
		pid, convErr := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && convErr == nil && bytes.Contains(line, []byte(word)) && r.has(pid) {
			found = append(found, pid)
		}
	}
	return found
}

// listens returns the addresses, as /proc/net/tcp writes them, on which this computer listens for the server: its own
// processes and, for a container, which has its own network, the engine's.
func (r *realServer) listens(t *testing.T) []string {
	t.Helper()
	sockets := map[string]string{} // by inode
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		data, err := os.ReadFile(table)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			const address, state, inode, listening = 1, 3, 9, "0A"
			if fields := strings.Fields(line); len(fields) > inode && fields[state] == listening {
				sockets["socket:["+fields[inode]+"]"] = fields[address]
			}
		}
	}
	var found []string
	for _, pid := range slices.Concat(r.processes(t, "VLLM"), r.processes(t, "vllm"), r.publishers()) {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, file := range files {
			name, _ := os.Readlink(file) // it may be closed by now
			if address, ok := sockets[name]; ok {
				found = append(found, address)
			}
		}
	}
	return found
}

// publishers are the Docker engine's processes that publish the server's port.
func (r *realServer) publishers() []int {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var found []int
	for _, file := range files {
		line, _ := os.ReadFile(file) // it may have ended
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if words := strings.Split(string(line), "\x00"); strings.HasSuffix(words[0], "docker-proxy") && slices.Contains(words, strconv.Itoa(r.port)) {
			found = append(found, pid)
		}
	}
	return found
}

// process is a server that runs as a process. vLLM's own processes write their titles
// over their environment, by which the world's processes are known: what the launcher
// started is a session.
func (m *realMachine) process(t *testing.T) *realServer {
	t.Helper()
	directory, sessions := m.file("server"), map[int]bool{}
	return &realServer{
		realMachine: m, port: testkit.FreePort(t), local: testkit.FreePort(t), model: filepath.Join(m.vllm, "tiny"),
		runtime: fmt.Sprintf(`process = { install = "never", directory = %q }`, directory),
		has: func(pid int) bool {
			for _, p := range m.world.processes(t) {
				sessions[sessionOf(p.pid)] = true
			}
			session := sessionOf(pid)
			return session > 0 && sessions[session]
		},
		left: func() []string {
			files, _ := filepath.Glob(filepath.Join(directory, "servers", "*"))
			return files
		},
	}
}

// container is a server in a container of this computer's Docker engine. Its image holds
// what vLLM needs of the operating system; vLLM itself is mounted as its cache.
func (m *realMachine) container(t *testing.T) *realServer {
	t.Helper()
	if exec.Command("docker", "version").Run() != nil {
		t.Skip("SKIPPED: no Docker engine on this machine")
	}
	const image = "shopper-e2e-vllm:cpu"
	must(t, "docker", "import", "-c", "ENV PATH=/usr/local/bin:/usr/bin:/bin", filepath.Join(m.vllm, "image.tar"), image)
	containers := func() []string {
		return strings.Fields(must(t, "docker", "ps", "-aq", "--no-trunc", "--filter", "ancestor="+image))
	}
	t.Cleanup(func() {
		for _, id := range containers() { // after a failure
			must(t, "docker", "rm", "-f", id)
		}
		must(t, "docker", "rmi", image)
		_ = os.Remove(filepath.Join(filepath.Dir(m.vllm), "huggingface")) // the other half of the cache, empty
	})
	return &realServer{
		realMachine: m, port: testkit.FreePort(t), local: testkit.FreePort(t), model: "/root/.cache/vllm/tiny",
		runtime: fmt.Sprintf(`container = { image = %q, pull_policy = "never", gpus = "none", cache = %q }`, image, filepath.Dir(m.vllm)),
		has: func(pid int) bool {
			group, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
			return slices.ContainsFunc(containers(), func(id string) bool { return bytes.Contains(group, []byte(id)) })
		},
		left: containers,
	}
}

// sessionOf is a process's session, 0 where it can't be told, or is this test's.
func sessionOf(pid int) int {
	own, _ := unix.Getsid(0)
	session, err := unix.Getsid(pid)
	if err != nil || session == own {
		return 0
	}
	return session
}

// sharedMemory lists what is in /dev/shm and no process uses.
func sharedMemory() []string {
	var used strings.Builder
	processes, _ := filepath.Glob("/proc/[0-9]*/maps")
	for _, file := range processes {
		maps, _ := os.ReadFile(file) // it may have ended
		used.Write(maps)
	}
	files, _ := filepath.Glob("/dev/shm/*")
	return slices.DeleteFunc(files, func(file string) bool { return strings.Contains(used.String(), file) })
}

// The main job on a real vLLM, behind a real sshd, as a process and as a container: it
// is applied, answers, comes back after its engine was killed, is updated, keeps the old
// server when an update fails, and is gone after the destroy.
func TestE2ERealVLLM(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.newRealMachine(t)
	memory := sharedMemory()
	t.Cleanup(func() {
		for _, file := range sharedMemory() {
			if info, err := os.Stat(file); err == nil && !slices.Contains(memory, file) {
				t.Errorf("%s is left, %d MB of memory", file, info.Size()>>20)
				_ = os.Remove(file)
			}
		}
	})
	for name, server := range map[string]func(*testing.T) *realServer{"process": m.process, "container": m.container} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server(t).mainJob(t, w.newStack(t, name))
		})
	}
}

func (r *realServer) mainJob(t *testing.T, s *stack) {
	t.Helper()
	t.Cleanup(func() {
		for _, pid := range append(r.processes(t, "VLLM"), r.processes(t, "vllm")...) { // after a failure
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	s.longer = 15 * time.Minute
	const eager = `args = ["--enforce-eager"]`
	s.write(t, r.config("max_model_len = 512", eager))
	ready := r.readyAt(t)
	s.apply(t)
	t.Logf("FIGURE: told %s after the model was ready, its first answer and the CLI's end included", r.since(<-ready))
	r.ask(t, s)
	s.unchanged(t)
	sockets := r.listens(t)
	if len(sockets) == 0 {
		t.Error("no socket is the server's")
	}
	for _, address := range sockets {
		if !strings.HasPrefix(address, "0100007F:") { // 127.0.0.1
			t.Errorf("a private server listens on %s", address)
		}
	}

	engines := r.processes(t, "EngineCore")
	if len(engines) == 0 {
		t.Fatal("no process is the engine's")
	}
	for _, pid := range engines {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	slowly(t, func() error { // another is started
		if now := r.processes(t, "EngineCore"); len(now) == 0 || slices.Equal(now, engines) {
			return fmt.Errorf("the engine's processes are %v", now)
		}
		return healthy(r.port)
	})
	s.apply(t) // waits until it answers, if it doesn't yet
	r.ask(t, s)

	s.write(t, r.config("max_model_len = 256", eager))
	begun := time.Now()
	s.apply(t)
	t.Logf("FIGURE: updated in place in %s", r.since(begun))
	if served := fmt.Sprint(s.deployment(t)["served_max_model_len"]); served != "256" {
		t.Errorf("the updated server's context is %s", served)
	}
	r.ask(t, s)

	s.write(t, r.config("max_model_len = 256", `args = ["--enforce-eager"]`, `tool_call_parser = "none-such"`))
	says(t, s.must(t, 1, applyArgs...), "none-such")
	r.ask(t, s)

	begun = time.Now()
	s.destroy(t)
	t.Logf("FIGURE: destroyed in %s", r.since(begun))
	if left := append(r.processes(t, "VLLM"), r.processes(t, "vllm")...); len(left) > 0 {
		t.Errorf("these processes are left: %v", left)
	}
	if dial(r.port) == nil {
		t.Errorf("port %d is still listened on", r.port)
	}
	if left := r.left(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// readyAt finds out when the server, which doesn't run yet, becomes healthy.
func (r *realServer) readyAt(t *testing.T) <-chan time.Time {
	t.Helper()
	at := make(chan time.Time, 1)
	go func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for healthy(r.port) != nil {
			select {
			case <-tick.C:
			case <-t.Context().Done():
				return
			}
		}
		at <- time.Now()
	}()
	return at
}

func (r *realServer) since(begun time.Time) time.Duration {
	return time.Since(begun).Round(10 * time.Millisecond)
}

// deployment are the attributes of the one deployment.
func (s *stack) deployment(t *testing.T) map[string]any {
	t.Helper()
	for _, r := range s.state(t).Resources {
		if r.Type == "shopper_vllm_deployment" && len(r.Instances) == 1 {
			return r.Instances[0].Attributes
		}
	}
	t.Fatal("no deployment is in state")
	return nil
}

// slowly is eventually for what takes a real vLLM minutes.
func slowly(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(8 * time.Minute)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-tick.C
	}
}

// healthy asks the server: a container's port accepts connections before anything listens behind it.
func healthy(port int) error {
	response, err := (&http.Client{Timeout: 5 * time.Second}).Get(fmt.Sprintf("http://127.0.0.1:%d/health", port))
	if err == nil {
		_ = response.Body.Close()
	}
	return err
}

func dial(port int) error {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
	if err == nil {
		_ = conn.Close()
	}
	return err
}
