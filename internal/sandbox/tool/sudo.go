package tool

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// sudo runs a command with the environment that sudo gives it: variables that sudoers
// keeps and those of the command line, or all with -E. It never asks for a password.
func sudo(c *call) int {
	order, problem := parseSudo(c.args)
	if problem != "" {
		return c.failf(1, "sudo: %s", problem)
	}
	if len(order.command) == 0 {
		if order.nothing {
			return 0
		}
		return c.failf(1, "usage: sudo -k | -v\nusage: sudo [-nEHS] [-u user] [VAR=value] [command [arg ...]]")
	}
	env := order.environment(os.Environ(), c)
	path, err := lookPath(order.command[0], env)
	if err != nil {
		return c.failf(1, "sudo: %s: command not found", order.command[0])
	}
	err = syscall.Exec(path, order.command, env)
	return c.failf(1, "sudo: unable to execute %s: %v", path, err)
}

// sudoOrder is a parsed command line.
type sudoOrder struct {
	user    string
	keepEnv bool
	set     []string // VAR=value
	command []string
	nothing bool // an option that needs no command
}

func parseSudo(args []string) (order sudoOrder, problem string) {
	order.user = "root"
	known := []string{
		"-u --user=", "-E --preserve-env", "-n --non-interactive", "-H --set-home", "-S --stdin", "-v --validate", "-k --reset-timestamp",
	}
	var bad *badOption
	order.command, bad = getopt(args, known, func(name, value string) {
		switch name {
		case "-u":
			order.user = value
		case "-E":
			order.keepEnv = true
		case "-v", "-k":
			order.nothing = true
		}
	}, func(operand string) bool {
		if isAssignment(operand) {
			order.set = append(order.set, operand)
		}
		return isAssignment(operand)
	})
	if bad != nil {
		problem = bad.gnu()
	}
	return order, problem
}

// environment returns the command's environment, made of env.
func (o *sudoOrder) environment(env []string, c *call) []string {
	var kept []string
	for _, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		if o.keepEnv || keptBySudo(name) {
			kept = append(kept, entry)
		}
	}
	path := c.root.Path()
	if o.keepEnv {
		path = os.Getenv("PATH")
	}
	kept = append(kept,
		"PATH="+path,
		"USER="+o.user, "LOGNAME="+o.user, UserEnv+"="+o.user,
		"SUDO_USER="+c.user(), "SUDO_COMMAND="+strings.Join(o.command, " "))
	return unique(append(kept, o.set...))
}

func keptBySudo(name string) bool {
	switch name {
	case "HOME", "TERM", "LANG", "SHELL", "TMPDIR", "GOCOVERDIR", "GORACE":
		return true
	}
	return strings.HasPrefix(name, "LC_") || strings.HasPrefix(name, "SHOPPER_SANDBOX_")
}

// unique keeps the last setting of each variable.
func unique(env []string) []string {
	last := make(map[string]int, len(env))
	for i, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		last[name] = i
	}
	var kept []string
	for i, entry := range env {
		name, _, _ := strings.Cut(entry, "=")
		if last[name] == i {
			kept = append(kept, entry)
		}
	}
	return kept
}

func isAssignment(arg string) bool {
	name, _, ok := strings.Cut(arg, "=")
	return ok && name != "" && !strings.ContainsAny(name, "/ ")
}

// lookPath finds a program on the PATH that env sets.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, entry := range env {
		path, ok := strings.CutPrefix(entry, "PATH=")
		if !ok {
			continue
		}
		for dir := range strings.SplitSeq(path, string(os.PathListSeparator)) {
			if found, err := exec.LookPath(dir + "/" + name); err == nil {
				return found, nil
			}
		}
	}
	return "", exec.ErrNotFound
}
