package process

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// Invalid lines, and the server's own port, are ignored.
func TestParsePorts(t *testing.T) {
	t.Parallel()
	const said = "closed 41169\nclosed 41169\nclosed 5\nopen 5 ip6tables v1.8.9 (nf_tables): no\nopen 6 \nopen 8000 x\nopen x\nclosed\n\nelse 7\n"
	open, closed := parsePorts(said, 8000)
	if diff := cmp.Diff([]deploy.OpenPort{{Number: 5, Why: "ip6tables v1.8.9 (nf_tables): no"}, {Number: 6}}, open); diff != "" || !slices.Equal(closed, []int{41169}) {
		t.Errorf("closed %v, open: %s", closed, diff)
	}
}

func TestPortsFile(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ release, listen, want string }{
		{"0.19.1", "", "close\n"},
		{"0.19.1", "localhost", "close\n"},
		{"0.27.1", "127.0.0.1", "close\n"},
		{"0.27.1", "::1", "close\n"},
		{"0.19.1", "0.0.0.0", "leave\n"},
		{"0.19.1", "::", "leave\n"},
		{"0.19.1", "192.0.2.1", "leave\n"},
		{"0.28.0", "", ""},
		{"", "", ""},
	} {
		got := ""
		for _, f := range portsFile(test.release, test.listen) {
			got += f.content
		}
		if got != test.want {
			t.Errorf("%s on %q: %q, want %q", test.release, test.listen, got, test.want)
		}
	}
}

// Other roles of this test binary: inside a network that ends with the test, a vLLM in it, and a client outside.
const (
	insideEnv = "SHOPPER_TEST_INSIDE"
	roleEnv   = "SHOPPER_TEST_ROLE"
)

// playRole never returns if the process has a role.
func playRole() {
	var err error
	switch os.Getenv(roleEnv) {
	case "":
		return
	case "server":
		err = beServer(os.Args[1])
	case "outside":
		err = beOutside()
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// beServer listens on a random port of all addresses, and writes its number into a file.
func beServer(file string) error {
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		return err
	}
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	if err := os.WriteFile(file+".new", []byte(port), 0o600); err != nil {
		return err
	}
	if err := os.Rename(file+".new", file); err != nil {
		return err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		_ = conn.Close()
	}
}

// beOutside reports of each address on standard input whether it answers.
func beOutside() error {
	fmt.Fprintln(os.Stdout, "ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		fmt.Fprintln(os.Stdout, answer(lines.Text()))
	}
	return nil
}

// answer is "yes", "silent", or an error.
func answer(address string) string {
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() { //nolint:errorlint // as net returns it
		return "silent"
	}
	if err != nil {
		return err.Error()
	}
	_ = conn.Close()
	return "yes"
}

// The real firewall closes the port to others, and not to the machine itself, until the server ends. All happens in a network, and
// among processes, that end with the test.
func TestRealFirewall(t *testing.T) {
	t.Parallel()
	if os.Getenv(insideEnv) != "" {
		insideFirewall(t)
		return
	}
	for _, program := range []string{"unshare", "nsenter", "/usr/sbin/ip", "/usr/sbin/iptables", "/usr/sbin/ip6tables"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED: no %s on this machine", filepath.Base(program))
		}
	}
	apart := []string{"--net", "--pid", "--fork", "--kill-child", "--mount-proc"}
	path := "PATH=/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
	const script = "ip6tables -w -I INPUT -p tcp --dport 1 -j DROP && ip link set lo up && ip addr add 2001:db8::1/64 dev lo"
	try := exec.CommandContext(within(t), "unshare", append(apart, "sh", "-c", script)...)
	try.Env = []string{path}
	if said, err := try.CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: no right to change the firewall of a new network: %v: %s", err, said)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*limit) // its own limits come first
	defer cancel()
	inside := exec.CommandContext(ctx, "unshare", append(apart, os.Args[0], "-test.run=^TestRealFirewall$", "-test.v")...)
	inside.Env = append(os.Environ(), path, insideEnv+"=yes", "TMPDIR="+t.TempDir())
	if said, err := inside.CombinedOutput(); err != nil || !strings.Contains(string(said), "--- PASS: TestRealFirewall") {
		t.Errorf("%v\n%s", err, said)
	}
	rules, err := exec.CommandContext(within(t), "/usr/sbin/iptables", "-w", "-S", "INPUT").CombinedOutput()
	if err != nil || strings.Contains(string(rules), "shopper:") {
		t.Errorf("this computer's rules: %s, %v", rules, err)
	}
}

// outside asks addresses from another network, which a pair of devices joins to this one.
type outside struct {
	ask    io.Writer
	answer *bufio.Scanner
}

