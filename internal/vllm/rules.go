package vllm

import "slices"

// rule recognizes one cause. Its pattern is matched against one line, or against two that a terminal or a formatter
// broke.
type rule struct {
	kind    Kind
	pattern wordings
	rank    rank
	// within, unless nil, are words of which the traceback above the line must contain one.
	within wordings
	// cause and wayOut are templates: ${1} is the first group of the pattern that matched.
	cause, wayOut string
	// explain replaces the templates where numbers decide what to say.
	explain func(message string) (cause, wayOut string)
}

// rank orders causes found in one log: a cause of a lower rank comes first, because those of a higher rank follow from it.
type rank int

const (
	specific rank = iota
	generic       // is also a consequence of a specific cause
	refusal       // any setting that vLLM itself refuses, and a server that received SIGTERM
	silent        // the end of a part of the server, in a log that says nothing else
)

// rules are the causes of failures, in the words of vLLM (V0 and V1 engines), PyTorch, safetensors, transformers, huggingface_hub,
// argparse, pydantic, uvicorn, Docker and the NVIDIA container toolkit. Recordings are in ../sandbox/facts/vllm; a
// .py file is vLLM's, read in the releases 0.10 to 0.32. Where one message contains another's words, the more specific
// rule comes first.
var rules = slices.Concat(memoryRules, modelRules, weightRules, machineRules, buildRules, flagRules, genericRules)

// memoryRules are about GPU memory, as vLLM's worker and KV cache code measure it.
var memoryRules = []rule{
	{
		kind:    KindGPUMemoryBusy,
		pattern: oneOf(`Free memory on device.*less than desired GPU memory utilization`),
		explain: explainGPUMemoryBusy,
	},
	{
		kind:    KindNoCacheMemory,
		pattern: oneOf(`No available memory for the cache blocks`),
		cause:   "The model's weights fill the GPU: no memory is left for the KV cache.",
		wayOut: "Use a larger GPU, more GPUs (tensor_parallel_size), or a quantized model; raise gpu_memory_utilization only if the" +
			" weights nearly fit.",
	},
	{
		kind: KindContextTooLong,
		pattern: oneOf(`larger than the available KV cache memory`,
			`maximum number of tokens that can be stored in KV cache \(`),
		explain: explainContextTooLong,
	},
	{
		kind:    KindTooManySequences,
		pattern: oneOf(`exceeds available Mamba cache blocks \((\d+)\)`),
		cause:   "The model's state cache is too small for that many concurrent sequences.",
		wayOut:  `Add "--max-num-seqs", "${1}" to args, or use a larger GPU.`,
	},
	{
		kind:    KindTooManySequences,
		pattern: oneOf(`out of memory occurred when warming up sampler`),
		cause:   "The GPU ran out of memory while warming up for the maximum number of concurrent sequences.",
		wayOut:  `Add "--max-num-seqs" with a smaller number (such as 64) to args, or lower gpu_memory_utilization.`,
	},
}

