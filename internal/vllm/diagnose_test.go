package vllm

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func readTestLog(t *testing.T, name string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "logs", name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

// diagnoses is the failure table: for each log the cause, words of the explanation, and words of its evidence.
var diagnoses = []struct {
	log      string
	kind     Kind
	cause    string
	wayOut   string
	evidence string
}{
	{"free-memory", KindGPUMemoryBusy, "Only 3.25 of the GPU's 23.43 GiB are free, but gpu_memory_utilization = 0.9 requires 21.09 GiB", "gpu_memory_utilization to 0.13 or less", "Free memory on device cuda:0"},
	{"free-memory-old", KindGPUMemoryBusy, "3.27 of the GPU's 15.98 GiB", "gpu_memory_utilization to 0.20 or less", "(3.27/15.98 GiB)"},
	{"no-cache-memory", KindNoCacheMemory, "weights fill the GPU", "larger GPU", "No available memory for the cache blocks"},
	{"context", KindContextTooLong, "One sequence of 40960 tokens needs 5.62 GiB of KV cache, but the weights leave only 4.50 GiB", "Set max_model_len to 32768 or less", "estimated maximum model length is 32768"},
	{"context-no-estimate", KindContextTooLong, "needs 10.00 GiB", "Set max_model_len to about 5120", "larger than the available KV cache memory"},
	{"context-wrapped", KindContextTooLong, "The KV cache for one sequence", "Set max_model_len to 10240 or less", "larger than the" +
		" available KV cache memory"},
	{"context-v0", KindContextTooLong, "KV cache", "Set max_model_len to 27296 or less", "stored in KV cache (27296)"},
	{"oom", KindOutOfMemory, "The GPU's 31.36 GiB of memory are not enough: vLLM requested another 112.00 MiB", "larger GPU", "not enough GPU memory"},
	{"oom-sampler", KindTooManySequences, "warming up", "--max-num-seqs", "warming up sampler"},
	{"mamba", KindTooManySequences, "state cache", `"--max-num-seqs", "41"`, "Mamba cache blocks (41)"},
	{"context-above-model", KindContextAboveModel, "max_model_len = 65536 exceeds the model's limit of 32768 tokens", "Set" +
		" max_model_len to 32768 or less", "derived max_model_len"},
	{"context-above-model-old", KindContextAboveModel, "limit of 4096 tokens", "Set max_model_len to 4096 or less", "None=4096"},
	{"capability", KindGPUTooOld, "fp8, which needs compute capability 8.9; the GPU has 8.6", "compute capability 8.9 or newer (such as L4", "Minimum capability: 89"},
	{"no-kernel", KindGPUTooOld, "no kernels for the machine's GPU", "7.5 or newer", "no kernel image"},
	{"bfloat16", KindUnsupportedDType, "bfloat16", `dtype to "half"`, "Tesla T4"},
	{"quantization-mismatch", KindQuantizationMismatch, "quantized as compressed-tensors, but quantization is set to awq", "Remove" +
		" quantization", "does not match"},
	{"quantization-unknown", KindQuantizationMismatch, "doesn't support the quantization method awqq.", "Remove quantization", "Unknown" +
		" quantization method: awqq"},
	{"gated", KindGatedModel, "model meta-llama/Llama-3.1-8B-Instruct", "hf_token", "GatedRepoError"},
	{"hub-refused", KindHubRefused, "token is missing, wrong", "hf_token", "401 Client Error"},
	{"hub-unreachable", KindHubUnreachable, "could not download", "HF_ENDPOINT", "name resolution"},
	{"not-found", KindModelNotFound, "the ID is wrong, or the repository is private", "typing errors", "RepositoryNotFoundError"},
	{"not-found-short", KindModelNotFound, "model Qwen/Qwen2.5-0.5B-Instrukt was not found", "hf_token", "not a valid model identifier"},
	{"revision", KindRevisionNotFound, "no such revision", "Set revision", "v9 is not a valid git identifier"},
	{"heads", KindTensorParallel, "28 attention heads can't be divided evenly among 3 GPUs", "a divisor of 28: 1, 2, 4, 7, 14 or 28.", "must be divisible"},
	{"gpus", KindTooFewGPUs, "more GPUs than the 2 that it sees", "product is 2", "World size (4)"},
	{"remote-code", KindRemoteCode, "only with trust_remote_code", "trust_remote_code to true", "custom code"},
	{"remote-code-old", KindRemoteCode, "only with trust_remote_code", "trust_remote_code to true", "trust_remote_code=True"},
	{"architecture", KindUnsupportedModel, "architecture ['Qwen9ForCausalLM']", "newer vLLM image", "not supported for now"},
	{"architecture-transformers", KindUnsupportedModel, "architecture qwen9", "newer vLLM image", "does not recognize this architecture"},
	{"disk", KindDiskFull, "disk is full", "disk_gb", "No space left on device"},
	{"shm", KindSharedMemoryFull, "shared memory is full", "shm_size", "/dev/shm/psm"},
	{"shm-nccl", KindSharedMemoryFull, "shared memory is full", "shm_size", "nccl"},
	{"driver-container", KindDriverTooOld, "the image needs CUDA 13.0", "min_cuda_version = 13.0", "unsatisfied condition"},
	{"driver-torch", KindDriverTooOld, "the driver supports at most CUDA 12.8", "v0.11.0 is built with CUDA 12.8", "too old"},
	{"driver-804", KindDriverTooOld, "driver is older", "driver 580", "Error 804"},
	{"driver-ptx", KindDriverTooOld, "can't compile vLLM's GPU code", "v0.19.1 is built with CUDA 12.9", "cudaErrorUnsupportedPtxVersion"},
	{"killed", KindKilled, "RAM, not the GPU's", "more RAM", "EngineCore_DP0': -9"},
	{"toolkit", KindContainerToolkit, "NVIDIA container toolkit", "Install the NVIDIA container toolkit", "[[gpu]]"},
	{"no-gpu", KindNoGPU, "sees no GPU", "nvidia-smi", "Failed to infer device type"},
	{"port-uvicorn", KindPortTaken, "uses the port", "Set port to a free one", "Errno 98"},
	{"port-uvicorn-bind", KindPortTaken, "uses port 8000", "Set port", "address already in use"},
	{"port-docker", KindPortTaken, "uses port 8000", "Set port", "port is already allocated"},
	{"flag", KindUnknownFlag, "--num-scheduler-steps 8", "Remove it from args", "unrecognized arguments"},
	{"flag-value", KindBadFlagValue, "the value of the flag --tool-call-parser", "remove the flag", "invalid choice"},
	{"batch", KindBatchBelowContext, "--max-num-batched-tokens", "to 8192 or more", "smaller than max_model_len"},
}

// beside shows a diagnosis below the end of the log that it explains, for -v: both are judged together.
func beside(t *testing.T, log []string, got Diagnosis) {
	t.Helper()
	t.Logf("\n%s\n-- %s: %s\n-- %s\n-- quoted: %s", strings.Join(log[max(0, len(log)-12):], "\n"), got.Kind, got.Cause, got.WayOut,
		strings.Join(got.Evidence, " | "))
	for _, text := range []string{got.Cause, got.WayOut} {
		if !strings.HasSuffix(text, ".") || strings.HasSuffix(text, "..") || strings.Contains(text, "${") {
			t.Errorf("%q is not a sentence", text)
		}
	}
}

func TestDiagnose(t *testing.T) {
	t.Parallel()
	for _, test := range diagnoses {
		t.Run(test.log, func(t *testing.T) {
			t.Parallel()
			got, ok := Diagnose(readTestLog(t, test.log))
			if !ok {
				t.Fatal("no diagnosis")
			}
			beside(t, readTestLog(t, test.log), got)
			if got.Kind != test.kind {
				t.Errorf("kind = %s, want %s", got.Kind, test.kind)
			}
			for what, pair := range map[string][2]string{
				"cause":    {got.Cause, test.cause},
				"way out":  {got.WayOut, test.wayOut},
				"evidence": {strings.Join(got.Evidence, "\n"), test.evidence},
			} {
				if !strings.Contains(pair[0], pair[1]) {
					t.Errorf("%s = %q, want it to contain %q", what, pair[0], pair[1])
				}
			}
			for _, line := range got.Evidence {
				saysNothing := strings.Contains(line, "See root cause above") && got.Kind != KindKilled
				if strings.Contains(line, "pid=") || saysNothing {
					t.Errorf("evidence has a prefix or a line that says nothing: %q", line)
				}
			}
		})
	}
}

// Every log in testdata is in the table, or is one of those without a known failure.
func TestDiagnoseCoversTestdata(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("testdata", "logs", "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	covered := map[string]bool{"unknown": true, "ready": true}
	kinds := map[Kind]bool{}
	for _, test := range diagnoses {
		covered[test.log] = true
		kinds[test.kind] = true
	}
	for _, row := range rows {
		kinds[row.kind] = true
	}
	for _, test := range recorded {
		kinds[Kind(test.kind)] = true
	}
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".log"); !covered[name] {
			t.Errorf("%s is in no test", name)
		}
	}
	for _, r := range rules {
		if !kinds[r.kind] {
			t.Errorf("no log shows %s", r.kind)
		}
	}
}

