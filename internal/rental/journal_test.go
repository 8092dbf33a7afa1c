package rental

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/journal"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/shopper"
)

var _ Service = (*shopper.Client)(nil)

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
			files, _ := filepath.Glob(filepath.Join(w.dir, "*", "*"))
			for _, file := range files {
				data, err := os.ReadFile(file)
				ok(t, err)
				text += string(data)
				// Windows keeps others out by the directory's owner, and has no such bits.
				if info, err := os.Stat(file); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
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
		data, err := os.ReadFile(filepath.Join(w.entries(), rental.Mark.Token+".json"))
		ok(t, err)
		ok(t, json.Unmarshal(data, &e))
		for name := range e {
			if !slices.Contains(strings.Fields("version mark service computer run offer_id asked session_id handed_over"), name) {
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
			w.edit(func(e *entry) {
				if e.SessionID != "" || e.HandedOver || w.f.count("create") != 0 {
					t.Errorf("before the request it holds %v", e)
				}
			})
			if files, _ := filepath.Glob(filepath.Join(w.entries(), "*.json")); len(files) != 1 {
				t.Errorf("before the request it holds %v", files)
			}
		}
		rental, err := w.process().Rent(t.Context(), o)
		ok(t, err)
		ok(t, rental.HandOver())
		w.state["box"] = rental
		if !looked {
			t.Error("nobody looked")
		}
		ok(t, w.process().Seen(rental.Session.ConsumerID, ""))
		if files, _ := os.ReadDir(w.dir); len(files) != 0 {
			t.Errorf("what is in state is still remembered: %v", files)
		}
	})
}

// TestUnwritableJournal is a directory in which nothing can be made.
func TestUnwritableJournal(t *testing.T) {
	t.Parallel()
	if os.Geteuid() <= 0 { // -1 on Windows, where directories have no such bits
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

// start runs a process that has locked the name box and rents under it.
func start(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	ok(t, err)
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^$")
	cmd.Env = append(os.Environ(), holderVariable+"="+dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	ok(t, err)
	t.Cleanup(func() {
		_ = stdin.Close() // which ends it
		_ = cmd.Wait()
	})
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "locked\n" {
		t.Fatalf("the process says %q, %v", line, err)
	}
	return cmd
}

// TestEntryOfAnotherProcess: nobody's business while that lives, a leftover once
// it is killed, also where an earlier one left its own.
func TestEntryOfAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := New(newFake(), Config{Consumer: "terraform", Journal: journal.Open(dir, "another")})
	r.askLimit = -time.Hour // what was asked for is over
	for want := 1; want <= 3; want++ {
		cmd := start(t, dir)
		if left, err := r.Leftovers(t.Context(), Names{Name: "box"}); err != nil || len(left) > 0 {
			t.Fatalf("while another process is at work the leftovers are %q, %v", left, err)
		}
		ok(t, cmd.Process.Kill())
		_ = cmd.Wait()
		name, err := r.journal.TryLock(r.key(r.Mark("box")))
		ok(t, err)
		if entries, problems := r.entries(name); len(entries) != want || len(problems) > 0 || !r.isLeftover(entries[0]) {
			t.Fatalf("the entries are %v, %v; want %d", entries, problems, want)
		}
		name.Unlock()
	}
	// Nothing is there of them, and nothing can come: they are forgotten.
	if left, err := r.Leftovers(t.Context(), Names{Name: "box"}); err != nil || len(left) > 0 || r.journal.Knows(r.key(r.Mark("box"))) {
		t.Errorf("the leftovers are %q, %v", left, err)
	}
}

// TestAnotherRunAtWorkIsWaitedFor: what one whose Terraform was killed is still
// releasing is neither a leftover nor a conflict.
func TestAnotherRunAtWorkIsWaitedFor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd := start(t, dir)
	synctest.Test(t, func(t *testing.T) { // the time is the bubble's, the other process is real
		w := newWorld(t)
		defer w.nothing()
		w.dir = dir
		done := make(chan error, 1)
		go func() { done <- w.apply(t.Context(), w.process(), order("box")) }()
		<-time.After(lockPatience / 2)
		if w.f.count("ready") > 0 {
			t.Error("it was not waited for")
		}
		ok(t, cmd.Process.Kill())
		_ = cmd.Wait()
		ok(t, <-done)
	})
}

// TestAnotherRunAtWorkForTooLong ends in a conflict, and rents nothing.
func TestAnotherRunAtWorkForTooLong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start(t, dir)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.dir = dir
		begun := time.Now()
		fails[*ConflictError](t, w.apply(t.Context(), w.process(), order("box")), "Another run is using the name")
		if waited := time.Since(begun); waited != lockPatience || w.f.count("create") > 0 {
			t.Errorf("after %s, %d requests to rent", waited, w.f.count("create"))
		}
	})
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
				left, err := w.process().Settle(t.Context(), Names{Name: "box"})
				if err != nil || len(left.Released) != 1 || left.Released[0] != w.f.row(t, "box").ID {
					t.Errorf("released %v, %v", left.Released, err)
				}
				w.known()
			})
		})
	}
}

// TestEntryOfAnotherComputerIsNoLeftover: a mounted directory is seen from two
// computers, whose locks may not reach each other.
func TestEntryOfAnotherComputerIsNoLeftover(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.nothing()
		w.f.fault("get", 2, verdict{crash: true})
		if !w.crashing(func() { _, _ = w.process().Rent(t.Context(), order("box")) }) {
			t.Fatal("it didn't die")
		}
		var here string
		w.edit(func(e *entry) { here, e.Computer = e.Computer, "elsewhere" })
		w.extra[w.f.row(t, "box").ID] = true
		fails[*ConflictError](t, w.apply(t.Context(), w.process(), order("box")), w.f.row(t, "box").ID)
		w.edit(func(e *entry) { e.Computer = here })
		ok(t, w.apply(t.Context(), w.process(), order("box")))
		w.atMost("box", 1)
	})
}
