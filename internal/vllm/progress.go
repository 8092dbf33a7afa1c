package vllm

import "regexp"

// Those phases of a start that callers of Progress compare with; phases has all of them.
const (
	PhaseImporting = "importing vLLM"
	PhaseServer    = "starting server"
	PhaseReady     = "ready"
)

// phases pairs a phase with the messages that announce it, the last phase first; a group is its progress in percent. The messages are
// those of vLLM's loader, compilation backend, KV cache and API server, and of huggingface_hub's progress bars.
var phases = []struct {
	name    string
	pattern wordings
}{
	{PhaseReady, oneOf(`Application startup complete`, `Uvicorn running on`)},
	{PhaseServer, oneOf(`Starting vLLM (?:API )?server`, `init engine .*took`, `Available routes are`)},
	{"capturing CUDA graphs", oneOf(`Capturing CUDA graph[^:]*(?::\s*(\d{1,3})%)?`, `Graph capturing finished`)},
	{"allocating KV cache", oneOf(`Available KV cache memory`, `GPU KV cache size`, `Maximum concurrency for`, `# GPU blocks`)},
	{"warming up", oneOf(`Warming up model`, `Warming up (?:kernels|done)`, `Initial profiling/warmup run`, `Autotuning process starts`)},
	{"compiling", oneOf(`torch\.compile t(?:ook|akes)`, `Dynamo bytecode`, `Compiling a graph`, `Start compiling`,
		`Directly load the compiled graph`, `Using cache directory: .*torch_compile`)},
	{"weights loaded", oneOf(`Model loading took`, `Loading weights took`, `Loading model weights took`)},
	{"loading weights", oneOf(`Starting to load model [~./]`, `Starting to load model [^/\s]+$`, `Starting to load model [^/\s]+/[^/\s]+/`, `Loading \w+ checkpoint shards:\s*(\d{1,3})%`, `Loading \w+ using [\w ]+:\s*(\d{1,3})%`,
		`Time spent downloading weights`)},
	{"downloading weights", oneOf(`Fetching \d+ files:\s*(\d{1,3})%`,
		`Downloading[^:]*:\s*(\d{1,3})%`, `\.safetensors:\s*(\d{1,3})%`, `\.gguf:\s*(\d{1,3})%`, `\.bin:\s*(\d{1,3})%`)},
	// A model of the hub may be in the machine's cache, and a name with a single slash may be a folder.
	{"downloading or loading weights", oneOf(`Starting to load model`, `Using model weights format`)},
	{"starting vLLM", oneOf(`vLLM API server version`, `non-default args`, `Initializing a V\d LLM engine`)},
	{PhaseImporting, oneOf(`^` + regexp.QuoteMeta(StartLine))},
}

// Progress returns the phase that the last start in a log has reached, such as "downloading weights", "loading weights 25%",
// "compiling" or "ready"; "" when no message says it. A start logs nothing while it imports vLLM.
func Progress(log []string) string {
	lines := lastStart(readLog(log))
	for i := len(lines) - 1; i >= 0; i-- {
		for _, phase := range phases {
			found := phase.pattern.find(lines[i].text)
			switch {
			case found == nil:
				continue
			case len(found) > 1 && found[1] != "":
				return phase.name + " " + found[1] + "%"
			}
			return phase.name
		}
	}
	return ""
}
