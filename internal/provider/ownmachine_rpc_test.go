package provider_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"golang.org/x/crypto/ssh"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// asVLLM makes this test program the stand-in for vLLM outside of the sandbox's machines.
const asVLLM = "SHOPPER_TEST_AS_VLLM"

// maybeVLLM runs the stand-in in a process that was started as it.
func maybeVLLM() {
	if os.Getenv(asVLLM) != "" {
		os.Exit(vllmserver.Main(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
	}
}

// sshKey makes a key pair: the private one as OpenSSH writes it.
func sshKey(t *testing.T) (private, public string) {
	t.Helper()
	signer, private := testkit.SSHKey(t)
	return private, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

// ownMachine is this computer behind a real sshd, with its own programs first
// on PATH: a stand-in for vLLM that listens on real ports, and for nvidia-smi.
func ownMachine(t *testing.T) (login values, directory string) {
	t.Helper()
	program := ""
	for _, candidate := range []string{os.Getenv("SHOPPER_TEST_SSHD"), "sshd", "/usr/sbin/sshd", "/usr/local/sbin/sshd"} {
		if path, err := exec.LookPath(candidate); err == nil && program == "" {
			program = path
		}
	}
	if program == "" {
		t.Skip("SKIPPED: no sshd on this machine (Debian package openssh-server, or set SHOPPER_TEST_SSHD)")
	}
	if os.Geteuid() == 0 { // where it drops privileges to; a service manager makes it otherwise
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Skipf("SKIPPED: sshd needs /run/sshd: %v", err)
		}
	}
	directory = testkit.Dir(t)
	furnish(t, directory)
	private, public := sshKey(t)
	hostKey, _ := sshKey(t)
	port := testkit.FreePort(t)
	write(t, filepath.Join(directory, "host"), hostKey, 0o600)
	write(t, filepath.Join(directory, "keys"), public+"\n", 0o600)
	authority, certifies := sshKey(t)
	write(t, filepath.Join(directory, "authority"), authority, 0o600)
	write(t, filepath.Join(directory, "authority.pub"), certifies+"\n", 0o600)
	write(t, filepath.Join(directory, "config"), strings.Join([]string{
		"ListenAddress 127.0.0.1:" + strconv.Itoa(port), "HostKey " + filepath.Join(directory, "host"),
		"AuthorizedKeysFile " + filepath.Join(directory, "keys"), "PidFile none", "StrictModes no", "PasswordAuthentication no",
		"TrustedUserCAKeys " + filepath.Join(directory, "authority.pub"),
		"PermitRootLogin prohibit-password", "MaxStartups 100",
		"SetEnv PATH=" + filepath.Join(directory, "bin") + ":/usr/local/bin:/usr/bin:/bin",
	}, "\n")+"\n", 0o600)
	log := filepath.Join(directory, "sshd.log")
	server := exec.Command(program, "-D", "-f", filepath.Join(directory, "config"), "-E", log)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		_ = server.Wait()
	})
	testkit.Eventually(t, "sshd to listen", func() bool {
		content, _ := os.ReadFile(log)
		return strings.Contains(string(content), "Server listening")
	})
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return values{"host": "127.0.0.1", "port": port, "user": me.Username, "private_key": private}, directory
}

// furnish writes the programs to directory/bin.
func furnish(t *testing.T, directory string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	facts := machinefs.Facts{
		GPUs: []machinefs.GPU{{
			Name: "NVIDIA RTX A5000", UUID: "GPU-own", MemoryMiB: 24564, ComputeCapability: "8.6",
		}},
		Driver: machinefs.DriverReady, DriverVersion: "580.95.05", CUDAVersion: "13.0", DiskGB: 200, DiskFreeGB: 150, Speed: 300,
	}
	root := machinefs.Root(filepath.Join(directory, "m"))
	if err := root.Create(); err != nil {
		t.Fatal(err)
	}
	if err := root.WriteFacts(facts); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(root.Bin(), "nvidia-smi")); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(facts)
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(directory, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(bin, "nvidia-smi"), fmt.Sprintf("#!/bin/sh\n%s=%s exec %s \"$@\"\n", machinefs.Env, root,
		filepath.Join(root.Bin(), "nvidia-smi")), 0o700)
	write(t, filepath.Join(bin, "vllm"), fmt.Sprintf("#!/bin/sh\n%s=1 %s=%s exec %s \"$@\"\n", asVLLM, vllmserver.FactsEnv,
		host.Quote(string(text)), self), 0o700)
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

