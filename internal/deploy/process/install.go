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
	// cancelTimeout bounds ending an installation after its caller has canceled it.
	cancelTimeout = 30 * time.Second
	// shownLines is how many of an installation's last lines an error shows.
	shownLines = 20
)

// A Program is a vLLM of the machine.
type Program struct {
	Path string
	// Release is its version, such as "0.33.0"; "" if unknown.
	Release string
}

// Look sets Tools and Program to what the machine has. cc is the compiler that the server's environment names, "" for none.
func (h *Host) Look(ctx context.Context, cc string) error {
	output, err := h.run(ctx, "look for a C compiler", toolsScript, cc)
	if err != nil {
		return err
	}
	facts := deploy.Facts(output)
	h.Tools = Tools{
		Compiler: facts["compiler"], Python: facts["python"], Headers: facts["headers"],
		Pip: facts["pip"] != "", Apt: facts["apt"] != "",
	}
	_, err = h.find(ctx)
	return err
}

// Ready finds a vLLM of the requested version. If the options allow, it installs vLLM and missing tools: it continues an
// installation that was interrupted, and waits for one that another deployment has started.
func (h *Host) Ready(ctx context.Context, progress func(string)) error {
	seen, err := h.find(ctx)
	if err != nil {
		return err
	}
	if h.Program.Path != "" {
		if packages := h.Tools.packages(false); len(packages) > 0 && h.Options.Install != InstallNever {
			err = h.install(ctx, "tools", progress, packages)
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
	if seen, err = h.find(ctx); err == nil && h.Program.Path == "" {
		err = &deploy.Error{Summary: "could not install vLLM", Cause: fmt.Sprintf("The installation succeeded, but vLLM (%s) is"+
			" missing; the machine has: %s.", wanted, seen)}
	}
	return err
}

// find sets Program to the first vLLM of the requested version, and lists all that the machine has.
func (h *Host) find(ctx context.Context) (seen string, err error) {
	output, err := h.run(ctx, "look for vLLM", findScript, h.base)
	if err != nil {
		return "", err
	}
	h.Program = Program{}
	version := h.Options.Version
	var found []string
	for line := range strings.Lines(output) {
		file, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok || !path.IsAbs(file) {
			continue
		}
		release := releaseOf(text)
		found = append(found, fmt.Sprintf("%s (%s)", file, cmp.Or(release, "unknown version")))
		if plain, _, _ := strings.Cut(release, "+"); h.Program.Path == "" && (version == "" || release == version || plain == version) {
			h.Program = Program{Path: file, Release: release}
		}
	}
	return cmp.Or(strings.Join(found, ", "), "none"), nil
}

// releaseOf returns the last version in a text such as "vllm 0.33.0", "" if there is none.
func releaseOf(text string) string {
	for _, field := range slices.Backward(strings.Fields(text)) {
		if release := strings.TrimPrefix(field, "v"); versionPattern.MatchString(release) {
			return release
		}
	}
	return ""
}

// installRelease installs the requested release, or the newest known one, and the packages that it needs.
func (h *Host) installRelease(ctx context.Context, progress func(string)) error {
	newest, _ := vllm.NewestRelease(func(vllm.Release) bool { return true })
	version := cmp.Or(h.Options.Version, newest.Version)
	until := ""
	if release, ok := vllm.FindRelease(version); ok && release.Published != "" && release.Published < newest.Published {
		until = release.Published + "T23:59:59Z"
	}
	return h.install(ctx, version, progress, h.Tools.packages(true),
		path.Join(h.base, "env", version), version, until, h.Tools.python(), uvVersion, uvRequirement)
}

// install runs an installation as a separate process, which a lost connection doesn't interrupt, and waits for it. If one of the
// same name is running, it waits for that one instead. release are install.sh's arguments after PACKAGES; none = packages only.
func (h *Host) install(ctx context.Context, name string, progress func(string), packages []string, release ...string) error {
	directory := path.Join(h.base, "install", name)
	seen, err := h.observe(ctx, "installation", directory)
	if err == nil && seen.state == deploy.Orphaned {
		_, err = h.end(ctx, directory, deploy.Stop{Force: true}) // nobody would report its exit code; the next one continues its work
	}
	if err != nil {
		return err
	}
	if seen.state != deploy.Running {
		if err := h.put(ctx, directory, "record.json", "{}\n"); err != nil {
			return err
		}
		files := []file{{"launcher.sh", launcherScript}, {"install.sh", installScript}, {"log", ""}}
		command := []string{"sh", path.Join(directory, "install.sh"), h.base, strings.Join(packages, " ")}
		if _, err := h.launch(ctx, directory, files, nil, append(command, release...)...); err != nil {
			return err
		}
	}
	err = h.watchInstall(ctx, directory, progress)
	if ctx.Err() != nil || errors.Is(err, errOrphaned) {
		// Don't leave it running for a caller that has given up, or unwatched. Its downloads remain for the next time.
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
		defer cancel()
		_, stopErr := h.end(after, directory, deploy.Stop{Force: true})
		err = errors.Join(err, stopErr)
	}
	return err
}

// watchInstall waits until an installation has ended, and returns why it failed.
func (h *Host) watchInstall(ctx context.Context, directory string, progress func(string)) error {
	pause := pace.Looks()
	var log []string // the last lines that were read
	for {
		err := pause.Wait(ctx)
		var seen observed
		if err == nil {
			seen, err = h.observe(ctx, "installation", directory)
		}
		if err != nil {
			return &deploy.Error{Summary: "could not install vLLM", Log: log, Err: err}
		}
		lines, logErr := h.tail(ctx, path.Join(directory, "log"), shownLines)
		lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, deploy.EndLine) })
		if len(lines) > 0 {
			log = lines
			progress(strings.TrimSpace(log[len(log)-1]))
		}
		if seen.state != deploy.Running {
			return installEnd(seen, log, logErr)
		}
	}
}

