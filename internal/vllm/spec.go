package vllm

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Program is the name of vLLM's executable; CommandLine returns the arguments after it.
const Program = "vllm"

// Defaults of a Spec whose field has its zero value.
const (
	// DefaultPort is vLLM's own default port.
	DefaultPort = 8000
	// DefaultListen is loopback: some of vLLM's routes are open without a key (exposure.go).
	DefaultListen = "127.0.0.1"
	// DefaultGPUMemoryUtilization is always passed, because vLLM's own default has changed between releases.
	DefaultGPUMemoryUtilization = 0.9
	// DefaultEngineReadySeconds is VLLM_ENGINE_READY_TIMEOUT_S unless Env sets it. vLLM's own default, 600 s, is too short
	// for large models.
	DefaultEngineReadySeconds = 3600
)

// DrainFlag is the flag that lets running requests finish after SIGTERM: new ones are refused, and the server ends as soon as
// the last one has finished (vllm/v1/engine/core.py, _handle_shutdown). Without it they are cut off (runs/sigterm-with-request.log).
const DrainFlag = "--shutdown-timeout"

// Names of the environment variables that carry secrets, as vLLM and huggingface_hub read them.
const (
	EnvAPIKey  = "VLLM_API_KEY" //nolint:gosec // a variable's name
	EnvHFToken = "HF_TOKEN"
)

// Spec describes one vLLM server. The zero value of an optional field means "not set": the flag isn't passed and vLLM
// decides, except for Listen, Port and GPUMemoryUtilization, which have the defaults above.
type Spec struct {
	Model           string // Hugging Face ID or a path on the machine; required
	ServedModelName string // the name clients use; "" = Model
	Revision        string // branch, tag or commit of the model
	Quantization    string // "" = as the checkpoint specifies, usually right
	DType           string // one of DTypes, or "" for vLLM's default

	MaxModelLen          int     // tokens, prompt and answer together; 0 = the model's limit
	GPUMemoryUtilization float64 // share of each GPU, in (0,1]; 0 = DefaultGPUMemoryUtilization
	TensorParallelSize   int     // GPUs that share each layer; 0 = vLLM's default, 1
	PipelineParallelSize int     // GPUs that share the layers; 0 = vLLM's default, 1
	TrustRemoteCode      bool    // run Python code that comes with the model
	KVCacheDType         string  // number format of the key-value cache; "" = vLLM's default, that of the model
	PrefixCaching        *bool   // share the cache of prompts that begin alike; nil = vLLM's default
	ToolCallParser       string  // parses the model's tool calls; clients may then let the model choose a tool
	ReasoningParser      string  // separates the model's reasoning from its answer
	DrainSeconds         int     // how long running requests may go on after SIGTERM; 0 = vLLM's default, not at all

	// LoRAAdapters are paths or Hugging Face IDs by the name that clients use. nil = LoRA is off; empty = on, for adapters that
	// are loaded later.
	LoRAAdapters map[string]string

	ExtraArgs []string          // further arguments of `vllm serve`, passed unchanged
	Env       map[string]string // further environment, without the secrets below

	Listen string // IP address, or "localhost"; "" = DefaultListen
	Port   int    // 1-65535; 0 = DefaultPort

	APIKey  string // what clients must present; "" = none. In the environment only
	HFToken string // for gated models; "" = none. In the environment only

	TLSKeyFile  string // path on the machine; together with TLSCertFile
	TLSCertFile string

	autoToolChoice, enableLoRA bool // of a command line only
}

// ServedName is the name under which clients ask for the model.
func (s Spec) ServedName() string { return cmp.Or(s.ServedModelName, s.Model) }

// ListenPort is the port that the server listens on, with the default applied.
func (s Spec) ListenPort() int { return cmp.Or(s.Port, DefaultPort) }

// ListenAddress is the address that the server listens on, with the default applied.
func (s Spec) ListenAddress() string { return cmp.Or(s.Listen, DefaultListen) }

// Environment returns the server's environment: defaults, overridden by Env, overridden by the secrets. The map is the caller's.
func (s Spec) Environment() map[string]string {
	env := map[string]string{
		"VLLM_NO_USAGE_STATS":         "1",
		"VLLM_ENGINE_READY_TIMEOUT_S": strconv.Itoa(DefaultEngineReadySeconds),
	}
	maps.Copy(env, s.Env)
	if s.APIKey != "" {
		env[EnvAPIKey] = s.APIKey
	}
	if s.HFToken != "" {
		env[EnvHFToken] = s.HFToken
	}
	return env
}

// Secrets returns the spec's secret values that are set, for masking.
func (s Spec) Secrets() []string {
	return slices.DeleteFunc([]string{s.APIKey, s.HFToken}, func(secret string) bool { return secret == "" })
}

// String describes the spec for messages, without its secrets.
func (s Spec) String() string {
	return fmt.Sprintf("vllm %s", MaskSecrets(strings.Join(s.CommandLine(), " "), s.Secrets()...))
}

// GoString keeps secrets out of %#v.
func (s Spec) GoString() string { return s.String() }

// Problem is one thing that is wrong with a Spec or with the figures given to Estimate.
type Problem struct {
	// Field is the name of the field in a configuration, such as "max_model_len".
	Field string
	// Problem says what is wrong and what to write instead.
	Problem string
}

// String returns the field and its problem on one line.
func (p Problem) String() string { return p.Field + ": " + p.Problem }

// SpecError lists everything that is wrong with a Spec, or with the figures given to Estimate. It never contains the
// value of a secret.
type SpecError struct {
	Problems []Problem
}

// Error lists every problem, separated by semicolons.
func (e *SpecError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, problem := range e.Problems {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "; ")
}

// problems collects what is wrong.
type problems []Problem

func (p *problems) addf(field, format string, values ...any) {
	*p = append(*p, Problem{Field: field, Problem: fmt.Sprintf(format, values...)})
}

func (p *problems) err() error {
	if len(*p) == 0 {
		return nil
	}
	return &SpecError{Problems: *p}
}
