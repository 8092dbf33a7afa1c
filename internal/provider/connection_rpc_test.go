package provider_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-log/tflogtest"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// tripwire is a log that calls a function once, when an entry contains all these words.
type tripwire struct {
	words []string
	once  sync.Once
	do    func()
	mu    sync.Mutex
	all   bytes.Buffer
}

func (w *tripwire) Write(p []byte) (int, error) {
	w.mu.Lock()
	w.all.Write(p)
	w.mu.Unlock()
	for _, word := range w.words {
		if !bytes.Contains(p, []byte(word)) {
			return len(p), nil
		}
	}
	w.once.Do(w.do)
	return len(p), nil
}

func (w *tripwire) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.String()
}

// dropping is a core whose connections to a machine are all cut when the provider first logs these words.
func (c *core) dropping(m *machine.Machine, words ...string) (*core, *tripwire) {
	wire := &tripwire{words: words, do: m.DropConnections}
	return c.under(tflogtest.RootLogger(c.ctx, wire)), wire
}

// answersOver requests a completion from a private server through its machine.
func answersOver(t *testing.T, session, server object) error {
	t.Helper()
	number := new(big.Float)
	if err := get(t, session.state, "ssh.port").As(&number); err != nil {
		t.Fatal(err)
	}
	port, _ := number.Int64()
	login := func(name string) string { return text(t, session.state, "ssh."+name) }
	client, err := host.Dial(t.Context(), host.Config{
		Host: login("host"), Port: int(port), User: login("user"), PrivateKeys: []string{login("private_key")}, HostKey: login("host_key"),
	})
	if err != nil {
		return err
	}
	defer client.Close()
	transport := client.HTTPTransport()
	defer transport.CloseIdleConnections()
	api := vllm.NewClient(transport, strings.TrimSuffix(text(t, server.state, "base_url"), "/v1"), text(t, server.state, "api_key"))
	_, err = api.Probe(t.Context(), qwen, true)
	return err
}

// runtimes are the ways to run a server, each with an offer whose machine suits it.
var runtimes = []struct {
	name, offer string
	arguments   values
}{
	{"container", a5000, values{}},
	{"process", vastDouble, values{"container": nil, "process": values{"install": "never"}}},
}

// inBothRuntimes runs a test on a session for each runtime.
func inBothRuntimes(t *testing.T, test func(t *testing.T, w *world, c *core, session object, wanted values)) {
	t.Helper()
	for _, runtime := range runtimes {
		t.Run(runtime.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, func(o *sandbox.Options) {
				for i := range o.Offers {
					o.Offers[i].Machine.VLLM.Installed = "0.33.0"
				}
			})
			c := w.configured(t, nil)
			session := c.create(sessionType, values{"name": "test", "offer_id": runtime.offer})
			t.Cleanup(func() { w.releaseAll(t, c, session) })
			test(t, w, c, session, onSession(t, session, runtime.arguments))
		})
	}
}

// A connection that is lost in a phase of a launch that only reads is made again. If it isn't known whether a start took
// effect, what it made is removed, and the next apply starts one server.
func TestDeploymentCreateLosesTheConnection(t *testing.T) {
	t.Parallel()
	inBothRuntimes(t, func(t *testing.T, w *world, c *core, session object, wanted values) {
		t.Helper()
		for _, phase := range []string{"preflight", "pull", "start", "load", "completion", "the model answered"} {
			dropped, wire := c.dropping(w.theMachine(t), phase)
			server, diags := dropped.apply(deploymentType, c.plan(deploymentType, object{}, wanted))
			if !strings.Contains(wire.text(), phase) {
				t.Fatalf("%s: it never came to that:\n%s", phase, wire.text())
			}
			if failed(diags) {
				if phase != "start" {
					t.Errorf("%s: %s", phase, list(diags))
				}
				expect(t, diags, "ERROR: ", "has been removed from the machine")
				if err := w.nothingServes(nil); err != nil || !server.state.IsNull() {
					t.Errorf("%s: %v; in state: %v", phase, err, !server.state.IsNull())
				}
				server = c.create(deploymentType, wanted)
			}
			if err := w.serves(1)(nil); err != nil {
				t.Errorf("%s: %v", phase, err)
			}
			if err := answersOver(t, session, server); err != nil {
				t.Errorf("%s: %v", phase, err)
			}
			if seen, more := c.read(deploymentType, server); len(more) > 0 || !seen.state.Equal(server.state) {
				t.Errorf("%s: a refresh changes something: %s", phase, list(more))
			}
			_, diags = c.destroy(deploymentType, server)
			expect(t, diags)
			if err := w.nothingServes(nil); err != nil {
				t.Errorf("%s: %v", phase, err)
			}
		}
	})
}

