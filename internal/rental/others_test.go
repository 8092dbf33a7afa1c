package rental

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestWaitsForAnotherProcess: what another process is still giving back is
// neither a leftover nor a conflict, and is waited for.
func TestWaitsForAnotherProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd, _ := start(t, dir)
	r := &run{Renter: New(newFake(), Config{Consumer: "terraform", Journal: OpenJournal(dir)})}
	name := r.Mark("box")
	if !r.othersAtWork(name) || r.othersAtWork(r.Mark("other")) {
		t.Error("it is not seen who works on what")
	}
	synctest.Test(t, func(t *testing.T) { // the time is the bubble's, the other process is real
		began, waited := time.Now(), make(chan struct{})
		go func() {
			r.waitForOthers(t.Context(), name)
			close(waited)
		}()
		<-time.After(othersLimit / 2)
		select {
		case <-waited:
			t.Error("it was not waited for")
		default:
		}
		ok(t, cmd.Process.Kill())
		_ = cmd.Wait()
		<-waited
		if time.Since(began) >= othersLimit {
			t.Error("that the other process ended was not seen")
		}
	})

	// What this process itself works on, be it through another alias of the
	// provider, is not waited for: that would be for ever.
	entries, _ := r.journal.entries(r.service.URL(), name)
	h, mine, err := r.journal.hold(entries[0])
	if err != nil || !mine {
		t.Fatalf("it can't be held: %v, %v", mine, err)
	}
	defer h.release()
	alias := New(newFake(), Config{Consumer: "terraform", Journal: OpenJournal(dir)})
	if r.othersAtWork(name) || alias.othersAtWork(name) {
		t.Error("this process waits for itself")
	}
}
