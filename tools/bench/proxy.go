package main

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// proxy forwards connections to an address with a delay in each direction.
type proxy struct {
	target string
	delay  time.Duration // of one direction
	work   sync.WaitGroup
}

// newProxy starts a proxy on the port of loopback that it returns. It ends with the world.
func (w *world) newProxy(target string, roundTrip time.Duration) (port int, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	ctx, stop := context.WithCancel(context.Background())
	p := &proxy{target: target, delay: roundTrip / 2}
	w.atEnd(func() error {
		stop()
		err := listener.Close()
		p.work.Wait()
		return err
	})
	p.work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // it was closed
			}
			p.work.Go(func() { p.serve(ctx, conn) })
		}
	})
	address, _ := listener.Addr().(*net.TCPAddr)
	return address.Port, nil
}

// serve forwards a connection. Connecting takes no time on loopback: the first bytes take that round trip in addition.
func (p *proxy) serve(ctx context.Context, near net.Conn) {
	far, err := (&net.Dialer{}).DialContext(ctx, "tcp", p.target)
	if err != nil {
		_ = near.Close()
		return
	}
	cut := context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })
	defer cut()
	opened := time.Now().Add(2 * p.delay)
	var both sync.WaitGroup
	both.Go(func() { p.carry(far, near, opened) })
	both.Go(func() { p.carry(near, far, opened) })
	both.Wait()
	_ = errors.Join(near.Close(), far.Close())
}

// piece is what was read at once, and when it arrives. One without bytes is the end.
type piece struct {
	bytes []byte
	due   time.Time
}

// carry copies one direction: each piece arrives a delay after it was sent, the first one not before the connection is open.
func (p *proxy) carry(to, from net.Conn, opened time.Time) {
	line := make(chan piece, 1024)
	p.work.Go(func() {
		defer close(line)
		for {
			buffer := make([]byte, 32<<10)
			n, err := from.Read(buffer)
			due := time.Now().Add(p.delay)
			if first := opened.Add(p.delay); due.Before(first) {
				due = first
			}
			line <- piece{buffer[:n], due}
			if err != nil {
				return
			}
		}
	})
	for sent := range line {
		time.Sleep(time.Until(sent.due)) //nolint:forbidigo // this is the delay
		if len(sent.bytes) == 0 {
			break
		}
		if _, err := to.Write(sent.bytes); err != nil {
			break
		}
	}
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	for range line { // drain it: nobody can read the rest
	}
}
