package process

import (
	"cmp"
	"context"
	_ "embed" // the scripts
	"fmt"
	"path"
	"regexp"
	"strings"

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

// Host runs servers as processes, in one directory of a machine.
type Host struct {
	Options Options
	// Program is the vLLM to run, with the path "" until it is installed, and Tools is what the machine has for it. [Host.Look] sets
	// both.
	Program Program
	Tools   Tools

	machine deploy.Machine
	base    string
}

// At returns the Host of the options' directory, or of the default one in the user's home on the machine. It sends nothing to the
// machine, and there is nothing to close.
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

// TLSFiles returns placeholders: the server's directory has no name before the start.
func (h *Host) TLSFiles() (certificate, key string) { return tlsCertificatePath, tlsKeyPath }

// Reach implements [deploy.Runtime].
func (h *Host) Reach(ref deploy.Ref) string {
	pid, _, _ := strings.Cut(ref.ID, "-")
	return fmt.Sprintf("the process %s and its session (pid %s); on the machine, its log is %s and %s removes it",
		ref.Name, pid, path.Join(ref.Directory, "log"), ref.Removal(""))
}

// Close implements [deploy.Runtime]; there is nothing to close.
func (h *Host) Close() error { return nil }

// Directory is where vLLM and the servers are kept. It may not exist yet.
func (h *Host) Directory() string { return h.base }

// run runs a script, which can't read standard input, and returns its output.
func (h *Host) run(ctx context.Context, op, script string, args ...string) (string, error) {
	return h.command(ctx, op, host.Command{Args: append([]string{"sh", "-s", "--"}, args...), Stdin: strings.NewReader(script)})
}

// command runs a command and returns its output. An exit status other than 0 is an error.
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

// maxSaid is how many bytes of a failed command's output an error holds.
const maxSaid = 500

// put writes a file into a directory, which it creates if necessary: atomically, and readable only by the user.
func (h *Host) put(ctx context.Context, directory, name, content string) error {
	const script = `umask 077; mkdir -p -- "$1" && cat >"$1/$2.new" && mv -f -- "$1/$2.new" "$1/$2"`
	_, err := h.command(ctx, fmt.Sprintf("write %s on the machine", path.Join(directory, name)), host.Command{Args: []string{"sh", "-c", script, "sh", directory, name}, Stdin: strings.NewReader(content)})
	return err
}

// file is a file in a server's directory.
type file struct{ name, content string }

// launch writes files into an existing directory, each atomically and readable only by the user. Then it starts a command under the
// launcher, which is one of the files or was written before, and returns its supervisor's identity. If the directory was removed
// meanwhile, launch fails: it neither creates it again nor starts anything.
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
		if id := parseIdentity(line); id != "" {
			return id, nil
		}
	}
	return "", &deploy.Error{Summary: "could not " + op, Cause: "The launcher didn't report the process's identity."}
}

// stopGrace is how many seconds a session has to end by itself after TERM, and forcedGrace if it is forced.
const (
	stopGrace   = 20
	forcedGrace = 2
)

// end ends all processes of a directory's session, with TERM and then KILL, checks that they are gone, and deletes their rules from the
// firewall. A session that has ended already is a success. While a server drains, only the server itself gets TERM: its workers would
// end at once (seen with vLLM 0.32.0). The note names rules that may be left, "" for none.
func (h *Host) end(ctx context.Context, directory string, stop deploy.Stop) (note string, err error) {
	if directory == "" {
		return "", &deploy.Error{Summary: "could not end the server's processes", Cause: "Their directory is unknown."}
	}
	grace := stopGrace
	if stop.Force {
		grace = forcedGrace
	}
	output, err := h.run(ctx, "end the processes of "+directory, launcherScript,
		"stop", directory, fmt.Sprint(grace), fmt.Sprint(int(stop.Drain.Seconds())))
	return parseLeft(output, directory), err
}

// serverDirectory matches the directories that Start creates, below any base: a deployment's base may have changed since.
var serverDirectory = regexp.MustCompile(`^/(?:[^/]+/)*servers/[a-zA-Z0-9][a-zA-Z0-9_.-]+\.[0-9a-f]{8}$`)

// remove removes a server's directory, and no other.
func (h *Host) remove(ctx context.Context, directory string) error {
	if path.Clean(directory) != directory || !serverDirectory.MatchString(directory) {
		return &deploy.Error{Summary: "could not remove " + directory, Cause: "The provider didn't create this directory."}
	}
	_, err := h.command(ctx, "remove "+directory, host.Command{Args: []string{"rm", "-rf", "--", directory}})
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

// maxLogBytes bounds what is read of a log, whatever the number of lines.
const maxLogBytes = 4 << 20
