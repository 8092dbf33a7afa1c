package machine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/cloud-gpu-shopper/terraform-provider-shopper/internal/sandbox/machinefs"
)

// How long a closed listener's port may stay in use, and how far apart tries are.
const (
	portTimeout = 5 * time.Second
	portPause   = time.Millisecond
)

// port is the machine's SSH port. While the machine doesn't listen, a socket is bound to
// it: clients are refused, and no other program can take it.
type port struct {
	host string

	mu       sync.Mutex
	number   int
	listener net.Listener // nil while not listening
	bound    int          // file descriptor of the bound socket; -1 = none
	closed   bool
}

func openPort(address string) (*port, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	tcp, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s is not a TCP address", address), listener.Close())
	}
	p := &port{host: tcp.IP.String(), number: tcp.Port, listener: listener, bound: -1}
	if err := p.pause(); err != nil {
		return nil, err
	}
	return p, nil
}

// current is the port's number.
func (p *port) current() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.number
}

// move takes another port of the same address, without listening on it.
func (p *port) move() error {
	next, err := openPort(net.JoinHostPort(p.host, "0"))
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		next.close()
		return net.ErrClosed
	}
	if err := p.stopListening(); err != nil { // the old port refuses from here on
		next.close()
		return err
	}
	if p.bound >= 0 {
		_ = syscall.Close(p.bound)
	}
	p.number, p.bound = next.number, next.bound
	return nil
}

func (p *port) address() netip.AddrPort {
	ip, _ := netip.ParseAddr(p.host)
	return netip.AddrPortFrom(ip, uint16(p.number))
}

// pause stops listening.
func (p *port) pause() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	return p.stopListening()
}

// stopListening is pause for callers that hold p.mu. A program that is being started has
// this process's files for a moment, including the listener. Until it runs, the port
// is in use and accepts connections.
func (p *port) stopListening() error {
	if p.listener == nil {
		return nil
	}
	err := p.listener.Close()
	p.listener = nil
	if err != nil {
		return err
	}
	deadline := time.Now().Add(portTimeout)
	for {
		p.bound, err = machinefs.BindTCP(p.address())
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return err
		}
		<-time.After(portPause)
	}
}

// resume listens again; the listener is nil if the port was listening.
func (p *port) resume() (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, net.ErrClosed
	}
	if p.listener != nil {
		return nil, nil //nolint:nilnil // said above
	}
	listener, err := machinefs.ListenTCP(p.bound)
	if err != nil {
		return nil, err
	}
	p.bound, p.listener = -1, listener
	return listener, nil
}

func (p *port) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	if p.bound >= 0 {
		_ = syscall.Close(p.bound)
		p.bound = -1
	}
}
