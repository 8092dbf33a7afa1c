package machine_test

import (
	"bytes"
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

	"golang.org/x/crypto/ssh"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machine"
	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/testkit"
)

func TestCloseLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	m, err := machine.Start(machine.Options{Dir: testkit.Dir(t), Facts: vm(), AuthorizedKeys: []string{k.line()}})
	if err != nil {
		t.Fatal(err)
	}
	client := dial(t, m, k)
	for _, command := range []string{
		"nohup setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $! >> pids",
		"nohup sleep 1000 >/dev/null 2>&1 </dev/null & echo $! >> pids",
		"(trap '' TERM HUP; sleep 1000 >/dev/null 2>&1 </dev/null) & echo $! >> pids",
		"sudo setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $! >> pids",
	} {
		output(t, client, command)
	}
	session, err := client.NewSession() // one that still runs
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start("echo $$ >> pids; sleep 1000"); err != nil {
		t.Fatal(err)
	}
	var pids []string
	testkit.Eventually(t, "five processes", func() bool {
		data, _ := os.ReadFile(filepath.Join(m.Root().Home(), "pids"))
		pids = strings.Fields(string(data))
		return len(pids) == 5
	})
	lifeline, err := net.Dial("unix", m.Root().Lifeline())
	if err != nil {
		t.Fatal(err)
	}
	defer lifeline.Close()

	var closing sync.WaitGroup
	for range 3 { // at once, too
		closing.Go(func() {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	closing.Wait()
	for _, pid := range pids {
		if isRunning(t, pid) {
			t.Errorf("process %s still runs", pid)
		}
	}
	if left := m.Root().Processes(); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
	if _, err := os.Stat(string(m.Root())); !os.IsNotExist(err) {
		t.Errorf("its directory is still there: %v", err)
	}
	if n, err := lifeline.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("the lifeline didn't end: %d, %v", n, err)
	}
	if log := strings.Join(m.CommandLog(), "\n"); !strings.Contains(log, "sudo setsid sleep 1000") {
		t.Errorf("the record is gone:\n%s", log)
	}
	if err := m.SetFacts(nil); err == nil {
		t.Error("a closed machine was changed")
	}
	if err := m.ResumeListening(); err == nil {
		t.Error("a closed machine listens")
	}
}

// isRunning is false for a zombie, too: an orphan that has ended is its new parent's to wait for, which
// can happen at any moment.
func isRunning(t *testing.T, pid string) bool {
	t.Helper()
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ESRCH): // ESRCH when it goes while it is read
		return false
	case err != nil:
		t.Fatal(err)
	}
	return !bytes.Contains(stat, []byte(") Z "))
}

func TestACommandEndsWithItsChannel(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	m := start(t, vm(), k)
	for _, test := range []struct {
		name, command, want string
		end                 func(*ssh.Client, *ssh.Session)
	}{
		{"channel closed", "trap 'echo hup > $TMPDIR/end; exit' HUP; while :; do sleep 0.01; done", "hup\n", func(_ *ssh.Client, s *ssh.Session) { _ = s.Close() }},
		{"connection lost", "trap '' HUP; trap 'echo term > $TMPDIR/end; exit' TERM; while :; do sleep 0.01; done", "term\n", func(c *ssh.Client, _ *ssh.Session) { _ = c.Close() }},
		{"deaf", "trap '' HUP TERM; echo deaf > $TMPDIR/end; while :; do sleep 0.01; done", "deaf\n", func(c *ssh.Client, _ *ssh.Session) { _ = c.Close() }},
	} {
		client := dial(t, m, k)
		session, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := session.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		end := filepath.Join(m.Root().Tmp(), "end")
		_ = os.Remove(end)
		if err := session.Start(strings.Replace(test.command, "while", "echo ready; while", 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
			t.Fatal(err)
		}
		test.end(client, session)
		testkit.Eventually(t, test.name+": no process", func() bool { return len(m.Root().Processes()) == 0 })
		if got, _ := os.ReadFile(end); string(got) != test.want {
			t.Errorf("%s: it ended with %q, not %q", test.name, got, test.want)
		}
	}
}

func TestSignalsReachTheCommand(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	client := dial(t, start(t, vm(), k), k)
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start("trap 'exit 9' USR1; echo ready; while :; do sleep 0.01; done"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	if err := session.Signal(ssh.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	var exit *ssh.ExitError
	if err := session.Wait(); !asExit(err, &exit) || exit.ExitStatus() != 9 {
		t.Errorf("it ended with %v", err)
	}
}

func TestSessionsShareAConnection(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	client := dial(t, start(t, vm(), k), k)
	all := make(chan struct{})
	var sessions, open sync.WaitGroup
	open.Add(10)
	for i := range 10 {
		sessions.Go(func() {
			want := strings.Repeat(strconv.Itoa(i), 1000)
			first := sync.OnceFunc(func() {
				open.Done()
				<-all
			})
			input := io.MultiReader(strings.NewReader(want), readerFunc(first))
			if got := runWith(t, client, "cat", input); got.stdout != want {
				t.Errorf("session %d got %d bytes", i, len(got.stdout))
			}
		})
	}
	open.Wait()
	if _, err := client.NewSession(); err == nil {
		t.Errorf("there is no bound of sessions")
	}
	close(all)
	sessions.Wait()
}

// readerFunc is the end of an input, which comes after something was done.
type readerFunc func()

func (f readerFunc) Read([]byte) (int, error) {
	f()
	return 0, io.EOF
}

func TestABackgroundProcessOutlivesItsConnection(t *testing.T) {
	t.Parallel()
	k := newKey(t)
	m := start(t, vm(), k)
	client := dial(t, m, k)
	pid := strings.TrimSpace(output(t, client, "nohup sleep 1000 >/dev/null 2>&1 </dev/null & echo $!"))
	_ = client.Close()
	if got := output(t, dial(t, m, k), "kill -0 "+pid+" && echo alive"); got != "alive\n" {
		t.Errorf("the process has ended: %q", got)
	}
}
