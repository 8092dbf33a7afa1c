package machine_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

func TestCommandsRunInALoginOfTheirOwn(t *testing.T) {
	t.Setenv("TESTER_SECRET", "must not get in")
	k := newKey(t)
	m := start(t, vm(), k)
	client := dial(t, m, k)
	home := m.Root().Home()
	if got := strings.TrimSpace(output(t, client, "pwd")); got != home {
		t.Errorf("commands start in %s, not in %s", got, home)
	}
	env := map[string]string{}
	for line := range strings.Lines(output(t, client, "env")) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		env[name] = value
	}
	for name, want := range map[string]string{
		"HOME": home, "USER": "ubuntu", "LOGNAME": "ubuntu", "SHELL": "/bin/sh", "LANG": "C.UTF-8",
		"TMPDIR": m.Root().Tmp(), machinefs.Env: string(m.Root()), "TESTER_SECRET": "",
	} {
		if env[name] != want {
			t.Errorf("%s = %q, want %q", name, env[name], want)
		}
	}
	if !strings.HasPrefix(env["PATH"], m.Root().Bin()+":") {
		t.Errorf("PATH = %q", env["PATH"])
	}
	if env["HOME"] == os.Getenv("HOME") {
		t.Error("the tester's home is the machine's")
	}
}

func TestExitCodesAndSignals(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	client := dial(t, start(t, vm(), k), k)
	for _, test := range []struct {
		command string
		want    result
	}{
		{"echo out; echo err >&2", result{stdout: "out\n", stderr: "err\n"}},
		{"exit 7", result{code: 7}},
		{"no-such-program", result{code: 127, stderr: "sh: 1: no-such-program: not found\n"}},
		{"kill -TERM $$", result{signal: "TERM"}},
		{"kill -KILL $$", result{signal: "KILL"}},
		{`printf '%s' "a b"  'c;d'`, result{stdout: "a bc;d"}},
	} {
		got := run(t, client, test.command)
		if test.want.signal != "" {
			got.code = 0
		}
		if got != test.want {
			t.Errorf("%s: %+v, want %+v", test.command, got, test.want)
		}
	}
	big := strings.Repeat("0123456789", 100_000)
	if got := runWith(t, client, "cat", strings.NewReader(big)); got.stdout != big {
		t.Errorf("cat gave %d of %d bytes back", len(got.stdout), len(big))
	}
}

func TestADirectoryWithTooLongANameIsRefused(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	m, err := machine.Start(machine.Options{Dir: dir, Facts: vm()})
	if err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("got %v, %v", m, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
