package vllmserver_test

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// commandLines are the command lines of a machine's processes besides the server.
func commandLines(root machinefs.Root, server *exec.Cmd) map[string]int {
	lines := map[string]int{}
	for _, pid := range root.Processes() {
		data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		if err == nil && pid != server.Process.Pid {
			lines[strings.ReplaceAll(strings.TrimSuffix(string(data), "\x00"), "\x00", " ")] = pid
		}
	}
	return lines
}

// TestEngineIsKilled: the engine and the worker are processes of the server's own
// session, and a server ends without them as it was recorded.
func TestEngineIsKilled(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, victim, when string
		speed              float64
		code               int
		want               string
	}{
		{"engine, ready", "VLLM::EngineCore", facts.Ready, 2000, 0, "EngineDeadError"},
		{"worker, ready", "VLLM::Worker", facts.Ready, 2000, 0, "EngineDeadError"},
		{"engine, loading", "VLLM::EngineCore", "Initializing a V1 LLM engine", 20, 1, "See root cause above. Failed core proc(s): {}\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			root := newMachine(t, func(f *machinefs.Facts) { f.Speed = test.speed })
			s := &server{t: t, root: root, log: &output{}, done: make(chan struct{})}
			cmd := program(t, root, s.log, "serve", testModel)
			s.eventually("the start", func() bool { return strings.Contains(s.log.String(), test.when) })
			want := []string{"/opt/vllm/bin/python -B -c from multiprocessing.resource_tracker import main;main(31)", "VLLM::EngineCore", "VLLM::Worker"}
			var lines map[string]int
			s.eventually("the recorded processes", func() bool {
				lines = commandLines(root, cmd)
				return slices.Equal(slices.Sorted(maps.Keys(lines)), want)
			})
			victim := lines[test.victim]
			group, err := syscall.Getpgid(victim)
			if own, ownErr := syscall.Getpgid(cmd.Process.Pid); err != nil || ownErr != nil || group != own {
				t.Errorf("group %d, the server's is %d: %v, %v", group, own, err, ownErr)
			}
			if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // the code says it
			if code := cmd.ProcessState.ExitCode(); code != test.code || !strings.Contains(s.log.String(), test.want) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, test.code, test.want, s.log)
			}
			s.eventually("the others' end", func() bool { return len(commandLines(root, cmd)) == 0 })
		})
	}
}

// TestOpenSocket: the engine of an old release listens on all addresses besides, as it was recorded.
func TestOpenSocket(t *testing.T) {
	t.Parallel()
	for release, want := range map[string]int{"0.19.1": 1, "0.27.1": 1, "0.28.0": 0, "0.32.0": 0} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			root := newMachine(t, func(f *machinefs.Facts) { f.VLLM.Installed = release })
			s := &server{t: t, root: root, log: &output{}, done: make(chan struct{})}
			cmd := program(t, root, s.log, "serve", testModel)
			s.eventually("the start", func() bool { return strings.Contains(s.log.String(), facts.Ready) })
			engine := commandLines(root, cmd)["VLLM::EngineCore"]
			ports := listening(t, engine)
			if len(ports) != want || len(listening(t, cmd.Process.Pid)) > 0 {
				t.Fatalf("the engine %d listens on %v", engine, ports)
			}
		})
	}
}

// listening are the ports of all addresses that a process listens on.
func listening(t *testing.T, pid int) (ports []int) {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp6")
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
	for _, file := range files {
		name, _ := os.Readlink(file)
		for row := range strings.Lines(string(table)) {
			fields := strings.Fields(row)
			if name == "socket:["+fields[9]+"]" && fields[3] == "0A" && strings.Trim(fields[1][:32], "0") == "" {
				port, _ := strconv.ParseInt(fields[1][33:], 16, 32)
				ports = append(ports, int(port))
			}
		}
	}
	return ports
}

// TestTwoWorkers: processes and log of a server with two GPUs are those that were recorded of two workers.
func TestTwoWorkers(t *testing.T) {
	t.Parallel()
	tree, err := os.ReadFile("../facts/vllm/0.32.0/runs/two-workers.processes.txt")
	if err != nil {
		t.Fatal(err)
	}
	root := newMachine(t, func(f *machinefs.Facts) { f.GPUs = append(f.GPUs, f.GPUs[0]) })
	s := &server{t: t, root: root, log: &output{}, done: make(chan struct{})}
	run, _ := facts.Ended("0.32.0", "two-workers")
	cmd := program(t, root, s.log, run.Argv...)
	s.eventually("the start", func() bool { return strings.Contains(s.log.String(), facts.Ready) })
	for line := range commandLines(root, cmd) {
		if !strings.Contains(string(tree), " "+line+"\n") {
			t.Errorf("not recorded: %q", line)
		}
	}
	if lines := commandLines(root, cmd); len(lines) != strings.Count(string(tree), "\n")-2 { // but the heading and vllm itself
		t.Errorf("processes: %v, recorded:\n%s", lines, tree)
	}
	played := shapes(s.log.String())
	for _, want := range shapes(run.Log) {
		if !strings.HasPrefix(want, "(Worker") || strings.Contains(want, "Explicitly set (") { // a GPU's memory is measured
			continue
		}
		want, _, _ = strings.Cut(want, " distributed_init_method=") // a path that is random
		at := slices.IndexFunc(played, func(line string) bool { return strings.HasPrefix(line, want) })
		if at < 0 {
			t.Errorf("not played, or too seldom: %s", want)
			continue
		}
		played[at] = ""
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // how it ends is TestTERM's
}

// TestTERM: a server ends by it as it was recorded, which depends on the time. While it
// warms up it swallows one.
func TestTERM(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		when []string // a TERM after each
		code int
		want string
	}{
		{[]string{"non-default args"}, 130, "KeyboardInterrupt: terminated"},
		{[]string{"Warming up model", facts.Ready}, 0, "Application shutdown complete"},
		{[]string{facts.Ready}, 0, "Application shutdown complete"},
	} {
		t.Run(test.when[0], func(t *testing.T) {
			t.Parallel()
			s := &server{t: t, log: &output{}, done: make(chan struct{})}
			cmd := program(t, newMachine(t, func(f *machinefs.Facts) { f.Speed = 50 }), s.log, "serve", testModel)
			for _, when := range test.when {
				s.eventually("the start", func() bool { return strings.Contains(s.log.String(), when) })
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
			_ = cmd.Wait() // the code says it
			if code := cmd.ProcessState.ExitCode(); code != test.code || !strings.Contains(s.log.String(), test.want) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, test.code, test.want, s.log)
			}
		})
	}
}
