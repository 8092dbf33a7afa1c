package vllm

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// ownFlag is a flag of `vllm serve` that has a field in Spec. Its other spellings are those of the recorded releases (flags.go).
type ownFlag struct {
	name      string // with its dashes
	attribute string // what sets it, as users write it
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
	{DrainFlag, "drain_timeout", func(s *Spec) any { return &s.DrainSeconds }},
	{"--ssl-keyfile", "tls", func(s *Spec) any { return &s.TLSKeyFile }},
	{"--ssl-certfile", "tls", func(s *Spec) any { return &s.TLSCertFile }},
}

// CommandLine returns the arguments after `vllm`, for a spec that Validate accepts. No secret is among them: those
// travel in Environment. Each argument is one element, to be passed on as it is or quoted by whoever needs a shell.
func (s Spec) CommandLine() []string {
	args := []string{"serve", s.Model}
	s.Listen, s.Port = s.ListenAddress(), s.ListenPort()
	s.GPUMemoryUtilization = cmp.Or(s.GPUMemoryUtilization, DefaultGPUMemoryUtilization)
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
		}
	}
	return append(args, s.ExtraArgs...)
}

// ParseCommandLine reads the arguments of a server that runs back into a Spec: the reverse of CommandLine. Figures that can't be
// read are zero; what has no field is in ExtraArgs.
func ParseCommandLine(args []string) Spec {
	var s Spec
	if len(args) > 1 && args[0] == "serve" && !strings.HasPrefix(args[1], "-") {
		s.Model, args = args[1], args[2:]
	}
	for i := 0; i < len(args); i++ {
		name, value, inOne := strings.Cut(args[i], "=")
		at := slices.IndexFunc(ownFlags, func(f ownFlag) bool { return f.name == name })
		if at < 0 {
			s.ExtraArgs = append(s.ExtraArgs, args[i])
			continue
		}
		field := ownFlags[at].field(&s)
		if given, bare := field.(*bool); bare {
			*given = true
			continue
		}
		if !inOne && i+1 < len(args) {
			i++
			value = args[i]
		}
		switch field := field.(type) {
		case *string:
			*field = value
		case *int:
			*field, _ = strconv.Atoi(value)
		case *float64:
			*field, _ = strconv.ParseFloat(value, 64)
		}
	}
	return s
}

// Extra is the value of the first of the further flags that has one of the names, and whether there is one.
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
