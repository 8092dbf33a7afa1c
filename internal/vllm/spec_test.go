package vllm

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spec Spec
		want []string
	}{
		"defaults": {
			Spec{Model: "Qwen/Qwen2.5-0.5B-Instruct"},
			[]string{"serve", "Qwen/Qwen2.5-0.5B-Instruct", "--host", "127.0.0.1", "--port", "8000", "--gpu-memory-utilization", "0.9"},
		},
		"everything": {
			Spec{
				Model: "/models/m", ServedModelName: "chat", Revision: "main", Quantization: "fp8", DType: "bfloat16",
				MaxModelLen: 8192, GPUMemoryUtilization: 0.85, TensorParallelSize: 4, PipelineParallelSize: 2, TrustRemoteCode: true,
				KVCacheDType: "fp8", PrefixCaching: new(bool), ToolCallParser: "hermes", ReasoningParser: "qwen3",
				LoRAAdapters: map[string]string{"b": "org/b", "a": "/a=b"},
				ExtraArgs:    []string{"--max-num-seqs", "64"}, Listen: "0.0.0.0", Port: 9000,
				APIKey: "key-value-1234", HFToken: "token-value-1234", TLSKeyFile: "/tls/key.pem", TLSCertFile: "/tls/cert.pem",
			},
			[]string{
				"serve", "/models/m", "--served-model-name", "chat", "--host", "0.0.0.0", "--port", "9000", "--gpu-memory-utilization", "0.85",
				"--revision", "main", "--quantization", "fp8", "--dtype", "bfloat16", "--max-model-len", "8192",
				"--tensor-parallel-size", "4", "--pipeline-parallel-size", "2", "--trust-remote-code",
				"--kv-cache-dtype", "fp8", "--no-enable-prefix-caching", "--enable-auto-tool-choice", "--tool-call-parser", "hermes",
				"--reasoning-parser", "qwen3", "--enable-lora", "--lora-modules", `{"name":"a","path":"/a=b"}`, `{"name":"b","path":"org/b"}`,
				"--ssl-keyfile", "/tls/key.pem", "--ssl-certfile", "/tls/cert.pem", "--max-num-seqs", "64",
			},
		},
		"all of the GPU": {
			Spec{Model: "m", GPUMemoryUtilization: 1},
			[]string{"serve", "m", "--host", "127.0.0.1", "--port", "8000", "--gpu-memory-utilization", "1"},
		},
	} {
		if err := test.spec.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(test.want, test.spec.CommandLine()); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", name, diff)
		}
		again := ParseCommandLine(test.want)
		again.APIKey, again.HFToken = test.spec.APIKey, test.spec.HFToken // in no command line
		if diff := cmp.Diff(test.want, again.CommandLine()); diff != "" {
			t.Errorf("%s, read and written again: (-want +got)\n%s", name, diff)
		}
		if name == "everything" && again.GoString() != test.spec.GoString() {
			t.Errorf("read back: %s", again)
		}
	}
}

