//go:build unix

package host

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

func TestKeepAlive_SilentMachineIsLost(t *testing.T) {
	t.Parallel()
	s := newServerConfig(t)
	synctest.Test(t, func(t *testing.T) {
		var times []time.Duration
		cfg := bubbleConfig(s, 0, &times)
		cfg.keepAlive = 10 * time.Second
		c, err := Dial(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		time.AfterFunc(25*time.Second, func() { s.faults.ignoreGlobal.Store(true) })
		<-c.done
		e := asKind(t, c.Err(), Lost)
		// Asked and not answered at 30 s, and three intervals more.
		if took := time.Since(start); took != 60*time.Second || !errors.Is(e, errSilent) {
			t.Errorf("lost after %s: %v", took, e)
		}
		_, err = c.Run(t.Context(), Command{Args: []string{"true"}})
		wantKind(t, err, Lost)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		s.drop()
		s.work.Wait()
	})
}

func TestKeepAlive_AnsweringMachineStays(t *testing.T) {
	t.Parallel()
	s := newServerConfig(t)
	synctest.Test(t, func(t *testing.T) {
		var times []time.Duration
		c, err := Dial(t.Context(), bubbleConfig(s, 0, &times))
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(24 * time.Hour) // a bubble's time costs nothing
		if err := c.Err(); err != nil {
			t.Error(err)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		s.work.Wait()
	})
}

// TestAnswerTimeout: a machine that answers keepalives and nothing else must not hold anybody up,
// even without a deadline.
func TestAnswerTimeout(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(*faults){
		"open": func(f *faults) { f.ignoreOpen.Store(true) },
		"exec": func(f *faults) { f.ignoreExec.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServerConfig(t)
			set(&s.faults)
			synctest.Test(t, func(t *testing.T) {
				var times []time.Duration
				c, err := Dial(t.Context(), bubbleConfig(s, 0, &times))
				if err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				_, err = c.Run(t.Context(), Command{Args: []string{"true"}})
				e := asKind(t, err, Refused)
				if took := time.Since(start); took > answerTimeout+5*time.Second || e.Started != (name == "exec") {
					t.Errorf("took %s, started %v", took, e.Started)
				}
				_ = c.Close()
				s.work.Wait()
			})
		})
	}
}

func TestRun_RefusedAndUnknownEnds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		set     func(*faults)
		kind    Kind
		started bool
	}{
		"no room for a session": {func(f *faults) { f.refuseOpen.Store(true) }, Refused, false},
		"no commands allowed":   {func(f *faults) { f.refuseExec.Store(true) }, Prohibited, false},
		"no exit status":        {func(f *faults) { f.noStatus.Store(true) }, NoExitStatus, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			test.set(&s.faults)
			c := mustDial(t, s.dialConfig())
			result, err := c.Run(testContext(t), Command{Args: []string{"echo", "x"}})
			e := asKind(t, err, test.kind)
			if e.Started != test.started || result.ExitCode != -1 {
				t.Errorf("started %v, %+v", e.Started, result)
			}
			if test.kind == NoExitStatus && result.Stdout != "x\n" {
				t.Errorf("output %q", result.Stdout)
			}
			if c.Err() != nil {
				t.Errorf("the connection is gone: %v", c.Err())
			}
		})
	}
}

func TestRun_ImpossibleCommands(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := mustDial(t, s.dialConfig())
	for _, args := range [][]string{nil, {""}, {"echo", "a\x00b"}} {
		_, err := c.Run(testContext(t), Command{Args: args})
		wantKind(t, err, BadConfig)
		_, err = c.Pipe(testContext(t), args...)
		wantKind(t, err, BadConfig)
	}
	if log := s.commandLog(); len(log) != 0 {
		t.Errorf("it ran %q", log)
	}
}

func TestRun_InputThatFails(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := mustDial(t, s.dialConfig())
	broken := errors.New("disk on fire")
	input := io.MultiReader(strings.NewReader("half of it"), iotestErrReader{broken})
	_, err := c.Run(testContext(t), Command{Args: []string{"cat"}, Stdin: input})
	e := asKind(t, err, BadConfig)
	if !errors.Is(err, broken) || !e.Started {
		t.Errorf("error is %v", err)
	}
}

type iotestErrReader struct{ err error }

func (r iotestErrReader) Read([]byte) (int, error) { return 0, r.err }

func TestRun_ServerThatPassesNoSignalsOn(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.faults.noSignals.Store(true)
	canceledTree(t, mustDial(t, s.dialConfig()), t.TempDir())
}

