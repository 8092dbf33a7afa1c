//go:build linux

package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
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
	// sessions are those of the servers that were seen.
	sessions map[int]bool
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
	m := &realMachine{world: w, vllm: vllm, dir: filepath.Join(w.dir, "m"), port: freePort(t), user: me.Username, sessions: map[int]bool{}}
	for _, dir := range []string{m.dir, m.home(), m.tmp()} {
		if err := os.Mkdir(dir, 0o700); err != nil {
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
SetEnv %s HOME=%s TMPDIR=%s PATH=%s:/usr/local/bin:/usr/bin:/bin
`, m.port, m.file("host"), m.file("client.pub"), w.mark(), m.home(), m.tmp(), filepath.Join(vllm, "bin")))
	server := exec.Command(sshd, "-D", "-e", "-f", m.file("config"))
	log := &output{}
	server.Stderr = log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, pid := range m.server(t, "VLLM") { // after a failure
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
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
func (m *realMachine) model() string           { return filepath.Join(m.vllm, "tiny") }

func (m *realMachine) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(m.file(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// deployment is a server of the tiny model on the machine.
func (m *realMachine) deployment(port int, arguments ...string) string {
	return fmt.Sprintf(`resource "shopper_vllm_deployment" "a" {
  ssh = {
    host        = "127.0.0.1"
    port        = %d
    user        = %q
    private_key = file(%q)
    host_key    = trimspace(file(%q))
  }
  model             = %q
  served_model_name = "demo"
  port              = %d
  process           = { install = "never", directory = %q }
  env               = { VLLM_CPU_KVCACHE_SPACE = "1", HF_HUB_OFFLINE = "1", VLLM_NO_USAGE_STATS = "1" }
  %s
}
`, m.port, m.user, m.file("client"), m.file("host.pub"), m.model(), port, m.file("server"), strings.Join(arguments, "\n  "))
}

// ask asks the server through a tunnel of the ssh program's: by curl, and by the
// official Python client, which comes with vLLM.
func (m *realMachine) ask(t *testing.T, port int, key string) {
	t.Helper()
	local := freePort(t)
	tunnel := exec.Command("ssh", "-F", "none", "-i", m.file("client"), "-p", fmt.Sprint(m.port), "-o", "UserKnownHostsFile="+m.file("known"),
		"-o", "StrictHostKeyChecking=accept-new", "-o", "BatchMode=yes", "-N", "-L", fmt.Sprintf("127.0.0.1:%d:127.0.0.1:%d", local, port),
		m.user+"@127.0.0.1")
	if err := tunnel.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = tunnel.Process.Kill()
		_ = tunnel.Wait()
	}()
	eventually(t, func() error { return dial(local) })
	url := fmt.Sprintf("http://127.0.0.1:%d/v1", local)
	const question = `{"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}`
	m.write(t, "header", "Authorization: Bearer "+key)
	answer := must(t, "curl", "-sS", "--fail-with-body", "-H", "@"+m.file("header"), "-H", "Content-Type: application/json", "-d", question,
		url+"/chat/completions")
	if !strings.Contains(answer, `"completion_tokens"`) {
		t.Errorf("curl says %s", answer)
	}
	client := exec.Command(filepath.Join(m.vllm, "venv", "bin", "python"), "-c", `import openai
answer = openai.OpenAI().chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hello"}], max_tokens=8)
print(answer.usage.completion_tokens)`)
	client.Env = append(os.Environ(), "OPENAI_BASE_URL="+url, "OPENAI_API_KEY="+key)
	if out, err := client.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) == 0 {
		t.Errorf("the OpenAI client says %s, %v", out, err)
	}
}

// server returns the processes of the machine's servers with this word in their
// command line. vLLM's own processes write their titles over their environment, by
// which the world's processes are known: what the launcher started is a session.
func (m *realMachine) server(t *testing.T, word string) []int {
	t.Helper()
	for _, p := range m.world.processes(t) {
		if session := sessionOf(p.pid); session > 0 {
			m.sessions[session] = true
		}
	}
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, file := range files {
		line, err := os.ReadFile(file)
		pid, convErr := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && convErr == nil && bytes.Contains(line, []byte(word)) && m.sessions[sessionOf(pid)] {
			found = append(found, pid)
		}
	}
	return found
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

// sharedMemory lists what is in /dev/shm.
func sharedMemory() []string {
	files, _ := filepath.Glob("/dev/shm/*")
	return files
}

// The main job on a real vLLM, behind a real sshd: it is applied, answers, comes
// back after its engine was killed, is updated, keeps the old server when an update
// fails, and is gone after the destroy.
func TestE2ERealVLLM(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.newRealMachine(t)
	memory := sharedMemory()
	t.Cleanup(func() { // whatever happened before
		for _, file := range sharedMemory() {
			if info, err := os.Stat(file); err == nil && !slices.Contains(memory, file) {
				t.Errorf("%s is left, %d MB of memory", file, info.Size()>>20)
				_ = os.Remove(file)
			}
		}
	})
	s := w.newStack(t, "s")
	s.longer = 15 * time.Minute
	port := freePort(t)
	const eager = `args = ["--enforce-eager"]`
	s.write(t, m.deployment(port, "max_model_len = 512", eager))
	s.apply(t)
	key := fmt.Sprint(s.deployment(t)["api_key"])
	m.ask(t, port, key)
	s.unchanged(t)

	engines := m.server(t, "EngineCore")
	if len(engines) == 0 {
		t.Fatal("no process is the engine's")
	}
	for _, pid := range engines {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	slowly(t, func() error { // the supervisor starts another
		if now := m.server(t, "EngineCore"); len(now) == 0 || slices.Equal(now, engines) {
			return fmt.Errorf("the engine's processes are %v", now)
		}
		return dial(port)
	})
	s.apply(t) // waits until it answers, if it doesn't yet
	m.ask(t, port, key)

	s.write(t, m.deployment(port, "max_model_len = 256", eager))
	s.apply(t)
	if served := fmt.Sprint(s.deployment(t)["served_max_model_len"]); served != "256" {
		t.Errorf("the updated server's context is %s", served)
	}
	m.ask(t, port, key)

	s.write(t, m.deployment(port, "max_model_len = 256", `args = ["--enforce-eager", "--tool-call-parser", "none-such", "--enable-auto-tool-choice"]`))
	says(t, s.must(t, 1, applyArgs...), "none-such")
	m.ask(t, port, key)

	s.destroy(t)
	if left := append(m.server(t, "VLLM"), m.server(t, "vllm")...); len(left) > 0 {
		t.Errorf("these processes are left: %v", left)
	}
	if dial(port) == nil {
		t.Errorf("port %d is still listened on", port)
	}
	if files, _ := filepath.Glob(filepath.Join(m.file("server"), "servers", "*")); len(files) > 0 {
		t.Errorf("these files are left: %v", files)
	}
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

func dial(port int) error {
	conn, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
	if err == nil {
		_ = conn.Close()
	}
	return err
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		t.Fatal(errors.New("no port"))
	}
	return address.Port
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
