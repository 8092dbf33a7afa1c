package machine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/tool"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

func TestMain(m *testing.M) {
	tool.Main(map[string]tool.Program{tool.VLLM: fakeVLLM})
	if os.Getenv(victimEnv) != "" {
		beVictim()
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := machine.Finish(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
		os.Exit(code)
	}))
}

// fakeVLLM shows what it was told to be.
func fakeVLLM(_ context.Context, args, env []string, stdout, _ io.Writer) int {
	version := "on PATH"
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, "SHOPPER_SANDBOX_VLLM_VERSION="); ok {
			version = value
		}
	}
	_, _ = fmt.Fprintln(stdout, "vllm", version, args)
	return 0
}

// limit is how long anything in these tests may take before it has failed.
const limit = 30 * time.Second

// vm are the facts of a virtual machine with one GPU.
func vm() machinefs.Facts {
	return machinefs.Facts{
		User: "ubuntu", Docker: true,
		GPUs: []machinefs.GPU{{
			Name: "NVIDIA GeForce RTX 4090", UUID: "GPU-5f3c", MemoryMiB: 24564, ComputeCapability: "8.9",
		}},
		Driver: machinefs.DriverReady, DriverVersion: "580.95.05", CUDAVersion: "13.0",
		DiskGB: 200, DiskFreeGB: 150, Speed: 1000,
	}
}

// container are the facts of a machine that is itself a container.
func container() machinefs.Facts {
	facts := vm()
	facts.Container, facts.User, facts.Docker = true, "root", false
	return facts
}

type key struct {
	signer ssh.Signer
	pem    []byte
}

func newKey(t *testing.T) key {
	t.Helper()
	signer, private := testkit.SSHKey(t)
	return key{signer, []byte(private)}
}

func (k key) line() string { return string(ssh.MarshalAuthorizedKey(k.signer.PublicKey())) }

// start starts a machine with these facts that k may log in to.
func start(t *testing.T, facts machinefs.Facts, k key) *machine.Machine {
	t.Helper()
	return startWith(t, machine.Options{Facts: facts, AuthorizedKeys: []string{k.line()}, ID: "C.4711"})
}

func startWith(t *testing.T, opts machine.Options) *machine.Machine {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = testkit.Dir(t)
	}
	m, err := machine.Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("closing the machine: %v", err)
		}
	})
	return m
}

func dial(t *testing.T, m *machine.Machine, k key) *ssh.Client {
	t.Helper()
	client, err := tryDial(m, k)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func tryDial(m *machine.Machine, k key) (*ssh.Client, error) {
	return ssh.Dial("tcp", m.Addr(), &ssh.ClientConfig{
		User: m.User(), Auth: []ssh.AuthMethod{ssh.PublicKeys(k.signer)}, Timeout: limit,
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
		HostKeyCallback: func(_ string, _ net.Addr, seen ssh.PublicKey) error {
			if got := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(seen))); got != m.HostKey() {
				return errors.New("not the machine's host key")
			}
			return nil
		},
	})
}

// result is what a command on a machine came to.
type result struct {
	stdout, stderr string
	code           int
	signal         string
}

// run runs a command line and waits for it.
func run(t *testing.T, client *ssh.Client, commandLine string) result {
	t.Helper()
	return runWith(t, client, commandLine, nil)
}

func runWith(t *testing.T, client *ssh.Client, commandLine string, stdin io.Reader) result {
	t.Helper()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	var stdout, stderr bytes.Buffer
	session.Stdin, session.Stdout, session.Stderr = stdin, &stdout, &stderr
	watchdog := time.AfterFunc(limit, func() { _ = client.Close() })
	defer watchdog.Stop()
	err = session.Run(commandLine)
	r := result{stdout: stdout.String(), stderr: stderr.String()}
	var exit *ssh.ExitError
	switch {
	case errors.As(err, &exit):
		r.code, r.signal = exit.ExitStatus(), exit.Signal()
	case err != nil:
		t.Fatalf("%s: %v", commandLine, err)
	}
	return r
}

// output runs a command that has to succeed and returns what it printed.
func output(t *testing.T, client *ssh.Client, commandLine string) string {
	t.Helper()
	r := run(t, client, commandLine)
	if r.code != 0 || r.signal != "" {
		t.Fatalf("%s: exit %d %s\n%s%s", commandLine, r.code, r.signal, r.stdout, r.stderr)
	}
	return r.stdout
}

func writeFile(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// dialAddr logs in to a machine that another process plays.
func dialAddr(t *testing.T, addr, user string, k key) *ssh.Client {
	t.Helper()
	client, err := ssh.Dial("tcp", addr, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(k.signer)}, Timeout: limit,
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}
