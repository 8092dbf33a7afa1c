//go:build unix

package main

import "syscall"

// ownGroup puts a process into a group of its own: a Ctrl-C at the terminal
// reaches only the demo, which decides what to tell the others.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
