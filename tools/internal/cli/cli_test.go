package cli

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestFindTakesEachVersionOnce(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	write := func(name, says string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho '"+says+"'\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("terraform", "Terraform v1.11.4")
	tofu := write("tofu", "OpenTofu v1.12.6")
	other := write("other", "OpenTofu v1.12.7")

	names := func(built string) []string {
		t.Helper()
		found, err := Find(t.Context(), built)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, c := range found {
			names = append(names, c.String())
		}
		return names
	}
	for built, want := range map[string][]string{
		"":    {"Terraform 1.11.4", "OpenTofu 1.12.6"},
		tofu:  {"Terraform 1.11.4", "OpenTofu 1.12.6"},
		other: {"Terraform 1.11.4", "OpenTofu 1.12.6", "OpenTofu 1.12.7 (built from source)"},
	} {
		if got := names(built); !slices.Equal(got, want) {
			t.Errorf("Find(%q) = %q, want %q", built, got, want)
		}
	}

	write("terraform", "GNU Make 4.3")
	if found, err := Find(t.Context(), ""); err == nil {
		t.Errorf("took a program that is neither for %v", found)
	}
}

func TestCleanEnvDropsWhatDecidesForUs(t *testing.T) {
	t.Parallel()
	got := CleanEnv([]string{"PATH=/bin", "TF_LOG=trace", "TF_CLI_CONFIG_FILE=/gone", "SHOPPER_URL=http://real", "TFX=1"})
	want := []string{"PATH=/bin", "TFX=1", "CHECKPOINT_DISABLE=1"}
	if !slices.Equal(got, want) {
		t.Errorf("CleanEnv = %q, want %q", got, want)
	}
}