// A command line that somebody else wrote is read as far as its flags have a field.
func TestParseCommandLine(t *testing.T) {
	t.Parallel()
	got := ParseCommandLine([]string{
		"serve", "m", "--port=9000", "--lora-modules", "a=/x", "b=/y", "--enforce-eager", "--trust-remote-code", "--max-model-len", "many", "--dtype",
	})
	if got.Model != "m" || got.Port != 9000 || !got.TrustRemoteCode || got.MaxModelLen != 0 || got.LoRAAdapters["b"] != "/y" ||
		!slices.Equal(got.ExtraArgs, []string{"--enforce-eager"}) {
		t.Errorf("got %s", got)
	}
	refused := ParseCommandLine([]string{"serve", "m", "--no-trust-remote-code", "--no-enable-lora", "--lora-modules=a=/x", "b=/y"})
	if refused.TrustRemoteCode || refused.LoRAAdapters["a"] != "/x" || refused.LoRAAdapters["b"] != "/y" {
		t.Errorf("got %s", refused)
	}
	if off := ParseCommandLine(Spec{Model: "m", LoRAAdapters: map[string]string{}}.CommandLine()); off.LoRAAdapters == nil || off.PrefixCaching != nil {
		t.Errorf("got %s", off)
	}
	if value, given := (Spec{ExtraArgs: []string{"-x", "--kv-cache-dtype", "fp8", "-dp=2"}}).Extra("--data-parallel-size", "-dp"); value != "2" || !given {
		t.Errorf("got %q, %t", value, given)
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	spec := Spec{
		Model: "m", APIKey: "key-value-1234", HFToken: "token-value-1234",
		Env: map[string]string{"HF_HOME": "/cache", "VLLM_NO_USAGE_STATS": "0", "VLLM_ENGINE_READY_TIMEOUT_S": "60"},
	}
	want := map[string]string{
		"HF_HOME": "/cache", "VLLM_NO_USAGE_STATS": "0", "VLLM_ENGINE_READY_TIMEOUT_S": "60",
		"VLLM_API_KEY": "key-value-1234", "HF_TOKEN": "token-value-1234",
	}
	if diff := cmp.Diff(want, spec.Environment()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	plain := Spec{Model: "m"}.Environment()
	if diff := cmp.Diff(map[string]string{"VLLM_NO_USAGE_STATS": "1", "VLLM_ENGINE_READY_TIMEOUT_S": "3600"}, plain); diff != "" {
		t.Errorf("without secrets (-want +got)\n%s", diff)
	}
	plain["HF_HOME"] = "changed"
	if _, shared := spec.Environment()["changed"]; shared || len(Spec{}.Environment()) != 2 {
		t.Error("the map is not the caller's own")
	}
}

func TestServedName(t *testing.T) {
	t.Parallel()
	if got := (Spec{Model: "org/m"}).ServedName(); got != "org/m" {
		t.Error(got)
	}
	if got := (Spec{Model: "org/m", ServedModelName: "chat"}).ServedName(); got != "chat" {
		t.Error(got)
	}
}

// fieldsOf are the fields of a *SpecError's problems.
func fieldsOf(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	var spec *SpecError
	if !errors.As(err, &spec) || len(spec.Problems) == 0 {
		t.Fatalf("not a *SpecError: %#v", err)
	}
	var fields []string
	for _, problem := range spec.Problems {
		fields = append(fields, problem.Field)
	}
	return fields
}

// What is out of bounds is refused before anything runs, and the message names the bound.
func TestBoundsAreChecked(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*Spec)
		field  string // "" = accepted
		words  string
	}{
		"no model":                {func(s *Spec) { s.Model = "" }, "model", "Hugging Face ID"},
		"blank model":             {func(s *Spec) { s.Model = "  " }, "model", "Hugging Face ID"},
		"model like a flag":       {func(s *Spec) { s.Model = "--api-key=x" }, "model", "must not start with '-'"},
		"model with line break":   {func(s *Spec) { s.Model = "a\nb" }, "model", "line breaks"},
		"model with NUL":          {func(s *Spec) { s.Model = "a\x00b" }, "model", "NUL"},
		"model not UTF-8":         {func(s *Spec) { s.Model = "a\xff" }, "model", "UTF-8"},
		"model too long":          {func(s *Spec) { s.Model = strings.Repeat("a", 4097) }, "model", "4096"},
		"port 65535":              {func(s *Spec) { s.Port = 65535 }, "", ""},
		"port 1":                  {func(s *Spec) { s.Port = 1 }, "", ""},
		"port too high":           {func(s *Spec) { s.Port = 65536 }, "port", "between 1 and 65535"},
		"port negative":           {func(s *Spec) { s.Port = -1 }, "port", "between 1 and 65535"},
		"utilization 1":           {func(s *Spec) { s.GPUMemoryUtilization = 1 }, "", ""},
		"utilization above 1":     {func(s *Spec) { s.GPUMemoryUtilization = 1.01 }, "gpu_memory_utilization", "at most 1"},
		"utilization 90":          {func(s *Spec) { s.GPUMemoryUtilization = 90 }, "gpu_memory_utilization", "at most 1"},
		"utilization negative":    {func(s *Spec) { s.GPUMemoryUtilization = -0.1 }, "gpu_memory_utilization", "above 0"},
		"utilization NaN":         {func(s *Spec) { s.GPUMemoryUtilization = math.NaN() }, "gpu_memory_utilization", "above 0"},
		"context negative":        {func(s *Spec) { s.MaxModelLen = -1 }, "max_model_len", "at least 1"},
		"tensor parallel":         {func(s *Spec) { s.TensorParallelSize = -2 }, "tensor_parallel_size", "at least 1"},
		"pipeline parallel":       {func(s *Spec) { s.PipelineParallelSize = -2 }, "pipeline_parallel_size", "at least 1"},
		"listen name":             {func(s *Spec) { s.Listen = "example" }, "listen", "IP address"},
		"listen localhost":        {func(s *Spec) { s.Listen = "localhost" }, "", ""},
		"listen IPv6":             {func(s *Spec) { s.Listen = "::1" }, "", ""},
		"certificate without key": {func(s *Spec) { s.TLSCertFile = "/c" }, "tls", "both"},
		"key with space":          {func(s *Spec) { s.APIKey = "a b" }, "api_key", "printable ASCII"},
		"key with line break":     {func(s *Spec) { s.APIKey = "a\nb" }, "api_key", "printable ASCII"},
		"token not ASCII":         {func(s *Spec) { s.HFToken = "hf_ä" }, "hf_token", "printable ASCII"},
		"key too long":            {func(s *Spec) { s.APIKey = strings.Repeat("k", 4097) }, "api_key", "4096"},
		"env name":                {func(s *Spec) { s.Env = map[string]string{"A-B": "1"} }, "env", "not a variable name"},
		"env name with digit":     {func(s *Spec) { s.Env = map[string]string{"1A": "1"} }, "env", "not a variable name"},
		"env name with equals":    {func(s *Spec) { s.Env = map[string]string{"A=B": "1"} }, "env", "not a variable name"},
		"env name empty":          {func(s *Spec) { s.Env = map[string]string{"": "1"} }, "env", "not a variable name"},
		"env name line break":     {func(s *Spec) { s.Env = map[string]string{"A\n": "1"} }, "env", "not a variable name"},
		"env value with NUL":      {func(s *Spec) { s.Env = map[string]string{"A": "\x00"} }, "env", "NUL"},
		"env value not UTF-8":     {func(s *Spec) { s.Env = map[string]string{"A": "\xff"} }, "env", "UTF-8"},
		"env value lines":         {func(s *Spec) { s.Env = map[string]string{"_a1": "{\n}"} }, "", ""},
		"args NUL":                {func(s *Spec) { s.ExtraArgs = []string{"--x", "\x00"} }, "args", "element 1"},
		"args not UTF-8":          {func(s *Spec) { s.ExtraArgs = []string{"--x", "\xff"} }, "args", "element 1"},
		"args first no flag":      {func(s *Spec) { s.ExtraArgs = []string{"other/model"} }, "args", "must start with a flag"},
		"args too many":           {func(s *Spec) { s.ExtraArgs = slices.Repeat([]string{"--x"}, 257) }, "args", "256"},
		"args too long":           {func(s *Spec) { s.ExtraArgs = []string{"--x", strings.Repeat("a", 32769)} }, "args", "32768"},
	} {
		spec := Spec{Model: "org/model"}
		test.change(&spec)
		err := spec.Validate()
		if test.field == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if fields := fieldsOf(t, err); !slices.Contains(fields, test.field) {
			t.Errorf("%s: fields %q, want %q", name, fields, test.field)
		} else if !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: %q doesn't contain %q", name, err, test.words)
		}
	}
}

