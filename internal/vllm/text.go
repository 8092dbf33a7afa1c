package vllm

import (
	"strings"
	"unicode/utf8"
)

// clip shortens text to at most limit bytes, between two characters, and then appends "…".
func clip(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}

// oneLine joins a text's lines and drops control characters.
func oneLine(text string) string {
	fields := strings.FieldsFunc(strings.ToValidUTF8(text, "\uFFFD"), func(r rune) bool {
		return r <= ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0)
	})
	return strings.Join(fields, " ")
}