// A machine that can't be logged in to: nothing was started, and the next apply succeeds.
func TestDeploymentNoLogin(t *testing.T) {
	t.Parallel()
	w, c, session := staged(t)
	m := w.theMachine(t)
	wanted := onSession(t, session, nil)
	if err := m.StopListening(); err != nil {
		t.Fatal(err)
	}
	m.DropConnections()
	made, diags := c.apply(deploymentType, c.plan(deploymentType, object{}, with(wanted, values{"timeouts": values{"create": "2s"}})))
	expect(t, diags, "ERROR: Machine can't be reached")
	if !made.state.IsNull() {
		t.Error("it is in state")
	}
	if err := m.ResumeListening(); err != nil {
		t.Fatal(err)
	}
	c.create(deploymentType, wanted)
	if err := w.serves(1)(nil); err != nil {
		t.Error(err)
	}
}

// An update loses its connection in each phase, those of a rollback included. Afterwards one server runs and answers: the
// new one, or the old one with an error that says so.
func TestDeploymentUpdateLosesTheConnection(t *testing.T) {
	t.Parallel()
	inBothRuntimes(t, func(t *testing.T, w *world, c *core, session object, wanted values) {
		t.Helper()
		server := c.create(deploymentType, wanted)
		length := 4096
		for _, test := range []struct {
			words []string
			// fails is set for an update that fails for another reason, inDoubt for one that may fail: nobody knows what the
			// lost command has done.
			fails, inDoubt bool
		}{
			{words: []string{"preflight"}},
			{words: []string{"pull"}},
			{words: []string{`"phase":"stop"`}, inDoubt: true},
			{words: []string{"starting the server"}, inDoubt: true},
			{words: []string{`"phase":"load"`}},
			{words: []string{`"phase":"completion"`}},
			{words: []string{"the model answered"}},
			{words: []string{"removing what was started"}, fails: true},
			{words: []string{"restoring the old server"}, fails: true},
		} {
			length -= 16
			change := with(wanted, values{"max_model_len": length})
			if test.fails {
				change = with(change, values{"args": []any{"--flag-of-another-release"}})
			}
			dropped, wire := c.dropping(w.theMachine(t), test.words...)
			after, diags := dropped.apply(deploymentType, c.plan(deploymentType, server, change))
			if !strings.Contains(wire.text(), test.words[0]) {
				t.Fatalf("%s: it never came to that:\n%s", test.words, wire.text())
			}
			if failed(diags) {
				expect(t, diags, "ERROR: ", "The old server is running again and has answered")
			}
			if failed(diags) != test.fails && !test.inDoubt {
				t.Errorf("%s: %s", test.words, list(diags))
			}
			if err := w.serves(1)(nil); err != nil {
				t.Errorf("%s: %v\n%s", test.words, err, list(diags))
			}
			if err := answersOver(t, session, after); err != nil {
				t.Errorf("%s: %v\n%s", test.words, err, list(diags))
			}
			seen, more := c.read(deploymentType, after)
			if len(more) > 0 || !seen.state.Equal(after.state) {
				t.Errorf("%s: state isn't what runs: %s", test.words, list(more))
			}
			server = after
		}
		_, diags := c.destroy(deploymentType, server)
		expect(t, diags)
		if err := w.nothingServes(nil); err != nil {
			t.Error(err)
		}
	})
}

// cutting forwards to a port of this computer; its connections can be cut.
type cutting struct {
	listener net.Listener
	mu       sync.Mutex
	conns    []net.Conn
}

func cuttingTo(t *testing.T, port int) *cutting {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutting{listener: listener}
	var working sync.WaitGroup
	working.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				_ = near.Close()
				continue
			}
			c.mu.Lock()
			c.conns = append(c.conns, near, far)
			c.mu.Unlock()
			for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
				working.Go(func() {
					_, _ = io.Copy(pair[0], pair[1]) // ends with either of them
					_ = pair[0].Close()
				})
			}
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		c.cut()
		working.Wait()
	})
	return c
}

func (c *cutting) port() int { return c.listener.Addr().(*net.TCPAddr).Port }

