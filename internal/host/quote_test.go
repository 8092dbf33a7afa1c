//go:build unix

package host

import (
	"os/exec"
	"strings"
	"testing"
)

// shell runs a command line in /bin/sh and returns what it wrote.
func shell(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", line).Output()
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return string(out)
}

func TestQuote_ThroughARealShell(t *testing.T) {
	t.Parallel()
	for _, value := range hostile {
		if got := shell(t, Quote("printf", "%s", value)); got != value {
			t.Errorf("%q came out as %q", value, got)
		}
	}
}

func TestQuote_FirstWordIsACommandsName(t *testing.T) {
	t.Parallel()
	for _, word := range append([]string{"A=b", "PATH=/nowhere", "=", "a'=b"}, reservedWords...) {
		script := Quote(word, "argument") + "; echo status $?"
		if got := shell(t, "exec 2>/dev/null\n"+script); !strings.Contains(got, "status") {
			t.Errorf("%q is taken as syntax: %q", word, got)
		}
	}
	if got := shell(t, "exec 2>/dev/null\n"+Quote("PATH=/nowhere")+"\necho $? $PATH"); strings.Contains(got, "/nowhere") {
		t.Errorf("an assignment was carried out: %q", got)
	}
	for want, args := range map[string][]string{
		"":                         nil,
		"docker system dial-stdio": {"docker", "system", "dial-stdio"},
		"printf a=b if":            {"printf", "a=b", "if"},
		"'while' true":             {"while", "true"},
		"''":                       {""},
	} {
		if got := Quote(args...); got != want {
			t.Errorf("Quote(%q) is %q, want %q", args, got, want)
		}
	}
}

func FuzzQuote(f *testing.F) {
	for i, value := range hostile {
		f.Add(value, hostile[len(hostile)-1-i])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.Contains(a+b, "\x00") || len(a)+len(b) > 60_000 {
			t.Skip("no command can be given this")
		}
		if got, want := shell(t, Quote("printf", `%s\0`, a, b)), a+"\x00"+b+"\x00"; got != want {
			t.Errorf("%q came out as %q", want, got)
		}
	})
}

func TestCapture(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		limit  int
		writes []string
		want   string
	}{
		"nothing":          {8, nil, ""},
		"exactly full":     {8, []string{"abc", "defgh"}, "abcdefgh"},
		"one too many":     {8, []string{"abcdefghi"}, "abcd\n… 1 bytes omitted …\nfghi"},
		"byte by byte":     {4, strings.Split("abcdefghij", ""), "ab\n… 6 bytes omitted …\nij"},
		"a large write":    {4, []string{"a", strings.Repeat("x", 100), "yz"}, "ax\n… 99 bytes omitted …\nyz"},
		"an odd limit":     {5, []string{"abcdefgh"}, "ab\n… 3 bytes omitted …\nfgh"},
		"one byte":         {1, []string{"abc"}, "\n… 2 bytes omitted …\nc"},
		"whole characters": {10, []string{"ab日本語日本語x"}, "ab日\n… 12 bytes omitted …\n語x"},
		"not text":         {4, []string{"\xff\xff\xff\xff\xff\xff"}, "\xff\xff\n… 2 bytes omitted …\n\xff\xff"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCapture(test.limit)
			total := 0
			for _, write := range test.writes {
				n, err := c.Write([]byte(write))
				if err != nil || n != len(write) {
					t.Fatalf("wrote %d, %v", n, err)
				}
				total += n
			}
			got, truncated := c.result()
			if got != test.want || truncated != (total > test.limit) {
				t.Errorf("got %q (truncated %v), want %q", got, truncated, test.want)
			}
		})
	}
	if newCapture(0).limit != DefaultMaxOutput || newCapture(1<<40).limit != maxMaxOutput {
		t.Error("the limits are not kept")
	}
}
