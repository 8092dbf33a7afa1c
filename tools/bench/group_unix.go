//go:build unix

package main

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// ownGroup puts a process into its own group: a Ctrl-C at the terminal reaches only the bench.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// kill kills a process with all that it has started in its group.
func kill(started *exec.Cmd) { _ = syscall.Kill(-started.Process.Pid, syscall.SIGKILL) }

// peakOf is the most memory that a process held that has ended, in bytes. It counts this one's before the other's start, too, which
// is small. Linux counts it in KB, macOS in bytes.
func peakOf(ended *os.ProcessState) int64 {
	usage, ok := ended.SysUsage().(*syscall.Rusage)
	switch {
	case !ok:
		return 0
	case runtime.GOOS == "darwin":
		return usage.Maxrss
	default:
		return usage.Maxrss * 1024
	}
}
