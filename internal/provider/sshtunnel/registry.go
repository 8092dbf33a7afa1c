package sshtunnel

import (
	"crypto/rand"
	"errors"
	"sync"
)

// registry holds the tunnels of this process: the framework makes a new instance
// of the resource for each call, and what Open made has to be there for Close.
type registry struct {
	mu      sync.Mutex
	tunnels map[string]*tunnel
}

var open = registry{tunnels: map[string]*tunnel{}}

// add returns the key by which close finds the tunnel.
func (r *registry) add(t *tunnel) string {
	key := rand.Text()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tunnels[key] = t
	return key
}

// close closes a tunnel. One that is gone already is no error: after the process
// that opened it has ended, another one may be asked.
func (r *registry) close(key string) error {
	r.mu.Lock()
	t := r.tunnels[key]
	delete(r.tunnels, key)
	r.mu.Unlock()
	if t == nil {
		return nil
	}
	return t.close()
}

// CloseAll closes the tunnels that nobody has closed: Terraform leaves Close out
// when something that used the tunnel failed, and after Ctrl-C. The process's end
// does the same.
func CloseAll() error {
	open.mu.Lock()
	all := open.tunnels
	open.tunnels = map[string]*tunnel{}
	open.mu.Unlock()
	var mu sync.Mutex
	var errs []error
	var closing sync.WaitGroup
	for _, t := range all {
		closing.Go(func() {
			err := t.close()
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	closing.Wait()
	return errors.Join(errs...)
}
