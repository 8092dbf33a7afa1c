package vllmserver

import (
	"strings"
	"sync"
)

// kind is how a flag's value is read.
type kind int

const (
	kindString kind = iota
	kindInt         // argparse type=int
	kindOptInt      // an optional int, which vLLM converts by itself
	kindTokens      // an int that may be written 32k or auto
	kindFloat
	kindBool // --x and --no-x
	kindList // one value or more
	kindJSON
	kindChoice
)

// flagSpec is one option of `vllm serve`.
type flagSpec struct {
	name    string
	kind    kind
	choices []string
}

// flagTable lists the options of `vllm serve`, one a line: name, kind, choices.
// They are those of vLLM's FrontendArgs (vllm/entrypoints/openai/cli_args.py)
// and AsyncEngineArgs (vllm/engine/arg_utils.py), as far as anybody sets them.
// Options that current releases no longer have, such as --rope-scaling and
// --swap-space, are left out, so that they are refused here too.
const flagTable = `
config string
headless bool
grpc bool
api-server-count optint
model string
lora-modules list
chat-template string
chat-template-content-format choice auto,openai,string
trust-request-chat-template bool
default-chat-template-kwargs json
response-role string
return-tokens-as-token-ids bool
enable-auto-tool-choice bool
exclude-tools-when-tool-choice-none bool
tool-call-parser string
tool-parser-plugin string
tool-server string
log-config-file string
max-log-len optint
enable-prompt-tokens-details bool
enable-per-request-metrics bool
enable-server-load-tracking bool
enable-force-include-usage bool
enable-tokenizer-info-endpoint bool
enable-log-outputs bool
enable-log-deltas bool
log-error-stack bool
tokens-only bool
host string
port int
uds string
uvicorn-log-level choice critical,error,warning,info,debug,trace
disable-uvicorn-access-log bool
disable-access-log-for-endpoints string
allow-credentials bool
allowed-origins json
allowed-methods json
allowed-headers json
api-key list
ssl-keyfile string
ssl-certfile string
ssl-ca-certs string
enable-ssl-refresh bool
ssl-cert-reqs int
ssl-ciphers string
root-path string
middleware string
enable-request-id-headers bool
disable-fastapi-docs bool
enable-offline-docs bool
h11-max-incomplete-event-size int
h11-max-header-count int
runner choice auto,draft,generate,pooling
convert choice auto,classify,embed,none,reward
task string
tokenizer string
tokenizer-mode choice auto,custom,deepseek_v32,hf,mistral,slow
trust-remote-code bool
dtype choice auto,bfloat16,float,float16,float32,half
seed optint
hf-config-path string
allowed-local-media-path string
allowed-media-domains list
revision string
code-revision string
tokenizer-revision string
max-model-len tokens
quantization string
enforce-eager bool
max-logprobs int
logprobs-mode choice processed_logits,processed_logprobs,raw_logits,raw_logprobs
disable-sliding-window bool
disable-cascade-attn bool
skip-tokenizer-init bool
enable-prompt-embeds bool
served-model-name list
config-format string
hf-token string
hf-overrides json
pooler-config json
generation-config string
override-generation-config json
enable-sleep-mode bool
model-impl choice auto,terratorch,transformers,vllm
override-attention-dtype string
logits-processors list
io-processor-plugin string
load-format string
download-dir string
safetensors-load-strategy string
model-loader-extra-config json
ignore-patterns list
use-tqdm-on-load bool
pt-load-map-location string
attention-backend string
attention-config json
reasoning-parser string
reasoning-parser-plugin string
structured-outputs-config json
distributed-executor-backend choice external_launcher,mp,ray,uni
pipeline-parallel-size int
master-addr string
master-port int
nnodes int
node-rank int
tensor-parallel-size int
decode-context-parallel-size int
prefill-context-parallel-size int
data-parallel-size int
data-parallel-rank optint
data-parallel-start-rank optint
data-parallel-size-local optint
data-parallel-address string
data-parallel-rpc-port optint
data-parallel-backend choice mp,ray
data-parallel-hybrid-lb bool
data-parallel-external-lb bool
enable-expert-parallel bool
all2all-backend string
enable-eplb bool
eplb-config json
expert-placement-strategy choice linear,round_robin
max-parallel-loading-workers optint
ray-workers-use-nsight bool
disable-custom-all-reduce bool
worker-cls string
worker-extension-cls string
enable-dbo bool
block-size choice 1,8,16,32,64,128,256
gpu-memory-utilization float
kv-cache-memory-bytes tokens
kv-cache-dtype choice auto,bfloat16,fp8,fp8_ds_mla,fp8_e4m3,fp8_e5m2,fp8_inc
num-gpu-blocks-override optint
enable-prefix-caching bool
prefix-caching-hash-algo choice sha256,sha256_cbor,xxhash,xxhash_cbor
cpu-offload-gb float
calculate-kv-scales bool
kv-offloading-size float
kv-offloading-backend choice lmcache,native
mamba-cache-dtype choice auto,float16,float32
mamba-ssm-cache-dtype choice auto,float16,float32
mamba-block-size optint
limit-mm-per-prompt json
media-io-kwargs json
mm-processor-kwargs json
mm-processor-cache-gb float
mm-processor-cache-type choice lru,shm
mm-encoder-tp-mode choice data,weights
mm-encoder-attn-backend string
interleave-mm-strings bool
skip-mm-profiling bool
video-pruning-rate float
enable-mm-embeds bool
language-model-only bool
enable-lora bool
max-loras int
max-lora-rank choice 1,8,16,32,64,128,256,320,512
lora-dtype choice auto,bfloat16,float16
max-cpu-loras optint
fully-sharded-loras bool
default-mm-loras json
enable-tower-connector-lora bool
show-hidden-metrics-for-version string
otlp-traces-endpoint string
collect-detailed-traces list
kv-cache-metrics bool
cudagraph-metrics bool
enable-mfu-metrics bool
enable-logging-iteration-details bool
max-num-batched-tokens optint
max-num-seqs optint
max-num-partial-prefills int
max-long-partial-prefills int
long-prefill-token-threshold int
scheduling-policy choice fcfs,priority
enable-chunked-prefill bool
disable-chunked-mm-input bool
scheduler-cls string
disable-hybrid-kv-cache-manager bool
async-scheduling bool
stream-interval int
cudagraph-capture-sizes list
max-cudagraph-capture-size optint
compilation-config json
optimization-level int
performance-mode string
kernel-config json
kv-transfer-config json
kv-events-config json
ec-transfer-config json
additional-config json
speculative-config json
profiler-config json
disable-log-stats bool
aggregate-engine-logging bool
enable-log-requests bool
shutdown-timeout int
fingerprint-mode choice custom,full,hash,none
fingerprint-value string
`

// shortFlags are the one-dash spellings.
var shortFlags = map[string]string{
	"-tp": "tensor-parallel-size", "-pp": "pipeline-parallel-size",
	"-dp": "data-parallel-size", "-dcp": "decode-context-parallel-size",
	"-q": "quantization", "-n": "nnodes", "-r": "node-rank",
	"-asc": "api-server-count", "-O": "optimization-level",
	"-cc": "compilation-config", "-sc": "speculative-config",
}

var kindNames = map[string]kind{
	"string": kindString, "int": kindInt, "optint": kindOptInt, "tokens": kindTokens,
	"float": kindFloat, "bool": kindBool, "list": kindList, "json": kindJSON, "choice": kindChoice,
}

var flagSpecs = sync.OnceValue(func() map[string]flagSpec {
	specs := make(map[string]flagSpec)
	for line := range strings.Lines(flagTable) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		spec := flagSpec{name: fields[0], kind: kindNames[fields[1]]}
		if len(fields) > 2 {
			spec.choices = strings.Split(fields[2], ",")
		}
		specs[spec.name] = spec
	}
	return specs
})
