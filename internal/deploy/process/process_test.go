package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

func TestMain(m *testing.M) {
	playRole()
	// This computer is the machine: its own firewall is kept from the launcher, but in a network that ends with the test.
	refusing := ""
	if os.Getenv(insideEnv) == "" {
		var err error
		if refusing, err = refuseFirewall(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if _, err := os.Stat(filepath.Join(refusing, "called")); refusing != "" && err == nil {
			fmt.Fprintln(os.Stderr, "a test wanted to change this computer's firewall")
			code = max(code, 1)
		}
		if refusing != "" {
			_ = os.RemoveAll(refusing)
		}
		os.Exit(code)
	}))
}

// refuseFirewall puts programs first on PATH that record their calls, in place of those that could change the firewall.
func refuseFirewall() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "refusing"); err != nil {
		return "", err
	}
	for _, name := range []string{"iptables", "ip6tables", "sudo"} {
		script := "#!/bin/sh\necho \"$0 $*\" >>" + host.Quote(filepath.Join(dir, "called")) + "\necho refused >&2\nexit 1\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700); err != nil {
			return dir, err
		}
	}
	return dir, os.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

const limit = 60 * time.Second

// local is this computer as a machine.
type local struct{}

func (local) Run(ctx context.Context, command host.Command) (host.Result, error) {
	// Quoted and read by a shell again, as on the other end of an SSH connection.
	run := exec.CommandContext(ctx, "/bin/sh", "-c", host.Quote(command.Args...))
	var stdout, stderr bytes.Buffer
	run.Stdin, run.Stdout, run.Stderr = command.Stdin, &stdout, &stderr
	err := run.Run()
	result := host.Result{Stdout: stdout.String(), Stderr: stderr.String(), ExitCode: run.ProcessState.ExitCode()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && ctx.Err() == nil {
		return result, nil
	}
	return result, err
}

func (local) Pipe(context.Context, ...string) (net.Conn, error) { return nil, errors.ErrUnsupported }

func (local) DialContext(context.Context, string, string) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	return ctx
}

func needsLinux(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("SKIPPED: no /proc on this system")
	}
}

// start starts a script as a server, and makes sure that it ends.
func start(t *testing.T, script string, environment map[string]string, arguments ...string) (*Host, deploy.Ref) {
	t.Helper()
	return startRelease(t, "", script, deploy.Wanted{Arguments: arguments, Environment: environment})
}

// startRelease starts a script as a server of a release of vLLM.
func startRelease(t *testing.T, release, script string, wanted deploy.Wanted) (*Host, deploy.Ref) {
	t.Helper()
	needsLinux(t)
	base := t.TempDir()
	h, err := At(local{}, Options{Directory: base}, "")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(base, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	h.Program.Path, h.Program.Release = program, release
	wanted.Name, wanted.Owner = "test", "o"
	ref, err := h.Start(within(t), wanted)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), limit)
		defer cancel()
		if _, err := h.end(ctx, ref.Directory, deploy.Stop{Force: true}); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return h, ref
}

func inspect(t *testing.T, h *Host, ref deploy.Ref) deploy.Status {
	t.Helper()
	status, err := h.Inspect(within(t), ref)
	if err != nil {
		t.Fatal(err)
	}
	return status
}

// A server that ignores TERM is ended, with all that it started.
func TestWholeGroupIsKilled(t *testing.T) {
	t.Parallel()
	const script = `
trap '' TERM
(trap '' TERM; while :; do sleep 0.2; done) &
echo ready
while :; do sleep 0.2; done
`
	h, ref := start(t, script, nil)
	testkit.Eventually(t, "the server's start", func() bool {
		log, err := h.Log(within(t), ref, 5)
		return err == nil && len(log) > 0
	})
	if status := inspect(t, h, ref); status.State != deploy.Running {
		t.Fatalf("state %s", status.State)
	}
	pid, _, _ := strings.Cut(ref.ID, "-")
	if members := session(t, pid); len(members) < 3 {
		t.Fatalf("supervisor, server and child should run: %v", members)
	}
	if _, err := h.end(within(t), ref.Directory, deploy.Stop{Force: true}); err != nil {
		t.Fatal(err)
	}
	if left := session(t, pid); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if status := inspect(t, h, ref); status.State != deploy.Exited {
		t.Errorf("state %s", status.State)
	}
	if err := h.remove(within(t), ref.Directory); err != nil {
		t.Fatal(err)
	}
	if status := inspect(t, h, ref); status.State != deploy.Gone {
		t.Errorf("state %s", status.State)
	}
	if _, err := h.end(within(t), ref.Directory, deploy.Stop{Force: true}); err != nil {
		t.Errorf("stopping what is gone: %v", err)
	}
}

