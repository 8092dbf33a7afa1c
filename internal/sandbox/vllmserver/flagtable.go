package vllmserver

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/facts"
)

// kind is how a flag's value is read.
type kind int

const (
	kindString kind = iota
	kindSwitch      // --x, and mostly --no-x
	kindInt         // argparse type=int
	kindOptInt      // an optional int, which vLLM converts by itself
	kindTokens      // an int that may be written 32k or auto
	kindFloat
	kindJSON
)

// flagSpec is one option of `vllm serve`.
type flagSpec struct {
	name    string // the first long spelling, without dashes
	label   string // its name in argparse's errors
	kind    kind
	nargs   any
	choices []string
}

// flagTable is the options of a release.
type flagTable struct {
	byName     map[string]*flagSpec
	bySpelling map[string]*flagSpec
	spellings  []string // in argparse's order
}

// conversions are the flags whose default doesn't show how a value is read, with the types
// of vllm/engine/arg_utils.py.
var conversions = map[string]kind{
	"max-model-len": kindTokens, "max-num-batched-tokens": kindTokens, "kv-cache-memory-bytes": kindTokens,
	"api-server-count": kindOptInt, "max-log-len": kindOptInt, "max-num-seqs": kindOptInt, "num-gpu-blocks-override": kindOptInt,
	"data-parallel-rank": kindOptInt, "data-parallel-start-rank": kindOptInt, "data-parallel-size-local": kindOptInt,
	"data-parallel-rpc-port": kindOptInt, "max-parallel-loading-workers": kindOptInt, "mamba-block-size": kindOptInt,
	"max-cpu-loras": kindOptInt, "max-cudagraph-capture-size": kindOptInt, "block-size": kindOptInt,
	"cpu-offload-gb": kindFloat, "mm-processor-cache-gb": kindFloat, "mm-ipc-gpu-memory-gb": kindFloat, "kv-offloading-size": kindFloat, "video-pruning-rate": kindFloat, "default-mm-loras": kindJSON,
}

var (
	jsonDefault = regexp.MustCompile(`^(?:\w+Config\(|\{)`)
	jsonName    = regexp.MustCompile(`-(?:config|kwargs|overrides)$`)
)

// readFlags returns the recorded options of a release.
func readFlags(release string) flagTable {
	t := flagTable{byName: map[string]*flagSpec{}, bySpelling: map[string]*flagSpec{}}
	for _, flag := range facts.Flags(release) {
		spec := &flagSpec{label: strings.Join(flag.Spellings, "/"), nargs: flag.Nargs}
		for _, spelling := range flag.Spellings {
			if name, long := strings.CutPrefix(spelling, "--"); long && spec.name == "" {
				spec.name = name
			}
		}
		if spec.name == "" { // the positional argument
			continue
		}
		spec.kind = kindOf(spec.name, flag)
		for _, choice := range flag.Choices {
			spec.choices = append(spec.choices, pyChoice(choice))
		}
		t.byName[spec.name] = spec
		for _, spelling := range flag.Spellings {
			t.bySpelling[spelling] = spec
			t.spellings = append(t.spellings, spelling)
		}
	}
	// FlexibleArgumentParser reads -O3 as --optimization-level 3.
	t.bySpelling["-O"] = t.byName["optimization-level"]
	return t
}

func kindOf(name string, flag facts.Flag) kind {
	if kind, ok := conversions[name]; ok {
		return kind
	}
	switch value := flag.Default.(type) {
	case json.Number:
		if strings.Contains(value.String(), ".") {
			return kindFloat
		}
		return kindInt
	case map[string]any:
		return kindJSON
	case []any:
		if flag.Nargs == nil && flag.Takes == "value" {
			return kindJSON
		}
	case string:
		if jsonDefault.MatchString(value) {
			return kindJSON
		}
	}
	switch {
	case strings.HasPrefix(flag.Takes, "switch"):
		return kindSwitch
	case flag.Nargs == nil && flag.Default == nil && jsonName.MatchString(name):
		return kindJSON
	}
	return kindString
}

// pyChoice is a choice as Python's repr writes it.
func pyChoice(choice any) string {
	switch value := choice.(type) {
	case nil:
		return "None"
	case string:
		return pyRepr(value)
	}
	return fmt.Sprint(choice)
}

// find returns the option of a spelling, nil if there is none, and its full spelling. Like
// argparse it accepts unambiguous beginnings.
func (t flagTable) find(spelled string) (spec *flagSpec, as string, err error) {
	if strings.HasPrefix(spelled, "--") {
		spelled = strings.ReplaceAll(spelled, "_", "-")
	}
	if spec := t.bySpelling[spelled]; spec != nil {
		return spec, spelled, nil
	}
	if !strings.HasPrefix(spelled, "--") || spelled == "--" {
		return nil, "", nil
	}
	if base, _, dotted := strings.Cut(spelled, "."); dotted {
		if spec := t.bySpelling[base]; spec != nil && spec.kind == kindJSON {
			return spec, spelled, nil
		}
	}
	var matches []string
	for _, candidate := range t.spellings {
		if strings.HasPrefix(candidate, spelled) {
			matches = append(matches, candidate)
		}
	}
	switch len(matches) {
	case 0:
		return nil, "", nil
	case 1:
		return t.bySpelling[matches[0]], matches[0], nil
	}
	return nil, "", serveError("ambiguous option: %s could match %s", spelled, strings.Join(matches, ", "))
}

var tokenCount = regexp.MustCompile(`^(-?\d+|\d+(\.\d+)?[kKmMgGtT])$`)

// check returns argparse's error about a value.
func (s *flagSpec) check(value string) error {
	var err error
	switch s.kind {
	case kindInt:
		if _, err = strconv.Atoi(value); err != nil {
			return serveError("argument %s: invalid int value: %s", s.label, pyRepr(value))
		}
	case kindOptInt:
		if _, err = strconv.Atoi(value); err != nil && value != "None" {
			return serveError("argument %s: Value %s cannot be converted to <class 'int'>.", s.label, value)
		}
	case kindFloat:
		if _, err = strconv.ParseFloat(value, 64); err != nil {
			return serveError("argument %s: invalid float value: %s", s.label, pyRepr(value))
		}
	case kindTokens:
		if value != "auto" && !tokenCount.MatchString(value) {
			return serveError("argument %s: invalid human_readable_int_or_auto value: %s", s.label, pyRepr(value))
		}
	case kindJSON:
		if !json.Valid([]byte(value)) {
			return serveError("argument %s: Value %s cannot be converted to <function loads>.", s.label, value)
		}
	case kindString, kindSwitch:
	}
	if s.choices != nil && !slices.Contains(s.choices, value) && !slices.Contains(s.choices, pyRepr(value)) {
		repr := pyRepr(value)
		if s.kind == kindInt {
			repr = value
		}
		return serveError("argument %s: invalid choice: %s (choose from %s)", s.label, repr, strings.Join(s.choices, ", "))
	}
	return nil
}
