package tool

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// packages are the packages that machines can have, and their programs.
var packages = map[string][]string{
	"ca-certificates": nil,
	"curl":            {"curl"},
	"docker.io":       {"docker"},
	"g++":             {"g++"},
	"gcc":             {"gcc", "cc"},
	"iptables":        {"iptables", "ip6tables"},
	"libc6-dev":       nil,
	nvidiaToolkit:     {"nvidia-ctk"}, // from NVIDIA's own packages
	"python3":         {"python3"},
	"python3-dev":     nil, // Python.h, which the stand-in for python3 looks for
	"python3-pip":     nil,
	"uv":              {"uv"}, // not a real package; it is for machines that have uv from the start
	"wget":            {"wget"},
}

// aptTime is how long an installation takes, after the wait for a lock.
const aptTime = 15 * time.Second

// The messages of apt-get about its locks (apt 2.4, apt-pkg/contrib/fileutl.cc and
// apt-pkg/deb/debsystem.cc), and its exit code.
const (
	aptFailed  = 100
	aptNotRoot = "E: Could not open lock file %s - open (13: Permission denied)\nE: Unable to %s, are you root?"
	dpkgLock   = "acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend)"
	dpkgLocked = "Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1187 (apt-get)"
	dpkgBusy   = "E: " + dpkgLocked + "\nN: Be aware that removing the lock file is not a solution and may break your system.\n" +
		"E: Unable to " + dpkgLock + ", is another process using it?"
)

var errDpkgBusy = errors.New("dpkg is locked")

// aptGet installs the packages of the table. A container's image has no index of packages
// before `apt-get update`. Installing needs root and dpkg's lock.
func aptGet(c *call) int {
	var wait time.Duration
	known := []string{
		"-y --yes --assume-yes", "-q --quiet", "-qq", "--no-install-recommends", "--no-upgrade", "-f --fix-broken", "-o --option=",
	}
	words, bad := getopt(c.args, known, func(name, value string) {
		if seconds, found := strings.CutPrefix(value, "DPkg::Lock::Timeout="); found && name == "-o" {
			n, _ := strconv.Atoi(seconds)
			wait = time.Duration(n) * time.Second
		}
	}, nil)
	switch {
	case bad != nil:
		return c.failf(aptFailed, "E: Command line option %s is not understood in combination with the other options", bad.option)
	case len(words) == 1 && words[0] == "update":
		if c.user() != "root" {
			return c.failf(aptFailed, aptNotRoot, "/var/lib/apt/lists/lock", "lock directory /var/lib/apt/lists/")
		}
		c.printf("Reading package lists...\n")
		return c.done(c.root.AddPackage(aptLists))
	case len(words) > 0 && words[0] == "install":
		return c.aptInstall(words[1:], wait)
	}
	return c.failf(aptFailed, "E: apt-get %s: not part of a sandbox machine, which has `update` and `install`", strings.Join(c.args, " "))
}

// aptLists is what `apt-get update` leaves among the machine's packages.
const aptLists = ".lists"

func (c *call) aptInstall(names []string, wait time.Duration) int {
	if c.user() != "root" {
		return c.failf(aptFailed, aptNotRoot, "/var/lib/dpkg/lock-frontend", dpkgLock)
	}
	unlock, err := c.lockDpkg(wait)
	if err != nil {
		return c.failf(aptFailed, dpkgBusy)
	}
	defer unlock()
	c.printf("Reading package lists...\nBuilding dependency tree...\nReading state information...\n")
	var fresh []string
	for _, name := range names {
		_, exists := packages[name]
		switch {
		case c.hasPackage(name):
			c.printf("%s is already the newest version.\n", name)
		case !exists || c.facts.Container && !c.hasPackage(aptLists), name == nvidiaToolkit && !c.knowsNVIDIA():
			return c.failf(aptFailed, "E: Unable to locate package %s", name)
		default:
			fresh = append(fresh, name)
		}
	}
	c.printf("0 upgraded, %d newly installed, 0 to remove and 0 not upgraded.\n", len(fresh))
	if len(fresh) > 0 {
		<-time.After(c.facts.Scale(aptTime))
	}
	for _, name := range fresh {
		if err := c.putPackage(name); err != nil {
			return c.failf(aptFailed, "E: Sub-process /usr/bin/dpkg returned an error code (1): %v", err)
		}
		c.printf("Setting up %s ...\n", name)
	}
	return 0
}

