package vllmserver_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// TestWhereTheKeyIsWanted: exactly the routes that vLLM guards answer 401.
func TestWhereTheKeyIsWanted(t *testing.T) {
	t.Parallel()
	chat := `{"messages":[{"role":"user","content":"2+2"}]}`
	current := serve(t, newMachine(t), []string{"VLLM_API_KEY=from-env"}, "--api-key", "one", "two")
	old := serve(t, newMachine(t), []string{"VLLM_API_KEY=from-env", vllmserver.VersionEnv + "=v0.11.0"})
	for _, test := range []struct {
		server             *server
		method, path, body string
		key                string
		want               int
	}{
		{current, "GET", "/health", "", "", 200},
		{current, "GET", "/ping", "", "", 200},
		{current, "POST", "/ping", "", "", 200},
		{current, "GET", "/version", "", "", 200},
		{current, "GET", "/metrics", "", "", 200},
		{current, "POST", "/tokenize", `{"prompt":"one two"}`, "", 200},
		{current, "POST", "/invocations", chat, "", 200},
		{current, "GET", "/v1/models", "", "", 401},
		{current, "GET", "/v1/models", "", "three", 401},
		{current, "GET", "/v1/models", "", "one", 200},
		{current, "GET", "/v1/models", "", "two", 200},
		{current, "GET", "/v1/models", "", "from-env", 401}, // the flag wins
		{current, "POST", "/v1/chat/completions", chat, "", 401},
		{current, "POST", "/v1/chat/completions", chat, "one", 200},
		{current, "GET", "/v2/embed", "", "", 401},
		{current, "GET", "/inference/v1/generate", "", "", 401},
		{current, "OPTIONS", "/v1/models", "", "", 405},
		{current, "GET", "/v1/nothing", "", "one", 404},
		{current, "GET", "/nothing", "", "", 404},
		{current, "GET", "/v1/chat/completions", "", "one", 405},
		{current, "POST", "/v1/chat/completions", "{", "one", 400},
		{current, "POST", "/v1/chat/completions", "{}", "one", 400},
		{current, "POST", "/v1/completions", `{"prompt":"x","stream_options":{}}`, "one", 400},
		{current, "POST", "/v1/embeddings", "{}", "one", 404},
		{old, "GET", "/v1/models", "", "from-env", 200},
		{old, "GET", "/v1/models", "", "", 401},
		{old, "GET", "/v2/embed", "", "", 404},
		{old, "POST", "/v1/embeddings", "{}", "from-env", 400},
	} {
		status, body := test.server.call(test.method, test.path, test.key, test.body)
		if status != test.want {
			t.Errorf("%s %s with %q: %d %s, want %d", test.method, test.path, test.key, status, body, test.want)
		}
		if status == 401 && body != `{"error":"Unauthorized"}` {
			t.Errorf("401 with %s", body)
		}
		if test.path == "/health" && body != "" {
			t.Errorf("health with a body: %q", body)
		}
	}
	if _, body := old.call("GET", "/version", "", ""); body != `{"version":"0.11.0"}` {
		t.Errorf("version: %s", body)
	}
}

func TestMetricsCount(t *testing.T) {
	t.Parallel()
	s := serve(t, newMachine(t), nil, "--served-model-name", "m")
	for range 2 {
		if status, body := s.call("POST", "/v1/completions", "", `{"prompt":"one two three","max_tokens":4}`); status != http.StatusOK {
			t.Fatal(body)
		}
	}
	s.call("POST", "/v1/completions", "", `{"prompt":"one","max_tokens":200}`)
	_, body := s.call("GET", "/metrics", "", "")
	for _, want := range []string{
		`vllm:num_requests_running{engine="0",model_name="m"} 0.0`,
		`vllm:num_requests_waiting{engine="0",model_name="m"} 0.0`,
		`vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.0`,
		`vllm:prompt_tokens_total{engine="0",model_name="m"} 7.0`,
		`vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 2.0`,
		`vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 1.0`,
		`vllm:time_to_first_token_seconds_count{engine="0",model_name="m"} 3.0`,
		"# TYPE vllm:generation_tokens_total counter",
	} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
}

