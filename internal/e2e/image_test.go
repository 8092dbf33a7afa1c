package e2e

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// basePrograms are those of Debian's slim image that the provider runs on a machine.
var basePrograms = strings.Fields(`awk basename cat chmod cp cut date dd df dirname env expr find flock grep head id kill ln ls
	mkdir mktemp mv nohup od printf readlink rm rmdir sed setsid sh sleep sort stat stty sync tail tar tee test timeout touch tr
	true uname wc xargs`)

// baseImage is the root of an image with this computer's programs, which needs no registry.
func baseImage(t *testing.T) io.Reader {
	t.Helper()
	files := map[string]string{} // in the image, and on this computer
	for _, name := range basePrograms {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		files["bin/"+name] = path
		for _, word := range strings.Fields(must(t, "ldd", path)) {
			if strings.HasPrefix(word, "/") && !strings.HasSuffix(word, ":") {
				files[strings.TrimPrefix(word, "/")] = word
			}
		}
	}
	var image bytes.Buffer
	archive := tar.NewWriter(&image)
	add := func(header *tar.Header, text string) {
		header.Size = int64(len(text))
		if err := archive.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(archive, text); err != nil {
			t.Fatal(err)
		}
	}
	for name, path := range files {
		add(&tar.Header{Name: name, Mode: 0o755}, read(t, path))
	}
	add(&tar.Header{Name: "tmp/", Mode: 0o1777, Typeflag: tar.TypeDir}, "")
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return &image
}

// The sandbox's image, built by its recipe and run by a real engine, serves the quick start.
func TestE2ESandboxImage(t *testing.T) {
	t.Parallel()
	if exec.Command("docker", "version").Run() != nil {
		t.Skip("SKIPPED: no Docker engine on this machine")
	}
	w, s := example(t, "quickstart")
	const base, image = "shopper-e2e-base:1", "shopper-e2e-sandbox:1"
	load := exec.Command("docker", "import", "-", base)
	load.Stdin = baseImage(t)
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() { must(t, "docker", "rmi", base) })
	must(t, "make", "-C", filepath.Join("..", ".."), "image", "BUILD="+filepath.Join(w.dir, "build"), "BASE="+base, "IMAGE="+image)
	t.Cleanup(func() { must(t, "docker", "rmi", image) })
	url := "127.0.0.1:" + strconv.Itoa(testkit.FreePort(t))
	id := strings.TrimSpace(must(t, "docker", "run", "--detach", "--network", "host", image, "-listen", url))
	t.Cleanup(func() { must(t, "docker", "rm", "--force", id) })
	eventually(t, func() error {
		if !strings.Contains(must(t, "docker", "logs", id), "http://"+url) {
			return os.ErrNotExist
		}
		return nil
	})
	s.env = slices.DeleteFunc(s.env, func(entry string) bool { return strings.HasPrefix(entry, "SHOPPER_URL=") })
	s.env = append(s.env, "SHOPPER_URL=http://"+url)
	s.applied(t, func(said string) { says(t, said, "healthy = true") })
}
