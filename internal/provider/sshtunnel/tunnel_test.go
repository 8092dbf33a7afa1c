package sshtunnel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/terraform-plugin-log/tflogtest"
	"go.uber.org/goleak"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/host"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeLogin is a connection to a machine whose ports are this computer's.
type fakeLogin struct {
	done   chan struct{}
	once   sync.Once
	closed chan struct{}
	shut   sync.Once
	open   func(ctx context.Context, addr string) (net.Conn, error)
}

func newLogin() *fakeLogin {
	return &fakeLogin{done: make(chan struct{}), closed: make(chan struct{}), open: func(ctx context.Context, addr string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "tcp", addr)
	}}
}

func (f *fakeLogin) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	select {
	case <-f.done:
		return nil, &host.Error{Op: "open", Kind: host.Lost}
	default:
		return f.open(ctx, addr)
	}
}

func (f *fakeLogin) Done() <-chan struct{} { return f.done }

func (f *fakeLogin) Close() error {
	f.shut.Do(func() { close(f.closed) })
	return nil
}

func (f *fakeLogin) drop() { f.once.Do(func() { close(f.done) }) }

// upper answers each line with its capitals, and says goodbye when its input ends.
func upper(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer func() { _ = conn.Close() }()
				text, _ := io.ReadAll(conn)
				_, _ = fmt.Fprint(conn, strings.ToUpper(string(text)))
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		work.Wait()
	})
	return listener.Addr().String()
}

// ask sends a text through a port, ends its side, and returns the answer.
func ask(t *testing.T, port int, text string) (string, error) {
	t.Helper()
	conn, err := net.Dial("tcp", net.JoinHostPort(loopback, fmt.Sprint(port)))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil { //nolint:forcetypeassert // it is one
		return "", err
	}
	answer, err := io.ReadAll(conn)
	if err == nil && len(answer) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return string(answer), err
}

func mustStart(t *testing.T, dial dialer, remote string) *tunnel {
	t.Helper()
	tun, err := start(t.Context(), dial, 0, remote)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tun.close(); err != nil {
			t.Error(err)
		}
	})
	return tun
}

func TestTunnel_CarriesManyBothWays(t *testing.T) {
	t.Parallel()
	machine := newLogin()
	tun := mustStart(t, func(context.Context) (login, error) { return machine, nil }, upper(t))
	var callers sync.WaitGroup
	for i := range 40 {
		callers.Go(func() {
			text := strings.Repeat(fmt.Sprintf("line %d\n", i), 2000)
			want := strings.ToUpper(text)
			if got, err := ask(t, tun.port(), text); err != nil || got != want {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	callers.Wait()
}

// It listens on loopback and nowhere else.
func TestTunnel_Loopback(t *testing.T) {
	t.Parallel()
	tun := mustStart(t, func(context.Context) (login, error) { return newLogin(), nil }, "127.0.0.1:1")
	if ip := tun.listener.Addr().(*net.TCPAddr).IP; !ip.IsLoopback() { //nolint:forcetypeassert // it is one
		t.Errorf("listens on %s", ip)
	}
	if got, err := ask(t, tun.port(), "x"); err == nil {
		t.Errorf("nothing listens on the machine, and the answer is %q", got)
	}
}

// That nothing listens at the other end is said when the tunnel is opened, and logged
// for each connection that is refused.
func TestTunnelToNothing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, remote, warns string
		logged              int
	}{
		{"a server", upper(t), "", 0},
		{"nothing", "127.0.0.1:1", "Nothing answers at 127.0.0.1:1", 2},
	} {
		var log bytes.Buffer
		tun, err := start(tflogtest.RootLogger(t.Context(), &log), func(context.Context) (login, error) { return newLogin(), nil }, 0, test.remote)
		if err != nil {
			t.Fatal(err)
		}
		said := tun.warnings(t.Context())
		if said.HasError() || len(said) != min(1, len(test.warns)) || len(said) == 1 && said[0].Summary() != test.warns {
			t.Errorf("%s: %v", test.name, said)
		}
		for range 2 {
			if _, err := ask(t, tun.port(), "x"); (err == nil) != (test.logged == 0) {
				t.Errorf("%s: %v", test.name, err)
			}
		}
		if err := tun.close(); err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "a connection through a tunnel was refused"); n != test.logged {
			t.Errorf("%s: %d are logged: %s", test.name, n, &log)
		}
	}
}

// A dropped connection is made again, also while somebody waits for it.
func TestTunnelSurvivesADrop(t *testing.T) {
	t.Parallel()
	first, second := newLogin(), newLogin()
	release := make(chan struct{})
	calls := 0
	tun := mustStart(t, func(ctx context.Context) (login, error) {
		calls++
		if calls == 1 {
			return first, nil
		}
		select {
		case <-release:
			return second, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}, upper(t))
	if got, err := ask(t, tun.port(), "before"); err != nil || got != "BEFORE" {
		t.Fatalf("%q, %v", got, err)
	}
	first.drop()
	<-first.closed
	answered := make(chan error, 1)
	go func() {
		got, err := ask(t, tun.port(), "while")
		if err == nil && got != "WHILE" {
			err = errors.New("answer is " + got)
		}
		answered <- err
	}()
	close(release)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// The attempts have an end, and then whoever connects is refused.
func TestTunnelGivesUp(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err      error
		attempts int
	}{
		"unreachable":          {&host.Error{Op: "connect", Kind: host.Unreachable}, maxRedials},
		"refused":              {&host.Error{Op: "connect", Kind: host.AuthFailed}, maxRedials},
		"another host's key":   {&host.Error{Op: "connect", Kind: host.HostKeyChanged}, 1},
		"something unexpected": {errors.New("boom"), maxRedials},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				attempts := 0
				tun := &tunnel{slots: make(chan struct{}, 1), dial: func(context.Context) (login, error) {
					attempts++
					return nil, test.err
				}}
				tun.ctx, tun.cancel = context.WithCancel(t.Context())
				defer tun.cancel()
				begun := time.Now()
				machine, err := tun.redial()
				if machine != nil || !errors.Is(err, test.err) || attempts != test.attempts {
					t.Errorf("%v after %d attempts: %v", machine, attempts, err)
				}
				if took := time.Since(begun); took > time.Minute {
					t.Errorf("took %s", took)
				}
			})
		})
	}
}

