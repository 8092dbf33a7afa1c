package machinefs

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
)

// ListenAll listens on a port of all the machine's addresses: on its loopback, as
// [Root.Listen] does, and at its public address, if it has one, on a TCP port. The
// machines of a sandbox share that address, and so its ports.
func (r Root) ListenAll(port int) (net.Listener, error) { return r.listen(port, (*Bound).ListenAll) }

// ListenAll listens as [Root.ListenAll] does.
func (b *Bound) ListenAll() (net.Listener, error) {
	inside, err := b.Listen()
	if err != nil {
		return nil, err
	}
	port := b.port
	facts, err := b.root.ReadFacts()
	if err != nil || facts.PublicAddress == "" {
		return inside, nil //nolint:nilerr // a network without facts is a container's, which has no public address
	}
	outside, err := new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort(facts.PublicAddress, strconv.Itoa(port)))
	if err != nil {
		return nil, errors.Join(err, inside.Close())
	}
	both := &listeners{each: []net.Listener{inside, outside}, conns: make(chan net.Conn), closed: make(chan struct{})}
	for _, l := range both.each {
		both.accepting.Go(func() { both.accept(l) })
	}
	return both, nil
}

// listeners is several listeners as one.
type listeners struct {
	each      []net.Listener
	conns     chan net.Conn
	closed    chan struct{}
	closing   sync.Once
	accepting sync.WaitGroup
	err       error
}

func (l *listeners) accept(from net.Listener) {
	for {
		conn, err := from.Accept()
		if err != nil {
			return // closed; nothing else ends a listener on loopback
		}
		select {
		case l.conns <- conn:
		case <-l.closed:
			_ = conn.Close()
			return
		}
	}
}

// Accept returns the next connection of any of them.
func (l *listeners) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close closes all of them.
func (l *listeners) Close() error {
	l.closing.Do(func() {
		close(l.closed)
		for _, each := range l.each {
			l.err = errors.Join(l.err, each.Close())
		}
		l.accepting.Wait()
	})
	return l.err
}

// Addr is the loopback's.
func (l *listeners) Addr() net.Addr { return l.each[0].Addr() }