func (o outside) hears(t *testing.T, address string) string {
	t.Helper()
	if _, err := fmt.Fprintln(o.ask, address); err != nil || !o.answer.Scan() {
		t.Fatalf("%v, %v", err, o.answer.Err())
	}
	return o.answer.Text()
}

func must(t *testing.T, command string) string {
	t.Helper()
	fields := strings.Fields(command)
	said, err := exec.CommandContext(within(t), fields[0], fields[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, said)
	}
	return string(said)
}

func newOutside(t *testing.T) outside {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", os.Args[0])
	cmd.Env = append(os.Environ(), roleEnv+"=outside")
	ask, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = ask.Close()
		_ = cmd.Wait()
	})
	o := outside{ask, bufio.NewScanner(stdout)}
	if !o.answer.Scan() || o.answer.Text() != "ready" {
		t.Fatalf("%q, %v", o.answer.Text(), o.answer.Err())
	}
	pid := strconv.Itoa(cmd.Process.Pid)
	there := "nsenter --net=/proc/" + pid + "/ns/net "
	must(t, "ip link set lo up")
	must(t, "ip link add here type veth peer name there netns "+pid)
	for _, end := range []struct{ in, device, v4, v6 string }{{"", "here", "192.0.2.1/24", "2001:db8::1/64"}, {there, "there", "192.0.2.2/24", "2001:db8::2/64"}} {
		must(t, end.in+"ip addr add "+end.v4+" dev "+end.device)
		must(t, end.in+"ip addr add "+end.v6+" dev "+end.device+" nodad")
		must(t, end.in+"ip link set "+end.device+" up")
	}
	return o
}

// addresses are those of this network.
var addresses = []string{"192.0.2.1", "2001:db8::1"}

// each asks every address for a port, and reports whether all answers are the wanted one.
func each(want string, ask func(address string) string, port string, addresses ...string) bool {
	return !slices.ContainsFunc(addresses, func(address string) bool { return ask(net.JoinHostPort(address, port)) != want })
}

// startOpen starts a server of an old release, waits until its port answers outside as it should, and checks what Ports returns.
func startOpen(t *testing.T, listen, answer string, ask func(address string) string) (h *Host, ref deploy.Ref, port string) {
	t.Helper()
	h, ref = startRelease(t, "0.19.1", "exec "+os.Args[0]+` "$0.out"`, deploy.Wanted{
		Listen: listen, Environment: map[string]string{roleEnv: "server"},
	})
	file := filepath.Join(h.base, "program.out")
	testkit.Eventually(t, "a port", func() bool { return read(t, file) != "" })
	port = read(t, file)
	testkit.Eventually(t, "outside: "+answer, func() bool { return each(answer, ask, port, addresses...) })
	open, closed, err := h.Ports(within(t), ref)
	want := "open [{" + port + " }], closed []"
	if listen == "" {
		want = "open [], closed [" + port + "]"
	}
	if got := fmt.Sprintf("open %v, closed %v", open, closed); err != nil || got != want {
		t.Errorf("listen %q: %s, want %s; %v", listen, got, want, err)
	}
	return h, ref, port
}

// haveRules checks the rules of both programs.
func haveRules(t *testing.T, want string) {
	t.Helper()
	for _, program := range []string{"iptables", "ip6tables"} {
		if diff := cmp.Diff("-P INPUT ACCEPT\n"+want, must(t, program+" -w -S INPUT")); diff != "" {
			t.Errorf("%s: %s", program, diff)
		}
	}
}

func insideFirewall(t *testing.T) {
	t.Helper()
	o := newOutside(t)
	others, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer others.Close()
	_, other, _ := net.SplitHostPort(others.Addr().String())
	fromOutside := func(address string) string { return o.hears(t, address) }

	startOpen(t, "0.0.0.0", "yes", fromOutside)
	h, ref, port := startOpen(t, "", "silent", fromOutside)
	if !each("yes", answer, port, append(addresses, "127.0.0.1", "::1")...) {
		t.Error("the port is closed to the machine itself")
	}
	if !each("yes", fromOutside, other, addresses...) {
		t.Error("another port is closed")
	}
	haveRules(t, fmt.Sprintf("-A INPUT ! -i lo -p tcp -m tcp --dport %s -m comment --comment \"shopper:%s\" -j DROP\n", port, filepath.Base(ref.Directory)))
	if note, err := h.Remove(within(t), ref, deploy.Stop{Force: true}); err != nil || note != "" {
		t.Errorf("%v; %s", err, note)
	}
	haveRules(t, "")
}
