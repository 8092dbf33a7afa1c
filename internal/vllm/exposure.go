package vllm

import (
	"fmt"
	"strings"
)

// What a route lets anybody do who reaches it.
const (
	letsUse    = "use the model"
	letsChange = "rescale the server"
	letsRead   = "read"
	letsRule   = "put it to sleep, pause it or load other weights"
)

// openRoutes are the routes that vLLM answers without its API key, in the releases from since (recorded or not) up to, and
// without, until. They are those of http.json of each recorded release, and its routes that no guarded prefix covers; those of
// pooling models are from vLLM's sources (entrypoints/pooling), and /pooling from runs/embedding.http.json.
var openRoutes = []struct{ lets, path, since, until string }{
	{lets: letsUse, path: "/invocations"},
	{lets: letsUse, path: "/inference/v1/generate", until: "0.32.0"},
	{lets: letsUse, path: "/generative_scoring", since: "0.32.0"},
	{lets: letsUse, path: "/tokenize"},
	{lets: letsUse, path: "/detokenize"},
	{lets: letsUse, path: "/pooling"},
	{lets: letsUse, path: "/score"},
	{lets: letsUse, path: "/rerank"},
	{lets: letsUse, path: "/classify"},
	{lets: letsChange, path: "/scale_elastic_ep"},
	{lets: letsRead, path: "/metrics"},
	{lets: letsRead, path: "/load"},
	{lets: letsRead, path: "/version"},
	{lets: letsRead, path: "/health"},
	{lets: letsRead, path: "/ping"},
	{lets: letsRead, path: "/docs"},
	{lets: letsRead, path: "/openapi.json"},
	{lets: letsRead, path: "/is_scaling_elastic_ep"},
	{lets: letsRead, path: "/kv_event_sources", since: "0.32.0"},
}

// developmentRoutes are there where VLLM_SERVER_DEV_MODE=1 asks for them (runs/dev-mode.http.json), without a key too.
var developmentRoutes = []string{
	"/sleep", "/wake_up", "/pause", "/resume", "/update_weights", "/collective_rpc", "/reset_prefix_cache", "/server_info",
}

// EnvRuntimeLoRA is the variable that, at 1 or true, opens the routes that load and unload LoRA adapters (vllm/envs.py). vLLM refuses
// it together with more than one API server.
const EnvRuntimeLoRA = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"

// EnvDevelopment is the variable that opens developmentRoutes.
const EnvDevelopment = "VLLM_SERVER_DEV_MODE"

// guarded are the prefixes below which a release asks for the key: 0.19.1 was recorded to let /inference be, 0.32.0 guards it
// (entrypoints/serve/middleware/authenticate.py). Of a release that isn't known the least is assumed.
func guarded(release string) []string {
	if compareReleases(release, "0.32.0") < 0 {
		return []string{"/v1"}
	}
	return []string{"/v1", "/v2", "/inference", "/cohere"}
}

// open are the routes that let anybody do something, with a release's key or without; "" is any release.
func open(release, lets string) []string {
	var paths []string
	for _, route := range openRoutes {
		since := route.since == "" || release == "" || compareReleases(release, route.since) >= 0
		until := route.until == "" || compareReleases(release, route.until) < 0
		if route.lets == lets && since && until {
			paths = append(paths, route.path)
		}
	}
	return paths
}

// loopbackOnly is the first release whose every socket is on loopback where the server is. In those before, torch's store is on
// all interfaces (processes.txt of 0.19.1; recorded for 0.25.1 too): 0.27.1 still makes one, 0.28.0 has a file in its place
// (github.com/vllm-project/vllm/pull/50999; get_file_store_init_method in vllm/v1/executor/uniproc_executor.py of 0.28.0).
const loopbackOnly = "0.28.0"

// OpensPort reports whether a release opens a port besides the server's own on all interfaces, wherever the server listens. An
// unknown release counts as a new one.
func OpensPort(release string) bool {
	return release != "" && compareReleases(release, loopbackOnly) < 0
}

// OpenPort says that such a port is open and what it is, and how to close it.
func OpenPort(port int) (fact, wayOut string) {
	return fmt.Sprintf("vLLM also listens on port %d on all addresses of the machine. It is torch's store, which requires no key.", port),
		fmt.Sprintf("Allow only the ports you use in the cloud's firewall (on Vast.ai machines only mapped ports are reachable), run vLLM %s or"+
			" newer, or use a container, whose network keeps that port closed.", loopbackOnly)
}

// Exposure says in two sentences what anybody can do without the API key who reaches a server of a release ("" for one that
// isn't known). With development, the routes of EnvDevelopment are among it.
func Exposure(release string, development bool) string {
	lets := []string{}
	for _, what := range []string{letsUse, letsChange} {
		lets = append(lets, fmt.Sprintf("%s (%s)", what, strings.Join(open(release, what), ", ")))
	}
	if development {
		lets = append(lets, fmt.Sprintf("%s (%s: %s is set)", letsRule, strings.Join(developmentRoutes, ", "), EnvDevelopment))
	}
	return fmt.Sprintf("%s requires the API key only below %s. Without it, anyone who can reach the port can %s, and %s %s.",
		strings.TrimSpace("vLLM "+release), strings.Join(guarded(release), ", "), strings.Join(lets, ", "), letsRead,
		strings.Join(open(release, letsRead), ", "))
}
