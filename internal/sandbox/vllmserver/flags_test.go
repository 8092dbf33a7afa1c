package vllmserver_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/vllmserver"
)

// TestEveryRecordedFlag: each spelling of each release is accepted with a value
// that fits, and refused with one that doesn't.
func TestEveryRecordedFlag(t *testing.T) {
	t.Parallel()
	for _, release := range facts.Releases() {
		root := newMachine(t)
		run := func(args ...string) (code int, log string) {
			s := launch(t, root, []string{vllmserver.VersionEnv + "=" + release}, append([]string{"serve", "org/nosuch"}, args...)...)
			code = s.wait()
			return code, s.log.String()
		}
		for _, flag := range facts.Flags(release) {
			for _, spelling := range flag.Spellings {
				if spelling[0] != '-' || spelling == "-h" || spelling == "--help" {
					continue
				}
				args := []string{spelling}
				wrong := []string{spelling + "=x"}
				if !strings.HasPrefix(flag.Takes, "switch") {
					args = append(args, "1")
					if i := slices.IndexFunc(flag.Choices, func(c any) bool { return c != nil }); i >= 0 {
						args[1] = fmt.Sprint(flag.Choices[i])
					}
					wrong = []string{spelling, "--port", "1"}
				}
				if code, log := run(args...); code == 2 {
					t.Errorf("%s refuses %v:\n%s", release, args, log)
				}
				if code, log := run(wrong...); code != 2 && flag.Nargs != "?" {
					t.Errorf("%s accepts %v:\n%s", release, wrong, log)
				}
			}
		}
		for _, unknown := range []string{"--frobnicate", "--frobnicate=1", "--swap-space", "-z"} {
			want := "vllm: error: unrecognized arguments: " + unknown + "\n"
			if code, log := run(unknown); code != 2 || !strings.HasSuffix(log, want) {
				t.Errorf("%s and %s: %d\n%s", release, unknown, code, log)
			}
		}
	}
}

func TestArguments(t *testing.T) {
	t.Parallel()
	root := newMachine(t)
	module := []string{"python3", "-m", "vllm.entrypoints.openai.api_server"}
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--version"}, 0, "0.33.0\n"},
		{[]string{"--help"}, 0, "usage: vllm"},
		{[]string{"server"}, 2, "invalid choice: 'server'"},
		{[]string{"serve", "m", "--foo"}, 2, "vllm: error: unrecognized arguments: --foo\n"},
		{[]string{"serve", "m", "--foo", "bar", "--baz=1"}, 2, "vllm: error: unrecognized arguments: --foo bar --baz=1\n"},
		{[]string{"serve", "m", "other"}, 2, "vllm: error: unrecognized arguments: other\n"},
		{[]string{"serve", "m", "--rope-scaling", "{}"}, 2, "unrecognized arguments: --rope-scaling {}\n"},
		{[]string{"serve", "m", "--port", "abc"}, 2, "vllm serve: error: argument --port: invalid int value: 'abc'\n"},
		{[]string{"serve", "m", "--port"}, 2, "vllm serve: error: argument --port: expected one argument\n"},
		{[]string{"serve", "m", "--port", "--host"}, 2, "argument --port: expected one argument\n"},
		{[]string{"serve", "m", "--max-num-seqs", "x"}, 2, "argument --max-num-seqs: Value x cannot be converted to <class 'int'>.\n"},
		{[]string{"serve", "m", "--gpu-memory-utilization", "lots"}, 2, "argument --gpu-memory-utilization/--device-memory-utilization: invalid float value: 'lots'\n"},
		{[]string{"serve", "m", "--max-model-len", "long"}, 2, "argument --max-model-len: invalid human_readable_int_or_auto value: 'long'\n"},
		{[]string{"serve", "m", "--dtype", "int4"}, 2, "argument --dtype: invalid choice: 'int4' (choose from 'auto', 'bfloat16', 'float', 'float16', 'float32', 'half')\n"},
		{[]string{"serve", "m", "--tensor-parallel-size", "two"}, 2, "argument --tensor-parallel-size/-tp: invalid int value: 'two'\n"},
		{[]string{"serve", "m", "--hf-overrides", "{"}, 2, "argument --hf-overrides: Value { cannot be converted"},
		{[]string{"serve", "m", "--enforce-eager=yes"}, 2, "argument --enforce-eager/--no-enforce-eager: ignored explicit argument 'yes'\n"},
		{[]string{"serve", "m", "--max", "1"}, 2, "ambiguous option: --max could match --max-"},
		{[]string{"serve", "m", "--served-model-name"}, 2, "argument --served-model-name: expected at least one argument\n"},
		{[]string{"serve", "m", "--enable-auto-tool-choice"}, 1, "--enable-auto-tool-choice requires --tool-call-parser"},
		{append(module, "--model", "m", "--foo"), 2, "api_server.py: error: unrecognized arguments: --foo\n"},
		// These are taken; org/nosuch ends them soon afterwards.
		{append(module, "--model", "org/nosuch"), 1, "org/nosuch is not a local folder"},
		{[]string{"serve", "org/nosuch", "--max_num_seqs=8", "--no-enable-prefix-caching", "--seed", "-1", "-q", "awq", "--compilation-config.mode", "3", "--hf_overrides", `{"a":1}`}, 1, "org/nosuch is not a local folder"},
		{[]string{"serve", "--served-model-name", "a", "b", "--tensor-par", "1", "--", "org/nosuch"}, 1, "'served_model_name': ['a', 'b'], 'tensor_parallel_size': 1"},
	} {
		s := launch(t, root, nil, test.args...)
		if code := s.wait(); code != test.code || !strings.Contains(s.log.String(), test.want) {
			t.Errorf("vllm %s: exit code %d, want %d and %q:\n%s", strings.Join(test.args, " "), code, test.code, test.want, s.log)
		}
	}
}
