package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// processesChecked is whether leftProcesses works on this system.
const processesChecked = true

// prSetChildSubreaper is PR_SET_CHILD_SUBREAPER of prctl(2).
const prSetChildSubreaper = 36

// adopt makes this process the parent of every descendant whose own parent has ended, so that descendants finds them all.
func adopt() {
	if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0); errno != 0 {
		fmt.Fprintln(os.Stderr, "test: can't watch for processes left behind:", errno)
	}
}

// grace is how long a process may take to end.
const grace = 5 * time.Second

// leftProcesses reports the processes that tests started and that still run now that all tests have ended, and kills them.
func leftProcesses() []failure {
	var left []failure
	killed := map[int]bool{}
	deadline := time.Now().Add(grace)
	for ; ; <-time.After(100 * time.Millisecond) {
		reap()
		running := descendants("/proc", os.Getpid())
		if len(running) == 0 {
			reap() // what ended since
			return left
		}
		if time.Now().Before(deadline) {
			continue
		}
		for _, p := range running {
			if killed[p.pid] {
				return append(left, failure{test: "could not end a process", output: fmt.Sprintf("%d: %s", p.pid, p.command)})
			}
			killed[p.pid] = true
			left = append(left, failure{test: "left a process running", output: fmt.Sprintf("%d: %s", p.pid, p.command)})
			_ = syscall.Kill(p.pid, syscall.SIGKILL) // if it still runs after another wait, that is reported
		}
		deadline = time.Now().Add(grace)
	}
}

// reap takes the exit states of adopted children that have ended.
func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if pid <= 0 || err != nil {
			return
		}
	}
}

// reapOthers takes the exit states of adopted children as they end, until stop is called: a test that asks whether a process is
// gone would still see a zombie. The child with the id mine is left to whoever started it.
func reapOthers(mine int) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(50 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				for _, pid := range zombies("/proc", os.Getpid()) {
					if pid != mine {
						_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
					}
				}
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// zombies returns the children of a process that have ended and whose exit states nobody has taken.
func zombies(proc string, parent int) []int {
	stats, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "stat"))
	if err != nil {
		return nil
	}
	var found []int
	for _, file := range stats {
		if p, err := readProcess(file); err == nil && p.parent == parent && p.state == 'Z' {
			found = append(found, p.pid)
		}
	}
	return found
}

type process struct {
	pid, parent int
	state       byte // as in proc(5)
	command     string
}

// descendants returns the processes below the process with the id root.
func descendants(proc string, root int) []process {
	stats, err := filepath.Glob(filepath.Join(proc, "[0-9]*", "stat"))
	if err != nil {
		return nil
	}
	children := map[int][]process{}
	for _, file := range stats {
		if p, err := readProcess(file); err == nil && p.state != 'Z' && p.state != 'X' {
			children[p.parent] = append(children[p.parent], p)
		}
	}
	var found []process
	for next := children[root]; len(next) > 0; next = next[1:] {
		found = append(found, next[0])
		next = append(next, children[next[0].pid]...)
	}
	return found
}

// readProcess reads /proc/PID/stat: "PID (NAME) STATE PARENT …", where the name may contain anything, even parentheses.
func readProcess(file string) (process, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return process{}, err
	}
	before, after := string(text), ""
	if at := strings.LastIndexByte(before, ')'); at >= 0 {
		before, after = before[:at], before[at+1:]
	}
	fields := strings.Fields(after)
	id, name, ok := strings.Cut(before, " (")
	if !ok || len(fields) < 2 {
		return process{}, fmt.Errorf("%s: %w", file, fs.ErrInvalid)
	}
	p := process{state: fields[0][0], command: name}
	if p.pid, err = strconv.Atoi(id); err != nil {
		return process{}, err
	}
	if p.parent, err = strconv.Atoi(fields[1]); err != nil {
		return process{}, err
	}
	line, err := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
	if err == nil && len(line) > 0 {
		p.command = strings.TrimSpace(strings.ReplaceAll(string(line), "\x00", " "))
	}
	return p, nil
}
