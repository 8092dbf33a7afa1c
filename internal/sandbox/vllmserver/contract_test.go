package vllmserver_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

// The contract: the stand-in writes and answers what was recorded of real
// servers. A release more, or a recording made anew, says here what changed.

var (
	figures   = regexp.MustCompile(`\d[\d.,:]*`)
	arguments = regexp.MustCompile(`non-default args: \{.*\}`)
)

// shapes are lines without what differs from run to run: figures, and the order
// in which the arguments are listed.
func shapes(log string) []string {
	var lines []string
	for line := range strings.Lines(log) {
		line = arguments.ReplaceAllString(strings.TrimSuffix(line, "\n"), "non-default args")
		lines = append(lines, figures.ReplaceAllString(line, "0"))
	}
	return lines
}

// played runs the stand-in as a recording was made.
func played(t *testing.T, release string, run facts.Run, change ...func(*machinefs.Facts)) *server {
	t.Helper()
	env := []string{vllmserver.VersionEnv + "=" + release}
	for name, value := range run.Env {
		if value != nil && strings.HasPrefix(name, "VLLM_") {
			env = append(env, name+"="+*value)
		}
	}
	return launch(t, newMachine(t, change...), env, run.Argv...)
}

// TestStartsArePlayed: every line of a recorded start, in its order; what stands
// between them is a GPU's.
func TestStartsArePlayed(t *testing.T) {
	t.Parallel()
	for _, release := range facts.Releases() {
		for _, eager := range []bool{false, true} {
			start := facts.Start(release, eager)
			s := played(t, start.Release, start)
			s.eventually("the start", func() bool { return s.ended() || strings.Contains(s.log.String(), facts.Ready) })
			recorded, _, _ := strings.Cut(start.Log, facts.Ready)
			recorded = recorded[:strings.LastIndexByte(recorded, '\n')]
			recorded = strings.ReplaceAll(recorded, "CPU KV cache size", "GPU KV cache size")
			got := shapes(s.log.String())
			for _, want := range shapes(recorded) {
				if strings.Contains(want, "Explicitly set (") { // a GPU's memory is measured
					continue
				}
				at := slices.Index(got, want)
				if at < 0 {
					t.Fatalf("%s: not played, or too early: %q\n%s", release, want, s.log)
				}
				got = got[at+1:]
			}
		}
	}
}

// TestRecordedFailuresArePlayed: each by its name, whole, with its exit code.
func TestRecordedFailuresArePlayed(t *testing.T) {
	t.Parallel()
	for _, name := range facts.Failures() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run, _ := facts.Failure(vllmserver.DefaultVersion, name)
			if len(run.Argv) == 0 { // only the log was kept
				run.Argv = []string{"serve", testModel}
			}
			s := played(t, run.Release, run, func(f *machinefs.Facts) { f.VLLM.Fail = name })
			if code := s.wait(); code != run.Exit {
				t.Errorf("exit code %d, want %d", code, run.Exit)
			}
			got, want := shapes(s.log.String()), shapes(strings.ReplaceAll(run.Log, "CPU KV cache size", "GPU KV cache size"))
			// The two streams of the recording were one.
			if slices.Sort(got); !slices.Equal(got, sorted(want)) {
				t.Errorf("played:\n%s\nrecorded:\n%s", s.log, run.Log)
			}
		})
	}
}

// onRequest are recorded failures that need more than their arguments, and what the
// machine has then. "" is none: the failure comes from outside and has to be asked
// for by its name.
var onRequest = map[string]string{
	"disk-full": "", "engine-killed-loading": "", "hub-no-network": "",
	"context-too-long-for-kv": "a small GPU", "port-taken": "a taken port",
}

