package sandbox

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// inFlight counts the requests that are being answered: closing an http.Server doesn't
// wait for its handlers, and the sandbox's Close does.
type inFlight struct {
	mu     sync.Mutex
	closed bool
	all    sync.WaitGroup
}

// Enter counts a request, unless Wait was called.
func (f *inFlight) Enter() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.all.Add(1)
	return true
}

// Leave is the end of a request that was counted.
func (f *inFlight) Leave() { f.all.Done() }

// Wait refuses further requests and waits for those that are being answered.
func (f *inFlight) Wait() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.all.Wait()
}

// servicePort is the service's listener. Faults can close it for a while.
type servicePort struct {
	addr    string
	handler http.Handler
	life    context.Context //nolint:containedctx // the sandbox's life, which every request shares

	mu     sync.Mutex
	server *http.Server
	serves sync.WaitGroup
	closed bool
	timer  *time.Timer
}

func listen(life context.Context, address string, handler http.Handler) (*servicePort, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("the sandbox's port: %w", err)
	}
	p := &servicePort{addr: listener.Addr().String(), handler: handler, life: life}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.serveLocked(listener)
	return p, nil
}

func (p *servicePort) serveLocked(listener net.Listener) {
	p.server = &http.Server{
		Handler: p.handler, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
		BaseContext: func(net.Listener) context.Context { return p.life },
	}
	server := p.server
	p.serves.Go(func() { _ = server.Serve(listener) }) // ends with Close
}

// CloseFor cuts all connections, and refuses new ones for d of real time.
func (p *servicePort) CloseFor(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.timer != nil {
		return
	}
	_ = p.server.Close()
	p.timer = time.AfterFunc(d, p.reopen)
}

func (p *servicePort) reopen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = nil
	if p.closed {
		return
	}
	listener, err := net.Listen("tcp", p.addr)
	if err != nil { // another program has the port now
		p.timer = time.AfterFunc(50*time.Millisecond, p.reopen)
		return
	}
	p.serveLocked(listener)
}

// Close ends the server; connections are cut.
func (p *servicePort) Close() error {
	p.mu.Lock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	err := p.server.Close()
	p.mu.Unlock()
	p.serves.Wait()
	return err
}

// closePort refuses connections for d of service time.
func (s *Sandbox) closePort(d time.Duration) { s.port.CloseFor(s.clock.real(d)) }
