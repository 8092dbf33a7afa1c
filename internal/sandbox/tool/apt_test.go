package tool

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// asRoot are the facts of a container that is used as root, fast.
func asRoot() machinefs.Facts {
	return machinefs.Facts{Container: true, User: "root", Python: "3.10", Packages: []string{"python3"}, Speed: 1e4}
}

func TestAptGet(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	if err := root.WriteFacts(asRoot()); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		line, says string
		code       int
		change     func(*machinefs.Facts)
	}{
		{line: "dpkg -s gcc", says: "package 'gcc' is not installed", code: 1},
		{line: "apt-get install -y gcc", says: "E: Unable to locate package gcc", code: 100},
		{line: "apt-get update", says: "are you root?", code: 100, change: func(f *machinefs.Facts) { f.User = "ubuntu" }},
		{line: "apt-get -qq update"},
		{line: "apt-get install -y gcc", says: "are you root?", code: 100, change: func(f *machinefs.Facts) { f.User = "ubuntu" }},
		{
			line: "apt-get install -y gcc", says: "E: Could not get lock", code: 100,
			change: func(f *machinefs.Facts) { f.DpkgLockedUntil = time.Now().Add(time.Hour) },
		},
		{
			line: "apt-get -o DPkg::Lock::Timeout=1000 install -y gcc", says: "Waiting for cache lock",
			change: func(f *machinefs.Facts) { f.DpkgLockedUntil = time.Now().Add(10 * time.Millisecond) },
		},
		{line: "apt-get install -y --no-install-recommends gcc", says: "already the newest version"},
		{line: "dpkg -s gcc", says: "install ok installed"},
		{line: "apt-get install -y nonsense", says: "E: Unable to locate package nonsense", code: 100},
		{line: "dpkg --print-architecture", says: "amd64"},
	} {
		facts := asRoot()
		if step.change != nil {
			step.change(&facts)
		}
		stdout, stderr, code := invoke(root, facts, strings.Fields(step.line)...)
		if code != step.code || !strings.Contains(stdout+stderr, step.says) {
			t.Errorf("%s: exit %d\n%s%s", step.line, code, stdout, stderr)
		}
	}
	if _, err := os.Lstat(root.Bin() + "/gcc"); err != nil {
		t.Error(err)
	}
}

func TestPython(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	const probe = `import sys, sysconfig; print("%d.%d" % sys.version_info[:2], sysconfig.get_path("include"))`
	include := string(root) + "/include/python3.10"
	for _, packages := range [][]string{{"python3"}, {"python3", "python3-dev", "python3-pip"}} {
		facts := asRoot()
		facts.Packages = packages
		if stdout, _, code := invoke(root, facts, "python3", "-c", probe); stdout != "3.10 "+include+"\n" || code != 0 {
			t.Errorf("exit %d: %s", code, stdout)
		}
		_, headers := os.Stat(include + "/Python.h")
		_, stderr, code := invoke(root, facts, "python3", "-m", "pip", "install", "--target", string(root)+"/uv", "-r", "file")
		if all := len(packages) > 1; (headers == nil) != all || (code == 0) != all {
			t.Errorf("%v: headers %v, pip %s", packages, headers, stderr)
		}
	}
}
