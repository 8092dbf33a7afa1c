package vllm

import (
	"strings"
	"testing"
)

// Every rule is among the causes that a page describes, with a way out.
func TestCausesAreComplete(t *testing.T) {
	t.Parallel()
	described := map[Cause]bool{}
	for _, part := range Causes() {
		if len(part.Causes) == 0 {
			t.Errorf("nothing is known of %s", part.Title)
		}
		for _, c := range part.Causes {
			described[c] = true
			if c.Cause == "" || c.WayOut == "" || strings.Contains(c.Cause+c.WayOut, "${") {
				t.Errorf("%s: %+v", part.Title, c)
			}
		}
	}
	for _, r := range rules {
		cause, wayOut := r.describe()
		if !described[Cause{General(cause), General(wayOut)}] {
			t.Errorf("%s is not described: %s", r.kind, cause)
		}
	}
}
