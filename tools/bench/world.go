package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/tools/internal/cli"
)

// world is what a benchmark runs in: a folder, sandboxes, and a CLI with the providers that were built.
type world struct {
	dir       string
	program   cli.CLI
	bin, null string // the folders with the provider and with the null provider
	closers   []func() error
}

// atEnd registers a function that close calls, the last one first.
func (w *world) atEnd(do func() error) { w.closers = append(w.closers, do) }

// close ends everything that runs in the world, and removes its folder.
func (w *world) close() (err error) {
	for _, closer := range slices.Backward(w.closers) {
		err = errors.Join(err, closer())
	}
	return errors.Join(err, os.RemoveAll(w.dir))
}

// stack is a configuration with its state, in its own folder.
type stack struct {
	w   *world
	dir string
	env []string
}

// newStack writes a configuration into a new folder. The service is at url; without one, the provider isn't used.
func (w *world) newStack(name, url, config string) (*stack, error) {
	s := &stack{w: w, dir: filepath.Join(w.dir, name)}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, err
	}
	var err error
	if s.env, err = cli.Overridden(s.dir, map[string]string{cli.Address: w.bin, "hashicorp/null": w.null}); err != nil {
		return nil, err
	}
	s.env = append(s.env, "SHOPPER_URL="+url, "HOME="+s.dir, "TMPDIR="+w.dir)
	head := fmt.Sprintf("terraform {\n  required_providers {\n    shopper = {\n      source = %q\n    }\n  }\n}\n", cli.Address)
	if url == "" {
		head = ""
	}
	return s, os.WriteFile(filepath.Join(s.dir, "main.tf"), []byte(head+config), 0o600)
}

// spent is what a command took with the processes it started, and its output.
type spent struct {
	wall, cpu time.Duration
	out       []byte
}

// run runs the CLI.
func (s *stack) run(ctx context.Context, args ...string) (spent, error) {
	command := exec.Command(s.w.program.Path, args...) //nolint:noctx // finish ends it
	command.Dir, command.Env = s.dir, s.env
	took, err := finish(ctx, command)
	if err != nil {
		err = fmt.Errorf("%s %s: %w", s.w.program, args[0], err)
	}
	return took, err
}

// finish runs a command. When ctx ends, it is killed with the processes it has started: what they rented ends with the sandbox.
func finish(ctx context.Context, command *exec.Cmd) (spent, error) {
	command.SysProcAttr = cli.OwnGroup()
	var out, problems bytes.Buffer
	command.Stdout, command.Stderr = &out, &problems
	begun := time.Now()
	if err := command.Start(); err != nil {
		return spent{}, err
	}
	stop := context.AfterFunc(ctx, func() { cli.KillGroup(command) })
	err := command.Wait()
	stop()
	took := spent{time.Since(begun), command.ProcessState.UserTime() + command.ProcessState.SystemTime(), out.Bytes()}
	if ctx.Err() != nil {
		return took, ctx.Err() // the output until then helps nobody
	}
	if err != nil {
		return took, fmt.Errorf("%w\n%s%s", err, out.Bytes(), problems.Bytes())
	}
	return took, nil
}

// applied makes a new stack and applies it, this many resources at once.
func (w *world) applied(ctx context.Context, name, url, config string, parallelism int) (*stack, error) {
	s, err := w.newStack(name, url, config)
	if err == nil {
		_, err = s.apply(ctx, parallelism)
	}
	return s, err
}

// apply applies this many resources at once.
func (s *stack) apply(ctx context.Context, parallelism int) (spent, error) {
	return s.run(ctx, "apply", "-auto-approve", "-no-color", fmt.Sprintf("-parallelism=%d", parallelism))
}

// plan plans with a refresh, as users do, and fails if there is something to do.
func (s *stack) plan(ctx context.Context) (spent, error) {
	return s.run(ctx, "plan", "-no-color", "-detailed-exitcode")
}

// destroy releases everything, so that a benchmark can go on with the same sandbox.
func (s *stack) destroy(ctx context.Context) error {
	_, err := s.run(ctx, "destroy", "-auto-approve", "-no-color", "-parallelism=50")
	return err
}
