package vllmserver_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

const testModel = "Qwen/Qwen2.5-0.5B-Instruct"

// newMachine makes a machine with one 24 GB GPU that plays everything fast.
func newMachine(t *testing.T, change ...func(*machinefs.Facts)) machinefs.Root {
	t.Helper()
	dir := testkit.Dir(t)
	root := machinefs.Root(dir)
	if err := root.Create(); err != nil {
		t.Fatal(err)
	}
	facts := machinefs.Facts{
		User: "root", Container: true, Driver: machinefs.DriverReady, DriverVersion: "580.95.05", CUDAVersion: "13.0", Speed: 5000,
		GPUs: []machinefs.GPU{{Name: "NVIDIA GeForce RTX 4090", UUID: "GPU-1", MemoryMiB: 24564, ComputeCapability: "8.9"}},
		VLLM: machinefs.VLLM{Installed: "0.33.0"},
	}
	for _, f := range change {
		f(&facts)
	}
	if err := root.WriteFacts(facts); err != nil {
		t.Fatal(err)
	}
	return root
}

func setFacts(t *testing.T, root machinefs.Root, change func(*machinefs.Facts)) {
	t.Helper()
	facts, err := root.ReadFacts()
	if err != nil {
		t.Fatal(err)
	}
	change(&facts)
	if err := root.WriteFacts(facts); err != nil {
		t.Fatal(err)
	}
}

// output is what a server writes, read while it writes.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(data []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(data)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// server is a server that runs in this process.
type server struct {
	t      *testing.T
	root   machinefs.Root
	log    *output // both streams
	cancel context.CancelFunc
	done   chan struct{}
	code   int
}

func launch(t *testing.T, root machinefs.Root, env []string, args ...string) *server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	s := &server{t: t, root: root, log: &output{}, cancel: cancel, done: make(chan struct{})}
	env = append([]string{machinefs.Env + "=" + string(root)}, env...)
	go func() {
		defer close(s.done)
		s.code = vllmserver.Main(ctx, args, env, s.log, s.log)
	}()
	t.Cleanup(func() { cancel(); <-s.done })
	return s
}

// serve starts a server and waits until it listens.
func serve(t *testing.T, root machinefs.Root, env []string, args ...string) *server {
	t.Helper()
	return serveModel(t, root, env, testModel, args...)
}

func serveModel(t *testing.T, root machinefs.Root, env []string, model string, args ...string) *server {
	t.Helper()
	s := launch(t, root, env, append([]string{"serve", model}, args...)...)
	s.eventually("the server's start", func() bool {
		return s.ended() || strings.Contains(s.log.String(), "Application startup complete.")
	})
	if s.ended() {
		t.Fatalf("the server ended with %d:\n%s", s.code, s.log)
	}
	return s
}

func (s *server) ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// wait returns the exit code of a server that ends by itself.
func (s *server) wait() int {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(30 * time.Second):
		s.t.Fatalf("the server does not end:\n%s", s.log)
	}
	return s.code
}

func (s *server) eventually(what string, done func() bool) {
	s.t.Helper()
	deadline := time.After(30 * time.Second)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !done() {
		select {
		case <-ticker.C:
		case <-deadline:
			s.t.Fatalf("waited in vain for %s:\n%s", what, s.log)
		}
	}
}

// web talks to the server's port on the machine's loopback.
func (s *server) web() *http.Client { return s.webAt(8000) }

func (s *server) webAt(port int) *http.Client {
	transport := &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return s.root.Dial(ctx, port) },
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the test's own certificate
	}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// call makes one request and returns status and body.
func (s *server) call(method, path, key, body string) (int, string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, "http://machine"+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+key)
	}
	response, err := s.web().Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, string(data)
}
