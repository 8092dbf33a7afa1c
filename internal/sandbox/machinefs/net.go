package machinefs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// ErrAddressInUse is returned by Listen for a port that another process of the
// machine listens on.
var ErrAddressInUse = errors.New("address already in use")

// Listen listens on a port of the machine's loopback. Closing the listener
// frees the port. A socket left by a process that was killed is taken over.
func (r Root) Listen(port int) (net.Listener, error) {
	path := r.portSocket(port)
	listener, err := net.Listen("unix", path)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return listener, err
	}
	conn, dialErr := new(net.Dialer).DialContext(context.Background(), "unix", path)
	if dialErr == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("port %d: %w", port, ErrAddressInUse)
	}
	if err := os.Remove(path); err != nil {
		return nil, err
	}
	return net.Listen("unix", path)
}

// Dial connects to a port of the machine's loopback. Where nothing listens the
// error is one that errors.Is(err, syscall.ECONNREFUSED) recognises.
func (r Root) Dial(ctx context.Context, port int) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", r.portSocket(port))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("port %d: %w", port, syscall.ECONNREFUSED)
	}
	return conn, err
}

// Ports returns the ports that have a socket on the machine's loopback,
// including sockets that a killed process left behind.
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