func TestValidateTooManyVariables(t *testing.T) {
	t.Parallel()
	env := map[string]string{}
	for i := range 257 {
		env[fmt.Sprintf("A%d", i)] = ""
	}
	if fields := fieldsOf(t, Spec{Model: "m", Env: env}.Validate()); !slices.Equal(fields, []string{"env"}) {
		t.Error(fields)
	}
}

func TestValidateListsEveryProblem(t *testing.T) {
	t.Parallel()
	err := Spec{Port: -1, GPUMemoryUtilization: 2, MaxModelLen: -1, DType: "int3", ExtraArgs: []string{"--port=1", "--api-key", "x"}}.Validate()
	want := []string{"model", "dtype", "max_model_len", "gpu_memory_utilization", "port", "args", "args"}
	if got := fieldsOf(t, err); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// An enumerated value is checked against its list; the quantisation, whose list changes with each
// vLLM release, is not enumerated.
func TestEnumerations(t *testing.T) {
	t.Parallel()
	for _, dtype := range DTypes() {
		if err := (Spec{Model: "m", DType: dtype}).Validate(); err != nil {
			t.Errorf("%s: %v", dtype, err)
		}
	}
	err := Spec{Model: "m", DType: "bf16"}.Validate()
	if err == nil || !strings.Contains(err.Error(), "bfloat16") {
		t.Errorf("the list is missing in: %v", err)
	}
	for _, quantization := range []string{"awq", "compressed-tensors", "made_up.next-year"} {
		if err := (Spec{Model: "m", Quantization: quantization}).Validate(); err != nil {
			t.Errorf("%s: %v", quantization, err)
		}
	}
	if fields := fieldsOf(t, Spec{Model: "m", Quantization: "awq; rm"}.Validate()); !slices.Contains(fields, "quantization") {
		t.Error(fields)
	}
}

// What a user writes is one argument, whatever a shell would make of it.
func TestHostileValuesStayData(t *testing.T) {
	t.Parallel()
	const hostile = "x'; $(touch /tmp/owned) `id` \"&& reboot #"
	spec := Spec{Model: hostile, ServedModelName: hostile, Revision: hostile, ExtraArgs: []string{"--chat-template", hostile + "\n"}, Env: map[string]string{"A": hostile}}
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	args := spec.CommandLine()
	if args[1] != hostile || args[3] != hostile || args[len(args)-1] != hostile+"\n" || spec.Environment()["A"] != hostile {
		t.Errorf("%q", args)
	}
}

// No secret can get into the arguments, which any user of a machine can read in its process list.
func TestNoSecretInArguments(t *testing.T) {
	t.Parallel()
	const key, token = "sk-0123456789abcdef", "hf_ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	spec := Spec{Model: "m", APIKey: key, HFToken: token, Env: map[string]string{"A": "b"}}
	if err := spec.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{strings.Join(spec.CommandLine(), " "), spec.String(), fmt.Sprintf("%v %+v %#v", spec, spec, spec)} {
		if strings.Contains(text, key) || strings.Contains(text, token) {
			t.Errorf("secret in %q", text)
		}
	}
	for name, args := range map[string][]string{
		"api key":            {"--api-key", "x"},
		"api key =":          {"--api-key=x"},
		"api key underscore": {"--api_key", "x"},
		"api key _ =":        {"--api_key=x"},
		"abbreviated":        {"--api-k", "x"},
		"one dash":           {"-api-key", "x"},
		"hf token":           {"--hf-token", "x"},
		"hf token =":         {"--hf_token=x"},
		"hf token alone":     {"--hf-token"},
		"later":              {"--enable-lora", "--api-key=x"},
		"the key itself":     {"--header", "X: " + key},
		"the token itself":   {"--note=" + token},
		"some token":         {"--note", "hf_zzzzzzzzzzzzzzzzzzzzzzzzz"},
	} {
		spec := Spec{Model: "m", APIKey: key, HFToken: token, ExtraArgs: args}
		err := spec.Validate()
		if fields := fieldsOf(t, err); !slices.Contains(fields, "args") {
			t.Errorf("%s is accepted", name)
			continue
		}
		if strings.Contains(err.Error(), key) || strings.Contains(err.Error(), token) || strings.Contains(err.Error(), "zzzz") {
			t.Errorf("%s: the error repeats the secret: %v", name, err)
		}
		if !strings.Contains(err.Error(), "api_key") && !strings.Contains(err.Error(), "hf_token") {
			t.Errorf("%s: no way out in: %v", name, err)
		}
	}
	for variable, attribute := range map[string]string{"VLLM_API_KEY": "api_key", "HF_TOKEN": "hf_token", "HUGGING_FACE_HUB_TOKEN": "hf_token", "hf_token": "hf_token"} {
		err := Spec{Model: "m", Env: map[string]string{variable: "secret-value"}}.Validate()
		if err == nil || !strings.Contains(err.Error(), "use "+attribute) || strings.Contains(err.Error(), "secret-value") {
			t.Errorf("%s: %v", variable, err)
		}
	}
	if err := (Spec{Model: "m", APIKey: key, Env: map[string]string{"OTHER": key}}).Validate(); err == nil || strings.Contains(err.Error(), key) {
		t.Errorf("key in another variable: %v", err)
	}
}

func TestValidateArgsDuplicates(t *testing.T) {
	t.Parallel()
	for arg, attribute := range map[string]string{
		"--model":                    "model",
		"--port=1":                   "port",
		"--host":                     "exposure",
		"--uds=/x":                   "exposure",
		"--served_model_name":        "served_model_name",
		"--max-model-len=5":          "max_model_len",
		"--max-model":                "max_model_len",
		"--max_model_len":            "max_model_len",
		"--gpu-memory-utilization=1": "gpu_memory_utilization",
		"-tp":                        "tensor_parallel_size",
		"-tp=2":                      "tensor_parallel_size",
		"-pp":                        "pipeline_parallel_size",
		"--tensor-parallel-size":     "tensor_parallel_size",
		"-q":                         "quantization",
		"--dtype=half":               "dtype",
		"--revision=x":               "revision",
		"--trust-remote-code":        "trust_remote_code",
		"--no-trust-remote-code":     "trust_remote_code",
		"--ssl-keyfile=/x":           "tls",
		"--enable-lora":              "lora_adapters",
		"--kv-cache-dtype=fp8":       "kv_cache_dtype",
	} {
		err := Spec{Model: "m", ExtraArgs: []string{arg}}.Validate()
		if err == nil || !strings.Contains(err.Error(), "attribute "+attribute+":") {
			t.Errorf("%s: %v", arg, err)
		}
	}
	fine := []string{
		"--model-impl=vllm", "--tokenizer", "x", "--max-num-seqs=4", "--dtype-x",
		"-O3", "--api-server-count", "2", "--max-loras", "2", "-1", "-", "--", "--ssl-ca-certs=/x", "--code-revision=x",
	}
	if err := (Spec{Model: "m", ExtraArgs: fine}).Validate(); err != nil {
		t.Error(err)
	}
}
