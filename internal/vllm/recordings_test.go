package vllm

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// recordings is where a real vLLM's logs are: RELEASE/failures, RELEASE/runs and RELEASE/serve.log (../sandbox/facts/README.md).
const recordings = "../sandbox/facts/vllm"

// recorded says what the diagnosis must say of each failed start and crash that was recorded: its kind, words of its
// cause and of its way out, and words of the first line it quotes. kind "" is a log without a cause: its server started,
// and ended only by SIGTERM.
var recorded = []struct{ log, kind, cause, wayOut, quote string }{
	{"0.10.2/failures/old-release-new-transformers", "dependency_mismatch", "too new", "process.version", "has no attribute all_special_tokens_extended"},
	{"0.33.0/failures/no-gpu", "no_gpu", "sees no GPU", "nvidia-smi", "RuntimeError: Failed to infer device type"},

	{"0.32.0/failures/auto-tool-without-parser", "flag_required", "--enable-auto-tool-choice also requires --tool-call-parser", "Add --tool-call-parser to args", "TypeError: Error: --enable-auto-tool-choice requires"},
	{"0.32.0/failures/bad-dtype", "bad_flag_value", "--dtype", "remove the flag", "invalid choice: 'float7'"},
	{"0.32.0/failures/bad-quantization", "quantization_mismatch", "not quantized as awq", "Remove quantization", "Cannot find the" +
		" config file for awq"},
	{"0.32.0/failures/bad-value", "bad_flag_value", "--gpu-memory-utilization", "remove the flag", "invalid float value: 'lots'"},
	{"0.32.0/failures/batched-below-context", "batch_below_sequences", "--max-num-batched-tokens (16)", "64 or more", "max_num_batched_tokens (16) must be greater"},
	{"0.32.0/failures/context-too-long-for-kv", "context_too_long", "4000000 tokens needs 1.91 GiB", "2097024 or less", "ValueError: To serve at least one request"},
	{"0.32.0/failures/disk-full", "disk_full", "disk is full", "disk_gb", "InductorError: OSError: [Errno 28] No space left"},
	{"0.32.0/failures/engine-killed-loading", "engine_died", "engine died", "more RAM", "Engine core initialization failed"},
	{"0.32.0/failures/hub-no-network", "hub_unreachable", "could not download", "DNS", "Name or service not known"},
	{"0.32.0/failures/lora-missing", "lora_not_found", "adapter a", "/nope", "No adapter found for /nope"},
	{"0.32.0/failures/no-config", "model_not_found", "noconfig", "config.json", "Invalid repository ID or local directory specified: 'noconfig'"},
	{"0.32.0/failures/port-taken", "port_taken", "uses the port", "Set port", "[Errno 98] Address already in use"},
	{"0.32.0/failures/remote-code", "trust_remote_code", "only with trust_remote_code", "trust_remote_code to true", "contains custom code which must be executed"},
	{"0.32.0/failures/too-long", "context_above_model", "max_model_len = 100000 exceeds the model's limit of 2048", "2048 or" +
		" less", "User-specified max_model_len (100000)"},
	{"0.32.0/failures/tool-parser-unknown", "unknown_parser", "tool call parser frob", "hermes", "invalid tool call parser: frob"},
	{"0.32.0/failures/tp-heads", "tensor_parallel_size", "4 attention heads", "1, 2 or 4", "must be divisible by tensor parallel size (3)"},
	{"0.32.0/failures/truncated-weights", "weights_damaged", "weights file is damaged", "again", "SafetensorError: Error while deserializing header"},
	{"0.32.0/failures/unknown-architecture", "unsupported_model", "FrobnicatorForCausalLM", "newer vLLM", "are not supported for now"},
	{"0.32.0/failures/unknown-flag", "unknown_flag", "--frobnicate", "Remove it from args", "unrecognized arguments: --frobnicate"},
	{"0.32.0/failures/unknown-model-type", "unsupported_model", "frobnicator", "newer vLLM", "does not recognize this architecture"},
	{"0.32.0/failures/unknown-quantization", "quantization_mismatch", "frob", "Remove quantization", "Unknown quantization method: frob"},

	{"0.32.0/more/address", "address_unavailable", "address that the server should listen on", "0.0.0.0", "Cannot assign requested" +
		" address"},
	{"0.32.0/more/ambiguous", "unknown_flag", "--max-num is an abbreviation of", "Write out", "ambiguous option: --max-num"},
	{"0.32.0/more/chat-template-missing", "chat_template_missing", "/nope.jinja", "--chat-template", "supplied chat template"},
	{"0.32.0/more/config-damaged", "config_damaged", "badconfig/config.json", "download it again", "is not a valid JSON file"},
	{"0.32.0/more/config-field", "bad_flag_value", "1 validation error for CompilationConfig foo Unexpected keyword argument.", "remove the flag", "1 validation error for CompilationConfig"},
	{"0.32.0/more/env-bad", "bad_flag_value", "VLLM_LOGGING_LEVEL in env is FROB", "DEBUG", "Unknown level: 'FROB'"},
	{"0.32.0/more/executor", "bad_flag_value", "VllmConfig", "setting that the message names", "1 validation error for VllmConfig"},
	{"0.32.0/more/garbage-weights", "weights_damaged", "weights file is damaged", "download it again", "OverflowError"},
	{"0.32.0/more/generation-config", "model_not_found", "no folder /nope", "--generation-config", "'/nope'"},
	{"0.32.0/more/hub-offline", "hub_offline", "not in the machine's cache", "HF_HUB_OFFLINE", "outgoing traffic has been disabled"},
	{"0.32.0/more/kv-dtype", "bad_flag_value", "--kv-cache-dtype", "remove the flag", "invalid choice: 'fp7'"},
	{"0.32.0/more/len-0", "bad_flag_value", "max_model_len must be a positive integer", "attribute", "1 validation error for ModelConfig"},
	{"0.32.0/more/load-format", "bad_flag_value", "no load format frob", "--load-format", "Load format `frob` is not supported"},
	{"0.32.0/more/lora-not-enabled", "flag_required", "also requires --enable-lora", "Set lora_adapters", "LoRA is not enabled"},
	{"0.32.0/more/lora-rank", "bad_flag_value", "--max-lora-rank", "remove the flag", "invalid choice: 7"},
	{"0.32.0/more/missing-value", "bad_flag_value", "--served-model-name has no value", "Add its value", "expected at least one argument"},
	{"0.32.0/more/more-layers", "weights_mismatch", "don't match its config.json", "same checkpoint", "were not initialized from checkpoint"},
	{"0.32.0/more/no-such-path", "model_not_found", "no folder /nope/model", "config.json", "'/nope/model'"},
	{"0.32.0/more/no-weights", "weights_missing", "noweights has no weights", "missing files", "Cannot find any model weights"},
	{"0.32.0/more/reasoning-parser-unknown", "unknown_parser", "frob", "Choose one that this release has", "frob"},
	{"0.32.0/more/removed-flag", "unknown_flag", "--swap-space", "Remove it", "unrecognized arguments: --swap-space"},
	{"0.32.0/more/speculative", "model_not_found", "nope", "", "nope"},
	{"0.32.0/more/switch-value", "bad_flag_value", "is a switch and takes no value", "alone", "ignored explicit argument 'true'"},
	{"0.32.0/more/tls-missing", "bad_flag_value", "certificate file", "attribute tls", "No such file or directory"},
	{"0.32.0/more/tokenizer-missing", "model_not_found", "no folder /nope", "--tokenizer", "'/nope'"},
	{"0.32.0/more/tool-server", "bad_flag_value", "--tool-server names", "--tool-server", "ConnectError"},
	{"0.32.0/more/tp-0", "bad_flag_value", "tensor_parallel_size", "attribute", "1 validation error for ParallelConfig"},
	{"0.32.0/more/utilization", "bad_flag_value", "gpu_memory_utilization", "attribute", "1 validation error for CacheConfig"},
	{"0.32.0/failures/wrong-shapes", "weights_mismatch", "don't match its config.json", "same checkpoint", "exceeds dimension size"},
	{"0.32.0/more/zero-seqs", "bad_flag_value", "greater than or equal to 1", "attribute", "validation errors for SchedulerConfig"},

	{"0.32.0/runs/engine-killed-ready", "engine_died", "engine died", "more RAM", "engine core exited unexpectedly"},
	{"0.32.0/runs/worker-killed-ready", "engine_died", "engine died", "more RAM", "Worker proc VllmWorker-0 died unexpectedly"},
	{"0.32.0/runs/sigterm-early", "stopped", "stopped the server (SIGTERM)", "apply again", "KeyboardInterrupt: terminated"},

	{log: "0.32.0/runs/all-interfaces"},
	{log: "0.32.0/runs/context-auto"},
	{log: "0.32.0/runs/dev-mode"},
	{log: "0.32.0/runs/draining"}, // requests were refused, the server was well
	{log: "0.32.0/runs/embedding"},
	{log: "0.32.0/runs/hung-engine"}, // its log shows nothing: only a completion does
	{log: "0.32.0/runs/hung-worker"},
	{log: "0.32.0/runs/lora-runtime"}, // one request was refused, the server was well
	{log: "0.32.0/runs/no-chat-template"},
	{log: "0.32.0/runs/no-tokenizer"},
	{log: "0.32.0/runs/queue-full"},
	{log: "0.32.0/runs/sigterm-loading"},
	{log: "0.32.0/runs/sigterm-with-request"},
	{log: "0.32.0/runs/streams"},
	{log: "0.32.0/runs/tls"},
	{log: "0.32.0/runs/two-workers"},
	{log: "0.19.1/serve"},
	{log: "0.19.1/serve-eager"},
	{log: "0.32.0/serve"},
	{log: "0.32.0/serve-eager"},
}

