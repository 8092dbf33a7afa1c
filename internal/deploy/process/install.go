package process

import (
	"cmp"
	"context"
	_ "embed" // the script
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/pace"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

const (
	// cancelTimeout is how long the end of an installation may take that nobody wants any more.
	cancelTimeout = 30 * time.Second
	shownLines    = 20
)

// A Program is a vLLM of the machine.
type Program struct {
	Path string
	// Release is such as "0.33.0", "" where it can't be told.
	Release string
}

// Look finds out which tools the machine has and whether it has a vLLM of the requested version. cc is the compiler that the
// server's environment names, "" for none.
func (h *Host) Look(ctx context.Context, cc string) error {
	var err error
	if h.Tools, err = h.lookForTools(ctx, cc); err == nil {
		h.Program, _, err = h.find(ctx, h.Options.Version)
	}
	return err
}

// Ready finds a vLLM of the requested version, and installs it and the tools that the machine lacks where the options allow. An
// installation that was cut short goes on where it was; one that another deployment has under way is waited for.
func (h *Host) Ready(ctx context.Context, progress func(string)) error {
	program, seen, err := h.find(ctx, h.Options.Version)
	if err != nil {
		return err
	}
	h.Program = program
	if program.Path != "" {
		if packages := h.Tools.packages(false); len(packages) > 0 && h.Options.Install != InstallNever {
			err = h.install(ctx, "tools", packages, nil, progress)
		}
		return err
	}
	wanted := cmp.Or(h.Options.Version, "any version")
	if h.Options.Install == InstallNever {
		return &deploy.Error{
			Summary: "could not find vLLM", Cause: fmt.Sprintf("The machine doesn't have vLLM (%s), and process.install is \"never\"; it has: %s.", wanted, seen),
			WayOut: "Install it on the machine, set process.version to the installed release, or remove process.install.",
		}
	}
	if err := h.installRelease(ctx, progress); err != nil {
		return err
	}
	h.Program, seen, err = h.find(ctx, h.Options.Version)
	if err == nil && h.Program.Path == "" {
		err = &deploy.Error{Summary: "could not install vLLM", Cause: fmt.Sprintf("The installation succeeded, but vLLM (%s) is"+
			" missing; the machine has: %s.", wanted, seen)}
	}
	return err
}

// find looks for a version ("" = any) and says what is there.
func (h *Host) find(ctx context.Context, version string) (program Program, seen string, err error) {
	output, err := h.run(ctx, "look for vLLM", findScript, h.base)
	if err != nil {
		return Program{}, "", err
	}
	var found []string
	for line := range strings.Lines(output) {
		file, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok || !path.IsAbs(file) {
			continue
		}
		release := releaseOf(text)
		found = append(found, fmt.Sprintf("%s (%s)", file, cmp.Or(release, "unknown version")))
		if plain, _, _ := strings.Cut(release, "+"); program.Path == "" && (version == "" || release == version || plain == version) {
			program = Program{Path: file, Release: release}
		}
	}
	if len(found) == 0 {
		return Program{}, "none", nil
	}
	return program, strings.Join(found, ", "), nil
}

// releaseOf reads a version from the line in which a program tells it, such as "vllm 0.33.0".
func releaseOf(text string) string {
	fields := strings.Fields(text)
	for i := len(fields) - 1; i >= 0; i-- {
		release := strings.TrimPrefix(fields[i], "v")
		if versionPattern.MatchString(release) {
			return release
		}
	}
	return ""
}

// installRelease installs a release, and what it takes; without a version the newest that is known here.
func (h *Host) installRelease(ctx context.Context, progress func(string)) error {
	newest, _ := vllm.NewestRelease(func(vllm.Release) bool { return true })
	version := cmp.Or(h.Options.Version, newest.Version)
	until := ""
	if release, ok := vllm.FindRelease(version); ok && release.Published != "" && release.Published < newest.Published {
		until = release.Published + "T23:59:59Z"
	}
	environment := path.Join(h.base, "env", version)
	return h.install(ctx, version, h.Tools.packages(true),
		[]string{environment, version, until, h.Tools.python(), uvVersion, uvRequirement}, progress)
}

// install runs an installation as a separate process, so that a lost connection doesn't cut it short, and waits for it. Of
// two with one name the second waits for the first.
func (h *Host) install(ctx context.Context, name string, packages, release []string, progress func(string)) error {
	directory := path.Join(h.base, "install", name)
	running, err := h.installing(ctx, directory)
	if err != nil {
		return err
	}
	if !running {
		if err := h.put(ctx, directory, "record.json", "{}\n"); err != nil {
			return err
		}
		files := []file{{"launcher.sh", launcherScript}, {"install.sh", installScript}, {"log", ""}}
		command := []string{"sh", path.Join(directory, "install.sh"), h.base, strings.Join(packages, " ")}
		if release == nil {
			release = make([]string, 6)
		}
		if _, err := h.launch(ctx, directory, files, nil, append(command, release...)...); err != nil {
			return err
		}
	}
	err = h.watchInstall(ctx, directory, progress)
	if ctx.Err() != nil {
		// Nothing goes on once the caller has given up; what was downloaded stays for the next time.
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
		defer cancel()
		_, stopErr := h.stop(after, directory, 1, 0)
		err = errors.Join(err, stopErr)
	}
	return err
}

func (h *Host) installing(ctx context.Context, directory string) (bool, error) {
	output, err := h.run(ctx, "look for an installation", launcherScript, "status", directory)
	return parseStatus(output).state == "running", err
}

func (h *Host) watchInstall(ctx context.Context, directory string, progress func(string)) error {
	const op = "install vLLM"
	pause := pace.Looks()
	var log []string // as it was seen last
	for {
		if err := pause.Wait(ctx); err != nil {
			return &deploy.Error{Summary: "could not " + op, Log: log, Err: err}
		}
		output, err := h.run(ctx, op, launcherScript, "status", directory)
		if err != nil {
			return &deploy.Error{Summary: "could not " + op, Log: log, Err: err}
		}
		lines, logErr := h.tail(ctx, path.Join(directory, "log"), shownLines)
		lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, deploy.EndLine) })
		if len(lines) > 0 {
			log = lines
			progress(strings.TrimSpace(log[len(log)-1]))
		}
		if state := parseStatus(output); state.state != "running" {
			return installEnd(state, log, logErr)
		}
	}
}