// modelRules are about the model: its limits, its configuration and tokenizer, and access to it.
var modelRules = []rule{
	{
		kind:    KindContextAboveModel,
		pattern: oneOf(`User-specified max_model_len.*greater than the derived`),
		explain: explainContextAboveModel,
	},
	{
		kind:    KindQuantizationMismatch,
		pattern: oneOf(`Quantization method specified in the model config \(([^)]*)\) does not match the quantization method specified in the .?quantization.? argument \(([^)]*)\)`),
		cause:   "The checkpoint is quantized as ${1}, but quantization is set to ${2}.",
		wayOut:  leaveQuantizationOut + ".",
	},
	{ // failures/bad-quantization.log; weight_utils.py, get_quant_config
		kind:    KindQuantizationMismatch,
		pattern: oneOf("Cannot find the config file for [`']?([\\w-]+)"),
		cause:   "The checkpoint is not quantized as ${1}: it has no settings for that method.",
		wayOut:  leaveQuantizationOut + ", or set model to a checkpoint that is quantized as ${1}.",
	},
	{ // failures/unknown-quantization.log
		kind:    KindQuantizationMismatch,
		pattern: oneOf(`Unknown quantization method:? ?([^\s.]*)`),
		cause:   "This vLLM release doesn't support the quantization method ${1}.",
		wayOut:  leaveQuantizationOut + ". If it is the checkpoint's method, use a newer image.",
	},
	{
		kind: KindGatedModel,
		pattern: oneOf(`GatedRepoError`, `Cannot access gated repo`, `trying to access a gated repo\.`,
			`Access to model \S+ is restricted`),
		explain: explainGated,
	},
	{ // huggingface_hub, _snapshot_download.py and utils/_http.py; transformers, utils/hub.py
		kind: KindHubOffline,
		pattern: oneOf(`outgoing traffic has been disabled`, `offline mode is enabled`, `OfflineModeIsEnabled`,
			`Cannot access file since .local_files_only=True`),
		cause: "The model is not in the machine's cache, and downloading is turned off (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE).",
		wayOut: "Remove HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE from env, or put the model on the machine first and set model to its" +
			" folder.",
	},
	{ // failures/no-config.log; transformers_utils/config.py. These match paths only.
		kind: KindModelNotFound,
		pattern: oneOf(`Invalid repository ID or local directory specified: ?'([~./][^']*)'`, `Repo id must [^']*'repo_name' or 'namespace/repo_name': '([~./][^']*)'`,
			`OSError: ([~./]\S*) does not appear to have a file named config\.json`, `Repo id must .*: '([~./][^']*)'`,
			`OSError: Can't load the configuration of '([~./][^']*)'`),
		cause: "The machine has no folder ${1} with a config.json (for a container: inside it).",
		wayOut: "Put the whole model there, with its config.json; a container sees only mounted folders (container.cache). Or set model" +
			" to a Hugging Face ID. If a flag in args names the folder (--tokenizer, --generation-config), correct that.",
	},
	{ // more/config-damaged.log; transformers, configuration_utils.py
		kind:    KindConfigDamaged,
		pattern: oneOf(`the config file at '([^']+)' is not a valid JSON file`),
		cause:   "The model's ${1} is damaged: it is not valid JSON.",
		wayOut: "Correct the file on the machine, or remove it to download it again; in a Hugging Face cache, remove the model's whole" +
			" folder.",
	},
	{
		kind: KindModelNotFound,
		pattern: oneOf(`Invalid repository ID or local directory specified: ?'([^'/]*)'`, `OSError: ([^\s/]+) does not appear to have a file named config\.json`,
			`Repo id must [^']*(?:'repo_name' or 'namespace/repo_name')?: '([^'/]*)'`),
		cause: "${1} is neither a folder on the machine that has a config.json nor a model on the Hugging Face hub.",
		wayOut: "Set model to an ID such as Qwen/Qwen3-8B, or to the absolute path of a folder with the whole model and its config.json" +
			" (for a container: inside it).",
	},
	{
		kind: KindModelNotFound,
		pattern: oneOf(`Invalid repository ID or local directory specified: ?'([^']*)'`, `OSError: (\S+) does not appear to have a file named config\.json`,
			`OSError: (\S+) is not a local folder and is not a valid model identifier`, `Repo id must [^']*'repo_name' or 'namespace/repo_name': '([^']*)'`),
		cause:  "The model ${1} was not found with this token: the ID is wrong, the repository is private, or it has no config.json.",
		wayOut: checkModel,
	},
	{
		kind: KindModelNotFound,
		pattern: oneOf(`not a valid model identifier`, `RepositoryNotFoundError`, `Repository Not Found for url`, `Invalid repository ID or local directory`,
			`Repo id must be`, `Repo id must use`, `does not appear to have a file named config\.json`),
		cause:  "The model was not found with this token: the ID is wrong, or the repository is private.",
		wayOut: checkModel,
	},
	{
		kind:    KindRevisionNotFound,
		pattern: oneOf(`not a valid git identifier`, `RevisionNotFoundError`, `Revision Not Found for url`),
		cause:   "The model has no such revision.",
		wayOut:  "Set revision to a branch, tag or commit that the model's page lists, or remove it.",
	},
	{ // transformers, tokenization_auto.py. vLLM's own advice (tokenizers/hf.py), --trust-remote-code, doesn't help.
		kind:    KindTokenizerTooNew,
		pattern: oneOf(`Tokenizer class (\S+) does not exist or is not currently imported`),
		cause:   "The transformers package of this vLLM doesn't know the model's tokenizer (${1}), which a newer version saved.",
		wayOut:  newerTransformers,
	},
	{ // transformers, dynamic_module_utils.py; failures/remote-code.log
		kind: KindRemoteCode,
		pattern: oneOf(`contains custom code which must be executed`, `requires you to execute the \w+ file`,
			"Please pass the argument .trust_remote_code=True", `Failed to load the model config\. If the model is a custom model`),
		cause:  "The model's repository contains Python code, which vLLM runs only with trust_remote_code.",
		wayOut: "Review that code, set trust_remote_code to true, and pin revision so that the code can't change.",
	},
	{ // failures/unknown-architecture.log, failures/unknown-model-type.log
		kind: KindUnsupportedModel,
		pattern: oneOf(`Model architectures? (\[[^\]]*\])[^.]*not supported`, `Model architectures? (\[[^\]]*\]) failed to be inspected`,
			`architecture (\w+) has no vLLM implementation`, "model type .?([\\w-]+).{1,9}Transformers does not recognize this architecture"),
		cause:  "This vLLM release doesn't support the architecture ${1}.",
		wayOut: newerForModel,
	},
	{
		kind: KindUnsupportedModel,
		pattern: oneOf(`Model architectures? .*not supported`, `Model architectures? .*failed to be inspected`,
			`has no vLLM implementation`, `Transformers does not recognize this architecture`),
		cause:  "This vLLM release doesn't support this model's architecture.",
		wayOut: newerForModel,
	},
	{ // failures/tp-heads.log
		kind:    KindTensorParallel,
		pattern: oneOf(`attention heads(?: \(\d+\))? must be divisible by tensor parallel size`),
		explain: explainTensorParallel,
	},
	{ // a line of a traceback: models/llama.py and others, Attention.__init__; vllm/distributed/utils.py, ensure_divisibility
		kind: KindKVHeads,
		pattern: oneOf(`assert tp_size % (?:self\.)?total_num_kv_heads == 0`, `assert (?:self\.)?total_num_kv_heads % tp_size == 0`,
			`AssertionError: \d+ is not divisible by \d+`),
		cause:  "The model's key-value heads can't be divided evenly among that many GPUs.",
		wayOut: "Remove tensor_parallel_size to have a fitting number chosen, or set it to the next lower power of two.",
	},
	{ // 0.10.2/failures/old-release-new-transformers.log
		kind: KindDependencies,
		pattern: oneOf(`Tokenizer(?:Fast|Base)? has no attribute (\w+)`, `Tokenizer(?:Fast|Base)?' object has no attribute '(\w+)'`,
			`cannot import name '(\w+)' from 'transformers`, `module 'transformers[\w.]*' has no attribute '(\w+)'`,
			`all_special_tokens_extended`),
		cause: "The installed transformers package is too new for this vLLM release: it no longer has a function that vLLM uses.",
		wayOut: "Use a newer vLLM release (process.version), or runtime = \"container\": an image contains the packages that its" +
			" release was built with.",
	},
}

