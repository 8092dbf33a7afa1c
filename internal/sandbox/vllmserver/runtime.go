package vllmserver

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	recorded "github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

// adapter is a LoRA adapter, which is served as a model.
type adapter struct {
	Name string `json:"lora_name"`
	Path string `json:"lora_path"`
}

// modules are the adapters of --lora-modules, which are name=path or JSON (vllm/entrypoints/openai/cli_args.py).
func (r *run) modules() (found []adapter) {
	for _, given := range r.opts.given["lora-modules"] {
		var module struct{ Name, Path string }
		if json.Unmarshal([]byte(given), &module) == nil {
			found = append(found, adapter(module))
		} else if name, path, ok := strings.Cut(given, "="); ok {
			found = append(found, adapter{name, path})
		}
	}
	return found
}

// runtime is the state of a running server that requests change.
type runtime struct {
	mu       sync.Mutex
	adapters []adapter
	resting  map[string]bool // is_sleeping, is_paused
}

// served are the names of the model and of the adapters.
func (s *server) served() []string {
	names := slices.Clone(s.run.opts.servedNames())
	s.runtime.mu.Lock()
	defer s.runtime.mu.Unlock()
	for _, a := range s.runtime.adapters {
		names = append(names, a.Name)
	}
	return names
}

// runtimeRoutes are the routes that environment variables enable: those of the developer mode, which answer as
// recorded, and those that load and unload adapters.
func (s *server) runtimeRoutes() map[string]map[string]http.HandlerFunc {
	routes := map[string]map[string]http.HandlerFunc{}
	if s.run.place.env["VLLM_SERVER_DEV_MODE"] == "1" {
		for _, e := range recorded.Asked(s.run.place.version, "dev-mode") {
			routes[e.Request.Path] = map[string]http.HandlerFunc{
				e.Request.Method: func(w http.ResponseWriter, _ *http.Request) { s.develop(w, e) },
			}
		}
	}
	if s.run.place.env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1" {
		routes[loadPath] = map[string]http.HandlerFunc{http.MethodPost: s.posted(s.changeAdapters)}
		routes[unloadPath] = routes[loadPath]
	}
	return routes
}

// rests are the requests that make the engine rest, and those that end that.
var rests = map[string]struct {
	state string
	on    bool
}{
	"/sleep": {"is_sleeping", true}, "/wake_up": {"is_sleeping", false},
	"/pause": {"is_paused", true}, "/resume": {"is_paused", false},
}

func (s *server) develop(w http.ResponseWriter, e recorded.Exchange) {
	s.runtime.mu.Lock()
	defer s.runtime.mu.Unlock()
	if r, ok := rests[e.Request.Path]; ok {
		s.runtime.resting[r.state] = r.on
	}
	answer := body(e)
	for state := range answer {
		if strings.HasPrefix(state, "is_") {
			answer[state] = s.runtime.resting[state]
		}
	}
	s.answer(w, e, answer)
}

const (
	loadPath   = "/v1/load_lora_adapter"
	unloadPath = "/v1/unload_lora_adapter"
)

func (s *server) changeAdapters(w http.ResponseWriter, req *http.Request, data []byte) error {
	var ask adapter
	if err := json.Unmarshal(data, &ask); err != nil {
		return s.badBody(err)
	}
	s.runtime.mu.Lock()
	defer s.runtime.mu.Unlock()
	i := slices.IndexFunc(s.runtime.adapters, func(a adapter) bool { return a.Name == ask.Name })
	_, err := os.Stat(filepath.Join(s.run.place.file(ask.Path), "adapter_config.json"))
	var said string
	switch load := req.URL.Path == loadPath; {
	case !load && i < 0:
		said = "cannot be found"
	case !load:
		s.runtime.adapters, said = slices.Delete(s.runtime.adapters, i, i+1), "removed successfully"
	case i >= 0:
		said = "has already been loaded"
	case err != nil:
		said = "No adapter found"
	default:
		s.runtime.adapters, said = append(s.runtime.adapters, ask), "added successfully"
	}
	e := s.like(req.URL.Path, said)
	text := strings.NewReplacer("'a'", pyRepr(ask.Name), "lora b", "lora "+ask.Name, "/nope", ask.Path).Replace(string(e.Answer.Body))
	var success string
	if json.Unmarshal([]byte(text), &success) == nil {
		text = success
	}
	s.answer(w, e, text)
	return nil
}