func installEnd(state observed, log []string, logErr error) error {
	if state.state == "exited" && state.exitCode == 0 {
		return nil
	}
	e := &deploy.Error{Summary: "could not install vLLM", Log: log, Err: errors.Join(fmt.Errorf("exit code %d", state.exitCode), logErr)}
	e.Explain(strings.Join(log, "\n"), installRules)
	return e
}

const ownInstallation = ", or install vLLM on the machine yourself and set process.install = \"never\"."

// installRules are why installations failed, by what uv 0.13.9 was recorded to say.
var installRules = []deploy.Rule{
	deploy.NewRule(`current Python version \(([\d.]+)\) does not satisfy Python(\S+?) and (\S+) depends`,
		"The machine's Python is ${1}, and ${3} needs ${2}.",
		"Install a matching Python, or set process.version to a release that supports this one"+ownInstallation),
	deploy.NewRule(`there is no version of (vllm\S*)`,
		"The release ${1} doesn't exist.", "Check process.version."),
	deploy.NewRule(`No interpreter found for Python (\S+)`,
		"The machine has no Python ${1}.", "Install it on the machine"+ownInstallation),
	deploy.NewRule("Failed to download `https://github\\.com/[^/]*/python-build-standalone",
		"The machine has no suitable Python (3.11 or 3.12, with headers), and uv can't download one from github.com.",
		"Check the machine's network, or install a suitable Python and its python3-dev"+ownInstallation),
	deploy.NewRule(`(?s)Failed to fetch: .?https?://([^/\s]+)/.*(dns error|Connection refused|timed out)`,
		"The machine can't fetch from ${1} (${2}).", "Check the machine's network and its proxy (HTTPS_PROXY)"+ownInstallation),
	deploy.NewRule(`DO NOT MATCH THE HASHES`,
		"The uv package that pip downloaded doesn't match the provider's checksums.",
		"Check the package index that the machine's pip is configured with"+ownInstallation),
	deploy.NewRule(`uv could not be installed`,
		"The machine's pip can't install uv, which installs vLLM.", "Check the machine's network"+ownInstallation),
	deploy.NewRule(`(?m)^E: (?:Unable to locate package|Package '?)\s*(\S+)`,
		"apt-get has no package ${1}.", "Check the machine's /etc/apt and its network, or choose an image that has it."),
	deploy.NewRule(`apt-get could not install (.*)`,
		"The packages ${1} could not be installed.", "See the log, and install them on the machine or choose an image that has them."),
	deploy.NewRule(`No solution found`,
		"This machine can't install the release together with its dependencies.", "Check process.version."),
}

// Causes are why installations of vLLM fail, for a page.
func Causes() []vllm.Cause { return deploy.Causes(installRules) }

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
