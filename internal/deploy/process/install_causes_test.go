package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
)

// The recorded failures of uv are explained.
func TestRecordedInstallations(t *testing.T) {
	t.Parallel()
	wants := map[string][2]string{
		"connection-refused": {"can't fetch from 127.0.0.1:9 (Connection refused)", "HTTPS_PROXY"},
		"disk-full":          {"disk is full", "disk_gb"},
		"install-0.33.0":     {},
		"no-dns":             {"can't fetch from index.invalid (dns error)", "HTTPS_PROXY"},
		"no-python":          {"no Python 3.14", "Install it"},
		"no-such-version":    {"release vllm==9.9.9 doesn't exist", "process.version"},
		"python-download":    {"download one from github.com", "install a suitable Python"},
		"python-too-old":     {"Python is 3.9.18, and vllm==0.33.0 needs >=3.11,<3.15", "process.version"},
		"torch-backend-auto": {"can't fetch from download.pytorch.org (dns error)", "HTTPS_PROXY"},
	}
	files, err := filepath.Glob("../../sandbox/facts/uv-*/*.log")
	if err != nil || len(files) != len(wants) {
		t.Fatalf("%d recordings, want %d: %v", len(files), len(wants), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".log")
		want, known := wants[name]
		var e deploy.Error
		e.Explain(string(data), installRules)
		cause, wayOut := e.Cause, e.WayOut
		t.Logf("%s:\n%s\n-- %s\n-- %s", name, data, cause, wayOut) // judged together, with -v
		if !known || !strings.Contains(cause, want[0]) || !strings.Contains(wayOut, want[1]) || (want[0] == "" && cause != "") {
			t.Errorf("%s: %q, %q", name, cause, wayOut)
		}
	}
}
