package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// signals are those that SSH has names for (RFC 4254, 6.10).
var signals = strings.Fields("ABRT ALRM FPE HUP ILL INT KILL PIPE QUIT SEGV TERM USR1 USR2")

// hangupTime is how long a command has to end after each signal once its client is gone.
const hangupTime = time.Second

// process is a running command, the leader of its session and process group.
type process struct {
	os     *os.Process
	stdin  *os.File // what the command reads; the terminal's end when there is one
	stdout *os.File // what it writes; the same
	stderr *os.File // nil with a terminal
	exited chan struct{}
}

// exit is how a process ended.
type exit struct {
	code   int
	signal syscall.Signal // 0 if it exited
	core   bool
}

// startProcess starts a shell in dir, on pipes or on a terminal.
func startProcess(argv, env []string, dir string, tty *terminal) (*process, error) {
	p := &process{exited: make(chan struct{})}
	files, err := p.connect(tty)
	if err != nil {
		return nil, fmt.Errorf("starting a command: %w", err)
	}
	attr := &os.ProcAttr{
		Dir: dir, Env: env, Files: files,
		Sys: &syscall.SysProcAttr{Setsid: true, Setctty: tty != nil},
	}
	p.os, err = os.StartProcess("/bin/sh", argv, attr)
	for _, file := range files {
		_ = file.Close()
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("starting a command: %w", err)
	}
	return p, nil
}

// connect makes the command's three streams, and returns the command's ends.
func (p *process) connect(tty *terminal) ([]*os.File, error) {
	if tty != nil {
		p.stdin, p.stdout = tty.master, tty.master
		return tty.slaves()
	}
	var files []*os.File
	for i := range 3 {
		reader, writer, err := os.Pipe()
		if err != nil {
			p.close()
			for _, file := range files {
				_ = file.Close()
			}
			return nil, err
		}
		switch i {
		case 0:
			files, p.stdin = append(files, reader), writer
		case 1:
			files, p.stdout = append(files, writer), reader
		case 2:
			files, p.stderr = append(files, writer), reader
		}
	}
	return files, nil
}

// close closes the machine's ends. It may be called twice.
func (p *process) close() {
	for _, file := range []*os.File{p.stdin, p.stdout, p.stderr} {
		if file != nil {
			_ = file.Close()
		}
	}
}

// attend joins the command to its channel until it has ended and its output is closed. As
// with sshd, a background process that holds the output keeps the channel open. If
// client ends first the command is hung up; if machine ends it is killed.
func (p *process) attend(client, machine context.Context, channel ssh.Channel) {
	var output, work sync.WaitGroup
	output.Go(func() { _, _ = io.Copy(channel, p.stdout) })
	if p.stderr != nil {
		output.Go(func() { _, _ = io.Copy(channel.Stderr(), p.stderr) })
	}
	work.Go(func() {
		_, _ = io.Copy(p.stdin, channel)
		if p.stdin != p.stdout { // the end of input; a terminal has none
			_ = p.stdin.Close()
		}
	})
	work.Go(func() { p.hangUp(client, machine) })
	stop := context.AfterFunc(client, p.closeLater)
	defer stop()
	sendExit(channel, p.wait())
	output.Wait()
	p.close()
	_ = channel.CloseWrite()
	_ = channel.Close()
	work.Wait()
}

// closeLater ends the copying once the client is gone: input at once, output when the
// command has ended, because a closed pipe would kill it before it gets SIGHUP.
func (p *process) closeLater() {
	if p.stdin != p.stdout {
		_ = p.stdin.Close()
	}
	<-p.exited
	p.close()
}

// wait returns how the command ended.
func (p *process) wait() exit {
	state, err := p.os.Wait()
	close(p.exited)
	if err != nil {
		return exit{code: 255}
	}
	status, ok := state.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return exit{signal: status.Signal(), core: status.CoreDump()}
	}
	return exit{code: state.ExitCode()}
}

// signal sends a signal to the command's process group; false = it has ended.
func (p *process) signal(signal syscall.Signal) bool {
	select {
	case <-p.exited:
		return false // the process ID may be reused
	default:
	}
	err := syscall.Kill(-p.os.Pid, signal)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// hangUp ends the command's process group once its client is gone. Processes that have
// left the group, or ignore SIGHUP and outlive the command, go on.
func (p *process) hangUp(client, machine context.Context) {
	select {
	case <-p.exited:
		return
	case <-client.Done():
	}
	for _, signal := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM} {
		if machine.Err() != nil {
			break
		}
		p.signal(signal)
		p.signal(syscall.SIGCONT) // a stopped process obeys once it goes on
		timer := time.NewTimer(hangupTime)
		select {
		case <-p.exited:
		case <-machine.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	p.signal(syscall.SIGKILL)
}
