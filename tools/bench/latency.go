package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strconv"
	"sync"
	"time"
)

const (
	far = 50 * time.Millisecond // a round trip to the service and to the machine

	// How many round trips a client of these protocols waits for, one after another.
	toService = 2 // TCP, and the request (RFC 9112)
	// TCP, algorithms (RFC 4253, 7), keys (8), the service (10), the methods, whether the key is accepted, and its signature
	// (RFC 4252, 5.2 and 7). OpenSSH's client makes the same.
	toLogIn = 7
	toLook  = 2 // a channel and a command on it (RFC 4254, 6)
)

// latency compares the refresh of a session and its deployment at a distance with one at no distance.
func latency(ctx context.Context, w *world) ([]row, error) {
	var plans []func(context.Context) (spent, error)
	for name, distance := range []time.Duration{0, far} {
		s, err := w.startService(ctx, 1, 0, quick)
		if err != nil {
			return nil, err
		}
		address, err := w.distant(s, distance) //nolint:contextcheck // it ends with the world
		if err != nil {
			return nil, err
		}
		stack, err := w.applied(ctx, "distance"+strconv.Itoa(name), address, deployments(1), 10)
		if err != nil {
			return nil, err
		}
		plans = append(plans, stack.plan)
	}
	took, err := interleaved(ctx, 7, plans...)
	if err != nil {
		return nil, err
	}
	more := median(took[1].wall) - median(took[0].wall)
	least := (toService + toLogIn + toLook) * far
	return []row{{
		what: fmt.Sprintf("Refresh of a session and its deployment at %s, against the network's minimum", far), value: float64(more) / float64(least),
		unit: "×", goal: 1.2, note: fmt.Sprintf("%s more than at no distance, %d round trips take %s", seconds(more), least/far, seconds(least)),
	}}, nil
}

// sshPort matches a session's port in an answer of the service.
var sshPort = regexp.MustCompile(`"ssh_port":([1-9][0-9]*)`)

// distant returns the address at which a service and its machines are a round trip away. It ends with the world.
func (w *world) distant(s *service, roundTrip time.Duration) (string, error) {
	target, err := url.Parse(s.url)
	if err != nil {
		return "", err
	}
	machines := &distantMachines{w: w, roundTrip: roundTrip, ports: map[string]int{}}
	passing := httputil.NewSingleHostReverseProxy(target)
	passing.ModifyResponse = machines.moved
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: passing, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	w.atEnd(func() error {
		err := server.Close()
		<-served //nolint:errcheck // that it was closed
		return err
	})
	port, err := w.newProxy(listener.Addr().String(), roundTrip)
	return "http://127.0.0.1:" + strconv.Itoa(port), err
}

// distantMachines makes a service's machines as distant as the service.
type distantMachines struct {
	w         *world
	roundTrip time.Duration
	mu        sync.Mutex
	ports     map[string]int // of the proxy for each machine's port
}

// moved replaces each machine's port in an answer with its proxy's.
func (d *distantMachines) moved(response *http.Response) error {
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	body = sshPort.ReplaceAllFunc(body, func(found []byte) []byte {
		port := string(sshPort.FindSubmatch(found)[1])
		if d.ports[port] == 0 {
			var problem error
			d.ports[port], problem = d.w.newProxy("127.0.0.1:"+port, d.roundTrip)
			err = errors.Join(err, problem)
		}
		return fmt.Appendf(nil, `"ssh_port":%d`, d.ports[port])
	})
	response.Body = io.NopCloser(bytes.NewReader(body))
	response.ContentLength = int64(len(body))
	response.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return err
}
