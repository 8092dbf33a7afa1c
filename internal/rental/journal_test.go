package rental

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

func someEntry(consumer, name, service string) entry {
	return entry{
		Version: entryVersion, Mark: newMark(consumer, name).String(), Service: service, OfferID: "o",
		Asked: time.Now().UTC(),
	}
}

func TestNoJournalRemembersNothing(t *testing.T) {
	t.Parallel()
	j := OpenJournal("")
	h, err := j.begin(someEntry("terraform", "box", "s"))
	ok(t, err)
	ok(t, h.save())
	ok(t, h.remove())
	h.release()
	ok(t, j.seen(h.mark()))
	if found, problems := j.entries("s", h.mark()); j.Dir() != "" || found != nil || problems != nil {
		t.Errorf("a journal that is turned off holds %v, %v", found, problems)
	}
}

func TestEntriesOfOthersAreUntouched(t *testing.T) {
	t.Parallel()
	j := OpenJournal(filepath.Join(t.TempDir(), "not", "there", "yet"))
	if found, problems := j.entries("s", Mark{}); found != nil || problems != nil {
		t.Errorf("a journal that was never written holds %v, %v", found, problems)
	}
	mine := someEntry("terraform", "box", "http://a")
	for _, e := range []entry{
		mine, someEntry("terraform", "box", "http://b"), someEntry("terraform", "other", "http://a"),
		someEntry("somebody", "box", "http://a"),
	} {
		h, err := j.begin(e)
		ok(t, err)
		h.release()
	}
	ok(t, os.WriteFile(filepath.Join(j.dir, "notes.json"), []byte("mine"), 0o600))
	found, problems := j.entries("http://a", Mark{Consumer: "terraform", Name: "box"})
	if len(problems) > 0 || len(found) != 1 || found[0].Mark != mine.Mark || !found[0].Asked.Equal(mine.Asked) {
		t.Errorf("found %v, %v", found, problems)
	}
	ok(t, j.seen(mine.mark()))
	ok(t, j.seen(mine.mark())) // again, for nothing
	files, err := filepath.Glob(filepath.Join(j.dir, "*.json"))
	if err != nil || len(files) != 4 {
		t.Errorf("it holds %v, %v", files, err)
	}
}

func TestLockLeftBehindIsHarmless(t *testing.T) {
	t.Parallel()
	j := OpenJournal(t.TempDir())
	e := someEntry("terraform", "box", "s")
	ok(t, os.WriteFile(j.path(e.mark(), ".lock"), nil, 0o600))
	h, err := j.begin(e)
	ok(t, err)
	h.release()
	ok(t, os.WriteFile(j.path(newMark("terraform", "box"), ".lock"), nil, 0o600)) // without an entry
	found, problems := j.entries("s", e.mark())
	if len(found) != 1 || problems != nil {
		t.Fatalf("found %v, %v", found, problems)
	}
	h, mine, err := j.hold(found[0])
	if err != nil || !mine {
		t.Fatalf("it can't be held: %v, %v", mine, err)
	}
	ok(t, h.remove())
	if _, err := os.Stat(j.path(e.mark(), ".lock")); !os.IsNotExist(err) {
		t.Errorf("the lock stays: %v", err)
	}
}

// TestJournalHoldsNoSecret reads what is on disk while a machine is waited for.
func TestJournalHoldsNoSecret(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		var text string
		o := order("box")
		o.OnStartCmd, o.TemplateHashID = "export HF_TOKEN=hf_secret", "tmpl"
		o.Progress = func(string, ...any) {
			files, _ := filepath.Glob(filepath.Join(w.dir, "*"))
			for _, file := range files {
				data, err := os.ReadFile(file)
				ok(t, err)
				text += string(data)
				if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("%s can be read by others: %v", file, info.Mode())
				}
			}
		}
		rental, err := w.process().Rent(t.Context(), o)
		ok(t, err)
		ok(t, rental.HandOver())
		w.state["box"] = rental
		for _, secret := range []string{rental.PrivateKey, "hf_secret", "HF_TOKEN"} {
			if strings.Contains(text, secret) {
				t.Errorf("the journal holds %q", secret)
			}
		}
		var e map[string]any
		data, err := os.ReadFile(rental.heldPath(w.dir))
		ok(t, err)
		ok(t, json.Unmarshal(data, &e))
		for name := range e {
			if !slices.Contains(strings.Fields("version mark service offer_id asked session_id handed_over"), name) {
				t.Errorf("the entry has an unexpected %s", name)
			}
		}
		if asked, _ := e["asked"].(string); !strings.HasSuffix(asked, "Z") {
			t.Errorf("the time is %q, want UTC", asked)
		}
		if !strings.Contains(text, rental.Session.ID) || !strings.Contains(text, rental.Mark.String()) {
			t.Errorf("the journal doesn't know the mark or the id:\n%s", text)
		}
	})
}

func (r *Rental) heldPath(dir string) string { return OpenJournal(dir).path(r.Mark, ".json") }

