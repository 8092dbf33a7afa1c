package engine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// machineLabel marks what the sandbox made in a real engine, with the
	// directory of the machine that it belongs to.
	machineLabel = "io.shopper-sandbox.machine"
	// cleanupTime is how long the end may take to remove a machine's containers.
	cleanupTime = 30 * time.Second
	// maxDockerAnswer bounds what is read of an answer that isn't streamed.
	maxDockerAnswer = 16 << 20
)

// docker runs a machine's containers on a real Docker engine. Images, their pulls
// and published ports stay the stand-in's: there is no registry to pull from, and
// a machine's ports are no ports of this computer.
type docker struct {
	engine *Engine
	web    *http.Client // for calls of its own
	proxy  *httputil.ReverseProxy
	socket string
	api    string // the API version that the real engine speaks
	prefix string // of the names of what this machine has in the real engine
	image  string // the one that all of its containers are made of

	closing  sync.Once
	closeErr error
}

// newDocker connects to a real engine, and gives it the image that containers are
// made of. What other sandboxes that were killed left in it is removed.
func newDocker(ctx context.Context, e *Engine) (*docker, error) {
	if runtime.GOOS != "linux" {
		return nil, errors.New("a real Docker engine takes Linux: its containers run this program and use this computer's files")
	}
	sum := sha256.Sum256([]byte(e.cfg.Root))
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", e.cfg.Docker)
	}, MaxIdleConns: 4, IdleConnTimeout: time.Minute}
	d := &docker{
		engine: e, web: &http.Client{Transport: transport}, socket: e.cfg.Docker,
		prefix: "sandbox-" + hex.EncodeToString(sum[:5]) + "-",
	}
	d.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "docker"
		},
		Transport: transport, FlushInterval: -1, ModifyResponse: d.relay,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			writeError(w, http.StatusBadGateway, "the real Docker engine: "+err.Error())
		},
	}
	var version struct{ ApiVersion, Os string } //nolint:revive,staticcheck // the engine's own names
	if _, err := d.get(ctx, "/version", &version); err != nil {
		return nil, fmt.Errorf("a real Docker engine on %s: %w", e.cfg.Docker, err)
	}
	if version.Os != "linux" {
		return nil, fmt.Errorf("the Docker engine on %s runs %s containers; it takes one for linux", e.cfg.Docker, version.Os)
	}
	d.api = version.ApiVersion
	d.sweep(ctx)
	var err error
	d.image, err = images.acquire(ctx, d, e.cfg.Program)
	return d, err
}

// call asks the real engine and reads its whole answer.
func (d *docker) call(ctx context.Context, method, path string, body any) (int, []byte, error) {
	var reader io.Reader = http.NoBody
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		reader = bytes.NewReader(data)
	}
	return d.send(ctx, method, path, "application/json", reader)
}

func (d *docker) send(ctx context.Context, method, path, kind string, body io.Reader) (int, []byte, error) {
	if d.api != "" {
		path = "/v" + d.api + path
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, body)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", kind)
	resp, err := d.web.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxDockerAnswer))
	return resp.StatusCode, data, err
}

// get reads a JSON answer. One that isn't 200 is an error with the engine's words.
func (d *docker) get(ctx context.Context, path string, into any) (int, error) {
	status, data, err := d.call(ctx, http.MethodGet, path, nil)
	if err != nil {
		return 0, err
	}
	if status != http.StatusOK {
		return status, d.refused(status, data)
	}
	return status, json.Unmarshal(data, into)
}

// refused is an answer of the real engine as an error, with the names that the
// machine knows.
func (d *docker) refused(status int, data []byte) error {
	var body struct{ Message string }
	if json.Unmarshal(data, &body) != nil || body.Message == "" {
		body.Message = string(data)
	}
	return &apiError{status, d.plain(body.Message)}
}

// plain takes the machine's prefix off every name in a text.
func (d *docker) plain(text string) string { return strings.ReplaceAll(text, d.prefix, "") }

// relay makes an answer of the real engine one of the machine's.
func (d *docker) relay(resp *http.Response) error {
	for name := range engineHeaders {
		resp.Header.Del(name) // they are set already
	}
	if resp.StatusCode < http.StatusBadRequest {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxDockerAnswer))
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	data = []byte(d.plain(string(data)))
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	resp.Header.Set("Content-Length", strconv.Itoa(len(data)))
	return nil
}

// pass forwards a request to a path of the real engine, streams and all.
func (d *docker) pass(w http.ResponseWriter, req *http.Request, path string) {
	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	defer context.AfterFunc(d.engine.life, cancel)() //nolint:contextcheck // what ends first, the request or the engine
	out := req.WithContext(ctx)
	out.URL.Path, out.URL.RawPath = "/v"+d.api+path, ""
	d.proxy.ServeHTTP(w, out)
}

// filtered is a query for what has the label, written as the API wants it.
func filtered(label string) string {
	data, _ := json.Marshal(map[string][]string{"label": {label}}) // strings always can be
	return "filters=" + url.QueryEscape(string(data))
}

// close removes all that the machine has in the real engine, once.
func (d *docker) close() error {
	d.closing.Do(func() { d.closeErr = d.end() })
	return d.closeErr
}

func (d *docker) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTime)
	defer cancel()
	err := d.removeAll(ctx, machineLabel+"="+string(d.engine.cfg.Root), func(string) bool { return true })
	err = errors.Join(err, images.release(ctx, d))
	d.web.CloseIdleConnections()
	for _, c := range d.engine.all() {
		d.engine.unpublish(c.takePorts())
	}
	return err
}

// sweep removes what sandboxes that were killed left behind: what belongs to a
// machine whose directory is gone.
func (d *docker) sweep(ctx context.Context) {
	_ = d.removeAll(ctx, machineLabel, func(dir string) bool { // the next sandbox tries again
		_, err := os.Stat(dir)
		return errors.Is(err, os.ErrNotExist)
	})
}

// removeAll removes the containers and volumes with a label whose machine's
// directory is one that which wants.
func (d *docker) removeAll(ctx context.Context, label string, which func(dir string) bool) error {
	var containers []struct {
		ID     string `json:"Id"`
		Labels map[string]string
	}
	var volumes struct {
		Volumes []struct {
			Name   string
			Labels map[string]string
		}
	}
	var errs []error
	if _, err := d.get(ctx, "/containers/json?all=1&"+filtered(label), &containers); err != nil {
		errs = append(errs, err)
	}
	for _, c := range containers {
		if which(c.Labels[machineLabel]) {
			errs = append(errs, d.remove(ctx, "/containers/"+c.ID+"?force=1&v=1"))
		}
	}
	if _, err := d.get(ctx, "/volumes?"+filtered(label), &volumes); err != nil {
		errs = append(errs, err)
	}
	for _, v := range volumes.Volumes {
		if which(v.Labels[machineLabel]) {
			errs = append(errs, d.remove(ctx, "/volumes/"+url.PathEscape(v.Name)+"?force=1"))
		}
	}
	return errors.Join(errs...)
}

// remove deletes something; that it is gone already, or just going, is no error.
func (d *docker) remove(ctx context.Context, path string) error {
	status, data, err := d.call(ctx, http.MethodDelete, path, nil)
	if err != nil {
		return err
	}
	if status >= http.StatusBadRequest && status != http.StatusNotFound && !bytes.Contains(data, []byte("already in progress")) {
		return d.refused(status, data)
	}
	return nil
}
