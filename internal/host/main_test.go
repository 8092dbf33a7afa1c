//go:build unix

package host

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// patience is how long a test waits for something real before it fails.
const patience = 20 * time.Second

// testContext ends before the test runner would lose its patience.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// waitForFile waits until a command has made a file. It may be called from any goroutine.
func waitForFile(t *testing.T, path string) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			t.Errorf("%s was not made within %s", path, patience)
			return
		}
	}
}

// startSignal is the input of a command. Reading begins once the machine has confirmed the command's
// start and this side has taken note; a file that the command makes shows the first of the two only.
type startSignal struct {
	begun chan struct{}
	once  sync.Once
}

func newStartSignal() *startSignal { return &startSignal{begun: make(chan struct{})} }

func (s *startSignal) Read([]byte) (int, error) {
	s.once.Do(func() { close(s.begun) })
	return 0, io.EOF
}

// waitStarted waits until a command that makes a file runs and until Run knows that it does. It may be
// called from any goroutine.
func (s *startSignal) waitStarted(t *testing.T, marker string) {
	t.Helper()
	waitForFile(t, marker)
	select {
	case <-s.begun:
	case <-t.Context().Done():
		t.Error("Run never read the command's input")
	}
}

// within fails the test when f takes longer than the limit.
func within(t *testing.T, limit time.Duration, what string, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if took := time.Since(start); took > limit {
		t.Errorf("%s took %s, more than %s", what, took, limit)
	}
}

// wantKind checks an error's type and kind, and that its advice is not missing.
func wantKind(t *testing.T, err error, kind Kind) {
	t.Helper()
	if e := asKind(t, err, kind); e.Op == "" {
		t.Errorf("no operation in %v", err)
	}
}

// asKind is wantKind for those who look closer.
func asKind(t *testing.T, err error, kind Kind) *Error {
	t.Helper()
	e, is := errors.AsType[*Error](err)
	if !is {
		t.Fatalf("error is %T (%v), want *Error", err, err)
	}
	if e.Kind != kind {
		t.Fatalf("kind is %q (%v), want %q", e.Kind, err, kind)
	}
	if e.Detail == "" {
		t.Errorf("no advice in %v", err)
	}
	return e
}

func newEd25519(t *testing.T) crypto.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func newECDSA(t *testing.T) crypto.Signer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func newRSA(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return private
}

func toSigner(t *testing.T, key any) ssh.Signer {
	t.Helper()
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// openSSH is a key in OpenSSH's PEM format.
func openSSH(t *testing.T, key crypto.PrivateKey) string {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "test")
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block))
}

func publicLine(t *testing.T, key crypto.Signer) string {
	t.Helper()
	return authorizedKey(toSigner(t, key).PublicKey())
}

// mustDial logs in and closes the client with the test.
func mustDial(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := Dial(testContext(t), cfg)
	if err != nil {
		t.Fatalf("%v\n%s", err, DetailOf(err))
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// dialUntil waits for a machine that may still be booting.
func dialUntil(ctx context.Context, cfg Config) (*Client, error) {
	t, err := cfg.target()
	if err != nil {
		return nil, err
	}
	return t.until(ctx, t.dial)
}

// runner is a client or a line.
type runner interface {
	Run(context.Context, Command) (Result, error)
}

// mustRun runs a command that must be able to run.
func mustRun(t *testing.T, c runner, cmd Command) Result {
	t.Helper()
	result, err := c.Run(testContext(t), cmd)
	if err != nil {
		t.Fatalf("%q: %v", cmd.Args, err)
	}
	return result
}

// echoServer listens on loopback and sends back what it gets, until its input ends.
func echoServer(t *testing.T, network, address string) string {
	t.Helper()
	listener, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		conns.Wait()
	})
	return listener.Addr().String()
}

// refusingAddress is a loopback address that refuses connections until the test ends. Its port is taken
// and nobody listens: the port of a closed listener may be another test's by now.
func refusingAddress(t *testing.T) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(socket) })
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	bound, is := name.(*syscall.SockaddrInet4)
	if !is {
		t.Fatalf("bound to %T", name)
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(bound.Port))
}

// memPipe is a connected pair of in-memory connections with unbounded buffers, which works in a
// synctest bubble. (net.Pipe has no buffer, and SSH begins with a write on both sides.)
func memPipe() (a, b *memConn) {
	left, right := newMemBuffer(), newMemBuffer()
	return &memConn{in: left, out: right}, &memConn{in: right, out: left}
}

type memConn struct{ in, out *memBuffer }

func (m *memConn) Read(p []byte) (int, error)  { return m.in.read(p) }
func (m *memConn) Write(p []byte) (int, error) { return m.out.write(p) }

func (m *memConn) Close() error {
	m.in.close()
	m.out.close()
	return nil
}

func (m *memConn) LocalAddr() net.Addr              { return streamAddr{"mem", "local"} }
func (m *memConn) RemoteAddr() net.Addr             { return streamAddr{"mem", "remote"} }
func (m *memConn) SetDeadline(time.Time) error      { return nil }
func (m *memConn) SetReadDeadline(time.Time) error  { return nil }
func (m *memConn) SetWriteDeadline(time.Time) error { return nil }

type memBuffer struct {
	cond   *sync.Cond
	data   []byte
	closed bool
}

func newMemBuffer() *memBuffer { return &memBuffer{cond: sync.NewCond(&sync.Mutex{})} }

func (b *memBuffer) read(p []byte) (int, error) {
	b.cond.L.Lock()
	defer b.cond.L.Unlock()
	for len(b.data) == 0 && !b.closed {
		b.cond.Wait()
	}
	if len(b.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.data)
	b.data = b.data[n:]
	return n, nil
}

func (b *memBuffer) write(p []byte) (int, error) {
	b.cond.L.Lock()
	defer b.cond.L.Unlock()
	if b.closed {
		return 0, io.ErrClosedPipe
	}
	b.data = append(b.data, p...)
	b.cond.Broadcast()
	return len(p), nil
}

func (b *memBuffer) close() {
	b.cond.L.Lock()
	defer b.cond.L.Unlock()
	b.closed = true
	b.cond.Broadcast()
}
