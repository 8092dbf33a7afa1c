package e2e

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// releaseFolder is the variable that names the folder that holds a release. Its sandbox stands in for the one built here.
const releaseFolder = "SHOPPER_RELEASE"

// releasedSandbox unpacks the sandbox's program for this system.
func releasedSandbox(folder, to string) error {
	archives, err := filepath.Glob(filepath.Join(folder, fmt.Sprintf("shopper-sandbox_*_%s_%s.tar.gz", runtime.GOOS, runtime.GOARCH)))
	if err != nil {
		return err
	}
	if len(archives) != 1 {
		return fmt.Errorf("%s holds %d sandboxes for this system", folder, len(archives))
	}
	files, err := untarred(archives[0])
	if err != nil {
		return err
	}
	program, ok := files["shopper-sandbox"]
	if !ok {
		return fmt.Errorf("%s has no shopper-sandbox", archives[0])
	}
	return os.WriteFile(to, program, 0o700)
}

// untarred returns the files in a .tar.gz by their names.
func untarred(archive string) (map[string][]byte, error) {
	file, err := os.Open(archive)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for entries := tar.NewReader(unzipped); ; {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err == nil {
			files[entry.Name], err = io.ReadAll(entries)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", archive, err)
		}
	}
}

// unzipped returns the files in a .zip by their names.
func unzipped(t *testing.T, archive string) map[string][]byte {
	t.Helper()
	content, err := zip.OpenReader(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = content.Close() }()
	files := map[string][]byte{}
	for _, f := range content.File {
		if files[f.Name], err = fs.ReadFile(content, f.Name); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// release is what goreleaser has built.
type release struct {
	folder, version string
	archives        []string // the provider's
}

func newRelease(t *testing.T) *release {
	t.Helper()
	folder := os.Getenv(releaseFolder)
	if folder == "" {
		t.Skipf("SKIPPED: there is no release: make release-check builds one and sets %s", releaseFolder)
	}
	var metadata struct{ Version string }
	if err := json.Unmarshal([]byte(read(t, filepath.Join(folder, "metadata.json"))), &metadata); err != nil {
		t.Fatal(err)
	}
	archives, err := filepath.Glob(filepath.Join(folder, providerName+"_*.zip"))
	if err != nil {
		t.Fatal(err)
	}
	return &release{folder: folder, version: metadata.Version, archives: archives}
}

// A release holds what the registries ask for
// (https://developer.hashicorp.com/terraform/registry/providers/publishing), for every system.
func TestE2EReleaseFiles(t *testing.T) {
	t.Parallel()
	r := newRelease(t)
	manifest := fmt.Sprintf("%s_%s_manifest.json", providerName, r.version)
	sums := map[string]string{}
	for line := range strings.Lines(read(t, filepath.Join(r.folder, fmt.Sprintf("%s_%s_SHA256SUMS", providerName, r.version)))) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		sums[name] = sum
	}
	files := map[string]string{manifest: filepath.Join("..", "..", "terraform-registry-manifest.json")} // uploaded from there
	for _, platform := range []string{
		"darwin_amd64", "darwin_arm64", "freebsd_amd64", "freebsd_arm64", "linux_amd64", "linux_arm64", "windows_amd64", "windows_arm64",
	} {
		name := fmt.Sprintf("%s_%s_%s.zip", providerName, r.version, platform)
		files[name] = filepath.Join(r.folder, name)
		program := providerName + "_v" + r.version
		if strings.HasPrefix(platform, "windows") {
			program += ".exe"
		}
		holds(t, name, unzipped(t, files[name]), program, "CHANGELOG.md")
	}
	if len(sums) != len(files) || len(r.archives) != len(files)-1 {
		t.Errorf("%d checksums and %d archives, want one for each of %d files", len(sums), len(r.archives), len(files))
	}
	for name, file := range files {
		if got := fmt.Sprintf("%x", sha256.Sum256([]byte(read(t, file)))); got != sums[name] {
			t.Errorf("%s has the checksum %s, the list says %q", name, got, sums[name])
		}
	}
	for _, platform := range []string{"darwin_amd64", "darwin_arm64", "linux_amd64", "linux_arm64"} {
		name := fmt.Sprintf("shopper-sandbox_%s_%s.tar.gz", r.version, platform)
		archived, err := untarred(filepath.Join(r.folder, name))
		if err != nil {
			t.Fatal(err)
		}
		holds(t, name, archived, "shopper-sandbox")
	}
}

// holds checks the files in an archive: its program, these others, the license, and the notices, which name each module that
// the program says it is linked from, and Go.
func holds(t *testing.T, archive string, files map[string][]byte, program string, others ...string) {
	t.Helper()
	const notices = "THIRD_PARTY_NOTICES"
	want := slices.Sorted(slices.Values(append(others, "LICENSE", notices, program)))
	if names := slices.Sorted(maps.Keys(files)); !slices.Equal(names, want) {
		t.Errorf("%s holds %q, want %q", archive, names, want)
	}
	info, err := buildinfo.Read(bytes.NewReader(files[program]))
	if err != nil {
		t.Fatalf("%s: %v", archive, err)
	}
	modules := []string{"Go " + info.GoVersion}
	for _, m := range info.Deps {
		modules = append(modules, m.Path+" "+m.Version)
	}
	if len(modules) < 10 {
		t.Errorf("%s: the program has only the modules %q", archive, modules)
	}
	for _, m := range modules {
		if !bytes.Contains(files[notices], []byte("\n"+m+"\n")) {
			t.Errorf("%s: the notices don't name %s", archive, m)
		}
	}
}

// The CLI installs the release from a mirror, and the quick start runs on it.
func TestE2EReleaseFromMirror(t *testing.T) {
	t.Parallel()
	r := newRelease(t)
	w := newWorld(t, "-offers", "", "-machines", "", "-speed", "60")
	s := w.example(t, "s", "quickstart")
	mirror := filepath.Join(w.dir, "mirror")
	for _, registry := range []string{"registry.terraform.io", "registry.opentofu.org"} {
		packed := filepath.Join(mirror, registry, "cloud-gpu-shopper", "shopper")
		if err := os.MkdirAll(packed, 0o700); err != nil {
			t.Fatal(err)
		}
		for _, archive := range r.archives {
			write(t, filepath.Join(packed, filepath.Base(archive)), read(t, archive))
		}
	}
	write(t, s.cliConfig(), fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", mirror))
	says(t, s.must(t, 0, "init", "-input=false", "-no-color"), "cloud-gpu-shopper/shopper v"+r.version, "successfully initialized")
	s.applied(t, func(said string) { says(t, said, "healthy = true") })
	w.accounted(t, []*stack{s})
	programs, err := filepath.Glob(filepath.Join(s.data, "providers", "*", "*", "*", r.version, "*", providerName+"*"))
	if err != nil || len(programs) != 1 {
		t.Fatalf("installed: %q, %v", programs, err)
	}
	version, err := exec.CommandContext(t.Context(), programs[0], "-version").Output()
	if err != nil || strings.TrimSpace(string(version)) != r.version {
		t.Errorf("it says that it is version %q, want %q: %v", version, r.version, err)
	}
}