// weightRules are about what is loaded: weights and adapters.
var weightRules = []rule{
	{ // default_loader.py, _prepare_weights
		kind:    KindNoWeights,
		pattern: oneOf("Cannot find any model weights with [`']?([^`'\\s]+)"),
		cause:   "The model ${1} has no weights: its folder or repository contains no .safetensors, .bin or .pt file.",
		wayOut:  "Set model to a checkpoint with weights, or put the missing files into its folder.",
	},
	{ // failures/truncated-weights.log; safetensors and PyTorch
		kind: KindWeightsDamaged,
		pattern: oneOf(`Error while deserializing header`, `SafetensorError`, `PytorchStreamReader failed`, `UnpicklingError: invalid load key`,
			`Consistency check failed: file should be of size`),
		cause:  damagedWeights,
		wayOut: downloadAgain,
	},
	{ // more/garbage-weights.log
		kind:    KindWeightsDamaged,
		pattern: oneOf(`OverflowError: `, `UnicodeDecodeError: `, `json\.decoder\.JSONDecodeError: `, `struct\.error: `),
		within:  oneOf(`, in \w*safetensors\w*`),
		cause:   damagedWeights,
		wayOut:  downloadAgain,
	},
	{ // weight_utils.py, default_weight_loader; default_loader.py; models/utils.py, AutoWeightsLoader; PyTorch
		kind: KindWeightsMismatch,
		pattern: oneOf(`Attempted to load weight \(.*into parameter`, `Following weights were not initialized from`,
			`There is no module or parameter named`, `Error\(s\) in loading state_dict for`),
		cause:  weightsMismatch,
		wayOut: wholeModel,
	},
	{ // parameter.py, linear.py, vocab_parallel_embedding.py: assertions without a message, and PyTorch's errors
		kind: KindWeightsMismatch,
		pattern: oneOf(`AssertionError\s*$`, `KeyError: '[\w.]+\.(?:weight|bias|\w*scale\w*|qweight|qzeros)'`, `The size of tensor a \(\d+\) must match`,
			`RuntimeError: start \(\d+\) \+ length \(\d+\) exceeds dimension size`, `shape mismatch: value tensor`, `The expanded size of the tensor`),
		within: oneOf(`, in (?:\w+_)?weight_loader(?:_v2)?\b`, `, in load_weights\b`, `, in load_\w+_weight\b`, `, in _assert_and_load\b`),
		cause:  weightsMismatch,
		wayOut: wholeModel,
	},
	{ // failures/lora-missing.log
		kind:    KindLoRANotFound,
		pattern: oneOf(`Loading lora (\S+) failed: No adapter found for (\S+)`),
		cause:   "The LoRA adapter ${1} was not found: ${2} has no adapter_config.json.",
		wayOut:  "Correct ${2} in lora_adapters: the path of a folder on the machine (for a container: inside it), or a Hugging Face ID.",
	},
	{ // lora/worker_manager.py
		kind:    KindLoRANotFound,
		pattern: oneOf(`No adapter found for (\S+)`, `Loading lora (\S+) failed`),
		cause:   "The LoRA adapter ${1} could not be loaded.",
		wayOut:  "Check lora_adapters: each value is a folder on the machine with an adapter_config.json, or a Hugging Face ID.",
	},
	{ // lora/peft_helper.py
		kind:    KindLoRARank,
		pattern: oneOf(`LoRA rank (\d+) is greater than max_lora_rank:? \(?(\d+)`),
		cause:   "The LoRA adapter has rank ${1}, but the server allows at most ${2}.",
		wayOut:  `Add "--max-lora-rank", "${1}" to args, or the next larger number that this release allows.`,
	},
}

