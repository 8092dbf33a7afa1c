//go:build unix

package host

import (
	"context"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

// Values reach a remote command as its arguments, whatever is in them.
func TestHostileValuesStayData(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := mustDial(t, s.dialConfig())
	for _, value := range hostile {
		result := mustRun(t, c, Command{Args: []string{"printf", "%s", value}})
		if result.Stdout != value || result.Stderr != "" || result.ExitCode != 0 {
			t.Errorf("%q: %+v", value, result)
		}
	}
	for _, line := range s.commandLog() {
		if _, command, _ := strings.Cut(line, " "); !strings.HasPrefix(command, "printf %s ") {
			t.Errorf("something else ran: %q", line)
		}
	}
	if _, err := os.Stat("/tmp/pwned"); err == nil {
		t.Error("a value was executed")
	}
}

// No private key ever is in a file: logging in, well or badly, leaves the places for temporary
// files empty, and the package has no means to write one.
func TestKeysStayInMemory(t *testing.T) { //nolint:paralleltest // it sets the environment
	places := t.TempDir()
	for _, name := range []string{"TMPDIR", "TMP", "TEMP", "HOME", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME"} {
		t.Setenv(name, places)
	}
	s := startServer(t)
	cfg := s.dialConfig()
	mustRun(t, mustDial(t, cfg), Command{Args: []string{"true"}})
	cfg.PrivateKeys = []string{openSSH(t, newEd25519(t))}
	_, err := Dial(testContext(t), cfg)
	wantKind(t, err, AuthFailed)
	entries, err := os.ReadDir(places)
	if err != nil || len(entries) != 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, source := range sources {
		if strings.HasSuffix(source, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		checked++
		for _, spec := range file.Imports {
			if path := strings.Trim(spec.Path.Value, `"`); slices.Contains([]string{"os", "os/exec", "syscall", "io/ioutil"}, path) {
				t.Errorf("%s imports %s", source, path)
			}
		}
	}
	if checked < 5 {
		t.Errorf("only %d files were looked at", checked)
	}
}

// Everything that was opened through a client ends with it. (goleak, in TestMain, looks for
// goroutines that stayed.)
func TestCloseReleasesEverything(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := mustDial(t, s.dialConfig())
	ctx := testContext(t)
	forwarded, err := c.DialContext(ctx, "tcp", echoServer(t, "tcp", "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := c.Pipe(ctx, "cat")
	if err != nil {
		t.Fatal(err)
	}
	marker := filepath.Join(t.TempDir(), "started")
	ran := make(chan error, 1)
	go func() {
		_, err := c.Run(ctx, Command{Args: []string{"sh", "-c", `: > "$1"; exec sleep 1000`, "sh", marker}})
		ran <- err
	}()
	waitForFile(t, marker)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	wantKind(t, <-ran, Closed)
	for _, conn := range []io.Reader{forwarded, pipe} {
		_, err := io.ReadAll(conn)
		wantKind(t, err, Closed)
	}
	_ = forwarded.Close()
	_ = pipe.Close()
	if err := c.Close(); err != nil {
		t.Errorf("closing again: %v", err)
	}
	testkit.Eventually(t, "the machine's commands have ended", func() bool {
		return !slices.ContainsFunc(s.pids(), func(pid int) bool { return isRunning(fmt.Sprint(pid)) })
	})
}

// Against a machine that has stopped reading, every Close and every canceled wait still ends.
func TestCloseHasADeadline(t *testing.T) {
	t.Parallel()
	for name, hops := range map[string]int{"direct": 0, "through a bastion": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bastion, s := startServer(t), startServer(t)
			cfg := s.dialConfig()
			if hops > 0 {
				through := bastion.dialConfig()
				cfg.Bastion = &through
			}
			c := mustDial(t, cfg)
			ctx := testContext(t)
			pipe, err := c.Pipe(ctx, "cat")
			if err != nil {
				t.Fatal(err)
			}
			forwarded, err := c.DialContext(ctx, "tcp", echoServer(t, "tcp", "127.0.0.1:0"))
			if err != nil {
				t.Fatal(err)
			}
			s.freeze()
			bastion.freeze()
			flooding := make(chan struct{})
			go func() { // until every window and buffer on the way is full
				defer close(flooding)
				_, _ = io.Copy(pipe, zeroes{})
			}()
			within(t, 5*time.Second, "closing a pipe", func() { _ = pipe.Close() })
			within(t, 5*time.Second, "closing a connection", func() { _ = forwarded.Close() })
			<-flooding
			short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			within(t, 6*time.Second, "a command", func() {
				_, err := c.Run(short, Command{Args: []string{"true"}})
				wantKind(t, err, Interrupted)
			})
			within(t, 5*time.Second, "closing the client", func() {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			})
			s.drop() // before the echo server, which waits for its connections
			bastion.drop()
		})
	}
}

// zeroes never ends.
type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Paths are arguments like any other: a file is made under exactly the name that was given.
func TestRemotePathsAreQuoted(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := mustDial(t, s.dialConfig())
	dir := t.TempDir()
	names := []string{"a b", "$(id)", "`id`", "it's", `"quoted"`, "-rf", "*", "line\nbreak", ";reboot", "ünï", "~"}
	for _, name := range names {
		script := `cat > "$1"`
		mustRun(t, c, Command{
			Args: []string{"sh", "-c", script, "sh", filepath.Join(dir, name)}, Stdin: strings.NewReader(name),
		})
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(content) != name {
			t.Errorf("%q: %q, %v", name, content, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != len(names) {
		t.Errorf("%d files, %v", len(entries), err)
	}
}

// The key seen at first contact is pinned from then on; another one is an error that says what it
// may mean and how to accept it.
func TestHostKeyIsPinned(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	cfg := s.dialConfig()
	cfg.HostKey = mustDial(t, cfg).HostKey()
	if cfg.HostKey != publicLine(t, s.hostKey) {
		t.Fatalf("pinned %q", cfg.HostKey)
	}
	mustDial(t, cfg)

	for name, keys := range map[string]int{"another key of the type": 0, "a key of another type": 1} {
		changed := newServerConfig(t)
		if keys == 1 {
			changed = newServerConfig(t, newRSA(t))
		}
		changed.listen("127.0.0.1:0")
		cfg.dial = changed.dial // the same address leads to another machine
		for _, dial := range []func(context.Context, Config) (*Client, error){Dial, dialUntil} {
			_, err := dial(testContext(t), cfg)
			e := asKind(t, err, HostKeyChanged)
			for _, want := range []string{"ssh.host_key", "reinstalled", "intercepted", "SHA256:"} {
				if !strings.Contains(e.Detail, want) {
					t.Errorf("%s: no %q in %q", name, want, e.Detail)
				}
			}
			if keys == 0 && !strings.Contains(e.Detail, publicLine(t, changed.hostKey)) {
				t.Errorf("the new key is not named in %q", e.Detail)
			}
		}
		if got := changed.loginCount(); got != 2 {
			t.Errorf("%s: %d attempts instead of one for each call", name, got)
		}
	}
}

// A lost connection is dialled again a bounded number of times, and a command is never repeated by
// this package: the error says whether it may have run.
func TestRedialIsBoundedAndNothingIsRepeated(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := mustDial(t, s.dialConfig())
	dir, start := t.TempDir(), newStartSignal()
	traces, marker := filepath.Join(dir, "traces"), filepath.Join(dir, "started")
	go func() {
		start.waitStarted(t, marker)
		s.drop()
	}()
	_, err := c.Run(testContext(t), Command{Args: []string{"sh", "-c", `echo ran >> "$1"; : > "$2"; exec sleep 1000`, "sh", traces, marker}, Stdin: start})
	if e := asKind(t, err, Lost); !e.Started {
		t.Error("the error doesn't say that the command had started")
	}
	again, err := dialUntil(testContext(t), s.dialConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.Close() }()
	if content, err := os.ReadFile(traces); err != nil || string(content) != "ran\n" {
		t.Errorf("the command's traces: %q, %v", content, err)
	}
	_, err = c.Run(testContext(t), Command{Args: []string{"true"}})
	if e := asKind(t, err, Lost); e.Started {
		t.Error("a command on a dead connection can't have started")
	}
	bubbled := newServerConfig(t)
	synctest.Test(t, func(t *testing.T) {
		var times []time.Duration
		_, err := dialUntil(t.Context(), bubbleConfig(bubbled, 1_000_000, &times))
		wantKind(t, err, Unreachable)
		if len(times) < 100 || len(times) > 10*dialsPerMinute {
			t.Errorf("%d attempts", len(times))
		}
	})
}

// One client serves many goroutines (run it with the race detector).
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := mustDial(t, s.dialConfig())
	address := echoServer(t, "tcp", "127.0.0.1:0")
	ctx := testContext(t)
	var work sync.WaitGroup
	for i := range 24 {
		work.Go(func() {
			want := fmt.Sprintf("number %d", i)
			if i%2 == 0 {
				result, err := c.Run(ctx, Command{Args: []string{"cat"}, Stdin: strings.NewReader(want)})
				if err != nil || result.Stdout != want {
					t.Errorf("%+v, %v", result, err)
				}
				return
			}
			conn, err := c.DialContext(ctx, "tcp", address)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = io.WriteString(conn, want)
			got := make([]byte, len(want))
			if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
				t.Errorf("%q, %v", got, err)
			}
			if c.Err() != nil || c.HostKey() == "" || c.addr == "" {
				t.Errorf("%v %q %q", c.Err(), c.HostKey(), c.addr)
			}
		})
	}
	work.Wait()
	for range 4 {
		work.Go(func() {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
}

// A canceled call, an expired one and a failed one have different errors.
func TestCancellationIsNotFailure(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.faults.ignoreExec.Store(true)
	c := mustDial(t, s.dialConfig())
	command := Command{Args: []string{"true"}}

	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := c.Run(canceled, command)
	if !errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(DetailOf(err), "canceled") {
		t.Errorf("canceled: %v", err)
	}

	expired, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	_, err = c.Run(expired, command)
	if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || !strings.Contains(DetailOf(err), "ran out") {
		t.Errorf("expired: %v", err)
	}

	reason := errors.New("the operator said so")
	caused, because := context.WithCancelCause(t.Context())
	because(reason)
	_, err = c.Run(caused, command)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, reason) {
		t.Errorf("with a cause: %v", err)
	}

	s.drop()
	<-c.done
	_, err = c.Run(t.Context(), command)
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("failed: %v", err)
	}
	wantKind(t, err, Lost)
}

// While one call waits for an answer that doesn't come, every other call goes on.
func TestNoLockIsHeldAcrossIO(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := mustDial(t, s.dialConfig())
	ctx, cancel := context.WithCancel(testContext(t))
	s.faults.ignoreOpen.Store(true)
	var stuck sync.WaitGroup
	for range 4 {
		stuck.Go(func() {
			_, err := c.Run(ctx, Command{Args: []string{"true"}})
			if KindOf(err) != Interrupted {
				t.Errorf("the stuck call: %v", err)
			}
		})
	}
	within(t, 5*time.Second, "the calls beside it", func() {
		if c.Err() != nil || c.HostKey() == "" {
			t.Error("the connection is gone")
		}
		if err := c.probe(t.Context().Done(), patience); err != nil {
			t.Errorf("probe: %v", err)
		}
	})
	cancel()
	stuck.Wait()
	s.faults.ignoreOpen.Store(false)
	mustRun(t, c, Command{Args: []string{"true"}})
}
