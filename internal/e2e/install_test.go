package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// After make install, a plain init finds the provider, with a version constraint, beside a module, and without a registry.
func TestE2EInstall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.example(t, "s", "quickstart")
	home := w.home()
	install := exec.Command("make", "-C", filepath.Join("..", ".."), "install", "PLUGINS="+filepath.Join(home, ".terraform.d", "plugins"),
		"BUILD="+t.TempDir())
	if text, err := install.CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, text)
	}
	if err := os.WriteFile(s.cliConfig(), nil, 0o600); err != nil { // no development overrides
		t.Fatal(err)
	}
	says(t, s.must(t, 0, "init", "-input=false", "-no-color"), "cloud-gpu-shopper/shopper v0.1.0", "successfully initialized")
	if text := s.must(t, 0, "validate", "-no-color"); !strings.Contains(text, "valid") {
		t.Error(text)
	}
}