// flagRules are about the command line.
var flagRules = []rule{
	{ // argparse takes the value of a switch as an argument
		kind:    KindUnknownFlag,
		pattern: oneOf(`error: unrecognized arguments: ([^-\s]\S*)`),
		cause:   "${1} belongs to no flag: the flag before it is a switch, which takes no value, or already has its value.",
		wayOut:  "Remove ${1} from args: a switch stands alone (--enable-x), and --no-enable-x turns it off.",
	},
	{ // failures/unknown-flag.log
		kind:    KindUnknownFlag,
		pattern: oneOf(`unrecognized arguments: (.*\S)`, `unrecognized arguments`),
		cause:   "This vLLM release doesn't have the flag: ${1}",
		wayOut:  "Remove it from args, correct its spelling (`vllm serve --help` of this release), or use an image that has it.",
	},
	{
		kind:    KindUnknownFlag,
		pattern: oneOf(`error: ambiguous option: (\S+) could match (.*\S)`),
		cause:   "The flag ${1} is an abbreviation of more than one flag: ${2}",
		wayOut:  "Write out the one that you mean in args.",
	},
	{
		kind:    KindFlagRequired,
		pattern: oneOf(`error: the following arguments are required: (.*\S)`),
		cause:   "vLLM's command line lacks the required argument: ${1}",
		wayOut:  "Add it to args.",
	},
	{
		kind:    KindBadFlagValue,
		pattern: oneOf(`error: argument (\S+): ignored explicit argument (.*\S)`),
		cause:   "The flag ${1} is a switch and takes no value, but was given ${2}.",
		wayOut:  "Write the switch alone in args (--enable-x), or --no-enable-x to turn it off.",
	},
	{
		kind:    KindBadFlagValue,
		pattern: oneOf(`error: argument (\S+): (expected .*argument\S*)`),
		cause:   "The flag ${1} has no value: ${2}.",
		wayOut: "Add its value to args, as \"FLAG\", \"VALUE\" or \"FLAG=VALUE\" (the latter if the value begins with \"-\"), or" +
			" remove the flag.",
	},
	{
		kind:    KindBadFlagValue,
		pattern: oneOf(`error: argument (\S+): (Value .*) cannot be converted to <function (?:json\.)?loads`, `error: argument (\S+): (.*Invalid JSON.*)`),
		cause:   "The value of the flag ${1} is not valid JSON: ${2}",
		wayOut:  "Correct the value (jsonencode writes valid JSON), or remove the flag for vLLM's default.",
	},
	{ // failures/bad-dtype.log, failures/bad-value.log
		kind:    KindBadFlagValue,
		pattern: oneOf(`error: argument (\S+): (.*\S)`, `error: argument (\S+)`),
		cause:   "This vLLM release doesn't accept the value of the flag ${1}: ${2}",
		wayOut:  "Correct the value, or remove the flag for vLLM's default.",
	},
	{ // failures/auto-tool-without-parser.log; cli_args.py, validate_parsed_serve_args
		kind:    KindFlagRequired,
		pattern: oneOf(`Error: (--[\w-]+) requires (--[\w-]+)`, `Error: .?(--[\w-]+).? requires .?(--[\w-]+)`),
		cause:   "The flag ${1} also requires ${2}.",
		wayOut:  "Add ${2} to args (`vllm serve --help` lists its values), or remove ${1}.",
	},
	{ // more/load-format.log
		kind:    KindBadFlagValue,
		pattern: oneOf("Load format [`']?([\\w-]+)[`']? is not supported"),
		cause:   "This vLLM release has no load format ${1}.",
		wayOut:  "Correct --load-format in args, or remove it.",
	},
	{ // more/lora-not-enabled.log
		kind:    KindFlagRequired,
		pattern: oneOf(`LoRA is not enabled\. Use --enable-lora`),
		cause:   "--lora-modules also requires --enable-lora.",
		wayOut:  "Set lora_adapters instead, which passes both.",
	},
	{ // more/env-bad.log
		kind:    KindBadFlagValue,
		pattern: oneOf(`ValueError: Unknown level: '([^']*)'`),
		cause:   "VLLM_LOGGING_LEVEL in env is ${1}, which is not a log level.",
		wayOut:  "Set it to DEBUG, INFO, WARNING or ERROR, or remove it.",
	},
	{ // more/tool-server.log
		kind:    KindBadFlagValue,
		pattern: oneOf(`Name or service not known`, `All connection attempts failed`, `Connection refused`),
		within:  oneOf(`entrypoints/mcp/tool_server\.py`),
		cause:   "The machine can't reach the server that --tool-server names.",
		wayOut:  "Correct --tool-server in args, start that server first, or remove the flag.",
	},
	{ // more/tls-missing.log
		kind:    KindBadFlagValue,
		pattern: oneOf(`FileNotFoundError: \[Errno 2\] No such file`),
		within:  oneOf(`, in create_ssl_context\b`, `, in load_cert_chain\b`),
		cause:   "A certificate file is missing on the machine (for a container: inside it).",
		wayOut:  "Use the attribute tls, which installs the certificate, or correct --ssl-keyfile and --ssl-certfile in env or args.",
	},
	{ // failures/tool-parser-unknown.log; api_server.py, validate_api_server_args
		kind: KindUnknownParser,
		pattern: oneOf(`invalid (tool call parser|reasoning parser): (\S+) \(chose from \{ ?(.*?) ?\}`,
			`Reasoning (parser) '([^']*)' not found\S* (.*)`, `Tool (parser) '([^']*)' not found\S* (.*)`, `tool (parser) '([^']*)' not found\S* (.*)`),
		cause:  "This vLLM release has no ${1} ${2}.",
		wayOut: "Choose one that this release has: ${3}. Or use an image that has yours.",
	},
	{ // entrypoints/chat_utils.py, validate_chat_template and load_chat_template
		kind:    KindChatTemplate,
		pattern: oneOf(`The supplied chat template (?:string )?\((.*?)\) (?:appears|looks)`),
		cause:   "The machine has no chat template file ${1}.",
		wayOut:  "Correct --chat-template in args: the path of a file on the machine (for a container: inside it), or the template itself.",
	},
	{
		kind:    KindBatchBelowContext,
		pattern: oneOf(`max_num_batched_tokens \(\d+\) is smaller than max_model_len \((\d+)\)`),
		cause:   "--max-num-batched-tokens in args is smaller than max_model_len.",
		wayOut:  "Set --max-num-batched-tokens to ${1} or more, or remove it.",
	},
	{ // failures/batched-below-context.log; config/scheduler.py
		kind:    KindBatchBelowSequences,
		pattern: oneOf(`max_num_batched_tokens \((\d+)\) must be greater than or equal to max_num_seqs \((\d+)\)`),
		cause:   "--max-num-batched-tokens (${1}) in args is smaller than --max-num-seqs (${2}).",
		wayOut:  "Set --max-num-batched-tokens to ${2} or more, lower --max-num-seqs, or remove them.",
	},
}

