package vllm

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// The requests that load and unload adapters are those that were recorded, and their answers are understood: a sentence for one
// that was carried out, and vLLM's reason for one that wasn't.
func TestAdaptersAsRecorded(t *testing.T) {
	t.Parallel()
	var exchanges []struct {
		Request []json.RawMessage `json:"request"` // method, path, body
		Status  int               `json:"status"`
		Body    string            `json:"body"`
	}
	readJSON(t, &exchanges, "0.32.0", "runs", "lora-runtime.http.json")
	refused := map[string]bool{}
	for _, e := range exchanges {
		var path string
		if err := json.Unmarshal(e.Request[1], &path); err != nil || !strings.Contains(path, "lora_adapter") {
			continue
		}
		var asked struct {
			Name string `json:"lora_name"`
			Path string `json:"lora_path"`
		}
		if err := json.Unmarshal(e.Request[2], &asked); err != nil {
			t.Fatal(err)
		}
		client := newTestClient(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			got, err := io.ReadAll(req.Body)
			if want := compact(t, e.Request[2]); err != nil || req.URL.Path != path || compact(t, got) != want {
				t.Errorf("%s %s, want %s %s", req.URL.Path, got, path, want)
			}
			w.WriteHeader(e.Status)
			_, _ = io.WriteString(w, e.Body)
		}))
		var err error
		if asked.Path == "" {
			err = client.UnloadAdapter(t.Context(), asked.Name)
		} else {
			err = client.LoadAdapter(t.Context(), asked.Name, asked.Path)
		}
		if (err == nil) != (e.Status == http.StatusOK) {
			t.Errorf("%s: %v", e.Body, err)
		}
		for _, reason := range []string{"has already been loaded", "No adapter found for /nope", "cannot be found"} {
			refused[reason] = refused[reason] || err != nil && strings.Contains(err.Error(), reason)
		}
	}
	for reason, seen := range refused {
		if !seen {
			t.Errorf("no error says %q", reason)
		}
	}
	if len(refused) == 0 {
		t.Error("no request is recorded")
	}
}

// compact is JSON with its members in order.
func compact(t *testing.T, data []byte) string {
	t.Helper()
	var value any
	if err := json.Unmarshal(data, &value); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
