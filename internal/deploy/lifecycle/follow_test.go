package lifecycle_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/container"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/lifecycle"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy/process"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

func runtimeOf(t *testing.T, r *rig, ref deploy.Ref) deploy.Runtime {
	t.Helper()
	var opened deploy.Runtime
	var err error
	if ref.Runtime == deploy.Container {
		opened, err = container.Reach(within(t, limit), r)
	} else {
		opened, err = process.At(r, process.Options{Directory: ref.Base()}, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() })
	return opened
}

// running are the command lines of the machine's processes.
func (r *rig) running() string {
	var lines strings.Builder
	for _, pid := range r.machine.Root().Processes() {
		line, _ := os.ReadFile("/proc/" + itoa(pid) + "/cmdline") // it may have ended
		lines.WriteString(strings.ReplaceAll(string(line), "\x00", " ") + "\n")
	}
	return lines.String()
}

// readUntil reads a stream up to a line with the words, or to its end, and returns what it read.
func readUntil(stream io.Reader, words string) (text string, found bool) {
	lines := bufio.NewScanner(stream)
	for lines.Scan() {
		text += lines.Text() + "\n"
		if strings.Contains(lines.Text(), words) {
			return text, true
		}
	}
	return text, false
}

// A followed log has its last lines and then what is written, to the server's end. Nothing of it is left on the machine.
func TestFollow(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, r *rig, request func() lifecycle.Request) {
		t.Helper()
		status := launch(t, r, request())
		runtime := runtimeOf(t, r, status.Ref)
		ctx, cancel := context.WithCancel(within(t, limit))
		given, err := runtime.Follow(ctx, status.Ref, 60)
		if err != nil {
			t.Fatal(err)
		}
		if text, found := readUntil(given, "Application startup complete"); !found {
			t.Errorf("it isn't in the log:\n%s", text)
		}
		if status.Runtime == deploy.Process && !strings.Contains(r.running(), "tail ") {
			t.Error("this test doesn't see the machine's processes")
		}
		cancel()
		if _, err := io.ReadAll(given); err == nil {
			t.Error("the stream ended before its context")
		}
		testkit.Eventually(t, "the end of what followed the log", func() bool { return !strings.Contains(r.running(), "tail -n 60") })

		stream, err := runtime.Follow(within(t, limit), status.Ref, 5)
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		remove(t, r, status)
		text, ended := readUntil(stream, deploy.EndLine)
		if ended != (status.Runtime == deploy.Process) {
			t.Errorf("the log ends with\n%s", text)
		}
	})
}
