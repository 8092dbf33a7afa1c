package vllm

import (
	"maps"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Limits of a Spec's text, well above any real value and well below Linux's limit of one argument (128 KiB).
const (
	maxText      = 4096
	maxArgument  = 32 << 10
	maxArguments = 256
	maxVariables = 256
)

// DTypes are the values of --dtype, as vLLM's configuration reference lists them.
func DTypes() []string {
	return []string{"auto", "half", "float16", "bfloat16", "float", "float32"}
}

var (
	envNamePattern      = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	quantizationPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
)

// secretVariables maps a variable that carries a secret to the field to use instead.
var secretVariables = map[string]string{
	EnvAPIKey:                "api_key",
	EnvHFToken:               "hf_token",
	"HUGGING_FACE_HUB_TOKEN": "hf_token",
}

// Validate returns a *SpecError that lists every problem, or nil. It needs no machine, so it doesn't check what only the machine
// knows, nor a model that isn't in the table. It accepts shell characters: no shell sees the text unquoted.
func (s Spec) Validate() error {
	var found problems
	found.text("model", s.Model)
	if strings.TrimSpace(s.Model) == "" {
		found.addf("model", "is empty; set a Hugging Face ID such as Qwen/Qwen2.5-7B-Instruct, or a path on the machine")
	}
	if lower := strings.ToLower(s.Model); strings.HasPrefix(lower, "https://") || strings.HasPrefix(lower, "http://") {
		found.addf("model", "is a web address; set the ID that the model's page shows, such as Qwen/Qwen2.5-7B-Instruct")
	}
	found.text("served_model_name", s.ServedModelName)
	found.text("revision", s.Revision)
	found.text("quantization", s.Quantization)
	if s.Quantization != "" && !quantizationPattern.MatchString(s.Quantization) {
		found.addf("quantization", "must be letters, digits, '.', '_' and '-', such as awq or fp8")
	}
	if s.DType != "" && !slices.Contains(DTypes(), s.DType) {
		found.addf("dtype", "must be one of %s", strings.Join(DTypes(), ", "))
	}
	found.text("kv_cache_dtype", s.KVCacheDType)
	found.text("tool_call_parser", s.ToolCallParser)
	found.text("reasoning_parser", s.ReasoningParser)
	for _, name := range slices.Sorted(maps.Keys(s.LoRAAdapters)) {
		found.text("lora_adapters", name)
		found.text("lora_adapters", s.LoRAAdapters[name])
		if name == "" || s.LoRAAdapters[name] == "" {
			found.addf("lora_adapters", "needs a name, and a path or a Hugging Face ID, for each adapter")
		}
	}
	found.numbers(s)
	found.reach(s)
	found.secrets(s)
	found.environment(s)
	found.arguments(s)
	return found.err()
}

// text checks a value that is passed as one argument.
func (p *problems) text(field, value string) {
	if value == "" {
		return
	}
	switch {
	case len(value) > maxText:
		p.addf(field, "is longer than %d bytes", maxText)
	case !utf8.ValidString(value):
		p.addf(field, "is not valid UTF-8")
	case strings.ContainsAny(value, "\x00\r\n"):
		p.addf(field, "must not contain NUL or line breaks")
	case strings.HasPrefix(value, "-"):
		p.addf(field, "must not start with '-': vLLM would interpret it as a flag")
	}
}

func (p *problems) numbers(s Spec) {
	if s.MaxModelLen < 0 {
		p.addf("max_model_len", "must be at least 1 token, or omitted for the model's limit; got %d", s.MaxModelLen)
	}
	if u := s.GPUMemoryUtilization; math.IsNaN(u) || u < 0 || u > 1 {
		p.addf("gpu_memory_utilization", "must be above 0 and at most 1, such as 0.9; got %v", u)
	}
	if s.TensorParallelSize < 0 {
		p.addf("tensor_parallel_size", "must be at least 1; got %d", s.TensorParallelSize)
	}
	if shape, ok := Lookup(s.Model); ok {
		p.checkTensorParallel(shape, s.TensorParallelSize)
	}
	if s.PipelineParallelSize < 0 {
		p.addf("pipeline_parallel_size", "must be at least 1; got %d", s.PipelineParallelSize)
	}
	if s.DrainSeconds < 0 {
		p.addf("drain_timeout", "must not be negative")
	}
	if s.Port < 0 || s.Port > 65535 {
		p.addf("port", "must be between 1 and 65535; got %d", s.Port)
	}
}

// reach checks the listen address and the TLS files.
func (p *problems) reach(s Spec) {
	if s.Listen != "" && s.Listen != "localhost" {
		if _, err := netip.ParseAddr(s.Listen); err != nil {
			p.addf("listen", "must be an IP address such as 127.0.0.1 or 0.0.0.0, or localhost")
		}
	}
	p.text("tls_key_file", s.TLSKeyFile)
	p.text("tls_cert_file", s.TLSCertFile)
	if (s.TLSKeyFile == "") != (s.TLSCertFile == "") {
		p.addf("tls", "needs both a certificate and its key")
	}
}

// secrets checks that secrets can be passed in an environment and in an HTTP header. It never quotes them.
func (p *problems) secrets(s Spec) {
	for _, secret := range []struct{ field, value string }{{"api_key", s.APIKey}, {"hf_token", s.HFToken}} {
		if len(secret.value) > maxText {
			p.addf(secret.field, "is longer than %d bytes", maxText)
			continue
		}
		if strings.ContainsFunc(secret.value, func(r rune) bool { return r <= ' ' || r > '~' }) {
			p.addf(secret.field, "must be printable ASCII without spaces, because it is sent in an HTTP header")
		}
	}
}

func (p *problems) environment(s Spec) {
	if len(s.Env) > maxVariables {
		p.addf("env", "has %d variables, more than %d", len(s.Env), maxVariables)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(s.Env)) {
		value := s.Env[name]
		held := heldSecret(value, s)
		field, secret := secretVariables[strings.ToUpper(name)]
		switch {
		case !envNamePattern.MatchString(name):
			p.addf("env", "%q is not a variable name: use letters, digits and '_', not starting with a digit", clip(name, 64))
		case secret:
			p.addf("env", "%s carries a secret: use %s or %s_wo instead", name, field, field)
		case len(value) > maxArgument:
			p.addf("env", "the value of %s is longer than %d bytes", name, maxArgument)
		case strings.ContainsRune(value, 0):
			p.addf("env", "the value of %s must not contain NUL", name)
		case !utf8.ValidString(value):
			p.addf("env", "the value of %s is not valid UTF-8", name)
		case held != "":
			p.addf("env", "the value of %s contains %s, which the provider passes itself", name, held)
		}
	}
}

// heldSecret names the spec's secret that is part of the value, "" for none. It ignores very short secrets, which could be part of
// any text.
func heldSecret(value string, s Spec) string {
	const shortest = 8
	switch {
	case len(s.APIKey) >= shortest && strings.Contains(value, s.APIKey):
		return "the api_key"
	case len(s.HFToken) >= shortest && strings.Contains(value, s.HFToken):
		return "the hf_token"
	}
	return ""
}
