//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// ownGroup puts a process into its own group: a Ctrl-C at the terminal reaches only the bench.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// kill kills a process with all that it has started in its group.
func kill(started *exec.Cmd) { _ = syscall.Kill(-started.Process.Pid, syscall.SIGKILL) }
