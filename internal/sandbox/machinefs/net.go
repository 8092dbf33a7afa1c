package machinefs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// ErrAddressInUse is returned for a port that another process of the machine has taken.
var ErrAddressInUse = errors.New("address already in use")

// Bound is a port of the machine's loopback that is taken, without a listener yet:
// connections are refused, and no other process can take it.
type Bound struct {
	root Root
	port int
	lock *os.File // locked while the port is taken
}

// Bind takes a port. The end of the process frees it.
func (r Root) Bind(port int) (*Bound, error) {
	lock, err := os.OpenFile(filepath.Join(r.netDir(), "."+strconv.Itoa(port)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("port %d: %w", port, ErrAddressInUse)
	}
	return &Bound{root: r, port: port, lock: lock}, nil
}

// Close frees the port.
func (b *Bound) Close() error {
	// Closing the file is not enough: a program that is being started has it for a moment.
	err := syscall.Flock(int(b.lock.Fd()), syscall.LOCK_UN)
	return errors.Join(err, b.lock.Close())
}

// Listen listens on the port. Closing the listener frees it.
func (b *Bound) Listen() (net.Listener, error) {
	path := b.root.portSocket(b.port)
	if err := removeIfThere(path); err != nil { // left by a process that was killed
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return &portListener{listener, b}, nil
}

type portListener struct {
	net.Listener

	bound *Bound
}

func (l *portListener) Close() error {
	err := l.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		return err
	}
	return errors.Join(err, l.bound.Close())
}

// Listen listens on a port of the machine's loopback. Closing the listener
// frees the port.
func (r Root) Listen(port int) (net.Listener, error) { return r.listen(port, (*Bound).Listen) }

func (r Root) listen(port int, how func(*Bound) (net.Listener, error)) (net.Listener, error) {
	bound, err := r.Bind(port)
	if err != nil {
		return nil, err
	}
	listener, err := how(bound)
	if err != nil {
		return nil, errors.Join(err, bound.Close())
	}
	return listener, nil
}

// Dial connects to a port of the machine's loopback. If nothing listens, errors.Is finds
// syscall.ECONNREFUSED in the error.
func (r Root) Dial(ctx context.Context, port int) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", r.portSocket(port))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("port %d: %w", port, syscall.ECONNREFUSED)
	}
	return conn, err
}

// Ports returns the ports that have a socket on the machine's loopback, including sockets
// of killed processes.
func (r Root) Ports() ([]int, error) {
	entries, err := os.ReadDir(r.netDir())
	if err != nil {
		return nil, err
	}
	var ports []int
	for _, entry := range entries {
		port, err := strconv.Atoi(strings.TrimSpace(entry.Name()))
		if err == nil {
			ports = append(ports, port)
		}
	}
	return ports, nil
}

func (r Root) portSocket(port int) string {
	return filepath.Join(r.netDir(), strconv.Itoa(port))
}

// Join copies each of two streams to the other until both have ended. It passes on the end
// of each direction, as PassOn does.
func Join(a, b io.ReadWriter) {
	var both sync.WaitGroup
	both.Go(func() { PassOn(a, b) })
	both.Go(func() { PassOn(b, a) })
	both.Wait()
}

// PassOn copies a stream to another one, and passes on its end.
func PassOn(to io.Writer, from io.Reader) {
	_, _ = io.Copy(to, from) // either end may break off
	switch to := to.(type) {
	case interface{ CloseWrite() error }:
		_ = to.CloseWrite()
	case io.Closer:
		_ = to.Close()
	}
}
