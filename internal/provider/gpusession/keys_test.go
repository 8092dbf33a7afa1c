package gpusession

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	first  = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGa4BZ1iUoGpTXyiCgQzFqOUvmLB0sQwVbNV2wPlZQKX"
	second = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1h2fQm3C4Jv8x0S7z9g3k5m6n7p8q9r0s1t2u3v4w5"
)

func TestCheckPublicKey(t *testing.T) {
	t.Parallel()
	for key, good := range map[string]bool{
		first:                     true,
		first + " ann@laptop":     true,
		first + ` $(id) '; id; "`: true,
		first + "\n" + second:     false,
		first + "\n":              false,
		"":                        false,
		"ssh-ed25519":             false,
		"ssh-ed25519 AAAA":        false,
		"host " + first:           false,
		"no-pty " + first:         false,
		`command="id" ` + first:   false,
		"# " + first:              false,
		"@revoked " + first:       false,
	} {
		if err := checkPublicKey(key); (err == nil) != good {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func TestMissingIgnoresComments(t *testing.T) {
	t.Parallel()
	got := missing([]string{first + " new", second}, []string{first + " old"})
	if !slices.Equal(got, []string{second}) {
		t.Errorf("missing are %q", got)
	}
}

// What a failed attempt may have installed is remembered.
func TestInstalledAfterFailures(t *testing.T) {
	t.Parallel()
	k := installed{keys: []string{first}}.after([]string{second})
	if k = k.after([]string{second}); !slices.Equal(k.keys, []string{second, first}) || !k.unsure {
		t.Errorf("perhaps installed are %+v", k)
	}
}

// The script runs on whatever sh a machine has.
func TestKeysScript(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		before      string // the file, "-" for none
		remove, add []string
		want        string
	}{
		{name: "no file yet", before: "-", add: []string{first}, want: first + "\n"},
		{name: "an empty one", add: []string{first, second}, want: first + "\n" + second + "\n"},
		{name: "a last line without its end", before: second, add: []string{first}, want: second + "\n" + first + "\n"},
		{name: "there already", before: first + "\n", add: []string{first}, want: first + "\n"},
		{name: "twice in the list", add: []string{first, first}, want: first + "\n"},
		{
			name: "removed with another comment", before: "# keys\n" + first + " old\n" + second + "\n", remove: []string{first + " new"},
			want: "# keys\n" + second + "\n",
		},
		{name: "the only one removed", before: first + "\n", remove: []string{first}, want: ""},
		{name: "removed and not there", before: first + "\n", remove: []string{second}, want: first + "\n"},
		{name: "rotated", before: first + "\n", remove: []string{first}, add: []string{second}, want: second + "\n"},
		{
			name: "hostile comments", before: "-",
			add:  []string{first + ` $(touch "$HOME/x") '; touch "$HOME/x"; ` + "`touch $HOME/x`", second + ` \n %s -e`},
			want: first + ` $(touch "$HOME/x") '; touch "$HOME/x"; ` + "`touch $HOME/x`\n" + second + ` \n %s -e` + "\n",
		},
	}
	for _, shell := range shells(t) {
		for _, test := range tests {
			t.Run(filepath.Base(shell)+"/"+test.name, func(t *testing.T) {
				t.Parallel()
				home := t.TempDir()
				file := filepath.Join(home, ".ssh", "authorized_keys")
				if test.before != "-" {
					if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(file, []byte(test.before), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				args := []string{"-c", keysScript, "sh", fmt.Sprint(len(test.remove))}
				for _, key := range test.remove {
					args = append(args, blob(key))
				}
				command := exec.CommandContext(t.Context(), shell, append(args, test.add...)...)
				command.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
				if out, err := command.CombinedOutput(); err != nil || len(out) > 0 {
					t.Fatalf("%v: %s", err, out)
				}
				got, err := os.ReadFile(file)
				if err != nil || string(got) != test.want {
					t.Errorf("the file holds %q, want %q (%v)", got, test.want, err)
				}
				if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
					t.Errorf("the file's mode: %v %v", info.Mode(), err)
				}
				checkOnly(t, home, ".ssh", ".ssh/authorized_keys")
			})
		}
	}
}

// checkOnly checks that the directory holds these and nothing else.
func checkOnly(t *testing.T, dir string, want ...string) {
	t.Helper()
	var got []string
	for _, pattern := range []string{"*", ".[!.]*", ".ssh/*", ".ssh/.[!.]*"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			got = append(got, strings.TrimPrefix(path, dir+"/"))
		}
	}
	slices.Sort(got)
	if got = slices.Compact(got); !slices.Equal(got, want) {
		t.Errorf("it holds %q, want %q", got, want)
	}
}

// shells are the shells on this machine in which a script for sh must work.
func shells(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, name := range []string{"sh", "dash", "bash"} {
		if path, err := exec.LookPath(name); err == nil {
			found = append(found, path)
		}
	}
	if len(found) == 0 {
		t.Skip("SKIPPED: there is no shell on this machine")
	}
	return found
}
