package process

import (
	"context"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/vllm"
)

// Of two starts in one directory, such as an interrupted one and its repetition, the first is the server.
func TestSecondStartFindsTheFirst(t *testing.T) {
	t.Parallel()
	h, ref := start(t, "exec sleep 1000", nil)
	id, err := h.launch(within(t), ref.Directory, nil, nil, "sh", "-c", "exec sleep 1000")
	if err != nil || id != ref.ID {
		t.Errorf("another start says %q, %v; the server is %q", id, err, ref.ID)
	}
}

// A server's variables act on the server alone, whatever their names; the launcher, in which these would break everything, neither
// obeys them nor changes them.
func TestVariablesAreTheServersAlone(t *testing.T) {
	t.Parallel()
	environment := map[string]string{
		"PATH": "/nonexistent", "IFS": "abcdeIFSr", "ENV": "/nonexistent", "LD_PRELOAD": "/nonexistent.so", "POSIXLY_CORRECT": "1",
		"dir": "/elsewhere", "pid": "1", "state": "X", "line": "a", "value": "b", "child": "1", "stopping": "yes", "tries": "x",
		"A": "a", "SERVER_A": "b", "SERVER_SERVER_A": "c", "Z": "z\nz", "SERVER_Z": "", "TWO": "a  b*",
	}
	h, ref := start(t, `/bin/cat /proc/$$/environ >"$0.out"; exec /bin/sleep 600`, environment)
	check := func(what string) {
		t.Helper()
		var got map[string]string
		testkit.Eventually(t, what, func() bool {
			got = variablesOf(read(t, filepath.Join(h.base, "program.out")), slices.Collect(maps.Keys(environment)), "")
			return len(got) > 0
		})
		if diff := cmp.Diff(environment, got); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	check("the start")
	aside, err := h.SetAside(within(t), ref, deploy.Stop{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(h.base, "program.out")); err != nil {
		t.Fatal(err)
	}
	if _, err := aside.Restore(within(t)); err != nil {
		t.Fatal(err)
	}
	check("the restored one's start")
}

// The server has its variables without the prefix.
func TestVariablesUnderTheirOwnNames(t *testing.T) {
	t.Parallel()
	names := []string{"PATH", "VLLM_API_KEY"}
	if got := variablesOf("HOME=/root\x00PATH=/bin\x00VLLM_API_KEY=k=1\x00SERVER_PATH=/usr\x00", names, ""); len(got) != 2 || got["VLLM_API_KEY"] != "k=1" {
		t.Errorf("got %v", got)
	}
}

// A server whose supervisor alone was killed is Orphaned, and can be replaced, restored and removed like any other.
func TestOrphanedServer(t *testing.T) {
	t.Parallel()
	h, ref := start(t, "exec sleep 1000", map[string]string{"VLLM_API_KEY": "planted-key"})
	pid, _, _ := strings.Cut(ref.ID, "-")
	supervisor, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the server", func() bool {
		_, err := os.Stat(filepath.Join(ref.Directory, "server"))
		return err == nil
	})
	if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "an orphan", func() bool { return inspect(t, h, ref).State == deploy.Orphaned })
	if status := inspect(t, h, ref); status.ID != ref.ID || status.ExitCode != 0 {
		t.Errorf("status %+v", status)
	}
	aside, err := h.SetAside(within(t), ref, deploy.Stop{})
	if err != nil || !aside.WasRunning || aside.APIKey != "planted-key" {
		t.Fatalf("aside %+v, %v", aside, err)
	}
	if left := session(t, pid); len(left) > 0 || inspect(t, h, ref).State != deploy.Exited {
		t.Errorf("left: %v; %s", left, inspect(t, h, ref).State)
	}
	restored, err := aside.Restore(within(t))
	if err != nil || inspect(t, h, restored).State != deploy.Running {
		t.Errorf("restored as %s, %v", restored.ID, err)
	}
}

// A directory that is removed before its program is started, such as by the clean-up of a start that was cut off, stays
// removed, and files that came in part start nothing.
func TestNothingStartsWhereSomethingIsMissing(t *testing.T) {
	t.Parallel()
	needsLinux(t)
	machine := &cutOff{most: 1 << 20}
	h, err := At(machine, Options{Directory: t.TempDir()}, "")
	if err != nil {
		t.Fatal(err)
	}
	directory := filepath.Join(h.Directory(), "servers", "x.1")
	start := func() error {
		_, err := h.launch(within(t), directory, []file{{"launcher.sh", launcherScript}}, nil, "sleep", "1000")
		return err
	}
	if err := start(); err == nil {
		t.Error("it was started in a directory that is gone")
	}
	if _, err := os.Stat(directory); err == nil {
		t.Error("the directory was made again")
	}
	if err := h.put(within(t), directory, "record.json", "{}\n"); err != nil {
		t.Fatal(err)
	}
	for _, most := range []int{0, 100, len(launcherScript)} {
		machine.most = most
		if err := start(); err == nil {
			t.Errorf("it was started with %d bytes of its files", most)
		}
	}
	if _, err := os.Stat(filepath.Join(directory, "identity")); err == nil {
		t.Error("something runs")
	}
}

// cutOff is a machine whose connection ends after so many bytes of a command's input.
type cutOff struct {
	local
	most int
}

func (c *cutOff) Run(ctx context.Context, cmd host.Command) (host.Result, error) {
	if cmd.Stdin != nil {
		cmd.Stdin = io.LimitReader(cmd.Stdin, int64(c.most))
	}
	return c.local.Run(ctx, cmd)
}

// A server's record holds no secret.
func TestRecordHoldsNoSecret(t *testing.T) {
	t.Parallel()
	text, err := newRecord(deploy.Wanted{
		Name: "chat", Certificate: "planted-certificate", Key: "planted-key",
		Environment: map[string]string{vllm.EnvAPIKey: "planted-api-key", vllm.EnvHFToken: "planted-token", "A": "b"},
	}, "/usr/bin/vllm")
	if err != nil || strings.Contains(text, "planted") || !strings.Contains(text, `"A":"b"`) || !strings.Contains(text, `"chat"`) {
		t.Errorf("%v: %s", err, text)
	}
}
