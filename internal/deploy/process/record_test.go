package process

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/deploy"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

func TestReleaseOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"0.33.0": "0.33.0", "vllm 0.33.0": "0.33.0", "v0.33.0": "0.33.0", "0.33.0+cu129": "0.33.0+cu129", "": "", "no version here": "",
		"INFO 11-24 automatically detected platform\n0.11.0": "0.11.0",
		"newest": "",
	} {
		if got := releaseOf(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// Any value of a variable arrives unchanged, through a real shell.
func FuzzEnvironmentThroughAShell(f *testing.F) {
	for _, value := range []string{"", "plain", "a b", "$(x)", "`x`", "'\"\\", "line\nline\n\n", "%s%n\\0101\\c", "-n", "é\xff\x01\t\r", "*~?[a]", "a=b"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if strings.ContainsRune(value, 0) || len(value) > 20000 {
			return // no variable is given this
		}
		const script = `while IFS= read -r line && [ -n "$line" ]; do
			value=$(printf '%b.' "${line#*=}")
			export "${line%%=*}=${value%.}"
		done
		printf '%s.' "$VALUE"`
		if !strings.Contains(launcherScript, `value=$(printf '%b.' "${line#*=}")`) {
			t.Fatal("the launcher reads its environment in another way")
		}
		result, err := local{}.Run(within(t), host.Command{Args: []string{"sh", "-c", script}, Stdin: strings.NewReader(encodeEnvironment(map[string]string{"VALUE": value}))})
		if err != nil || result.ExitCode != 0 || result.Stdout != value+"." {
			t.Errorf("sent %q, got %q (%v, %d, %s)", value, result.Stdout, err, result.ExitCode, result.Stderr)
		}
	})
}

func FuzzParseStatus(f *testing.F) {
	f.Add("identity 12 345\nstate running\nexit 1 2 3\nrestarts 2 1\nsettled yes\nrecord {\"Name\":\"x\"}\n")
	f.Add("server a.1\nstate gone\nserver ../x\nstate running\n")
	f.Fuzz(func(t *testing.T, output string) {
		status := parseStatus(output).status(deploy.Ref{})
		if status.RestartLoop && status.State == "" {
			t.Error("no state")
		}
		for _, seen := range parseList("/base", output) {
			if filepath.Dir(seen.directory) != "/base/servers" {
				t.Errorf("directory %q", seen.directory)
			}
		}
	})
}

// A state that this version doesn't know is Unknown, and no error.
func TestUnknownStateWord(t *testing.T) {
	t.Parallel()
	for word, want := range map[string]deploy.State{
		"running": deploy.Running, "restarting": deploy.Restarting, "exited": deploy.Exited, "orphaned": deploy.Orphaned, "hibernating": deploy.Unknown,
	} {
		if got := parseStatus("identity 12 345\nstate " + word + "\nnews of a later version\n").status(deploy.Ref{}).State; got != want {
			t.Errorf("%q is %s, want %s", word, got, want)
		}
	}
}
