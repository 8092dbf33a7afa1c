package vllm

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

// flagAttributes maps a flag to the attribute that sets it.
var flagAttributes = func() map[string]string {
	attributes := map[string]string{"model": "model", "uds": "exposure"} // not in ownFlags
	for _, flag := range ownFlags {
		attributes[strings.TrimLeft(flag.name, "-")] = flag.attribute
	}
	return attributes
}()

// secretFlags maps a flag whose value is a secret to the attribute to use instead.
var secretFlags = map[string]string{
	"api-key":  "api_key",
	"hf-token": "hf_token",
}

// exposed says why a secret may not be an argument.
const exposed = ", which every user of the machine could read in the process list"

// tokenPattern matches a Hugging Face access token.
var tokenPattern = regexp.MustCompile(`\bhf_[A-Za-z0-9]{20,}`)

// arguments checks ExtraArgs. A flag that an attribute sets, or that carries a secret, is a problem that names the attribute to use.
func (p *problems) arguments(s Spec) {
	const field = "args"
	if len(s.ExtraArgs) > maxArguments {
		p.addf(field, "has %d elements, more than %d", len(s.ExtraArgs), maxArguments)
		return
	}
	for i, arg := range s.ExtraArgs {
		held := heldSecret(arg, s)
		switch {
		case len(arg) > maxArgument:
			p.addf(field, "element %d is longer than %d bytes", i, maxArgument)
		case strings.ContainsRune(arg, 0):
			p.addf(field, "element %d must not contain NUL", i)
		case !utf8.ValidString(arg):
			p.addf(field, "element %d is not valid UTF-8", i)
		case i == 0 && !strings.HasPrefix(arg, "-"):
			p.addf(field, "must start with a flag such as --enforce-eager; the model goes into the attribute model")
		case held != "":
			p.addf(field, "element %d contains %s%s: remove it, because the provider passes it in the environment", i, held, exposed)
		case tokenPattern.MatchString(arg):
			p.addf(field, "element %d contains a Hugging Face token%s: use hf_token or hf_token_wo", i, exposed)
		default:
			p.flag(field, arg)
		}
	}
}

// flag checks one element that may be a flag, in any spelling that vLLM's parser accepts: one or two dashes, underscores
// for dashes, "--flag=value", and abbreviations (Python's argparse completes them).
func (p *problems) flag(field, arg string) {
	name, ok := flagName(arg)
	if !ok {
		return
	}
	shown := strings.SplitN(arg, "=", 2)[0]
	if words := strings.Fields(shown); len(words) > 1 {
		p.addf(field, "%s contains several words, but each must be a separate element: \"%s\"", shown, strings.Join(words, `", "`))
		return
	}
	if attribute, found := flagOwner(secretFlags, name, arg); found {
		p.addf(field, "%s carries a secret%s: use %s or %s_wo instead", shown, exposed, attribute, attribute)
		return
	}
	if attribute, found := flagOwner(flagAttributes, name, arg); found {
		p.addf(field, "%s is set by the attribute %s: set it there", shown, attribute)
	}
}

// flagName returns a flag's name as vLLM's parser reads it, such as "Max-Model-Len" for "--Max_Model_Len=3"; false for an argument
// that is no flag.
func flagName(arg string) (string, bool) {
	name := strings.TrimLeft(arg, "-")
	if name == arg || name == "" {
		return "", false
	}
	name, _, _ = strings.Cut(name, "=")
	return strings.ReplaceAll(name, "_", "-"), true
}

// flagOwner finds the attribute of a flag: by its name, by another spelling or an abbreviation that a recorded release
// accepts, or by an abbreviation that an unknown release may accept.
func flagOwner(flags map[string]string, name, arg string) (string, bool) {
	if attribute, ok := flags[name]; ok {
		return attribute, true
	}
	for _, table := range flagTables() {
		meant := table.meant(arg)
		if len(meant) != 1 {
			continue
		}
		for _, spelling := range strings.Fields(table.spellings[meant[0]]) {
			if attribute, ok := flags[strings.TrimLeft(spelling, "-")]; ok {
				return attribute, true
			}
		}
	}
	const shortest = 3 // shorter names abbreviate several flags
	for flag, attribute := range flags {
		if len(name) >= shortest && strings.HasPrefix(flag, name) {
			return attribute, true
		}
	}
	return "", false
}
