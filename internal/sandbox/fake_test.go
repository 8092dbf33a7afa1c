package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

func TestMain(m *testing.M) {
	Main()
	if transport, ok := http.DefaultTransport.(*http.Transport); ok {
		transport.DisableKeepAlives = true // an idle connection would be a leak
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if err := Finish(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}))
}

// fleet stands in for real machines where a test is about the service: machines
// that exist in memory, and logins that look there.
type fleet struct {
	mu   sync.Mutex
	all  []*fakeMachine
	fail error // the next start fails
}

type fakeMachine struct {
	fleet *fleet
	req   hostRequest

	// guarded by fleet.mu
	facts   machinefs.Facts
	port    int
	up      bool
	refuse  bool
	closed  bool
	dropped int
	keys    int // how often the host key changed
	silent  bool
	engine  []string // what was done to its engine
}

func (f *fleet) start(req hostRequest) (host, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.fail; err != nil {
		f.fail = nil
		return nil, err
	}
	m := &fakeMachine{fleet: f, req: req, facts: req.Facts, port: 20000 + len(f.all)}
	f.all = append(f.all, m)
	return m, nil
}

func (f *fleet) login(_ context.Context, addr, user string, key ssh.Signer) error {
	_, port, _ := net.SplitHostPort(addr)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.all {
		if strconv.Itoa(m.port) != port || m.closed || !m.up {
			continue
		}
		if m.refuse || user != m.facts.User || string(ssh.MarshalAuthorizedKey(key.PublicKey())) != m.req.AuthorizedKey {
			return errors.New("ssh: handshake failed: ssh: unable to authenticate")
		}
		return nil
	}
	return errors.New("dial tcp: connection refused")
}

// running counts the machines that nobody closed.
func (f *fleet) running() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, m := range f.all {
		if !m.closed {
			n++
		}
	}
	return n
}

// last returns a copy of what the machine that was started last is now.
func (f *fleet) last() fakeMachine {
	f.mu.Lock()
	defer f.mu.Unlock()
	return *f.all[len(f.all)-1]
}

func (m *fakeMachine) set(change func()) {
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	change()
}

func (m *fakeMachine) Host() string { return "127.0.0.1" }

func (m *fakeMachine) Port() (port int) {
	m.set(func() { port = m.port })
	return port
}

func (m *fakeMachine) User() string         { return m.req.Facts.User }
func (m *fakeMachine) CommandLog() []string { return []string{"nvidia-smi"} }

func (m *fakeMachine) SetFacts(change func(*machinefs.Facts)) error {
	m.set(func() { change(&m.facts) })
	return nil
}

func (m *fakeMachine) RefuseKeys(refuse bool) { m.set(func() { m.refuse = refuse }) }
func (m *fakeMachine) DropConnections()       { m.set(func() { m.dropped++ }) }

func (m *fakeMachine) StopListening() error {
	m.set(func() { m.up = false })
	return nil
}

func (m *fakeMachine) ResumeListening() error {
	m.set(func() { m.up = true })
	return nil
}

func (m *fakeMachine) ChangeHostKey() error {
	m.set(func() { m.keys++ })
	return nil
}

func (m *fakeMachine) ChangePort() error {
	m.set(func() { m.port += 10000 })
	return nil
}

func (m *fakeMachine) Unresponsive(hang bool) { m.set(func() { m.silent = hang }) }
func (m *fakeMachine) Engine() engineFaults   { return fakeEngine{m} }

// fakeEngine notes what is done to it.
type fakeEngine struct{ m *fakeMachine }

func (e fakeEngine) note(format string, args ...any) {
	e.m.set(func() { e.m.engine = append(e.m.engine, fmt.Sprintf(format, args...)) })
}
func (e fakeEngine) Hang(hang bool)           { e.note("hang %v", hang) }
func (e fakeEngine) FailPull(message string)  { e.note("fail %s", message) }
func (e fakeEngine) SlowPull(d time.Duration) { e.note("slow %v", d > 0) }

func (m *fakeMachine) Close() error {
	m.set(func() { m.closed = true })
	return nil
}

// startFake starts a sandbox whose machines are a fleet, and ends it with the test.
func startFake(t testing.TB, opts Options) (*Sandbox, *fleet) {
	t.Helper()
	f := new(fleet)
	opts.start, opts.login = f.start, f.login
	return startSandbox(t, opts), f
}

func startSandbox(t testing.TB, opts Options) *Sandbox {
	t.Helper()
	if opts.KeyBits == 0 {
		opts.KeyBits = 1024 // the least that both RSA and SSH take; tests are about everything else
	}
	s, err := Start(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("ending the sandbox: %v", err)
		}
		if _, err := os.Stat(s.dir.path); s.dir.lock != nil && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the sandbox's directory is left behind: %v", err)
		}
	})
	return s
}
