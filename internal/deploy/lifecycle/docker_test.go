package lifecycle_test

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// local is this computer as a machine: the same commands, without SSH.
type local struct{}

func (local) Run(ctx context.Context, command host.Command) (host.Result, error) {
	run := exec.CommandContext(ctx, command.Args[0], command.Args[1:]...)
	var stdout, stderr bytes.Buffer
	run.Stdin, run.Stdout, run.Stderr = command.Stdin, &stdout, &stderr
	err := run.Run()
	result := host.Result{Stdout: stdout.String(), Stderr: stderr.String(), ExitCode: run.ProcessState.ExitCode()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && ctx.Err() == nil:
		return result, nil
	case errors.Is(err, exec.ErrNotFound):
		result.ExitCode = 127
		return result, nil
	case ctx.Err() != nil:
		return result, ctx.Err()
	}
	return result, err
}

func (local) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, addr)
}

// Pipe gives a command one end of a socket pair, made of a TCP connection, as its input and output.
func (local) Pipe(ctx context.Context, args ...string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	run := exec.Command(args[0], args[1:]...)
	stdin, err := run.StdinPipe()
	if err != nil {
		return nil, err
	}
	run.Stdout = theirs
	if err := run.Start(); err != nil {
		return nil, err
	}
	go func() {
		_, _ = io.Copy(stdin, theirs)
		_ = stdin.Close()
	}()
	go func() {
		_ = run.Wait()
		_ = theirs.Close()
	}()
	return ours, ctx.Err()
}

// dockerSocket is where this computer's engine listens, as its command line would find it.
func dockerSocket() string {
	return cmp.Or(strings.TrimPrefix(os.Getenv("DOCKER_HOST"), "unix://"), "/var/run/docker.sock")
}

// realDocker calls this computer's engine.
func realDocker(t *testing.T, method, path, contentType string, body io.Reader) (int, string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", dockerSocket())
	}}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// buildTime is for the first build without cgo on a busy machine; later ones come from Go's cache.
const buildTime = 5 * time.Minute

// standinProgram builds the stand-in, statically linked, once.
var standinProgram = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "standin")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), buildTime)
	defer cancel()
	program := filepath.Join(dir, "vllm")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./testdata/standin")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the stand-in: %w\n%s", err, output)
	}
	return os.ReadFile(program)
})

// standin builds an image that holds nothing but the stand-in, and removes it and all that was made of it at the end.
func standin(t *testing.T) (tag string) {
	t.Helper()
	conn, err := net.Dial("unix", dockerSocket())
	if err != nil {
		t.Skip("SKIPPED: no Docker engine on this machine")
	}
	_ = conn.Close()
	if _, err := exec.LookPath("docker"); err != nil {
		t.Skip("SKIPPED: no docker command on this machine")
	}
	data, err := standinProgram()
	if err != nil {
		t.Fatal(err)
	}
	tag = "terraform-provider-shopper-test:" + strings.ToLower(strings.TrimPrefix(t.Name(), "Test"))
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	for _, file := range []struct {
		name string
		mode int64
		data []byte
	}{
		{"Dockerfile", 0o644, []byte("FROM scratch\nENV PATH=/bin\nCOPY vllm /bin/vllm\n")},
		{"vllm", 0o755, data},
	} {
		header := &tar.Header{Name: file.name, Mode: file.mode, Size: int64(len(file.data)), Typeflag: tar.TypeReg}
		if err := writer.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := writer.Write(file.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = realDocker(t, http.MethodDelete, "/images/"+tag+"?force=1", "", nil)
		_, _ = realDocker(t, http.MethodDelete, "/volumes/"+cacheName(t)+"-huggingface", "", nil)
		_, _ = realDocker(t, http.MethodDelete, "/volumes/"+cacheName(t)+"-vllm", "", nil)
	})
	if code, text := realDocker(t, http.MethodPost, "/build?t="+tag, "application/x-tar", &archive); code != http.StatusOK ||
		strings.Contains(text, "errorDetail") {
		t.Fatalf("building the image: %d %s", code, text)
	}
	return tag
}

// cacheName is a test's own: another's end takes its volumes away.
func cacheName(t *testing.T) string {
	t.Helper()
	return "shopper-deploy-" + strings.ToLower(t.Name())
}

func ask(t *testing.T, status deploy.Status, key string) error {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	client := vllm.NewClient(transport, "http://127.0.0.1:"+itoa(status.Port), key)
	_, err := client.Complete(within(t, limit), "chat")
	return err
}

