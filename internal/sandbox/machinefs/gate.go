package machinefs

import "sync"

// Gate blocks those who pass while it is shut. The zero value is open.
type Gate struct {
	mu     sync.Mutex
	opened chan struct{} // closed when the gate opens again; nil while it is open
}

// Shut shuts the gate, or opens it again.
func (g *Gate) Shut(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case shut && g.opened == nil:
		g.opened = make(chan struct{})
	case !shut && g.opened != nil:
		close(g.opened)
		g.opened = nil
	}
}

// Pass waits until the gate is open; false = done was closed first.
func (g *Gate) Pass(done <-chan struct{}) bool {
	g.mu.Lock()
	opened := g.opened
	g.mu.Unlock()
	if opened == nil {
		return true
	}
	select {
	case <-opened:
		return g.Pass(done)
	case <-done:
		return false
	}
}
