package vllm

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write flags/ from the recordings")

// parserLogs are failed starts whose log lists the values of a flag.
var parserLogs = map[string]struct {
	file string
	list *regexp.Regexp
}{
	"--tool-call-parser": {"failures/tool-parser-unknown.log", regexp.MustCompile(`chose from \{ (\S+) \}`)},
	"--reasoning-parser": {"more/reasoning-parser-unknown.log", regexp.MustCompile(`Available parsers: ([^"]+)"`)},
}

// recordedFlags are the flags of the recorded releases, each in all its spellings, and the values of those that have a choice, by
// release and first spelling.
func recordedFlags(t *testing.T) (all map[string][][]string, choices map[string][]string) {
	t.Helper()
	choices = map[string][]string{}
	files, err := filepath.Glob(filepath.Join(recordings, "*", "flags.json"))
	if err != nil || len(files) == 0 {
		t.Fatal("no recordings", err)
	}
	all = map[string][][]string{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var flags []struct {
			Flags   []string
			Choices []any
		}
		if err := json.Unmarshal(data, &flags); err != nil {
			t.Fatal(err)
		}
		release := filepath.Base(filepath.Dir(file))
		for _, flag := range flags {
			if !strings.HasPrefix(flag.Flags[0], "-") {
				continue
			}
			all[release] = append(all[release], flag.Flags)
			for _, choice := range flag.Choices {
				choices[release+flag.Flags[0]] = append(choices[release+flag.Flags[0]], fmt.Sprint(choice))
			}
		}
	}
	for release := range all {
		for flag, in := range parserLogs {
			data, err := os.ReadFile(filepath.Join(recordings, release, in.file))
			if found := in.list.FindSubmatch(data); err == nil && found != nil {
				choices[release+flag] = strings.FieldsFunc(string(found[1]), func(r rune) bool { return r == ',' || r == ' ' })
			}
		}
	}
	return all, choices
}

func TestFlagsAreThoseRecorded(t *testing.T) {
	t.Parallel()
	recorded, choices := recordedFlags(t)
	for release, flags := range recorded {
		var text strings.Builder
		for _, spellings := range flags {
			text.WriteString(strings.Join(spellings, " "))
			if list := choices[release+spellings[0]]; len(list) > 0 {
				text.WriteString(" = " + strings.Join(list, " "))
			}
			text.WriteString("\n")
		}
		file := filepath.Join("flags", release+".txt")
		if *update {
			if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if data, err := os.ReadFile(file); err != nil || string(data) != text.String() {
			t.Errorf("%s is not what was recorded (%v): run go test ./internal/vllm -run %s -update", file, err, t.Name())
		}
	}
	if tables := flagTables(); len(tables) != len(recorded) && !*update {
		t.Errorf("%d tables, %d recordings", len(tables), len(recorded))
	}
}

// Whatever spelling a recorded release has for an attribute's flag is refused as the flag itself is.
func TestEverySpellingOfAnAttributeIsRefused(t *testing.T) {
	t.Parallel()
	all, _ := recordedFlags(t)
	for release, flags := range all {
		for _, spellings := range flags {
			owned := slices.ContainsFunc(spellings, func(s string) bool { return flagAttributes[strings.TrimLeft(s, "-")] != "" })
			for _, spelling := range spellings {
				err := Spec{Model: "m", ExtraArgs: []string{spelling}}.Validate()
				secret := secretFlags[strings.TrimLeft(spelling, "-")] != ""
				if (err != nil) != (owned || secret) {
					t.Errorf("%s of %s: %v", spelling, release, err)
				}
			}
		}
	}
	for arg, attribute := range map[string]string{
		"--device-memory-utilization=0.5": "gpu_memory_utilization", "--device_memory": "gpu_memory_utilization", "-qawq": "quantization",
		"--ho": "exposure", "-t": "tensor_parallel_size", "--dt=half": "dtype",
	} {
		err := Spec{Model: "m", ExtraArgs: []string{arg}}.Validate()
		if err == nil || !strings.Contains(err.Error(), "attribute "+attribute+":") {
			t.Errorf("%s: %v", arg, err)
		}
	}
}

func TestKnowsFlag(t *testing.T) {
	t.Parallel()
	for release, want := range map[string]bool{"0.19.1": true, "0.25.0": true, "v0.33.0.post1": true, "0.10.2": false, "": false, "main": false} {
		if got := KnowsFlag(release, DrainFlag); got != want {
			t.Errorf("%q: %v", release, got)
		}
	}
	if KnowsFlag("0.25.0", "--device-memory-utilization") || !KnowsFlag("0.32.0", "--device-memory-utilization") {
		t.Error("a flag of newer releases only")
	}
}

func TestFlagWarnings(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		release string
		args    []string
		want    []string // words of each warning
	}{
		"known":              {"0.32.0", []string{"--enable-lora", "--max-num-seqs=4", "--no-enable-prefix-caching", "-dp", "2", "-n4", "-O3", "-O.mode=3"}, nil},
		"underscores":        {"0.32.0", []string{"--max_num_seqs", "4", "--Max-num-seqs"}, []string{"Did you mean --max-num-seqs?"}},
		"abbreviated":        {"0.32.0", []string{"--enable-aut", "--tool-call-p", "hermes"}, nil},
		"fits several":       {"0.32.0", []string{"--max-num"}, []string{"--max-num-batched-tokens, "}},
		"JSON's keys":        {"0.32.0", []string{"--hf-overrides.rope_scaling.factor", "2", "--hf_overrides.a=b", "--speculative-config", "-1"}, nil},
		"values":             {"0.32.0", []string{"--seed", "-1", "--chat-template", "-{ not a flag }", "a=b", "-", "--", "--anything"}, nil},
		"misspelled":         {"0.32.0", []string{"--enable-lorra", "--tool-call-parsre=hermes"}, []string{"Did you mean --enable-lora?", "Did you mean --tool-call-parser?"}},
		"value kept to us":   {"0.32.0", []string{"--frobnicate=secret"}, []string{"--frobnicate is not among the recorded flags of vLLM 0.32.0."}},
		"newer release":      {"0.33.0", []string{"--frobnicate"}, []string{"recorded flags of vLLM 0.32.0"}},
		"of another release": {"0.19.1", []string{"--device-memory"}, []string{"It is one of 0.32.0."}},
		"gone since":         {"v0.33.0.post1", []string{"--override-attention-dtype", "x"}, []string{"It is one of 0.19.1."}},
		"between":            {"0.25.1", []string{"--override-attention-dtype", "--device-memory", "--frobnicate"}, []string{"--frobnicate"}},
		"too old to know":    {"0.10.2", []string{"--frobnicate"}, nil},
		"no release":         {"", []string{"--frobnicate"}, nil},
		"not a release":      {"nightly", []string{"--frobnicate"}, nil},
	} {
		got := FlagWarnings(test.release, test.args)
		if len(got) != len(test.want) {
			t.Errorf("%s: %q", name, got)
			continue
		}
		for i, words := range test.want {
			if !strings.Contains(got[i], words) || strings.Contains(got[i], "secret") {
				t.Errorf("%s: %q, want %q", name, got[i], words)
			}
		}
	}
}
