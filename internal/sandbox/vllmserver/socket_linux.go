package vllmserver

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
)

// listenOpenly listens on a random port of all addresses. To protect the computer, the kernel accepts only connections
// through loopback.
func listenOpenly() (*os.File, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var bindErr error
		err := c.Control(func(fd uintptr) { bindErr = syscall.BindToDevice(int(fd), "lo") })
		return errors.Join(err, bindErr)
	}}
	listener, err := config.Listen(context.Background(), "tcp", ":0")
	if err != nil {
		return nil, err
	}
	tcp, ok := listener.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(errors.New("not a TCP listener"), listener.Close())
	}
	file, err := tcp.File()
	return file, errors.Join(err, tcp.Close())
}