// Without signals and without room for a second session, nothing can be done, and it is said.
func TestRun_CancelThatCantBeConfirmed(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.faults.noSignals.Store(true)
	c := mustDial(t, s.dialConfig())
	ctx, cancel := context.WithCancel(testContext(t))
	marker, start := filepath.Join(t.TempDir(), "started"), newStartSignal()
	go func() {
		defer cancel()
		start.waitStarted(t, marker)
		s.faults.refuseOpen.Store(true)
	}()
	within(t, 10*time.Second, "cancelling", func() {
		_, err := c.Run(ctx, Command{Args: []string{"sh", "-c", `: > "$1"; exec sleep 1000`, "sh", marker}, Stdin: start})
		e := asKind(t, err, Interrupted)
		if !strings.Contains(e.Detail, "did not confirm") {
			t.Errorf("detail: %s", e.Detail)
		}
	})
}

// On a busy machine the search for a command's processes takes longer than anybody waits for it, and
// ends them all the same.
func TestRun_CancelOnABusyMachine(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.faults.noSignals.Store(true)
	s.busy = make(chan struct{})
	free := sync.OnceFunc(func() { close(s.busy) })
	t.Cleanup(free)
	c := mustDial(t, s.dialConfig())
	pids, detail := startTree(t, c, t.TempDir())
	if !strings.Contains(detail, "did not confirm") {
		t.Errorf("detail: %s", detail)
	}
	free()
	for _, pid := range pids {
		testkit.Eventually(t, "process "+pid+" is gone", func() bool { return !isRunning(pid) })
	}
}

// canceledTree cancels a command that ignores SIGTERM and has children, one of them in a separate
// session, and expects all to end.
func canceledTree(t *testing.T, c *Client, dir string) {
	t.Helper()
	pids, _ := startTree(t, c, dir)
	for _, pid := range pids {
		testkit.Eventually(t, "process "+pid+" is gone", func() bool { return !isRunning(pid) })
	}
}