// models are the folders that the failures were recorded with.
func models(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write := func(model, name, content string) {
		t.Helper()
		path := filepath.Join(dir, model, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const config = `{"architectures": ["%s"], "model_type": "%s", "num_hidden_layers": 2, "num_attention_heads": 4,
		"num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 4, "max_position_embeddings": %d%s}`
	const header = `{"__metadata__": {"format": "pt"}, "model.layers.0.mlp.down_proj.weight": {"dtype": "BF16", "shape": [1, 4], "data_offsets": [0, 8]}}`
	weights := string(binary.LittleEndian.AppendUint64(nil, uint64(len(header)))) + header + "12345678"
	for model, parts := range map[string][]any{
		"long": {"Qwen2ForCausalLM", "qwen2", 8000000, ""}, "truncated": {"Qwen2ForCausalLM", "qwen2", 2048, ""},
		"badarch": {"FrobnicatorForCausalLM", "qwen2", 2048, ""}, "badtype": {"Qwen2ForCausalLM", "frobnicator", 2048, ""},
		"remotecode": {"Qwen2ForCausalLM", "qwen2", 2048, `, "auto_map": {"AutoModel": "x.Y"}`}, "whole": {"Qwen2ForCausalLM", "qwen2", 2048, ""},
		"empty": {"Qwen2ForCausalLM", "qwen2", 2048, ""}, "wrongshapes": {"Qwen2ForCausalLM", "qwen2", 2048, `, "intermediate_size": 8`},
		"nochat": {"Qwen2ForCausalLM", "qwen2", 2048, ""},
	} {
		write(model, "config.json", fmt.Sprintf(config, parts...))
		if model != "empty" {
			write(model, "model.safetensors", weights)
		}
	}
	write("truncated", "model.safetensors", weights[:len(weights)-4])
	write("noconfig", "model.safetensors", weights)
	write("nochat", "tokenizer_config.json", "{}")
	write("models/adapter", "adapter_config.json", "{}")
	return dir
}

// TestRecordedArgumentsFail: what was recorded comes by itself too, from the same
// arguments, with the same exit code and message.
func TestRecordedArgumentsFail(t *testing.T) {
	t.Parallel()
	folders := models(t)
	for _, name := range facts.Failures() {
		run, _ := facts.Failure(vllmserver.DefaultVersion, name)
		needs, known := onRequest[name]
		if len(run.Argv) == 0 || known && needs == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := newMachine(t, func(f *machinefs.Facts) {
				if needs == "a small GPU" {
					f.GPUs[0].MemoryMiB = 2048
				}
			})
			if needs == "a taken port" {
				listener, err := root.Listen(8100)
				if err != nil {
					t.Fatal(err)
				}
				defer listener.Close()
			}
			s := launch(t, root, []string{vllmserver.VersionEnv + "=" + run.Release, vllmserver.FilesEnv + "=" + folders}, run.Argv...)
			if code := s.wait(); code != run.Exit {
				t.Errorf("exit code %d, want %d", code, run.Exit)
			}
			failure, _ := vllmserver.FindFailure(name)
			if got, want := shapes(s.log.String()), shapes(failure.Message); !slices.ContainsFunc(got, func(l string) bool { return strings.Contains(l, want[0]) }) {
				t.Errorf("no %q in\n%s", failure.Message, s.log)
			}
			got, recorded := shapes(s.log.String()), shapes(run.Log)
			if got[len(got)-1] != recorded[len(recorded)-1] {
				t.Errorf("the last line is %q, want %q", got[len(got)-1], recorded[len(recorded)-1])
			}
		})
	}
	for model, want := range map[string]string{"whole": facts.Ready, "wrongshapes": "start (0) + length (8) exceeds dimension size (4)", "empty": "Cannot find any model weights with `empty`"} {
		s := launch(t, newMachine(t), []string{vllmserver.FilesEnv + "=" + folders}, "serve", model, "--max-model-len", "512")
		s.eventually("the end of the start", func() bool { return s.ended() || strings.Contains(s.log.String(), facts.Ready) })
		if !strings.Contains(s.log.String(), want) {
			t.Errorf("%s: no %q in\n%s", model, want, s.log)
		}
	}
}

func sorted(lines []string) []string {
	slices.Sort(lines)
	return lines
}
