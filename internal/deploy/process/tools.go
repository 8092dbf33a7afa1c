package process

import (
	"context"
	_ "embed" // the script
	"slices"
	"strings"
)

//go:embed tools.sh
var toolsScript string

// Tools are what of a machine an installation of vLLM and its start need.
type Tools struct {
	// Compiler is a C compiler that works, "" for none.
	Compiler string
	// Python is the version of the machine's python3, such as "3.10", and Headers the folder of its Python.h; "" for none.
	Python, Headers string
	// Pip: its python3 has pip.
	Pip bool
	// Apt: packages can be installed with apt-get, as root or with a sudo that asks for no password.
	Apt bool
}

func (h *Host) lookForTools(ctx context.Context, cc string) (Tools, error) {
	output, err := h.run(ctx, "look for a C compiler", toolsScript, cc)
	var t Tools
	for line := range strings.Lines(output) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch key {
		case "compiler":
			t.Compiler = value
		case "python":
			t.Python = value
		case "headers":
			t.Headers = value
		case "pip":
			t.Pip = true
		case "apt":
			t.Apt = true
		}
	}
	return t, err
}

// uv is installed by pip, in this version only: PyPI's packages of 2026-11 for Linux with glibc, by their checksums.
const (
	uvVersion     = "0.13.9"
	uvRequirement = "uv==" + uvVersion +
		" --hash=sha256:d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19" + // x86_64
		" --hash=sha256:ecb6028d79dc96fbeafffe5c8af62a7099487ebc05a701e76714eebcffd06375" // aarch64
)

// pythons are the versions of Python that every release of the table takes: 0.8.0 takes 3.9 to 3.12, 0.33.0 3.11 to 3.14
// (Requires-Python of their packages).
var pythons = []string{"3.11", "3.12"}

// python is the machine's own Python where vLLM can be installed for it, "" where that takes uv's.
func (t Tools) python() string {
	if t.Headers != "" && slices.Contains(pythons, t.Python) {
		return t.Python
	}
	return ""
}

// Missing are the distribution's packages that the machine lacks: for a start, and where vLLM is to be installed, for that.
func (t Tools) Missing(install bool) []string {
	var packages []string
	if t.Compiler == "" {
		packages = append(packages, "gcc", "g++", "libc6-dev")
	}
	if install && !t.Pip {
		packages = append(packages, "ca-certificates", "python3-pip")
	}
	return packages
}

// packages are those of them that can be installed.
func (t Tools) packages(install bool) []string {
	if !t.Apt {
		return nil // preflight has said so, and was overruled
	}
	return t.Missing(install)
}
