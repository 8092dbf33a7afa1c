package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

const (
	// installPause is between two looks at an installation.
	firstPause = 100 * time.Millisecond
	lastPause  = 2 * time.Second
	// cancelTimeout is how long the end of an installation may take that nobody wants any more.
	cancelTimeout = 30 * time.Second
	shownLines    = 20
)

// Installed returns the release of the vLLM that [Host.Program] would take without installing one, such as "0.33.0"; "" when it
// can't be told. It is not ok when the machine has none.
func (h *Host) Installed(ctx context.Context, options Options) (release string, ok bool, err error) {
	found, err := h.find(ctx, options.Version)
	return found.release, found.program != "", err
}

// Program returns the path of a vLLM of the wanted version, installing it where the options allow. An installation that was cut
// short goes on where it was; one that another deployment has under way is waited for.
func (h *Host) Program(ctx context.Context, options Options, progress func(string)) (string, error) {
	found, err := h.find(ctx, options.Version)
	if err != nil || found.program != "" {
		return found.program, err
	}
	wanted := cmp.Or(options.Version, "any version")
	if options.Install == InstallNever {
		return "", &Error{
			Op: "find vLLM", Cause: fmt.Sprintf("The machine doesn't have vLLM (%s), and process.install is \"never\"; it has: %s.", wanted, found.seen),
			WayOut: "Install it on the machine, set process.version to what is there, or leave process.install out.",
		}
	}
	if err := h.install(ctx, options.Version, progress); err != nil {
		return "", err
	}
	found, err = h.find(ctx, options.Version)
	if err == nil && found.program == "" {
		err = &Error{Op: "install vLLM", Cause: fmt.Sprintf("The installation ended well, but vLLM (%s) isn't there; the machine has: %s.", wanted, found.seen)}
	}
	return found.program, err
}

// programs are the vLLM programs of a machine.
type programs struct {
	// program is the path of the one to take, release its version; "" for none.
	program, release string
	// seen lists all of them.
	seen string
}

// find looks for a version ("" = any) and says what is there.
func (h *Host) find(ctx context.Context, version string) (programs, error) {
	output, err := h.run(ctx, "look for vLLM", findScript, h.base)
	if err != nil {
		return programs{}, err
	}
	result := programs{seen: "none"}
	var found []string
	for line := range strings.Lines(output) {
		file, text, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok || !path.IsAbs(file) {
			continue
		}
		release := releaseOf(text)
		found = append(found, fmt.Sprintf("%s (%s)", file, cmp.Or(release, "unknown version")))
		if plain, _, _ := strings.Cut(release, "+"); result.program == "" && (version == "" || release == version || plain == version) {
			result.program, result.release = file, release
		}
	}
	if len(found) > 0 {
		result.seen = strings.Join(found, ", ")
	}
	return result, nil
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

// install runs the installation as a process of its own, so that a lost connection doesn't cut it short, and waits for it.
// Without a version it installs the newest release that is known here.
func (h *Host) install(ctx context.Context, version string, progress func(string)) error {
	newest, _ := vllm.NewestRelease(func(vllm.Release) bool { return true })
	version = cmp.Or(version, newest.Version)
	until := ""
	if release, ok := vllm.FindRelease(version); ok && release.Published != "" && release.Published < newest.Published {
		until = release.Published + "T23:59:59Z"
	}
	directory := path.Join(h.base, "install", version)
	environment := path.Join(h.base, "env", version)
	running, err := h.installing(ctx, directory)
	if err != nil {
		return err
	}
	if !running {
		files := [][2]string{{"launcher.sh", launcherScript}, {"install.sh", installScript}, {"record.json", "{}\n"}, {"log", ""}}
		for _, file := range files {
			if err := h.put(ctx, directory, file[0], file[1]); err != nil {
				return err
			}
		}
		progress("installing vLLM " + version + " with uv")
		command := []string{"sh", path.Join(directory, "install.sh"), h.base, environment, version, until}
		if _, err := h.launch(ctx, directory, nil, command...); err != nil {
			return err
		}
	}
	err = h.watchInstall(ctx, directory, progress)
	if ctx.Err() != nil {
		// Nothing goes on once the caller has given up; what was downloaded stays for the next time.
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
		defer cancel()
		err = errors.Join(err, h.stop(after, directory, 1))
	}
	return err
}

func (h *Host) installing(ctx context.Context, directory string) (bool, error) {
	output, err := h.run(ctx, "look for an installation", launcherScript, "status", directory)
	return parseStatus(output).state == "running", err
}

func (h *Host) watchInstall(ctx context.Context, directory string, progress func(string)) error {
	const op = "install vLLM"
	pause := firstPause
	timer := time.NewTimer(pause)
	defer timer.Stop()
	var log []string // as it was seen last
	for {
		select {
		case <-ctx.Done():
			return &Error{Op: op, Log: log, Err: ctx.Err()}
		case <-timer.C:
		}
		output, err := h.run(ctx, op, launcherScript, "status", directory)
		if err != nil {
			return &Error{Op: op, Log: log, Err: err}
		}
		lines, logErr := h.tail(ctx, path.Join(directory, "log"), shownLines)
		if len(lines) > 0 {
			log = lines
			progress(strings.TrimSpace(log[len(log)-1]))
		}
		if state := parseStatus(output); state.state != "running" {
			return installEnd(state, log, logErr)
		}
		pause = min(pause*3/2, lastPause)
		timer.Reset(pause)
	}
}

func installEnd(state observed, log []string, logErr error) error {
	if state.state == "exited" && state.exitCode == 0 {
		return nil
	}
	e := &Error{Op: "install vLLM", Log: log, Err: errors.Join(fmt.Errorf("exit code %d", state.exitCode), logErr)}
	text := strings.Join(log, "\n")
	switch {
	case strings.Contains(text, "No space left on device"):
		e.Cause, e.WayOut = "The machine's disk is full.", "Rent a machine with a larger disk (disk_gb), or make room."
	case strings.Contains(text, "no version of vllm") || strings.Contains(text, "No solution found"):
		e.Cause, e.WayOut = "There is no such release of vLLM for this machine.", "Check process.version."
	case strings.Contains(text, "uv could not be installed") || strings.Contains(text, "dns error") || strings.Contains(text, "Failed to fetch"):
		e.Cause = "The machine can't download what it takes to install vLLM."
		e.WayOut = "Check the machine's network, or install vLLM on it in another way and set process.install = \"never\"."
	}
	return e
}
