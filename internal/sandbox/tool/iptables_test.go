package tool

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	recorded "github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// rule is about port 41169, as a deployment makes it.
const rule = " INPUT ! -i lo -p tcp --dport 41169 -m comment --comment shopper:chat.1a2b3c4d -j DROP"

var iptablesLines = []string{
	"-w -S INPUT",
	"-w -C" + rule,
	"-w -D" + rule,
	"-w -I" + rule,
	"-w -C" + rule,
	"-w -I" + strings.ReplaceAll(rule, "41169", "5"),
	"-w 60 -I" + rule,
	"-w 60 -S INPUT",
	"-w 60 -D" + rule,
	"-w -D" + strings.ReplaceAll(rule, "chat.", "other."),
	"-w -S INPUT",
	"-w -D" + rule,
	"-w -C" + rule,
	"-w -I" + strings.ReplaceAll(rule, "41169", "70000"),
	"-w -I INPUT --nope",
	"-w -I INPUT -p tcp --dport 80 -j DROP",
	"-w -S INPUT",
}

// asNobody are the lines for a caller without the right to change rules.
var asNobody = []string{"-w -S INPUT", "-w -I" + rule, "-w -D" + rule}

// played is what the stand-in says to the lines.
func played(t *testing.T, program string, facts machinefs.Facts, lines []string) string {
	t.Helper()
	root := newRoot(t)
	var said strings.Builder
	for _, line := range lines {
		stdout, stderr, code := invoke(root, facts, append([]string{program}, strings.Fields(line)...)...)
		fmt.Fprintf(&said, "%s%sexit %d\n", stdout, stderr, code)
	}
	return said.String()
}

// called is what the program itself says to the lines, in a new network that ends with it.
func called(t *testing.T, program, before string, lines []string) string {
	t.Helper()
	const script = `while IFS= read -r line; do $BEFORE $PROGRAM $line 2>&1; echo "exit $?"; done`
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", "sh", "-c", script)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin", "PROGRAM=" + program, "BEFORE=" + before}
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	said, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(said), "-P INPUT") && before == "" {
		t.Skipf("SKIPPED: no %s that works in a new network namespace: %v: %.200s", program, err, said)
	}
	return string(said)
}

var versions = regexp.MustCompile(`v[0-9.]+ \((nf_tables|legacy)\)`)

// What the stand-in says is what the real programs say, called in a network of their own.
func TestIptablesIsAsTheRealOne(t *testing.T) {
	t.Parallel()
	facts := twoGPUs()
	facts.User = "root"
	container := facts
	container.Container = true
	version := recorded.Iptables("", "").Version
	for _, program := range []string{"iptables", "ip6tables"} {
		for before, facts := range map[string]machinefs.Facts{"": facts, "setpriv --bounding-set=-net_admin": container} {
			lines := iptablesLines
			if before != "" {
				lines = asNobody
			}
			want := called(t, program, before, lines)
			if other := versions.FindString(want); other != version {
				t.Skipf("SKIPPED: the words of %s %s were recorded, and this is %s", program, version, other)
			}
			if diff := cmp.Diff(want, played(t, program, facts, lines)); diff != "" {
				t.Errorf("%s %s (-real +played): %s", before, program, diff)
			}
		}
	}
}

// A machine that is a container refuses, and so does any machine whoever isn't root.
func TestIptablesNeedsRights(t *testing.T) {
	t.Parallel()
	container, user := twoGPUs(), twoGPUs()
	container.Container, container.User = true, "root"
	words := recorded.Iptables("iptables", "")
	want := strings.Repeat(fmt.Sprintf("%s\nexit %d\n", words.Refused.Says, words.Refused.Exit), len(asNobody))
	for name, facts := range map[string]machinefs.Facts{"container": container, "user": user} {
		if diff := cmp.Diff(want, played(t, "iptables", facts, asNobody)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// The tester's own firewall is out of a machine's reach: whatever is called that way on a machine is the stand-in.
func TestFirewallIsHidden(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"iptables", "ip6tables", "nft", "ufw"} {
		if !slices.Contains(Hidden(), name) {
			t.Errorf("%s isn't hidden", name)
		}
	}
	with, without := machinefs.Facts{Packages: machinefs.Toolchain()}, machinefs.Facts{Packages: []string{"gcc"}}
	for _, name := range []string{"iptables", "ip6tables"} {
		if !present(name, with) || present(name, without) {
			t.Errorf("%s: %t with its package, %t without", name, present(name, with), present(name, without))
		}
	}
}