func (c *cutting) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}

// Behind a real sshd, a command continues after its connection has ended.
func TestOwnMachineLosesTheConnection(t *testing.T) {
	t.Parallel()
	login, directory := ownMachine(t)
	way := cuttingTo(t, login["port"].(int))
	c := newCore(t)
	if diags := c.configure(values{"journal_directory": "", "url": "http://127.0.0.1:1"}); len(diags) > 0 {
		t.Fatal(list(diags))
	}
	wanted := values{
		"ssh": with(login, values{"port": way.port()}), "model": qwen, "port": testkit.FreePort(t), "env": values{"HF_HUB_OFFLINE": "1"},
		"process": values{"install": "never", "directory": filepath.Join(directory, "vllm")}, "timeouts": values{"create": "1m", "update": "1m"},
	}
	wire := &tripwire{words: []string{`"phase":"load"`}, do: way.cut}
	server, diags := c.under(tflogtest.RootLogger(c.ctx, wire)).apply(deploymentType, c.plan(deploymentType, object{}, wanted))
	if failed(diags) {
		t.Fatalf("%s\n%s", list(diags), wire.text())
	}
	length := 4096
	for _, test := range []struct {
		words string
		fails bool // for another reason
	}{
		{words: "stopping the old server"},
		{words: "starting the server"},
		{words: `"phase":"completion"`},
		{words: "restoring the old server", fails: true},
	} {
		length -= 16
		change := with(wanted, values{"max_model_len": length})
		if test.fails {
			change = with(change, values{"args": []any{"--flag-of-another-release"}})
		}
		begun := time.Now()
		wire := &tripwire{words: []string{test.words}, do: way.cut}
		after, said := c.under(tflogtest.RootLogger(c.ctx, wire)).apply(deploymentType, c.plan(deploymentType, server, change))
		if failed(said) {
			expect(t, said, "ERROR: ", "The old server is running again and has answered")
		} else if test.fails {
			t.Errorf("%s: no error", test.words)
		}
		if err := asked(t, after.state); err != nil {
			t.Errorf("%s: %v\n%s", test.words, err, list(said))
		}
		t.Logf("%s: took %s", test.words, time.Since(begun))
		running, err := filepath.Glob(filepath.Join(directory, "vllm", "servers", "*"))
		if err != nil || len(running) != 1 {
			t.Errorf("%s: servers %v, %v", test.words, running, err)
		}
		server = after
	}
	_, diags = c.destroy(deploymentType, server)
	expect(t, diags)
	if asked(t, server.state) == nil {
		t.Error("it still answers")
	}
}

