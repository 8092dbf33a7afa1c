package vllmserver

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// options are the parsed arguments of `vllm serve`.
type options struct {
	table      flagTable
	given      map[string][]string // by flag name; a bool is "true" or "false"
	modelTag   string              // the positional model
	positional bool
}

// usageError is an error of argparse.
type usageError struct {
	serve   bool // from the parser of `vllm serve`, not of `vllm`
	message string
}

func (e *usageError) Error() string { return e.message }

func serveError(format string, a ...any) error {
	return &usageError{serve: true, message: fmt.Sprintf(format, a...)}
}

// parser reads arguments as Python's argparse and vLLM's FlexibleArgumentParser do, with
// underscores for dashes, and dotted JSON keys.
type parser struct {
	table   flagTable
	args    []string
	opts    options
	unknown []string
	rest    bool // after "--"
}

// parseServe reads the arguments of a release's `vllm serve`.
func parseServe(release string, args []string) (options, error) {
	p := &parser{table: readFlags(release), args: args, opts: options{given: map[string][]string{}}}
	p.opts.table = p.table
	for len(p.args) > 0 {
		if err := p.next(); err != nil {
			return options{}, err
		}
	}
	if len(p.unknown) > 0 {
		return options{}, &usageError{message: "unrecognized arguments: " + strings.Join(p.unknown, " ")}
	}
	return p.opts, nil
}

func (p *parser) next() error {
	arg := p.args[0]
	p.args = p.args[1:]
	switch {
	case !p.rest && arg == "--":
		p.rest = true
		return nil
	case p.rest || !p.isOption(arg):
		if p.opts.positional {
			p.unknown = append(p.unknown, arg)
			return nil
		}
		p.opts.modelTag, p.opts.positional = arg, true
		return nil
	}
	name, value, hasValue := strings.Cut(arg, "=")
	spec, spelled, err := p.table.find(name)
	if err != nil {
		return err
	}
	if spec == nil {
		p.unknown = append(p.unknown, arg)
		return nil
	}
	return p.take(spec, spelled, value, hasValue)
}

func (p *parser) take(spec *flagSpec, spelled, value string, hasValue bool) error {
	if spec.kind == kindSwitch {
		if hasValue {
			return serveError("argument %s: ignored explicit argument %s", spec.label, pyRepr(value))
		}
		p.opts.given[spec.name] = []string{strconv.FormatBool(!strings.HasPrefix(spelled, "--no-") || spec.name == spelled[2:])}
		return nil
	}
	var values []string
	if hasValue {
		values = []string{value}
	}
	for !hasValue && len(p.args) > 0 && !p.isOption(p.args[0]) && (spec.nargs == "+" || len(values) == 0) {
		values = append(values, p.args[0])
		p.args = p.args[1:]
	}
	switch {
	case len(values) > 0:
	case spec.nargs == "+":
		return serveError("argument %s: expected at least one argument", spec.label)
	case spec.nargs == "?":
		values = []string{"True"} // vLLM's const of the one flag that has one, --hf-token
	default:
		return serveError("argument %s: expected one argument", spec.label)
	}
	if dotted := strings.Contains(spelled, "."); dotted {
		return nil // --compilation-config.mode 3: one key of a JSON option
	}
	for _, v := range values {
		if err := spec.check(v); err != nil {
			return err
		}
	}
	p.opts.given[spec.name] = values
	return nil
}

var negativeNumber = regexp.MustCompile(`^-\d+$|^-\d*\.\d+$`)

// isOption reports whether argparse takes an argument for an option.
func (p *parser) isOption(arg string) bool {
	if len(arg) < 2 || arg[0] != '-' || negativeNumber.MatchString(arg) {
		return false
	}
	if spec, _, err := p.table.find(strings.SplitN(arg, "=", 2)[0]); err == nil && spec != nil {
		return true
	}
	return !strings.Contains(arg, " ")
}

// text returns a flag's last value; "" = it was not given.
func (o options) text(name string) string {
	if values := o.given[name]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}

func (o options) on(name string) bool { return o.text(name) == "true" }

// number returns the value of an int flag, such as 4096 or 32k.
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

// String is the given arguments as vLLM logs them, a Python dict.
func (o options) String() string {
	var parts []string
	if o.positional {
		parts = append(parts, "'model_tag': "+pyRepr(o.modelTag), "'model': "+pyRepr(o.modelTag))
	}
	for _, name := range slices.Sorted(maps.Keys(o.given)) {
		values := o.given[name]
		var value string
		switch spec := o.table.byName[name]; {
		case spec.nargs == "+":
			quoted := make([]string, len(values))
			for i, v := range values {
				quoted[i] = pyRepr(v)
			}
			value = "[" + strings.Join(quoted, ", ") + "]"
		case spec.kind == kindSwitch:
			value = strings.ToUpper(values[0][:1]) + values[0][1:]
		case spec.kind == kindString || spec.kind == kindJSON:
			value = pyRepr(values[0])
		default:
			value = values[0]
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
