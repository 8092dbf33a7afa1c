package vllm

import "regexp"

// wordings are the ways in which one thing is said. Each pattern is compiled for itself and begins with plain text: so a
// search skips to that text, and a long log is read quickly.
type wordings []*regexp.Regexp

// oneOf compiles wordings.
func oneOf(alternatives ...string) wordings {
	patterns := make(wordings, len(alternatives))
	for i, alternative := range alternatives {
		patterns[i] = regexp.MustCompile(alternative)
	}
	return patterns
}

// find returns the first wording's match in the text and its groups, nil when there is none.
func (w wordings) find(text string) []string {
	for _, pattern := range w {
		if found := pattern.FindStringSubmatch(text); found != nil {
			return found
		}
	}
	return nil
}

// beginIn returns the first wording that begins within the first bytes of the text, nil when none does.
func (w wordings) beginIn(text string, bytes int) *regexp.Regexp {
	for _, pattern := range w {
		if found := pattern.FindStringIndex(text); len(found) > 0 && found[0] < bytes {
			return pattern
		}
	}
	return nil
}
