package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

type note struct {
	Text string `json:"text"`
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func lock(t *testing.T, j *Journal, name string) *Name {
	t.Helper()
	n, err := j.TryLock(name)
	ok(t, err)
	return n
}

// texts are a name's entries as "id: text".
func texts(t *testing.T, n *Name) []string {
	t.Helper()
	entries, problems := n.Entries()
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var all []string
	for _, e := range entries {
		var v note
		ok(t, e.Decode(&v))
		all = append(all, e.ID+": "+v.Text)
	}
	return all
}

func TestJournalThatIsOffRemembersNothing(t *testing.T) {
	t.Parallel()
	j := Open("", "run")
	n := lock(t, j, "a")
	ok(t, n.Write("x", note{"kept"}))
	ok(t, n.Remove("x"))
	if entries, problems := n.Entries(); j.Dir() != "" || j.Run() != "" || j.Knows("a") || entries != nil || problems != nil {
		t.Errorf("it holds %v, %v", entries, problems)
	}
	n.Unlock()
}

func TestEntriesLastUntilTheyAreRemoved(t *testing.T) {
	t.Parallel()
	j := Open(filepath.Join(t.TempDir(), "not", "there", "yet"), "run")
	if j.Knows("a") {
		t.Error("a journal that was never written knows a name")
	}
	n := lock(t, j, "a")
	ok(t, n.Write("x", note{"first"}))
	ok(t, n.Write("x", note{"second"}))
	ok(t, n.Write("y", note{"other"}))
	n.Unlock()
	n.Unlock() // again, for nothing
	if other := lock(t, j, "A"); len(texts(t, other)) > 0 {
		t.Error("another name has entries")
	} else {
		other.Unlock()
	}
	n = lock(t, j, "a")
	if got := strings.Join(texts(t, n), ", "); got != "x: second, y: other" {
		t.Errorf("it holds %s", got)
	}
	ok(t, n.Remove("x"))
	ok(t, n.Remove("x"))
	ok(t, n.Remove("y"))
	n.Unlock()
	if files, err := os.ReadDir(j.Dir()); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func TestNameIsLockedOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, second := Open(dir, "one"), Open(dir, "two")
	n := lock(t, first, "a")
	if _, err := second.TryLock("a"); !errors.Is(err, ErrLocked) {
		t.Errorf("it is locked twice: %v", err)
	}
	if run := second.Holder("a"); run != "one" {
		t.Errorf("the holder is %q", run)
	}
	lock(t, second, "b").Unlock()
	n.Unlock()
	n = lock(t, second, "a")
	if run := first.Holder("a"); run != "two" {
		t.Errorf("the holder is %q", run)
	}
	n.Unlock()
}

// Names are locked and unlocked, and their directories made and removed, by many
// at once: no two hold one at a time, and each sees what the last one wrote.
func TestLockHoldsWhileDirectoriesComeAndGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var (
		inside sync.Mutex
		all    sync.WaitGroup
	)
	for i := range 4 {
		j := Open(dir, fmt.Sprint(i))
		all.Go(func() {
			for done := 0; done < 25; {
				n, err := j.TryLock("a")
				if errors.Is(err, ErrLocked) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if !inside.TryLock() {
					t.Error("two hold the name at once")
					return
				}
				err = errors.Join(n.Write("x", note{j.Run()}), n.Remove("x"))
				if err != nil || len(texts(t, n)) > 0 {
					t.Error("it holds what nobody wrote, or can't be written: ", err)
				}
				inside.Unlock()
				n.Unlock()
				done++
			}
		})
	}
	all.Wait()
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func TestBadEntriesHideNoOther(t *testing.T) {
	t.Parallel()
	j := Open(t.TempDir(), "run")
	n := lock(t, j, "a")
	ok(t, n.Write("good", note{"kept"}))
	ok(t, os.WriteFile(filepath.Join(n.dir, "cut.json"), []byte(`{"te`), 0o600))
	ok(t, os.WriteFile(filepath.Join(n.dir, "huge.json"), []byte(strings.Repeat(" ", MaxEntrySize+1)), 0o600))
	ok(t, os.Mkdir(filepath.Join(n.dir, "folder.json"), 0o700))
	ok(t, os.WriteFile(filepath.Join(n.dir, "notes.txt"), nil, 0o600))
	entries, problems := n.Entries()
	if len(entries) != 1 || entries[0].ID != "good" || len(problems) != 3 {
		t.Errorf("it reads %v, %v", entries, problems)
	}
	for _, problem := range problems {
		if typed, is := errors.AsType[*Error](problem); !is || typed.Dir != j.Dir() {
			t.Errorf("the error is %v", problem)
		}
	}
	n.Unlock()
	if !j.Knows("a") {
		t.Error("what can't be read is forgotten")
	}
}

// An entry that a crash left half written goes with the next unlock.
func TestHalfWrittenEntryGoes(t *testing.T) {
	t.Parallel()
	j := Open(t.TempDir(), "run")
	n := lock(t, j, "a")
	ok(t, os.WriteFile(filepath.Join(n.dir, "x.new"), []byte(`{"te`), 0o600))
	n.Unlock()
	if files, err := os.ReadDir(j.Dir()); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func TestDirectoryThatCantBeMadeIsAnError(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	ok(t, os.WriteFile(file, nil, 0o600))
	j := Open(file, "run")
	if _, err := j.TryLock("a"); err == nil || errors.Is(err, ErrLocked) {
		t.Errorf("the error is %v", err)
	}
	if !j.Knows("a") {
		t.Error("it claims to know that nothing is written down")
	}
	j = Open(t.TempDir(), "run")
	ok(t, os.WriteFile(j.path("a"), nil, 0o600)) // no directory
	if _, err := j.TryLock("a"); err == nil || errors.Is(err, ErrLocked) {
		t.Errorf("the error is %v", err)
	}
}

func TestRunIsTheParents(t *testing.T) {
	t.Parallel()
	if run := Run(); run != Run() || !strings.HasPrefix(run, fmt.Sprint(os.Getppid())) {
		t.Errorf("the run is %q", run)
	}
}