// A search for a pattern that begins with plain text is quick; one that doesn't is slow enough, over a whole log and all
// rules, to be noticed.
func TestWordingsBeginWithPlainText(t *testing.T) {
	t.Parallel()
	for _, r := range rules {
		for _, pattern := range r.pattern() {
			if prefix, _ := pattern.LiteralPrefix(); len(prefix) < 5 {
				t.Errorf("%s: %s", r.kind, pattern)
			}
		}
		if r.within != nil {
			r.within() // panics where a pattern can't be compiled
		}
	}
}

func TestIsPartOf(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"Out of memory: Killed process 4711 (VLLM::EngineCor) total-vm:91346852kB": true,
		"Out of memory: Killed process 4711 (vllm) total-vm:91346852kB":            true,
		"Out of memory: Killed process 4711 (postgres) total-vm:91346852kB":        false,
	} {
		if got := IsPartOf(line); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}

// A start of the provider compiles no patterns: most runs need none.
func TestWordingsAreCompiledAtFirstUse(t *testing.T) {
	t.Parallel()
	invalid := oneOf(`(`)
	defer func() {
		if recover() == nil {
			t.Error("an invalid pattern was compiled")
		}
	}()
	invalid.find("")
}

func TestReadLogIsBounded(t *testing.T) {
	t.Parallel()
	for name, log := range map[string][]string{
		"many lines": slices.Repeat([]string{"a line"}, 10*maxLogLines),
		"long lines": slices.Repeat([]string{strings.Repeat("driver /dev/shm 10% ", 1000)}, maxLogLines),
		"one line":   {strings.Repeat("driver /dev/shm 10% ", 1_000_000)},
		"one string": {strings.Repeat("a\n", 10*maxLogLines)},
	} {
		lines, size := readLog(log), 0
		for _, line := range lines {
			size += len(line.text)
		}
		if len(lines) == 0 || len(lines) > maxLogLines || size > maxLogBytes+maxLineBytes {
			t.Errorf("%s: %d lines of %d bytes", name, len(lines), size)
		}
	}
}

