package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// build builds the program.
func build(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "shopper-sandbox")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// TestVLLMAlone: the built program serves as vLLM, with vLLM's arguments and
// environment, and ends as vLLM does.
func TestVLLMAlone(t *testing.T) {
	t.Parallel()
	program := build(t)
	port := fmt.Sprint(testkit.FreePort(t))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	var log syncBuffer
	cmd := exec.CommandContext(ctx, program, "vllm", "--release", "0.32.0", "--load", "50ms",
		"serve", "tiny", "--served-model-name", "demo", "--max-model-len", "512", "--host", "127.0.0.1", "--port", port)
	cmd.Env = append(os.Environ(), "VLLM_API_KEY=secret")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ask := func(path, key string) (int, string) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:"+port+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Close = true
		request.Header.Set("Authorization", "Bearer "+key)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, err.Error()
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for status := 0; status != http.StatusOK; status, _ = ask("/health", "") {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("it isn't ready:\n%s", log.String())
		}
	}
	for _, test := range []struct {
		path, key, want string
		status          int
	}{
		{"/version", "", `{"version":"0.32.0"}`, http.StatusOK},
		{"/v1/models", "wrong", `{"error":"Unauthorized"}`, http.StatusUnauthorized},
		{"/v1/models", "secret", `"id":"demo"`, http.StatusOK},
	} {
		if status, body := ask(test.path, test.key); status != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s with %q: %d %s", test.path, test.key, status, body)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, log.String())
	}
	for _, line := range []string{"version 0.32.0\n", "Application startup complete.\n", "Application shutdown complete.\n"} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("no %q in\n%s", line, log.String())
		}
	}
}

func TestVLLMAloneRefuses(t *testing.T) {
	t.Parallel()
	program := build(t)
	for _, test := range []struct {
		args string
		code int
		last string
	}{
		{"-help", 0, ""},
		{"", 2, ""},
		{"serve tiny --frobnicate", 2, "vllm: error: unrecognized arguments: --frobnicate"},
		{"--release 0.19.1 serve tiny --max-num-queued-reqs 5", 2, "vllm: error: unrecognized arguments: --max-num-queued-reqs 5"},
		{"--load 1ms serve tiny --tensor-parallel-size 3", 1, "    For further information visit https://errors.pydantic.dev/2.14/v/value_error"},
		{"--load 1ms --fail disk-full serve tiny", 1, "  warnings.warn('resource_tracker: There appear to be %d '"},
	} {
		var out bytes.Buffer
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		cmd := exec.CommandContext(ctx, program, append([]string{"vllm"}, strings.Fields(test.args)...)...)
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		cancel()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != test.code || !strings.HasSuffix(out.String(), test.last+"\n") {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s", test.args, code, test.code, test.last, fmt.Sprintf("%.3000s", out.String()))
		}
	}
}
