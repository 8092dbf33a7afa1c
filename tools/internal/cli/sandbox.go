package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// patience is how long a sandbox may take to start, and to end.
const patience = time.Minute

// Sandbox is a sandbox in a separate process.
type Sandbox struct {
	URL string

	process *exec.Cmd
	stdin   io.Closer
	log     bytes.Buffer
}

// StartSandbox starts a sandbox with these flags on a free port. Its files are in the folder tmp, "" for the usual one. It ends
// with Close, or with this process.
func StartSandbox(ctx context.Context, tmp string, flags ...string) (*Sandbox, error) {
	flags = append([]string{"-listen", "127.0.0.1:0", "-until-stdin-closes", "-log", "warn"}, flags...)
	s := &Sandbox{process: exec.Command(filepath.Join(Bin, "shopper-sandbox"), flags...)} //nolint:noctx // ended by Close
	if tmp != "" {
		s.process.Env = append(os.Environ(), "TMPDIR="+tmp)
	}
	s.process.SysProcAttr, s.process.Stderr = OwnGroup(), &s.log
	stdout, err := s.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if s.stdin, err = s.process.StdinPipe(); err != nil {
		return nil, err
	}
	if err := s.process.Start(); err != nil {
		return nil, fmt.Errorf("starting the sandbox: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = s.stdin.Close() })()
	late := time.AfterFunc(patience, func() { KillGroup(s.process) })
	defer late.Stop()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, errors.Join(ctx.Err(), fmt.Errorf("the sandbox didn't report its address: %w", err), s.Close())
	}
	s.URL = strings.TrimSpace(line)
	return s, nil
}

// Close ends the sandbox with its machines.
func (s *Sandbox) Close() error {
	_ = s.stdin.Close()
	late := time.AfterFunc(patience, func() { KillGroup(s.process) })
	err := s.process.Wait()
	if !late.Stop() {
		return fmt.Errorf("the sandbox didn't end within %s and was killed: %s", patience, s.log.Bytes())
	}
	if err != nil {
		return fmt.Errorf("the sandbox ended with %w: %s", err, s.log.Bytes())
	}
	return nil
}

// OwnGroup puts a process into its own group: a Ctrl-C at the terminal doesn't reach it.
func OwnGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// KillGroup kills a process that is in its own group, with all that it has started there.
func KillGroup(started *exec.Cmd) { _ = syscall.Kill(-started.Process.Pid, syscall.SIGKILL) }
