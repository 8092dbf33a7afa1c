package vllm

import (
	"regexp"
	"sync"
)

// wordings returns the patterns of one message. They are compiled at their first use: most runs of the provider read no log. Each
// is compiled by itself, and those of rules begin with plain text, so that a search skips to that text and a long log is read quickly.
type wordings func() []*regexp.Regexp

// oneOf returns wordings that match where one of the patterns does.
func oneOf(alternatives ...string) wordings {
	return sync.OnceValue(func() []*regexp.Regexp {
		patterns := make([]*regexp.Regexp, len(alternatives))
		for i, alternative := range alternatives {
			patterns[i] = regexp.MustCompile(alternative)
		}
		return patterns
	})
}

// find returns the match of the first pattern that the text has, with its groups; nil for none.
func (w wordings) find(text string) []string {
	for _, pattern := range w() {
		if found := pattern.FindStringSubmatch(text); found != nil {
			return found
		}
	}
	return nil
}

// group returns the first group of what find returns, "" for none.
func (w wordings) group(text string) string {
	if found := w.find(text); found != nil {
		return found[1]
	}
	return ""
}

// cut removes every match from the text.
func (w wordings) cut(text string) string {
	for _, pattern := range w() {
		text = pattern.ReplaceAllString(text, "")
	}
	return text
}

// in reports whether the text has one of the patterns.
func (w wordings) in(text string) bool { return w.beginIn(text, len(text)+1) != nil }

// beginIn returns the first pattern with a match that begins within the first bytes of the text, nil for none.
func (w wordings) beginIn(text string, bytes int) *regexp.Regexp {
	for _, pattern := range w() {
		if found := pattern.FindStringIndex(text); len(found) > 0 && found[0] < bytes {
			return pattern
		}
	}
	return nil
}