// jumpHost is a machine that forwards to another one, and accepts a key.
func jumpHost(t *testing.T, private string, target *machine.Machine) *machine.Machine {
	t.Helper()
	public, err := host.PublicKeyOf(private)
	if err != nil {
		t.Fatal(err)
	}
	jump, err := machine.Start(machine.Options{
		AuthorizedKeys: []string{public}, Facts: machinefs.Facts{User: "jump"}, Routes: []string{target.Addr()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := jump.Close(); err != nil {
			t.Error(err)
		}
	})
	return jump
}

// A jump host's key is trusted at first contact, stored, and required from then on. The error for a changed key says what
// that may mean and how to accept it. A different jump host is a new first contact.
func TestDeploymentBastionIsPinned(t *testing.T) {
	t.Parallel()
	w, c, session := staged(t)
	private := text(t, session.state, "ssh.private_key")
	jump, other := jumpHost(t, private, w.theMachine(t)), jumpHost(t, private, w.theMachine(t))
	through := func(jump *machine.Machine, hostKey any) values {
		bastion := values{"host": jump.Host(), "port": jump.Port(), "user": "jump", "host_key": hostKey}
		return onSession(t, session, values{"ssh": with(login(t, session), values{"bastion": bastion})})
	}
	server := c.create(deploymentType, through(jump, nil))
	if got := text(t, server.state, "bastion_host_key"); got != jump.HostKey() {
		t.Errorf("pinned %q, want %q", got, jump.HostKey())
	}
	if seen, more := c.read(deploymentType, server); len(more) > 0 || !seen.state.Equal(server.state) {
		t.Errorf("a refresh changes something: %s", list(more))
	}
	if p := c.plan(deploymentType, server, through(jump, nil)); !p.value.Equal(server.state) {
		t.Error("a plan for nothing changes something")
	}
	if err := jump.ChangeHostKey(); err != nil {
		t.Fatal(err)
	}
	kept, diags := c.read(deploymentType, server)
	expect(t, diags, "WARNING: Host key has changed", "the jump host presented", "intercepted", "setting ssh.bastion.host_key to",
		regexp.QuoteMeta(jump.HostKey()))
	if !kept.state.Equal(server.state) {
		t.Error("the refresh changed the state")
	}
	_, diags = c.apply(deploymentType, c.plan(deploymentType, server, with(through(jump, nil), values{"max_model_len": 4096})))
	expect(t, diags, "ERROR: Host key has changed", "setting ssh.bastion.host_key to")
	accepted := c.change(deploymentType, server, through(jump, jump.HostKey()))
	seen, diags := c.read(deploymentType, accepted)
	expect(t, diags)
	if got := text(t, seen.state, "bastion_host_key"); got != jump.HostKey() {
		t.Errorf("accepted, and pinned is %q", got)
	}
	moved := c.change(deploymentType, seen, through(other, nil))
	seen, diags = c.read(deploymentType, moved)
	expect(t, diags)
	if got := text(t, seen.state, "bastion_host_key"); got != other.HostKey() {
		t.Errorf("of another jump host is pinned %q", got)
	}
	if text(t, seen.state, "id") != text(t, server.state, "id") {
		t.Error("the server was started again")
	}
	direct := c.change(deploymentType, seen, onSession(t, session, nil))
	if !get(t, direct.state, "bastion_host_key").IsNull() {
		t.Error("a jump host's key is pinned without one")
	}
}

// tunnel_command works in a shell with the machine's key in an agent, and base_url answers through OpenSSH's client:
// directly, and through a jump host.
func TestDeploymentTunnelCommandWorks(t *testing.T) {
	t.Parallel()
	client, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("SKIPPED: no OpenSSH client on this machine: " + err.Error())
	}
	w, c, session := staged(t)
	target, private := w.theMachine(t), text(t, session.state, "ssh.private_key")
	jump := jumpHost(t, private, target)
	directory := t.TempDir()
	var known strings.Builder
	for _, key := range jump.HostKeys() { // the line has the machine's own
		fmt.Fprintf(&known, "[%s]:%d %s\n", jump.Host(), jump.Port(), key)
	}
	write(t, filepath.Join(directory, "known"), known.String(), 0o600)
	write(t, filepath.Join(directory, "config"), strings.Join([]string{
		"IdentityFile none", "UserKnownHostsFile " + filepath.Join(directory, "known"), "GlobalKnownHostsFile none",
		"StrictHostKeyChecking yes", "BatchMode yes",
	}, "\n")+"\n", 0o600)
	write(t, filepath.Join(directory, "ssh"), fmt.Sprintf("#!/bin/sh\nexec %s -F %s \"$@\"\n", client, filepath.Join(directory, "config")), 0o700)
	environment := append(os.Environ(), "PATH="+directory+":"+os.Getenv("PATH"), "SSH_AUTH_SOCK="+testkit.SSHAgent(t, private))

	bastion := values{"host": jump.Host(), "port": jump.Port(), "user": "jump"}
	for name, ssh := range map[string]values{"direct": login(t, session), "jump host": with(login(t, session), values{"bastion": bastion})} {
		server := c.create(deploymentType, onSession(t, session, values{"ssh": ssh, "port": testkit.FreePort(t)}))
		if asked(t, server.state) == nil {
			t.Fatalf("%s: it answers without a tunnel", name)
		}
		line := text(t, server.state, "tunnel_command")
		ctx, cancel := context.WithCancel(t.Context())
		shell := exec.CommandContext(ctx, "sh", "-c", line)
		var said bytes.Buffer
		shell.Env, shell.Stderr, shell.SysProcAttr = environment, &said, &syscall.SysProcAttr{Setpgid: true}
		shell.Cancel = func() error { return syscall.Kill(-shell.Process.Pid, syscall.SIGTERM) }
		if err := shell.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = shell.Wait()
		}()
		testkit.Eventually(t, "an answer through "+line, func() bool {
			select {
			case <-ended:
				t.Fatalf("%s: `%s` ended: %s", name, line, said.String())
			default:
			}
			return asked(t, server.state) == nil
		})
		cancel()
		<-ended
		_, diags := c.destroy(deploymentType, server)
		expect(t, diags)
	}
}