// A machine that isn't rented, behind a real sshd and a jump host: a process, changed to a public one with TLS, its
// supervisor and then all of it killed by hand, repaired, removed.
func TestDeploymentOnOwnMachine(t *testing.T) {
	t.Parallel()
	login, directory := ownMachine(t)
	c := newCore(t)
	if diags := c.configure(values{"journal_directory": "", "url": "http://127.0.0.1:1"}); len(diags) > 0 {
		t.Fatal(list(diags))
	}
	port := testkit.FreePort(t)
	jump := values{"host": login["host"], "port": login["port"], "user": login["user"]}
	wanted := values{
		"ssh": with(login, values{"bastion": jump}), "model": qwen, "port": port, "env": values{"HF_HUB_OFFLINE": "1"},
		"process": values{"install": "never", "directory": filepath.Join(directory, "vllm")}, "timeouts": values{"create": "1m", "update": "1m"},
	}
	server := c.create(deploymentType, wanted)
	if err := asked(t, server.state); err != nil { // its loopback is this computer's
		t.Error(err)
	}
	health, diags := c.readData(healthType, values{
		"ssh": wanted["ssh"], "base_url": text(t, server.state, "base_url"), "api_key": text(t, server.state, "api_key"),
		"server": get(t, server.state, "server"),
	})
	expect(t, diags)
	for _, check := range checksOf(t, health) {
		if text(t, check, "status") != "passed" {
			t.Errorf("of a process on a machine of one's own: %s", check)
		}
	}
	if key := text(t, server.state, "host_key"); !strings.HasPrefix(key, "ssh-ed25519 ") {
		t.Errorf("host_key %q", key)
	}
	if seen, more := c.read(deploymentType, server); len(more) > 0 || !seen.state.Equal(server.state) {
		t.Errorf("a refresh changes something: %s", list(more))
	}
	secured := with(wanted, values{"exposure": "public", "tls": values{}, "ssh": login})
	server = c.change(deploymentType, server, secured)
	if err := asked(t, server.state); err != nil {
		t.Error(err)
	}
	importer := newCore(t)
	expect(t, importer.configure(values{
		"journal_directory": "", "url": "http://127.0.0.1:1", "ssh": values{"private_key": login["private_key"]},
	}))
	imported, diags := importer.importIdentity(deploymentType, values{
		"host": login["host"], "port": login["port"], "user": login["user"], "name": fmt.Sprintf("vllm-%d", port),
		"directory": filepath.Join(directory, "vllm"),
	})
	expect(t, diags)
	byID, diags := importer.importID(deploymentType, fmt.Sprintf("%s@%s:%d/vllm-%d:%s", login["user"], login["host"], login["port"], port,
		filepath.Join(directory, "vllm")))
	expect(t, diags)
	if !byID.state.Equal(imported.state) {
		t.Errorf("by its ID it is\n%s\nby its identity\n%s", byID.state, imported.state)
	}
	known := with(secured, values{"ssh": with(login, values{"private_key": nil})})
	if p := importer.plan(deploymentType, imported, known); !p.value.Equal(imported.state) {
		t.Errorf("the import's plan changes\n%s\nto\n%s", imported.state, p.value)
	}
	for _, end := range []struct {
		alone   int // 1 for the supervisor, -1 for its whole group
		warning string
	}{
		{1, "WARNING: Server has lost its supervisor"},
		{-1, "WARNING: Server is not running|WARNING: Server is gone"},
	} {
		pid, _, _ := strings.Cut(text(t, server.state, "id"), "-")
		supervisor, err := strconv.Atoi(pid)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(end.alone*supervisor, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		seen, more := c.read(deploymentType, server)
		expect(t, more, end.warning)
		if seen.state.IsNull() {
			t.Fatal("a server that died left state")
		}
		server = c.change(deploymentType, seen, secured)
		if err := asked(t, server.state); err != nil {
			t.Error(err)
		}
	}
	gone, diags := c.destroy(deploymentType, server)
	expect(t, diags)
	if err := asked(t, server.state); err == nil || !gone.state.IsNull() {
		t.Error("it still answers, or is still in state")
	}
}

// A real sshd lets in a key that only an SSH agent has, and a key that only its
// certificate vouches for; neither without them.
func TestOwnMachineLetsInByAgentAndCertificate(t *testing.T) {
	login, directory := ownMachine(t)
	t.Setenv("SSH_AUTH_SOCK", testkit.SSHAgent(t, fmt.Sprint(login["private_key"])))
	stranger, _ := sshKey(t)
	certificate := certify(t, filepath.Join(directory, "authority"), stranger, fmt.Sprint(login["user"]))
	bare := values{"host": login["host"], "port": login["port"], "user": login["user"]}
	for name, row := range map[string]struct {
		agent bool
		ssh   values
		in    bool
	}{
		"agent":       {true, bare, true},
		"no agent":    {false, with(bare, values{"private_key": stranger}), false},
		"certificate": {false, with(bare, values{"private_key": stranger, "certificate": certificate}), true},
		"its own key": {true, with(bare, values{"private_key": stranger}), false}, // the provider's are for machines without one
	} {
		c := newCore(t)
		expect(t, c.configure(values{"journal_directory": "", "url": "http://127.0.0.1:1", "ssh": values{"agent": row.agent}}))
		health, diags := c.readData(healthType, values{
			"base_url": "http://127.0.0.1:1/v1", "ssh": row.ssh, "skip": []any{"health", "model", "completion"},
		})
		expect(t, diags)
		if in := truth(t, health, "healthy"); in != row.in {
			t.Errorf("%s: logged in %t, want %t: %s", name, in, row.in, gpuCheck(t, health))
		}
	}
}

// certify makes the certificate of a key for a user, signed with the authority's key in a file.
func certify(t *testing.T, authority, private, principal string) string {
	t.Helper()
	content, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(content)
	if err != nil {
		t.Fatal(err)
	}
	holder, err := ssh.ParsePrivateKey([]byte(private))
	if err != nil {
		t.Fatal(err)
	}
	certificate := &ssh.Certificate{
		Key: holder.PublicKey(), CertType: ssh.UserCert, KeyId: "test", ValidPrincipals: []string{principal},
		ValidBefore: ssh.CertTimeInfinity,
	}
	if err := certificate.SignCert(rand.Reader, signer); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(certificate)))
}

