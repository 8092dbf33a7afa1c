//go:build unix

package host

import (
	"crypto"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// sshdEnv names the sshd to test with, where it is neither on PATH nor in /usr/sbin.
const sshdEnv = "SHOPPER_TEST_SSHD"

// sshd is a running OpenSSH server of this test's own.
type sshd struct {
	dir    string
	client crypto.Signer
	config Config
}

func findSSHD(t *testing.T) string {
	t.Helper()
	for _, candidate := range []string{os.Getenv(sshdEnv), "sshd", "/usr/sbin/sshd", "/usr/local/sbin/sshd"} {
		if candidate == "" {
			continue
		}
		path, err := exec.LookPath(candidate)
		if err != nil {
			continue
		}
		if path, err = filepath.Abs(path); err == nil { // sshd insists on an absolute path
			return path
		}
	}
	t.Skip("SKIPPED: no sshd on this machine (Debian package openssh-server, or set " + sshdEnv + ")")
	return ""
}

// startSSHD starts OpenSSH's server with a separate configuration on a free loopback port and
// ends it, with all of its children, when the test ends.
func startSSHD(t *testing.T, extra ...string) *sshd {
	t.Helper()
	program := findSSHD(t)
	if os.Geteuid() == 0 { // where it drops privileges to; a service manager makes it otherwise
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Skipf("SKIPPED: sshd needs /run/sshd: %v", err)
		}
	}
	s := &sshd{dir: testkit.Dir(t), client: newEd25519(t)}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "host_ed25519", openSSH(t, newEd25519(t)))
	s.write(t, "host_rsa", openSSH(t, newRSA(t)))
	s.write(t, "authorized_keys", publicLine(t, s.client)+"\n")
	var port int
	for range 5 { // between its choice and its use, another process may take the port
		port = testkit.FreePort(t)
		s.configure(t, port, extra)
		if s.run(t, program, port) {
			break
		}
	}
	s.config = Config{
		Host: "127.0.0.1", Port: port, User: me.Username,
		PrivateKeys: []string{openSSH(t, s.client)}, connectTimeout: patience,
	}
	return s
}

func (s *sshd) configure(t *testing.T, port int, extra []string) {
	t.Helper()
	lines := append([]string{
		"ListenAddress 127.0.0.1:" + strconv.Itoa(port),
		"HostKey " + filepath.Join(s.dir, "host_ed25519"),
		"HostKey " + filepath.Join(s.dir, "host_rsa"),
		"AuthorizedKeysFile " + filepath.Join(s.dir, "authorized_keys"),
		"PidFile none", "StrictModes no", "PasswordAuthentication no", "KbdInteractiveAuthentication no",
		"PermitRootLogin prohibit-password", "MaxStartups 100", "LogLevel VERBOSE",
	}, extra...)
	s.write(t, "config", strings.Join(lines, "\n")+"\n")
}

func (s *sshd) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run starts the server and reports false when its port was taken meanwhile.
func (s *sshd) run(t *testing.T, program string, port int) bool {
	t.Helper()
	logPath := filepath.Join(s.dir, "log")
	logFile, err := os.Create(logPath)
	if err != nil {
		t.Fatal(err)
	}
	readLog := func() string {
		content, _ := os.ReadFile(logPath)
		return string(content)
	}
	cmd := exec.Command(program, "-D", "-e", "-f", filepath.Join(s.dir, "config"))
	cmd.Stderr = logFile
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		testkit.Eventually(t, "sshd's connections have ended", func() bool { return len(children(cmd.Process.Pid)) == 0 })
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-exited
		_ = logFile.Close()
		if t.Failed() {
			t.Logf("sshd's log:\n%s", readLog())
		}
	})
	listening := "Server listening on 127.0.0.1 port " + strconv.Itoa(port)
	testkit.Eventually(t, "sshd listens or ends", func() bool {
		return isClosed(exited) || strings.Contains(readLog(), listening)
	})
	if isClosed(exited) && !strings.Contains(readLog(), "already in use") {
		t.Fatalf("sshd ended: %s", readLog())
	}
	return !isClosed(exited)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// children are the pids of a process's children.
func children(parent int) []string {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var found []string
	for _, path := range stats {
		content, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		// pid (name) state ppid …
		_, rest, _ := strings.Cut(string(content), ") ")
		fields := strings.Fields(rest)
		if len(fields) > 1 && fields[1] == fmt.Sprint(parent) {
			found = append(found, filepath.Base(filepath.Dir(path)))
		}
	}
	return found
}

func TestSSHD_Core(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	core(t, func(t *testing.T) *Client {
		t.Helper()
		return mustDial(t, s.config)
	})
}