// The whole life of a deployment on a real Docker engine.
func TestRealDocker(t *testing.T) {
	t.Parallel()
	tag := standin(t)
	wanted := request()
	wanted.Name, wanted.Owner = "shopper-deploy-test", "test/real-docker"
	wanted.Container = container.Options{Image: tag, GPUs: "none", Cache: cacheName(t), ShmSize: 64 << 20}
	wanted.Spec.Port = testkit.FreePort(t)
	wanted.Spec.Env = map[string]string{"QUOTES": "a'b\"c $(x)\nline two"}
	wanted.Spec.ExtraArgs = []string{"--chat-template", "hostile $(touch x) 'quoted'"}
	t.Cleanup(func() { removeOwned(t, wanted.Owner) })

	first := launchLocal(t, wanted)
	if first.State != deploy.Running || !first.RestartsItself || first.VLLMVersion != "0.33.0" || first.ServedMaxModelLen != 4096 ||
		!strings.HasPrefix(first.ImageDigest, "sha256:") || first.Environment["QUOTES"] != wanted.Spec.Env["QUOTES"] ||
		first.APIKeyPrint != deploy.Fingerprint(wanted.Owner, testKey) || len(first.GPUs) != 0 {
		t.Errorf("status: %+v", first)
	}
	if _, has := first.Environment["PATH"]; has {
		t.Error("the image's own variables are in the environment")
	}
	if err := ask(t, first, testKey); err != nil {
		t.Error(err)
	}
	log, err := lifecycle.LogTail(within(t, limit), local{}, first.Ref, 10)
	if err != nil || len(log) == 0 || !strings.Contains(log[0], "Starting vLLM server") {
		t.Errorf("log %q, %v", log, err)
	}
	onLoopbackOnly(t, itoa(first.Port))
	onLoopbackOnly(t, log[0][strings.LastIndexByte(log[0], ':')+1:])

	// What a run that was killed left is taken over.
	if again := launchLocal(t, wanted); again.ID != first.ID {
		t.Errorf("launched %s beside %s", again.ID, first.ID)
	}

	// A server that dies is started again.
	_, _ = http.Get("http://127.0.0.1:" + itoa(first.Port) + "/crash") //nolint:bodyclose // it never answers
	testkit.Eventually(t, "a restart", func() bool {
		status, err := lifecycle.Inspect(within(t, limit), local{}, first.Ref)
		return err == nil && status.RestartCount == 1 && ask(t, status, testKey) == nil
	})

	// A replacement that fails brings it back, explained by its log.
	broken := wanted
	broken.Spec.ExtraArgs = []string{"--max-num-seqs", "0"}
	back, err := lifecycle.Replace(within(t, limit), local{}, first.Ref, broken, lifecycle.Rollback)
	failed := wantError(t, nil, err)
	contains(t, failed.Description(), "CUDA out of memory", "The old server is running again and has answered", "exit code 3")
	if back.ID != first.ID || ask(t, back, testKey) != nil || back.Name != wanted.Name {
		t.Errorf("brought back: %+v", back)
	}

	volume := volumeOf(t)
	replaced := wanted
	replaced.Spec.APIKey = "the-second-key"
	second, err := lifecycle.Replace(within(t, limit), local{}, first.Ref, replaced, lifecycle.Rollback)
	if err != nil {
		t.Fatalf("%v\n%s", err, describe(err))
	}
	if err := ask(t, second, "the-second-key"); err != nil || second.ID == first.ID {
		t.Errorf("replaced: %+v, %v", second, err)
	}
	if _, err := lifecycle.Remove(within(t, limit), local{}, second.Ref, lifecycle.Request{}); err != nil {
		t.Fatal(err)
	}
	if left := owned(t, wanted.Owner); left != "[]\n" && left != "[]" {
		t.Errorf("containers are left: %s", left)
	}
	if after := volumeOf(t); after != volume {
		t.Errorf("the cache's volume was %s, and is %s", volume, after)
	}
}

// onLoopbackOnly checks that nothing reaches a port at the machine's other addresses.
func onLoopbackOnly(t *testing.T, port string) {
	t.Helper()
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range addresses {
		network, ok := address.(*net.IPNet)
		if !ok || network.IP.To4() == nil || network.IP.IsLoopback() {
			continue
		}
		if conn, err := net.DialTimeout("tcp", net.JoinHostPort(network.IP.String(), port), time.Second); err == nil {
			_ = conn.Close()
			t.Errorf("port %s is reached at %s", port, network.IP)
		}
	}
}

// volumeOf identifies one of the caches' volumes, with its time of creation.
func volumeOf(t *testing.T) string {
	t.Helper()
	code, text := realDocker(t, http.MethodGet, "/volumes/"+cacheName(t)+"-huggingface", "", nil)
	if code != http.StatusOK {
		t.Errorf("the cache's volume: %d %s", code, text)
	}
	return text
}

