package vllm

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// recordedRoute is a request of a recording and how it was answered.
type recordedRoute struct {
	Request struct{ Path, Key string }
	Answer  struct {
		Status int
		Body   json.RawMessage
	}
}

func readJSON(t *testing.T, into any, name ...string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{recordings}, name...)...))
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		t.Fatal(name, err)
	}
}

// What is said to be open is what was recorded to be: no more, and no less.
func TestExposureIsAsRecorded(t *testing.T) {
	t.Parallel()
	pooling := []string{"/pooling", "/score", "/rerank", "/classify"} // the recorded model completes
	recorded, _ := recordedFlags(t)
	for release := range recorded {
		said := slices.Concat(open(release, letsUse), open(release, letsChange), open(release, letsRead))
		covered := func(path string) bool {
			return slices.ContainsFunc(guarded(release), func(prefix string) bool { return strings.HasPrefix(path, prefix) })
		}
		var exchanges []recordedRoute
		readJSON(t, &exchanges, release, "http.json")
		found := map[string]bool{}
		for _, e := range exchanges {
			path := e.Request.Path
			if path == "/openapi.json" {
				var document struct{ Routes map[string]any }
				if err := json.Unmarshal(e.Answer.Body, &document); err != nil || len(document.Routes) == 0 {
					t.Fatalf("%s: no routes: %v", release, err)
				}
				for route := range document.Routes {
					found[route] = found[route] || !covered(route)
				}
			}
			switch {
			case e.Request.Key != "none" || strings.HasPrefix(path, "/v1"):
			case e.Answer.Status == http.StatusOK:
				found[path] = true
			case e.Answer.Status == http.StatusUnauthorized && slices.Contains(said, path):
				t.Errorf("%s: %s is said to be open, and wants the key", release, path)
			case e.Answer.Status == http.StatusUnauthorized && !covered(path):
				t.Errorf("%s: %s wants the key, and no prefix says so", release, path)
			case e.Answer.Status == http.StatusNotFound && slices.Contains(said, path) && !slices.Contains(pooling, path):
				t.Errorf("%s: %s is said to be open, and isn't there", release, path)
			}
		}
		for path, isOpen := range found {
			if isOpen != slices.Contains(said, path) {
				t.Errorf("%s: %s is open: %v; said: %v", release, path, isOpen, !isOpen)
			}
		}
		for _, path := range said {
			if !found[path] && !slices.Contains(pooling, path) {
				t.Errorf("%s: %s is said to be open, and was not recorded", release, path)
			}
		}
	}
}

// The routes of developers are there only where they are asked for.
func TestDevelopmentRoutesAreAsRecorded(t *testing.T) {
	t.Parallel()
	var exchanges []struct {
		Request []any
		Status  int
	}
	readJSON(t, &exchanges, "0.32.0", "runs", "dev-mode.http.json")
	var plain []recordedRoute
	readJSON(t, &plain, "0.32.0", "http.json")
	for _, path := range developmentRoutes {
		there := slices.ContainsFunc(exchanges, func(e struct {
			Request []any
			Status  int
		},
		) bool {
			return len(e.Request) > 1 && e.Request[1] == path && e.Status != http.StatusNotFound
		})
		if !there {
			t.Errorf("%s was not recorded", path)
		}
		for _, e := range plain {
			if e.Request.Path == path && e.Answer.Status != http.StatusNotFound {
				t.Errorf("%s is there without being asked for: %d", path, e.Answer.Status)
			}
		}
	}
}

func TestExposure(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		release     string
		development bool
		has, hasNot string
	}{
		{"0.19.1", false, "vLLM 0.19.1 requires the API key only below /v1. Without it, anyone who can reach the port can use the model (/invocations, /inference/v1/generate,", "/sleep"},
		{"0.33.0", false, "only below /v1, /v2, /inference, /cohere.", "/inference/v1/generate"},
		{"0.33.0", true, "put it to sleep, pause it or load other weights (/sleep, ", "/inference/v1/generate"},
		{"0.25.0", false, "rescale the server (/scale_elastic_ep)", "/generative_scoring"},
		{"", false, "vLLM requires the API key only below /v1.", "/sleep"},
		{"", false, "/inference/v1/generate, /generative_scoring", "/update_weights"},
	} {
		if got := Exposure(test.release, test.development); !strings.Contains(got, test.has) || strings.Contains(got, test.hasNot) {
			t.Errorf("%q: %s", test.release, got)
		}
	}
}

// The releases that are said to open a port are those that were recorded to listen on all interfaces although --host was loopback.
func TestOpensPortIsAsRecorded(t *testing.T) {
	t.Parallel()
	recorded, _ := recordedFlags(t)
	for release := range recorded {
		sockets, err := os.ReadFile(filepath.Join(recordings, release, "processes.txt"))
		if err != nil {
			t.Fatal(err)
		}
		if open := strings.Contains(string(sockets), " *:"); open != OpensPort(release) {
			t.Errorf("%s: a port is open: %v; said %v", release, open, OpensPort(release))
		}
	}
	for release, open := range map[string]bool{"": false, "0.27.1": true, "0.28.0": false, "0.33.0+cu129": false} {
		if OpensPort(release) != open {
			t.Errorf("%q: said %v", release, !open)
		}
	}
}

func TestOpenPort(t *testing.T) {
	t.Parallel()
	fact, wayOut := OpenPort(41169)
	if !strings.Contains(fact, "port 41169 on all addresses of the machine") || !strings.Contains(wayOut, "vLLM 0.28.0 or newer") {
		t.Errorf("%s %s", fact, wayOut)
	}
}
