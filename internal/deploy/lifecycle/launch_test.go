package lifecycle_test

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestLaunchContainer(t *testing.T) {
	t.Parallel()
	r := newRig(t, vm())
	status := launch(t, r, request())
	if err := answers(t, r, status, testKey); err != nil {
		t.Errorf("the deployment doesn't answer: %v", err)
	}
	if err := answers(t, r, status, "another"); err == nil {
		t.Error("the deployment answers without its key")
	}
	if slices.Contains(r.machine.CommandLog(), "vllm --version") {
		t.Error("the release was asked of vLLM itself, which takes 20 to 50 seconds")
	}
	if status.State != deploy.Running || status.VLLMVersion != "0.33.0" || status.ServedMaxModelLen != 4096 || len(status.GPUs) != 1 ||
		status.LoadSeconds <= 0 || status.ImageDigest == "" || !status.RestartsItself || status.SpecHash == "" {
		t.Errorf("status is incomplete: %+v", status)
	}
	again, err := lifecycle.Inspect(within(t, limit), r, status.Ref)
	if err != nil {
		t.Fatal(err)
	}
	if again.SpecHash != status.SpecHash || again.APIKeyPrint != deploy.Fingerprint("test/chat", testKey) ||
		again.HFTokenPrint != deploy.Fingerprint("test/chat", testToken) || !slices.Equal(again.Arguments, status.Arguments) || again.ID != status.ID {
		t.Errorf("inspected: %+v\nlaunched: %+v", again, status)
	}
	log, err := lifecycle.LogTail(within(t, limit), r, status.Ref, 5)
	if err != nil || len(log) != 5 {
		t.Errorf("log of %d lines, %v; want 5", len(log), err)
	}
	remove(t, r, status)
	if _, err := lifecycle.Remove(within(t, limit), r, status.Ref, lifecycle.Request{}); err != nil {
		t.Errorf("removing what is gone: %v", err)
	}
}

func TestLaunchProcess(t *testing.T) {
	t.Parallel()
	r := newRig(t, pod())
	status := launch(t, r, processRequest())
	if err := answers(t, r, status, testKey); err != nil {
		t.Errorf("the deployment doesn't answer: %v", err)
	}
	if slices.Contains(r.machine.CommandLog(), "vllm --version") {
		t.Error("the release was asked of vLLM itself, which takes 20 to 50 seconds")
	}
	if status.State != deploy.Running || status.VLLMVersion != "0.33.0" || status.ServedMaxModelLen != 4096 || len(status.GPUs) != 1 ||
		!status.RestartsItself || status.StartedAt.IsZero() {
		t.Errorf("status is incomplete: %+v", status)
	}
	again, err := lifecycle.Inspect(within(t, limit), r, status.Ref)
	if err != nil {
		t.Fatal(err)
	}
	if again.SpecHash != status.SpecHash || again.APIKeyPrint != deploy.Fingerprint("test/chat", testKey) ||
		!slices.Equal(again.Arguments, status.Arguments) || again.ID != status.ID {
		t.Errorf("inspected: %+v\nlaunched: %+v", again, status)
	}
	remove(t, r, status)
	if _, err := lifecycle.Remove(within(t, limit), r, status.Ref, lifecycle.Request{}); err != nil {
		t.Errorf("removing what is gone: %v", err)
	}
}

func TestLaunchProcessWithTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t, pod())
	wanted := processRequest()
	certificate, key := testkit.Certificate(t, "gpu.example")
	wanted.TLS = &lifecycle.TLS{Certificate: certificate, Key: key, ServerName: "gpu.example"}
	status := launch(t, r, wanted)
	if !slices.Contains(status.Arguments, filepath.Join(status.Directory, "server.key")) {
		t.Errorf("arguments %q", status.Arguments)
	}
	info, err := os.Stat(filepath.Join(status.Directory, "server.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info, err)
	}
	if again := launch(t, r, wanted); again.ID != status.ID {
		t.Error("the same deployment wasn't recognized")
	}
	remove(t, r, status)
	if _, err := os.Stat(status.Directory); !os.IsNotExist(err) {
		t.Errorf("the server's directory is left: %v", err)
	}
}