func TestTunnel_RefusesOnceGivenUp(t *testing.T) {
	t.Parallel()
	machine := newLogin()
	calls := 0
	tun := mustStart(t, func(context.Context) (login, error) {
		calls++
		if calls == 1 {
			return machine, nil
		}
		return nil, &host.Error{Op: "connect", Kind: host.HostKeyChanged}
	}, upper(t))
	machine.drop()
	deadline := time.After(20 * time.Second)
	for {
		_, changed, lost := tun.state()
		if lost != nil {
			break
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatal("the tunnel was not given up")
		}
	}
	if _, err := tun.open(t.Context()); host.KindOf(err) != host.HostKeyChanged {
		t.Errorf("got %v", err)
	}
}

func TestTunnel_NotOpened(t *testing.T) {
	t.Parallel()
	refused := &host.Error{Op: "connect", Kind: host.AuthFailed}
	tun, err := start(t.Context(), func(context.Context) (login, error) { return nil, refused }, 0, "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, lost := tun.state(); !errors.Is(lost, refused) {
		t.Errorf("got %v", lost)
	}
	conn, err := net.Dial("tcp", tun.listener.Addr().String())
	if err != nil {
		t.Fatalf("nobody listens: %v", err)
	}
	if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Errorf("read %d bytes, %v", n, err)
	}
	_ = conn.Close()
	if err := tun.close(); err != nil {
		t.Error(err)
	}
	// A port that is taken leaves no login behind.
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	machine := newLogin()
	port := taken.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it is one
	if _, err = start(t.Context(), func(context.Context) (login, error) { return machine, nil }, port, "127.0.0.1:1"); err == nil {
		t.Error("the port was taken")
	}
	<-machine.closed
}

// Close ends everything, whatever the machine does.
func TestTunnelCloses(t *testing.T) {
	t.Parallel()
	machine := newLogin()
	stuck := make(chan struct{})
	machine.open = func(ctx context.Context, _ string) (net.Conn, error) {
		close(stuck)
		<-ctx.Done() // a machine that never answers
		return nil, ctx.Err()
	}
	tun, err := start(context.WithoutCancel(t.Context()), func(context.Context) (login, error) { return machine, nil }, 0, "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	key := open.add(tun)
	conn, err := net.Dial("tcp", tun.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	<-stuck
	if err := open.close(key); err != nil {
		t.Error(err)
	}
	<-machine.closed
	if _, err := io.ReadAll(conn); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Logf("the connection ended with %v", err)
	}
	if _, err := net.Dial("tcp", tun.listener.Addr().String()); err == nil {
		t.Error("the port is still open")
	}
	if err := open.close(key); err != nil {
		t.Errorf("closing again: %v", err)
	}
}

func TestCloseAll(t *testing.T) { //nolint:paralleltest // it closes the tunnels of the others too
	machines := []*fakeLogin{newLogin(), newLogin(), newLogin()}
	for _, machine := range machines {
		tun, err := start(t.Context(), func(context.Context) (login, error) { return machine, nil }, 0, "127.0.0.1:1")
		if err != nil {
			t.Fatal(err)
		}
		open.add(tun)
	}
	if err := CloseAll(); err != nil {
		t.Error(err)
	}
	for _, machine := range machines {
		<-machine.closed
	}
	if len(open.tunnels) != 0 {
		t.Errorf("%d are left", len(open.tunnels))
	}
}
