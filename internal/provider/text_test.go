package provider_test

import (
	"regexp"
	"slices"
	"strings"
)

// words matches a text that holds all of these in this order, however the CLI
// breaks its lines and decorates them.
func words(parts ...string) *regexp.Regexp {
	parts = slices.Clone(parts)
	const space = `[\s│|]+`
	for i, part := range parts {
		parts[i] = "(?:" + strings.Join(strings.Fields(part), space) + ")" // an alternative ends with its part
	}
	return regexp.MustCompile(`(?s)` + strings.Join(parts, `.*?`))
}

// replaceAll replaces pairs of texts.
func replaceAll(s string, pairs ...string) string { return strings.NewReplacer(pairs...).Replace(s) }
