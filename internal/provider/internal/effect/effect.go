// Package effect describes what a change of each argument of a resource does, for the resource's page and for the test that
// checks the page.
package effect

import (
	"fmt"
	"slices"
	"strings"
)

// Effect is what a change of an argument does.
type Effect string

// The effects.
const (
	InPlace  Effect = "in place"
	Restarts Effect = "restarts the server"
	Replaces Effect = "replaces the resource"
)

// Table lists the arguments by the effect of their change. Notes are about single arguments.
type Table struct {
	Arguments map[Effect][]string
	Notes     []string
}

// Of is the effect of a change of an argument, "" for one that isn't in the table.
func (t Table) Of(argument string) Effect {
	for effect, arguments := range t.Arguments {
		if slices.Contains(arguments, argument) {
			return effect
		}
	}
	return ""
}

// Markdown is the table and its notes for a page.
func (t Table) Markdown() string {
	var text strings.Builder
	text.WriteString("\n\n| change to | effect |\n|---|---|\n")
	for _, effect := range []Effect{InPlace, Restarts, Replaces} {
		if len(t.Arguments[effect]) > 0 {
			fmt.Fprintf(&text, "| `%s` | %s |\n", strings.Join(t.Arguments[effect], "`, `"), effect)
		}
	}
	for _, note := range t.Notes {
		text.WriteString("\n" + note + "\n")
	}
	return text.String()
}