func (c *call) hasPackage(name string) bool {
	return slices.Contains(c.facts.Packages, name) || slices.Contains(c.root.Packages(), name)
}

// putPackage links a package's programs, and records the package.
func (c *call) putPackage(name string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	for _, program := range packages[name] {
		if err := os.Symlink(exe, filepath.Join(c.root.Bin(), program)); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return c.root.AddPackage(name)
}

// lockDpkg takes dpkg's lock, which another installation may hold, or another program until
// Facts.DpkgLockedUntil.
func (c *call) lockDpkg(wait time.Duration) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(string(c.root), "dpkg.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(c.facts.Scale(wait))
	for said := false; ; said = true {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil && !time.Now().Before(c.facts.DpkgLockedUntil) {
			return func() {
				// Closing is not enough: a program that is being started has the file for a moment.
				_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
				_ = file.Close()
			}, nil
		}
		_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN) // does nothing if it isn't held
		if !time.Now().Before(deadline) {
			return nil, errors.Join(errDpkgBusy, file.Close())
		}
		if !said {
			c.printf("Waiting for cache lock: %s...\n", dpkgLocked)
		}
		<-time.After(c.facts.Scale(time.Second))
		if facts, err := c.root.ReadFacts(); err == nil { // a test may have ended the lock
			c.facts = facts
		}
	}
}

// dpkg prints whether a package is installed, and the architecture.
func dpkg(c *call) int {
	switch {
	case len(c.args) == 1 && c.args[0] == "--print-architecture":
		c.printf("amd64\n")
		return 0
	case len(c.args) == 2 && (c.args[0] == "-s" || c.args[0] == "--status"):
		if !c.hasPackage(c.args[1]) {
			return c.failf(1, "dpkg-query: package '%s' is not installed and no information is available", c.args[1])
		}
		c.printf("Package: %s\nStatus: install ok installed\n", c.args[1])
		return 0
	}
	return c.failf(2, "dpkg: %s: not part of a sandbox machine, which has `-s` and `--print-architecture`", strings.Join(c.args, " "))
}

// done is the exit code of a program whose last step returned err.
func (c *call) done(err error) int {
	if err != nil {
		return c.failf(aptFailed, "E: %v", err)
	}
	return 0
}

// compiler is gcc. It compiles nothing, and reports only whether it could.
func compiler(c *call) int {
	if strings.Join(c.args, " ") == "-x c -fsyntax-only -" {
		if !c.hasPackage("libc6-dev") {
			return c.failf(1, "<stdin>:1:10: fatal error: stdlib.h: No such file or directory\ncompilation terminated.")
		}
		return 0
	}
	if len(c.args) == 1 && c.args[0] == "--version" {
		c.printf("gcc (Ubuntu) 11.4.0\n")
		return 0
	}
	return c.failf(1, "%s: fatal error: not part of a sandbox machine, on which nothing is compiled", c.name)
}

// noInternet is curl or wget on a machine from which only NVIDIA's key can be reached.
func noInternet(c *call) int {
	host := ""
	for _, arg := range c.args {
		if _, rest, found := strings.Cut(arg, "://"); found {
			host, _, _ = strings.Cut(rest, "/")
		}
	}
	if at := slices.Index(c.args, "-o"); c.name == "curl" && slices.Contains(c.args, nvidiaKey) && at >= 0 && at+1 < len(c.args) {
		return c.done(os.WriteFile(c.args[at+1], []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n"), 0o600))
	}
	if c.name == "wget" {
		return c.failf(4, "wget: unable to resolve host address ‘%s’", host)
	}
	return c.failf(6, "curl: (6) Could not resolve host: %s", host)
}

// packageOf is the package of a program; "" = none.
func packageOf(program string) string {
	for name, programs := range packages {
		if slices.Contains(programs, program) {
			return name
		}
	}
	return ""
}
