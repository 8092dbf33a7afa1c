package rental

import (
	"testing"
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
	waited := make(chan struct{})
	go func() {
		r.waitForOthers(t.Context(), name)
		close(waited)
	}()
	select {
	case <-waited:
		t.Error("it was not waited for")
	case <-time.After(300 * time.Millisecond):
	}
	ok(t, cmd.Process.Kill())
	_ = cmd.Wait()
	<-waited

	// What this process itself works on is not waited for: that would be for ever.
	entries, _ := r.journal.entries(r.service.URL(), name)
	h, mine, err := r.journal.hold(entries[0])
	if err != nil || !mine {
		t.Fatalf("it can't be held: %v, %v", mine, err)
	}
	defer h.release()
	if r.othersAtWork(name) {
		t.Error("this process waits for itself")
	}
}