func TestRootPath(t *testing.T) {
	t.Parallel()
	s := serve(t, newMachine(t), []string{"VLLM_API_KEY=k"}, "--root-path", "/proxy/vllm")
	for path, want := range map[string]int{"/proxy/vllm/health": 200, "/health": 200, "/proxy/vllm/v1/models": 401, "/v1/models": 401} {
		if status, _ := s.call("GET", path, "", ""); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	certificate, key := testkit.Certificate(t, "machine")
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, text := range map[string]string{certFile: certificate, keyFile: key} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, newMachine(t), nil, "--ssl-certfile", certFile, "--ssl-keyfile", keyFile)
	response, err := s.web().Get("https://machine/health")
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK || !strings.Contains(s.log.String(), "https://") {
		t.Errorf("health over TLS: %s", response.Status)
	}
	if response, err := s.web().Get("http://machine/health"); err == nil { // runs/tls.http.json: curl's 52, no answer
		_ = response.Body.Close()
		t.Errorf("plain HTTP was answered: %s", response.Status)
	}
	missing := launch(t, newMachine(t), nil, "serve", testModel, "--ssl-certfile", "/nonexistent.pem", "--ssl-keyfile", keyFile)
	if code := missing.wait(); code != 1 || !strings.Contains(missing.log.String(), "FileNotFoundError") {
		t.Errorf("a missing certificate: %d\n%s", code, missing.log)
	}
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	root := newMachine(t)
	path := filepath.Join(string(root), "api.sock")
	s := serve(t, root, nil, "--uds", path)
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	if conn, err := root.Dial(t.Context(), 8000); err == nil {
		_ = conn.Close()
		t.Error("the port is open as well")
	}
	s.cancel()
	s.wait()
}

// TestHangIsHealthyAndSilent: with a hung engine /health stays 200 and no token
// comes; when the hang ends, so does the wait.
func TestHangIsHealthyAndSilent(t *testing.T) {
	t.Parallel()
	root := newMachine(t)
	s := serve(t, root, nil)
	setFacts(t, root, func(f *machinefs.Facts) { f.VLLM.Hang = true })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://machine/v1/completions", strings.NewReader(`{"prompt":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	if response, err := s.web().Do(request); err == nil {
		_ = response.Body.Close()
		t.Errorf("a hung engine answered: %s", response.Status)
	}
	if status, _ := s.call("GET", "/health", "", ""); status != http.StatusOK {
		t.Errorf("health while hanging: %d", status)
	}
	answered := make(chan int, 1)
	go func() {
		status, _ := s.call("POST", "/v1/completions", "", `{"prompt":"x"}`)
		answered <- status
	}()
	s.eventually("the waiting request", func() bool {
		_, body := s.call("GET", "/metrics", "", "")
		return strings.Contains(body, `vllm:num_requests_running{engine="0",model_name="`+testModel+`"} 1.0`)
	})
	setFacts(t, root, func(f *machinefs.Facts) { f.VLLM.Hang = false })
	if status := <-answered; status != http.StatusOK {
		t.Errorf("after the hang: %d", status)
	}
}

func TestExitAfter(t *testing.T) {
	t.Parallel()
	root := newMachine(t)
	dies := serve(t, root, nil)
	setFacts(t, root, func(f *machinefs.Facts) { f.VLLM.ExitAfter = time.Second })
	if code := dies.wait(); code != 0 || !strings.Contains(dies.log.String(), "EngineDeadError") {
		t.Errorf("exit code %d:\n%s", code, dies.log)
	}
	other := newMachine(t)
	stays := serve(t, other, []string{"VLLM_KEEP_ALIVE_ON_ENGINE_DEATH=1"})
	setFacts(t, other, func(f *machinefs.Facts) { f.VLLM.ExitAfter = time.Second })
	stays.eventually("the engine's death", func() bool { status, _ := stays.call("GET", "/health", "", ""); return status == 503 })
	if status, body := stays.call("POST", "/v1/completions", "", `{"prompt":"x"}`); status != 500 {
		t.Errorf("completion with a dead engine: %d %s", status, body)
	}
}
