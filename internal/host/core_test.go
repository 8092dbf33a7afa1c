//go:build unix

package host

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// hostile are values that mean something to a shell, or to a program that reads its arguments
// carelessly.
var hostile = []string{
	"", " ", "  two  spaces ", "'", "''", `"`, `\`, `\\`, `\n`, "line\nbreak\n", "\t", "\r\n", "*", "?", "[a-z]*", "~", "~root",
	"$HOME", "${HOME}", "$(touch /tmp/pwned)", "`touch /tmp/pwned`", "; touch /tmp/pwned", "&& reboot", "|| reboot", "| cat",
	"> /tmp/pwned", "< /etc/passwd", "2>&1", "#comment", "!!", "!$", "{a,b}", "(sub)", "%s%n", "-n", "-e", "--help", "--",
	"a=b", "if", "ünïcödé 日本語 🚀", "\x01\x02\x7f", "\xff\xfe", "'; touch /tmp/pwned; '", `'"'"'`, `$'\x41'`, "a'b\"c`d$e\\f",
	"meta-llama/Llama-3.1-8B; rm -rf /", strings.Repeat("x'", 2000), "\x1b[31mred",
}

// core are the cases that every SSH server must pass, the one in this package and OpenSSH's.
func core(t *testing.T, dial func(t *testing.T) *Client) {
	t.Helper()
	t.Run("hostile values come out byte for byte", func(t *testing.T) {
		t.Parallel()
		c := dial(t)
		args := append([]string{"printf", `%s\0`}, hostile...)
		result := mustRun(t, c, Command{Args: args})
		if want := strings.Join(hostile, "\x00") + "\x00"; result.Stdout != want || result.ExitCode != 0 {
			t.Errorf("exit %d\n got %q\nwant %q", result.ExitCode, result.Stdout, want)
		}
	})
	t.Run("streams, input and status", func(t *testing.T) {
		t.Parallel()
		coreStreams(t, dial(t))
	})
	t.Run("output is capped, head and tail kept", func(t *testing.T) {
		t.Parallel()
		coreCap(t, dial(t))
	})
	t.Run("a signal's death", func(t *testing.T) {
		t.Parallel()
		// "exec", because a login shell that stays in between reports another status.
		result := mustRun(t, dial(t), Command{Args: []string{"exec", "sh", "-c", "kill -KILL $$"}})
		if result.Signal != "KILL" || result.ExitCode != -1 {
			t.Errorf("got %+v", result)
		}
	})
	t.Run("canceled command", func(t *testing.T) {
		t.Parallel()
		coreCancel(t, dial(t))
	})
	t.Run("forwarding", func(t *testing.T) {
		t.Parallel()
		coreForward(t, dial(t))
	})
	t.Run("pipe", func(t *testing.T) {
		t.Parallel()
		corePipe(t, dial(t))
	})
	t.Run("pipe of a command that fails", func(t *testing.T) {
		t.Parallel()
		coreFailingPipe(t, dial(t))
	})
	t.Run("closed client", func(t *testing.T) {
		t.Parallel()
		c := dial(t)
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := c.Run(testContext(t), Command{Args: []string{"true"}})
		wantKind(t, err, Closed)
		wantKind(t, c.Err(), Closed)
	})
}

func coreStreams(t *testing.T, c *Client) {
	t.Helper()
	input := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB, more than any window
	result := mustRun(t, c, Command{
		Args: []string{"sh", "-c", "cat; echo oops >&2; exit 7"}, Stdin: bytes.NewReader(input), MaxOutput: 2 << 20,
	})
	if result.Stdout != string(input) || result.Stderr != "oops\n" || result.ExitCode != 7 || result.Truncated {
		t.Errorf("stdout %d bytes, stderr %q, exit %d, truncated %v",
			len(result.Stdout), result.Stderr, result.ExitCode, result.Truncated)
	}
	result = mustRun(t, c, Command{Args: []string{"no-such-program-here"}})
	if result.ExitCode != 127 || result.Stderr == "" {
		t.Errorf("missing program: %+v", result)
	}
	result = mustRun(t, c, Command{Args: []string{"cat"}})
	if result.Stdout != "" || result.ExitCode != 0 {
		t.Errorf("no input: %+v", result)
	}
	endless, stop := io.Pipe() // a reader that never ends must not hold up the command's end
	defer func() { _ = stop.Close() }()
	result = mustRun(t, c, Command{Args: []string{"echo", "done"}, Stdin: endless})
	if result.Stdout != "done\n" {
		t.Errorf("endless input: %+v", result)
	}
}

