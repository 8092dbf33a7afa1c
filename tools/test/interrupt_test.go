package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asProgram names the variable that makes this test program run as the command.
const asProgram = "TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// hangs is a test whose process has started another in a separate group. It reports that one's id, then waits forever.
const hangs = `package hangs

import (
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
)

func Test(t *testing.T) {
	child := exec.Command("sleep", "1000")
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(%q, []byte(strconv.Itoa(child.Process.Pid)), 0); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
}
`

// An interrupted run prints the failures that it has seen, says that it was interrupted, and leaves no process.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	module := t.TempDir()
	started := filepath.Join(module, "started")
	if err := syscall.Mkfifo(started, 0o600); err != nil {
		t.Fatal(err)
	}
	reports, err := os.OpenFile(started, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reports.Close() }()
	if err := reports.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		"go.mod":              "module m\n\ngo 1.26\n",
		"fails/fails_test.go": "package fails\n\nimport \"testing\"\n\nfunc Test(t *testing.T) { t.Fatal(\"it is 3\") }\n",
		"hangs/hangs_test.go": fmt.Sprintf(hangs, started),
	} {
		file = filepath.Join(module, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), os.Args[0], "-tofu", "", "-terraform", "", "m/fails", "m/hangs")
	command.Dir = module
	command.Env = append(os.Environ(), asProgram+"=1")
	var printed bytes.Buffer
	command.Stdout = &printed
	stderr, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // if it fails before the interruption
		if command.ProcessState == nil {
			_ = command.Process.Signal(syscall.SIGTERM)
			_ = command.Wait()
		}
	})
	child := make([]byte, 32)
	n, err := reports.Read(child)
	if err != nil {
		t.Fatalf("the test that hangs has not started: %v", err)
	}
	child = child[:n]
	const failure = "FAIL m/fails Test [all packages]\n"
	seen := ""
	for buffer := make([]byte, 1024); !strings.Contains(seen, failure); {
		n, err := stderr.Read(buffer)
		if seen += string(buffer[:n]); err != nil {
			t.Fatalf("%v, after %q", err, seen)
		}
	}
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(stderr)
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Wait(); command.ProcessState.ExitCode() != 1 {
		t.Errorf("it ended with %v, want the exit code 1", err)
	}
	said := slices.Collect(strings.Lines(printed.String()))
	if last := said[len(said)-1]; !strings.HasPrefix(last, "Interrupted (terminated") {
		t.Errorf("the last line is %q", last)
	}
	if !strings.Contains(printed.String(), "FAILED: m/fails Test [all packages]\n") || !strings.Contains(printed.String(), "it is 3\n") ||
		!strings.Contains(printed.String(), "\n0 passed, 1 failed, 0 skipped\n") || strings.Contains(printed.String(), "FAILED: m/hangs") {
		t.Errorf("printed:\n%s\n%s%s", &printed, seen, rest)
	}
	pid, err := strconv.Atoi(string(child))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); processesChecked && err == nil {
		t.Errorf("a process of the interrupted test is still running")
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}
