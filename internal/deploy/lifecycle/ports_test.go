package lifecycle_test

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// oldVM are the facts of a virtual machine with a release on it whose engine has a port open on all addresses.
func oldVM() machinefs.Facts {
	facts := vm()
	facts.Docker, facts.VLLM.Installed = false, "0.19.1"
	return facts
}

// oldRequest deploys what is on it.
func oldRequest() lifecycle.Request {
	wanted := processRequest()
	wanted.Process.Version = ""
	return wanted
}

// closed are the ports that the firewall of a machine closes for IPv4 and, as many, for IPv6.
func (r *rig) closed(t *testing.T) []int {
	t.Helper()
	pattern := regexp.MustCompile(`^-A INPUT ! -i lo -p tcp -m tcp --dport (\d+) -m comment --comment "shopper:chat\S*\.[0-9a-f]{8}" -j DROP$`)
	var ports [2][]int
	for i, program := range []string{"iptables", "ip6tables"} {
		rules, err := r.machine.Root().Rules(program)
		if err != nil {
			t.Fatal(err)
		}
		for _, rule := range rules {
			match := pattern.FindStringSubmatch(rule)
			if match == nil {
				t.Fatalf("another rule of %s: %s", program, rule)
			}
			port, _ := strconv.Atoi(match[1])
			ports[i] = append(ports[i], port)
		}
		slices.Sort(ports[i])
	}
	if !slices.Equal(ports[0], ports[1]) {
		return nil // being changed
	}
	return ports[0]
}

// rules counts all rules of the machine's firewall.
func (r *rig) rules(t *testing.T) int {
	t.Helper()
	v4, err := r.machine.Root().Rules("iptables")
	v6, err6 := r.machine.Root().Rules("ip6tables")
	if err != nil || err6 != nil {
		t.Fatal(err, err6)
	}
	return len(v4) + len(v6)
}

// listens reports whether a port of this computer, and so of the machine, is open.
func listens(port int) bool {
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

// pidOf reads a pid from a file of a server's directory.
func pidOf(t *testing.T, status deploy.Status, file string) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(status.Directory, file))
	text, _, _ := strings.Cut(string(data), " ")
	pid, convErr := strconv.Atoi(text)
	if err != nil || convErr != nil {
		t.Fatalf("%s: %q, %v", file, data, err)
	}
	return pid
}

// The port that an old release opens besides a private server's is closed for all but the machine itself, until the server stops.
func TestOpenPortIsClosed(t *testing.T) {
	t.Parallel()
	for _, user := range []string{"ubuntu", "root"} {
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			facts := oldVM()
			facts.User = user
			r := newRig(t, facts)
			status := launch(t, r, oldRequest())
			ports := r.closed(t)
			if len(ports) != 1 || !listens(ports[0]) || len(status.Warnings) > 0 {
				t.Fatalf("closed: %v; warnings %q", ports, status.Warnings)
			}
			if err := answers(t, r, status, testKey); err != nil {
				t.Error(err)
			}
			asked := slices.ContainsFunc(r.machine.CommandLog(), func(line string) bool { return strings.HasPrefix(line, "sudo -n iptables ") })
			if asked != (user != "root") {
				t.Errorf("as %s: sudo was asked: %t", user, asked)
			}
			remove(t, r, status)
			if left := r.rules(t); left > 0 {
				t.Errorf("%d rules are left", left)
			}
		})
	}
}

// A start of the server opens another port, and the rule follows it: after a death, and after a restart.
func TestClosedPortFollowsTheServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, oldVM())
	status := launch(t, r, oldRequest())
	before := r.closed(t)
	if err := syscall.Kill(pidOf(t, status, "server"), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	moved := func() bool {
		ports := r.closed(t)
		return len(ports) == 1 && len(before) == 1 && ports[0] != before[0] && listens(ports[0])
	}
	testkit.Eventually(t, "a rule for the port of the server that was started again", moved)
	testkit.Eventually(t, "an answer of it", func() bool { return answers(t, r, status, testKey) == nil })
	before = r.closed(t)
	restarted, err := lifecycle.Restart(within(t, limit), r, status.Ref, oldRequest())
	if err != nil || len(restarted.Warnings) > 0 || !moved() {
		t.Fatalf("%v; warnings %q; closed %v, before %v", err, restarted.Warnings, r.closed(t), before)
	}
	remove(t, r, restarted)
	if left := r.rules(t); left > 0 {
		t.Errorf("%d rules are left", left)
	}
}

// Two deployments on one machine have separate rules.
func TestClosedPortsOfTwoServers(t *testing.T) {
	t.Parallel()
	r := newRig(t, oldVM())
	one, two := oldRequest(), oldRequest()
	one.Spec.GPUMemoryUtilization, two.Spec.GPUMemoryUtilization = 0.45, 0.45
	one.Spec.Model, two.Spec.Model = "Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct"
	two.Name, two.Owner, two.Spec.Port = "chat-two", "test/chat-two", 8001
	first := launch(t, r, one)
	ports := r.closed(t)
	second := launch(t, r, two)
	if both := r.closed(t); len(ports) != 1 || len(both) != 2 || !slices.Contains(both, ports[0]) {
		t.Fatalf("closed: %v, then %v", ports, both)
	}
	if _, err := lifecycle.Remove(within(t, limit), r, second.Ref, lifecycle.Request{}); err != nil {
		t.Fatal(err)
	}
	if left := r.closed(t); !slices.Equal(left, ports) {
		t.Errorf("closed: %v, want the first one's %v", left, ports)
	}
	remove(t, r, first)
	if left := r.rules(t); left > 0 {
		t.Errorf("%d rules are left", left)
	}
}

