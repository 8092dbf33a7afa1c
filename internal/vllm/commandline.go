package vllm

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// ownFlag is a flag of `vllm serve` that has a field in Spec. flags.go knows its other spellings.
type ownFlag struct {
	name      string // with its dashes
	attribute string // what sets it in a configuration
	field     func(*Spec) any
}

// ownFlags are in the order of the command line.
var ownFlags = []ownFlag{
	{"--served-model-name", "served_model_name", func(s *Spec) any { return &s.ServedModelName }},
	{"--host", "exposure", func(s *Spec) any { return &s.Listen }},
	{"--port", "port", func(s *Spec) any { return &s.Port }},
	{"--gpu-memory-utilization", "gpu_memory_utilization", func(s *Spec) any { return &s.GPUMemoryUtilization }},
	{"--revision", "revision", func(s *Spec) any { return &s.Revision }},
	{"--quantization", "quantization", func(s *Spec) any { return &s.Quantization }},
	{"--dtype", "dtype", func(s *Spec) any { return &s.DType }},
	{"--max-model-len", "max_model_len", func(s *Spec) any { return &s.MaxModelLen }},
	{"--tensor-parallel-size", "tensor_parallel_size", func(s *Spec) any { return &s.TensorParallelSize }},
	{"--pipeline-parallel-size", "pipeline_parallel_size", func(s *Spec) any { return &s.PipelineParallelSize }},
	{"--trust-remote-code", "trust_remote_code", func(s *Spec) any { return &s.TrustRemoteCode }},
	{"--kv-cache-dtype", "kv_cache_dtype", func(s *Spec) any { return &s.KVCacheDType }},
	{"--enable-prefix-caching", "enable_prefix_caching", func(s *Spec) any { return &s.PrefixCaching }},
	{"--enable-auto-tool-choice", "tool_call_parser", func(s *Spec) any { return &s.autoToolChoice }},
	{"--tool-call-parser", "tool_call_parser", func(s *Spec) any { return &s.ToolCallParser }},
	{"--reasoning-parser", "reasoning_parser", func(s *Spec) any { return &s.ReasoningParser }},
	{"--enable-lora", "lora_adapters", func(s *Spec) any { return &s.enableLoRA }},
	{"--lora-modules", "lora_adapters", func(s *Spec) any { return &s.LoRAAdapters }},
	{DrainFlag, "drain_timeout", func(s *Spec) any { return &s.DrainSeconds }},
	{"--ssl-keyfile", "tls", func(s *Spec) any { return &s.TLSKeyFile }},
	{"--ssl-certfile", "tls", func(s *Spec) any { return &s.TLSCertFile }},
}

// CommandLine returns the arguments after `vllm`, for a spec that Validate accepts. It contains no secret: those are in Environment.
// Each argument is one element, unquoted.
func (s Spec) CommandLine() []string {
	args := []string{"serve", s.Model}
	s.Listen, s.Port = s.ListenAddress(), s.ListenPort()
	s.GPUMemoryUtilization = cmp.Or(s.GPUMemoryUtilization, DefaultGPUMemoryUtilization)
	s.autoToolChoice, s.enableLoRA = s.ToolCallParser != "", s.LoRAAdapters != nil
	for _, flag := range ownFlags {
		switch value := flag.field(&s).(type) {
		case *string:
			if *value != "" {
				args = append(args, flag.name, *value)
			}
		case *int:
			if *value != 0 {
				args = append(args, flag.name, strconv.Itoa(*value))
			}
		case *float64:
			args = append(args, flag.name, strconv.FormatFloat(*value, 'f', -1, 64))
		case *bool:
			if *value {
				args = append(args, flag.name)
			}
		case **bool:
			if *value != nil {
				args = append(args, spelledSwitch(flag.name, **value))
			}
		case *map[string]string:
			if len(*value) > 0 {
				args = append(append(args, flag.name), loraModules(*value)...)
			}
		}
	}
	return append(args, s.ExtraArgs...)
}

// spelledSwitch returns a switch with "--no-" where it is off.
func spelledSwitch(name string, on bool) string {
	if on {
		return name
	}
	return "--no-" + strings.TrimPrefix(name, "--")
}

// loraModule is one value of --lora-modules in the JSON form, which allows any name and path (LoRAParserAction in
// vllm/entrypoints/openai/cli_args.py).
type loraModule struct {
	Name string `json:"name"`
	Path string `json:"path"`
}

func loraModules(adapters map[string]string) []string {
	modules := make([]string, 0, len(adapters))
	for _, name := range slices.Sorted(maps.Keys(adapters)) {
		text, _ := json.Marshal(loraModule{Name: name, Path: adapters[name]}) // never fails for two strings
		modules = append(modules, string(text))
	}
	return modules
}

// ParseCommandLine is the reverse of CommandLine: it reads a running server's arguments into a Spec. Numbers that can't be parsed
// are zero; what has no field is in ExtraArgs.
func ParseCommandLine(args []string) Spec {
	var s Spec
	if len(args) > 1 && args[0] == "serve" && !strings.HasPrefix(args[1], "-") {
		s.Model, args = args[1], args[2:]
	}
	for len(args) > 0 {
		name, _, _ := strings.Cut(args[0], "=")
		at := slices.IndexFunc(ownFlags, func(f ownFlag) bool { return f.name == name || spelledSwitch(f.name, false) == name })
		if at < 0 {
			s.ExtraArgs = append(s.ExtraArgs, args[0])
			args = args[1:]
			continue
		}
		args = ownFlags[at].read(&s, args)
	}
	if s.enableLoRA && s.LoRAAdapters == nil {
		s.LoRAAdapters = map[string]string{}
	}
	return s
}

// set parses a text into a field of a Spec.
func set(field any, value string) {
	switch field := field.(type) {
	case *string:
		*field = value
	case *int:
		*field, _ = strconv.Atoi(value)
	case *float64:
		*field, _ = strconv.ParseFloat(value, 64)
	}
}

// read parses the flag at the beginning of the arguments, and returns the arguments after it.
func (f ownFlag) read(s *Spec, args []string) []string {
	name, value, inOne := strings.Cut(args[0], "=")
	args = args[1:]
	on := f.name == name // otherwise it is the --no- form
	switch field := f.field(s).(type) {
	case *bool:
		*field = on
	case **bool:
		*field = &on
	case *map[string]string:
		*field = map[string]string{}
		if inOne {
			args = append([]string{value}, args...)
		}
		for ; len(args) > 0 && !isFlag(args[0]); args = args[1:] {
			var module loraModule
			if json.Unmarshal([]byte(args[0]), &module) != nil {
				module.Name, module.Path, _ = strings.Cut(args[0], "=")
			}
			(*field)[module.Name] = module.Path
		}
	default:
		if !inOne && len(args) > 0 {
			value, args = args[0], args[1:]
		}
		set(field, value)
	}
	return args
}

// Extra returns the value of the first flag in ExtraArgs that has one of the names, and whether there is one.
func (s Spec) Extra(names ...string) (value string, given bool) {
	for i, arg := range s.ExtraArgs {
		name, value, inOne := strings.Cut(arg, "=")
		if !slices.Contains(names, name) {
			continue
		}
		if !inOne && i+1 < len(s.ExtraArgs) {
			value = s.ExtraArgs[i+1]
		}
		return value, true
	}
	return "", false
}