// startTree starts such a command and cancels it, and returns its processes and what the error says.
func startTree(t *testing.T, c *Client, dir string) (pids []string, detail string) {
	t.Helper()
	ctx, cancel := context.WithCancel(testContext(t))
	ready := filepath.Join(dir, "ready")
	go func() {
		defer cancel()
		waitForFile(t, ready)
	}()
	script := `trap '' TERM; sleep 1000 & one=$!; setsid sleep 1000 & echo $$ $one $! > "$1/pids"; : > "$1/ready"; wait`
	_, err := c.Run(ctx, Command{Args: []string{"sh", "-c", script, "sh", dir}})
	detail = asKind(t, err, Interrupted).Detail
	content, err := os.ReadFile(filepath.Join(dir, "pids"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(content)), detail
}

// isRunning reports whether a process exists and is no zombie.
func isRunning(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestRun_CancelEndsTheWholeProcessGroup(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	canceledTree(t, mustDial(t, s.dialConfig()), t.TempDir())
}

// leftBehind runs a command that leaves a process behind which keeps the output open.
func leftBehind(t *testing.T, c *Client, dir string) {
	t.Helper()
	pidFile := filepath.Join(dir, "left")
	t.Cleanup(func() {
		content, _ := os.ReadFile(pidFile)
		if pid, err := strconv.Atoi(strings.TrimSpace(string(content))); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	within(t, postExit+5*time.Second, "the command", func() {
		script := `sleep 1000 & echo $! > "$1"; echo done; exit 4`
		result := mustRun(t, c, Command{Args: []string{"sh", "-c", script, "sh", pidFile}})
		if result.ExitCode != 4 || result.Stdout != "done\n" || !result.Truncated {
			t.Errorf("%+v", result)
		}
	})
}

func TestRun_LeftBehindProcess(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	leftBehind(t, mustDial(t, s.dialConfig()), t.TempDir())
}

func TestRun_LostMidCommand(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := mustDial(t, s.dialConfig())
	marker, start := filepath.Join(t.TempDir(), "started"), newStartSignal()
	go func() {
		start.waitStarted(t, marker)
		s.drop()
	}()
	within(t, 10*time.Second, "noticing", func() {
		result, err := c.Run(testContext(t), Command{Args: []string{"sh", "-c", `: > "$1"; exec sleep 1000`, "sh", marker}, Stdin: start})
		e := asKind(t, err, Lost)
		if !e.Started || result.ExitCode != -1 || !result.Truncated {
			t.Errorf("started %v, %+v", e.Started, result)
		}
	})
	<-c.done
	wantKind(t, c.Err(), Lost)
	_, err := c.DialContext(testContext(t), "tcp", "127.0.0.1:1")
	wantKind(t, err, Lost)
}

// Lost before this side knew that it had started, a command may have run and written all the same.
func TestRun_LostBeforeItsStartWasConfirmed(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.faults.ignoreExec.Store(true)
	c := mustDial(t, s.dialConfig())
	go func() {
		<-s.asked
		s.drop()
	}()
	result, err := c.Run(testContext(t), Command{Args: []string{"true"}})
	e := asKind(t, err, Lost)
	if !e.Started || result.ExitCode != -1 || !result.Truncated {
		t.Errorf("started %v, %+v", e.Started, result)
	}
}

// A cancel that comes before the machine confirmed the start says as much as a later one.
func TestRun_CancelledBeforeItsStartWasConfirmed(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.faults.ignoreExec.Store(true)
	c := mustDial(t, s.dialConfig())
	ctx, cancel := context.WithCancel(testContext(t))
	go func() {
		<-s.asked
		cancel()
	}()
	result, err := c.Run(ctx, Command{Args: []string{"true"}})
	e := asKind(t, err, Interrupted)
	if !e.Started || !result.Truncated || !strings.Contains(e.Detail, "did not confirm") {
		t.Errorf("started %v, %+v, detail: %s", e.Started, result, e.Detail)
	}
}

func TestCancel_UnansweredRequests(t *testing.T) {
	t.Parallel()
	open := func(f *faults) { f.ignoreOpen.Store(true) }
	exec := func(f *faults) { f.ignoreExec.Store(true) }
	run := func(ctx context.Context, c *Client) error {
		_, err := c.Run(ctx, Command{Args: []string{"true"}})
		return err
	}
	pipe := func(ctx context.Context, c *Client) error {
		_, err := c.Pipe(ctx, "cat")
		return err
	}
	forward := func(ctx context.Context, c *Client) error {
		_, err := c.DialContext(ctx, "tcp", "127.0.0.1:80")
		return err
	}
	for name, test := range map[string]struct {
		set  func(*faults)
		call func(context.Context, *Client) error
	}{
		"run, no session":    {open, run},
		"run, no start":      {exec, run},
		"pipe, no session":   {open, pipe},
		"pipe, no start":     {exec, pipe},
		"forward, no answer": {open, forward},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			test.set(&s.faults)
			c := mustDial(t, s.dialConfig())
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			within(t, 10*time.Second, "the call", func() {
				err := test.call(ctx, c)
				wantKind(t, err, Interrupted)
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("error is %v", err)
				}
			})
		})
	}
}

func TestDialContext_BadAddresses(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := mustDial(t, s.dialConfig())
	for _, address := range [][2]string{
		{"udp", "127.0.0.1:53"}, {"tcp", "127.0.0.1"}, {"tcp", "127.0.0.1:http"}, {"tcp", "x:0"}, {"tcp", "x:65536"}, {"unix", ""},
	} {
		if _, err := c.DialContext(testContext(t), address[0], address[1]); KindOf(err) != BadConfig {
			t.Errorf("%v: %v", address, err)
		}
	}
}

func TestDialContext_Prohibited(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.faults.refuseForward.Store(true)
	c := mustDial(t, s.dialConfig())
	_, err := c.DialContext(testContext(t), "tcp", "127.0.0.1:80")
	if e := asKind(t, err, Prohibited); !strings.Contains(e.Detail, "AllowTcpForwarding") {
		t.Errorf("detail: %s", e.Detail)
	}
}

func TestStream_DeadlinesAndClose(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := mustDial(t, s.dialConfig())
	conn, err := c.DialContext(testContext(t), "tcp", echoServer(t, "tcp", "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 8)
	if _, err := conn.Read(buffer); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "again"); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(buffer); err != nil || string(buffer[:n]) != "again" {
		t.Errorf("%q, %v", buffer[:n], err)
	}
	reading := make(chan error, 1)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		reading <- err
	}()
	within(t, 5*time.Second, "closing", func() { _ = conn.Close() })
	if err := <-reading; !errors.Is(err, net.ErrClosed) {
		t.Errorf("the Read under way: %v", err)
	}
	if _, err := conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
}

func TestStream_LostConnectionIsNoCleanEnd(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := mustDial(t, s.dialConfig())
	forwarded, err := c.DialContext(testContext(t), "tcp", echoServer(t, "tcp", "127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := c.Pipe(testContext(t), "cat")
	if err != nil {
		t.Fatal(err)
	}
	for _, conn := range []net.Conn{forwarded, pipe} {
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, "half"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
	}
	s.drop()
	for _, conn := range []net.Conn{forwarded, pipe} {
		_, err = io.ReadAll(conn)
		wantKind(t, err, Lost)
		_, err = conn.Write(bytes.Repeat([]byte("x"), 1<<20))
		wantKind(t, err, Lost)
	}
}

func TestPipe_CloseEndsACommandThatIgnoresIt(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := mustDial(t, s.dialConfig())
	conn, err := c.Pipe(testContext(t), "sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "closing", func() { _ = conn.Close() })
	for _, pid := range s.pids() {
		testkit.Eventually(t, "the command has ended", func() bool { return !isRunning(strconv.Itoa(pid)) })
	}
	if c.Err() != nil {
		t.Errorf("the connection is gone: %v", c.Err())
	}
}

func TestPipe_EndsByASignal(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := mustDial(t, s.dialConfig())
	conn, err := c.Pipe(testContext(t), "exec", "sh", "-c", "kill -KILL $$")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = io.ReadAll(conn)
	if e := asKind(t, err, CommandFailed); !strings.Contains(e.Error(), "by signal KILL") {
		t.Errorf("%v", e)
	}
}
