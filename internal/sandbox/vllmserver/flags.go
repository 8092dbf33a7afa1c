package vllmserver

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// options are the parsed arguments of `vllm serve`.
type options struct {
	given      map[string][]string // by flag name; a bool is "true" or "false"
	modelTag   string              // the positional model, "" when --model was used
	positional bool
}

// usageError is a complaint of argparse: which parser, and what it says.
type usageError struct {
	serve   bool // the complaint is `vllm serve`'s, not `vllm`'s
	message string
}

func (e *usageError) Error() string { return e.message }

func serveError(format string, a ...any) error {
	return &usageError{serve: true, message: fmt.Sprintf(format, a...)}
}

// parser reads arguments as Python's argparse does, with the liberties of vLLM's
// FlexibleArgumentParser: underscores for dashes, and dotted JSON keys.
type parser struct {
	args    []string
	opts    options
	unknown []string
	rest    bool // after "--"
}

func parseServe(args []string) (options, error) {
	p := &parser{args: args, opts: options{given: map[string][]string{}}}
	for len(p.args) > 0 {
		if err := p.next(); err != nil {
			return options{}, err
		}
	}
	if len(p.unknown) > 0 {
		return options{}, &usageError{message: "unrecognized arguments: " + strings.Join(p.unknown, " ")}
	}
	return p.opts, p.opts.check()
}

func (p *parser) next() error {
	arg := p.args[0]
	p.args = p.args[1:]
	switch {
	case !p.rest && arg == "--":
		p.rest = true
		return nil
	case p.rest || !isOption(arg):
		if p.opts.positional {
			p.unknown = append(p.unknown, arg)
			return nil
		}
		p.opts.modelTag, p.opts.positional = arg, true
		return nil
	}
	name, value, hasValue := strings.Cut(arg, "=")
	spec, negated, err := lookUpFlag(name)
	if err != nil {
		return err
	}
	if spec.name == "" {
		p.unknown = append(p.unknown, arg)
		return nil
	}
	return p.take(spec, name, value, hasValue, negated)
}

func (p *parser) take(spec flagSpec, spelled, value string, hasValue, negated bool) error {
	label := label(spec)
	if spec.kind == kindBool {
		if hasValue {
			return serveError("argument %s: ignored explicit argument '%s'", label, value)
		}
		p.opts.given[spec.name] = []string{strconv.FormatBool(!negated)}
		return nil
	}
	var values []string
	if hasValue {
		values = []string{value}
	}
	for !hasValue && len(p.args) > 0 && !isOption(p.args[0]) && (spec.kind == kindList || len(values) == 0) {
		values = append(values, p.args[0])
		p.args = p.args[1:]
	}
	if len(values) == 0 {
		if spec.kind == kindList {
			return serveError("argument %s: expected at least one argument", label)
		}
		return serveError("argument %s: expected one argument", label)
	}
	if dotted := strings.Contains(strings.TrimLeft(spelled, "-"), "."); dotted {
		return nil // --compilation-config.mode 3: one key of a JSON option
	}
	for _, v := range values {
		if err := checkValue(spec, label, v); err != nil {
			return err
		}
	}
	p.opts.given[spec.name] = values
	return nil
}

var negativeNumber = regexp.MustCompile(`^-\d+$|^-\d*\.\d+$`)

// isOption says whether argparse takes an argument for an option rather than a
// value.
func isOption(arg string) bool {
	if len(arg) < 2 || arg[0] != '-' || negativeNumber.MatchString(arg) {
		return false
	}
	if spec, _, err := lookUpFlag(strings.SplitN(arg, "=", 2)[0]); err == nil && spec.name != "" {
		return true
	}
	return !strings.Contains(arg, " ")
}

// lookUpFlag finds the option that a spelling means; its name is "" when there is
// none. Unambiguous beginnings are accepted, as argparse accepts them.
func lookUpFlag(spelled string) (spec flagSpec, negated bool, err error) {
	specs := flagSpecs()
	if name, ok := shortFlags[spelled]; ok {
		return specs[name], false, nil
	}
	name, ok := strings.CutPrefix(spelled, "--")
	if !ok {
		return flagSpec{}, false, nil
	}
	name = strings.ReplaceAll(name, "_", "-")
	if base, _, dotted := strings.Cut(name, "."); dotted && specs[base].kind == kindJSON {
		return specs[base], false, nil
	}
	if spec, ok := specs[name]; ok {
		return spec, false, nil
	}
	if base, ok := strings.CutPrefix(name, "no-"); ok && specs[base].kind == kindBool && specs[base].name != "" {
		return specs[base], true, nil
	}
	var matches []string
	for candidate := range maps.Keys(specs) {
		if name != "" && strings.HasPrefix(candidate, name) {
			matches = append(matches, "--"+candidate)
		}
	}
	slices.Sort(matches)
	switch len(matches) {
	case 0:
		return flagSpec{}, false, nil
	case 1:
		return specs[matches[0][2:]], false, nil
	}
	return flagSpec{}, false, serveError("ambiguous option: %s could match %s", spelled, strings.Join(matches, ", "))
}

