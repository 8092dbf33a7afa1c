package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/tools/internal/cli"
)

// place is where tests run: a HOME and a TMPDIR that nothing else uses.
type place struct {
	root   string
	golang []string // Go's variables whose defaults depend on HOME
}

// newPlace makes the folders. Their paths are short: a Unix socket's may have only about a hundred bytes.
func newPlace(ctx context.Context) (*place, error) {
	root, err := os.MkdirTemp("", "t")
	if err != nil {
		return nil, err
	}
	p := &place{root: root}
	for _, dir := range []string{p.home(), p.tmp(), p.build()} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOENV"} {
		out, err := exec.CommandContext(ctx, "go", "env", name).Output()
		if err != nil {
			return nil, fmt.Errorf("go env %s: %w", name, err)
		}
		p.golang = append(p.golang, name+"="+strings.TrimSpace(string(out)))
	}
	return p, nil
}

func (p *place) home() string  { return filepath.Join(p.root, "h") }
func (p *place) tmp() string   { return filepath.Join(p.root, "t") }
func (p *place) build() string { return filepath.Join(p.root, "b") } // the go command's

// env is the environment for tests.
func (p *place) env() []string {
	var env []string
	for _, entry := range cli.CleanEnv(os.Environ()) {
		name, _, _ := strings.Cut(entry, "=")
		switch {
		case name == "HOME", name == "TMPDIR", name == "GOTMPDIR", name == "SSH_AUTH_SOCK", strings.HasPrefix(name, "XDG_"):
		default:
			env = append(env, entry)
		}
	}
	env = append(env, p.golang...)
	return append(env, "HOME="+p.home(), "TMPDIR="+p.tmp(), "GOTMPDIR="+p.build())
}

// leftFiles reports what the tests left in their place.
func (p *place) leftFiles() []failure {
	var left []failure
	for _, dir := range []string{p.home(), p.tmp()} {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			switch name, _ := filepath.Rel(p.root, path); {
			case err != nil:
				return err
			case path == dir, name == filepath.Join("h", ".config"):
				return nil
			case name == filepath.Join("h", ".config", "go"), name == filepath.Join("h", ".terraform.d"):
				return fs.SkipDir // the go command and Terraform write there by themselves
			default:
				left = append(left, failure{test: "left a file behind", output: path})
				if entry.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
		})
		if err != nil {
			left = append(left, failure{test: "looking for files left behind", output: err.Error()})
		}
	}
	return left
}

// remove removes the folders.
func (p *place) remove() {
	if err := os.RemoveAll(p.root); err != nil {
		fmt.Fprintln(os.Stderr, "test:", err)
	}
}
