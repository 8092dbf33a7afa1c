package tool

import (
	"os"
	"strings"
)

// loginUID is the first ordinary user of a Linux installation.
const loginUID = "1000"

func (c *call) uid() string {
	if c.user() == "root" {
		return "0"
	}
	return loginUID
}

func whoami(c *call) int {
	c.printf("%s\n", c.user())
	return 0
}

// id answers for the machine's user: the process really is the tester's.
func id(c *call) int {
	flags := map[string]bool{}
	users, bad := getopt(c.args, []string{"-u", "-g", "-n", "-G", "-r"}, func(name, _ string) { flags[name] = true }, nil)
	switch {
	case bad != nil:
		return c.failf(1, "id: %s", bad.gnu())
	case len(users) > 0 && users[0] != c.user():
		return c.failf(1, "id: ‘%s’: no such user", users[0])
	}
	value := c.uid()
	switch {
	case flags["-n"] && (flags["-u"] || flags["-g"] || flags["-G"]):
		value = c.user()
	case flags["-n"]:
		return c.failf(1, "id: cannot print only names or real IDs in default format")
	case flags["-u"] || flags["-g"] || flags["-G"]:
	default:
		named := c.uid() + "(" + c.user() + ")"
		value = "uid=" + named + " gid=" + named + " groups=" + named
	}
	c.printf("%s\n", value)
	return 0
}

func (c *call) hostname() string {
	if name := os.Getenv(HostnameEnv); name != "" {
		return name
	}
	return "sandbox"
}

func hostname(c *call) int {
	c.printf("%s\n", c.hostname())
	return 0
}

// uname answers as the Ubuntu machines that are rented do, whatever the sandbox
// itself runs on.
func uname(c *call) int {
	flags := "s"
	for i, arg := range c.args {
		if !strings.HasPrefix(arg, "-") || strings.HasPrefix(arg, "--") {
			return c.failf(1, "uname: extra operand ‘%s’", arg)
		}
		if i == 0 {
			flags = ""
		}
		flags += strings.TrimPrefix(arg, "-")
	}
	if strings.Contains(flags, "a") {
		flags = "snrvmo"
	}
	var fields []string
	for _, part := range []struct{ flag, value string }{
		{"s", "Linux"},
		{"n", c.hostname()},
		{"r", "6.8.0-60-generic"},
		{"v", "#63-Ubuntu SMP PREEMPT_DYNAMIC Tue Apr 15 19:04:15 UTC 2025"},
		{"m", "x86_64"},
		{"p", "x86_64"},
		{"i", "x86_64"},
		{"o", "GNU/Linux"},
	} {
		if strings.Contains(flags, part.flag) {
			fields = append(fields, part.value)
		}
	}
	c.printf("%s\n", strings.Join(fields, " "))
	return 0
}
