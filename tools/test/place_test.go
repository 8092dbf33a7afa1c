package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestPlaceNoticesWhatIsLeft(t *testing.T) {
	t.Setenv("SHOPPER_URL", "http://rents.for.real")
	p, err := newPlace(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.remove()
	if left := p.leftFiles(); len(left) != 0 {
		t.Errorf("a new place holds %v", left)
	}
	env := p.env()
	if !slices.Contains(env, "HOME="+p.home()) || !slices.Contains(env, "TMPDIR="+p.tmp()) {
		t.Errorf("HOME and TMPDIR are not the place's: %q", env)
	}
	if slices.ContainsFunc(env, func(entry string) bool { return strings.HasPrefix(entry, "SHOPPER_URL=") }) {
		t.Error("SHOPPER_URL is passed on")
	}

	for _, dir := range []string{
		filepath.Join(p.home(), ".config", "go", "telemetry"), filepath.Join(p.home(), ".terraform.d"),
		filepath.Join(p.home(), ".ssh"), filepath.Join(p.tmp(), "x"),
	} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	left := p.leftFiles()
	if len(left) != 2 || !strings.HasSuffix(left[0].output, ".ssh") || !strings.HasSuffix(left[1].output, "x") {
		t.Errorf("found %v, want .ssh and x", left)
	}
}
