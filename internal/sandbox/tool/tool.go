// Package tool has the programs of a sandbox machine. Each is the running executable under
// another name, by a symlink in the machine's bin directory. So a program that starts
// machines, such as a test binary, calls Main first.
package tool

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// Program is a program of a machine that another package provides. args are without its
// name; it returns the exit code. ctx is never canceled: a long-running program watches
// signals and the machine's lifeline.
type Program func(ctx context.Context, args, env []string, stdout, stderr io.Writer) int

// VLLM is the name of the one program that Main's caller provides; without it no machine
// has a `vllm`.
const VLLM = "vllm"

// UserEnv is the user that a command runs as on the machine, root or the login user. The
// process's real user is the sandbox's.
const UserEnv = "SHOPPER_SANDBOX_USER"

// HostnameEnv is the machine's host name.
const HostnameEnv = "SHOPPER_SANDBOX_HOSTNAME"

// exitNotFound is a shell's exit code for a missing program.
const exitNotFound = 127

// provided are the programs of Main; nil until it was called.
var provided atomic.Pointer[map[string]Program]

// Main runs the program of a sandbox machine that this process was started as, and exits;
// in any other process it returns at once. Call it before anything else in main and in
// TestMain. programs are those of other packages, by name; it may be nil.
func Main(programs map[string]Program) {
	table := maps.Clone(programs)
	if table == nil {
		table = map[string]Program{}
	}
	provided.Store(&table)
	name := filepath.Base(os.Args[0])
	if name == keeperName && os.Getenv(keeperEnv) != "" {
		signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP) // only the end of its orders ends it
		clearUp(os.Stdin)
		os.Exit(0)
	}
	if !known(name) {
		return
	}
	root, ok := machinefs.FromEnv()
	if !ok {
		// Returning would run the whole sandbox or test suite instead of a small tool.
		fmt.Fprintf(os.Stderr, "%s: not on a sandbox machine: %s is not set\n", name, machinefs.Env)
		os.Exit(exitNotFound)
	}
	os.Exit(run(root, name))
}

// Ready reports whether Main was called, without which machines have no programs.
func Ready() bool { return provided.Load() != nil }

// run runs the program name with this process's arguments and streams.
func run(root machinefs.Root, name string) int {
	if err := root.Record(strings.Join(append([]string{name}, os.Args[1:]...), " ")); err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		return 1
	}
	facts, err := root.ReadFacts()
	if err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		return 1
	}
	if program, ok := builtin[name]; ok {
		return program(&call{
			root: root, facts: facts, name: name, args: os.Args[1:],
			stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		})
	}
	env := os.Environ()
	if version := venvVersion(os.Args[0]); version != "" && name == VLLM {
		env = append(env, vllmVersionEnv+"="+version)
	}
	return (*provided.Load())[name](context.Background(), os.Args[1:], env, os.Stdout, os.Stderr)
}

// call is one run of a program of this package.
type call struct {
	root   machinefs.Root
	facts  machinefs.Facts
	name   string
	args   []string
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
}

// printf writes to standard output, and ignores that it is closed.
func (c *call) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(c.stdout, format, args...)
}

// failf writes to standard error and returns code.
func (c *call) failf(code int, format string, args ...any) int {
	_, _ = fmt.Fprintf(c.stderr, format+"\n", args...)
	return code
}

// user returns the name of the user that the program runs as.
func (c *call) user() string {
	return cmp.Or(os.Getenv(UserEnv), c.facts.User)
}

// builtin are the programs of this package. Those that only some machines have are among Hidden, too.
var builtin map[string]func(*call) int

// The table is filled in here because sudo, one of its entries, reads it.
func init() { //nolint:gochecknoinits // breaks an initialization cycle, does nothing else
	builtin = map[string]func(*call) int{
		"apt-get": aptGet, "cc": compiler, "curl": noInternet, "df": df, "docker": docker, "dpkg": dpkg, "g++": compiler, "gcc": compiler,
		"hostname": hostname, "id": id, "install": install, "ip6tables": iptables, "iptables": iptables, "nvidia-ctk": nvidiaCTK,
		"nvidia-smi": nvidiaSMI, "podman": podman, "python3": python, "ss": ss, "sudo": sudo, "systemctl": systemctl,
		"systemd-detect-virt": detectVirt, "uname": uname, "uv": uv, "wget": noInternet, "whoami": whoami,
	}
	for _, name := range outOfReach {
		builtin[name] = refuse
	}
}

func known(name string) bool {
	_, isBuiltin := builtin[name]
	_, isProvided := (*provided.Load())[name]
	return isBuiltin || isProvided
}

// Everywhere returns the names of the programs that every machine has, sorted.
func Everywhere() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(builtin)), func(name string) bool { return slices.Contains(Hidden(), name) })
}

// Installed returns the names of the programs that a machine with these facts has
// besides those, sorted; facts.Packages are all packages that are installed. Call it
// after Main.
func Installed(facts machinefs.Facts) []string {
	names := slices.DeleteFunc(Hidden(), func(name string) bool { return builtin[name] == nil || !present(name, facts) })
	for name := range *provided.Load() {
		if name != VLLM || facts.VLLM.Installed != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// present reports whether a machine with these facts has one of the programs that only some have.
func present(name string, facts machinefs.Facts) bool {
	installed := slices.Contains(facts.Packages, packageOf(name))
	switch name {
	case "nvidia-smi":
		return facts.Driver != machinefs.DriverMissing
	case "sudo", "systemd-detect-virt":
		return !facts.Container
	case "docker":
		return installed || facts.Docker && facts.Podman == ""
	case "podman":
		return facts.Docker && facts.Podman != ""
	case "nvidia-ctk":
		return installed || facts.Docker && (facts.Podman != "" || !facts.NoGPURuntime)
	}
	return installed
}

// Hidden returns the programs that a machine must not find on the computer's PATH: those
// that only some machines have, and others that reach beyond the sandbox.
func Hidden() []string {
	return []string{
		VLLM, "nvidia-smi", "nvidia-ctk", "sudo", "doas", "docker", "dockerd", "podman", "nerdctl", "containerd", "crictl",
		"systemd-detect-virt",
		"gcc", "cc", "g++", "clang", "python3", "pip3", "curl", "wget", "uv",
		"iptables", "ip6tables", "iptables-nft", "ip6tables-nft", "iptables-legacy", "ip6tables-legacy", "nft", "ufw", "firewall-cmd",
	}
}
