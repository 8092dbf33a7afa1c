package vllmdeployment

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/provider/internal/providerdata"
)

// An entry exists from before a launch until it has returned. An earlier one was left by a run that was killed. Without a
// directory nothing is kept.
func TestJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kept := func(dir string) *Resource {
		return &Resource{data: &providerdata.Data{Journal: journal.Open(dir, "test")}}
	}
	j := kept(dir)
	begin := func(owner string, want bool) {
		t.Helper()
		if left, err := j.begin(owner); err != nil || left != want {
			t.Errorf("%s: left %v, %v; want %v", owner, left, err, want)
		}
	}
	begin("terraform/s/vllm-8000", false)
	begin("terraform/s/vllm-8000", true)
	begin("terraform/s/vllm-8001", false)
	if err := j.end("terraform/s/vllm-8000"); err != nil {
		t.Error(err)
	}
	begin("terraform/s/vllm-8000", false)
	for range 2 {
		if err := j.end("terraform/s/vllm-8000"); err != nil {
			t.Error(err)
		}
	}
	if left, err := kept("").begin("x"); left || err != nil {
		t.Error(left, err)
	}
	if err := kept("").end("x"); err != nil {
		t.Error(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := kept(file).begin("x"); err == nil {
		t.Error("a directory that can't be made is no error")
	}
}

// A rented machine bills until its session is released, after the server's removal: the wait for it is shorter than for
// one's own machine.
func TestRemovalLimit(t *testing.T) {
	t.Parallel()
	rented, own := model{SessionID: types.StringValue("id")}, model{}
	if rented.removalLimit() > time.Minute || own.removalLimit() != loginLimit {
		t.Errorf("rented %s, own %s", rented.removalLimit(), own.removalLimit())
	}
}
