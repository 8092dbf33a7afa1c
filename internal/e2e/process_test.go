package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mark is the entry by which every process that a world's CLI starts is known.
func (w *world) mark() string { return "E2E_WORLD=" + w.dir }

// process is one that a world's CLI has started, or that CLI.
type process struct {
	pid     int
	command string // its program's base name
}

// processes are the world's, the sandbox and its machines aside.
func (w *world) processes(t *testing.T) []process {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	var found []process
	for _, file := range files {
		env, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(append([]byte{0}, env...), []byte("\x00"+w.mark()+"\x00")) {
			continue // gone, somebody else's, or not of this world
		}
		program, err := os.Readlink(filepath.Join(filepath.Dir(file), "exe"))
		pid, convErr := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err == nil && convErr == nil {
			found = append(found, process{pid, filepath.Base(program)})
		}
	}
	return found
}

// providers are the world's provider processes.
func (w *world) providers(t *testing.T) []process {
	t.Helper()
	var found []process
	for _, p := range w.processes(t) {
		if strings.HasPrefix(p.command, providerName) {
			found = append(found, p)
		}
	}
	return found
}

// needProc skips a test where a process can't be found by what started it.
func needProc(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/proc/self/environ"); err != nil {
		t.Skip("SKIPPED: there is no /proc, by which a provider's process is found")
	}
}

// killProviders ends the provider's processes as the operating system would.
func (w *world) killProviders(t *testing.T) {
	t.Helper()
	found := w.providers(t)
	if len(found) == 0 {
		t.Fatal("no provider is running")
	}
	for _, p := range found {
		if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatal(err)
		}
	}
}

// quiet waits until no process of the world is left, as it must be once its CLI
// has ended in whatever way.
func (w *world) quiet(t *testing.T) {
	t.Helper()
	eventually(t, func() error {
		if left := w.processes(t); len(left) > 0 {
			return fmt.Errorf("still running: %v", left)
		}
		return nil
	})
}

// endProcesses complains about processes that are left, and ends them by their ids.
func (w *world) endProcesses(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		left := w.processes(t)
		if len(left) == 0 {
			return
		}
		if time.Now().Before(deadline) && !t.Failed() {
			<-time.After(50 * time.Millisecond)
			continue
		}
		for _, p := range left {
			t.Errorf("left running: %d %s", p.pid, p.command)
			_ = syscall.Kill(p.pid, syscall.SIGKILL) // it may have ended meanwhile
		}
		return
	}
}