// Through a jump host to a rented machine: with the machine's own key, and with a
// host key that isn't the jump host's.
func TestDeploymentThroughBastion(t *testing.T) {
	t.Parallel()
	w, c, session := staged(t)
	target := w.theMachine(t)
	jump := jumpHost(t, text(t, session.state, "ssh.private_key"), target)
	through := func(hostKey string) values {
		bastion := values{"host": jump.Host(), "port": jump.Port(), "user": "jump", "host_key": hostKey}
		return onSession(t, session, values{"ssh": with(login(t, session), values{"bastion": bastion})})
	}
	_, diags := c.apply(deploymentType, c.plan(deploymentType, object{}, through(target.HostKey())))
	expect(t, diags, "ERROR: Host key has changed")
	wanted := through(jump.HostKey())
	server := c.create(deploymentType, wanted)
	if got, want := text(t, server.state, "tunnel_command"), fmt.Sprintf(" -J jump@%s:%d -p ", jump.Host(), jump.Port()); !strings.Contains(got, want) {
		t.Errorf("tunnel_command is %q, want %q in it", got, want)
	}
	if seen, more := c.read(deploymentType, server); len(more) > 0 || !seen.state.Equal(server.state) {
		t.Errorf("a refresh changes something: %s", list(more))
	}
	w.reachedThroughBastion(t, c, wanted["ssh"], server.state)
	importedThroughBastion(t, w, session, jump, wanted, server)
	gone, diags := c.destroy(deploymentType, server)
	expect(t, diags)
	if !gone.state.IsNull() {
		t.Error("it is still in state")
	}
}

// importedThroughBastion takes the server over by both kinds of import. The plan after that sets the keys and changes nothing else.
func importedThroughBastion(t *testing.T, w *world, session object, jump *machine.Machine, wanted values, server object) {
	t.Helper()
	loggedIn := w.configured(t, values{"ssh": values{"private_key": text(t, session.state, "ssh.private_key")}})
	id := text(t, session.state, "id")
	byID, diags := loggedIn.importID(deploymentType, fmt.Sprintf("jump@%s:%d,%s/vllm-8000", jump.Host(), jump.Port(), id))
	expect(t, diags)
	byIdentity, diags := loggedIn.importIdentity(deploymentType, values{
		"session_id": id, "name": "vllm-8000", "bastion_host": jump.Host(), "bastion_port": jump.Port(), "bastion_user": "jump",
	})
	expect(t, diags)
	for how, imported := range map[string]object{"ID": byID, "identity": byIdentity} {
		if got, want := get(t, imported.state, "bastion_host_key"), get(t, server.state, "bastion_host_key"); !got.Equal(want) {
			t.Errorf("by %s the jump host's key is %s, want %s", how, got, want)
		}
		p := loggedIn.plan(deploymentType, imported, wanted)
		expect(t, p.Diagnostics)
		for attribute, value := range members(t, p.value) {
			if attribute != "ssh" && attribute != "tunnel_command" && !value.Equal(get(t, imported.state, attribute)) {
				t.Errorf("after an import by %s the plan changes %s to %s", how, attribute, value)
			}
		}
	}
}