// label is how argparse names an option in a complaint.
func label(spec flagSpec) string {
	long := "--" + spec.name
	for _, short := range slices.Sorted(maps.Keys(shortFlags)) {
		if shortFlags[short] == spec.name {
			return long + "/" + short
		}
	}
	if spec.kind == kindBool {
		return long + "/--no-" + spec.name
	}
	return long
}

var tokenCount = regexp.MustCompile(`^(-?\d+|\d+(\.\d+)?[kKmMgGtT])$`)

func checkValue(spec flagSpec, label, value string) error {
	var err error
	switch spec.kind {
	case kindInt:
		if _, err = strconv.Atoi(value); err != nil {
			return serveError("argument %s: invalid int value: '%s'", label, value)
		}
	case kindOptInt:
		if _, err = strconv.Atoi(value); err != nil && value != "None" {
			return serveError("argument %s: Value %s cannot be converted to <class 'int'>.", label, value)
		}
	case kindFloat:
		if _, err = strconv.ParseFloat(value, 64); err != nil {
			return serveError("argument %s: invalid float value: '%s'", label, value)
		}
	case kindTokens:
		if value != "auto" && !tokenCount.MatchString(value) {
			return serveError("argument %s: invalid human_readable_int_or_auto value: '%s'", label, value)
		}
	case kindJSON:
		if !json.Valid([]byte(value)) {
			return serveError("argument %s: Value %s cannot be converted to <function loads>.", label, value)
		}
	case kindChoice:
		if !slices.Contains(spec.choices, value) {
			return serveError("argument %s: invalid choice: '%s' (choose from %s)", label, value, strings.Join(spec.choices, ", "))
		}
	case kindString, kindBool, kindList:
	}
	return nil
}

// check makes the complaints of validate_parsed_serve_args.
func (o options) check() error {
	if o.on("enable-auto-tool-choice") && o.text("tool-call-parser") == "" {
		return fmt.Errorf("TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser")
	}
	return nil
}

// text returns a flag's value, "" when it was not given.
func (o options) text(name string) string {
	if values := o.given[name]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

func (o options) on(name string) bool { return o.text(name) == "true" }

// number returns an int flag's value, 32k and the like included.
func (o options) number(name string, missing int) int {
	value := o.text(name)
	if n, err := strconv.Atoi(value); err == nil {
		return n
	}
	if value == "" || value == "auto" || value == "None" {
		return missing
	}
	// Small letters are powers of 1000, capitals of 1024.
	units := map[byte]float64{'k': 1e3, 'm': 1e6, 'g': 1e9, 't': 1e12, 'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'T': 1 << 40}
	n, err := strconv.ParseFloat(value[:len(value)-1], 64)
	if err != nil {
		return missing
	}
	return int(n * units[value[len(value)-1]])
}

func (o options) fraction(name string, missing float64) float64 {
	if f, err := strconv.ParseFloat(o.text(name), 64); err == nil {
		return f
	}
	return missing
}

// model is the model to serve: the positional argument wins over --model.
func (o options) model() string {
	if o.positional {
		return o.modelTag
	}
	if m := o.text("model"); m != "" {
		return m
	}
	return "Qwen/Qwen3-0.6B" // vLLM's own default
}

// servedNames are the names under which the API knows the model.
func (o options) servedNames() []string {
	if names := o.given["served-model-name"]; len(names) > 0 {
		return names
	}
	return []string{o.model()}
}

// String is the arguments as vLLM logs them: a Python dict of what was given.
func (o options) String() string {
	var parts []string
	if o.positional {
		parts = append(parts, "'model_tag': "+pyRepr(o.modelTag), "'model': "+pyRepr(o.modelTag))
	}
	for _, name := range slices.Sorted(maps.Keys(o.given)) {
		values := o.given[name]
		var value string
		switch flagSpecs()[name].kind {
		case kindList:
			quoted := make([]string, len(values))
			for i, v := range values {
				quoted[i] = pyRepr(v)
			}
			value = "[" + strings.Join(quoted, ", ") + "]"
		case kindBool:
			value = strings.ToUpper(values[0][:1]) + values[0][1:]
		case kindInt, kindOptInt, kindFloat, kindTokens:
			value = values[0]
		case kindString, kindJSON, kindChoice:
			value = pyRepr(values[0])
		}
		parts = append(parts, fmt.Sprintf("'%s': %s", strings.ReplaceAll(name, "-", "_"), value))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// pyRepr writes a string as Python's repr does, closely enough for a log.
func pyRepr(s string) string {
	quoted := strconv.Quote(s)
	inner := strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
	if strings.Contains(inner, "'") && !strings.Contains(inner, `"`) {
		return `"` + inner + `"`
	}
	return "'" + strings.ReplaceAll(inner, "'", `\'`) + "'"
}
