// Package openai holds tests only: the official OpenAI client talks to the sandbox's stand-in for vLLM, as a module apart,
// so that the provider doesn't depend on that client.
package openai

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

const testModel = "Qwen/Qwen2.5-0.5B-Instruct"

var program string // the sandbox, which TestMain builds

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "openai")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program = filepath.Join(dir, "shopper-sandbox")
	build := exec.Command("go", "build", "-o", program, "./internal/sandbox/cmd")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("building the sandbox: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// server is a stand-in for vLLM, a separate process that listens on a Unix socket.
type server struct {
	t      *testing.T
	socket string
}

// serve starts one and waits until it listens.
func serve(t *testing.T, env []string, args ...string) *server {
	t.Helper()
	dir, err := os.MkdirTemp("", "vllm") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &server{t: t, socket: filepath.Join(dir, "socket")}
	command := exec.Command(program, append([]string{"vllm", "--load", "1ms", "serve", testModel, "--uds", s.socket}, args...)...)
	command.Env = append(os.Environ(), env...)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stdout, command.Stderr = in, in
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		_, _ = io.Copy(io.Discard, out)
		if err := command.Wait(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	var log strings.Builder
	for lines := bufio.NewReader(out); !strings.Contains(log.String(), "Application startup complete."); {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("the server didn't start: %v\n%s", err, log.String())
		}
		log.WriteString(line)
	}
	return s
}

func (s *server) openAI(key string) openai.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.socket)
	}}
	s.t.Cleanup(transport.CloseIdleConnections)
	return openai.NewClient(option.WithBaseURL("http://machine/v1"), option.WithAPIKey(key),
		option.WithHTTPClient(&http.Client{Transport: transport}), option.WithMaxRetries(0))
}
