package provider_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/terraform-plugin-go/tftypes"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"
)

// engine sends a request to a machine's container engine, as a user who is logged in would, and decodes the answer into the
// last argument unless that is nil.
func engine(t *testing.T, m *machine.Machine, method, path string, body, answer any) {
	t.Helper()
	dialer := net.Dialer{}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "unix", m.Root().DockerSocket())
	}}
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://docker/v1.41"+path, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= http.StatusBadRequest {
		t.Fatalf("%s %s: %s: %s, %v", method, path, resp.Status, said, err)
	}
	if answer == nil {
		return
	}
	if raw, ok := answer.(*[]byte); ok {
		*raw = said
		return
	}
	if err := json.Unmarshal(said, answer); err != nil {
		t.Fatal(err)
	}
}

// recreate replaces a container as tools that update containers do: with the same name and labels, and a changed
// configuration.
func recreate(t *testing.T, m *machine.Machine, change func(config map[string]any)) {
	t.Helper()
	var found struct{ Config, HostConfig map[string]any }
	engine(t, m, "GET", "/containers/vllm-8000/json", nil, &found)
	engine(t, m, "DELETE", "/containers/vllm-8000?force=1", nil, nil)
	found.Config["HostConfig"] = found.HostConfig
	change(found.Config)
	engine(t, m, "POST", "/containers/create?name=vllm-8000", found.Config, nil)
	engine(t, m, "POST", "/containers/vllm-8000/start", nil, nil)
}

func replaceWord(list []any, from, to string) []any {
	list = slices.Clone(list)
	for i, word := range list {
		if word == from {
			list[i] = to
		}
	}
	return list
}

// A change by hand of a running server shows at the attribute that differs, and the next apply reverts it.
func TestDeploymentDrift(t *testing.T) {
	t.Parallel()
	w, c, session := staged(t)
	wanted := onSession(t, session, values{
		"max_model_len": 8192, "gpu_memory_utilization": 0.8, "args": []any{"--seed", "1"}, "env": values{"NOTE": "mine"},
		"hf_token": "hf_plantedTokenAbcdefgh1234567890", "trust_remote_code": true,
	})
	server := c.create(deploymentType, wanted)
	m := w.theMachine(t)
	for _, test := range []struct {
		name   string
		change func(config map[string]any)
		drift  map[string]any
	}{
		{"nothing", func(map[string]any) {}, map[string]any{}},
		{"image", func(config map[string]any) {
			config["Image"] = "vllm/vllm-openai:v0.32.0"
			engine(t, m, "POST", "/images/create?fromImage=vllm/vllm-openai&tag=v0.32.0", nil, nil)
		}, map[string]any{"container.image": "vllm/vllm-openai:v0.32.0"}},
		{"flags", func(config map[string]any) {
			config["Cmd"] = replaceWord(replaceWord(config["Cmd"].([]any), "8192", "4096"), "0.8", "0.7")
		}, map[string]any{"max_model_len": 4096, "gpu_memory_utilization": 0.7}},
		{"further flags", func(config map[string]any) {
			cmd := slices.DeleteFunc(config["Cmd"].([]any), func(word any) bool { return word == "--trust-remote-code" })
			config["Cmd"] = append(cmd, "--enforce-eager")
		}, map[string]any{"args": []any{"--seed", "1", "--enforce-eager"}, "trust_remote_code": false}},
		{"what is set most", func(config map[string]any) {
			config["Cmd"] = append(config["Cmd"].([]any), "--kv-cache-dtype", "fp8", "--no-enable-prefix-caching", "--enable-auto-tool-choice",
				"--tool-call-parser", "hermes", "--reasoning-parser", "qwen3", "--enable-lora")
		}, map[string]any{
			"kv_cache_dtype": "fp8", "enable_prefix_caching": false, "tool_call_parser": "hermes", "reasoning_parser": "qwen3",
			"lora_adapters": values{},
		}},
		{"port", func(config map[string]any) {
			config["HostConfig"].(map[string]any)["PortBindings"] = map[string]any{"8000/tcp": []any{values{"HostIp": "127.0.0.1", "HostPort": "9000"}}}
		}, map[string]any{"port": 9000}},
		{"environment", func(config map[string]any) {
			config["Env"] = append(replaceWord(config["Env"].([]any), "NOTE=mine", "NOTE=theirs"), "MORE=1")
		}, map[string]any{"env": values{"NOTE": "theirs", "MORE": "1"}}},
		{"key", func(config map[string]any) {
			config["Env"] = replaceWord(config["Env"].([]any), "VLLM_API_KEY="+text(t, server.state, "api_key"), "VLLM_API_KEY=stolen-key-1")
		}, map[string]any{"api_key": nil}},
		{"token", func(config map[string]any) {
			config["Env"] = slices.DeleteFunc(config["Env"].([]any), func(line any) bool {
				return strings.HasPrefix(line.(string), "HF_TOKEN=")
			})
		}, map[string]any{"hf_token": nil}},
	} {
		recreate(t, m, test.change)
		seen, diags := c.read(deploymentType, server)
		expect(t, diags)
		sameBut(t, test.name, server.state, seen.state, test.drift)
		p := c.plan(deploymentType, seen, wanted)
		if restarts := !get(t, p.value, "id").IsKnown(); restarts != (len(test.drift) > 0) {
			t.Errorf("%s: another server: %v", test.name, restarts)
		}
		if len(test.drift) > 0 {
			server = c.change(deploymentType, seen, wanted)
		} else {
			server = seen
		}
		if again, diags := c.read(deploymentType, server); len(diags) > 0 || !again.state.Equal(server.state) {
			t.Errorf("%s: after the repair a refresh still changes something: %s", test.name, list(diags))
		}
	}
	if claims, err := w.servers(); err != nil || len(claims) != 1 {
		t.Errorf("servers: %v, %v", claims, err)
	}
}

// sameBut fails the test unless the arguments of two states differ only in the drift.
func sameBut(t *testing.T, name string, before, after tftypes.Value, drift map[string]any) {
	t.Helper()
	arguments := []string{
		"model", "container.image", "max_model_len", "gpu_memory_utilization", "args", "env", "api_key", "hf_token", "port", "exposure",
		"trust_remote_code", "served_model_name", "tensor_parallel_size", "dtype", "kv_cache_dtype", "enable_prefix_caching",
		"tool_call_parser", "reasoning_parser", "lora_adapters",
	}
	for argument := range drift {
		if !slices.Contains(arguments, argument) {
			t.Errorf("%s: nobody compares %s", name, argument)
		}
	}
	for _, argument := range arguments {
		want := get(t, before, argument)
		if changed, ok := drift[argument]; ok {
			want = value(t, want.Type(), changed, argument)
		}
		if got := get(t, after, argument); !got.Equal(want) {
			t.Errorf("%s: %s is %s, want %s", name, argument, got, want)
		}
	}
}
