package tool

import (
	"fmt"
	"slices"
	"strings"
)

// badOption is an option that a program doesn't have, or whose value is missing.
type badOption struct {
	option  string
	missing bool // the value is
}

// gnu is the error message of GNU's programs.
func (b *badOption) gnu() string {
	letter := strings.TrimPrefix(b.option, "-")
	switch {
	case strings.HasPrefix(letter, "-"):
		return fmt.Sprintf("unrecognized option '%s'", b.option)
	case b.missing:
		return fmt.Sprintf("option requires an argument -- '%s'", letter)
	}
	return fmt.Sprintf("invalid option -- '%s'", letter)
}

// spelled parses getopt's options: the name of each spelling, and whether it takes a value.
func spelled(known []string) (names map[string]string, valued map[string]bool) {
	names, valued = map[string]string{}, map[string]bool{}
	for _, option := range known {
		spellings := strings.Fields(strings.TrimSuffix(option, "="))
		for _, spelling := range spellings {
			names[spelling], valued[spelling] = spellings[0], strings.HasSuffix(option, "=")
		}
	}
	return names, valued
}

// getopt reads options as most programs do: letters in groups; a value after "=", after
// its letter, or in the next word. known has the spellings of each option, of which the
// first is its name for take, and "=" at the end if it takes a value. The rest are the
// operands, and what follows "--". If operand is set it is called with operands: those
// that it accepts are not in the rest, and the first that it doesn't ends the options.
func getopt(args, known []string, take func(name, value string), operand func(string) bool) (rest []string, bad *badOption) {
	names, valued := spelled(known)
	for len(args) > 0 {
		arg := args[0]
		switch {
		case arg == "--":
			return append(rest, args[1:]...), nil
		case strings.HasPrefix(arg, "-") && arg != "-":
		case operand == nil:
			rest, args = append(rest, arg), args[1:]
			continue
		case operand(arg):
			args = args[1:]
			continue
		default:
			return append(rest, args...), nil
		}
		args = args[1:]
		option, value, inline := strings.Cut(arg, "=")
		if _, whole := names[option]; !whole && !strings.HasPrefix(arg, "--") && len(arg) > 2 { // a letter, and more
			option, value, inline = arg[:2], arg[2:], true
			if !valued[option] {
				value, inline, args = "", false, slices.Insert(slices.Clone(args), 0, "-"+value)
			}
		}
		name, ok := names[option]
		if !ok {
			return rest, &badOption{option: option}
		}
		if valued[option] && !inline {
			if len(args) == 0 {
				return rest, &badOption{option: option, missing: true}
			}
			value, args = args[0], args[1:]
		}
		take(name, value)
	}
	return rest, nil
}