// An omitted port of ssh equals the default: adding it changes nothing.
func TestPortsOfSSHHaveADefault(t *testing.T) {
	t.Parallel()
	c := newCore(t)
	expect(t, c.configure(values{"journal_directory": ""}))
	p := c.plan(deploymentType, object{}, values{
		"ssh": values{"host": "h", "user": "me", "bastion": values{"host": "jump", "user": "me"}}, "model": qwen, "process": values{},
	})
	expect(t, p.Diagnostics)
	if port, jump := number(t, get(t, p.value, "ssh"), "port"), number(t, get(t, get(t, p.value, "ssh"), "bastion"), "port"); port != 22 || jump != 22 {
		t.Errorf("the ports are %v and %v", port, jump)
	}
}

// The command is known as soon as everything in it is known.
func TestTunnelCommandWhenPlanned(t *testing.T) {
	t.Parallel()
	c := newCore(t)
	expect(t, c.configure(values{"journal_directory": ""}))
	for name, known := range map[string]bool{"": true, "private_key": true, "host": false, "port": false, "user": false} {
		bastion := values{"host": "jump", "user": "me", "port": 22}
		if name != "" {
			bastion[name] = unknown
		}
		p := c.plan(deploymentType, object{}, inserted(goodDeployment, "ssh", values{"bastion": bastion}))
		expect(t, p.Diagnostics)
		if got := get(t, p.value, "tunnel_command"); got.IsKnown() != known {
			t.Errorf("with unknown %q: %s", name, got)
		}
	}
	for port, want := range map[any]string{nil: "-L 127.0.0.1:8000:127.0.0.1:8000 ", 9000: "-L 127.0.0.1:9000:127.0.0.1:8000 ", unknown: ""} {
		p := c.plan(deploymentType, object{}, with(goodDeployment, values{"local_port": port}))
		expect(t, p.Diagnostics)
		if got := get(t, p.value, "tunnel_command"); got.IsKnown() != (want != "") || got.IsKnown() && !strings.Contains(text(t, p.value, "tunnel_command"), want) {
			t.Errorf("with the local port %v: %s", port, got)
		}
	}
	p := c.plan(deploymentType, object{}, inserted(goodDeployment, "ssh", values{"bastion": unknown}))
	if got := get(t, p.value, "tunnel_command"); got.IsKnown() {
		t.Errorf("with an unknown jump host: %s", got)
	}
}

// reachedThroughBastion queries a server in every way, and restarts it.
func (w *world) reachedThroughBastion(t *testing.T, c *core, login any, server tftypes.Value) {
	t.Helper()
	key := text(t, server, "api_key")
	health, diags := c.readData(healthType, values{"ssh": login, "server": get(t, server, "server"), "api_key": key})
	expect(t, diags)
	for _, check := range checksOf(t, health) {
		if text(t, check, "status") != "passed" {
			t.Errorf("through a jump host: %s", check)
		}
	}
	endpoint, diags := c.readData(endpointType, values{"ssh": login, "api_key": key})
	expect(t, diags)
	if !truth(t, endpoint, "ready") {
		t.Errorf("through a jump host: %s", endpoint)
	}
	tunnel, private, diags := c.open(tunnelType, values{"ssh": login})
	expect(t, diags)
	if got, err := modelsThrough(t, text(t, tunnel, "url"), key); err != nil || !strings.Contains(got, qwen) {
		t.Errorf("through a tunnel: %s, %v", got, err)
	}
	expect(t, c.close(tunnelType, private))
	_, diags = c.invoke(restartType, values{"ssh": login, "server": get(t, server, "server"), "api_key": key, "model": qwen})
	expect(t, diags)
}

// A process whose directory changes is started in the new one, and nothing of it is left in the old one but installations.
func TestProcessDirectoryChanges(t *testing.T) {
	t.Parallel()
	login, directory := ownMachine(t)
	c := newCore(t)
	expect(t, c.configure(values{"journal_directory": "", "url": "http://127.0.0.1:1"}))
	in := func(name string) values {
		return values{
			"ssh": login, "model": qwen, "port": testkit.FreePort(t), "env": values{"HF_HUB_OFFLINE": "1"},
			"process":  values{"install": "never", "directory": filepath.Join(directory, name)},
			"timeouts": values{"create": "1m", "update": "1m"},
		}
	}
	wanted := in("old")
	server := c.create(deploymentType, wanted)
	p := c.plan(deploymentType, server, with(wanted, values{"process": in("new")["process"]}))
	server, diags := c.apply(deploymentType, p)
	expect(t, diags)
	if err := asked(t, server.state); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(filepath.Join(directory, "old", "servers")); len(left) > 0 || err != nil && !os.IsNotExist(err) {
		t.Errorf("left in the old directory: %v, %v", left, err)
	}
	_, diags = c.destroy(deploymentType, server)
	expect(t, diags)
}