// genericRules come last: most of their messages also follow from a cause above.
var genericRules = []rule{
	{ // 0.33.0/failures/no-gpu.log
		kind: KindNoGPU, rank: generic,
		pattern: oneOf(`No CUDA GPUs are available`, `Failed to infer device type`,
			`Found no NVIDIA driver on your system`, `libcuda\.so\.1: cannot open`),
		cause: "vLLM sees no GPU that it can use.",
		wayOut: "Check that nvidia-smi works on the machine, that container.gpus includes the GPUs, and that CUDA_VISIBLE_DEVICES in" +
			" env names only existing GPUs.",
	},
	{ // PyTorch, torch/csrc/distributed/c10d; distributed/device_communicators/pynccl_wrapper.py (NCCL_CHECK)
		kind: KindNCCL, rank: generic,
		pattern: oneOf(`NCCL error.{0,200}unhandled (?:system|cuda) error`, `ncclSystemError`, `ncclUnhandledCudaError`,
			`Watchdog caught collective operation timeout`),
		cause: "The GPUs could not communicate with each other (NCCL).",
		wayOut: "Raise the container's shm_size, try NCCL_P2P_DISABLE = \"1\" in env, which is slower, or use one larger GPU" +
			" (tensor_parallel_size = 1). NCCL_DEBUG = \"INFO\" in env logs more details.",
	},
	{
		kind: KindOutOfMemory, rank: generic,
		pattern: oneOf(`OutOfMemoryError`, `CUDA out of memory`, `HIP out of memory`, `CUDA error: out of memory`, `not enough GPU memory`),
		explain: explainOutOfMemory,
	},
	{
		kind: KindKilled, rank: generic,
		pattern: oneOf(`Failed core proc\(s\): \{[^}]*: -9\b`),
		explain: func(string) (string, string) { return ExplainKilled(KilledUnknown, "") },
	},
	{
		kind: KindHubRefused, rank: generic,
		pattern: oneOf(`401 Client Error`, `403 Client Error`, `401 Unauthorized`, `403 Forbidden`,
			`401, message='Unauthorized`, `403, message='Forbidden`, `Invalid user token`,
			`Invalid credentials in Authorization header`, `Invalid username or password`),
		cause:  "The Hugging Face hub refused the download: the token is missing, wrong or not allowed to read this model.",
		wayOut: "Set hf_token (or hf_token_wo) to a token that may read the model, and accept the model's terms with that account.",
	},
	{ // failures/hub-no-network.log
		kind: KindHubUnreachable, rank: generic,
		pattern: oneOf(`couldn't connect to 'https?://`, `LocalEntryNotFoundError`, `Temporary failure in name resolution`,
			`Name or service not known`, `Network is unreachable`, `429 Client Error`, `Too Many Requests for url`),
		cause: "The machine could not download from the Hugging Face hub.",
		wayOut: "Check the machine's internet access (DNS, proxy; HF_ENDPOINT in env sets a mirror). Set hf_token if the hub limits" +
			" anonymous downloads.",
	},
	{ // tokenizers/hf.py, where the line above it is missing
		kind: KindTokenizerTooNew, rank: generic,
		pattern: oneOf(`Failed to load the tokenizer\. If the tokenizer is a custom`),
		cause:   "The transformers package of this vLLM can't load the model's tokenizer.",
		wayOut:  newerTransformers,
	},
	{ // pydantic, as vLLM's configuration classes use it
		kind: KindBadFlagValue, rank: refusal,
		pattern: oneOf(`validation errors? for (\w+) +(?:Value error, |Assertion failed, )?(.*?)\.?(?: \[type=|$)`),
		cause:   "vLLM refuses its settings (${1}): ${2}.",
		wayOut:  "Change the setting that the message names, in args or in its own attribute.",
	},
	{ // runs/sigterm-early.log
		kind: KindStopped, rank: refusal,
		pattern: oneOf(`KeyboardInterrupt: terminated`),
		cause:   "Something else on the machine stopped the server (SIGTERM) before it was ready.",
		wayOut:  "Find out what stops it, such as the machine's shutdown or another program, and apply again.",
	},
	{ // failures/engine-killed-loading.log, runs/engine-killed-ready.log, runs/worker-killed-ready.log
		kind: KindEngineDied, rank: silent,
		pattern: oneOf(`Failed core proc\(s\): \{`, `died unexpectedly`, `exited unexpectedly`, `WorkerProc initialization failed`,
			`EngineCore encountered a fatal error`),
		explain: func(string) (string, string) { return ExplainKilled(KilledUnknown, "") },
	},
}

