package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDescendants(t *testing.T) {
	t.Parallel()
	proc := t.TempDir()
	for pid, stat := range map[string]string{
		"10": "10 (go) S 1 10",
		"11": "11 (bash) S 10 10",
		"12": "12 (a (b) S 1) R 11 10",
		"13": "13 (gone) Z 10 10",
		"14": "14 (other) S 1 14",
		"15": "nonsense",
	} {
		if err := os.MkdirAll(filepath.Join(proc, pid), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(proc, pid, "stat"), []byte(stat), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(proc, "11", "cmdline"), []byte("bash\x00-c\x00x\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := descendants(proc, 10)
	want := []process{{11, 10, 'S', "bash -c x"}, {12, 11, 'R', "a (b) S 1"}}
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %v, want %v", got[i], want[i])
		}
	}
	if got := zombies(proc, 10); len(got) != 1 || got[0] != 13 {
		t.Errorf("zombies: got %v, want [13]", got)
	}
}
