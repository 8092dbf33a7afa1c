package machine_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// victimEnv makes this test binary a sandbox that is about to be killed: its value
// is the key that may log in.
const victimEnv = "SANDBOX_TEST_VICTIM_KEY"

func beVictim() {
	m, err := machine.Start(machine.Options{Facts: vm(), AuthorizedKeys: []string{os.Getenv(victimEnv)}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintf(os.Stdout, "%s\n%s\n", m.Addr(), m.Root())
	select {}
}

func TestNothingOutlivesASandboxThatWasKilled(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	victim := exec.CommandContext(t.Context(), exe)
	victim.Env = append(os.Environ(), victimEnv+"="+k.line())
	victim.Stderr = os.Stderr
	stdout, err := victim.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	lines.Scan()
	addr := lines.Text()
	lines.Scan()
	root := machinefs.Root(lines.Text())
	t.Cleanup(func() { _ = os.RemoveAll(string(root)) })

	client := dialAddr(t, addr, "ubuntu", k)
	output(t, client, "nohup setsid sleep 1000 >/dev/null 2>&1 </dev/null &")
	testkit.Eventually(t, "the sleeping process is seen", func() bool { return len(root.Processes()) == 1 })
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = victim.Wait()
	testkit.Eventually(t, "no process and no directory", func() bool {
		_, err := os.Stat(string(root))
		return os.IsNotExist(err) && len(root.Processes()) == 0
	})
}