// A deployment on a real Docker engine that a real sshd leads to: no part of the way is a stand-in's.
func TestRealDockerThroughRealSSHD(t *testing.T) {
	t.Parallel()
	tag := standin(t)
	machine := realMachine(t)
	wanted := request()
	wanted.Name, wanted.Owner = "shopper-deploy-ssh-test", "test/real-docker-ssh"
	wanted.Container = container.Options{Image: tag, GPUs: "none", Cache: cacheName(t)}
	wanted.Spec.Port = testkit.FreePort(t)
	wanted.Spec.Env = map[string]string{"QUOTES": "a'b\"c $(x)\nline two", "HF_HUB_OFFLINE": "1"}
	t.Cleanup(func() { removeOwned(t, wanted.Owner) })
	status, err := lifecycle.Launch(within(t, limit), machine, wanted)
	if err != nil {
		t.Fatalf("%v\n%s", err, describe(err))
	}
	if err := ask(t, status, testKey); err != nil || status.Environment["QUOTES"] != wanted.Spec.Env["QUOTES"] {
		t.Errorf("%v; status %+v", err, status)
	}
	broken := wanted
	broken.Spec.ExtraArgs = []string{"--max-num-seqs", "0"}
	back, err := lifecycle.Replace(within(t, limit), machine, status.Ref, broken, lifecycle.Rollback)
	contains(t, wantError(t, nil, err).Description(), "CUDA out of memory", "The old server is running again and has answered")
	if back.ID != status.ID {
		t.Errorf("brought back: %+v", back)
	}
	if _, err := lifecycle.Remove(within(t, limit), machine, back.Ref, lifecycle.Request{}); err != nil {
		t.Fatal(err)
	}
	if left := owned(t, wanted.Owner); strings.TrimSpace(left) != "[]" {
		t.Errorf("containers are left: %s", left)
	}
}

// realMachine is this computer behind OpenSSH's own server.
func realMachine(t *testing.T) *host.Client {
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
	dir := t.TempDir()
	_, hostKey := testkit.SSHKey(t)
	signer, private := testkit.SSHKey(t)
	port := testkit.FreePort(t)
	files := map[string]string{
		"host": hostKey, "keys": string(ssh.MarshalAuthorizedKey(signer.PublicKey())),
		"config": fmt.Sprintf("ListenAddress 127.0.0.1:%d\nHostKey %s/host\nAuthorizedKeysFile %[2]s/keys\nPidFile none\nStrictModes no\n"+
			"PasswordAuthentication no\nPermitRootLogin prohibit-password\nMaxSessions 100\nSetEnv DOCKER_HOST=unix://%s\n", port, dir, dockerSocket()),
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := filepath.Join(dir, "log")
	server := exec.Command(program, "-D", "-f", filepath.Join(dir, "config"), "-E", log)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(os.Interrupt)
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
	client, err := host.Dial(within(t, limit), host.Config{Host: "127.0.0.1", Port: port, User: me.Username, PrivateKeys: []string{private}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestRealDockerTLS(t *testing.T) {
	t.Parallel()
	tag := standin(t)
	wanted := request()
	wanted.Name, wanted.Owner = "shopper-deploy-tls-test", "test/real-docker-tls"
	wanted.Container = container.Options{Image: tag, GPUs: "none", Cache: cacheName(t), User: "2000:0"}
	wanted.Spec.Port = testkit.FreePort(t)
	certificate, key := testkit.Certificate(t, "gpu.example")
	wanted.TLS = &lifecycle.TLS{Certificate: certificate, Key: key, ServerName: "gpu.example"}
	t.Cleanup(func() {
		removeOwned(t, wanted.Owner)
		_, _ = realDocker(t, http.MethodDelete, "/volumes/"+cacheName(t)+"-home", "", nil)
	})
	status := launchLocal(t, wanted)
	conn, err := net.Dial("tcp", "127.0.0.1:"+itoa(status.Port))
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if _, err := lifecycle.Remove(within(t, limit), local{}, status.Ref, lifecycle.Request{}); err != nil {
		t.Fatal(err)
	}
}

func launchLocal(t *testing.T, wanted lifecycle.Request) deploy.Status {
	t.Helper()
	status, err := lifecycle.Launch(within(t, limit), local{}, wanted)
	if err != nil {
		t.Fatalf("%v\n%s", err, describe(err))
	}
	return status
}

func owned(t *testing.T, owner string) string {
	t.Helper()
	_, text := realDocker(t, http.MethodGet, `/containers/json?all=1&filters=`+
		strings.ReplaceAll(`{"label":["terraform-provider-shopper.owner=`+owner+`"]}`, `"`, "%22"), "", nil)
	return text
}

// removeOwned removes what a test that failed has left.
func removeOwned(t *testing.T, owner string) {
	t.Helper()
	for part := range strings.SplitSeq(owned(t, owner), `"Id":"`) {
		if id, _, ok := strings.Cut(part, `"`); ok && len(id) == 64 {
			_, _ = realDocker(t, http.MethodDelete, "/containers/"+id+"?force=1&v=1", "", nil)
		}
	}
}
