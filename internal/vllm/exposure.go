package vllm

import (
	"fmt"
	"strings"
)

// What a route lets anybody do who can reach it.
const (
	letsUse    = "use the model"
	letsChange = "rescale the server"
	letsRead   = "read"
	letsRule   = "put it to sleep, pause it or load other weights"
)

// openRoutes are the routes that vLLM serves without its API key, from release since up to release until, which is excluded; "" is
// no bound. They are the routes in http.json of each recorded release that no guarded prefix covers. Those of pooling models are from
// vLLM's sources (entrypoints/pooling), and /pooling is from runs/embedding.http.json.
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

// developmentRoutes are served with VLLM_SERVER_DEV_MODE=1, without a key too (runs/dev-mode.http.json).
var developmentRoutes = []string{
	"/sleep", "/wake_up", "/pause", "/resume", "/update_weights", "/collective_rpc", "/reset_prefix_cache", "/server_info",
}

// EnvRuntimeLoRA is the environment variable that, set to 1 or true, enables the routes that load and unload LoRA adapters
// (vllm/envs.py). vLLM refuses it together with more than one API server.
const EnvRuntimeLoRA = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"

// EnvDevelopment is the environment variable that enables developmentRoutes.
const EnvDevelopment = "VLLM_SERVER_DEV_MODE"

// guarded returns the path prefixes below which a release requires the key. 0.19.1 was recorded not to guard /inference; 0.32.0
// does (entrypoints/serve/middleware/authenticate.py). For an unknown release it returns the fewest.
func guarded(release string) []string {
	if compareReleases(release, "0.32.0") < 0 {
		return []string{"/v1"}
	}
	return []string{"/v1", "/v2", "/inference", "/cohere"}
}

// open returns the open routes of a release ("" for any) that let anybody do something.
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

// loopbackOnly is the first release all of whose sockets are on loopback where the server's is. Earlier ones open torch's store on
// all interfaces (processes.txt of 0.19.1; recorded for 0.25.1 too). 0.27.1 still opens it, 0.28.0 uses a file instead
// (github.com/vllm-project/vllm/pull/50999; get_file_store_init_method in vllm/v1/executor/uniproc_executor.py of 0.28.0).
const loopbackOnly = "0.28.0"

// OpensPort reports whether a release opens a port besides the server's own on all interfaces, wherever the server listens. It is
// false for an unknown release ("").
func OpensPort(release string) bool {
	return release != "" && compareReleases(release, loopbackOnly) < 0
}

// OpenPort says that such a port is open and what it is for, and how to close it.
func OpenPort(port int) (fact, wayOut string) {
	return fmt.Sprintf("vLLM also listens on port %d on all addresses of the machine. It is torch's store, which requires no key.", port),
		fmt.Sprintf("Allow only the ports you use in the cloud's firewall (on Vast.ai machines only mapped ports are reachable), run vLLM %s or"+
			" newer, or use a container, whose network keeps that port closed.", loopbackOnly)
}

// Exposure says in two sentences what anybody who can reach a server of a release ("" for an unknown one) can do without the API
// key. development includes the routes of EnvDevelopment.
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