// Sentences that several rules use.
const (
	leaveQuantizationOut = "Remove quantization: the checkpoint specifies its method"
	checkModel           = "Check model for typing errors; for a private repository set hf_token (or hf_token_wo) to a token that may read it."
	newerForModel        = "Use a newer vLLM image or version; see vLLM's list of supported models."
	newerTransformers    = "Use a newer vLLM image or version, which has a newer transformers too. trust_remote_code doesn't help: it" +
		" only allows code from the repository."
	weightsMismatch = "The model's weights don't match its config.json: tensors are missing, unknown or have a different shape."
	wholeModel      = "Use config.json and weights of the same checkpoint, unchanged; for a fine-tuned or converted model, save both" +
		" again. A newer vLLM release may support more layouts."
	damagedWeights = "A weights file is damaged: it is truncated, or its content doesn't match its name."
	downloadAgain  = "Remove the file from the machine and download it again (a full disk or a lost connection truncates files); in a" +
		" Hugging Face cache, remove the model's whole folder."
	engineDied = "vLLM's engine died without logging an error, like a killed process (SIGKILL). Most likely the kernel killed it," +
		" because the machine's memory (RAM, not the GPU's) was full."
	moreRAM = "Use a machine with more RAM, because weights pass through it when they are loaded, or remove flags that keep weights or" +
		" cache in RAM."
)
