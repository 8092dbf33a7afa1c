package process

import (
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/server"
)

// Of two starts in one directory, such as one that was cut off and its repetition, the first is the server.
func TestSecondStartFindsTheFirst(t *testing.T) {
	t.Parallel()
	h, ref := start(t, "exec sleep 1000", nil)
	id, err := h.launch(within(t), ref.Directory, nil, "sh", "-c", "exec sleep 1000")
	if err != nil || id != ref.ID {
		t.Errorf("another start says %q, %v; the server is %q", id, err, ref.ID)
	}
}

// A server whose supervisor was killed alone is seen to run, and can be replaced, restored and removed like any other.
func TestOrphanedServer(t *testing.T) {
	t.Parallel()
	h, ref := start(t, "exec sleep 1000", map[string]string{"VLLM_API_KEY": "planted-key"})
	pid, _, _ := strings.Cut(ref.ID, "-")
	supervisor, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an orphan", func() bool { return inspect(t, h, ref).State == server.Orphaned })
	if status := inspect(t, h, ref); status.ID != ref.ID || status.ExitCode != 0 {
		t.Errorf("status %+v", status)
	}
	aside, err := h.SetAside(within(t), ref, server.Stop{})
	if err != nil || !aside.WasRunning || aside.APIKey != "planted-key" {
		t.Fatalf("aside %+v, %v", aside, err)
	}
	if left := session(t, pid); len(left) > 0 || inspect(t, h, ref).State != server.Exited {
		t.Errorf("left: %v; %s", left, inspect(t, h, ref).State)
	}
	restored, err := aside.Restore(within(t))
	if err != nil || inspect(t, h, restored).State != server.Running {
		t.Errorf("restored as %s, %v", restored.ID, err)
	}
}
