package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/tools/internal/cli"
)

// settings are the command's flags.
type settings struct{ bin, null, tofu string }

// program is the Terraform or OpenTofu on PATH, else the one that was built.
func (s settings) program(ctx context.Context) (cli.CLI, error) {
	found, err := cli.Find(ctx)
	if err != nil {
		return cli.CLI{}, err
	}
	if len(found) > 0 {
		return found[0], nil
	}
	return cli.Identify(ctx, s.tofu)
}

// world is what a benchmark runs in: a folder, sandboxes, and a CLI that uses the providers that were built.
type world struct {
	settings
	dir     string
	program cli.CLI
	closers []func() error
}

func newWorld(ctx context.Context, s settings) (*world, error) {
	program, err := s.program(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, err
	}
	return &world{settings: s, dir: dir, program: program}, nil
}

// atEnd has something done when the world ends, before what was said earlier.
func (w *world) atEnd(do func() error) { w.closers = append(w.closers, do) }

// close ends all that runs in the world, and removes its folder.
func (w *world) close() error {
	var errs []error
	for i := len(w.closers) - 1; i >= 0; i-- {
		errs = append(errs, w.closers[i]())
	}
	return errors.Join(append(errs, os.RemoveAll(w.dir))...)
}

// stack is a configuration with its state, in a separate folder.
type stack struct {
	w   *world
	dir string
	env []string
}

// newStack writes a configuration down. The provider finds the service at url.
func (w *world) newStack(name, url, config string) (*stack, error) {
	s := &stack{w: w, dir: filepath.Join(w.dir, name)}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, err
	}
	null := w.null
	if null == "" {
		null = w.bin
	}
	var err error
	if s.env, err = cli.Overridden(s.dir, map[string]string{cli.Address: w.bin, "hashicorp/null": null}); err != nil {
		return nil, err
	}
	s.env = append(s.env, "SHOPPER_URL="+url, "HOME="+s.dir, "TMPDIR="+w.dir)
	head := fmt.Sprintf("terraform {\n  required_providers {\n    shopper = {\n      source = %q\n    }\n  }\n}\n", cli.Address)
	if url == "" {
		head = ""
	}
	return s, os.WriteFile(filepath.Join(s.dir, "main.tf"), []byte(head+config), 0o600)
}

// spent is what a run of the CLI took, with the providers that it started.
type spent struct {
	wall, cpu time.Duration
	out       []byte
}

// run runs the CLI. Where ctx ends, the CLI and its providers are killed: what they rented ends with its sandbox.
func (s *stack) run(ctx context.Context, args ...string) (spent, error) {
	command := exec.Command(s.w.program.Path, args...) //nolint:noctx // it ends below, with its providers
	command.Dir, command.Env = s.dir, s.env
	took, err := finish(ctx, command)
	if err != nil {
		err = fmt.Errorf("%s %s: %w", s.w.program, args[0], err)
	}
	return took, err
}

// finish runs a command with all that it starts. Where ctx ends, they are killed.
func finish(ctx context.Context, command *exec.Cmd) (spent, error) {
	command.SysProcAttr = ownGroup()
	var out, problems output
	command.Stdout, command.Stderr = &out, &problems
	begun := time.Now()
	if err := command.Start(); err != nil {
		return spent{}, err
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	var err error
	select {
	case err = <-ended:
	case <-ctx.Done():
		kill(command)
		<-ended //nolint:errcheck // it was killed
		err = ctx.Err()
	}
	took := spent{time.Since(begun), command.ProcessState.UserTime() + command.ProcessState.SystemTime(), out.Bytes()}
	if ctx.Err() != nil {
		return took, ctx.Err() // what was printed until then helps nobody
	}
	if err != nil {
		return took, fmt.Errorf("%w\n%s%s", err, out.Bytes(), problems.Bytes())
	}
	return took, nil
}

// apply applies with so many resources at once.
func (s *stack) apply(ctx context.Context, parallelism int) (spent, error) {
	return s.run(ctx, "apply", "-auto-approve", "-no-color", fmt.Sprintf("-parallelism=%d", parallelism))
}

// plan plans with a refresh, as people do, and fails where there is something to do.
func (s *stack) plan(ctx context.Context) (spent, error) {
	return s.run(ctx, "plan", "-no-color", "-detailed-exitcode")
}

// destroy gives everything back, so that a benchmark can go on with the same sandbox.
func (s *stack) destroy(ctx context.Context) error {
	_, err := s.run(ctx, "destroy", "-auto-approve", "-no-color", "-parallelism=50")
	return err
}