// session lists the living members of a session, by asking ps rather than the launcher.
func session(t *testing.T, pid string) []string {
	t.Helper()
	output, err := exec.CommandContext(within(t), "ps", "-o", "pid=,stat=", "--sid", pid).Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Skip("SKIPPED: no ps on this machine")
	}
	var members []string
	for line := range strings.Lines(string(output)) {
		if fields := strings.Fields(line); len(fields) == 2 && !strings.HasPrefix(fields[1], "Z") {
			members = append(members, line)
		}
	}
	return members
}

// After a reboot a server's pid and session may be others': the server has ended, and the others are not touched.
func TestAfterARebootOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	h, ref := start(t, "exec sleep 600\n", nil)
	if _, err := h.end(within(t), ref.Directory, deploy.Stop{Force: true}); err != nil {
		t.Fatal(err)
	}
	// A daemon, as daemons used to be: the leader of its session has ended.
	output, err := exec.CommandContext(within(t), "setsid", "sh", "-c", "sleep 600 >/dev/null 2>&1 & echo $$ $!").Output()
	leader, daemon, ok := strings.Cut(strings.TrimSpace(string(output)), " ")
	if err != nil || !ok {
		t.Fatalf("%q, %v", output, err)
	}
	running := func() bool { return len(session(t, leader)) == 1 }
	t.Cleanup(func() {
		if pid, err := strconv.Atoi(daemon); err == nil && t.Failed() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	place := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(ref.Directory, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ours := read(t, filepath.Join(ref.Directory, "boot"))
	place("identity", leader+" 1\n")
	place("boot", "00000000-0000-0000-0000-000000000000 1\n")
	ref.ID = leader + "-1"
	if status := inspect(t, h, ref); status.State != deploy.Exited {
		t.Errorf("state %s", status.State)
	}
	if _, err := h.end(within(t), ref.Directory, deploy.Stop{Force: true}); err != nil || !running() {
		t.Fatalf("stopped with %v; another's process runs: %t", err, running())
	}
	// In the same boot the same numbers are the server's own.
	place("boot", ours)
	if _, err := h.end(within(t), ref.Directory, deploy.Stop{Force: true}); err != nil || running() {
		t.Errorf("stopped with %v; the session is left: %t", err, running())
	}
}

// After a reboot, a process with the server's pid isn't the server, even with the same start time.
func TestAfterARebootTheServerHasEnded(t *testing.T) {
	t.Parallel()
	h, ref := start(t, "exec sleep 600\n", nil)
	path := filepath.Join(ref.Directory, "boot")
	ours := read(t, path)
	if err := os.WriteFile(path, []byte("another 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status := inspect(t, h, ref); status.State != deploy.Exited {
		t.Errorf("state %s", status.State)
	}
	if err := os.WriteFile(path, []byte(ours), 0o600); err != nil { // for the one that does run
		t.Fatal(err)
	}
	if status := inspect(t, h, ref); status.State != deploy.Running {
		t.Errorf("state %s", status.State)
	}
}

// A log that is too large loses its beginning, and its writer continues.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	needsLinux(t)
	file := filepath.Join(t.TempDir(), "a log")
	log, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	line := strings.Repeat("x", 99) + "\n"
	if _, err := log.WriteString("the first line\n" + strings.Repeat(line, 9)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(within(t))
	bound := exec.CommandContext(ctx, "sh", "-s", "--", "bound", file, "1000", "0.05")
	bound.Stdin = strings.NewReader(launcherScript)
	if err := bound.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = bound.Wait() // it was killed
	}()
	if _, err := log.WriteString(line); err != nil { // too much now
		t.Fatal(err)
	}
	testkit.Eventually(t, "a shorter log", func() bool { return len(read(t, file)) == 500 })
	if _, err := log.WriteString("the last line\n"); err != nil {
		t.Fatal(err)
	}
	if text := read(t, file); len(text) != 514 || !strings.HasSuffix(text, line+"the last line\n") {
		t.Errorf("the log is %d bytes: %q", len(text), text)
	}
}

// A server gets TERM before KILL.
func TestServerMayEndByItself(t *testing.T) {
	t.Parallel()
	h, ref := start(t, "trap 'echo bye; exit 0' TERM\necho ready\nwhile :; do sleep 0.05; done\n", nil)
	said := func(word string) bool {
		log, err := h.Log(within(t), ref, 5)
		return err == nil && slices.Contains(log, word)
	}
	testkit.Eventually(t, "the server's start", func() bool { return said("ready") })
	if _, err := h.end(within(t), ref.Directory, deploy.Stop{}); err != nil {
		t.Fatal(err)
	}
	if !said("bye") {
		t.Error("it was killed without being asked")
	}
}

func TestExitCodeIsTold(t *testing.T) {
	t.Parallel()
	h, ref := start(t, "echo 'last words'\nexit 42\n", nil)
	testkit.Eventually(t, "the end", func() bool { return inspect(t, h, ref).State == deploy.Exited })
	status := inspect(t, h, ref)
	if status.ExitCode != 42 || status.RestartCount != 0 || status.RestartLoop {
		t.Errorf("status %+v", status)
	}
	testkit.Eventually(t, "the end of its log", func() bool {
		log, err := h.Log(within(t), ref, 10)
		return err == nil && slices.Equal(log, []string{"last words", deploy.EndLine + "with exit code 42"})
	})
}

// A settled server that dies is restarted by the same supervisor.
func TestSupervisorRestartsAndCounts(t *testing.T) {
	t.Parallel()
	h, ref := start(t, "sleep 0.5\nexit 1\n", nil)
	if err := h.Settle(within(t), ref); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "a restart loop", func() bool { return inspect(t, h, ref).RestartLoop })
	status := inspect(t, h, ref)
	if status.ID != ref.ID || status.RestartCount < loopRestarts || status.ExitCode != 1 || !status.RestartsItself {
		t.Errorf("status %+v", status)
	}
	pid, _, _ := strings.Cut(ref.ID, "-")
	if _, err := h.end(within(t), ref.Directory, deploy.Stop{}); err != nil {
		t.Fatal(err)
	}
	if left := session(t, pid); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// A restored server has its old environment, which was only in memory.
func TestSetAsideAndRestore(t *testing.T) {
	t.Parallel()
	environment := map[string]string{"VLLM_API_KEY": "planted-key", "OTHER": "line one\nline 'two' $(x)\n"}
	h, ref := start(t, `printf '%s|%s|%s\n' "$VLLM_API_KEY" "$OTHER" "$1" >"$0.out"; exec sleep 600`, environment, "an $argument")
	out := filepath.Join(h.base, "program.out")
	want := "planted-key|line one\nline 'two' $(x)\n|an $argument\n"
	testkit.Eventually(t, "the first start", func() bool { return read(t, out) == want })
	if err := os.WriteFile(filepath.Join(ref.Directory, "log"), []byte("INFO:     Application startup complete.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	aside, err := h.SetAside(within(t), ref, deploy.Stop{})
	if err != nil || !aside.WasRunning || aside.APIKey != "planted-key" {
		t.Fatalf("aside %+v, %v", aside, err)
	}
	if err := os.Remove(out); err != nil {
		t.Fatal(err)
	}
	restored, err := aside.Restore(within(t))
	if err != nil || restored.ID == ref.ID {
		t.Fatalf("restored as %s, %v", restored.ID, err)
	}
	log, err := h.Log(within(t), restored, 10) // at once: progress is read from it
	if err != nil || vllm.Progress(log) != vllm.PhaseImporting {
		t.Errorf("the second start begins at %q, %v: %q", vllm.Progress(log), err, log)
	}
	testkit.Eventually(t, "the second start", func() bool { return read(t, out) == want })
	// Once more, as after an answer that was lost: the one that runs makes room first.
	if again, err := aside.Restore(within(t)); err != nil || again.ID == restored.ID {
		t.Fatalf("restored again as %s, %v", again.ID, err)
	}
	pid, _, _ := strings.Cut(restored.ID, "-")
	if left := session(t, pid); len(left) > 0 {
		t.Errorf("of the one of before are left: %v", left)
	}
	// No file but what the script itself wrote holds the key.
	_ = filepath.WalkDir(h.base, func(path string, entry os.DirEntry, _ error) error {
		if path != out && entry.Type().IsRegular() && strings.Contains(read(t, path), "planted-key") {
			t.Errorf("the key is in %s", path)
		}
		return nil
	})
}

// While a server drains, only the server itself is signaled; what is left afterwards is ended.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	const program = `worker() { trap 'echo cut >>"$0.out"; exit' TERM; echo up >>"$0.out"; while :; do sleep 0.05; done; }
worker & worker=$!
told=0
trap 'told=$((told + 1)); sleep 0.5; [ "$told" -lt "$ENDS" ] || { echo drained >>"$0.out"; kill -s KILL $worker; exit 0; }' TERM
while :; do sleep 0.05; done`
	for name, test := range map[string]struct {
		ends  string
		drain time.Duration
		want  string
	}{
		"let end":        {"1", time.Minute, "up\ndrained\n"},
		"takes too long": {"2", time.Second, "up\ncut\n"},
		"not at all":     {"1", 0, "up\ncut\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, ref := start(t, program, map[string]string{"ENDS": test.ends})
			out := filepath.Join(h.base, "program.out")
			testkit.Eventually(t, "the worker", func() bool { return read(t, out) == "up\n" })
			begun := time.Now()
			if _, err := h.end(within(t), ref.Directory, deploy.Stop{Drain: test.drain}); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took > 15*time.Second {
				t.Errorf("stopped after %s", took)
			}
			if got := read(t, out); !strings.HasPrefix(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}

// A server whose variables are incomplete isn't started: without its key it would answer anybody.
func TestCutOffEnvironmentStartsNothing(t *testing.T) {
	t.Parallel()
	h, ref := start(t, `echo started >>"$0.out"; exec sleep 600`, nil)
	out := filepath.Join(h.base, "program.out")
	testkit.Eventually(t, "the first start", func() bool { return read(t, out) != "" })
	if _, err := h.end(within(t), ref.Directory, deploy.Stop{Force: true}); err != nil {
		t.Fatal(err)
	}
	result, err := local{}.Run(within(t), host.Command{
		Args:  []string{"sh", filepath.Join(ref.Directory, "launcher.sh"), "start", ref.Directory, filepath.Join(h.base, "program")},
		Stdin: strings.NewReader(encodeEnvironment(map[string]string{"A": "b", "VLLM_API_KEY": "key"})),
	})
	if err != nil || result.ExitCode != 5 || !strings.Contains(result.Stderr, "variables") {
		t.Errorf("%+v, %v", result, err)
	}
	if said := read(t, out); said != "started\n" {
		t.Errorf("it was started: %q", said)
	}
}

func TestDeleteKeepsToItsDirectory(t *testing.T) {
	t.Parallel()
	h := &Host{machine: local{}, base: "/nowhere/base"}
	const servers = "/nowhere/base/servers"
	for _, directory := range []string{
		"", "/", "/nowhere", servers, servers + "/..", "/etc/x/y", servers + "/-rf.12345678", servers + "/vllm-8000",
		servers + "/../../servers/vllm-8000.12345678", "servers/vllm-8000.12345678", servers + "/vllm-8000.12345678/log",
	} {
		if err := h.remove(within(t), directory); err == nil {
			t.Errorf("removed %q", directory)
		}
	}
}
