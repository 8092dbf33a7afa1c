package tool

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// vllmVersionEnv is vllmserver.VersionEnv, the release that the vLLM stand-in plays.
const vllmVersionEnv = "SHOPPER_SANDBOX_VLLM_VERSION"

const uvVersion = "uv 0.13.9"

// venvVersionFile is the file of a virtual environment with its vLLM release.
const venvVersionFile = "vllm.version"

// uv makes virtual environments and installs vLLM into them. Like the real one it reports
// on standard error.
func uv(c *call) int {
	switch {
	case len(c.args) == 1 && (c.args[0] == "--version" || c.args[0] == "-V"):
		c.printf("%s\n", uvVersion)
		return 0
	case len(c.args) > 0 && c.args[0] == "venv":
		return uvVenv(c, c.args[1:])
	case len(c.args) > 1 && c.args[0] == "pip" && c.args[1] == "install":
		return uvInstall(c, c.args[2:])
	}
	return c.failf(2, "error: uv %s: not part of a sandbox machine, which has `uv venv` and `uv pip install vllm==VERSION`",
		strings.Join(c.args, " "))
}

// uv is uv's error message.
func (b *badOption) uv() string {
	if b.missing {
		return fmt.Sprintf("error: a value is required for '%s' but none was supplied", b.option)
	}
	return fmt.Sprintf("error: unexpected argument '%s' found", b.option)
}

func uvVenv(c *call, args []string) int {
	dir, python := ".venv", "3.12"
	known := []string{
		"--seed", "--clear", "--allow-existing", "-q --quiet", "--no-progress", "--managed-python", "--no-managed-python", "--relocatable", "-p --python=",
	}
	dirs, bad := getopt(args, known, func(name, value string) {
		if name == "-p" {
			python = value
		}
	}, nil)
	if bad != nil {
		return c.failf(2, "%s", bad.uv())
	}
	if len(dirs) > 0 {
		dir = dirs[len(dirs)-1]
	}
	if err := os.MkdirAll(filepath.Join(dir, "bin"), 0o755); err != nil {
		return c.failf(2, "error: failed to create directory `%s`: %v", dir, err)
	}
	config := fmt.Sprintf("home = /usr/bin\nimplementation = CPython\nuv = %s\nversion_info = %s\n",
		strings.TrimPrefix(uvVersion, "uv "), python)
	if err := os.WriteFile(filepath.Join(dir, "pyvenv.cfg"), []byte(config), 0o600); err != nil {
		return c.failf(2, "error: %v", err)
	}
	return c.failf(0, "Using CPython %s\nCreating virtual environment at: %s", python, dir)
}

// venvOf turns what --python takes, an environment or its interpreter, into the environment.
func venvOf(python string) string {
	if strings.HasPrefix(filepath.Base(python), "python") {
		return filepath.Dir(filepath.Dir(python))
	}
	return python
}

const uvNoSolution = "  × No solution found when resolving dependencies:\n" +
	"  ╰─▶ Because %s and you require %s, we can conclude that your requirements are unsatisfiable."

func uvInstall(c *call, args []string) int {
	venv := cmp.Or(os.Getenv("VIRTUAL_ENV"), ".venv")
	known := []string{"-U --upgrade", "-q --quiet", "--no-progress", "--no-cache", "-p --python=", "--torch-backend=", "--exclude-newer="}
	packages, bad := getopt(args, known, func(name, value string) {
		if name == "-p" {
			venv = venvOf(value)
		}
	}, nil)
	switch {
	case bad != nil:
		return c.failf(2, "%s", bad.uv())
	case len(packages) == 0:
		return c.failf(2, "error: the following required arguments were not provided:\n  <PACKAGE|--requirements <REQUIREMENTS>>")
	}
	if _, err := os.Stat(filepath.Join(venv, "pyvenv.cfg")); err != nil {
		return c.failf(2, "error: No virtual environment found for %s; run `uv venv` to create an environment", venv)
	}
	for _, pkg := range packages {
		name, version, exact := strings.Cut(pkg, "==")
		if name, _, _ = strings.Cut(name, "["); name != VLLM {
			return c.failf(1, uvNoSolution, pkg+" was not found in the package registry", pkg)
		}
		if !exact {
			version = newestVLLM
		} else if !released(version) {
			return c.failf(1, uvNoSolution, "there is no version of vllm=="+version, "vllm=="+version)
		}
		if code := c.install(venv, version); code != 0 {
			return code
		}
	}
	return 0
}

