package machine_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"
)

// openSSH is OpenSSH's clients with a configuration of their own.
type openSSH struct {
	dir    string
	config string
}

// newOpenSSH makes "machine" the name of m in a configuration that pins its host keys.
func newOpenSSH(t *testing.T, m *machine.Machine, k key) openSSH {
	t.Helper()
	for _, program := range []string{"ssh", "scp", "sftp"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skip("SKIPPED: no OpenSSH client on this machine: " + err.Error())
		}
	}
	dir := t.TempDir()
	var known strings.Builder
	for _, hostKey := range m.HostKeys() {
		known.WriteString("[" + m.Host() + "]:" + strconv.Itoa(m.Port()) + " " + hostKey + "\n")
	}
	config := strings.Join([]string{
		"Host machine",
		"HostName " + m.Host(), "Port " + strconv.Itoa(m.Port()), "User " + m.User(),
		"IdentityFile " + writeFile(t, dir, "id", k.pem), "IdentitiesOnly yes", "IdentityAgent none",
		"UserKnownHostsFile " + writeFile(t, dir, "known", []byte(known.String())), "GlobalKnownHostsFile none",
		"StrictHostKeyChecking yes", "BatchMode yes", "ConnectTimeout 20", "LogLevel ERROR",
	}, "\n") + "\n"
	return openSSH{dir: dir, config: writeFile(t, dir, "config", []byte(config))}
}

func (o openSSH) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, append([]string{"-F", o.config}, args...)...)
	cmd.Dir = o.dir
	return cmd
}

func (o openSSH) run(t *testing.T, stdin, program string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := o.command(ctx, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	err := cmd.Run()
	if cmd.ProcessState == nil || ctx.Err() != nil {
		t.Fatalf("%s %v: %v %s", program, args, err, stderr.String())
	}
	return result{stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
}

func TestOpenSSH(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	m := start(t, vm(), k)
	ssh := newOpenSSH(t, m, k)
	home := m.Root().Home()
	for _, test := range []struct {
		name  string
		stdin string
		args  []string
		want  result
	}{
		{"command", "", []string{"machine", "echo out; echo err >&2; exit 3"}, result{stdout: "out\n", stderr: "err\n", code: 3}},
		{"stdin", "some input", []string{"machine", "cat"}, result{stdout: "some input"}},
		{"shell without a command", "pwd\nexit 4\n", []string{"machine"}, result{stdout: home + "\n", code: 4}},
		{"RSA host key", "", []string{"-o", "HostKeyAlgorithms=rsa-sha2-512", "machine", "whoami"}, result{stdout: "ubuntu\n"}},
		{"signal", "", []string{"machine", "kill -TERM $$"}, result{code: 255}},
		{"sent environment", "", []string{"-o", "SetEnv=LC_TEST=yes OTHER=no", "machine", `echo "$LC_TEST$OTHER"`}, result{stdout: "yes\n"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			if got := ssh.run(t, test.stdin, "ssh", test.args...); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
	t.Run("terminal", func(t *testing.T) {
		t.Parallel()
		got := ssh.run(t, "stty size; tty; exit 5\n", "ssh", "-tt", "machine")
		if got.code != 5 || !strings.Contains(got.stdout, "/dev/pts/") || !strings.Contains(got.stdout, "ubuntu@C.4711$ ") {
			t.Errorf("%+v", got)
		}
	})
	t.Run("forwarding", func(t *testing.T) {
		t.Parallel()
		l, err := m.Root().Listen(9000)
		if err != nil {
			t.Fatal(err)
		}
		serveText(t, l, "from the machine")
		if got := ssh.run(t, "", "ssh", "-W", "localhost:9000", "machine"); got.stdout != "from the machine" {
			t.Errorf("%+v", got)
		}
		refused := ssh.run(t, "", "ssh", "-o", "LogLevel=INFO", "-W", "example.com:80", "machine")
		if refused.code != 255 || !strings.Contains(refused.stderr, "no way to the outside") {
			t.Errorf("%+v", refused)
		}
	})
}

func TestOpenSSHCopiesFiles(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	m := start(t, container(), k)
	ssh := newOpenSSH(t, m, k)
	content := strings.Repeat("0123456789abcdef", 50_000)
	local := writeFile(t, ssh.dir, "local file", []byte(content))
	home := m.Root().Home()
	succeed := func(got result) {
		t.Helper()
		if got.code != 0 {
			t.Fatalf("%+v\n%s", got, strings.Join(m.CommandLog(), "\n"))
		}
	}
	has := func(path, want string) {
		t.Helper()
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
	}
	succeed(ssh.run(t, "", "scp", local, "machine:relative"))
	has(filepath.Join(home, "relative"), content)
	succeed(ssh.run(t, "", "scp", local, "machine:"+home+"/absolute"))
	has(filepath.Join(home, "absolute"), content)
	succeed(ssh.run(t, "", "scp", "-O", local, "machine:legacy")) // the protocol before SFTP
	has(filepath.Join(home, "legacy"), content)
	succeed(ssh.run(t, "", "scp", "machine:relative", "back"))
	has(filepath.Join(ssh.dir, "back"), content)
	if err := os.MkdirAll(filepath.Join(ssh.dir, "tree", "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(ssh.dir, "tree", "below"), "leaf", []byte("leaf"))
	succeed(ssh.run(t, "", "scp", "-rp", "tree", "machine:"))
	has(filepath.Join(home, "tree", "below", "leaf"), "leaf")

	batch := "pwd\nput \"local file\" by-sftp\nrename by-sftp renamed\nmkdir d\nln -s renamed link\nget link got\nchmod 600 renamed\nls -l\nrm link\nrmdir d\n"
	got := ssh.run(t, batch, "sftp", "-b", "-", "machine")
	succeed(got)
	has(filepath.Join(home, "renamed"), content)
	has(filepath.Join(ssh.dir, "got"), content)
	if !strings.Contains(got.stdout, "Remote working directory: "+home) {
		t.Errorf("%+v", got)
	}
}

func TestSFTPStaysOnTheMachine(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	m := start(t, vm(), k)
	ssh := newOpenSSH(t, m, k)
	outside := writeFile(t, ssh.dir, "testers", []byte("the tester's"))
	if err := os.Symlink(outside, filepath.Join(m.Root().Home(), "way-out")); err != nil {
		t.Fatal(err)
	}
	for _, batch := range []string{
		"get " + outside + " stolen",
		"get way-out stolen",
		"get ../../../../../../../.." + outside + " stolen",
		"put testers way-out",
		"put testers /tmp/sandbox-escape",
		"ls /etc",
		"mkdir ../../outside",
		"rename way-out " + ssh.dir + "/moved",
	} {
		if got := ssh.run(t, batch+"\n", "sftp", "-b", "-", "machine"); got.code == 0 {
			t.Errorf("%s: %+v", batch, got)
		}
	}
	if _, err := os.Stat(filepath.Join(ssh.dir, "stolen")); err == nil {
		if data, _ := os.ReadFile(filepath.Join(ssh.dir, "stolen")); len(data) > 0 {
			t.Errorf("a file of the tester's came out: %q", data)
		}
	}
	if data, err := os.ReadFile(outside); err != nil || string(data) != "the tester's" {
		t.Errorf("the tester's file changed: %q, %v", data, err)
	}
}
