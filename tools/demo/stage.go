package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/tools/internal/cli"
)

const (
	// version is what the built provider counts as in the demo's own mirror.
	version = "0.1.0"
	// patience is how long a process that was asked to end may take.
	patience = 30 * time.Second
	// cliPatience is the same for a Terraform that is giving back what it rented.
	cliPatience = 3 * time.Minute
)

// stage is everything that the demo puts up and takes down again: the sandbox's
// process and a directory with the configuration and a mirror of the provider.
type stage struct {
	url     string // the sandbox's
	dir     string
	program cli.CLI
	// applied is true while something may be rented.
	applied bool

	sandbox *exec.Cmd
	stdin   io.Closer
	log     bytes.Buffer
}

// startSandbox starts the sandbox and returns its URL. Should the demo be killed,
// the sandbox sees its standard input end and ends too.
func (s *stage) startSandbox(ctx context.Context, program string) (string, error) {
	s.sandbox = exec.Command(program, "-listen", "127.0.0.1:0", "-until-stdin-closes", "-log", "warn") //nolint:noctx // ended by close
	s.sandbox.SysProcAttr = ownGroup()
	s.sandbox.Stderr = &s.log
	stdin, err := s.sandbox.StdinPipe()
	if err != nil {
		return "", err
	}
	stdout, err := s.sandbox.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := s.sandbox.Start(); err != nil {
		s.sandbox = nil
		return "", fmt.Errorf("starting the sandbox: %w", err)
	}
	s.stdin = stdin
	line := make(chan string, 1)
	go func() {
		first, _ := bufio.NewReader(stdout).ReadString('\n')
		line <- strings.TrimSpace(first)
	}()
	select {
	case s.url = <-line:
	case <-time.After(patience):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if u, err := url.Parse(s.url); err != nil || u.Host == "" {
		return "", fmt.Errorf("the sandbox didn't say where it listens: %q %s", s.url, s.log.String())
	}
	return s.url, nil
}

// prepare makes a working directory with the configuration, and a mirror that
// holds the provider as a registry would.
func (s *stage) prepare(program cli.CLI, config, provider string) error {
	s.program = program
	dir, err := os.MkdirTemp("", "shopper-demo-")
	if err != nil {
		return err
	}
	s.dir = dir
	for _, sub := range []string{s.work(), s.home()} {
		if err := os.Mkdir(sub, 0o700); err != nil {
			return err
		}
	}
	if err := copyConfig(config, s.work()); err != nil {
		return err
	}
	at := filepath.Join(dir, "mirror", program.Registry(), cli.Address, version, runtime.GOOS+"_"+runtime.GOARCH)
	if err := os.MkdirAll(at, 0o700); err != nil {
		return err
	}
	built, err := filepath.Abs(provider)
	if err != nil {
		return err
	}
	if err := os.Symlink(built, filepath.Join(at, "terraform-provider-shopper_v"+version)); err != nil {
		return err
	}
	text := fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", filepath.Join(dir, "mirror"))
	return os.WriteFile(s.cliConfig(), []byte(text), 0o600)
}

func (s *stage) work() string      { return filepath.Join(s.dir, "work") }
func (s *stage) home() string      { return filepath.Join(s.dir, "home") }
func (s *stage) cliConfig() string { return filepath.Join(s.dir, "cli.tfrc") }

// quiet runs the CLI and returns what it prints, which is shown only on failure.
func (s *stage) quiet(ctx context.Context, args ...string) (string, error) {
	var out bytes.Buffer
	err := s.runCLI(ctx, &out, args...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && (ctx.Err() != nil || exit.ExitCode() != 2) {
		return out.String(), fmt.Errorf("%s %s: %w\n%s", filepath.Base(s.program.Path), args[0], err, out.String())
	}
	return out.String(), err
}

// shown runs the CLI and shows what it prints as it comes.
func (s *stage) shown(ctx context.Context, args ...string) error {
	reader, writer := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		lines := bufio.NewScanner(reader)
		for lines.Scan() {
			if strings.TrimSpace(lines.Text()) != "" {
				fmt.Printf("   | %s\n", lines.Text())
			}
		}
		_, _ = io.Copy(io.Discard, reader) // what is no line must not block the CLI
	}()
	err := s.runCLI(ctx, writer, args...)
	_ = writer.Close()
	<-done
	if err != nil {
		return fmt.Errorf("%s %s: %w", filepath.Base(s.program.Path), args[0], err)
	}
	return nil
}

// runCLI runs the CLI in a process group of its own, so that a Ctrl-C reaches it
// once, from here, and in its own time.
func (s *stage) runCLI(ctx context.Context, out io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, s.program.Path, args...)
	cmd.Dir = s.work()
	cmd.Env = append(cli.CleanEnv(os.Environ()),
		"TF_CLI_CONFIG_FILE="+s.cliConfig(), "HOME="+s.home(), "CHECKPOINT_DISABLE=1", "SHOPPER_URL="+s.url)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = ownGroup()
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = cliPatience
	return cmd.Run()
}

// close ends the sandbox, and its machines with it, and removes the directory.
func (s *stage) close() error {
	var problems []error
	if s.sandbox != nil {
		problems = append(problems, s.stopSandbox())
	}
	if s.dir != "" {
		problems = append(problems, os.RemoveAll(s.dir))
	}
	return errors.Join(problems...)
}

func (s *stage) stopSandbox() error {
	_ = s.sandbox.Process.Signal(syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- s.sandbox.Wait() }()
	defer func() { _ = s.stdin.Close() }()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("the sandbox ended with %w: %s", err, s.log.String())
		}
		return nil
	case <-time.After(patience):
		_ = s.sandbox.Process.Kill()
		return fmt.Errorf("the sandbox didn't end within %s and was killed: %s", patience, s.log.String())
	}
}
