package engine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

// process is a container's process, the leader of its group.
type process struct {
	cmd  *exec.Cmd
	pid  int
	done chan struct{} // closed when it has ended and its output has been read
	code int           // valid after done

	mu    sync.Mutex
	ended bool
}

// errNotFound is returned for a command that a container does not have.
var errNotFound = errors.New("executable file not found in $PATH")

// hostCommands are harmless programs of the computer that a container may run.
var hostCommands = []string{"sh", "bash", "env", "echo", "ls", "cat", "true", "false", "sleep"}

// resolve finds the executable and the argv for a container's command line.
func (e *Engine) resolve(argv []string) (path string, args []string, err error) {
	if len(argv) == 0 {
		return "", nil, refusal(http.StatusBadRequest, "no command specified")
	}
	name := filepath.Base(argv[0])
	switch {
	case name == "vllm":
		return e.cfg.Program, append([]string{"vllm"}, argv[1:]...), nil
	case strings.HasPrefix(name, "python") && len(argv) > 2 && argv[1] == "-m" && strings.HasPrefix(argv[2], "vllm"):
		return e.cfg.Program, append([]string{"vllm"}, argv...), nil
	}
	if own := filepath.Join(e.cfg.Root.Bin(), name); isExecutable(own) {
		return own, argv, nil
	}
	if slices.Contains(hostCommands, name) {
		if found, err := exec.LookPath(name); err == nil {
			return found, argv, nil
		}
	}
	if strings.Contains(argv[0], "/") {
		return "", nil, fmt.Errorf("exec: %q: stat %s: %w", argv[0], argv[0], syscall.ENOENT)
	}
	return "", nil, fmt.Errorf("exec: %q: %w", argv[0], errNotFound)
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir() && info.Mode()&0o111 != 0
}

// environment is the container's environment, with the variables that the machine's
// programs need.
func (e *Engine) environment(c *container, gpus string) []string {
	env := slices.DeleteFunc(slices.Clone(c.config.Env), func(entry string) bool {
		return strings.HasPrefix(entry, "SHOPPER_SANDBOX_") || strings.HasPrefix(entry, "PATH=")
	})
	env = append(env,
		"PATH="+e.cfg.Root.Path(),
		machinefs.Env+"="+string(e.cfg.Root),
		vllmserver.VersionEnv+"="+c.image.def.Version,
		vllmserver.GPUsEnv+"="+gpus,
		vllmserver.FilesEnv+"="+c.files(),
	)
	env = append(env, machinefs.Instrumentation()...)
	if !slices.ContainsFunc(env, func(entry string) bool { return strings.HasPrefix(entry, "HOME=") }) {
		env = append(env, "HOME="+c.dir)
	}
	if !c.host.NetworkMode.IsHost() {
		env = append(env, vllmserver.NetEnv+"="+c.dir)
	}
	return env
}

// launch starts a container's process. Its output goes to the container's log.
func (e *Engine) launch(c *container, env []string) (*process, error) {
	path, args, err := e.resolve(c.argv)
	if err != nil {
		return nil, err
	}
	stdout, stderr := &lineWriter{log: c.output}, &lineWriter{log: c.output, stderr: true}
	if path == e.cfg.Program {
		stderr, env = stdout, append(env, vllmserver.OnePipeEnv+"=1")
	}
	cmd := &exec.Cmd{
		Path: path, Args: args, Env: env, Dir: c.dir, Stdout: stdout, Stderr: stderr,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
		// What a process leaves behind may hold its output open.
		WaitDelay: 2 * time.Second,
	}
	if e.cfg.Record != nil {
		e.cfg.Record(slices.Clone(c.argv))
	}
	if !e.enter() {
		return nil, errors.New("the engine is shutting down")
	}
	if err := cmd.Start(); err != nil {
		e.tasks.Done()
		return nil, err
	}
	p := &process{cmd: cmd, pid: cmd.Process.Pid, done: make(chan struct{})}
	spare := context.AfterFunc(e.life, p.killGroup)
	go func() {
		defer e.tasks.Done()
		defer close(p.done)
		defer spare()
		_ = cmd.Wait() // the process state has the exit code
		stdout.flush()
		stderr.flush()
		p.mu.Lock()
		p.ended = true
		p.mu.Unlock()
		_ = syscall.Kill(-p.pid, syscall.SIGKILL) // a container ends with its first process
		p.code = exitCode(cmd.ProcessState)
	}()
	return p, nil
}

// exitCode is the exit code that the engine records: 128 plus the signal for a killed process.
func exitCode(ps *os.ProcessState) int {
	if ps == nil {
		return 255
	}
	if status, ok := ps.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return ps.ExitCode()
}

// signal sends a signal to the process only, as the engine does.
func (p *process) signal(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig) // an error means that it has ended
}

// killGroup ends the process and what it started.
func (p *process) killGroup() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		_ = syscall.Kill(p.pid, syscall.SIGKILL) // first: it could see the others die, and exit by itself
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	}
}
