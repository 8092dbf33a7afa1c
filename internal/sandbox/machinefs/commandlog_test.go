package machinefs_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

func newRoot(t *testing.T) machinefs.Root {
	t.Helper()
	root := machinefs.Root(t.TempDir())
	if err := root.Create(); err != nil {
		t.Fatal(err)
	}
	return root
}

func TestCommandLinesAreRecordedAsTheyAre(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	long := strings.Repeat("x", 100<<10)
	for _, line := range []string{"echo 'a\nb'", "", "sh -c \"$(x)\" \x00\u2028", long} {
		if err := root.Record(line); err != nil {
			t.Fatal(err)
		}
	}
	got, err := root.Commands()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"echo 'a\nb'", "", "sh -c \"$(x)\" \x00\u2028", long[:64<<10]}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestManyRecordAtOnce(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	if got, err := root.Commands(); len(got) != 0 || err != nil {
		t.Fatalf("a new machine's record: %v, %v", got, err)
	}
	var writers sync.WaitGroup
	for i := range 8 {
		writers.Go(func() {
			for j := range 50 {
				if err := root.Record(strconv.Itoa(i) + "/" + strconv.Itoa(j)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	got, err := root.Commands()
	if err != nil || len(got) != 400 {
		t.Errorf("%d lines, %v", len(got), err)
	}
}

func TestTheRecordIsBounded(t *testing.T) {
	t.Parallel()
	root := newRoot(t)
	line := strings.Repeat("y", 64<<10)
	for range 80 { // 5 MiB
		if err := root.Record(line); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := root.Commands(); err != nil || len(got) < 60 || len(got) > 65 {
		t.Errorf("%d lines, %v", len(got), err)
	}
}

func TestShadeHidesOnlyWhatItNames(t *testing.T) {
	t.Parallel()
	root, shade := newRoot(t), t.TempDir()
	if before := root.Path(); before != root.Bin()+":/usr/local/bin:/usr/bin:/bin" {
		t.Fatalf("PATH = %s", before)
	}
	if err := machinefs.MakeShade(shade, []string{"sh"}); err != nil {
		t.Fatal(err)
	}
	if err := root.Shade(shade); err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for dir := range strings.SplitSeq(root.Path(), ":") {
		for _, name := range []string{"sh", "ls"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				found[name] = true
			}
		}
	}
	if found["sh"] || !found["ls"] {
		t.Errorf("on PATH %s: %v", root.Path(), found)
	}
}