// installTime is how long a download of vLLM and torch takes on a fast line.
const installTime = 40 * time.Second

// installSteps are uv's lines, and the share of installTime before each.
var installSteps = []struct {
	share float64
	line  string
}{
	{0.05, "Resolved 156 packages in 1.21s"},
	{0.05, "Downloading vllm (433.9MiB)"},
	{0.0, "Downloading torch (858.1MiB)"},
	{0.0, "Downloading nvidia-cudnn-cu13 (634.7MiB)"},
	{0.3, " Downloaded nvidia-cudnn-cu13"},
	{0.3, " Downloaded torch"},
	{0.2, " Downloaded vllm"},
	{0.05, "Prepared 156 packages in 36.40s"},
	{0.05, "Installed 156 packages in 2.13s"},
}

const downloadGB = 8

// install plays the installation of vLLM into an environment.
func (c *call) install(venv, version string) int {
	if venvHas(venv, version) {
		return c.failf(0, "Audited 1 package in 12ms")
	}
	if c.facts.DiskFreeGB < downloadGB {
		return c.failf(2, "error: Failed to download `torch`\n  Caused by: Failed to write to the distribution cache\n"+
			"  Caused by: No space left on device (os error 28)")
	}
	if _, ok := (*provided.Load())[VLLM]; !ok {
		return c.failf(2, "error: this sandbox was started without its vllm stand-in")
	}
	for _, step := range installSteps {
		<-time.After(c.facts.Scale(time.Duration(step.share * float64(installTime))))
		_, _ = fmt.Fprintln(c.stderr, step.line)
	}
	if err := putVLLM(venv, version); err != nil {
		return c.failf(2, "error: failed to install: %v", err)
	}
	return c.failf(0, " + torch==2.9.0\n + vllm==%s", version)
}

// putVLLM links the program last, so that an installation that was cut short leaves none.
func putVLLM(venv, version string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	metadata := filepath.Join(venv, "lib", "python3.12", "site-packages", "vllm-"+version+".dist-info")
	err = errors.Join(os.MkdirAll(metadata, 0o755), os.WriteFile(filepath.Join(venv, venvVersionFile), []byte(version), 0o600))
	if err != nil {
		return err
	}
	fresh := filepath.Join(venv, "bin", ".vllm-new-"+strconv.Itoa(os.Getpid()))
	if err := os.Symlink(exe, fresh); err != nil {
		return err
	}
	return os.Rename(fresh, filepath.Join(venv, "bin", VLLM))
}

func venvHas(venv, version string) bool {
	program := filepath.Join(venv, "bin", VLLM)
	_, err := os.Lstat(program)
	return err == nil && venvVersion(program) == version
}

// venvVersion returns the vLLM release of the virtual environment of a program; "" = it is
// in none. A name without a folder is looked up on PATH.
func venvVersion(program string) string {
	if !strings.Contains(program, "/") {
		found, err := lookPath(program, []string{"PATH=" + os.Getenv("PATH")})
		if err != nil {
			return ""
		}
		program = found
	}
	version, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(program)), venvVersionFile))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(version))
}

const newestVLLM = "0.33.0"

// released reports whether there is such a release: 0.6.0 to 0.33.0, with up to five fixes
// each (0.33 has none), which is close enough to the real list.
func released(version string) bool {
	var minor, patch int
	if n, err := fmt.Sscanf(version, "0.%d.%d", &minor, &patch); n != 2 || err != nil {
		return false
	}
	if strings.TrimSuffix(version, ".post1") != fmt.Sprintf("0.%d.%d", minor, patch) || patch < 0 {
		return false
	}
	return minor >= 6 && minor < 33 && patch <= 5 || version == newestVLLM
}
