package vllmserver_test

import (
	"cmp"
	"net/http"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

// A pooling model answers on the routes of its task only; releases differ in how they refuse the others.
func TestPoolingModels(t *testing.T) {
	t.Parallel()
	const input, prompt = `{"input":["one","two three"]}`, `{"prompt":"x"}`
	old := []string{vllmserver.VersionEnv + "=v0.11.0"}
	for _, test := range []struct {
		name  string
		env   []string
		model string // "" for testModel
		args  []string
		want  map[string]int
	}{
		{"embedder", nil, "", []string{"--runner", "pooling", "--convert", "embed"}, map[string]int{"/v1/embeddings": 200, "/pooling": 200, "/classify": 404, "/v1/completions": 404}},
		{"reward model", nil, "org/reward", nil, map[string]int{"/v1/embeddings": 404, "/pooling": 200, "/classify": 404, "/v1/completions": 404}},
		{"classifier", nil, "", []string{"--convert", "classify"}, map[string]int{"/v1/embeddings": 404, "/pooling": 404, "/classify": 200, "/v1/completions": 404}},
		{"old embedder", old, "", []string{"--runner", "pooling", "--convert", "embed"}, map[string]int{"/v1/embeddings": 200, "/classify": 400, "/v1/completions": 400, "/v1/chat/completions": 400}},
		{"old chat", old, "", nil, map[string]int{"/v1/embeddings": 400, "/pooling": 400, "/v1/completions": 200}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := serveModel(t, newMachine(t), test.env, cmp.Or(test.model, testModel), test.args...)
			for route, want := range test.want {
				body := input
				if strings.HasSuffix(route, "completions") {
					body = prompt
				}
				status, answer := s.call(http.MethodPost, route, "", body)
				if status != want {
					t.Errorf("%s: %d %s, want %d", route, status, answer, want)
				}
				if status == http.StatusOK && !strings.HasSuffix(route, "completions") && !strings.Contains(answer, `"index":1`) {
					t.Errorf("%s: not all of the input is answered: %s", route, answer)
				}
				if status == http.StatusBadRequest && !strings.Contains(answer, "does not support") {
					t.Errorf("%s: %s", route, answer)
				}
			}
		})
	}
}
