package tool

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// python is the distribution's Python, as far as its version, the folder of its headers,
// and pip.
func python(c *call) int {
	version := c.facts.Python
	switch {
	case len(c.args) == 1 && (c.args[0] == "-V" || c.args[0] == "--version"):
		c.printf("Python %s.12\n", version)
		return 0
	case len(c.args) == 2 && c.args[0] == "-c":
		return c.pythonCode(c.args[1])
	case len(c.args) > 2 && c.args[0] == "-m" && c.args[1] == "pip":
		if !c.hasPackage("python3-pip") {
			return c.failf(1, "/usr/bin/python3: No module named pip")
		}
		if c.args[2] == "--version" {
			c.printf("pip 22.0.2 from /usr/lib/python3/dist-packages/pip (python %s)\n", version)
			return 0
		}
		return c.pip(c.args[2:])
	}
	return c.failf(2, "python3 %s: not part of a sandbox machine", strings.Join(c.args, " "))
}

// pythonCode prints the version and the folder of the headers, if the code prints those.
func (c *call) pythonCode(code string) int {
	const version, include = `"%d.%d" % sys.version_info[:2]`, `sysconfig.get_path("include")`
	if !strings.Contains(code, version) || !strings.Contains(code, include) {
		return c.failf(2, "python3 -c: not part of a sandbox machine, which knows %s and %s", version, include)
	}
	folder := filepath.Join(string(c.root), "include", "python"+c.facts.Python)
	if c.hasPackage("python3-dev") {
		if err := errors.Join(os.MkdirAll(folder, 0o755), os.WriteFile(filepath.Join(folder, "Python.h"), nil, 0o600)); err != nil {
			return c.failf(1, "%v", err)
		}
	}
	c.printf("%s %s\n", c.facts.Python, folder)
	return 0
}

// pip installs uv into a folder.
func (c *call) pip(args []string) int {
	target := ""
	known := []string{
		"-q --quiet", "--require-hashes", "--no-deps", "--upgrade", "--disable-pip-version-check", "--no-input", "--only-binary=",
		"--target=", "-r --requirement=",
	}
	words, bad := getopt(args, known, func(name, value string) {
		if name == "--target" {
			target = value
		}
	}, nil)
	if bad != nil || len(words) == 0 || words[0] != "install" || target == "" {
		return c.failf(2, "ERROR: pip %s: not part of a sandbox machine, which has `install --target`", strings.Join(args, " "))
	}
	exe, err := os.Executable()
	if err == nil {
		err = os.MkdirAll(filepath.Join(target, "bin"), 0o755)
	}
	if err == nil {
		err = os.Symlink(exe, filepath.Join(target, "bin", "uv"))
	}
	if err != nil && !errors.Is(err, os.ErrExist) {
		return c.failf(1, "ERROR: %v", err)
	}
	return c.failf(0, "Successfully installed %s", strings.Replace(uvVersion, " ", "-", 1))
}