func TestDiagnoseNothing(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"unknown", "ready"} {
		if got, ok := Diagnose(readTestLog(t, name)); ok {
			t.Errorf("%s: diagnosis %+v", name, got)
		}
	}
	if got, ok := Diagnose(nil); ok {
		t.Errorf("empty log: diagnosis %+v", got)
	}
}

// Whatever a terminal, Docker or a process manager adds to a log, the cause is found, and the evidence is clean.
func TestDiagnoseDisguised(t *testing.T) {
	t.Parallel()
	const message = "Total number of attention heads (28) must be divisible by tensor parallel size (3)."
	long := strings.Repeat("x", 300_000)
	for name, log := range map[string][]string{
		"colour":         {"\x1b[1;36m(EngineCore_DP0 pid=5)\x1b[0;0m \x1b[31mERROR\x1b[0m 11-24 10:02:31 [core.py:842] ValueError: " + message},
		"compose":        {"vllm-1  | (EngineCore_DP0 pid=123) ERROR 11-24 10:00:00 [core.py:842] ValueError: " + message},
		"timestamps":     {"2026-11-24T10:00:00.123456789Z (APIServer pid=1)   Value error, " + message},
		"worker":         {"(VllmWorker rank=0 pid=77) ERROR 11-24 10:00:00 [multiproc_executor.py:559] ValueError: " + message},
		"worker tp":      {"(Worker_TP0 pid=77) ValueError: " + message},
		"rank":           {"[rank0]: ValueError: " + message},
		"v0":             {"ERROR 11-24 10:00:00 engine.py:400] ValueError: " + message},
		"progress bar":   {"\rLoading: 10%|\rLoading: 20%|\rValueError: " + message},
		"invalid UTF-8":  {"\xff\xfe ValueError: " + message + " \xc3"},
		"NUL":            {"\x00ValueError: " + message + "\x00"},
		"long before":    {long + " ValueError: " + message},
		"long after":     {"ValueError: " + message + long},
		"long neighbour": {long, "ValueError: " + message, long},
		"broken line":    {"ValueError: Total number of attention heads (28) must be divisible by", "  tensor parallel size (3)."},
		"one string":     {"Traceback (most recent call last):\nValueError: " + message + "\nRuntimeError: Engine core initialization failed. See root cause above."},
	} {
		got, ok := Diagnose(log)
		if !ok || got.Kind != KindTensorParallel || !strings.Contains(got.WayOut, "1, 2, 4, 7, 14 or 28") {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
		for _, line := range got.Evidence {
			if len(line) > maxQuoted+len("…") || strings.ContainsAny(line, "\x00\x1b\r\n") {
				t.Errorf("%s: evidence %q", name, line)
			}
		}
	}
}

func TestDiagnosePrefersRootCause(t *testing.T) {
	t.Parallel()
	heads := readTestLog(t, "heads")
	for name, test := range map[string]struct {
		log  []string
		want Kind
	}{
		"a specific cause beats a generic one before it": {
			[]string{"torch.OutOfMemoryError: CUDA out of memory.", "ValueError: No available memory for the cache blocks."}, KindNoCacheMemory,
		},
		"of two specific causes the first": {
			slices.Concat(heads, []string{"OSError: [Errno 98] Address already in use"}), KindTensorParallel,
		},
		"only the last start counts": {
			slices.Concat(readTestLog(t, "disk"), heads), KindTensorParallel,
		},
		"settings repeated at INFO are no cause": {
			[]string{
				"INFO 11-24 10:00:00 [utils.py:233] non-default args: {'note': 'No space left on device'}",
				"INFO:     127.0.0.1:1 - \"GET /v1/models HTTP/1.1\" 401 Unauthorized",
				"OSError: [Errno 98] Address already in use",
			}, KindPortTaken,
		},
	} {
		if got, ok := Diagnose(test.log); !ok || got.Kind != test.want {
			t.Errorf("%s: %q, %v; want %q", name, got.Kind, ok, test.want)
		}
	}
}

// A cause ends with the message: the next log line is no part of it.
func TestDiagnoseEndsWithTheMessage(t *testing.T) {
	t.Parallel()
	got, ok := Diagnose([]string{
		"vllm: error: unrecognized arguments: --flag",
		"INFO 11-24 10:00:00 [api_server.py:1284] the next message",
	})
	if !ok || !strings.HasSuffix(got.Cause, " --flag.") {
		t.Errorf("%+v", got)
	}
}

func TestDiagnoseOddFigures(t *testing.T) {
	t.Parallel()
	for log, want := range map[string]string{
		"Total number of attention heads (0) must be divisible by tensor parallel size (0).":                                                                                  "a divisor of the model's number",
		"Total number of attention heads (99999999999999999999) must be divisible by tensor parallel size (3).":                                                               "a divisor of the model's number",
		"Free memory on device (0.0/0.0 GiB) on startup is less than desired GPU memory utilization (0.9, 0.0 GiB).":                                                          "or lower gpu_memory_utilization.",
		"Free memory on device (1.2.3/4.5.6 GiB) on startup is less than desired GPU memory utilization (0.9, 3 GiB).":                                                        "or lower gpu_memory_utilization.",
		"max seq len (4096), 9.5 GiB KV cache is needed, which is larger than the available KV cache memory (-1.0 GiB). Based on it the estimated maximum model length is 0.": "Lower max_model_len",
		"max seq len (4096), (0 GiB KV cache is needed, which is larger than the available KV cache memory (0 GiB).":                                                          "Lower max_model_len",
		"The quantization method fp8 is not supported for the current GPU.":                                                                                                   "newer GPU",
		"User-specified max_model_len is greater than the derived" +
			" max_model_len": "Remove" +
			" max_model_len",
		"The quantization method newq is not supported for the current GPU. Minimum capability: 9.": "capability 9 or newer",
		"World size (4) is larger than the number of available GPUs (0)":                            "Lower tensor_parallel_size",
		"Bind for 0.0.0.0:99999999999999999 failed: port is already allocated":                      "Set port",
		"vllm: error: unrecognized arguments: --api-key=secret-value-123 --x":                       "Remove it from args",
	} {
		got, ok := Diagnose([]string{log})
		if !ok || !strings.Contains(got.WayOut, want) {
			t.Errorf("%s: %+v, want %q", log, got, want)
		}
		if strings.Contains(got.Cause+got.WayOut+strings.Join(got.Evidence, ""), "secret-value-123") {
			t.Errorf("%s: secret in %+v", log, got)
		}
	}
}

func TestRelevant(t *testing.T) {
	t.Parallel()
	lines := Relevant(readTestLog(t, "unknown"))
	text := strings.Join(lines, "\n")
	if want := "AttributeError: 'ColumnParallelLinear' object has no attribute 'weight'"; !strings.Contains(text, want) {
		t.Errorf("%q is missing in:\n%s", want, text)
	}
	for _, noise := range []string{"█", "File \"", "^^^", "Traceback", "pid=", "% Completed", "Engine core initialization failed"} {
		if strings.Contains(text, noise) {
			t.Errorf("%q is in:\n%s", noise, text)
		}
	}
	if got := Relevant(nil); len(got) != 0 {
		t.Errorf("of nothing: %q", got)
	}
}

// The root cause is shown also when hundreds of lines of other output follow it.
func TestRelevantKeepsFirstTrouble(t *testing.T) {
	t.Parallel()
	log := []string{"ValueError: the odd one"}
	for range 500 {
		log = append(log, "INFO 11-24 10:00:00 [shm_broadcast.py:705] waiting", "some output", "other output")
	}
	lines := Relevant(log)
	if !slices.Contains(lines, "ValueError: the odd one") || len(lines) > maxRelevant {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
}

func TestRelevantMasksSecrets(t *testing.T) {
	t.Parallel()
	text := strings.Join(Relevant([]string{"ERROR: token hf_abcdefghijklmnopqrstuv was refused", "curl -H 'Authorization: Bearer abc.def'"}), "\n")
	if strings.Contains(text, "abcdefgh") || strings.Contains(text, "abc.def") {
		t.Error(text)
	}
}

func TestProgress(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"":               "",
		"something else": "",
		"(APIServer pid=1) INFO 11-24 10:01:02 [api_server.py:1839] vLLM API server version 0.33.0":                          "starting vLLM",
		"(EngineCore_DP0 pid=118) INFO 11-24 10:01:40 [gpu_model_runner.py:2602] Starting to load model acme/model...":       "downloading or loading weights",
		"(Worker pid=118) INFO 11-24 10:01:40 [gpu_model_runner.py:2602] Starting to load model models/acme/tiny...":         "loading weights",
		"model-00001-of-00004.safetensors:  34%|███▍      | 1.69G/4.98G [00:12<00:23, 142MB/s]":                              "downloading weights 34%",
		"Fetching 4 files:  25%|██▌       | 1/4 [00:02<00:08,  2.8s/it]":                                                     "downloading weights 25%",
		"INFO 04-24 12:35:14 [weight_utils.py:581] Time spent downloading weights for acme/model: 17.034664 seconds":         "loading weights",
		"\r(Worker_TP0 pid=576689) \rLoading safetensors checkpoint shards:  54% Completed | 20/37 [01:27<01:19,  4.66s/it]": "loading weights 54%",
		"Loading safetensors using Fastsafetensor loader:  14% Completed | 1/7 [00:00<?, ?it/s]":                             "loading weights 14%",
		"INFO 11-24 10:02:11 [gpu_model_runner.py:2653] Model loading took 15.27 GiB and 10.412345 seconds":                  "weights loaded",
		"INFO 11-24 10:02:14 [backends.py:215] Dynamo bytecode transform time: 4.20 s":                                       "compiling",
		"INFO 11-24 10:02:14 [monitor.py:34] torch.compile took 34.32 s in total":                                            "compiling",
		"INFO 11-24 10:02:14 [monitor.py:34] torch.compile takes 34.32 s in total":                                           "compiling",
		"INFO 11-24 10:02:20 [gpu_worker.py:298] Available KV cache memory: 4.50 GiB":                                        "allocating KV cache",
		"INFO 11-24 10:02:20 [kv_cache_utils.py:1087] GPU KV cache size: 32,768 tokens":                                      "allocating KV cache",
		"Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  45%|████▌     | 23/51 [00:02<00:02, 12.00it/s]":           "capturing CUDA graphs 45%",
		"INFO 11-24 10:02:28 [gpu_model_runner.py:3480] Graph capturing finished in 4 secs, took 0.49 GiB":                   "capturing CUDA graphs",
		"INFO 11-24 10:02:29 [core.py:218] init engine (profile, create kv cache, warmup model) took 18.20 seconds":          "starting server",
		"INFO 12-18 06:01:05 [api_server.py:1945] Starting vLLM API server 0 on http://0.0.0.0:8080":                         "starting server",
		"INFO 11-24 10:02:30 [api_server.py:1912] Starting vLLM server on http://0.0.0.0:8080":                               "starting server",
		"INFO:     Application startup complete.":                                                                            "ready",
		StartLine + "/opt/vllm/bin/vllm": "importing vLLM",
		"(Worker pid=1) INFO 11-27 20:46:26 [cpu_model_runner.py:68] Starting to load model /models/tiny...":                 "loading weights",
		"(Worker pid=1) INFO 11-27 20:46:26 [cpu_model_runner.py:68] Starting to load model tiny...":                         "loading weights",
		"(Worker pid=1) INFO 11-27 20:46:27 [cpu_model_runner.py:87] Warming up model for the compilation...":                "warming up",
		"(EngineCore pid=1) INFO 11-27 20:52:22 [core.py:105] Initializing a V1 LLM engine (v0.19.1) with config: model='x'": "starting vLLM",
	} {
		if got := Progress([]string{"INFO 11-24 10:00:00 [x.py:1] before", line, "some more output"}); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
	if got := Progress(readTestLog(t, "ready")); got != PhaseReady {
		t.Errorf("whole log: %q", got)
	}
	again := append(readTestLog(t, "ready"), "[launcher] the server ended with exit code 1; starting it again in 2 s", StartLine+"vllm")
	if got := Progress(again); got != PhaseImporting {
		t.Errorf("a restart begins at %q", got)
	}
	if got := Progress(readTestLog(t, "context")); got != "weights loaded" {
		t.Errorf("failed log: %q", got)
	}
}

func FuzzReadLog(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "logs", "*.log"))
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds: ", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	f.Add("\x1b[\x1b]\x1b\xff\r\n\x00(((pid=)ERROR 11-24 10:00:00 [")
	f.Fuzz(func(t *testing.T, text string) {
		log := strings.Split(text, "\n")
		diagnosis, ok := Diagnose(log)
		if ok != (diagnosis.Kind != "" && diagnosis.Cause != "" && diagnosis.WayOut != "" && len(diagnosis.Evidence) > 0) {
			t.Errorf("ok = %v: %+v", ok, diagnosis)
		}
		relevant := Relevant(log)
		if len(relevant) > maxRelevant || len(diagnosis.Evidence) > maxEvidence {
			t.Errorf("%d relevant lines, %d of evidence", len(relevant), len(diagnosis.Evidence))
		}
		for _, line := range slices.Concat(relevant, diagnosis.Evidence) {
			if len(line) > maxQuoted+len("…") || strings.ContainsAny(line, "\x00\x1b\r\n") {
				t.Errorf("line %q", line)
			}
		}
		if progress := Progress(log); len(progress) > 40 {
			t.Errorf("progress %q", progress)
		}
	})
}