func readRecording(t *testing.T, name string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(recordings, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

func TestDiagnoseRecordings(t *testing.T) {
	t.Parallel()
	for _, test := range recorded {
		t.Run(test.log, func(t *testing.T) {
			t.Parallel()
			got, ok := Diagnose(readRecording(t, test.log))
			if ok != (test.kind != "") || string(got.Kind) != test.kind {
				t.Fatalf("kind = %q, want %q: %+v", got.Kind, test.kind, got)
			}
			if !ok {
				return
			}
			beside(t, readRecording(t, test.log), got)
			for what, pair := range map[string][2]string{
				"cause": {got.Cause, test.cause}, "way out": {got.WayOut, test.wayOut}, "first quote": {got.Evidence[0], test.quote},
			} {
				if !strings.Contains(pair[0], pair[1]) {
					t.Errorf("%s = %q, want it to contain %q", what, pair[0], pair[1])
				}
			}
		})
	}
}

// Every recording is judged.
func TestDiagnoseCoversRecordings(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"*/failures/*.log", "*/more/*.log", "*/runs/*.log", "*/*.log"} {
		files, err := filepath.Glob(filepath.Join(recordings, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, file := range files {
			name := strings.TrimSuffix(strings.TrimPrefix(file, recordings+"/"), ".log")
			if !slices.ContainsFunc(recorded, func(r struct{ log, kind, cause, wayOut, quote string }) bool { return r.log == name }) {
				t.Errorf("%s is judged by no row", name)
			}
		}
	}
}

// Only the last start of a log counts: what follows it in a log is judged as if it stood alone, whatever came before.
func TestOnlyTheLastStartCounts(t *testing.T) {
	t.Parallel()
	for _, first := range []string{"disk-full", "unknown-flag", "remote-code", "hub-no-network", "engine-killed-loading", "../runs/engine-killed-ready", "../serve"} {
		before := readRecording(t, "0.32.0/failures/"+first)
		for _, last := range recorded {
			log := readRecording(t, last.log)
			switch last.log {
			case "0.33.0/failures/no-gpu", "0.32.0/failures/auto-tool-without-parser":
				// vLLM logs nothing before it fails: only the launcher's line, or a container's start time, separates it from earlier starts.
				log = append([]string{StartLine + "vllm"}, log...)
			}
			if got, _ := Diagnose(slices.Concat(before, log)); string(got.Kind) != last.kind {
				t.Errorf("%s, then %s: %q, want %q", first, last.log, got.Kind, last.kind)
			}
		}
	}
}

// A start that is under way hides the one before it, except in a loop of restarts.
func TestDiagnoseLoop(t *testing.T) {
	t.Parallel()
	dead := slices.Concat(readRecording(t, "0.32.0/failures/remote-code"), readRecording(t, "0.32.0/failures/disk-full"))
	log := slices.Concat(dead, []string{StartLine + "vllm"}, readRecording(t, "0.32.0/serve")[:20])
	if got, ok := Diagnose(log); ok {
		t.Errorf("no loop: %+v", got)
	}
	for name, log := range map[string][]string{"between two starts": dead, "in a start": append(dead, readRecording(t, "0.32.0/serve")[:20]...)} {
		if got, ok := DiagnoseLoop(log); !ok || got.Kind != KindDiskFull {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got, ok := DiagnoseLoop(nil); ok {
		t.Errorf("of nothing: %+v", got)
	}
}

// healthyLines are what healthy starts print, up to their being ready. Figures, paths and process names differ from start to start.
func healthyLines(t *testing.T) map[string]bool {
	t.Helper()
	healthy := map[string]bool{}
	for _, name := range []string{"0.19.1/serve", "0.19.1/serve-eager", "0.32.0/serve", "0.32.0/serve-eager"} {
		lines := readLog(readRecording(t, name))
		for _, line := range lines[:lastIndex(lines, readyWords)+1] {
			healthy[anyFigures.ReplaceAllString(strings.TrimSpace(line.text), "0")] = true
		}
		for _, line := range lines[lastIndex(lines, stoppedWords):] {
			healthy[anyFigures.ReplaceAllString(strings.TrimSpace(line.text), "0")] = true
		}
	}
	return healthy
}

var anyFigures = regexp.MustCompile(`\d+`)

// The lines shown of a failure are about it: none is in the log of a healthy start, none is repeated, and the diagnosis's line is
// among them.
func TestRelevantOfRecordings(t *testing.T) {
	t.Parallel()
	healthy := healthyLines(t)
	for _, test := range recorded {
		if test.kind == "" {
			continue
		}
		log := readRecording(t, test.log)
		shown := Relevant(log)
		diagnosis, _ := Diagnose(log)
		if !slices.Contains(shown, diagnosis.Evidence[0]) {
			t.Errorf("%s: %q is not among the lines shown:\n%s", test.log, diagnosis.Evidence[0], strings.Join(shown, "\n"))
		}
		for i, line := range slices.Concat(shown, diagnosis.Evidence) {
			if healthy[anyFigures.ReplaceAllString(line, "0")] || strings.Contains(line, "errors.pydantic.dev") {
				t.Errorf("%s: healthy starts print it too: %q", test.log, line)
			}
			if i < len(shown) && slices.Contains(shown[:i], line) {
				t.Errorf("%s: shown twice: %q", test.log, line)
			}
		}
		if len(shown) > 6 {
			t.Errorf("%s: %d lines shown:\n%s", test.log, len(shown), strings.Join(shown, "\n"))
		}
	}
}