// TestEntryIsWrittenBeforeTheRequest: the journal is a write-ahead log.
func TestEntryIsWrittenBeforeTheRequest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		looked := false
		o := order("box")
		o.Progress = func(format string, _ ...any) {
			if !strings.HasPrefix(format, "Renting") {
				return
			}
			looked = true
			found, problems := OpenJournal(w.dir).entries("http://fake", Mark{Consumer: "terraform", Name: "box"})
			if len(found) != 1 || problems != nil || found[0].SessionID != "" || w.f.count("create") != 0 {
				t.Errorf("before the request it holds %v, %v", found, problems)
			}
		}
		rental, err := w.process().Rent(t.Context(), o)
		ok(t, err)
		ok(t, rental.HandOver())
		w.state["box"] = rental
		if !looked {
			t.Error("nobody looked")
		}
		ok(t, w.process().Seen(rental.Session.ConsumerID))
		if files, _ := os.ReadDir(w.dir); len(files) != 0 {
			t.Errorf("what is in state is still remembered: %v", files)
		}
	})
}

// TestUnwritableJournal is a directory in which nothing can be made.
func TestUnwritableJournal(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Skip("SKIPPED: root can write everywhere; TestJournalInTrouble has a directory that is none")
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		ok(t, os.Chmod(w.dir, 0o500))
		ok(t, w.apply(t.Context(), w.process(), order("box")))
		if len(w.state["box"].Warnings) != 1 {
			t.Errorf("the warnings are %q", w.state["box"].Warnings)
		}
	})
}

// start runs a process that holds an entry, and returns its mark.
func start(t *testing.T, dir string) (*exec.Cmd, Mark) {
	t.Helper()
	self, err := os.Executable()
	ok(t, err)
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^$")
	cmd.Env = append(os.Environ(), holderVariable+"="+dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	ok(t, err)
	t.Cleanup(func() { _ = stdin.Close() })
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	ok(t, err)
	mark, valid := ParseMark(strings.TrimSpace(line))
	if !valid {
		t.Fatalf("the process says %q", line)
	}
	return cmd, mark
}

// TestEntryOfAnotherProcess: held while that lives, a leftover once it is killed.
func TestEntryOfAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var wait sync.WaitGroup
	cmds := make([]*exec.Cmd, 3)
	for i := range cmds {
		wait.Go(func() { cmds[i], _ = start(t, dir) })
	}
	wait.Wait()
	r := New(newFake(), Config{Consumer: "terraform", Journal: OpenJournal(dir)})
	check := func(want int) {
		t.Helper()
		if left, err := r.Leftovers("box"); err != nil || len(left) != want {
			t.Fatalf("the leftovers are %q, %v; want %d", left, err, want)
		}
	}
	check(0)
	for i, cmd := range cmds {
		ok(t, cmd.Process.Kill())
		_ = cmd.Wait()
		check(i + 1)
	}
	found, _ := r.journal.entries("http://fake", r.Mark("box"))
	if len(found) != 3 {
		t.Fatalf("the entries are %v", found)
	}
	// Two processes that find a leftover at once don't both work on it.
	h, mine, err := r.journal.hold(found[0])
	if err != nil || !mine {
		t.Fatalf("it can't be held: %v, %v", mine, err)
	}
	if _, again, err := OpenJournal(dir).hold(found[0]); err != nil || again {
		t.Errorf("it is held twice: %v, %v", again, err)
	}
	h.release()
}

// TestConcurrentWriters: every process's entry is complete whenever it is read.
func TestConcurrentWriters(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			j := OpenJournal(dir)
			for range 10 {
				h, err := j.begin(someEntry("terraform", "box", "s"))
				if err != nil {
					t.Error(err)
					return
				}
				h.SessionID = "s1"
				if err := h.save(); err != nil {
					t.Error(err)
				}
				if _, problems := j.entries("s", h.mark()); len(problems) > 0 {
					t.Error(problems)
				}
				if err := h.remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	if files, err := os.ReadDir(dir); err != nil || len(files) > 0 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

// TestTamperedEntryReleasesNobodyElsesSession: the id in an entry counts only
// where the session carries the entry's mark.
func TestTamperedEntryReleasesNobodyElsesSession(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"theirs", "../theirs", "nowhere", strings.Repeat("x", 300)} {
		t.Run(id[:min(len(id), 20)], func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				defer w.nothing()
				ok(t, w.apply(t.Context(), w.process(), order("other")))
				w.f.fault("get", 2, verdict{crash: true})
				if !w.crashing(func() { _, _ = w.process().Rent(t.Context(), order("box")) }) {
					t.Fatal("it didn't die")
				}
				w.edit(func(e *entry) {
					if e.mark().Name == "box" {
						e.SessionID = strings.ReplaceAll(id, "theirs", w.state["other"].Session.ID)
					}
				})
				released, err := w.process().Settle(t.Context(), "box")
				if err != nil || len(released) != 1 || released[0] != w.f.row(t, "box").ID {
					t.Errorf("released %v, %v", released, err)
				}
				w.known()
			})
		})
	}
}

func TestBoundOnEntries(t *testing.T) { // QA1-011
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		j := OpenJournal(dir)
		for range maxProblems + 5 {
			ok(t, write(dir, newMark("a", "b").Token+".json", "{"))
		}
		if _, problems := j.entries("s", Mark{}); len(problems) != maxProblems {
			t.Errorf("%d problems are told", len(problems))
		}
	})
}

var _ Service = (*shopper.Client)(nil)