func TestSSHD_PinsAndRecognizesHostKeys(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	first := mustDial(t, s.config)
	if !strings.HasPrefix(first.HostKey(), "ssh-ed25519 ") {
		t.Fatalf("pinned %q at first contact, want the Ed25519 key", first.HostKey())
	}
	content, err := os.ReadFile(filepath.Join(s.dir, "host_rsa"))
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := PublicKeyOf(string(content))
	if err != nil {
		t.Fatal(err)
	}
	for _, pinned := range []string{first.HostKey(), rsaKey, rsaKey + " with a comment"} {
		cfg := s.config
		cfg.HostKey = pinned
		if got := mustDial(t, cfg).HostKey(); !strings.HasPrefix(pinned, got) {
			t.Errorf("pinned %q, then %q", pinned, got)
		}
	}
	cfg := s.config
	cfg.HostKey = publicLine(t, newEd25519(t))
	_, err = Dial(testContext(t), cfg)
	wantKind(t, err, HostKeyChanged)
	cfg.HostKey = publicLine(t, newECDSA(t)) // a type that the server has no key of
	_, err = Dial(testContext(t), cfg)
	wantKind(t, err, HostKeyChanged)
}

func TestSSHD_RefusesTheWrongKey(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	wrong := newEd25519(t)
	cfg := s.config
	cfg.PrivateKeys = []string{openSSH(t, wrong)}
	_, err := Dial(testContext(t), cfg)
	e := asKind(t, err, AuthFailed)
	fingerprint := ssh.FingerprintSHA256(toSigner(t, wrong).PublicKey())
	if !strings.Contains(e.Detail, fingerprint) {
		t.Errorf("the offered key %s is not named in: %s", fingerprint, e.Detail)
	}
}

func TestSSHD_TooManyKeys(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	cfg := s.config
	cfg.PrivateKeys = nil
	for range 8 {
		cfg.PrivateKeys = append(cfg.PrivateKeys, openSSH(t, newEd25519(t)))
	}
	_, err := Dial(testContext(t), cfg)
	e := asKind(t, err, AuthFailed)
	if !strings.Contains(e.Detail, "MaxAuthTries") {
		t.Errorf("no word of the limit in: %s", e.Detail)
	}
}

func TestSSHD_Agent(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	cfg := s.config
	cfg.PrivateKeys = nil
	cfg.AgentSocket = startAgent(t, s.client).socket
	mustRun(t, mustDial(t, cfg), Command{Args: []string{"true"}})
}

func TestSSHD_RSAKeyAndUserCertificate(t *testing.T) {
	t.Parallel()
	authority, key := newEd25519(t), newRSA(t)
	s := startSSHD(t, "TrustedUserCAKeys none")
	s.write(t, "authorized_keys", "cert-authority "+publicLine(t, authority)+"\n")
	cfg := s.config
	cfg.PrivateKeys = []string{openSSH(t, key)}
	if _, err := Dial(testContext(t), cfg); KindOf(err) != AuthFailed {
		t.Fatalf("without the certificate: %v", err)
	}
	cfg.Certificates = []string{userCertificate(t, authority, key, cfg.User)}
	mustRun(t, mustDial(t, cfg), Command{Args: []string{"true"}})

	s.write(t, "authorized_keys", publicLine(t, key)+"\n")
	cfg.Certificates = nil
	mustRun(t, mustDial(t, cfg), Command{Args: []string{"true"}})
}

func TestSSHD_ForwardingForbidden(t *testing.T) {
	t.Parallel()
	s := startSSHD(t, "DisableForwarding yes")
	c := mustDial(t, s.config)
	_, err := c.DialContext(testContext(t), "tcp", echoServer(t, "tcp", "127.0.0.1:0"))
	wantKind(t, err, Prohibited)
	mustRun(t, c, Command{Args: []string{"true"}})
}

func TestSSHD_Bastion(t *testing.T) {
	t.Parallel()
	bastion, target := startSSHD(t), startSSHD(t)
	cfg := target.config
	cfg.Bastion = &bastion.config
	c := mustDial(t, cfg)
	if result := mustRun(t, c, Command{Args: []string{"echo", "through"}}); result.Stdout != "through\n" {
		t.Errorf("got %+v", result)
	}
}

func TestSSHD_CancelEndsTheWholeProcessGroup(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	c := mustDial(t, s.config)
	canceledTree(t, c, s.dir)
}

func TestSSHD_LeftBehindProcess(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	leftBehind(t, mustDial(t, s.config), s.dir)
}