// errOrphaned means that an installation runs without its supervisor, which would have recorded its exit code.
var errOrphaned = errors.New("its supervisor was killed")

// installEnd is the error of an installation that has ended, nil for a success.
func installEnd(seen observed, log []string, logErr error) error {
	if seen.state == deploy.Exited && seen.exitCode == 0 {
		return nil
	}
	if seen.state == deploy.Orphaned {
		return &deploy.Error{
			Summary: "could not install vLLM", Log: log, Err: errors.Join(errOrphaned, logErr),
			Cause: "The process that watched the installation was killed.", WayOut: "Apply again to continue the installation.",
		}
	}
	e := &deploy.Error{Summary: "could not install vLLM", Log: log, Err: errors.Join(fmt.Errorf("exit code %d", seen.exitCode), logErr)}
	e.Explain(strings.Join(log, "\n"), installRules)
	return e
}

const ownInstallation = ", or install vLLM on the machine yourself and set process.install = \"never\"."

// installRules explain failed installations: by the output of uv 0.13.9 as recorded, and by messages of pip and apt-get.
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

// Causes lists why installations of vLLM fail, for the documentation.
func Causes() []vllm.Cause { return deploy.Causes(installRules) }

//go:embed tools.sh
var toolsScript string

// Tools are the machine's tools that vLLM needs for its installation and its start.
type Tools struct {
	// Compiler is a C compiler that works, "" for none.
	Compiler string
	// Python is the version of the machine's python3, such as "3.10", and Headers the directory of its Python.h; "" for none.
	Python, Headers string
	// Pip reports whether that python3 has pip.
	Pip bool
	// Apt reports whether apt-get can install packages, as root or through sudo without a password.
	Apt bool
}

// pip installs this version of uv and no other: PyPI's packages for Linux with glibc, by their checksums as of November 2026.
const (
	uvVersion     = "0.13.9"
	uvRequirement = "uv==" + uvVersion +
		" --hash=sha256:d7f459fe4fd247d830351c75686d3996ace3c6f3f728eb0e85a30b7ada0cef19" + // x86_64
		" --hash=sha256:ecb6028d79dc96fbeafffe5c8af62a7099487ebc05a701e76714eebcffd06375" // aarch64
)

// pythons are the versions of Python that all known releases support: 0.8.0 supports 3.9 to 3.12, 0.33.0 3.11 to 3.14
// (Requires-Python of their packages).
var pythons = []string{"3.11", "3.12"}

// python is the version of the machine's Python if vLLM can be installed with it, "" if uv has to bring another.
func (t Tools) python() string {
	if t.Headers != "" && slices.Contains(pythons, t.Python) {
		return t.Python
	}
	return ""
}

// Missing lists the distribution's packages that the machine lacks for a start and, if install is set, for an installation of vLLM.
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

// packages lists those that can be installed: none without apt-get, which preflight reports.
func (t Tools) packages(install bool) []string {
	if !t.Apt {
		return nil
	}
	return t.Missing(install)
}
