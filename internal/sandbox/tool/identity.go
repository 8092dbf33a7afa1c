package tool

import (
	"cmp"
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

// id prints the machine's user, not the process's real one.
func id(c *call) int {
	flags := map[string]bool{}
	users, bad := getopt(c.args, []string{"-u", "-g", "-n", "-G", "-r"}, func(name, _ string) { flags[name] = true }, nil)
	switch {
	case bad != nil:
		return c.failf(1, "id: %s", bad.gnu())
	case len(users) > 0 && users[0] != c.user():
		return c.failf(1, "id: ‘%s’: no such user", users[0])
	}
	switch {
	case flags["-n"]:
		c.printf("%s\n", c.user())
	case len(flags) > 0:
		c.printf("%s\n", c.uid())
	default:
		c.printf("uid=%s gid=%[1]s groups=%[1]s\n", c.uid()+"("+c.user()+")")
	}
	return 0
}

func (c *call) hostname() string { return cmp.Or(os.Getenv(HostnameEnv), "sandbox") }

func hostname(c *call) int {
	c.printf("%s\n", c.hostname())
	return 0
}

// uname prints what rented Ubuntu machines do, whatever system the sandbox runs on.
func uname(c *call) int {
	flags := cmp.Or(strings.Join(c.args, ""), "-s")
	if strings.Trim(flags, "-asnrvmo") != "" {
		return c.failf(1, "uname %s: not part of a sandbox machine", strings.Join(c.args, " "))
	}
	values := []string{
		"Linux", c.hostname(), "6.8.0-60-generic", "#63-Ubuntu SMP PREEMPT_DYNAMIC Tue Apr 15 19:04:15 UTC 2025", "x86_64", "GNU/Linux",
	}
	var fields []string
	for i, flag := range "snrvmo" {
		if strings.ContainsAny(flags, "a"+string(flag)) {
			fields = append(fields, values[i])
		}
	}
	c.printf("%s\n", strings.Join(fields, " "))
	return 0
}
