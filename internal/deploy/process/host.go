package process

import (
	"cmp"
	"context"
	_ "embed" // the scripts
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

var (
	//go:embed launcher.sh
	launcherScript string
	//go:embed install.sh
	installScript string
	//go:embed find.sh
	findScript string
)

var _ deploy.Runtime = (*Host)(nil)

// Host is where servers are run as processes: one directory of a machine.
type Host struct {
	Options Options
	// Program is the vLLM to run and Tools what the machine has for it, once [Host.Look] has looked. Its path is "" until
	// it is installed.
	Program Program
	Tools   Tools

	machine deploy.Machine
	base    string
}

// At is the directory of the options, or the default one under the user's home on the machine. The machine is asked
// nothing, and there is nothing to close.
func At(machine deploy.Machine, options Options, home string) (*Host, error) {
	h := &Host{Options: options, machine: machine, base: cmp.Or(options.Directory, path.Join(home, DefaultDirectory))}
	if !path.IsAbs(h.base) {
		return nil, &deploy.Error{
			Summary: "could not find a directory for vLLM", Cause: "The user has no home directory on the machine.",
			WayOut: "Set process.directory to an absolute path that the user can write to.",
		}
	}
	return h, nil
}

// Kind returns [deploy.Process].
func (h *Host) Kind() deploy.Kind { return deploy.Process }

// Release implements [deploy.Runtime].
func (h *Host) Release() string { return h.Program.Release }

// TLSFiles stand for files of a directory whose name isn't known before the start.
func (h *Host) TLSFiles() (certificate, key string) { return tlsCertificatePath, tlsKeyPath }

// Reach implements [deploy.Runtime].
func (h *Host) Reach(ref deploy.Ref) string {
	pid, _, _ := strings.Cut(ref.ID, "-")
	return fmt.Sprintf("the process %s and its session (pid %s); on the machine, its log is %s and %s removes it",
		ref.Name, pid, path.Join(ref.Directory, "log"), ref.Removal(""))
}

// Close does nothing: there is nothing to close.
func (h *Host) Close() error { return nil }

// Directory is where it keeps vLLM and the servers. It may not be there yet.
func (h *Host) Directory() string { return h.base }

// run runs a script that needs no standard input of its own, with arguments, and returns what it printed.
func (h *Host) run(ctx context.Context, op, script string, args ...string) (string, error) {
	return h.command(ctx, op, host.Command{Args: append([]string{"sh", "-s", "--"}, args...), Stdin: strings.NewReader(script)})
}

// command runs a command, for which another exit status than 0 is an error, and returns what it printed.
func (h *Host) command(ctx context.Context, op string, command host.Command) (string, error) {
	result, err := h.machine.Run(ctx, command)
	if err != nil || result.ExitCode == 0 {
		return result.Stdout, deploy.Failed(ctx, op, err)
	}
	said := cmp.Or(strings.TrimSpace(result.Stderr), strings.TrimSpace(result.Stdout))
	said = said[max(0, len(said)-maxSaid):]
	e := &deploy.Error{Summary: "could not " + op, Err: fmt.Errorf("exit status %d: %s", result.ExitCode, said)}
	if result.Signal != "" {
		e.Err = fmt.Errorf("ended by signal %s: %s", result.Signal, said)
	}
	e.Explain(said, nil)
	return result.Stdout, e
}

// maxSaid is how much is told of what a failed command printed, in bytes.
const maxSaid = 500

// put writes a file of a directory of ours at once, readable by nobody else.
func (h *Host) put(ctx context.Context, directory, name, content string) error {
	const script = `umask 077; mkdir -p -- "$1" && cat >"$1/$2.new" && mv -f -- "$1/$2.new" "$1/$2"`
	_, err := h.command(ctx, fmt.Sprintf("write %s on the machine", path.Join(directory, name)), host.Command{Args: []string{"sh", "-c", script, "sh", directory, name}, Stdin: strings.NewReader(content)})
	return err
}

// file is a file beside a server.
type file struct{ name, content string }

// launch writes files into a directory of ours that is there, each at once and readable by nobody else. Then it starts a program
// under the launcher, which is one of the files or there already, and returns its supervisor's identity. A directory that is
// removed meanwhile is not made again: nothing starts in it.
func (h *Host) launch(
	ctx context.Context, directory string, files []file, environment map[string]string, command ...string,
) (string, error) {
	const (
		op     = "start a process"
		script = `umask 077
dir=$1
complete=
while IFS= read -r line; do
	[ -n "$line" ] || { complete=yes; break; }
	name=${line%%=*} content=$(printf '%b.' "${line#*=}")
	printf '%s' "${content%.}" >"$dir/$name.new" && mv -f -- "$dir/$name.new" "$dir/$name" || exit
done
[ -n "$complete" ] || { echo 'the connection ended before all files had come' >&2; exit 5; }
exec sh "$dir/launcher.sh" start "$@"`
	)
	var input strings.Builder
	for _, f := range files {
		input.WriteString(f.name + "=" + escape(f.content) + "\n")
	}
	input.WriteString("\n" + encodeEnvironment(environment) + "\n")
	output, err := h.command(ctx, op, host.Command{
		Args: append([]string{"sh", "-c", script, "sh", directory}, command...), Stdin: strings.NewReader(input.String()),
	})
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(output) {
		if id, ok := parseIdentity(line); ok {
			return id, nil
		}
	}
	return "", &deploy.Error{Summary: "could not " + op, Cause: "The launcher didn't report the process's identity."}
}

// stop ends all processes of a directory's session, checks that they are gone, and deletes their rules from the firewall. The note
// is about those that may be left there, mostly "".
func (h *Host) stop(ctx context.Context, directory string, graceSeconds int, drain time.Duration) (note string, err error) {
	times := []string{fmt.Sprint(graceSeconds), fmt.Sprint(int(drain.Seconds()))}
	output, err := h.run(ctx, "end the processes of "+directory, launcherScript, "stop", directory, times[0], times[1])
	return parseLeft(output, directory), err
}

// remove removes a directory of ours.
func (h *Host) remove(ctx context.Context, directory string) error {
	const script = `[ ! -e "$1" ] || rm -rf -- "$1"`
	if path.Dir(path.Dir(directory)) != h.base || !namePattern.MatchString(path.Base(directory)) {
		return &deploy.Error{Summary: "could not remove " + directory, Cause: "The provider didn't create this directory."}
	}
	_, err := h.run(ctx, "remove "+directory, script, directory)
	return err
}

// tail returns the last lines of a file.
func (h *Host) tail(ctx context.Context, file string, lines int) ([]string, error) {
	output, err := h.command(ctx, "read the log "+file, host.Command{Args: []string{"tail", "-n", fmt.Sprint(max(lines, 1)), "--", file}, MaxOutput: maxLogBytes})
	if output = strings.TrimRight(output, "\n"); err != nil || output == "" {
		return nil, err
	}
	return strings.Split(output, "\n"), nil
}

// maxLogBytes bounds what is read of a log, whatever the number of lines asked for.
const maxLogBytes = 4 << 20