func coreCap(t *testing.T, c *Client) {
	t.Helper()
	script := `echo FIRST; head -c 3000000 /dev/zero | tr '\0' x; echo LAST; head -c 3000000 /dev/zero >&2; echo END >&2`
	result := mustRun(t, c, Command{Args: []string{"sh", "-c", script}, MaxOutput: 1000})
	if !result.Truncated || result.ExitCode != 0 {
		t.Errorf("truncated %v, exit %d", result.Truncated, result.ExitCode)
	}
	if !strings.HasPrefix(result.Stdout, "FIRST\nx") || !strings.HasSuffix(result.Stdout, "xLAST\n") ||
		!strings.Contains(result.Stdout, "\n… 2999011 bytes omitted …\n") {
		t.Errorf("stdout is %q", result.Stdout)
	}
	if !strings.HasSuffix(result.Stderr, "\x00END\n") {
		t.Errorf("stderr ends with %q", result.Stderr[len(result.Stderr)-10:])
	}
	if got := len(result.Stdout); got > 1100 {
		t.Errorf("%d bytes kept", got)
	}
}

func coreCancel(t *testing.T, c *Client) {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	marker, start := filepath.Join(t.TempDir(), "started"), newStartSignal()
	go func() {
		defer cancel()
		start.waitStarted(t, marker)
	}()
	within(t, 10*time.Second, "cancelling", func() {
		result, err := c.Run(ctx, Command{Args: []string{"exec", "sh", "-c", `echo said; : > "$1"; exec sleep 1000`, "sh", marker}, Stdin: start})
		e := asKind(t, err, Interrupted)
		if !errors.Is(err, context.Canceled) || !e.Started {
			t.Errorf("error %v, started %v", err, e.Started)
		}
		if result.Signal != "TERM" || result.Stdout != "said\n" {
			t.Errorf("not ended by SIGTERM, or its output is missing: %+v", result)
		}
	})
	if result := mustRun(t, c, Command{Args: []string{"echo", "still here"}}); result.Stdout != "still here\n" {
		t.Errorf("after a canceled command: %+v", result)
	}
}

func coreForward(t *testing.T, c *Client) {
	t.Helper()
	ctx := testContext(t)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello from the machine")
	}))
	defer web.Close()
	transport := c.HTTPTransport()
	defer transport.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, web.URL, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil || string(body) != "hello from the machine" {
		t.Errorf("%q, %v", body, err)
	}
	for network, address := range map[string]string{
		"tcp":  echoServer(t, "tcp", "127.0.0.1:0"),
		"unix": echoServer(t, "unix", filepath.Join(testkit.Dir(t), "s")),
	} {
		coreEcho(ctx, t, c, network, address)
	}
	_, err = c.DialContext(ctx, "tcp", refusingAddress(t))
	wantKind(t, err, Refused)
}

func coreEcho(ctx context.Context, t *testing.T, c *Client, network, address string) {
	t.Helper()
	conn, err := c.DialContext(ctx, network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	sent := bytes.Repeat([]byte("echo "), 200_000)
	go func() {
		_, _ = conn.Write(sent)
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite()
		}
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%s: %d bytes of %d came back, %v", network, len(got), len(sent), err)
	}
	if conn.RemoteAddr().String() != address {
		t.Errorf("remote address %s", conn.RemoteAddr())
	}
}

func corePipe(t *testing.T, c *Client) {
	t.Helper()
	conn, err := c.Pipe(testContext(t), "sh", "-c", "while read -r line; do echo \"got $line\"; done; echo bye", "it's")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "one\ntwo\n"); err != nil {
		t.Fatal(err)
	}
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		t.Fatal("no CloseWrite")
	}
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(conn)
	if err != nil || string(got) != "got one\ngot two\nbye\n" {
		t.Errorf("%q, %v", got, err)
	}
	within(t, 5*time.Second, "closing", func() { _ = conn.Close() })
}

func coreFailingPipe(t *testing.T, c *Client) {
	t.Helper()
	conn, err := c.Pipe(testContext(t), "sh", "-c", "echo 'no such daemon' >&2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = io.ReadAll(conn)
	e := asKind(t, err, CommandFailed)
	if !strings.Contains(e.Error(), "no such daemon") || !strings.Contains(e.Error(), "status 3") {
		t.Errorf("error is %v", e)
	}
}

func TestCore(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	core(t, func(t *testing.T) *Client {
		t.Helper()
		return mustDial(t, s.dialConfig())
	})
}