// A server of which processes were killed keeps its port closed as long as it listens, and leaves no rule: neither when it dies by
// itself nor when it is removed.
func TestClosedPortOfAnOrphan(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		all, dies bool
		state     deploy.State
	}{
		"supervisor killed":                      {state: deploy.Orphaned},
		"supervisor killed, and the server dies": {state: deploy.Orphaned, dies: true},
		"all killed at once":                     {state: deploy.Exited, all: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, oldVM())
			status := launch(t, r, oldRequest())
			victim := pidOf(t, status, "identity")
			if test.all {
				victim = -victim // its process group
			}
			if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, "a server that is "+string(test.state), func() bool {
				seen, err := lifecycle.Inspect(within(t, limit), r, status.Ref)
				return err == nil && seen.State == test.state
			})
			if ports := r.closed(t); len(ports) != 1 {
				t.Errorf("closed: %v", ports)
			}
			if test.dies {
				if err := syscall.Kill(pidOf(t, status, "server"), syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				testkit.Eventually(t, "no rule", func() bool { return r.rules(t) == 0 })
			}
			remove(t, r, status)
			if left := r.rules(t); left > 0 {
				t.Errorf("%d rules are left", left)
			}
		})
	}
}

// Rules that somebody else has deleted don't keep a server from being removed.
func TestRulesThatWereFlushed(t *testing.T) {
	t.Parallel()
	r := newRig(t, oldVM())
	status := launch(t, r, oldRequest())
	if r.rules(t) != 2 {
		t.Errorf("%d rules", r.rules(t))
	}
	for _, program := range []string{"iptables", "ip6tables"} {
		err := r.machine.Root().ChangeRules(program, func([]string) ([]string, error) { return nil, nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	remove(t, r, status)
}

// Where the port stays open, the warning says which, why and what to do.
func TestOpenPortThatStaysOpen(t *testing.T) {
	t.Parallel()
	without := func(packages ...string) []string {
		return slices.DeleteFunc(machinefs.Toolchain(), func(name string) bool { return slices.Contains(packages, name) })
	}
	for name, test := range map[string]struct {
		change func(*machinefs.Facts)
		listen string
		why    string
	}{
		"no right": {
			change: func(f *machinefs.Facts) { f.Container, f.User = true, "root" },
			why:    " could not close it: iptables v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root). Allow only the ports you use",
		},
		"no iptables": {
			change: func(f *machinefs.Facts) { f.Container, f.User, f.Packages = true, "root", without("iptables") },
			why:    " could not close it: the machine has no iptables. Allow only the ports you use",
		},
		"no iptables for sudo": {
			change: func(f *machinefs.Facts) { f.Packages = without("iptables") },
			why:    " could not close it: sudo: iptables: command not found. Allow only the ports you use",
		},
		"neither root nor sudo": {
			change: func(f *machinefs.Facts) { f.Container, f.User = true, "somebody" },
			why:    " could not close it: changing its rules takes root, or sudo without a password. Allow only the ports you use",
		},
		"public": {listen: "0.0.0.0", why: " which requires no key. Allow only the ports you use"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			facts := oldVM()
			if test.change != nil {
				test.change(&facts)
			}
			r := newRig(t, facts)
			wanted := oldRequest()
			wanted.Spec.Listen = test.listen
			status := launch(t, r, wanted)
			if len(status.Warnings) != 1 {
				t.Fatalf("warnings %q", status.Warnings)
			}
			contains(t, status.Warnings[0], test.why, "vLLM 0.28.0 or newer", "a container")
			match := regexp.MustCompile(`also listens on port (\d+) on all`).FindStringSubmatch(status.Warnings[0])
			if match == nil {
				t.Fatal(status.Warnings[0])
			}
			if port, _ := strconv.Atoi(match[1]); !listens(port) {
				t.Errorf("nobody listens on %d", port)
			}
			if made := r.rules(t); made > 0 {
				t.Errorf("%d rules were made", made)
			}
			remove(t, r, status)
		})
	}
}

// A rule that can't be deleted doesn't keep a server from being removed: it is a warning.
func TestRuleThatIsLeft(t *testing.T) {
	t.Parallel()
	r := newRig(t, oldVM())
	status := launch(t, r, oldRequest())
	ports := r.closed(t)
	r.facts(t, func(f *machinefs.Facts) { f.Container, f.User = true, "root" }) // the right to change it is lost
	warning, err := lifecycle.Remove(within(t, limit), r, status.Ref, lifecycle.Request{})
	if err != nil || len(ports) != 1 {
		t.Fatalf("%v; closed %v", err, ports)
	}
	port := strconv.Itoa(ports[0])
	contains(t, warning, "the machine still has a rule of ip", "a rule of iptables for port "+port+" that could not be deleted",
		"a rule of ip6tables for port "+port, "(its comment is shopper:"+filepath.Base(status.Directory)+").")
	r.clean(t)
}

// For a release that opens no other port, the firewall is not touched.
func TestNewReleaseHasNoOtherPort(t *testing.T) {
	t.Parallel()
	facts := oldVM()
	facts.VLLM.Installed = "0.33.0"
	r := newRig(t, facts)
	status := launch(t, r, oldRequest())
	if len(status.Warnings) > 0 {
		t.Errorf("warnings %q", status.Warnings)
	}
	remove(t, r, status)
	if log := strings.Join(r.machine.CommandLog(), "\n"); strings.Contains(log, "tables -") {
		t.Errorf("the firewall was changed:\n%s", log)
	}
}
