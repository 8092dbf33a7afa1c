package engine_test

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/moby/client"
)

// What is copied into a container is in its own directory, and nowhere else
// whatever the archive's names are.
func TestCopyIntoContainer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.pull(testImage)
	id := r.create("copied", withGPUs())
	put := func(name string) error {
		var archive bytes.Buffer
		w := tar.NewWriter(&archive)
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o440, Size: 5}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := r.docker.CopyToContainer(r.ctx(), id, client.CopyToContainerOptions{DestinationPath: "/etc", Content: &archive})
		return err
	}
	if err := put("tls/server.key"); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(string(r.root), "*", "*", "files", "etc", "tls", "server.key"))
	if err != nil || len(found) != 1 {
		t.Fatalf("found %v, %v", found, err)
	}
	if content, err := os.ReadFile(found[0]); string(content) != "hello" {
		t.Errorf("%q, %v", content, err)
	}
	if err := put("../../../../outside"); err != nil {
		t.Logf("refused: %v", err)
	}
	if found, err := filepath.Glob(filepath.Join(string(r.root), "outside")); err != nil || len(found) > 0 {
		t.Errorf("an archive escaped: %v, %v", found, err)
	}
}
